"""Results as tables and as files."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from torch import Tensor

from cace_pyg.config import Config
from cace_pyg.engine.evaluation import Evaluation, Labels
from cace_pyg.retrieval import (
    Metrics,
    SingleShot,
    evaluate,
    evaluate_single_shot,
    k_reciprocal_distance,
)


@dataclass(frozen=True)
class FurtherResults:
    """By name of the row: k-reciprocal re-ranking, and single-shot curves."""

    k_reciprocal: dict[str, Metrics] = field(default_factory=dict)
    single_shot: dict[str, SingleShot] = field(default_factory=dict)

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


def metrics_of(evaluation: Evaluation, environment: dict[str, str]) -> dict[str, Any]:
    """What ``metrics.json`` holds: fractions for both stages, and where they come from."""
    return {
        "individual": evaluation.individual.as_dict(),
        "two_stage": evaluation.two_stage.as_dict(),
        "fusion_weight": evaluation.fusion_weight,
        "backend": evaluation.backend,
        "top_k": evaluation.distances.index.size(1),
        "policy": evaluation.two_stage.policy,
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


def results_table(evaluation: Evaluation, further: FurtherResults = NO_FURTHER_RESULTS) -> str:
    """The result rows in percent, as text."""
    note = f"fusion weight {evaluation.fusion_weight:.2g}; backend {evaluation.backend}"
    return metrics_table({"individual": evaluation.individual, "two_stage": evaluation.two_stage}, further, note)
