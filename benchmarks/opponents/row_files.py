"""A file for each row and seed, with the training settings and the result of every query."""

import json
import os
from pathlib import Path
from typing import Any

from cace_pyg.retrieval import Metrics

_DIGITS = 7


def read_row(path: Path, settings: dict[str, Any]) -> dict[str, Any] | None:
    """The file of a row; None if it has not been computed.

    Raises:
        ValueError: it was computed with other settings.
    """
    if not path.exists():
        return None
    found = json.loads(path.read_text())
    other = {key: found["settings"].get(key) for key in settings if found["settings"].get(key) != settings[key]}
    if other:
        wanted = {key: settings[key] for key in other}
        raise ValueError(f"Expected {path} with settings {wanted} (got {other}); give another folder as --out")
    return found


def write_row(path: Path, content: dict[str, Any]) -> None:
    """Write the file completely or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    partial.write_text(json.dumps(content, ensure_ascii=False) + "\n")
    os.replace(partial, path)


def queries_of(metrics: Metrics) -> dict[str, Any]:
    """The five measures, and average precision and first match of each query that counts; which, unless all do."""
    precision = [round(value, _DIGITS) for value in metrics.average_precision.tolist()]
    left_out = metrics.left_out_absent + metrics.left_out_same_camera
    return {
        **metrics.as_dict(),
        "policy": metrics.policy,
        "query": metrics.query_index.tolist() if left_out else "all",
        "average_precision": precision,
        "first_match": metrics.first_match.tolist(),
    }
