"""The rows of results that re-ranking by neighbours gives, and the search for their numbers."""

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

Measure = Callable[[Iterable[Tensor]], Metrics]  # of distances that come some queries at a time


@dataclass(frozen=True)
class NeighbourChoice:
    """What neighbours are re-ranked with.

    Attributes:
        individual: on the individual embeddings.
        two_stage: on neighbours that both stages decide.
        fusion: weight of the pair stage among those; 0: there is no such row.
    """

    individual: Reranking
    two_stage: Reranking
    fusion: float


def configured_choice(config: Config, weight: float) -> NeighbourChoice | None:
    """What the configuration says, given the second stage's weight; none where neighbours are not asked for."""
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
        metrics: of it.
    """

    name: str
    ranking: NeighbourRanking
    metrics: Metrics


def neighbour_rows(
    neighbours: Neighbours, choice: NeighbourChoice, weight: float, measure: Measure
) -> tuple[NeighbourRow, ...]:
    """Neighbours of the individual embeddings, and of both stages where the pair stage has a say.

    Args:
        neighbours: of queries and gallery.
        choice: with what they are re-ranked.
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
            policy += f"; neighbours: by both stages among the {candidates} nearest, fusion weight {fusion:.2g}"
        found.append(NeighbourRow(f"{prefix}{method_of(settings)}", ranking, replace(metrics, policy=policy)))
    return tuple(found)


def _described(settings: Reranking) -> str:
    exponent = f", exponent {settings.exponent:g}" if isinstance(settings, PropagationSettings) else ""
    numbers = f"k1 {settings.k1}, k2 {settings.k2}{exponent}, original weight {settings.original_weight:g}"
    return f"{method_of(settings).replace('_', '-')}: {numbers}"


_K1 = (5, 10, 20, 30)
_K2 = (1, 3, 6, 10)
_ORIGINAL = (0.0, 0.1, 0.3, 0.5)
_FUSION = (0.1, 0.2, 0.3, 0.5, 0.7, 1.0)
MOST_LISTED = max(_K1)  # neighbours of a picture that a search looks at


def search_choice(
    neighbours: Neighbours, configured: NeighbourChoice, weight: float, measure: Measure
) -> tuple[NeighbourChoice, dict[str, float]]:
    """The numbers with the best mAP, for either row apart; the configured ones where none is better.

    Give held-out identities, never those that will be tested. k1 and k2 fit the number of pictures that people have
    there, so the people should be seen as often as those of the gallery.

    Args:
        neighbours: of the held-out query and gallery; with lists of :data:`MOST_LISTED` all numbers are tried.
        configured: what the configuration says.
        weight: the second stage's.
        measure: the protocol.

    Returns:
        The numbers, and by stage (individual, two_stage) the mAP that they reach there.
    """
    individual, _, mAP = _best(neighbours, configured.individual, (0.0,), 0.0, measure)
    choice, reached = replace(configured, individual=individual), {"individual": mAP}
    if neighbours.second_stage is not None:
        weights = dict.fromkeys(one for one in (configured.fusion, weight, *_FUSION) if one > 0)
        two_stage, fusion, mAP = _best(neighbours, configured.two_stage, weights, weight, measure)
        choice, reached = replace(choice, two_stage=two_stage, fusion=fusion), reached | {"two_stage": mAP}
    return choice, reached


def _best(
    neighbours: Neighbours, configured: Reranking, fusions: Iterable[float], weight: float, measure: Measure
) -> tuple[Reranking, float, float]:
    """Settings, weight among neighbours, and their mAP."""
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
    """The nearest of all pictures; the pair stage's word on them where it has a weight.

    Args:
        model: see :func:`measure`.
        query: what it extracted.
        gallery: what it extracted.
        distances: what it measured.
        config: the run's.
        choice: with what neighbours will be re-ranked.
        weight: the second stage's.
        device: see :func:`measure`.
        ranks: see there.
        listed: neighbours of each picture to list at least.
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
    """With what neighbours are best re-ranked on held-out identities, see :func:`search_choice`; none: not asked for.

    Where that gains nothing there, a warning says so.

    Raises:
        ValueError: there are no held-out identities.
    """
    configured = configured_choice(config, weight)
    if configured is None:
        return None
    if not query:
        raise ValueError(
            "neighbours.tune chooses on held-out identities, and there are none (data.hold_out 0); leave it out, and "
            "give the numbers"
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
                f"at best, {100 * without:.1f} without. People there may be seen too seldom, or by one camera alone"
            )
    return choice
