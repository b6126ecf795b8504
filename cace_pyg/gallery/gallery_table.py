"""The table of a gallery in LanceDB."""

import json
import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike

Value = str | int | float | bool | datetime | None


@dataclass(frozen=True)
class Entry:
    """One image of a gallery.

    Attributes:
        image: what it is called: the absolute path of its file, or ``sha256:…`` of a picture that came without one.
            No two entries of a gallery have one name.
        sha256: of the file's bytes, or of the pixels: whether a picture of one name is still the same.
        embedding: unit-length individual embedding.
        clues: the second stage's input, see :class:`~cace_pyg.gallery.clue_codec.ClueCodec`.
        thumbnail: a JPEG to show.
        camera: any word; none: unknown.
        time: when it was taken; none: unknown.
        metadata: anything else, by column.
    """

    image: str
    sha256: str
    embedding: ArrayLike
    clues: bytes
    thumbnail: bytes
    camera: str | None = None
    time: datetime | None = None
    metadata: Mapping[str, Value] = field(default_factory=dict)


class FilterError(ValueError):
    """What is wrong with a filter from outside."""


_NAME = "images"
_ABOUT = b"cace_pyg.gallery"
_OWN = ("image", "sha256", "embedding", "clues", "thumbnail", "camera", "time", "added")
_COLUMN = r"[a-z][a-z0-9_]*"
_SQL = {bool: "boolean", int: "bigint", float: "double", str: "string", datetime: "timestamp"}
_KEY = b"lance-schema:unenforced-primary-key"  # the start of what Lance notes at the column
_PATIENCE = timedelta(minutes=10)  # for commits of others that were sooner
_TRIES = 20  # of a change of columns, each time that another writer was sooner
_OUTDATED = timedelta(minutes=1)  # nobody reads or writes from an older version any more
_INDEX_FROM = 50_000  # rows; below, an exhaustive search of the embeddings takes less than 50 ms
_PROBES, _REFINE = 20, 2
_INDEX_AGAIN = 0.2  # share of the rows that came after the index was made


