"""A pair stage with the clues of a public network, behind the embeddings of a network that was fine-tuned.

The fine-tuned network knows the people whom the pair stage learns from; the public one does not, and its pictures may
be larger. First stage, triplets and fusion weight go by the fine-tuned embeddings, and the people held out of the
fine-tuning are held out here. Query and gallery are ranked by the official protocol: by the pair stage, by the same
training without a graph, and by the mean distance of both embeddings, whose weights are chosen on the held-out people.

Runs are folders of ``python -m cace_pyg.train``; features come from ``python -m benchmarks.extraction --keep``. Every
run has a file for each row in ``--out``, with the average precision of each query; it is not computed again.
"""

import argparse
import functools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.opponents.row_files import queries_of, read_row, write_row
from benchmarks.origin import origin
from cace_pyg import Features, evaluate_ranking, extract_features, fit_pair_stage, from_pretrained, rerank_features
from cace_pyg.config import Config, KReciprocalSettings, PairPhaseSettings
from cace_pyg.data import Sample, hold_out_identities, read_market_layout
from cace_pyg.engine.distances import labels_of
from cace_pyg.engine.features import KeptFeatures
from cace_pyg.graph import CorrespondenceAttention, GraphBuilder, NoAlignment
from cace_pyg.retrieval import paired_bootstrap

_GRAPHS: dict[str, Callable[[int], GraphBuilder]] = {
    "graph": functools.partial(CorrespondenceAttention, width=64, sharpness=16.0),
    "no_graph": NoAlignment,
}
_SHARES = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5)
_EPOCHS = 20


