"""People found in a gallery: average linkage of calibrated pairs, compared with DBSCAN on k-reciprocal distances.

This uses Market-1501's gallery with stored features (``python -m benchmarks.extraction --keep``) and a pair stage from
``cace_pyg.fit_pair_stage`` (--checkpoint, several for controls), whose checkpoint says who was held out; or the gallery
of a run's data set (--run RUN_DIR). Settings are chosen on the held-out training people. Junk is left out; each
distractor is its own person, and a second row excludes them from the score. DBSCAN needs scikit-learn.
"""

import argparse
import json
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from scipy.sparse import csr_array, vstack
from scipy.special import logit
from torch import Tensor

from benchmarks.results_file import save_results
from cace_pyg import Features, Gallery, calibrate_pair_stage, load_pair_stage
from cace_pyg.config import from_yaml
from cace_pyg.data import Sample, hold_out_identities, read_dataset, read_market_layout
from cace_pyg.engine.checkpoint import load_checkpoint
from cace_pyg.engine.extraction import Extraction
from cace_pyg.engine.features import KeptFeatures
from cace_pyg.engine.measure_pairs import measure_lists
from cace_pyg.engine.on_features import FittedPairStage, prepare_features
from cace_pyg.gallery.people import IdentifySettings
from cace_pyg.retrieval import Calibration, nearest_neighbours
from cace_pyg.retrieval.cluster_metrics import ClusterMetrics, evaluate_clusters
from cace_pyg.retrieval.clustering import agglomerate, connected_images, listed_pairs
from cace_pyg.retrieval.k_reciprocal import jaccard_distance, k_reciprocal_encoding

_SUREST = 1e-6
_UNLISTED = 0.03  # of cace_pyg.gallery.people
_PROBABILITIES = (0.05, 0.1, 0.2, 0.5)
_UNLISTED_TRIED = (0.01, 0.03)
_EPS = tuple(step / 20 for step in range(6, 14))
_ROWS = 512


@dataclass(frozen=True)
class Pictures:
    """Pictures with their nearest neighbours by the embedding, ``(picture, k)``, and both stages' distances."""

    embedding: Tensor
    index: np.ndarray
    fused: np.ndarray
    pids: np.ndarray

    @property
    def true(self) -> np.ndarray:
        """The person of each picture; every distractor, of pid 0, is a different person."""
        return np.where(self.pids == 0, -1 - np.arange(len(self.pids)), self.pids)


def pictures_of(features: Features, pids: Sequence[int], stage: FittedPairStage, k: int, kept: Path | None) -> Pictures:
    """Measure the pairs of each picture and its ``k`` nearest; results are stored in a file and read from it."""
    graph = nearest_neighbours(features.embedding, min(k, len(features) - 1) + 1)
    index, individual = graph.index[:, 1:].numpy(), graph.distance[:, 1:].numpy()
    pairs, _ = listed_pairs(index, individual)
    if kept is not None and kept.is_file():
        conditional = torch.load(kept, weights_only=True)
    else:
        start = np.searchsorted(pairs[:, 0], np.arange(len(index) + 1))
        lists = [torch.from_numpy(pairs[a:b, 1]) for a, b in pairwise(start)]
        images = Extraction((), features.embedding, prepare_features(stage.stage, features, torch.device("cpu")))
        conditional = measure_lists(stage.stage, images, images, lists, 128, "cpu")
        if kept is not None:
            torch.save(conditional, kept)
    if len(conditional) != len(pairs):
        raise ValueError(f"Expected {len(pairs)} pairs in {kept} (got {len(conditional)}); delete it")
    picture = np.arange(len(index))[:, None]
    code = np.minimum(picture, index) * len(index) + np.maximum(picture, index)
    place = np.searchsorted(pairs[:, 0] * len(index) + pairs[:, 1], code)
    fused = (1 - stage.fusion_weight) * individual + stage.fusion_weight * conditional.numpy()[place]
    return Pictures(features.embedding, index, fused, np.asarray(pids))


def by_pairs(pictures: Pictures, calibration: Calibration, probability: float, unlisted: float | None) -> np.ndarray:
    """Average linkage as in :class:`cace_pyg.gallery.people.People`, without any further constraints."""
    pairs, log_odds = log_odds_of(pictures, calibration)
    above = logit(probability)
    rest = None if unlisted is None else float(min(logit(unlisted) - above, 0))
    return agglomerate(len(pictures.pids), pairs, log_odds - above, unlisted=rest)


def log_odds_of(pictures: Pictures, calibration: Calibration) -> tuple[np.ndarray, np.ndarray]:
    pairs, distance = listed_pairs(pictures.index, pictures.fused)
    found = calibration.probability(distance, len(pictures.pids))
    return pairs, logit(np.clip(found, _SUREST, 1 - _SUREST))


