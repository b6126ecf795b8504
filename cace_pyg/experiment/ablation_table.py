"""The results of an ablation as tables and a figure."""

import math
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from cace_pyg.engine.files import atomic_file, write_csv, write_text
from cace_pyg.experiment.ablation import RowResult
from cace_pyg.experiment.studies import PAPER_BASELINES, StudyName
from cace_pyg.retrieval import Difference
from cace_pyg.viz import AblationGain, ablation_gains


def write_ablation(folder: Path, study: StudyName, results: Sequence[RowResult], notes: Sequence[str]) -> list[Path]:
    """Write ``table.md``, ``table.csv``, ``gains.png`` and ``gains.svg``; returns their paths.

    Args:
        folder: for the files.
        study: its name.
        results: the baseline's first.
        notes: lines about origin and protocol, for the table.
    """
    folder.mkdir(parents=True, exist_ok=True)
    title = f"Ablation: {study}"
    write_text(folder / "table.md", ablation_markdown(results, title, notes))
    write_csv(folder / "table.csv", ablation_csv(results))
    figure = ablation_gains([_drawn(result, study, results) for result in results[1:]], title)
    for kind in ("png", "svg"):
        with atomic_file(folder / f"gains.{kind}") as file:
            figure.savefig(file, format=kind, dpi=150, facecolor="white")
    return [folder / name for name in ("table.md", "table.csv", "gains.png", "gains.svg")]


def _drawn(result: RowResult, study: StudyName, results: Sequence[RowResult]) -> AblationGain:
    assert result.to_baseline is not None  # it is not the baseline's own row
    mAP, rank1 = result.to_baseline
    base, paper = PAPER_BASELINES.get(study), result.row.paper
    gained = None if base is None or paper is None else (paper[0] - base[0], paper[1] - base[1])
    controls = {measured.row.control for measured in results}
    ends = (_ends(mAP), _ends(rank1), _seeds(mAP), _seeds(rank1))
    return AblationGain(result.row.name, *ends, gained, result.row.name in controls)


def _ends(found: Difference) -> tuple[float, float, float]:
    return 100 * found.mean, 100 * found.low, 100 * found.high


def _seeds(found: Difference) -> tuple[float, ...]:
    return tuple(100 * share for share in found.seeds)


_HEAD = (
    "| method | mAP | Rank-1 | mAP gained [95 %] ± seeds | Rank-1 gained [95 %] ± seeds | mAP over its control [95 %] "
    "| fusion weight | paper: mAP, Rank-1 |"
)


def ablation_csv(results: Sequence[RowResult]) -> list[dict[str, Any]]:
    """One row per result, in percent."""
    return [_csv_row(result) for result in results]


def ablation_markdown(results: Sequence[RowResult], title: str, notes: Sequence[str]) -> str:
    """The table in Markdown, with an explanation of each row and how it was measured.

    Args:
        results: the baseline's first.
        title: of the page.
        notes: lines about origin and protocol.
    """
    lines = [f"# {title}", "", _HEAD, "|" + " --- |" * _HEAD.count(" | ") + " --- |"]
    lines += [_markdown_row(result) for result in results]
    lines += ["", *_LEGEND, ""]
    lines += [f"- {measured.row.name}: {measured.row.explanation}." for measured in results if measured.row.explanation]
    lines += ["", *notes]
    return "\n".join(lines) + "\n"


_LEGEND = (
    "Percent; mean ± standard deviation over seeds. Gains are over the individual ranking of the baseline of the same "
    "seed,",
    "paired by query: in brackets the bootstrap interval over queries, after ± the standard deviation over seeds. The",
    "control has everything except what the row tests. The fusion weight is that of the conditional distance, chosen",
    "on held-out people for each seed; with 0 the second stage changes nothing. The paper's figures are from another",
    "data set and network.",
)


def _csv_row(result: RowResult) -> dict[str, Any]:
    row: dict[str, Any] = {"method": result.row.name, "options": " ".join(result.row.options), "seeds": len(result.mAP)}
    for name, values in (("mAP", result.mAP), ("rank1", result.rank1), ("individual_mAP", result.individual_mAP)):
        row |= {name: _percent(fmean(values)), f"{name}_std": _percent(_std(values))}
    for other, differences in (("baseline", result.to_baseline), ("control", result.to_control)):
        for name, found in zip(("mAP", "rank1"), differences or (None, None), strict=True):
            row |= {f"{name}_over_{other}_{part}": value for part, value in _parts(found).items()}
    row["control"] = result.row.control or ""
    row["fusion_weights"] = _weights(result)
    row["paper_mAP"], row["paper_rank1"] = result.row.paper or ("", "")
    return row


def _parts(found: Difference | None) -> dict[str, object]:
    if found is None:
        return {"mean": "", "low": "", "high": "", "std": "", "seeds": ""}
    parts = {"mean": found.mean, "low": found.low, "high": found.high, "std": found.spread}
    return {name: _percent(value) for name, value in parts.items()} | {
        "seeds": " ".join(f"{100 * share:.2f}" for share in found.seeds)
    }


def _markdown_row(result: RowResult) -> str:
    gained = [_gain(difference) for difference in result.to_baseline or (None, None)]
    over = "" if result.to_control is None else _interval(result.to_control[0])
    paper = "" if result.row.paper is None else f"{result.row.paper[0]:.2f}, {result.row.paper[1]:.2f}"
    cells = [result.row.name, _mean(result.mAP), _mean(result.rank1), *gained, over, _weights(result), paper]
    return f"| {' | '.join(cells)} |"


def _weights(result: RowResult) -> str:
    """Once where all seeds have the same."""
    weights = [f"{weight:.2g}" for weight in result.fusion_weights]
    return " ".join(weights[:1] if len(set(weights)) == 1 else weights)


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