def main() -> None:
    """Compute the rows that have no file, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, nargs="*", default=[], help="of fine-tuning, such as one for each seed")
    parser.add_argument("--features", type=Path, help="of the public network")
    parser.add_argument("--data", type=Path, help="the data set of both, in Market-1501's layout")
    parser.add_argument("--out", type=Path, required=True, help="folder of the row files")
    parser.add_argument("--steps", type=int, default=1200, help="of the pair stage (default: 1200)")
    options = parser.parse_args()
    if options.runs and not (options.features and options.data):
        parser.error("--features and --data are needed with --runs")
    for run in options.runs:
        compute_rows(run, options)
    print_table(options.out)


def compute_rows(run: Path, options: argparse.Namespace) -> None:
    """The rows of one fine-tuned network."""
    settings = {"features": options.features.name, "run": run.name, "steps": options.steps}
    paths = {row: options.out / f"{row}_{run.name}.json" for row in ("embeddings", *_GRAPHS)}
    missing = [row for row, path in paths.items() if read_row(path, settings) is None]
    if not missing:
        return
    splits = read_market_layout(options.data)
    model = from_pretrained(run / "checkpoints" / "best.ckpt")
    kept = torch.load(options.features, weights_only=True, mmap=True)
    parts = {"train": splits.train, "query": splits.query, "gallery": splits.gallery}
    features = {name: tuned_embeddings(model.model, model.config, part, kept[name]) for name, part in parts.items()}
    public = {name: torch.nn.functional.normalize(kept[name]["embedding"].float(), dim=-1) for name in parts}
    query, gallery = features["query"], features["gallery"]
    for row in missing:
        content: dict[str, Any] = {"row": row, "settings": settings, "origin": origin()}
        rankings: dict[str, Tensor] = {}
        if row == "embeddings":
            share = best_share(splits.train, features["train"].embedding, public["train"], model.config)
            content["share"] = share
            rankings["individual"] = distance(query.embedding, gallery.embedding)
            rankings["mixed"] = (1 - share) * rankings["individual"] + share * distance(
                public["query"], public["gallery"]
            )
        else:
            fitted = fit_pair_stage(
                features["train"],
                [sample.pid for sample in splits.train],
                [sample.camid for sample in splits.train],
                _GRAPHS[row],
                settings=PairPhaseSettings(_EPOCHS, options.steps // _EPOCHS, mirror=0.5),
                held_out=model.config.data.hold_out,
                seed=model.config.seed,
            )
            content["fusion_weight"] = fitted.fusion_weight
            for name, how in {"two_stage": None, "two_stage_k_reciprocal": KReciprocalSettings()}.items():
                rankings[name] = rerank_features(query, gallery, fitted, neighbours=how, gallery_neighbours=20)
        for name, ranked in rankings.items():
            found = evaluate_ranking(ranked, **labels_of(splits.query, splits.gallery))
            print(f"{run.name}, {row}, {name}: {100 * found.mAP:.2f} / {100 * found.rank1:.2f}", flush=True)
            content[name] = queries_of(found)
        write_row(paths[row], content)


def tuned_embeddings(model: Any, config: Config, samples: tuple[Sample, ...], public: dict[str, Any]) -> Features:
    """The embeddings of the fine-tuned network, with the clues of the public one."""
    size = config.data.height, config.data.width
    found = extract_features(model, [sample.path for sample in samples], size)
    return Features(found.embedding, public["clues"], tuple(public["grid"]))


def best_share(train: tuple[Sample, ...], tuned: Tensor, public: Tensor, config: Config) -> float:
    """The weight of the public network's distance that is best on the held-out people.

    Raises:
        ValueError: :func:`cace_pyg.fit_pair_stage` would hold out other people.
    """
    held_out = hold_out_identities(train, config.data.hold_out, config.seed)
    stand_ins = KeptFeatures.samples([sample.pid for sample in train], [sample.camid for sample in train])
    again = hold_out_identities(stand_ins, config.data.hold_out, config.seed)
    if {sample.pid for sample in held_out.query} != {sample.pid for sample in again.query}:
        raise ValueError("the people held out of the fine-tuning would be trained on")
    place = {sample.path: position for position, sample in enumerate(train)}
    query, gallery = ([place[sample.path] for sample in part] for part in (held_out.query, held_out.gallery))
    near, far = (distance(embedding[query], embedding[gallery]) for embedding in (tuned, public))
    labels = labels_of(held_out.query, held_out.gallery)
    return max(_SHARES, key=lambda share: evaluate_ranking((1 - share) * near + share * far, **labels).mAP)


def distance(query: Tensor, gallery: Tensor) -> Tensor:
    """Squared distances of unit vectors."""
    return 2 - 2 * query.double() @ gallery.double().T


def print_table(out: Path) -> None:
    """The means over the runs, and the gain of each ranking over the fine-tuned network's own, and over the control."""
    found: dict[str, list[dict[str, Any]]] = {}
    for path in sorted(out.glob("*.json")):
        content = json.loads(path.read_text())
        for name, result in content.items():
            if isinstance(result, dict) and "average_precision" in result:
                found.setdefault(f"{content['row']} {name}", []).append(result)
    for name, results in found.items():
        mAP, rank1 = (100 * np.mean([result[measure] for result in results]) for measure in ("mAP", "rank1"))
        told = f"{name:32} {len(results)} runs {mAP:6.2f} / {rank1:5.2f}"
        for other, over in (("embeddings individual", "its own"), (f"no_{name}", "the control")):
            if other in found and other != name:
                told += f"  over {over}: {_difference(results, found[other])}"
        print(told)


def _difference(better: list[dict[str, Any]], worse: list[dict[str, Any]]) -> str:
    """In mAP and in Rank-1, with 95 % intervals."""
    told = []
    for measure in ("average_precision", "first_match"):
        first, second = (
            [np.asarray(one[measure]) if measure != "first_match" else np.asarray(one[measure]) == 1 for one in rows]
            for rows in (better, worse)
        )
        gain = paired_bootstrap(first, second)
        told.append(f"{100 * gain.mean:+.2f} [{100 * gain.low:.2f}, {100 * gain.high:.2f}]")
    return "; ".join(told)


if __name__ == "__main__":
    main()
