"""Several pictures of the query's person: Market-1501's multi-query protocol, on stored features.

Each query has all pictures of its person and camera in the gallery folder; the protocol ignores these in the ranking of
that query anyway. The gallery consists of single pictures. Three ways are ranked in one stage and in two: only the
query's picture; the mean embedding of all its pictures, with a pair stage on the query's picture; and set against set
(one stage: the nearest of all pairs of embeddings; two stages: the mean embedding and the pair stage's distance of all
pairs of views). Features come from ``python -m benchmarks.extraction --keep``; the pair stage comes from
``cace_pyg.fit_pair_stage`` on their training part, whose checkpoint says who was held out. With --synthetic it is
instead a run of both phases on the built-in data, with its own network.

The softness of the minimum and the number of views were chosen on the held-out people: --held_out only prints that
table, without query and gallery. --out stores the average precision of each query. Intervals are from a paired
bootstrap over people, who are drawn with all their queries.
"""

import argparse
import csv
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from benchmarks.origin import origin
from benchmarks.results_file import save_results
from cace_pyg import Features, fit_pair_stage, load_pair_stage
from cace_pyg.config import PairPhaseSettings, from_yaml
from cace_pyg.data import Sample, hold_out_identities, read_market_layout
from cace_pyg.engine.checkpoint import load_checkpoint, load_model
from cace_pyg.engine.distances import labels_of
from cace_pyg.engine.extraction import Extraction, extract
from cace_pyg.engine.features import KeptFeatures
from cace_pyg.engine.measure_pairs import measure_lists
from cace_pyg.engine.on_features import prepare_features
from cace_pyg.models import PairStage
from cace_pyg.retrieval import (
    Metrics,
    choose_views,
    euclidean_distance,
    evaluate,
    merge_embeddings,
    rerank,
    set_distance,
    top_k,
)
from cace_pyg.retrieval.picture_sets import SOFTNESS, VIEWS

_GRID_VIEWS, _GRID_SOFTNESS = (1, 2, 3, 4, 6, 8), (0.0, 0.01, 0.03, 0.1, 0.3, 1.0)
_RESAMPLES = 10_000


class Asked(NamedTuple):
    """Queries and gallery; ``together`` are the gallery positions of each query's further pictures."""

    query: Extraction
    gallery: Extraction
    together: list[Tensor]


def further_pictures(query: Sequence[Sample], gallery: Sequence[Sample]) -> list[Tensor]:
    """Gallery pictures with each query's own person and camera."""
    pids, camids = (torch.tensor([getattr(sample, name) for sample in gallery]) for name in ("pid", "camid"))
    return [((pids == sample.pid) & (camids == sample.camid)).nonzero().flatten() for sample in query]


