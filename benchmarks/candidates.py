"""The gain of the second stage by the number of pairs that it compares, and by the choice of these pairs.

There are four ways to choose pairs: the k nearest of each query; the 200 nearest of the queries with the least certain
first ranking (the authors of CACE-Net re-rank only some queries; a query is certain if its nearest picture is much
nearer than the sixth); the pictures that are not much farther than a query's nearest; and following the gallery's
neighbours of good matches (``evaluation.gallery_neighbours``). "share of the gain" is relative to the mAP gain of the
200 nearest.

Either --checkpoint is a whole model, and pictures of its own data set pass through its network; or --features is a file
of ``python -m benchmarks.extraction --keep``, and --checkpoint a pair stage of ``cace_pyg.fit_pair_stage`` on its
training part. The thresholds of the second and third way, and how many neighbours the fourth follows, are chosen on the
people held out of training, also for query and gallery.
"""

import argparse
import sys
from collections.abc import Iterator, Sequence
from functools import partial

import torch
from matplotlib.figure import Figure
from torch import Tensor

from benchmarks.kept_people import add_options, read_kept_people
from benchmarks.results_file import save_results
from cace_pyg import Features
from cace_pyg.config import from_yaml
from cace_pyg.data import Sample, hold_out_identities
from cace_pyg.data.read_dataset import read_splits
from cace_pyg.engine.candidates import follow_neighbours, nearest_in_gallery
from cace_pyg.engine.checkpoint import load_checkpoint, load_model
from cace_pyg.engine.distances import Distances, labels_of
from cace_pyg.engine.evaluation import fusion_weight_of
from cace_pyg.engine.extraction import Extraction, camera_statistics, extract
from cace_pyg.engine.features import KeptFeatures
from cace_pyg.engine.measure_pairs import measure_lists
from cace_pyg.engine.on_features import prepare_features
from cace_pyg.models import PairStage
from cace_pyg.retrieval import Metrics, distance_blocks, evaluate_blocks, top_k

_DEEPEST = 200
_NEAREST = (10, 20, 40, 100)
_SHARES = (0.2, 0.5, 0.8)  # of the queries, or of the pairs
_SIXTH = 5


class Ranking:
    """A query and a gallery, ranked with several choices of pairs."""

    def __init__(self, query: Extraction, gallery: Extraction, stage: PairStage, weight: float):
        self.weight = weight
        self.query, self.gallery = query.embedding.float(), gallery.embedding.float()
        self.ask = partial(measure_lists, stage, query, gallery, pairs_per_batch=None, device="cpu")
        blocks = (block for _, block in distance_blocks(self.query, self.gallery))
        self.index = torch.cat([top_k(block, _DEEPEST) for block in blocks])
        self.conditional = self.ask([*self.index]).view(self.index.shape)
        self.near = torch.cat(
            [
                (queries[:, None].double() - self.gallery[index].double()).norm(dim=2)
                for queries, index in zip(self.query.split(64), self.index.split(64), strict=True)
            ]
        )
        self.protocol = partial(evaluate_blocks, **labels_of(query.samples, gallery.samples))

    def first_stage(self) -> Metrics:
        return self.protocol(block for _, block in distance_blocks(self.query, self.gallery))

    def some(self, chosen: Tensor) -> Metrics:
        """The metrics if the chosen pairs of the longest list are compared, and ranked before all others."""
        fused = (1 - self.weight) * self.near + self.weight * self.conditional.double()

        def blocks() -> Iterator[Tensor]:
            for queries, individual in distance_blocks(self.query, self.gallery):
                behind = individual.double() + 10
                now = torch.where(chosen[queries], fused[queries], behind.gather(1, self.index[queries]))
                yield behind.scatter(1, self.index[queries], now)

        return self.protocol(blocks())

    def followed(self, pairs: int, neighbours: int) -> Metrics:
        nearest, follows = self.index[:, :pairs], nearest_in_gallery(self.gallery, neighbours)
        found = follow_neighbours(self.query, self.gallery, nearest, follows, self.weight, self.ask)
        return self.protocol(Distances(self.query, self.gallery, *found).blocks(self.weight))

    def margin(self) -> Tensor:
        return self.near[:, _SIXTH] - self.near[:, 0]

    def window(self) -> Tensor:
        return self.near - self.near[:, :1]


