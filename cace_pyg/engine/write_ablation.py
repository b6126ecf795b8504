"""An ablation's tables and figure."""

from collections.abc import Sequence
from pathlib import Path

from cace_pyg.engine.ablation import RowResult
from cace_pyg.engine.ablation_table import ablation_csv, ablation_markdown
from cace_pyg.engine.atomic_file import atomic_file
from cace_pyg.engine.run_folder import write_csv, write_text
from cace_pyg.engine.studies import PAPER_BASELINES, StudyName
from cace_pyg.retrieval import Difference
from cace_pyg.viz import AblationGain, ablation_gains


def write_ablation(folder: Path, study: StudyName, results: Sequence[RowResult], notes: Sequence[str]) -> list[Path]:
    """Write ``table.md``, ``table.csv``, ``gains.png`` and ``gains.svg``; returns their paths.

    Args:
        folder: for the files.
        study: its name.
        results: the baseline's first.
        notes: lines on origin and protocol, for the table.
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
    mAP, rank1 = result.to_baseline
    base, paper = PAPER_BASELINES.get(study), result.row.paper
    gained = None if base is None or paper is None else (paper[0] - base[0], paper[1] - base[1])
    controls = {one.row.control for one in results}
    ends = (_ends(mAP), _ends(rank1), _seeds(mAP), _seeds(rank1))
    return AblationGain(result.row.name, *ends, gained, result.row.name in controls)


def _ends(found: Difference) -> tuple[float, float, float]:
    return 100 * found.mean, 100 * found.low, 100 * found.high


def _seeds(found: Difference) -> tuple[float, ...]:
    return tuple(100 * one for one in found.seeds)