class Rankings:
    """Distances by one and two stages, for each way to use several pictures."""

    def __init__(self, asked: Asked, stage: PairStage, weight: float, depth: int):
        self.asked, self.stage, self.weight, self.depth = asked, stage, weight, depth
        query, gallery = asked.query.embedding, asked.gallery.embedding
        self.pictures = [
            torch.cat([query[number : number + 1], gallery[others]]) for number, others in enumerate(asked.together)
        ]
        self.single = euclidean_distance(query, gallery)
        self.mean = euclidean_distance(torch.stack([merge_embeddings(shots) for shots in self.pictures]), gallery)

    def one_stage(self) -> dict[str, Tensor]:
        nearest = torch.stack(
            [euclidean_distance(shots, self.asked.gallery.embedding).amin(0) for shots in self.pictures]
        )
        return {"single shot": self.single, "averaged embedding": self.mean, "set against set": nearest}

    def two_stages(self, views: int, softness: float) -> dict[str, Tensor]:
        sets, of_mean = self.pairs(self.mean, views)
        alone = self._alone(self.single)
        again = self._alone(self.mean)
        return {
            "single shot": rerank(self.single, *alone, self.weight),
            "averaged embedding": rerank(self.mean, *again, self.weight),
            "set against set": self.of_sets(sets, of_mean, views, softness),
        }

    def _alone(self, individual: Tensor) -> tuple[Tensor, Tensor]:
        """The top k, and the pair stage's distances from the query's single picture."""
        index = top_k(individual, self.depth)
        found = measure_lists(self.stage, self.asked.query, self.asked.gallery, [*index], None, "cpu")
        return index, found.view(index.shape)

    def pairs(self, individual: Tensor, views: int) -> tuple[Tensor, list[Tensor]]:
        """The top k, and the pair stage's distances from each query's views to them, ``(view, k)`` in order."""
        index = top_k(individual, self.depth)
        chosen = [choose_views(shots, views) for shots in self.pictures]
        own, gallery = self.asked.query, self.asked.gallery
        # the query's picture is number 0 of its set; the others are in the gallery
        of_query: list[Tensor] = [index[number] if 0 in near else index[:0, 0] for number, near in enumerate(chosen)]
        of_gallery: list[list[Tensor]] = [[] for _ in range(len(gallery.embedding))]
        for number, near in enumerate(chosen):
            for view in near[near > 0].tolist():
                of_gallery[int(self.asked.together[number][view - 1])].append(index[number])
        first = measure_lists(self.stage, own, gallery, of_query, None, "cpu").split(
            [len(listed) for listed in of_query]
        )
        lists = [torch.cat(listed) if listed else index[:0, 0] for listed in of_gallery]
        second = measure_lists(self.stage, gallery, gallery, lists, None, "cpu").split(
            [len(listed) for listed in lists]
        )
        taken, found = [0] * len(lists), []
        for number, near in enumerate(chosen):
            rows = []
            for view in near.tolist():
                if view == 0:
                    rows.append(first[number])
                    continue
                place = int(self.asked.together[number][view - 1])
                rows.append(second[place][taken[place] : taken[place] + index.size(1)])
                taken[place] += index.size(1)
            found.append(torch.stack(rows))
        return index, found

    def of_sets(self, index: Tensor, pairs: list[Tensor], views: int, softness: float) -> Tensor:
        columns = torch.arange(index.size(1))
        conditional = torch.stack(
            [
                set_distance(by_view[:views].flatten(), columns.repeat(len(by_view[:views])), len(columns), softness)
                for by_view in pairs
            ]
        )
        return rerank(self.mean, index, conditional, self.weight)


def over_people(better: np.ndarray, worse: np.ndarray, people: np.ndarray, seed: int = 0) -> tuple[float, float, float]:
    """The mean of ``better − worse`` over queries with its 95 % interval; people are drawn with all their queries."""
    _, number = np.unique(people, return_inverse=True)
    sums, counts = np.bincount(number, better - worse), np.bincount(number)
    drawn = np.random.default_rng(seed).integers(len(sums), size=(_RESAMPLES, len(sums)))
    low, high = np.quantile(sums[drawn].sum(1) / counts[drawn].sum(1), [0.025, 0.975])
    return float((better - worse).mean()), float(low), float(high)


def table_of(data: str, asked: Asked, found: dict[tuple[int, str], Metrics]) -> list[dict[str, object]]:
    """One row for each way and number of stages."""
    rows: list[dict[str, object]] = []
    for (stages, way), metrics in found.items():
        people = np.array([asked.query.samples[position].pid for position in metrics.query_index])
        alone = found[stages, "single shot"]
        gain = over_people(metrics.average_precision, alone.average_precision, people)
        over = "" if alone is metrics else "{:+.2f} [{:.2f}, {:.2f}]".format(*(100 * value for value in gain))
        rows.append(
            {"data": data, "query": way, "stages": stages, "mAP": f"{100 * metrics.mAP:.2f}",
             "rank1": f"{100 * metrics.rank1:.2f}", "mAP over single shot": over}
        )  # fmt: skip
    if (2, "set against set") in found:
        both, mean = found[2, "set against set"], found[2, "averaged embedding"]
        gain = over_people(both.average_precision, mean.average_precision, people)
        print("set against set over averaged embedding, two stages: {:+.2f} [{:.2f}, {:.2f}] mAP".format(
            *(100 * x for x in gain)))  # fmt: skip
    return rows