class GalleryTable:
    """Rows of :class:`Entry` under one name each; every change is one commit, seen whole or not at all.

    Args:
        folder: of the gallery; the table is ``folder/images.lance``.

    Raises:
        RuntimeError: LanceDB is not installed.
        FileNotFoundError: there is no table.
    """

    def __init__(self, folder: Path):
        lancedb = _lancedb()
        if not (folder / f"{_NAME}.lance").is_dir():
            raise FileNotFoundError(
                f"there is no gallery at {folder}; make one with python -m cace_pyg.search index FOLDER --gallery "
                f"{folder} --checkpoint RUN_DIR/checkpoints/best.ckpt"
            )
        database = lancedb.connect(folder, read_consistency_interval=timedelta(0))  # others may write, too
        self._table = database.open_table(_NAME)

    @classmethod
    def create(cls, folder: Path, embedding_channels: int, about: Mapping[str, Any]) -> "GalleryTable":
        """An empty table; ``about`` stays with it.

        Raises:
            RuntimeError: LanceDB is not installed.
            ValueError: there is a table already.
        """
        database = _lancedb().connect(folder)
        import pyarrow as pa

        schema = pa.schema(
            [
                pa.field("image", pa.string(), nullable=False),
                pa.field("sha256", pa.string(), nullable=False),
                pa.field("embedding", pa.list_(pa.float16(), embedding_channels), nullable=False),
                pa.field("clues", pa.binary(), nullable=False),
                pa.field("thumbnail", pa.binary(), nullable=False),
                pa.field("camera", pa.string()),
                pa.field("time", pa.timestamp("us")),
                pa.field("added", pa.timestamp("us"), nullable=False),
            ],
            metadata={_ABOUT: json.dumps(dict(about)).encode()},
        )
        database.create_table(_NAME, schema=schema)
        table = cls(folder)
        table.declare_key()
        return table

    @property
    def about(self) -> dict[str, Any]:
        """What :meth:`create` was given."""
        return json.loads(self._table.schema.metadata[_ABOUT])

    @property
    def metadata_columns(self) -> dict[str, str]:
        """Columns beside those that every gallery has, and what Arrow calls their type."""
        return {field.name: str(field.type) for field in self._table.schema if field.name not in _OWN}

    def __len__(self) -> int:
        return self._table.count_rows()

    def declare_key(self) -> None:
        """Tell Lance that no two rows have one name, else two writers could each insert the same new one unnoticed."""
        for left in reversed(range(_TRIES)):
            if any(name.startswith(_KEY) for name in self._table.schema.field("image").metadata or {}):
                return
            try:
                self._table.set_unenforced_primary_key("image")
            except (RuntimeError, ValueError):  # another writer was sooner
                if not left:
                    raise

    def put(self, entries: Sequence[Entry]) -> None:
        """Add entries, in one commit; an entry of a name that is there takes its place, whoever else is writing.

        Raises:
            ValueError: a column cannot have such a name, or its value does not fit its type.
        """
        self.declare_key()  # galleries of before have none
        self.add_columns([entry.metadata for entry in entries])
        import pyarrow as pa

        schema, now = self._table.schema, datetime.now(UTC).replace(tzinfo=None)
        rows = []
        for entry in entries:
            row = {name: entry.metadata.get(name) for name in self.metadata_columns}
            row |= {name: getattr(entry, name) for name in _OWN if name not in ("embedding", "added")}
            rows.append(row | {"embedding": np.asarray(entry.embedding, np.float16), "added": now})
        try:
            table = pa.Table.from_pylist(rows, schema=schema.remove_metadata())
        except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
            types = ", ".join(f"{field.name} {field.type}" for field in schema if field.name not in _OWN[:5])
            raise ValueError(f"a value does not fit its column: {error}; the gallery has {types}") from error
        merge = self._table.merge_insert("image").when_matched_update_all().when_not_matched_insert_all()
        # Through an index on the names Lance does not see that another writer inserts the same ones (lance PR 9238).
        merge.use_index(False).execute(table, timeout=_PATIENCE)

    def known(self, images: Sequence[str]) -> dict[str, dict[str, Any]]:
        """What is told of those images that are there, by name."""
        columns = ["image", "sha256", "camera", "time", *self.metadata_columns]
        return {row["image"]: row for row in self.rows_of(images, columns)}

    def rows_of(self, images: Sequence[str], columns: Sequence[str]) -> list[dict[str, Any]]:
        """Columns of those images that are there, in any order."""
        return self.rows(_is_one_of(images), columns) if images else []

    def rows(self, where: str | None, columns: Sequence[str]) -> list[dict[str, Any]]:
        """Columns of all rows that a filter lets through, in any order.

        Raises:
            FilterError: the filter does not fit the types of the columns, or the like.
        """
        query = self._table.search().select(list(columns)).limit(max(len(self), 1))
        return self._run(query.where(where) if where else query, where).to_pylist()

    def nearest(self, embedding: np.ndarray, count: int, where: str | None) -> list[dict[str, Any]]:
        """The ``count`` rows nearest by the angle of their embedding, nearest first as the index has it.

        Returns:
            Of each row ``image``, ``camera``, ``time``, ``metadata``, ``embedding`` (unit length, float32)
            and ``_rowid``.

        Raises:
            FilterError: see :meth:`rows`.
        """
        extra = self.metadata_columns
        query = self._table.search(embedding.astype(np.float32), vector_column_name="embedding").with_row_id(True)
        query = query.distance_type("cosine").limit(count)
        query = query.select(["image", "camera", "time", "embedding", "_distance", *extra])
        if self._index("embedding"):
            query = query.nprobes(_PROBES).refine_factor(_REFINE)
        found = self._run(query.where(where, prefilter=True) if where else query, where)
        if not len(found):
            return []
        vectors = found["embedding"].combine_chunks().flatten().to_numpy().astype(np.float32).reshape(len(found), -1)
        unit = torch.nn.functional.normalize(torch.from_numpy(vectors), dim=-1)
        rows = found.drop_columns(["embedding"]).to_pylist()
        return [
            row | {"embedding": vector, "metadata": {name: row[name] for name in extra}}
            for row, vector in zip(rows, unit, strict=True)
        ]

    def clues(self, rows: Sequence[Mapping[str, Any]]) -> list[bytes]:
        """The clues of rows that :meth:`nearest` found, in their order."""
        places = [row["_rowid"] for row in rows]
        found = self._table.take_row_ids(places).with_row_id().select(["clues"]).to_arrow()
        by_place = dict(zip(found["_rowid"].to_pylist(), found["clues"].to_pylist(), strict=True))
        return [by_place[place] for place in places]

    def remove(self, where: str) -> int:
        """Remove the rows that a filter lets through; returns how many.

        Raises:
            FilterError: see :meth:`rows`.
        """
        count = len(self.rows(where, ["image"]))
        if count:
            self._table.delete(where)
        return count

    def remove_images(self, images: Sequence[str]) -> int:
        """Remove rows by name; returns how many there were."""
        return self.remove(_is_one_of(images)) if images else 0

    def optimize(self, erase: bool = False) -> None:
        """Put small files together, and make or renew the index of a large gallery.

        Earlier versions of the table are deleted when they are a minute old, so that others may read and write.

        Args:
            erase: write all rows anew and delete every earlier file at once, so that nothing is left of removed rows;
                who reads or writes meanwhile fails.
        """
        if erase:
            self._table.update(values_sql={"image": "image"})  # every row moves into new files
        self._table.optimize(cleanup_older_than=_OUTDATED)
        rows = len(self)
        if rows >= _INDEX_FROM and self._not_indexed("embedding") > _INDEX_AGAIN * rows:
            from lancedb.index import BTree, HnswSq

            self._table.create_index("embedding", config=HnswSq(distance_type="cosine"), replace=True)
            self._table.create_index("image", config=BTree(), replace=True)
        if erase:
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", "optimize.cleanup_older_than=0", UserWarning)
                self._table.optimize(cleanup_older_than=timedelta(0), delete_unverified=True)

    def stats(self) -> dict[str, int]:
        """Rows, their bytes, bytes on disk (earlier versions and index too), and rows that the index does not hold."""
        files = [path for path in Path(self._table.uri).rglob("*") if path.is_file()]
        return {
            "rows": len(self),
            "bytes": self._table.stats()["total_bytes"],
            "bytes_on_disk": sum(path.stat().st_size for path in files),
            "not_indexed": self._not_indexed("embedding"),
        }

    def _index(self, column: str) -> str | None:
        """The name of a column's index."""
        return next((index.name for index in self._table.list_indices() if index.columns == [column]), None)

    def _not_indexed(self, column: str) -> int:
        name = self._index(column)
        return self._table.index_stats(name).num_unindexed_rows if name else len(self)

    def add_columns(self, metadata: Sequence[Mapping[str, Value]]) -> None:
        """Columns for metadata that the table has none for yet; their type is that of the first value.

        Raises:
            ValueError: a column cannot have such a name.
        """
        for left in reversed(range(_TRIES)):
            fresh = self._fresh_columns(metadata)
            try:
                if fresh:
                    self._table.add_columns({name: f"cast(NULL as {_SQL[kind]})" for name, kind in fresh.items()})
                return
            except (RuntimeError, ValueError):  # Lance retries rows by itself, columns not
                if not left:
                    raise

    def _fresh_columns(self, metadata: Sequence[Mapping[str, Value]]) -> dict[str, type]:
        """Names and types of columns that the table does not have."""
        known = self.metadata_columns
        fresh: dict[str, type] = {}
        for told in metadata:
            for name, value in told.items():
                if value is not None and name not in known:
                    fresh.setdefault(name, type(value))
        for name in fresh:
            if not re.fullmatch(_COLUMN, name) or name in _OWN:
                raise ValueError(
                    f"Expected a metadata column as lower-case letters, digits and _, and none of {', '.join(_OWN)} "
                    f"(got {name!r})"
                )
        return fresh

    def checked(self, where: str) -> str:
        """A filter from outside, as SQL that :meth:`rows`, :meth:`nearest` and :meth:`remove` may be given.

        Raises:
            FilterError: see :func:`cace_pyg.gallery.filter.checked_filter`.
            RuntimeError: sqlglot is not installed.
        """
        try:
            from cace_pyg.gallery.filter import checked_filter
        except ImportError as error:
            raise RuntimeError(
                f"filters are read by sqlglot, which is not installed ({error}): pip install 'cace-pyg[gallery]'"
            ) from error
        return checked_filter(where, self._told_columns())

    def _told_columns(self) -> list[str]:
        return [name for name in self._table.schema.names if name not in ("embedding", "clues", "thumbnail")]

    def _run(self, query: Any, where: str | None) -> Any:
        """The rows as an Arrow table."""
        try:
            return query.to_arrow()
        except (RuntimeError, ValueError, OSError) as error:
            if where is None:
                raise
            columns = ", ".join(self._told_columns())
            why = re.split(r",? /\S+\.rs\b", str(error))[0]  # Lance adds where in its own source that was
            raise FilterError(
                f"cannot filter by {where!r}: {why}. Expected SQL such as \"camera = 'c3' and time > timestamp "
                f"'2026-01-31 12:00:00'\"; columns: {columns}"
            ) from error


def _is_one_of(images: Sequence[str]) -> str:
    quoted = ", ".join("'" + image.replace("'", "''") + "'" for image in images)
    return f"image in ({quoted})"


def _lancedb() -> ModuleType:
    try:
        import lancedb
    except ImportError as error:
        raise RuntimeError(
            "a gallery is kept in LanceDB, which is not installed: pip install 'cace-pyg[gallery]'"
        ) from error
    return lancedb


def is_gallery(path: Path) -> bool:
    """Whether a gallery was made at ``path``."""
    try:
        GalleryTable(path)
    except FileNotFoundError:
        return False
    return True
