"""Saves a benchmark's results: on the screen, as CSV and as a plot."""

import csv
import os
from collections.abc import Callable
from pathlib import Path

from matplotlib.figure import Figure

from benchmarks.origin import origin

_FOLDER = Path(__file__).parent / "results"
_GAP = "  "


def save_results(name: str, rows: list[dict[str, object]], figure: Figure | None, quick: bool) -> Path:
    """Print ``rows`` as a table and write them to ``results/<name>.csv``, with ``figure`` as PNG next to it.

    Files are written completely or not at all. The CSV starts with ``# `` and :func:`origin`; read it with
    ``comment="#"``. Floats have 4 significant digits, on the screen and in the file; format those that need more or
    fewer.

    Args:
        name: of the benchmark, without extension.
        rows: one dictionary per row, all with the same columns.
        figure: drawn with axes labelled in units; None: no plot.
        quick: the files are ``<name>_quick.*``, which git ignores.

    Returns:
        The path of the CSV.

    Raises:
        ValueError: there are no rows, or rows have different columns.
    """
    _check(rows)
    columns = list(rows[0])
    cells = [[_cell(row[column]) for column in columns] for row in rows]
    print(origin())
    print(_table(columns, cells, [_is_number(rows, column) for column in columns]))
    path = _FOLDER / f"{name}{'_quick' if quick else ''}.csv"
    _FOLDER.mkdir(exist_ok=True)
    _replace(path, lambda partial: _write(partial, [columns, *cells]))
    print(path)
    if figure is not None:
        _replace(path.with_suffix(".png"), lambda partial: figure.savefig(partial, format="png", dpi=150))
        print(path.with_suffix(".png"))
    return path


def _check(rows: list[dict[str, object]]) -> None:
    if not rows:
        raise ValueError("Expected at least one row of results (got none)")
    for number, row in enumerate(rows):
        if list(row) != list(rows[0]):
            raise ValueError(
                f"Expected the same columns in every row, {list(rows[0])} (got {list(row)} in row {number})"
            )


def _cell(value: object) -> str:
    if value is None:
        return ""
    if not isinstance(value, float):
        return str(value)
    # Numbers with more than four digits before the point are rounded to integers: 13370.2 is 13370, not 1.337e+04.
    return f"{value:.0f}" if 1e4 <= abs(value) < 1e15 else f"{value:.4g}"


def _is_number(rows: list[dict[str, object]], column: str) -> bool:
    """Whether all values in a column are numbers, possibly formatted already."""
    try:
        [float(str(row[column]).replace(",", "")) for row in rows if row[column] not in (None, "")]
    except ValueError:
        return False
    return True


def _table(columns: list[str], cells: list[list[str]], to_the_right: list[bool]) -> str:
    lines = [columns, *cells]
    widths = [max(map(len, texts)) for texts in zip(*lines, strict=True)]
    return "\n".join(
        _GAP.join(
            text.rjust(width) if right else text.ljust(width)
            for text, width, right in zip(line, widths, to_the_right, strict=True)
        ).rstrip()
        for line in lines
    )


def _write(path: Path, lines: list[list[str]]) -> None:
    with path.open("w", newline="") as file:
        file.write(f"# {origin()}\n")
        csv.writer(file, lineterminator="\n").writerows(lines)


def _replace(path: Path, write: Callable[[Path], None]) -> None:
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        write(partial)
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
