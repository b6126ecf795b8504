"""Results as text."""

from collections.abc import Mapping

from cace_pyg.engine.further_results import FurtherResults
from cace_pyg.retrieval import Metrics

_NAMES = ("mAP", "rank1", "rank5", "rank10", "mINP")


def metrics_table(rows: Mapping[str, Metrics], further: FurtherResults, note: str) -> str:
    """The rows in percent, the note, and how they were measured."""
    rows = {**rows, **further.k_reciprocal, **further.single_shot}
    width = 2 + max(map(len, rows))
    lines = [f"{'percent':{width}}" + "".join(f"{name:>9}" for name in _NAMES)]
    for name, metrics in rows.items():
        values = metrics.as_dict()
        cells = (f"{100 * values[one]:9.1f}" if one in values else f"{'–':>9}" for one in _NAMES)
        lines.append(f"{name:{width}}" + "".join(cells))
    lines.append(note)
    for policy in dict.fromkeys(metrics.policy for metrics in rows.values()):
        lines += [f"  {line.strip()}" for line in policy.split(";")]
    return "\n".join(lines)
