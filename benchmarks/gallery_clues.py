"""The gain of the second stage by the number of clues kept of a gallery picture, the way to choose them, and bytes.

Six ways and two precisions are compared on held-out people. Four ways drop clues and keep others: random ones; those
farthest from each other (farthest-point sampling of the features that the graph compares); the strongest (length of the
propagated features); those with the most edges to clues of 64 training pictures. *Counted* keeps the farthest clues,
each weighted by the number of clues nearest to it. *Merged* is ``evaluation.gallery_clues``: the mean of each such
group. With ``--test``, query and gallery are ranked instead, only with merged clues of four bits, as ``index
--precision int4`` stores them. Queries keep all clues. "share of the gain" is relative to the mAP gain of the first
checkpoint with all clues over the network alone.

Features come from ``python -m benchmarks.extraction --keep``; pair stages come from
``cace_pyg.fit_pair_stage`` on their training part.
"""

import argparse
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from types import SimpleNamespace

import torch
from matplotlib.figure import Figure
from torch import Tensor

from benchmarks.kept_people import KeptPeople, add_options, read_kept_people
from benchmarks.results_file import save_results
from cace_pyg import Features
from cace_pyg.data import Sample
from cace_pyg.engine.distances import Distances, labels_of
from cace_pyg.engine.extraction import Extraction
from cace_pyg.engine.features import KeptFeatures
from cace_pyg.engine.measure_pairs import measure_lists
from cace_pyg.engine.on_features import prepare_features
from cace_pyg.gallery.clue_codec import ClueCodec
from cace_pyg.graph import Clues
from cace_pyg.models import Merged, PairOperand, PairStage
from cace_pyg.retrieval import Metrics, distance_blocks, evaluate_blocks, top_k

_TOP_K = 100
_KEPT = (64, 48, 32, 24, 16, 8)
_TRAINING_PICTURES, _SHARPNESS = 64, 16  # the exponent of the recipe's graph
_ALONE, _ALL, _MERGED, _COUNTED = "the network alone", "all", "merged", "counted"
_FORGETTING = ("farthest", "random", "strongest", "most joined")


@dataclass(frozen=True)
class People:
    """A query and a gallery set, for one stage."""

    name: str
    stage: PairStage
    weight: float
    query: Features
    gallery: Features
    samples: tuple[list[Sample], list[Sample]]

    @cached_property
    def prepared(self) -> tuple[PairOperand, PairOperand]:
        query, gallery = (
            prepare_features(self.stage, part, torch.device("cpu")) for part in (self.query, self.gallery)
        )
        return query, gallery

    @cached_property
    def index(self) -> Tensor:
        return torch.cat([top_k(block, _TOP_K) for _, block in distance_blocks(*self.embeddings)])

    @property
    def embeddings(self) -> tuple[Tensor, Tensor]:
        return self.query.embedding.float(), self.gallery.embedding.float()

    def first_stage(self) -> Metrics:
        blocks = (block for _, block in distance_blocks(*self.embeddings))
        return evaluate_blocks(blocks, **labels_of(*self.samples))

    def two_stages(self, gallery: PairOperand) -> Metrics:
        prepared = self.prepared[0], gallery
        sides = (Extraction((), *side) for side in zip(self.embeddings, prepared, strict=True))
        conditional = measure_lists(self.stage, *sides, [*self.index], None, "cpu", title=self.name)
        distances = Distances(*self.embeddings, self.index, conditional.view(self.index.shape))
        return evaluate_blocks(distances.blocks(self.weight), **labels_of(*self.samples))


