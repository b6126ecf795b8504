"""All settings of a run: one typed tree, written as YAML, overridden by dotted options."""

from cace_pyg.config.parsing import config_of, config_parser, differences, from_yaml, parse
from cace_pyg.config.settings import (
    Config,
    EvaluationSettings,
    JointPhaseSettings,
    KReciprocalSettings,
    NeighbourSettings,
    PairPhaseSettings,
    PropagationSettings,
)

__all__ = [
    "Config",
    "EvaluationSettings",
    "JointPhaseSettings",
    "KReciprocalSettings",
    "NeighbourSettings",
    "PairPhaseSettings",
    "PropagationSettings",
    "config_of",
    "config_parser",
    "differences",
    "from_yaml",
    "parse",
]
