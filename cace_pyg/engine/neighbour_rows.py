"""The result rows of re-ranking by neighbours, and the search for its settings."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import product

import torch
from torch import Tensor

from cace_pyg.config import Config, PropagationSettings
from cace_pyg.data.sample import Sample
from cace_pyg.engine.distances import Distances, labels_of, measure
from cace_pyg.engine.extraction import Extraction
from cace_pyg.engine.measure_pairs import measure_lists
from cace_pyg.engine.neighbours import (
    Neighbours,
    Reranking,
    SecondStage,
    ask_pair_stage,
    find_neighbours,
    method_of,
)
from cace_pyg.engine.ranks import ALONE, Ranks
from cace_pyg.models import CaceNet
from cace_pyg.progress import write_line
from cace_pyg.retrieval import Metrics, evaluate_blocks
from cace_pyg.retrieval.neighbour_ranking import NeighbourRanking

Measure = Callable[[Iterable[Tensor]], Metrics]  # of blocks of distances, some queries each


@dataclass(frozen=True)
class NeighbourChoice:
    """The settings of re-ranking by neighbours.

    Attributes:
        individual: for neighbours by the individual embeddings.
        two_stage: for neighbours by both stages.
        fusion: weight of the pair stage in ``two_stage``; 0: there is no such row.
    """

    individual: Reranking
    two_stage: Reranking
    fusion: float


def configured_choice(config: Config, weight: float) -> NeighbourChoice | None:
    """The configured settings, given the second stage's weight; None if neighbours are not asked for."""
    if config.neighbours.method is None:
        return None
    settings = config.k_reciprocal if config.neighbours.method == "k_reciprocal" else config.propagation
    fusion = weight if config.neighbours.fusion == "auto" else float(config.neighbours.fusion)
    return NeighbourChoice(settings, settings, fusion)


@dataclass(frozen=True)
class NeighbourRow:
    """A row of results.

    Attributes:
        name: such as two_stage_k_reciprocal.
        ranking: the distances.
        metrics: of the ranking.
    """

    name: str
    ranking: NeighbourRanking
    metrics: Metrics


def neighbour_rows(
    neighbours: Neighbours, choice: NeighbourChoice, weight: float, measure: Measure
) -> tuple[NeighbourRow, ...]:
    """Rows for neighbours by the individual embeddings, and by both stages if the pair stage has a weight.

    Args:
        neighbours: of queries and gallery.
        choice: the settings.
        weight: the second stage's.
        measure: the protocol.
    """
    rows = [("", choice.individual, 0.0, 0.0)]
    if choice.fusion > 0 and neighbours.second_stage is not None:
        rows.append(("two_stage_", choice.two_stage, choice.fusion, weight))
    found = []
    for prefix, settings, fusion, mixed in rows:
        ranking = neighbours.ranking(settings, fusion, mixed)
        metrics = measure(ranking.blocks())
        policy = f"{_described(settings)}; {metrics.policy}"
        if fusion > 0:
            candidates = neighbours.conditional.size(1)
            policy += (
                f"; neighbours: {_numbers(settings)}, by both stages among the {candidates} nearest, fusion weight "
                f"{fusion:.2g}"
            )
        found.append(NeighbourRow(f"{prefix}{method_of(settings)}", ranking, replace(metrics, policy=policy)))
    return tuple(found)


def _described(settings: Reranking) -> str:
    return f"{method_of(settings).replace('_', '-')}: {_numbers(settings)}"


def _numbers(settings: Reranking) -> str:
    exponent = f", exponent {settings.exponent:g}" if isinstance(settings, PropagationSettings) else ""
    return f"k1 {settings.k1}, k2 {settings.k2}{exponent}, original weight {settings.original_weight:g}"


_K1 = (5, 10, 20, 30)
_K2 = (1, 3, 6, 10)
_ORIGINAL = (0.0, 0.1, 0.3, 0.5)
_FUSION = (0.1, 0.2, 0.3, 0.5, 0.7, 1.0)
MOST_LISTED = max(_K1)  # neighbours of a picture that a search needs


