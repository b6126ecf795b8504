"""The report of a run: figures chosen from its log and its evaluation."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from cace_pyg.engine.correspondences import view_pair
from cace_pyg.engine.evaluation import Evaluation
from cace_pyg.models import CaceNet
from cace_pyg.viz import (
    RankedImage,
    Report,
    ReportFigure,
    cmc_curve,
    correspondences,
    loss_curves,
    ranked_lists,
    write_report,
)

_RANKS = 10


def report_run(
    path: Path,
    title: str,
    model: CaceNet,
    evaluation: Evaluation,
    log: list[dict],
    environment: dict[str, str],
    config_yaml: str,
) -> Path:
    """Write ``report.html``; the model is on the CPU, in evaluation mode."""
    figures = [
        ReportFigure("Losses and validation", "Mean of each term over an epoch.", loss_curves(log), "Training"),
        ReportFigure(
            "CMC curve",
            "Share of queries with a right answer among the first k.",
            cmc_curve({"individual": evaluation.individual.cmc, "two_stage": evaluation.two_stage.cmc}),
            "Retrieval",
        ),
    ]
    for query, why in choose_queries(evaluation):
        figures += _query_figures(model, evaluation, query, why)
    report = Report(
        title=title,
        summary=[
            f"{evaluation.individual.num_queries} queries over {len(evaluation.gallery.samples)} gallery pictures. "
            f"The second stage ranks the first {evaluation.distances.index.size(1)} again by "
            f"{1 - evaluation.fusion_weight:.2g} × individual + {evaluation.fusion_weight:.2g} × conditional distance."
        ],
        results={"individual": evaluation.individual.as_dict(), "two_stage": evaluation.two_stage.as_dict()},
        policy=evaluation.two_stage.policy,
        figures=figures,
        environment=environment,
        config_yaml=config_yaml,
    )
    return write_report(path, report)


def choose_queries(evaluation: Evaluation) -> list[tuple[int, str]]:
    """Up to four queries and why they are shown: where the second stage helped and hurt most, and where both fail."""
    before = np.asarray(evaluation.individual.average_precision)
    change = np.asarray(evaluation.two_stage.average_precision) - before
    by_change = np.argsort(-change, kind="stable")
    chosen: dict[int, str] = {}
    for position in by_change[:2]:
        if change[position] > 0:
            chosen[int(position)] = f"helped most: average precision {change[position]:+.2f}"
    if change[by_change[-1]] < 0:
        chosen.setdefault(int(by_change[-1]), f"hurt most: average precision {change[by_change[-1]]:+.2f}")
    hardest = int(np.argmin(np.asarray(evaluation.two_stage.average_precision)))
    chosen.setdefault(hardest, f"hardest: average precision {before[hardest]:.2f}, {change[hardest]:+.2f}")
    index = np.asarray(evaluation.individual.query_index)
    return [(int(index[position]), why) for position, why in chosen.items()]


def _query_figures(model: CaceNet, evaluation: Evaluation, query: int, why: str) -> list[ReportFigure]:
    sample = evaluation.query.samples[query]
    before = evaluation.distances.individual[query]
    after = evaluation.distances.two_stage(evaluation.fusion_weight)[query]
    order_before, order_after = (
        _valid_order(evaluation, query, before),
        _valid_order(evaluation, query, after),
    )
    was = {position: rank for rank, position in enumerate(order_before, start=1)}
    rows = {
        "individual": [_ranked(evaluation, query, position, before) for position in order_before[:_RANKS]],
        "two_stage": [
            _ranked(evaluation, query, position, after, f"was {was[position]}") for position in order_after[:_RANKS]
        ],
    }
    figures = [
        ReportFigure(
            f"Query {sample.path.name}",
            f"Chosen because the second stage {why}." if why[0] == "h" and "most" in why else f"The {why}.",
            ranked_lists(sample.path, rows),
            "Queries",
        )
    ]
    conditional = dict(
        zip(
            evaluation.distances.index[query].tolist(),
            evaluation.distances.conditional[query].tolist(),
            strict=True,
        )
    )
    for is_match in (True, False):
        shown = [
            p for p in order_after if p in conditional and (evaluation.gallery.samples[p].pid == sample.pid) == is_match
        ]
        if shown:
            figures.append(_pair_figure(model, evaluation, query, shown[0], is_match, before, after))
    return figures


def _pair_figure(
    model: CaceNet,
    evaluation: Evaluation,
    query: int,
    position: int,
    is_match: bool,
    before: Tensor,
    after: Tensor,
) -> ReportFigure:
    sample, other = evaluation.query.samples[query], evaluation.gallery.samples[position]
    view = view_pair(model, evaluation.query, query, evaluation.gallery, position)
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
        feature_map_label="‖convolved clue‖",
    )
    what = "right" if is_match else "wrong"
    return ReportFigure(
        f"{sample.path.name} with its nearest {what} picture",
        "Lines: the inter edges that weigh most in the propagation. Maps: how far each clue differs from the clues "
        "it is connected with.",
        figure,
        "Queries",
    )


def _valid_order(evaluation: Evaluation, query: int, distance: Tensor) -> list[int]:
    """Gallery positions by distance, without those the protocol removes for this query."""
    sample = evaluation.query.samples[query]
    gallery = evaluation.gallery.samples
    order = torch.argsort(distance, stable=True).tolist()
    return [p for p in order if (gallery[p].pid, gallery[p].camid) != (sample.pid, sample.camid)]


def _ranked(evaluation: Evaluation, query: int, position: int, distance: Tensor, note: str = "") -> RankedImage:
    sample = evaluation.gallery.samples[position]
    is_match = sample.pid == evaluation.query.samples[query].pid
    return RankedImage(sample.path, is_match, float(distance[position]), note)
