"""Results as tables and as files."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from cace_pyg.engine.decisions import decisions_of, drift_warning
from cace_pyg.engine.distances import Labels
from cace_pyg.engine.evaluation import Evaluation
from cace_pyg.retrieval import Metrics, OpenSet, SingleShot, evaluate_single_shot
from cace_pyg.retrieval.reliability import Estimate


def single_shots(stages: Mapping[str, Tensor], labels: Labels, seed: int) -> dict[str, SingleShot]:
    """The CMC curves of all stages by CUHK03's protocol, by row name, from ``(query, gallery)`` distances."""
    return {
        f"{name}_single_shot": evaluate_single_shot(distance, **labels, seed=seed) for name, distance in stages.items()
    }


_NAMES = ("mAP", "rank1", "rank5", "rank10", "mINP")


def metrics_table(rows: Mapping[str, Metrics | SingleShot], note: str) -> str:
    """The rows in percent, the note, and how they were measured: like the first row, unless a line says otherwise."""
    width = 2 + max(map(len, rows))
    lines = [f"{'percent':{width}}" + "".join(f"{name:>9}" for name in _NAMES)]
    for name, metrics in rows.items():
        values = metrics.as_dict()
        cells = (f"{100 * values[metric]:9.1f}" if metric in values else f"{'–':>9}" for metric in _NAMES)
        lines.append(f"{name:{width}}" + "".join(cells))
    lines.append(note)
    said: set[str] = set()
    for number, (name, metrics) in enumerate(rows.items()):
        parts = [part.strip() for part in metrics.policy.split(";")]
        new = [part for part in parts if part not in said]
        lines += [f"  {part}" for part in new] if number == 0 else [f"  {name}: {'; '.join(new)}"] if new else []
        said.update(parts)
    return "\n".join(lines)


def as_json(rows: Mapping[str, Metrics | SingleShot]) -> dict[str, dict[str, Any]]:
    """Further rows for ``metrics.json``: fractions, and how each row was measured."""
    return {name: found.as_dict() | {"policy": found.policy} for name, found in rows.items()}


_DIR = "  DIR at FAR: known people found as the nearest and accepted, where this share of unknown people gets a name"


def open_set_table(rows: Mapping[str, OpenSet]) -> str:
    """The decisions of each ranking in percent, with confidence intervals over people."""
    width = 2 + max(map(len, rows), default=0)
    lines = []
    for name, found in rows.items():
        lines.append(f"{f'{name}:':{width}}TPR at FPR {_estimates(found.tpr)}")
        if found.unknown:
            lines.append(f"{'':{width}}DIR at FAR {_estimates(found.dir)}")
    some = next(iter(rows.values()))
    return "\n".join(
        [
            f"decisions, percent [95 % over people]; {some.matches:,} pairs of one person, {some.others:,} of two; "
            f"{some.known:,} queries of known people, {some.unknown:,} of unknown ones",
            *lines,
            "  TPR at FPR: pairs of one person accepted, where this share of the pairs of two people is accepted too",
            *([_DIR] if some.unknown else []),
        ]
    )


def _estimates(measures: Mapping[float, Estimate]) -> str:
    cells = [
        f"{rate:g}: {100 * of.value:.1f} [{100 * of.low:.1f}, {100 * of.high:.1f}]" for rate, of in measures.items()
    ]
    return "   ".join(cells) or "– (too few to tell)"


def metrics_of(
    evaluation: Evaluation, environment: dict[str, str], decisions: Mapping[str, OpenSet] | None = None
) -> dict[str, Any]:
    """The contents of ``metrics.json``: fractions for each stage, and where they come from.

    Args:
        evaluation: of both stages.
        environment: versions, machine, seed.
        decisions: of each ranking; None: those of both stages.
    """
    decisions = decisions_of(evaluation) if decisions is None else decisions
    calibration = evaluation.calibration
    return {
        "individual": evaluation.individual.as_dict(),
        "two_stage": evaluation.two_stage.as_dict(),
        "fusion_weight": evaluation.fusion_weight,
        "backend": evaluation.backend,
        "top_k": evaluation.distances.index.size(1),
        "policy": evaluation.two_stage.policy,
        **as_json({row.name: row.metrics for row in evaluation.neighbours}),
        "open_set": {name: found.as_dict() for name, found in decisions.items()},
        "calibration": calibration.summary() | {"drift": evaluation.drift} if calibration else None,
        "environment": environment,
    }


def queries_of(evaluation: Evaluation) -> list[dict[str, Any]]:
    """The rows of ``queries.csv``: each query that counts, with the result of each stage."""
    stages = evaluation.stages()
    return [
        {"query": evaluation.query.samples[query].path.name}
        | {f"{stage}_average_precision": float(of.average_precision[row]) for stage, of in stages.items()}
        | {f"{stage}_first_match": int(of.first_match[row]) for stage, of in stages.items()}
        for row, query in enumerate(evaluation.individual.query_index)
    ]


def results_table(
    evaluation: Evaluation,
    further: Mapping[str, SingleShot] | None = None,
    decisions: Mapping[str, OpenSet] | None = None,
) -> str:
    """The result rows in percent, and the decisions if they are given, as text."""
    note = f"fusion weight {evaluation.fusion_weight:.2g}; backend {evaluation.backend}"
    table = metrics_table({**evaluation.stages(), **(further or {})}, note)
    if not decisions:
        return table
    return "\n".join([table, open_set_table(decisions), calibration_note(evaluation, decisions)])


def calibration_note(evaluation: Evaluation, decisions: Mapping[str, OpenSet]) -> str:
    """How far the probabilities can be trusted here, in a line or two."""
    calibration, found = evaluation.calibration, decisions["two_stage"]
    if calibration is None or found.reliability is None or found.nearest is None:
        return (
            "probabilities: none, because there is no calibration for the fusion weight "
            f"{evaluation.fusion_weight:.2g}; python -m cace_pyg.calibrate makes one"
        )
    every, nearest = (
        "{:.3f} [{:.3f}, {:.3f}]".format(*reliability.error) for reliability in (found.reliability, found.nearest)
    )
    note = (
        f"probabilities: expected calibration error {every} for compared pairs, {nearest} for each query's nearest; "
        f"learned from {calibration.pairs:,} pairs of {calibration.people} people"
    )
    warning = drift_warning(calibration, evaluation.drift or 0.0, "these pictures")
    doubts = [f"warning: {doubt}" for doubt in calibration.doubts()]
    return "\n".join(line for line in (note, *doubts, warning) if line)
