"""Prints the tables of a folder of row files."""

import itertools
import json
from pathlib import Path
from typing import Any

from benchmarks.opponents.rows import TRAINED, UNTRAINED
from cace_pyg.retrieval import paired_bootstrap

_RANKINGS = {
    "test": "two stages",
    "two_stage_k_reciprocal": "k-reciprocal re-ranking with neighbours chosen by both stages",
    "two_stage_k_reciprocal_tuned": "the same, with settings chosen on held-out people",
    "two_stage_propagation": "propagation among neighbours chosen by both stages",
    "two_stage_propagation_tuned": "the same, with settings chosen on held-out people",
}


def print_table(out: Path) -> None:
    """Print all rows in a folder, for each depth of the second stage and each measured re-ranking."""
    contents = [json.loads(path.read_text()) for path in sorted(out.glob("*.json"))]
    contents = [content for content in contents if "test" in content]
    untrained = [content for content in contents if content["row"] in UNTRAINED]
    trained = [content for content in contents if content["row"] not in UNTRAINED]
    depths = sorted({int(depth) for content in trained for depth in content.get("deeper", {})})
    for depth, followed in itertools.product((None, *depths), (False, True)):
        for ranking, name in _RANKINGS.items():
            found: dict[str, list[dict[str, Any]]] = {}
            for content in trained:
                rankings = content if depth is None else content.get("deeper", {}).get(str(depth), {})
                rankings = rankings.get("followed", {}) if followed else rankings
                if ranking in rankings:
                    found.setdefault(content["row"], []).append(rankings[ranking])
            if found or (ranking == "test" and not depth and not followed):
                top_k = depth or next((content["settings"]["top_k"] for content in trained), "")
                chosen = f"{top_k} pictures, gallery neighbours followed" if followed else f"top {top_k}"
                print(f"\n{name}, {chosen}" if trained else "")
                _print(found | {content["row"]: [content["test"]] for content in untrained})
    _print_elsewhere(trained)


def _print_elsewhere(trained: list[dict[str, Any]]) -> None:
    rows = [content for content in trained if "elsewhere" in content]
    found: dict[str, list[dict[str, Any]]] = {}
    for content in rows:
        found["individual"] = [content["elsewhere"]["individual"]]
        found.setdefault(content["row"], []).append(content["elsewhere"]["two_stage"])
    if rows:
        print(f"\ntwo stages elsewhere, {rows[0]['settings']['elsewhere']}, top {rows[0]['settings']['top_k']}")
        _print(found)


def _print(found: dict[str, list[dict[str, Any]]]) -> None:
    """Print the gain of each row over the network's own ranking, and the graph's lead over each row."""
    print(f"{'row':22} {'seeds':>5} {'mAP':>6} {'Rank-1':>6}  {'mAP above the network alone':28} the graph above it")
    for row in (*UNTRAINED, *TRAINED):
        if row not in found:
            continue
        mAP, rank1 = (100 * sum(result[name] for result in found[row]) / len(found[row]) for name in ("mAP", "rank1"))
        above = _lead(found[row], found["individual"])
        lead = "" if row == "graph" else _lead(found.get("graph", []), found[row])
        print(f"{row:22} {len(found[row]):5} {mAP:6.2f} {rank1:6.2f}  {above:28} {lead}".rstrip())


def _lead(better: list[dict[str, Any]], worse: list[dict[str, Any]]) -> str:
    """The difference in mAP with its 95 % interval over queries; a row without seeds is compared with all seeds."""
    if len(worse) == 1:
        worse = worse * len(better)
    seeds = min(len(better), len(worse))
    if not seeds:
        return ""
    tables = ([result["average_precision"] for result in rows[:seeds]] for rows in (better, worse))
    found = paired_bootstrap(*tables)
    return f"{100 * found.mean:+.2f} [{100 * found.low:.2f}, {100 * found.high:.2f}]"
