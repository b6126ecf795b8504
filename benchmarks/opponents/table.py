"""The table of what a folder of row files holds."""

import json
from pathlib import Path
from typing import Any

from benchmarks.opponents.rows import TRAINED, UNTRAINED
from cace_pyg.retrieval import paired_bootstrap


def print_table(out: Path) -> None:
    """All rows in a folder, their gain over the network's own ranking, and the graph's lead over each."""
    found: dict[str, list[dict[str, Any]]] = {}
    for path in sorted(out.glob("*.json")):
        content = json.loads(path.read_text())
        if "test" in content:
            found.setdefault(content["row"], []).append(content)
    print(f"{'row':22} {'seeds':>5} {'mAP':>6} {'Rank-1':>6}  {'mAP above the network alone':28} the graph above it")
    for row in (*UNTRAINED, *TRAINED):
        if row not in found:
            continue
        ours = [one["test"] for one in found[row]]
        mAP, rank1 = (100 * sum(one[name] for one in ours) / len(ours) for name in ("mAP", "rank1"))
        above = _lead(found[row], found["individual"])
        lead = "" if row == "graph" else _lead(found.get("graph", []), found[row])
        print(f"{row:22} {len(ours):5} {mAP:6.2f} {rank1:6.2f}  {above:28} {lead}".rstrip())


def _lead(better: list[dict[str, Any]], worse: list[dict[str, Any]]) -> str:
    """The difference in mAP with its 95 % interval over queries; what has no seeds stands beside all of the other's."""
    if len(worse) == 1:
        worse = worse * len(better)
    seeds = min(len(better), len(worse))
    if not seeds:
        return ""
    tables = ([one["test"]["average_precision"] for one in rows[:seeds]] for rows in (better, worse))
    found = paired_bootstrap(*tables)
    return f"{100 * found.mean:+.2f} [{100 * found.low:.2f}, {100 * found.high:.2f}]"
