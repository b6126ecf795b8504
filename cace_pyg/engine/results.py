"""Results as tables and as files."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from torch import Tensor

from cace_pyg.config import Config
from cace_pyg.engine.decisions import decisions_of, drift_warning
from cace_pyg.engine.evaluation import Evaluation, Labels
from cace_pyg.retrieval import (
    Metrics,
    OpenSet,
    SingleShot,
    evaluate,
    evaluate_open_set,
    evaluate_single_shot,
    k_reciprocal_distance,
)
from cace_pyg.retrieval.reliability import Estimate


@dataclass(frozen=True)
class FurtherResults:
    """By name of the row: k-reciprocal re-ranking, its decisions, and single-shot curves."""

    k_reciprocal: dict[str, Metrics] = field(default_factory=dict)
    single_shot: dict[str, SingleShot] = field(default_factory=dict)
    open_set: dict[str, OpenSet] = field(default_factory=dict)

    def as_dict(self) -> dict[str, dict[str, Any]]:
        """For ``metrics.json``."""
        rows: dict[str, Metrics | SingleShot] = {**self.k_reciprocal, **self.single_shot}
        return {name: found.as_dict() | {"policy": found.policy} for name, found in rows.items()}


NO_FURTHER_RESULTS = FurtherResults()


def further_results(
    stages: Mapping[str, Tensor],
    embeddings: tuple[Tensor, Tensor],
    labels: Labels,
    config: Config,
    k_reciprocal: bool,
    single_shot: bool,
) -> FurtherResults:
    """What was asked for beside the protocol's own metrics.

    Args:
        stages: ``(query, gallery)`` distances of each stage; the first are those of the embeddings.
        embeddings: of query and gallery.
        labels: see :func:`cace_pyg.engine.evaluation.labels_of`.
        config: the settings of k-reciprocal re-ranking, and the protocol.
        k_reciprocal: rank with k-reciprocal neighbours (Zhong et al., 2017), from the embeddings, and after each other
            stage, whose distances then take the place of the original ones.
        single_shot: the CMC curve of each stage by CUHK03's protocol.
    """
    settings, policy = config.k_reciprocal, config.evaluation.policy()
    found = FurtherResults()
    for number, (name, distance) in enumerate(stages.items()):
        if k_reciprocal:
            original = distance if number else None
            own = labels["own_position"]
            again = k_reciprocal_distance(
                *embeddings, settings.k1, settings.k2, settings.original_weight, original, own
            )
            row = f"{name}_k_reciprocal" if number else "k_reciprocal"
            metrics = evaluate(again, **labels, **policy)
            found.open_set[row] = evaluate_open_set(again, **labels, same_camera=policy["same_camera"])
            how = f"k-reciprocal: k1 {settings.k1}, k2 {settings.k2}, original weight {settings.original_weight}"
            found.k_reciprocal[row] = replace(metrics, policy=f"{how}; {metrics.policy}")
        if single_shot:
            found.single_shot[f"{name}_single_shot"] = evaluate_single_shot(distance, **labels, seed=config.seed)
    return found


_NAMES = ("mAP", "rank1", "rank5", "rank10", "mINP")


def metrics_table(rows: Mapping[str, Metrics], further: FurtherResults, note: str) -> str:
    """The rows in percent, the note, and how they were measured."""
    every: dict[str, Metrics | SingleShot] = {**rows, **further.k_reciprocal, **further.single_shot}
    width = 2 + max(map(len, every))
    lines = [f"{'percent':{width}}" + "".join(f"{name:>9}" for name in _NAMES)]
    for name, metrics in every.items():
        values = metrics.as_dict()
        cells = (f"{100 * values[one]:9.1f}" if one in values else f"{'–':>9}" for one in _NAMES)
        lines.append(f"{name:{width}}" + "".join(cells))
    lines.append(note)
    for policy in dict.fromkeys(metrics.policy for metrics in every.values()):
        lines += [f"  {line.strip()}" for line in policy.split(";")]
    return "\n".join(lines)


def open_set_table(rows: Mapping[str, OpenSet]) -> str:
    """Decisions of each ranking in percent, with intervals over people."""
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
    """What ``metrics.json`` holds: fractions for both stages, and where they come from.

    Args:
        evaluation: of both stages.
        environment: versions, machine, seed.
        decisions: of each ranking; none: of both stages.
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
        "open_set": {name: found.as_dict() for name, found in decisions.items()},
        "calibration": calibration.summary() | {"drift": evaluation.drift} if calibration else None,
        "environment": environment,
    }


def queries_of(evaluation: Evaluation) -> list[dict[str, Any]]:
    """What ``queries.csv`` holds: each query that counts, and what both stages made of it."""
    stages = {"individual": evaluation.individual, "two_stage": evaluation.two_stage}
    return [
        {"query": evaluation.query.samples[query].path.name}
        | {f"{stage}_average_precision": float(of.average_precision[row]) for stage, of in stages.items()}
        | {f"{stage}_first_match": int(of.first_match[row]) for stage, of in stages.items()}
        for row, query in enumerate(evaluation.individual.query_index)
    ]


def results_table(
    evaluation: Evaluation,
    further: FurtherResults = NO_FURTHER_RESULTS,
    decisions: Mapping[str, OpenSet] | None = None,
) -> str:
    """The result rows in percent, the decisions where they are given, as text."""
    note = f"fusion weight {evaluation.fusion_weight:.2g}; backend {evaluation.backend}"
    table = metrics_table({"individual": evaluation.individual, "two_stage": evaluation.two_stage}, further, note)
    if not decisions:
        return table
    return "\n".join([table, open_set_table(decisions), calibration_note(evaluation, decisions)])


def calibration_note(evaluation: Evaluation, decisions: Mapping[str, OpenSet]) -> str:
    """How far the probabilities can be trusted here, in a line or two."""
    calibration, found = evaluation.calibration, decisions["two_stage"]
    if calibration is None or found.reliability is None or found.nearest is None:
        return (
            f"probabilities: none, there is no calibration for the fusion weight {evaluation.fusion_weight:.2g}; "
            "python -m cace_pyg.calibrate makes one"
        )
    every, nearest = ("{:.3f} [{:.3f}, {:.3f}]".format(*one.error) for one in (found.reliability, found.nearest))
    note = (
        f"probabilities: expected calibration error {every} of the pairs looked at, {nearest} of each query's nearest; "
        f"learned from {calibration.pairs:,} pairs of {calibration.people} people"
    )
    warning = drift_warning(calibration, evaluation.drift or 0.0, "these pictures")
    return "\n".join(line for line in (note, warning) if line)
