"""A table of one's own pictures."""

import csv
from pathlib import Path

from cace_pyg.data.own_pictures import PARTS, Labelled, splits_of
from cace_pyg.data.sample import Splits

_COLUMNS = ("path", "pid", "split")  # camid may be left out


def read_manifest(path: str | Path) -> Splits:
    """The pictures of a CSV or Parquet table with the columns path, pid, camid (optional) and split.

    Paths are relative to the table's folder, or absolute; split is train, query or gallery; identities and cameras
    are numbers or words, see :func:`cace_pyg.data.own_pictures.splits_of`.

    Args:
        path: file ending in .csv or .parquet; the latter needs pyarrow (``pip install cace-pyg[parquet]``).

    Raises:
        FileNotFoundError: the table, or a picture in it, is missing.
        ImportError: a Parquet table without pyarrow.
        ValueError: no table, a column is missing, a cell is empty or unknown; names row and column.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no table at {path} (data.root); expected a .csv or .parquet file")
    rows = _rows(path)
    missing = [name for name in _COLUMNS if rows and name not in rows[0]]
    if not rows or missing:
        raise ValueError(
            f"Expected rows with the columns path, pid, split, and camid where cameras are known, in {path} "
            f"(got {', '.join(map(str, rows[0])) if rows else 'no row'})"
        )
    return splits_of([_labelled(row, number, path) for number, row in enumerate(rows, start=1)], path)


def _rows(path: Path) -> list[dict]:
    if path.suffix.lower() == ".csv":
        try:
            with path.open(newline="", encoding="utf-8-sig") as file:
                return list(csv.DictReader(file))
        except (csv.Error, UnicodeDecodeError) as error:
            raise ValueError(f"cannot read {path} as CSV in UTF-8: {error}") from error
    if path.suffix.lower() != ".parquet":
        raise ValueError(f"Expected a table ending in .csv or .parquet (got {path})")
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise ImportError(
            f"{path} needs pyarrow: pip install pyarrow (or cace-pyg[parquet]), or save the table as .csv"
        ) from error
    try:
        return pyarrow.parquet.read_table(path).to_pylist()
    except pyarrow.ArrowInvalid as error:
        raise ValueError(f"cannot read {path} as Parquet: {error}") from error


def _labelled(row: dict, number: int, table: Path) -> Labelled:
    cells = {name: "" if row.get(name) is None else str(row[name]).strip() for name in (*_COLUMNS, "camid")}
    empty = [name for name in _COLUMNS if not cells[name]]
    if empty:
        raise ValueError(f"Expected a value for {', '.join(empty)} in row {number} of {table} (got an empty cell)")
    if cells["split"] not in PARTS:
        raise ValueError(f"Expected split {', '.join(PARTS)} in row {number} of {table} (got {cells['split']!r})")
    picture = table.parent / cells["path"]
    if not picture.is_file():
        raise FileNotFoundError(f"no picture at {picture}, row {number} of {table}; paths are relative to the table")
    return Labelled(picture, cells["pid"], cells["camid"], cells["split"])