def keep_queries(folder: Path, name: str, asked: Asked, found: dict[tuple[int, str], Metrics]) -> None:
    """A CSV with the average precision and first match of each query, by each ranking."""
    folder.mkdir(parents=True, exist_ok=True)
    columns = [f"{way.replace(' ', '_')}_{stages}" for stages, way in found]
    with (folder / f"{name}.csv").open("w", newline="") as file:
        file.write(f"# {origin()}\n")
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(
            ["pid", "camid", "pictures", *[f"{column}_{what}" for column in columns for what in ("ap", "first")]]
        )
        for row, position in enumerate(found[1, "single shot"].query_index.tolist()):
            sample = asked.query.samples[position]
            cells = [
                (f"{ranked.average_precision[row]:.6f}", int(ranked.first_match[row])) for ranked in found.values()
            ]
            writer.writerow(
                [
                    sample.pid,
                    sample.camid,
                    1 + len(asked.together[position]),
                    *[cell for pair in cells for cell in pair],
                ]
            )


def measure(rankings: Rankings, views: int, softness: float) -> dict[tuple[int, str], Metrics]:
    labels = labels_of(rankings.asked.query.samples, rankings.asked.gallery.samples)
    found = {(1, way): evaluate(distance, **labels) for way, distance in rankings.one_stage().items()}
    return found | {
        (2, way): evaluate(distance, **labels) for way, distance in rankings.two_stages(views, softness).items()
    }


def search(rankings: Rankings) -> list[dict[str, object]]:
    """mAP of set against set by views and softness."""
    labels = labels_of(rankings.asked.query.samples, rankings.asked.gallery.samples)
    index, pairs = rankings.pairs(rankings.mean, max(_GRID_VIEWS))
    rows = []
    for views in _GRID_VIEWS:
        row: dict[str, object] = {"views": views}
        for softness in _GRID_SOFTNESS:
            metrics = evaluate(rankings.of_sets(index, pairs, views, softness), **labels)
            row[f"softness {softness:g}"] = f"{100 * metrics.mAP:.2f} / {100 * metrics.rank1:.2f}"
        rows.append(row)
    return rows


@torch.no_grad()
def main() -> None:
    parser = argparse.ArgumentParser("python -m benchmarks.multi_query", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)  # fmt: skip
    parser.add_argument("--features", type=Path, help="file of benchmarks.extraction")
    parser.add_argument("--data", type=Path, help="the data set, in Market-1501's layout")
    parser.add_argument("--checkpoint", type=Path, help="RUN_DIR/checkpoints/best.ckpt of fit_pair_stage, or of a run")
    parser.add_argument("--synthetic", action="store_true", help="the checkpoint is a run on --data, with its network")
    parser.add_argument("--weight", type=float, help="of the pair stage (default: the checkpoint's)")
    parser.add_argument("--top_k", type=int, default=100, help="of the second stage (default: 100)")
    parser.add_argument("--views", type=int, default=VIEWS, help=f"of a set (default: {VIEWS})")
    parser.add_argument("--softness", type=float, default=SOFTNESS, help=f"of the minimum (default: {SOFTNESS:g})")
    parser.add_argument("--held_out", action="store_true", help="only views and softness on the held-out people")
    parser.add_argument("--out", type=Path, help="folder for the average precision of each query")
    parser.add_argument("--threads", type=int, default=1, help="of torch (default: 1)")
    parser.add_argument("--quick", action="store_true", help="seconds: drawn at random, no files")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.quick:
        options.top_k = 20
    elif options.checkpoint is None or options.data is None or (options.features is None and not options.synthetic):
        parser.error("give --features, --data and --checkpoint, or --synthetic with the last two, or --quick")
    name, asked, stage, weight = _random(options) if options.quick else _read(options)
    rankings = Rankings(asked, stage, weight if options.weight is None else options.weight, options.top_k)
    pictures = sum(1 + len(further) for further in asked.together) / len(asked.together)
    print(f"{name}: {len(asked.together)} queries of {pictures:.1f} pictures over {len(asked.gallery.embedding)}, "
          f"weight {rankings.weight:.2g}")  # fmt: skip
    if options.held_out:
        save_results(f"multi_query_held_out{'_synthetic' * options.synthetic}", search(rankings), None, options.quick)
        return
    found = measure(rankings, options.views, options.softness)
    save_results(f"multi_query{'_synthetic' * options.synthetic}", table_of(name, asked, found), None, options.quick)
    if options.out is not None:
        keep_queries(options.out, name, asked, found)


