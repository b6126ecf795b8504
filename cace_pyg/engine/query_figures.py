"""A few queries before and after the second stage, and what it saw in them."""

import numpy as np
from matplotlib.figure import Figure
from torch import Tensor

from cace_pyg.engine.evaluation import Evaluation
from cace_pyg.engine.pair_view import view_pair
from cace_pyg.models import CaceNet
from cace_pyg.retrieval import rank
from cace_pyg.viz import RankedImage, ReportFigure, correspondences, ranked_lists

_RANKS = 10
_LINES = "Lines: the inter edges that weigh most in the propagation. Maps: how far each clue differs "


def choose_queries(evaluation: Evaluation) -> list[tuple[int, str]]:
    """Up to four queries and why: the two that the second stage helped most, the one it hurt most, the hardest."""
    before = evaluation.individual.average_precision
    after = evaluation.two_stage.average_precision
    change = after - before
    by_change = np.argsort(-change, kind="stable")
    candidates = [(position, "The second stage helped most here") for position in by_change[:2] if change[position] > 0]
    if change[by_change[-1]] < 0:
        candidates.append((by_change[-1], "The second stage hurt most here"))
    candidates.append((np.argmin(after), "The hardest query"))
    chosen: dict[int, str] = {}
    for position, why in candidates:
        text = f"{why}: average precision {before[position]:.2f} before, {after[position]:.2f} after."
        chosen.setdefault(int(evaluation.individual.query_index[position]), text)
    return list(chosen.items())


def query_figures(model: CaceNet, evaluation: Evaluation, query: int, why: str) -> list[ReportFigure]:
    """The ranked lists of one query before and after, and the pair graphs with its nearest right and wrong picture.

    Args:
        model: on the CPU, in evaluation mode.
        evaluation: of query and gallery.
        query: position of the query.
        why: the caption.
    """
    sample = evaluation.query.samples[query]
    before, after = _distances(evaluation, query)
    figures = [ReportFigure(f"Query {sample.path.name}", why, query_lists(evaluation, query), "Queries")]
    second_stage = set(evaluation.distances.index[query].tolist())
    for is_match in (True, False):
        for position in _valid_order(evaluation, query, after):
            if position in second_stage and _matches(evaluation, query, position) == is_match:
                figures.append(_pair_figure(model, evaluation, query, position, before, after))
                break
    return figures


def query_lists(evaluation: Evaluation, query: int) -> Figure:
    """The ranked lists of one query, by the individual embedding and after the second stage.

    Args:
        evaluation: of query and gallery.
        query: position of the query.
    """
    before, after = _distances(evaluation, query)
    order_before, order_after = (_valid_order(evaluation, query, distance) for distance in (before, after))
    was = {position: rank for rank, position in enumerate(order_before, start=1)}
    rows = {
        "individual": [_ranked(evaluation, query, position, before) for position in order_before[:_RANKS]],
        "two_stage": [_ranked(evaluation, query, p, after, f"was {was[p]}") for p in order_after[:_RANKS]],
    }
    return ranked_lists(evaluation.query.samples[query].path, rows)


def _distances(evaluation: Evaluation, query: int) -> tuple[Tensor, Tensor]:
    """To every gallery image, before and after the second stage."""
    distances, row = evaluation.distances, slice(query, query + 1)
    return distances.individual(row)[0], distances.two_stage(evaluation.fusion_weight, row)[0]


def _pair_figure(
    model: CaceNet, evaluation: Evaluation, query: int, position: int, before: Tensor, after: Tensor
) -> ReportFigure:
    sample, other = evaluation.query.samples[query], evaluation.gallery.samples[position]
    view = view_pair(model, evaluation.query.prepared_of(query), evaluation.gallery.prepared_of(position))
    is_match = _matches(evaluation, query, position)
    figure = correspondences(
        sample.path,
        other.path,
        view.matches,
        view.grid,
        pid_a=sample.pid,
        pid_b=other.pid,
        distance_before=float(before[position]),
        distance_after=float(after[position]),
        is_match=is_match,
        feature_map_a=view.discrepancy_a,
        feature_map_b=view.discrepancy_b,
        feature_map_label=view.discrepancy_label,
    )
    title = f"{sample.path.name} with its nearest {'right' if is_match else 'wrong'} picture"
    return ReportFigure(title, _LINES + "from the clues it is connected with.", figure, "Queries")


def _matches(evaluation: Evaluation, query: int, position: int) -> bool:
    return evaluation.gallery.samples[position].pid == evaluation.query.samples[query].pid


def _valid_order(evaluation: Evaluation, query: int, distance: Tensor) -> list[int]:
    """Gallery positions by distance, without those the protocol removes for this query."""
    sample, gallery = evaluation.query.samples[query], evaluation.gallery.samples
    order = rank(distance[None])[0].tolist()
    return [position for position in order if (gallery[position].pid, gallery[position].camid) != sample[1:]]


def _ranked(evaluation: Evaluation, query: int, position: int, distance: Tensor, note: str = "") -> RankedImage:
    path = evaluation.gallery.samples[position].path
    return RankedImage(path, _matches(evaluation, query, position), float(distance[position]), note)
