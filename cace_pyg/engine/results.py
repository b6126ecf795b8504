"""Results as tables and as files."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from cace_pyg.engine.evaluation import Evaluation, Labels
from cace_pyg.retrieval import Metrics, SingleShot, evaluate_single_shot


def single_shots(stages: Mapping[str, Tensor], labels: Labels, seed: int) -> dict[str, SingleShot]:
    """By name of the row the CMC curve of each stage by CUHK03's protocol, from ``(query, gallery)`` distances."""
    return {f"{name}_single_shot": evaluate_single_shot(one, **labels, seed=seed) for name, one in stages.items()}


_NAMES = ("mAP", "rank1", "rank5", "rank10", "mINP")


def metrics_table(rows: Mapping[str, Metrics | SingleShot], note: str) -> str:
    """The rows in percent, the note, and how they were measured: all as the first, but for what is said of a row."""
    width = 2 + max(map(len, rows))
    lines = [f"{'percent':{width}}" + "".join(f"{name:>9}" for name in _NAMES)]
    for name, metrics in rows.items():
        values = metrics.as_dict()
        cells = (f"{100 * values[one]:9.1f}" if one in values else f"{'–':>9}" for one in _NAMES)
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
    """What ``metrics.json`` holds of further rows: fractions, and how each was measured."""
    return {name: found.as_dict() | {"policy": found.policy} for name, found in rows.items()}


def metrics_of(evaluation: Evaluation, environment: dict[str, str]) -> dict[str, Any]:
    """What ``metrics.json`` holds: fractions for each stage, and where they come from."""
    return {
        "individual": evaluation.individual.as_dict(),
        "two_stage": evaluation.two_stage.as_dict(),
        "fusion_weight": evaluation.fusion_weight,
        "backend": evaluation.backend,
        "top_k": evaluation.distances.index.size(1),
        "policy": evaluation.two_stage.policy,
        **as_json({row.name: row.metrics for row in evaluation.neighbours}),
        "environment": environment,
    }


def queries_of(evaluation: Evaluation) -> list[dict[str, Any]]:
    """What ``queries.csv`` holds: each query that counts, and what each stage made of it."""
    stages = evaluation.stages()
    return [
        {"query": evaluation.query.samples[query].path.name}
        | {f"{stage}_average_precision": float(of.average_precision[row]) for stage, of in stages.items()}
        | {f"{stage}_first_match": int(of.first_match[row]) for stage, of in stages.items()}
        for row, query in enumerate(evaluation.individual.query_index)
    ]


def results_table(evaluation: Evaluation, further: Mapping[str, SingleShot] | None = None) -> str:
    """The result rows in percent, as text."""
    note = f"fusion weight {evaluation.fusion_weight:.2g}; backend {evaluation.backend}"
    return metrics_table({**evaluation.stages(), **(further or {})}, note)