def search_choice(
    neighbours: Neighbours, configured: NeighbourChoice, weight: float, measure: Measure
) -> tuple[NeighbourChoice, dict[str, float]]:
    """The settings with the best mAP, for each row separately; the configured ones if none is better.

    Give held-out identities, never those that will be tested. k1 and k2 depend on the number of pictures per person, so
    the held-out people should have as many pictures as those of the gallery.

    Args:
        neighbours: of the held-out query and gallery; with lists of :data:`MOST_LISTED` all settings are tried.
        configured: the configured settings.
        weight: the second stage's.
        measure: the protocol.

    Returns:
        The settings, and the mAP that they reach there, by stage (individual, two_stage).
    """
    individual, _, mAP = _best(neighbours, configured.individual, (0.0,), 0.0, measure)
    choice, reached = replace(configured, individual=individual), {"individual": mAP}
    if neighbours.second_stage is not None:
        weights = dict.fromkeys(fusion for fusion in (configured.fusion, weight, *_FUSION) if fusion > 0)
        two_stage, fusion, mAP = _best(neighbours, configured.two_stage, weights, weight, measure)
        choice, reached = replace(choice, two_stage=two_stage, fusion=fusion), reached | {"two_stage": mAP}
    return choice, reached


def _best(
    neighbours: Neighbours, configured: Reranking, fusions: Iterable[float], weight: float, measure: Measure
) -> tuple[Reranking, float, float]:
    """The best settings, the pair stage's weight among neighbours, and their mAP."""
    best = (configured, 0.0, -1.0)
    for fusion, settings in product(fusions, [configured, *_grid(configured, neighbours.graph.index.size(1))]):
        ranking = neighbours.ranking(settings, fusion, weight)
        encoded, original = replace(ranking, weight=0.0).whole(), ranking.original(slice(None))
        for share in dict.fromkeys([settings.original_weight, *_ORIGINAL]):
            mAP = measure([(1 - share) * encoded + share * original]).mAP
            if mAP > best[2]:
                best = replace(settings, original_weight=share), fusion, mAP
    return best


def _grid(configured: Reranking, listed: int) -> Iterator[Reranking]:
    for k1, k2 in product(_K1, _K2):
        if k2 <= k1 < listed:
            yield replace(configured, k1=k1, k2=k2)


def measure_neighbours(
    model: CaceNet,
    query: Extraction,
    gallery: Extraction,
    distances: Distances,
    config: Config,
    choice: NeighbourChoice,
    weight: float,
    device: torch.device | str,
    ranks: Ranks = ALONE,
    listed: int = 0,
) -> Neighbours:
    """The nearest neighbours of all pictures, with the pair stage's distances if it has a weight.

    Args:
        model: see :func:`measure`.
        query: what was extracted.
        gallery: what was extracted.
        distances: what :func:`measure` returned.
        config: the run's.
        choice: the settings of the re-ranking.
        weight: the second stage's.
        device: see :func:`measure`.
        ranks: see :func:`measure`.
        listed: minimum number of neighbours to list for each picture.
    """
    candidates, listed = config.neighbours.candidates, max(listed, choice.individual.k1, choice.two_stage.k1)
    asked = weight > 0 or choice.fusion > 0
    listed = max(listed, candidates) if asked else listed
    near = find_neighbours(query.embedding, gallery.embedding, distances.own_position, listed)
    if not asked:
        return near
    ask = partial(
        measure_lists,
        model.pair_stage,
        pairs_per_batch=config.evaluation.pairs_per_batch,
        device=device,
        ranks=ranks,
        title="neighbours",
    )
    second_stage = SecondStage(distances.index, distances.conditional)
    return ask_pair_stage(near, query, gallery, second_stage, candidates, config.neighbours.pairs == "mutual", ask)


def choose_neighbours(
    model: CaceNet,
    query: Sequence[Sample],
    gallery: Sequence[Sample],
    config: Config,
    weight: float,
    device: torch.device | str,
    ranks: Ranks = ALONE,
) -> NeighbourChoice | None:
    """The best settings on held-out identities, see :func:`search_choice`; None: not asked for.

    Warns if re-ranking by neighbours gains nothing there.

    Raises:
        ValueError: there are no held-out identities.
    """
    configured = configured_choice(config, weight)
    if configured is None:
        return None
    if not query:
        raise ValueError(
            "neighbours.tune chooses on held-out identities, and there are none (data.hold_out 0); leave it out, and "
            "give the settings"
        )
    measured = measure(model, query, gallery, config, device, ranks, weight)
    neighbours = measure_neighbours(model, *measured, config, configured, weight, device, ranks, MOST_LISTED)
    labels = labels_of(measured[0].samples, measured[1].samples)
    protocol = partial(evaluate_blocks, **labels, **config.evaluation.policy())
    choice, reached = search_choice(neighbours, configured, weight, protocol)
    for stage, mAP in reached.items() if ranks.rank == 0 else ():
        without = protocol(measured[2].blocks(0.0 if stage == "individual" else weight)).mAP
        if mAP <= without:
            write_line(
                f"warning: on the held-out identities neighbours do not help the {stage} ranking: {100 * mAP:.1f} mAP "
                f"at best, {100 * without:.1f} without. People may have too few pictures there, or only one camera"
            )
    return choice