def by_dbscan(pictures: Pictures, two_stage: bool, numbers: Sequence[tuple[float, int]]) -> Iterator[np.ndarray]:
    """DBSCAN on k-reciprocal distances (k1 20, k2 6) for each (eps, min_samples); each noise point is a person."""
    from sklearn.cluster import DBSCAN

    graph = nearest_neighbours(pictures.embedding, pictures.index.shape[1] + 1)
    graph = graph.reranked(torch.from_numpy(pictures.fused)) if two_stage else graph
    vectors = k_reciprocal_encoding(graph, 20, 6)
    columns, largest = csr_array(vectors.T.tocsr()), max(eps for eps, _ in numbers)
    parts = []
    for start in range(0, len(pictures.pids), _ROWS):
        block = jaccard_distance(csr_array(vectors[start : start + _ROWS]), columns).numpy().clip(1e-9)
        row, column = (block <= largest).nonzero()
        parts.append(csr_array((block[row, column], (row, column)), shape=block.shape))
    near = vstack(parts, format="csr")
    for eps, least in numbers:
        labels = DBSCAN(eps=eps, min_samples=least, metric="precomputed").fit(near).labels_
        yield np.where(labels < 0, -1 - np.arange(len(labels)), labels)


def rows_of(name: str, held: Pictures, test: Pictures, calibration: Calibration, dbscan: bool) -> list[dict]:
    """The table's rows: chosen on ``held``, scored on both."""
    default = IdentifySettings().probability
    tried = [(p, u) for p in _PROBABILITIES for u in (None, *_UNLISTED_TRIED) if u is None or u <= p]
    scores = [
        _both(evaluate_clusters(by_pairs(held, calibration, *tried_setting), held.true)) for tried_setting in tried
    ]
    probability, unlisted = tried[int(np.argmax(scores))]

    def chained(pictures: Pictures) -> np.ndarray:
        pairs, log_odds = log_odds_of(pictures, calibration)
        return connected_images(len(pictures.pids), pairs[log_odds > 0])

    methods: dict[str, Callable[[Pictures], np.ndarray]] = {
        "pairs above 0.5, chained": chained,
        "average linkage, 0.5": lambda some: by_pairs(some, calibration, 0.5, _UNLISTED),
        f"average linkage, {default} (default)": lambda some: by_pairs(some, calibration, default, _UNLISTED),
        f"average linkage, {probability}, others {unlisted} (chosen)": lambda some: by_pairs(
            some, calibration, probability, unlisted
        ),
    }
    if dbscan:
        numbers = [(eps, least) for eps in _EPS for least in (2, 4)]
        for two_stage, what in ((False, "embeddings"), (True, "two stages")):
            found = [_both(evaluate_clusters(joined, held.true)) for joined in by_dbscan(held, two_stage, numbers)]
            best = numbers[int(np.argmax(found))]
            methods[f"DBSCAN, k-reciprocal on {what}, eps {best[0]}, {best[1]} (chosen)"] = (
                lambda some, two_stage=two_stage, best=best: next(by_dbscan(some, two_stage, [best]))
            )
    rows = []
    for method, join in methods.items():
        rows.append(_row(name, "held out", method, join(held), held.true))
        found = join(test)
        rows.append(_row(name, "gallery", method, found, test.true))
        people = test.pids > 0
        if not people.all():
            rows.append(_row(name, "gallery, no distractors", method, found[people], test.true[people]))
    return rows


def _both(metrics: ClusterMetrics) -> float:
    return metrics.f1 + metrics.bcubed_f1


def _row(name: str, part: str, method: str, found: np.ndarray, true: np.ndarray) -> dict:
    metrics = evaluate_clusters(found, true)
    shares = {key: f"{100 * value:.1f}" for key, value in vars(metrics).items() if key not in ("found", "true")}
    told = {"model": name, "pictures": f"{part}, {len(found)}", "method": method}
    row = told | shares | {"found": metrics.found, "true": metrics.true}
    print(*row.values(), sep="  ", flush=True)  # the whole table comes at the end
    return row


def of_features(options: argparse.Namespace, checkpoint: Path) -> tuple[str, Pictures, Pictures, Calibration]:
    """Held-out people and the gallery of a data set in Market-1501's layout."""
    kept, splits = torch.load(options.features, weights_only=True, mmap=True), read_market_layout(options.data)
    stage, config = load_pair_stage(checkpoint), from_yaml(load_checkpoint(checkpoint)["config"])
    number = {pid: place for place, pid in enumerate(sorted({sample.pid for sample in splits.train}), start=1)}
    numbered = KeptFeatures.samples(
        [number[sample.pid] for sample in splits.train], [sample.camid for sample in splits.train]
    )
    held = hold_out_identities(numbered, config.data.hold_out, config.seed)
    places = sorted({place for part in (held.query, held.gallery) for place in KeptFeatures.positions(part).tolist()})
    features = Features(**kept["train"]).select(torch.tensor(places))
    pids, camids = ([getattr(splits.train[place], label) for place in places] for label in ("pid", "camid"))
    name = type(stage.stage.builder).__name__
    kept_curve = options.keep and options.keep / f"{name}_calibration.json"
    if stage.calibration is None and kept_curve and kept_curve.is_file():
        stage = replace(stage, calibration=Calibration.from_dict(json.loads(kept_curve.read_text())))
    if stage.calibration is None:
        stage = calibrate_pair_stage(stage, features, pids, camids, device="cpu")
        if kept_curve:
            kept_curve.write_text(json.dumps(stage.calibration.as_dict()))

    def file(part: str) -> Path | None:
        return options.keep and options.keep / f"{name}_{part}.pt"

    held_out = pictures_of(features, pids, stage, options.candidates, file("held_out"))
    there = [place for place, sample in enumerate(splits.gallery) if sample.pid >= 0]
    features = Features(**kept["gallery"]).select(torch.tensor(there))
    pids = [splits.gallery[place].pid for place in there]
    test = pictures_of(features, pids, stage, options.candidates, file("gallery"))
    return f"{options.features.stem}, {name}", held_out, test, stage.calibration


