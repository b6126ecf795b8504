"""The results of an ablation as tables."""

import math
from collections.abc import Sequence
from statistics import fmean, stdev

from cace_pyg.engine.ablation import RowResult
from cace_pyg.retrieval import Difference

_HEAD = (
    "| method | mAP | Rank-1 | mAP gained [95 %] ± seeds | Rank-1 gained [95 %] ± seeds | mAP over its control [95 %] "
    "| paper: mAP, Rank-1 |"
)


def ablation_csv(results: Sequence[RowResult]) -> list[dict]:
    """One row a result; percent."""
    return [_csv_row(result) for result in results]


def ablation_markdown(results: Sequence[RowResult], title: str, notes: Sequence[str]) -> str:
    """A table to read, what each row is, and how it was measured.

    Args:
        results: the baseline's first.
        title: of the page.
        notes: lines on origin and protocol.
    """
    lines = [f"# {title}", "", _HEAD, "| --- | --- | --- | --- | --- | --- | --- |"]
    lines += [_markdown_row(result) for result in results]
    lines += ["", *_LEGEND, ""]
    lines += [f"- {one.row.name}: {one.row.explanation}." for one in results if one.row.explanation]
    lines += ["", *notes]
    return "\n".join(lines) + "\n"


_LEGEND = (
    "Percent; mean ± standard deviation over seeds. Gains are over the individual ranking of the baseline of the same "
    "seed,",
    "paired by query: in brackets the bootstrap interval over queries, after ± the standard deviation over seeds. The",
    "control has everything but what the row is about. The paper's figures are of another data set and network.",
)


def _csv_row(result: RowResult) -> dict:
    row = {"method": result.row.name, "options": " ".join(result.row.options), "seeds": len(result.mAP)}
    for name, values in (("mAP", result.mAP), ("rank1", result.rank1), ("individual_mAP", result.individual_mAP)):
        row |= {name: _percent(fmean(values)), f"{name}_std": _percent(_std(values))}
    for other, differences in (("baseline", result.to_baseline), ("control", result.to_control)):
        for name, found in zip(("mAP", "rank1"), differences or (None, None), strict=True):
            row |= {f"{name}_over_{other}_{part}": value for part, value in _parts(found).items()}
    row["control"] = result.row.control or ""
    row["paper_mAP"], row["paper_rank1"] = result.row.paper or ("", "")
    return row


def _parts(found: Difference | None) -> dict[str, object]:
    if found is None:
        return {"mean": "", "low": "", "high": "", "std": "", "seeds": ""}
    parts = {"mean": found.mean, "low": found.low, "high": found.high, "std": found.spread}
    return {name: _percent(value) for name, value in parts.items()} | {
        "seeds": " ".join(f"{100 * one:.2f}" for one in found.seeds)
    }


def _markdown_row(result: RowResult) -> str:
    gained = [_gain(one) for one in result.to_baseline or (None, None)]
    over = "" if result.to_control is None else _interval(result.to_control[0])
    paper = "" if result.row.paper is None else f"{result.row.paper[0]:.2f}, {result.row.paper[1]:.2f}"
    cells = [result.row.name, _mean(result.mAP), _mean(result.rank1), *gained, over, paper]
    return f"| {' | '.join(cells)} |"


def _gain(found: Difference | None) -> str:
    return (
        "" if found is None else _interval(found) + ("" if math.isnan(found.spread) else f" ± {100 * found.spread:.1f}")
    )


def _interval(found: Difference) -> str:
    return f"{100 * found.mean:+.1f} [{100 * found.low:+.1f}, {100 * found.high:+.1f}]"


def _mean(values: Sequence[float]) -> str:
    spread = _std(values)
    return f"{100 * fmean(values):.1f}" + ("" if math.isnan(spread) else f" ± {100 * spread:.1f}")


def _std(values: Sequence[float]) -> float:
    return stdev(values) if len(values) > 1 else float("nan")


def _percent(value: float) -> float:
    return round(100 * value, 3)
