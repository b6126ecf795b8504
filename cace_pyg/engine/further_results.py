"""Other rankings and other measures of the same embeddings."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from torch import Tensor

from cace_pyg.config import Config
from cace_pyg.retrieval import Metrics, SingleShot, evaluate, evaluate_single_shot, k_reciprocal_distance


@dataclass(frozen=True)
class FurtherResults:
    """By name of the row: k-reciprocal re-ranking, and single-shot curves."""

    k_reciprocal: dict[str, Metrics] = field(default_factory=dict)
    single_shot: dict[str, SingleShot] = field(default_factory=dict)

    def as_dict(self) -> dict[str, dict]:
        """For ``metrics.json``."""
        rows = {**self.k_reciprocal, **self.single_shot}
        return {name: found.as_dict() | {"policy": found.policy} for name, found in rows.items()}


NO_FURTHER_RESULTS = FurtherResults()


def further_results(
    stages: Mapping[str, Tensor],
    embeddings: tuple[Tensor, Tensor],
    labels: tuple[Tensor, Tensor, Tensor, Tensor],
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
    settings = config.evaluation
    found = FurtherResults()
    for number, (name, distance) in enumerate(stages.items()):
        if k_reciprocal:
            original = distance if number else None
            again = k_reciprocal_distance(*embeddings, settings.k1, settings.k2, settings.original_weight, original)
            row = f"{name}_k_reciprocal" if number else "k_reciprocal"
            metrics = evaluate(again, *labels, **settings.policy())
            how = f"k-reciprocal: k1 {settings.k1}, k2 {settings.k2}, original weight {settings.original_weight}"
            found.k_reciprocal[row] = replace(metrics, policy=f"{how}; {metrics.policy}")
        if single_shot:
            found.single_shot[f"{name}_single_shot"] = evaluate_single_shot(distance, *labels, seed=config.seed)
    return found