def of_run(run: Path) -> tuple[str, Pictures, Pictures, Calibration]:
    """Held-out people and the gallery of a run's data set, each in a gallery on disk."""
    checkpoint = run / "checkpoints" / "best.ckpt"
    config = from_yaml(load_checkpoint(checkpoint)["config"])
    splits = read_dataset(config.data.name, config.data.root)
    held = hold_out_identities(splits.train, config.data.hold_out, config.seed)
    with tempfile.TemporaryDirectory() as folder:
        found = []
        for name, samples in (("held", (*held.query, *held.gallery)), ("test", splits.gallery)):
            gallery = Gallery.create(Path(folder) / name, checkpoint, device="cpu")
            found.append(_in_gallery(gallery, {sample.path: sample for sample in samples if sample.pid >= 0}))
        calibration = gallery.check_calibrated("it cannot say how probable a pair is")
    return f"{config.data.name}, {type(gallery.embedder.model.pair_stage.builder).__name__}", *found, calibration


def _in_gallery(gallery: Gallery, samples: dict[Path, Sample]) -> Pictures:
    gallery.add([*samples])
    gallery.keep_neighbours()
    rows, lists = gallery.told_with_neighbours()
    pids = np.array([samples[Path(row["image"])].pid for row in rows])
    return Pictures(lists.embedding, lists.index.astype(np.int64), lists.fused(), pids)


def random_people(seed: int) -> Pictures:
    """Noisy embeddings of 30 people with six pictures each, and fused distances with less noise."""
    draw = torch.Generator().manual_seed(seed)
    pids = np.arange(1, 31).repeat(6)
    own = torch.randn(30, 24, generator=draw)[torch.from_numpy(pids) - 1]
    embedding = torch.nn.functional.normalize(own + 0.9 * torch.randn(180, 24, generator=draw), dim=1)
    graph = nearest_neighbours(embedding, 31)
    index = graph.index[:, 1:].numpy()
    fused = graph.distance[:, 1:].numpy() - 0.3 * (pids[index] == pids[:, None])
    return Pictures(embedding, index, fused, pids)


@torch.no_grad()
def main() -> None:
    parser = argparse.ArgumentParser("python -m benchmarks.identify", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)  # fmt: skip
    parser.add_argument("--features", type=Path, help="file of benchmarks.extraction")
    parser.add_argument("--data", type=Path, help="the data set, in Market-1501's layout")
    parser.add_argument("--checkpoint", type=Path, nargs="*", default=[], help="best.ckpt of fit_pair_stage")
    parser.add_argument("--keep", type=Path, help="folder for measured pairs and calibrations; existing files are read")
    parser.add_argument("--run", type=Path, nargs="*", default=[], help="RUN_DIR of cace_pyg.train, with a calibration")
    parser.add_argument("--candidates", type=int, default=50, help="nearest of each picture (default: 50)")
    parser.add_argument("--no_dbscan", action="store_true", help="leave DBSCAN out, and scikit-learn")
    parser.add_argument("--threads", type=int, default=1, help="of torch (default: 1)")
    parser.add_argument("--quick", action="store_true", help="seconds: drawn at random, no files")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    rows = []
    if options.quick:
        curve = Calibration("logistic", ((0.0, 9.0), (1.0, -4.0)), 0.5, 9, 9, 9, 180.0, 0.0, ((0.5, 9.0),), (0.0, 1.0))
        rows += rows_of("random", random_people(0), random_people(1), curve, not options.no_dbscan)
    elif not (options.run or (options.features and options.data and options.checkpoint)):
        parser.error("give --features, --data and --checkpoint, or --run, or --quick")
    else:
        made = [of_features(options, checkpoint) for checkpoint in options.checkpoint]
        for case in (*made, *(of_run(run) for run in options.run)):
            rows += rows_of(*case, not options.no_dbscan)
    save_results("identify", rows, None, options.quick)


if __name__ == "__main__":
    main()