def control(way: str, gallery: PairOperand, count: int, training: Tensor) -> PairOperand:
    """The gallery with ``count`` clues of each picture; ``training`` holds clues to compare with, ``(clue, any)``."""
    compared, image = gallery.compared.features, torch.arange(len(gallery))[:, None]
    if way == "random":
        kept = torch.rand(compared.shape[:2], generator=torch.Generator().manual_seed(0)).argsort(1)[:, :count]
    elif way == "strongest":
        kept = gallery.projected.norm(dim=2).topk(count).indices
    elif way == "most joined":
        edges = ((clues @ training.T).relu().pow(_SHARPNESS) for clues in compared.split(64))
        kept = torch.cat([block.sum(2) for block in edges]).topk(count).indices
    else:
        kept = farthest_points(compared, count)
    some = replace(gallery, compared=Clues(compared[image, kept], (count, 1)), projected=gallery.projected[image, kept])
    if way != _COUNTED:
        return some
    both = compared.split(64), some.compared.features.split(64)
    group = torch.cat([torch.cdist(clue, point).argmin(2) for clue, point in zip(*both, strict=True)])
    return replace(some, merged=Merged(group, gallery.compared.grid))


def farthest_points(x: Tensor, count: int) -> Tensor:
    """Positions of farthest-point sampling from the clue nearest to the mean, ``(image, count)``."""
    image, points = torch.arange(len(x)), [(x - x.mean(1, keepdim=True)).norm(dim=2).argmin(1)]
    nearest = torch.full(x.shape[:2], torch.inf)
    while len(points) < count:
        nearest = torch.minimum(nearest, (x - x[image, points[-1]].unsqueeze(1)).norm(dim=2))
        points.append(nearest.argmax(1))
    return torch.stack(points, 1)


def ways(
    people: People, training: Tensor, counts: list[int], controls: tuple[str, ...], test: bool
) -> Iterator[tuple[str, int, str, PairOperand]]:
    """All variants: way, number of clues, precision, and the gallery made so."""
    gallery, model = people.prepared[1], SimpleNamespace(pair_stage=people.stage)
    n = gallery.projected.size(1)
    for count in counts:
        way = _ALL if count == n else _MERGED
        if way == _ALL or not test:
            yield way, count, "float32", people.stage.keep_clues(gallery, count)
        if way == _MERGED or not test:
            codec = ClueCodec(gallery, "int4", count)
            yield way, count, "int4", codec.decode(codec.encode(gallery), model)
        for other in controls if way == _MERGED else ():
            yield other, count, "float32", control(other, gallery, count, training)


def measure(
    people: People, training: Tensor, counts: list[int], controls: tuple[str, ...], test: bool, trained: str
) -> Iterator[dict]:
    for way, count, precision, gallery in ways(people, training, counts, controls, test):
        size = ClueCodec(people.prepared[1], "int4", count).bytes_per_image if precision == "int4" else ""
        row = {"people": people.name, "trained with": trained, "clues": count, "way": way, "precision": precision}
        metrics = people.two_stages(gallery)
        print(row, size, f"{100 * metrics.mAP:.2f} {100 * metrics.rank1:.2f}", flush=True)
        yield row | {"bytes": size, "metrics": metrics}


def formatted(rows: list[dict]) -> list[dict]:
    """Add the share of the first checkpoint's gain with all clues."""
    first, full = (next(row["metrics"].mAP for row in rows if row["way"] == way) for way in (_ALONE, _ALL))
    table = []
    for row in rows:
        metrics = row["metrics"]
        share = f"{(metrics.mAP - first) / (full - first):.3f}" if row["clues"] and full > first else ""
        figures = {"mAP": f"{100 * metrics.mAP:.2f}", "rank1": f"{100 * metrics.rank1:.2f}", "share of the gain": share}
        table.append({name: value for name, value in row.items() if name != "metrics"} | figures)
    return table


