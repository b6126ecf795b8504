"""The gain of re-ranking by neighbours on stored features: the network alone, two stages, and re-ranking of each.

Features come from ``python -m benchmarks.extraction --keep``; the pair stage comes from ``cace_pyg.fit_pair_stage`` on
their training part, whose checkpoint says who was held out. The fusion weight, and the settings of the rows "tuned",
are chosen on those people; query and gallery are ranked afterwards. --held_out leaves query and gallery out.
"""

import argparse
import time
from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor

from benchmarks.kept_people import add_options, read_kept_people
from benchmarks.results_file import save_results
from cace_pyg import Features, FittedPairStage
from cace_pyg.config import KReciprocalSettings, PropagationSettings
from cace_pyg.data import Sample
from cace_pyg.engine.distances import Distances, labels_of
from cace_pyg.engine.extraction import Extraction
from cace_pyg.engine.features import KeptFeatures
from cace_pyg.engine.measure_pairs import measure_lists
from cace_pyg.engine.neighbour_rows import MOST_LISTED, Measure, NeighbourChoice, neighbour_rows, search_choice
from cace_pyg.engine.neighbours import Neighbours, SecondStage, ask_pair_stage, find_neighbours
from cace_pyg.engine.on_features import prepare_features
from cace_pyg.retrieval import choose_fusion_weight, distance_blocks, evaluate_blocks, top_k

_METHODS = KReciprocalSettings(), PropagationSettings()


class Ranked:
    """A query and a gallery with all measured pairs; ``pairs`` and ``seconds`` are the cost of measuring."""

    def __init__(self, query: Features, gallery: Features, stage: FittedPairStage, options: argparse.Namespace):
        of_query, of_gallery = (
            Extraction((), part.embedding, prepare_features(stage.stage, part, torch.device("cpu")))
            for part in (query, gallery)
        )
        self.pairs, started = 0, time.perf_counter()

        def ask(first: Extraction, second: Extraction, lists: Sequence[Tensor]) -> Tensor:
            self.pairs += sum(map(len, lists))
            return measure_lists(stage.stage, first, second, lists, 128, "cpu")

        blocks = [block for _, block in distance_blocks(query.embedding, gallery.embedding)]
        index = torch.cat([top_k(block, options.top_k) for block in blocks])
        second = SecondStage(index, ask(of_query, of_gallery, [*index]).view(index.shape))
        near = find_neighbours(query.embedding, gallery.embedding, None, max(options.candidates, MOST_LISTED))
        mutual = options.pairs == "mutual"
        self.near: Neighbours = ask_pair_stage(near, of_query, of_gallery, second, options.candidates, mutual, ask)
        self.distances = Distances(query.embedding, gallery.embedding, index, second.conditional)
        self.seconds = time.perf_counter() - started


def rows_of(
    name: str, ranked: Ranked, weight: float, choices: dict[str, list[NeighbourChoice]], measure: Measure
) -> list:
    """The table's rows for one query and gallery."""
    found = {"the network alone": measure(ranked.distances.blocks(0.0))}
    found[f"two stages, weight {weight:.2g}"] = measure(ranked.distances.blocks(weight))
    for how, several in choices.items():
        for choice in several:
            for row in neighbour_rows(ranked.near, choice, weight, measure):
                numbers = row.metrics.policy.split(";")[0]
                fusion = f", fusion {choice.fusion:.2g}" if row.name.startswith("two_stage") else ""
                found[f"{row.name}, {how} ({numbers}{fusion})"] = row.metrics
    return [
        {"people": name, "ranking": ranking, "mAP": f"{100 * metrics.mAP:.2f}", "rank1": f"{100 * metrics.rank1:.2f}",
         "pairs": ranked.pairs, "seconds of pairs": ranked.seconds}
        for ranking, metrics in found.items()
    ]  # fmt: skip


def protocol(query: Sequence[Sample], gallery: Sequence[Sample]) -> Measure:
    return partial(evaluate_blocks, **labels_of(query, gallery))


@torch.no_grad()
def main() -> None:
    parser = argparse.ArgumentParser("python -m benchmarks.neighbour_rows", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)  # fmt: skip
    add_options(parser)
    parser.add_argument("--top_k", type=int, default=100, help="of the second stage (default: 100)")
    parser.add_argument("--candidates", type=int, default=50, help="nearest of each picture (default: 50)")
    parser.add_argument("--pairs", choices=("all", "mutual"), default="all", help="of the candidates (default: all)")
    parser.add_argument("--threads", type=int, default=1, help="of torch (default: 1)")
    parser.add_argument("--held_out", action="store_true", help="only the held-out people")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    parts, samples, stage, held = read_kept_people(parser, options)
    if options.quick:
        options.top_k = options.candidates = 20
    ranked = Ranked(*(parts["train"].select(KeptFeatures.positions(part)) for part in (held.query, held.gallery)),
                    stage, options)  # fmt: skip
    measure, pairs = protocol(held.query, held.gallery), ranked.near.second_stage
    individual = ranked.distances.individual()
    weights = [step / 20 for step in range(21)]
    labels = labels_of(held.query, held.gallery)
    weight = choose_fusion_weight(individual, pairs.index, pairs.conditional, **labels, weights=weights).weight
    configured = [NeighbourChoice(method, method, weight) for method in _METHODS]
    chosen = [search_choice(ranked.near, choice, weight, measure)[0] for choice in configured]
    choices = {"as published": configured, "tuned": chosen}
    rows = rows_of(f"held out, {len(held.query)} × {len(held.gallery)}", ranked, weight, choices, measure)
    if not options.held_out:
        query, gallery = samples["query"], samples["gallery"]
        ranked = Ranked(parts["query"], parts["gallery"], stage, options)
        name = f"query and gallery, {len(query)} × {len(gallery)}"
        rows += rows_of(name, ranked, weight, choices, protocol(query, gallery))
    save_results("neighbour_rows", rows, None, options.quick)


if __name__ == "__main__":
    main()