def _read(options: argparse.Namespace) -> tuple[str, Asked, PairStage, float]:
    """The queries and the pair stage, from a run on rendered people or from stored features."""
    splits, state = read_market_layout(options.data), load_checkpoint(options.checkpoint)
    config = from_yaml(state["config"])
    held_out, seed = config.data.hold_out, config.seed
    if options.synthetic:
        query, gallery = splits.query, splits.gallery
        if options.held_out:
            held = hold_out_identities(splits.train, held_out, seed)
            query, gallery = held.query, held.gallery
        model, _ = load_model(options.checkpoint, config)
        both = [extract(model, part, config, "cpu", part_name) for part, part_name in ((query, "q"), (gallery, "g"))]
        return "built_in", Asked(*both, further_pictures(query, gallery)), model.pair_stage, state["fusion_weight"]
    kept, fitted = torch.load(options.features, weights_only=True, mmap=True), load_pair_stage(options.checkpoint)
    parts = {part: Features(**tensors) for part, tensors in kept.items()}
    of_query, of_gallery = parts["query"], parts["gallery"]
    query, gallery = splits.query, splits.gallery
    if options.held_out:
        numbered = KeptFeatures.samples(
            *([getattr(sample, what) for sample in splits.train] for what in ("pid", "camid"))
        )
        held = hold_out_identities(numbered, held_out, seed)
        query, gallery = held.query, held.gallery
        of_query, of_gallery = (parts["train"].select(KeptFeatures.positions(side)) for side in (query, gallery))
    both = [_prepared(*side, fitted.stage) for side in ((query, of_query), (gallery, of_gallery))]
    return "market", Asked(*both, further_pictures(query, gallery)), fitted.stage, fitted.fusion_weight or 0.0


def _prepared(samples: Sequence[Sample], features: Features, stage: PairStage) -> Extraction:
    return Extraction(tuple(samples), features.embedding, prepare_features(stage, features, torch.device("cpu")))


def _random(options: argparse.Namespace) -> tuple[str, Asked, PairStage, float]:
    """A dozen random people with four pictures from each of two cameras."""
    draw = torch.Generator().manual_seed(0)
    pids = torch.arange(1, 13).repeat_interleave(8)
    camids = torch.tensor([1, 1, 1, 1, 2, 2, 2, 2]).repeat(12)
    own = torch.rand(13, 8, 16, generator=draw)
    clues = own[pids] + 0.7 * torch.rand(96, 8, 16, generator=draw)
    features = Features(clues.mean(1), clues, (4, 2))
    settings = PairPhaseSettings(epochs=1, batches_per_epoch=4, anchors=8, confusions=3)
    with torch.enable_grad():
        fitted = fit_pair_stage(features, pids, camids, settings=settings, held_out=0.3, device="cpu")
    samples = KeptFeatures.samples(pids.tolist(), camids.tolist())
    queries = torch.arange(0, 96, 4)
    rest = torch.tensor([number for number in range(96) if number % 4])
    both = [_prepared([samples[number] for number in part.tolist()], features.select(part), fitted.stage)
            for part in (queries, rest)]  # fmt: skip
    return "random", Asked(*both, further_pictures(both[0].samples, both[1].samples)), fitted.stage, 0.3


if __name__ == "__main__":
    main()