def plot(rows: list[dict]) -> Figure:
    """mAP by kept clues for each way, and by bytes per picture."""
    figure = Figure(figsize=(10, 5), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    alone, full = (float(next(row["mAP"] for row in rows if row["way"] == way)) for way in (_ALONE, _ALL))
    for axes in (left, right):
        axes.axhline(alone, color="0.6", lw=1, label="the network alone")
        axes.axhline(alone + 0.95 * (full - alone), color="0.6", lw=1, ls=":", label="95 % of the gain")
    for trained in dict.fromkeys(row["trained with"] for row in rows if row["way"] != _ALONE):
        mine = [row for row in rows if row["trained with"] == trained]
        small = [row for row in mine if row["precision"] == "int4"]
        exact = [row for row in mine if row["precision"] == "float32" and len({row["clues"] for row in mine}) > 1]
        kept = exact if any(row["way"] != _ALL for row in exact) else small
        style = "o-" if trained == "all clues" else "s--"
        for way in dict.fromkeys(row["way"] for row in kept if row["way"] != _ALL):
            points = [row for row in kept if row["way"] in (way, _ALL)]
            left.plot(*_line(points, "clues"), style, label=f"{way}, trained with {trained}")
        right.plot(
            *_line(small, "bytes"),
            style,
            color="0.2" if style == "o-" else "0.6",
            label=f"merged, int4, trained with {trained}",
        )
    left.set(xlabel="clues kept of a gallery picture", ylabel="mAP, %", ylim=(alone - 8, None))
    right.set(xlabel="bytes of a picture for the second stage")
    for axes, key in ((left, "clues"), (right, "bytes")):
        axes.set_xscale("log", base=2)
        ticks = sorted({row[key] for row in rows if row[key]})
        axes.set_xticks(ticks, [f"{tick:,}" for tick in ticks], rotation=45)
    handles = {
        label: handle for axes in (left, right) for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)
    }
    figure.legend(handles.values(), handles, loc="outside lower center", ncols=3, frameon=False, fontsize=8)
    return figure


def _line(rows: list[dict], key: str) -> tuple[list[float], list[float]]:
    return [row[key] for row in rows], [float(row["mAP"]) for row in rows]


def people_of(kept: KeptPeople, test: bool) -> People:
    parts, samples, fitted, held = kept
    stage, weight = fitted.stage, fitted.fusion_weight or 0.0
    if test:
        both = samples["query"], samples["gallery"]
        name = f"query and gallery, {len(both[0])} × {len(both[1])}"
        return People(name, stage, weight, parts["query"], parts["gallery"], both)
    query, gallery = (parts["train"].select(KeptFeatures.positions(side)) for side in (held.query, held.gallery))
    both = [*held.query], [*held.gallery]
    return People(f"held out, {len(query)} × {len(gallery)}", stage, weight, query, gallery, both)


@torch.no_grad()
def main() -> None:
    parser = argparse.ArgumentParser("python -m benchmarks.gallery_clues", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)  # fmt: skip
    add_options(parser)
    parser.add_argument("--also", type=Path, nargs="*", default=[], help="other checkpoints, only with merged clues")
    parser.add_argument("--clues", type=int, nargs="+", default=list(_KEPT), help="that are kept")
    parser.add_argument("--test", action="store_true", help="query and gallery instead of the held-out people")
    parser.add_argument("--threads", type=int, default=1, help="of torch (default: 1)")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    rows: list[dict] = []
    for checkpoint in (options.checkpoint, *options.also):
        options.checkpoint = checkpoint
        kept = read_kept_people(parser, options)
        trained = kept.stage.gallery_clues
        people, train = people_of(kept, options.test), kept.parts["train"]
        some = train.select(torch.arange(_TRAINING_PICTURES) * (len(train) // _TRAINING_PICTURES))
        training = prepare_features(people.stage, some, torch.device("cpu")).compared.features.flatten(0, 1)
        counts, controls = [train.clues.size(1), *([4, 2] if options.quick else options.clues)], ()
        if not rows:
            alone = {"people": people.name, "trained with": "", "clues": 0, "way": _ALONE, "precision": "", "bytes": ""}
            rows.append(alone | {"metrics": people.first_stage()})
            controls = () if options.test else (_COUNTED, *_FORGETTING)
        elif options.test:
            counts = [trained or counts[0]]
        rows += measure(people, training, counts, controls, options.test, f"{trained or 'all'} clues")
    table = formatted(rows)
    save_results("gallery_clues" if options.test else "gallery_clues_held_out", table, plot(table), options.quick)


if __name__ == "__main__":
    main()
