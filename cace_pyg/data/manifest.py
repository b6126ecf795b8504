"""A table of one's own pictures."""

from pathlib import Path

from cace_pyg.data.own_pictures import PARTS, Labelled, splits_of
from cace_pyg.data.sample import Splits
from cace_pyg.data.table import read_table

_COLUMNS = ("path", "pid", "split")  # camid may be left out


def read_manifest(path: str | Path) -> Splits:
    """The pictures of a CSV or Parquet table with the columns path, pid, camid (optional) and split.

    Paths are relative to the table's folder, or absolute; split is train, query or gallery; identities and cameras
    are numbers or words, see :func:`cace_pyg.data.own_pictures.splits_of`.

    Args:
        path: see :func:`cace_pyg.data.table.read_table`.

    Raises:
        FileNotFoundError: the table, or a picture in it, is missing.
        ImportError: a Parquet table without pyarrow.
        ValueError: no table, a column is missing, a cell is empty or unknown; names row and column.
    """
    path = Path(path)
    rows = read_table(path)
    missing = [name for name in _COLUMNS if rows and name not in rows[0]]
    if not rows or missing:
        raise ValueError(
            f"Expected rows with the columns path, pid, split, and camid where cameras are known, in {path} "
            f"(got {', '.join(map(str, rows[0])) if rows else 'no row'})"
        )
    return splits_of([_labelled(row, number, path) for number, row in enumerate(rows, start=1)], path)


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