def measure(
    name: str, ranking: Ranking, thresholds: dict[str, float], neighbours: Sequence[int]
) -> list[dict[str, object]]:
    """The table's rows for one query and gallery.

    Missing thresholds are chosen: those that give the shares, and for each number of pairs the number of neighbours
    with the highest mAP.
    """
    place = torch.arange(ranking.index.size(1)).expand(ranking.index.shape)
    chosen = {f"nearest {k}": place < k for k in _NEAREST} | {f"nearest {_DEEPEST}": place < _DEEPEST}
    for share in _SHARES:
        least = thresholds.setdefault(f"margin {share}", float(ranking.margin().quantile(share)))
        chosen[f"{_DEEPEST} of uncertain queries, below {least:.3f}"] = (ranking.margin() <= least)[:, None] & (
            place >= 0
        )
        spread = ranking.window().flatten().double().sort().values
        widest = thresholds.setdefault(f"window {share}", float(spread[int(share * (len(spread) - 1))]))
        chosen[f"at most {widest:.3f} beyond the nearest"] = ranking.window() <= widest
    found = {way: (float(pairs.sum(1).double().mean()), ranking.some(pairs)) for way, pairs in chosen.items()}
    for pairs in (20, 40, 100, _DEEPEST):
        kept = min(pairs, ranking.index.size(1))
        counts = [int(thresholds[f"followed {pairs}"])] if f"followed {pairs}" in thresholds else neighbours
        metrics, count = max(((ranking.followed(kept, count), count) for count in counts), key=lambda one: one[0].mAP)
        thresholds[f"followed {pairs}"] = count
        found[f"{count} gallery neighbours followed, {kept}"] = kept, metrics
    first, full = ranking.first_stage().mAP, found[f"nearest {_DEEPEST}"][1].mAP
    rows = [("the network alone", (0.0, ranking.first_stage())), *found.items()]
    return [
        {
            "people": name,
            "pairs chosen": way,
            "pairs a query": f"{pairs:.0f}",
            "mAP": f"{100 * metrics.mAP:.2f}",
            "rank1": f"{100 * metrics.rank1:.2f}",
            "share of the gain": f"{(metrics.mAP - first) / (full - first):.2f}" if full > first else "",
        }
        for way, (pairs, metrics) in rows
    ]


def plot(table: list[dict[str, object]]) -> Figure:
    """mAP and Rank-1 against pairs per query, for the last group of people."""
    figure = Figure(figsize=(9, 4), layout="constrained")
    last = [row for row in table if row["people"] == table[-1]["people"]]
    figure.suptitle(f"{last[0]['people']} pictures")
    ways = {
        "nearest of the query": "nearest ", "uncertain queries only": f"{_DEEPEST} of", "near the nearest": "at most",
        "gallery neighbours followed": "followed",
    }  # fmt: skip
    for axes, (key, label) in zip(figure.subplots(1, 2), (("mAP", "mAP, %"), ("rank1", "Rank-1, %")), strict=True):
        axes.axhline(float(str(last[0][key])), color="0.6", lw=1, label="the network alone")
        for name, part in ways.items():
            rows = [row for row in last if part in str(row["pairs chosen"])]
            rows = sorted(rows, key=lambda row: float(str(row["pairs a query"])))
            axes.plot(
                *([float(str(row[column])) for row in rows] for column in ("pairs a query", key)), "o-", label=name
            )
        axes.set_xlabel("pairs per query")
        axes.set_ylabel(label)
    figure.axes[1].legend(frameon=False)
    return figure


