"""Reads tables from files."""

import csv
import re
from pathlib import Path
from typing import Any

TABLES = (".csv", ".parquet")  # endings
_NOTHING = ("", "nan", "NaN", "<NA>", "NaT")  # missing values as pandas and numpy write them; Nan is a name


def read_table(path: Path) -> list[dict[str, Any]]:
    """The rows of a CSV (UTF-8, with a header) or Parquet file, by column; the cells of CSV are text.

    An empty cell is None, and so are the usual markers of missing values: NaN, ``nan``, ``<NA>``, ``NaT``.

    Args:
        path: file ending in .csv or .parquet; the latter needs pyarrow (``pip install cace-pyg[parquet]``).

    Raises:
        FileNotFoundError: there is no such file.
        ImportError: it is a Parquet table and pyarrow is missing.
        ValueError: it is not such a table.
    """
    if not path.is_file():
        raise FileNotFoundError(f"no table at {path}; expected a .csv or .parquet file")
    if path.suffix.lower() not in TABLES:
        raise ValueError(f"Expected a table ending in .csv or .parquet (got {path})")
    rows = _read_csv(path) if path.suffix.lower() == ".csv" else _read_parquet(path)
    return [{name: None if _is_empty(cell) else cell for name, cell in row.items()} for row in rows]


def label(cell: Any) -> str:
    """The identity or camera of a cell as text; empty for None.

    An integer is the same label whether it is written as 12 or as 12.0, as pandas does in columns with empty cells.
    """
    word = "" if cell is None else str(cell).strip()
    return re.sub(r"(?a)^(-?\d+)\.0+$", r"\1", word)


def _is_empty(cell: Any) -> bool:
    return cell is None or cell != cell or (isinstance(cell, str) and cell.strip() in _NOTHING)


def _read_csv(path: Path) -> list[dict[str, Any]]:
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = list(csv.DictReader(file))
    except (csv.Error, UnicodeDecodeError) as error:
        raise ValueError(f"cannot read {path} as CSV in UTF-8: {error}") from error
    long = [number for number, row in enumerate(rows, start=1) if None in row]
    if long:
        raise ValueError(f"Expected as many cells as the header has in row {long[0]} of {path} (got more)")
    return rows


def _without_nanoseconds(table: Any) -> Any:
    """Times in microseconds: without pandas, Arrow refuses finer ones, and with pandas they would be pandas' type."""
    import pyarrow

    for place, field in enumerate(table.schema):
        if pyarrow.types.is_timestamp(field.type) and field.type.unit == "ns":
            kind = pyarrow.timestamp("us", field.type.tz)
            table = table.set_column(place, field.name, table.column(place).cast(kind, safe=False))
    return table


def _read_parquet(path: Path) -> list[dict[str, Any]]:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise ImportError(
            f"{path} needs pyarrow: pip install pyarrow (or cace-pyg[parquet]), or save the table as .csv"
        ) from error
    try:
        return _without_nanoseconds(pyarrow.parquet.read_table(path)).to_pylist()
    except pyarrow.ArrowInvalid as error:
        raise ValueError(f"cannot read {path} as Parquet: {error}") from error
