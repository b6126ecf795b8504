"""The report of a run: figures from its log and its evaluation, and ranked lists of some queries."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from torch import Tensor

from cace_pyg.config import Config
from cace_pyg.data.read_dataset import read_splits
from cace_pyg.engine.checkpoint import load_model
from cace_pyg.engine.evaluation import Evaluation, evaluate_model
from cace_pyg.engine.results import calibration_note, open_set_table
from cace_pyg.explain.pair_view import view_pair
from cace_pyg.models import CaceNet
from cace_pyg.retrieval import OpenSet, rank
from cace_pyg.viz import (
    RankedImage,
    Report,
    ReportFigure,
    cmc_curve,
    correspondences,
    loss_curves,
    ranked_lists,
    reliability_diagram,
    roc_curve,
    write_report,
)


def report_run(
    path: Path,
    title: str,
    model: CaceNet,
    evaluation: Evaluation,
    decisions: Mapping[str, OpenSet],
    second_stage: bool,
    log: list[dict[str, Any]],
    environment: dict[str, str],
    config_yaml: str,
) -> Path:
    """Write ``report.html``.

    Args:
        path: the file.
        title: its heading.
        model: on the CPU, in evaluation mode.
        evaluation: of query and gallery.
        decisions: of each stage, see :func:`cace_pyg.engine.decisions.decisions_of`.
        second_stage: whether the pair branch was trained; otherwise the report only shows the individual ranking.
        log: rows of ``log.csv``.
        environment: versions, machine, command, seed, data-set fingerprint.
        config_yaml: the whole configuration.
    """
    stages = {"individual": evaluation.individual}
    if second_stage:
        stages["two_stage"] = evaluation.two_stage
    stages |= {row.name: row.metrics for row in evaluation.neighbours}
    curves = {name: metrics.cmc for name, metrics in stages.items()}
    figures = [
        ReportFigure("Losses and validation", "Mean of each term over an epoch.", loss_curves(log), "Training"),
        ReportFigure("CMC", "Share of queries with a match among the first k.", cmc_curve(curves), "Retrieval"),
        *decision_figures({name: found for name, found in decisions.items() if name in stages}),
    ]
    if second_stage:
        for query, why in choose_queries(evaluation):
            figures += query_figures(model, evaluation, query, why)
    report = Report(
        title=title,
        summary=[
            _summary(evaluation, second_stage),
            *_neighbours(evaluation),
            *_decided(evaluation, decisions, second_stage),
        ],
        results={name: metrics.as_dict() for name, metrics in stages.items()},
        policy=evaluation.individual.policy,
        figures=figures,
        environment=environment,
        config_yaml=config_yaml,
    )
    return write_report(path, report)


def _summary(evaluation: Evaluation, second_stage: bool) -> str:
    sizes = f"{evaluation.individual.num_queries} queries over {len(evaluation.gallery.samples)} gallery pictures. "
    if not second_stage:
        return sizes + "The pair branch was not trained, so there is no second stage."
    weight = evaluation.fusion_weight
    return sizes + (
        f"The second stage re-ranks {evaluation.distances.index.size(1)} pictures for each query by "
        f"{1 - weight:.2g} × individual + {weight:.2g} × conditional distance."
    )


def _neighbours(evaluation: Evaluation) -> list[str]:
    """How the rows of re-ranking by neighbours were computed."""
    known = evaluation.individual.policy.split("; ")
    return [
        f"{row.name}: {'; '.join(part for part in row.metrics.policy.split('; ') if part not in known)}."
        for row in evaluation.neighbours
    ]


def decision_figures(decisions: Mapping[str, OpenSet]) -> list[ReportFigure]:
    """The ROC of each ranking, and the reliability of the probabilities if there are any."""
    if not decisions:
        return []
    some = next(iter(decisions.values()))
    caption = f"One threshold for all queries: {some.matches:,} pairs of one person, {some.others:,} of two."
    figures = [ReportFigure("ROC", caption, roc_curve({name: of.roc for name, of in decisions.items()}), "Retrieval")]
    for found in decisions.values():
        if found.reliability is not None:
            curve, error = found.reliability, found.reliability.error
            drawn = reliability_diagram(curve.predicted, curve.observed, curve.count, error.value)
            caption = (
                f"For the pairs that the second stage compared: expected calibration error {error.value:.3f} "
                f"[{error.low:.3f}, {error.high:.3f}]. A probability is no proof of identity."
            )
            figures.append(ReportFigure("Reliability of the probabilities", caption, drawn, "Retrieval"))
    return figures


def _decided(evaluation: Evaluation, decisions: Mapping[str, OpenSet], second_stage: bool) -> list[str]:
    if not decisions:
        return []
    stages = {name: found for name, found in decisions.items() if second_stage or name == "individual"}
    lines = [re.sub(" {3,}(?=[0-9])", "; ", line) for line in open_set_table(stages).splitlines()]
    lines = [
        re.sub(r"(?<=[0-9,]) (?=[\[0-9])", "\N{NO-BREAK SPACE}", line) for line in lines
    ]  # no break in an interval
    return [*lines, *(calibration_note(evaluation, decisions).splitlines() if second_stage else [])]


def draw_ranked_lists(checkpoint: Path, config: Config, queries: Sequence[str] = ()) -> dict[str, Figure]:
    """Evaluate a model on its data set and draw the first ten of some queries' ranked lists.

    Args:
        checkpoint: ``best.ckpt`` or ``last.ckpt`` of a run.
        config: the checkpoint's, or one with other settings that its weights still fit.
        queries: file names of queries; none given: the two that the second stage helped most, the one it hurt most,
            and the hardest.

    Returns:
        The figure of :func:`cace_pyg.viz.ranked_lists` for each query's file name.

    Raises:
        FileNotFoundError: there is no such data set or checkpoint.
        ValueError: there is no such query, or the checkpoint does not fit.
    """
    splits = read_splits(config.data)
    model, state = load_model(checkpoint, config)
    chosen = _positions([sample.path.name for sample in splits.query], queries)
    evaluation = evaluate_model(model, splits.query, splits.gallery, config, state["fusion_weight"])
    positions = chosen or [position for position, _ in choose_queries(evaluation)]
    return {_name(evaluation, position): query_lists(evaluation, position) for position in positions}


def _positions(names: list[str], queries: Sequence[str]) -> list[int]:
    unknown = [query for query in queries if query not in names]
    if unknown:
        raise ValueError(
            f"Expected --query to name pictures among the data set's {len(names)} queries, such as {names[0]} "
            f"(got {', '.join(unknown)})"
        )
    return [names.index(query) for query in queries]


def _name(evaluation: Evaluation, position: int) -> str:
    return evaluation.query.samples[position].path.name


_RANKS = 10
_LINES = "Lines: the inter edges with the largest share in the propagation. Maps: how much each clue differs "


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
    """The ranked lists of one query: by the individual embedding, after the second stage, by neighbours if asked for.

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
    for row in evaluation.neighbours[-1:]:
        last = row.ranking.distance(slice(query, query + 1))[0]
        order = _valid_order(evaluation, query, last)[:_RANKS]
        rows[row.name] = [_ranked(evaluation, query, p, last, f"was {was[p]}") for p in order]
    return ranked_lists(evaluation.query.samples[query].path, rows)


def _distances(evaluation: Evaluation, query: int) -> tuple[Tensor, Tensor]:
    """The distances to every gallery image, before and after the second stage."""
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
        note=view.verdict,
    )
    title = f"{sample.path.name} with its nearest {'right' if is_match else 'wrong'} picture"
    return ReportFigure(title, _LINES + "from the clues it is connected with.", figure, "Queries")


def _matches(evaluation: Evaluation, query: int, position: int) -> bool:
    return evaluation.gallery.samples[position].pid == evaluation.query.samples[query].pid


def _valid_order(evaluation: Evaluation, query: int, distance: Tensor) -> list[int]:
    """Gallery positions by distance, without those that the protocol removes for this query."""
    sample, gallery = evaluation.query.samples[query], evaluation.gallery.samples
    order = [position for position in rank(distance[None])[0].tolist() if gallery[position].path != sample.path]
    if evaluation.same_camera == "keep":
        return order
    return [position for position in order if (gallery[position].pid, gallery[position].camid) != sample[1:3]]


def _ranked(evaluation: Evaluation, query: int, position: int, distance: Tensor, note: str = "") -> RankedImage:
    path = evaluation.gallery.samples[position].path
    return RankedImage(path, _matches(evaluation, query, position), float(distance[position]), note)