def of_model(options: argparse.Namespace) -> Iterator[Ranking]:
    """The people held out of a model's training, then its data set's query and gallery."""
    state = load_checkpoint(options.checkpoint)
    config = from_yaml(state["config"], *([f"--data.root={options.data}"] if options.data else []))
    model, _ = load_model(options.checkpoint, config)
    splits, weight = read_splits(config.data), fusion_weight_of(config, state["fusion_weight"])
    held = hold_out_identities(splits.train, config.data.hold_out, config.seed, config.evaluation.same_camera)
    if not held.query:
        raise ValueError(
            f"Expected a model with people held out of training (got data.hold_out {config.data.hold_out})"
        )
    for part in (held, splits):
        known = camera_statistics(model, part.gallery, config, "cpu")
        query = extract(model, part.query, config, "cpu", "query", statistics=known)
        fewer = config.evaluation.gallery_clues
        gallery = extract(model, part.gallery, config, "cpu", "gallery", clues=fewer, statistics=known)
        yield Ranking(query, gallery, model.pair_stage, weight)


def of_features(parser: argparse.ArgumentParser, options: argparse.Namespace) -> Iterator[Ranking]:
    """The same people, whose features are in a file."""
    parts, samples, stage, held = read_kept_people(parser, options)
    prepare = partial(prepare_features, stage.stage, device=torch.device("cpu"))

    def taken(own: Sequence[Sample], known: Features) -> Extraction:
        return Extraction(tuple(own), known.embedding, prepare(known))

    train = parts["train"]
    sides = (taken(own, train.select(KeptFeatures.positions(own))) for own in (held.query, held.gallery))
    yield Ranking(*sides, stage.stage, stage.fusion_weight or 0.0)
    sides = (taken(samples[name], parts[name]) for name in ("query", "gallery"))
    yield Ranking(*sides, stage.stage, stage.fusion_weight or 0.0)


def _count(text: str) -> int:
    if not (text.isdecimal() and int(text)):
        raise argparse.ArgumentTypeError(f"Expected a whole number of at least 1 (got {text})")
    return int(text)


@torch.no_grad()
def main() -> None:
    parser = argparse.ArgumentParser("python -m benchmarks.candidates", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)  # fmt: skip
    add_options(parser, "a whole model, or with --features a pair stage: RUN_DIR/checkpoints/best.ckpt")
    parser.add_argument("--neighbours", type=_count, nargs="+", default=[5, 10, 20], help="gallery neighbours that are "
                        "followed: the best on the held-out people (default: 5 10 20)")  # fmt: skip
    parser.add_argument("--threads", type=_count, default=1, help="of torch (default: 1)")
    parser.add_argument("--held_out", action="store_true", help="only the held-out people, on whom you choose")
    parser.add_argument("--name", default="candidates", help="of the files in benchmarks/results (default: candidates)")
    options = parser.parse_args()
    if options.checkpoint is None and not options.quick:
        parser.error("give --checkpoint of a whole model, or --features, --data and --checkpoint, or --quick")
    torch.set_num_threads(options.threads)
    whole = options.checkpoint and not options.features and not options.quick
    rankings = of_model(options) if whole else of_features(parser, options)
    thresholds: dict[str, float] = {}
    rows: list[dict[str, object]] = []
    names = ["held out"] if options.held_out else ["held out", "query and gallery"]
    for name, ranking in zip(names, rankings, strict=False):
        people = f"{name}, {len(ranking.query)} × {len(ranking.gallery)}"
        share = _DEEPEST / len(ranking.gallery)
        if share > 0.2:
            print(f"warning: {people}: {_DEEPEST} pairs are {share:.0%} of this gallery; a larger one needs more")
        rows += measure(people, ranking, thresholds, options.neighbours)
    save_results(options.name, rows, plot(rows), options.quick)


if __name__ == "__main__":
    try:
        main()
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")
