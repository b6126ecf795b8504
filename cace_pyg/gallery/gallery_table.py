"""The table of a gallery in LanceDB."""

import json
import random
import re
import shutil
import tempfile
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from copy import copy
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike

from cace_pyg.gallery.check_sums import (
    SIZE,
    embeddings,
    facts,
    is_whole,
    rows_with_embedding,
    with_check_sums,
    with_new_facts,
)
from cace_pyg.gallery.columns import OWN, SQL, Value, column_types
from cace_pyg.gallery.damage import UnreadableTableError, damage_told, read_again


@dataclass(frozen=True)
class Entry:
    """One image of a gallery.

    Attributes:
        image: its name: the absolute path of its file, or ``sha256:…`` for a picture without a file. Names are unique
            in a gallery.
        sha256: of the file's bytes, or of the pixels; shows whether a picture of this name is still the same.
        embedding: unit-length individual embedding.
        clues: the second stage's input, see :class:`~cace_pyg.gallery.clue_codec.ClueCodec`.
        thumbnail: a JPEG to show.
        camera: any word; None: unknown.
        time: when it was taken, in UTC if the zone is known; None: unknown.
        metadata: anything else, by column, see :func:`kept_value`.
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
    """A filter is not valid; the message says why."""


_NAME = "images"
_FOLDER = f"{_NAME}.lance"
_UNFINISHED = ".unfinished-"
_ABOUT = b"cace_pyg.gallery"
_PATIENCE = timedelta(minutes=10)  # how long a commit is retried when other writers were faster
_TRIES = 20  # attempts to change columns; one fails each time another writer was faster
_CHECKED_AT_ONCE = 1024  # rows
_OUTDATED = timedelta(minutes=1)  # age at which a version may be deleted, even if somebody still reads it
_INDEX_FROM = 50_000  # rows; below this, an exhaustive search of the embeddings takes less than 50 ms
_BITS = 4  # of a channel in the index
_PROBES, _PICTURES_A_PROBE, _REFINE = 80, 12_500, 2  # 99.5 % of a million are found, 99.9 % of ten (docs/gallery.md)
_INDEX_AGAIN = 0.2  # share of rows added since the index was made


class GalleryTable:
    """Rows of :class:`Entry` with unique names; every change is one commit, visible completely or not at all.

    Lance keeps no check sums, so each row has its own: of its facts and its embedding, of its clues, and of its
    thumbnail. They are compared when these are read for an answer. If the search is exhaustive, those of all rows are
    compared before the first search, because a damaged embedding may keep its row from being found.

    Args:
        folder: the gallery's; the table is ``folder/images.lance``.

    Raises:
        RuntimeError: LanceDB is not installed.
        FileNotFoundError: there is no table.
        UnreadableTableError: its files are damaged.
    """

    def __init__(self, folder: Path):
        lancedb = _lancedb()
        if not is_gallery(folder):
            raise FileNotFoundError(
                f"there is no gallery at {folder}; make one with python -m cace_pyg.search index FOLDER --gallery "
                f"{folder} --checkpoint RUN_DIR/checkpoints/best.ckpt"
            )
        self.folder = folder
        self._checked = False
        self._pinned: GalleryTable | None = None  # the last snapshot
        self._database = lancedb.connect(folder, read_consistency_interval=timedelta(0))  # others may write, too
        with self._damage_told(reading=True):
            self._table = self._database.open_table(_NAME)

    @classmethod
    def create(cls, folder: Path, embedding_channels: int, about: Mapping[str, Any]) -> "GalleryTable":
        """Make an empty table; ``about`` is stored with it.

        It is made under another name and then moved into place, so a process killed meanwhile leaves no table.

        Raises:
            RuntimeError: LanceDB is not installed, or the folder cannot be written.
            FileExistsError: there is a table already.
        """
        lancedb = _lancedb()
        import pyarrow as pa

        schema = pa.schema(
            [
                pa.field("image", pa.string(), nullable=False),
                pa.field("sha256", pa.string(), nullable=False),
                pa.field("embedding", pa.list_(pa.float16(), embedding_channels), nullable=False),
                pa.field("clues", pa.binary(), nullable=False),
                pa.field("thumbnail", pa.binary(), nullable=False),
                pa.field("check_sums", pa.binary(SIZE), nullable=False),
                pa.field("camera", pa.string()),
                pa.field("time", pa.timestamp("us")),
                pa.field("added", pa.timestamp("us"), nullable=False),
            ],
            metadata={_ABOUT: json.dumps(dict(about)).encode()},
        )
        place = folder / _FOLDER
        try:
            folder.mkdir(parents=True, exist_ok=True)
            beside = Path(tempfile.mkdtemp(prefix=_UNFINISHED, dir=folder))
            # Without a key, two writers could each insert the same new name, and nobody would notice.
            lancedb.connect(beside).create_table(_NAME, schema=schema).set_unenforced_primary_key("image")
            if not is_gallery(folder):
                shutil.rmtree(place, ignore_errors=True)  # left by a killed process
            (beside / _FOLDER).rename(place)
        except (OSError, RuntimeError, ValueError) as error:
            if is_gallery(folder):
                raise FileExistsError(
                    f"there is a gallery at {folder} already: another process just made it"
                ) from error
            raise RuntimeError(f"cannot make a gallery at {folder}: {_why(error)}; choose another --gallery") from error
        finally:
            for unfinished in folder.glob(f"{_UNFINISHED}*"):  # also those left by killed processes
                shutil.rmtree(unfinished, ignore_errors=True)
        return cls(folder)

    def snapshot(self) -> "GalleryTable":
        """The table as it is now; later changes are not visible in it.

        Raises:
            UnreadableTableError: its files are damaged.
        """
        with self._damage_told(reading=True):
            version = self._table.version
            if self._pinned is not None and self._pinned._table.version == version:
                return self._pinned  # it has read its list of files already
            pinned = copy(self)
            pinned._pinned = None
            pinned._table = self._database.open_table(_NAME)
            pinned._table.checkout(version)
            if not self._checked and len(pinned) < _INDEX_FROM:
                pinned._check_all()
        self._checked, self._pinned = True, pinned
        return pinned

    @property
    def about(self) -> dict[str, Any]:
        """What :meth:`create` was given."""
        with self._damage_told(reading=True):
            return json.loads(self._table.schema.metadata[_ABOUT])

    @property
    def metadata_columns(self) -> dict[str, str]:
        """Columns besides those that every gallery has, with their Arrow types."""
        return {field.name: str(field.type) for field in self._table.schema if field.name not in OWN}

    @property
    def version(self) -> int:
        """A number that changes with every commit."""
        with self._damage_told(reading=True):
            return self._table.version

    def __len__(self) -> int:
        with self._damage_told(reading=True):
            return self._table.count_rows()

    def count(self, where: str | None) -> int:
        """The number of rows that pass a filter; of all rows without one.

        Raises:
            FilterError: see :meth:`rows`.
        """
        with self._filter_told(where):
            return self._table.count_rows(where)

    def put(self, entries: Sequence[Entry]) -> None:
        """Add entries, in one commit; an entry replaces one of the same name, even while others are writing.

        Raises:
            ValueError: a column name is not allowed, or a value does not fit the type of its column.
        """
        self.add_columns([entry.metadata for entry in entries])
        import pyarrow as pa

        schema, now = self._table.schema, datetime.now(UTC).replace(tzinfo=None)
        rows = []
        for entry in entries:
            row: dict[str, Any] = {field.name: entry.metadata.get(field.name) for field in schema}
            row |= {name: getattr(entry, name) for name in OWN if name not in ("embedding", "check_sums", "added")}
            row |= {"embedding": np.asarray(entry.embedding, np.float16), "check_sums": bytes(SIZE)}
            rows.append(row | {"added": now})
        try:
            table = pa.Table.from_pylist(rows, schema=schema.remove_metadata())
        except (pa.ArrowException, OverflowError) as error:
            types = ", ".join(f"{field.name} {field.type}" for field in schema if field.name not in OWN[:6])
            raise ValueError(f"a value does not fit its column: {error}; the gallery has {types}") from error
        table = with_check_sums(table)  # of the values as the columns store them
        with self._damage_told():
            merge = self._table.merge_insert("image").when_matched_update_all().when_not_matched_insert_all()
            # With an index on the names, Lance does not notice that another writer inserts the same ones (PR 9238).
            merge.use_index(False).execute(table, timeout=_PATIENCE)

    def tell(self, facts_of: Mapping[str, Mapping[str, Value]]) -> None:
        """Set metadata columns of images in the table, in one commit; None empties a cell.

        An image that another process replaces meanwhile is left alone.

        Args:
            facts_of: by image, with the same columns for each.

        Raises:
            ValueError: see :meth:`put`.
            UnreadableTableError: a row is damaged.
        """
        if not facts_of:
            return
        self.add_columns(list(facts_of.values()))
        import pyarrow as pa

        names = list(next(iter(facts_of.values())))
        told = ["image", "camera", "time", "embedding", "check_sums", "added", *self.metadata_columns]
        found = read_again(lambda: self._run(self._table.search().select(told), None))
        rows = [row for row in self._whole_rows(found) if row["image"] in facts_of]
        changed: list[dict[str, Any]] = [
            {"image": row["image"], "check_sums": with_new_facts(row, facts_of[row["image"]]), "added": row["added"]}
            | dict(facts_of[row["image"]])
            for row in rows
        ]
        fields = [self._table.schema.field(name) for name in ("image", "check_sums", "added", *names)]
        table = pa.Table.from_pylist(changed, schema=pa.schema(fields))
        with self._damage_told():
            merge = self._table.merge_insert("image").when_matched_update_all(where="target.added = source.added")
            merge.use_index(False).execute(table, timeout=_PATIENCE)

    def known(self, images: Sequence[str]) -> dict[str, dict[str, Any]]:
        """The facts of those images that are in the table, by name."""
        columns = ["image", "sha256", "camera", "time", *self.metadata_columns]
        return {row["image"]: row for row in self.rows_of(images, columns)}

    def rows_of(self, images: Sequence[str], columns: Sequence[str]) -> list[dict[str, Any]]:
        """Columns of those images that are in the table, in any order."""
        images = _in_utf8(images)
        return self.rows(_is_one_of(images), columns) if images else []

    def rows(self, where: str | None, columns: Sequence[str]) -> list[dict[str, Any]]:
        """Columns of all rows that pass a filter, in any order.

        Raises:
            FilterError: LanceDB refuses the filter, for example because it does not fit the types of the columns.
        """

        def read() -> list[dict[str, Any]]:
            query = self._table.search().select(list(columns))
            return self._run(query.where(where) if where else query, where).to_pylist()

        return read_again(read)

    def nearest(self, embedding: np.ndarray, count: int, where: str | None) -> list[dict[str, Any]]:
        """The ``count`` rows nearest by the angle of their embedding, nearest first as the index ranks them.

        Returns:
            ``image``, ``camera``, ``time``, ``metadata``, ``embedding`` (unit length, float32), ``check_sums`` and
            ``_rowid`` of each row.

        Raises:
            FilterError: see :meth:`rows`.
            UnreadableTableError: a row is damaged.
        """
        rows = len(self)
        if not rows:
            return []
        extra = self.metadata_columns
        query = self._table.search(embedding.astype(np.float32), vector_column_name="embedding").with_row_id(True)
        query = query.distance_type("cosine").limit(min(count, rows))
        query = query.select(["image", "camera", "time", "embedding", "check_sums", "_distance", *extra])
        if self._index("embedding"):
            query = query.nprobes(max(_PROBES, rows // _PICTURES_A_PROBE)).refine_factor(_REFINE)
        found = self._run(query.where(where, prefilter=True) if where else query, where)
        if not len(found):
            return []
        found_rows = self._whole_rows(found)
        vectors = embeddings(found).astype(np.float32)
        unit = torch.nn.functional.normalize(torch.from_numpy(vectors), dim=-1)
        return [
            row | {"embedding": vector, "metadata": {name: row[name] for name in extra}}
            for row, vector in zip(found_rows, unit, strict=True)
        ]

    def some(self, count: int) -> list[dict[str, Any]]:
        """``embedding`` (unit length, float32) and ``clues`` of rows drawn at random, the same in every call.

        Args:
            count: how many; all rows if there are fewer.

        Raises:
            UnreadableTableError: a row is damaged.
        """

        def read() -> Any:
            rows = len(self)
            places = random.Random(0).sample(range(rows), min(count, rows))
            return self._run(self._table.take_offsets(places).select(told), None) if places else []

        told = ["image", "camera", "time", "embedding", "check_sums", "clues", *self.metadata_columns]
        found = read_again(read)
        if not len(found):
            return []
        rows = self._whole_rows(found.drop_columns(["clues"]))
        clues = [
            self._whole_part(row, "clues", blob) for row, blob in zip(rows, found["clues"].to_pylist(), strict=True)
        ]
        vectors = torch.from_numpy(embeddings(found).astype(np.float32))
        unit = torch.nn.functional.normalize(vectors, dim=-1)
        return [{"embedding": vector, "clues": blob} for vector, blob in zip(unit, clues, strict=True)]

    def embeddings(self) -> tuple[list[dict[str, Any]], torch.Tensor]:
        """The facts of every row, sorted by name, and the embeddings.

        Returns:
            The rows, each with ``image``, ``sha256``, ``camera``, ``time``, ``metadata``, ``check_sums`` and
            ``_rowid``; and the embeddings, unit length, float32 ``(row, channel)``.

        Raises:
            UnreadableTableError: a row is damaged.
        """
        told = ["image", "sha256", "camera", "time", "embedding", "check_sums", *self.metadata_columns]
        found = read_again(lambda: self._run(self._table.search().with_row_id(True).select(told), None))
        extra, kept = self.metadata_columns, ("image", "sha256", "camera", "time", "check_sums", "_rowid")
        rows = [
            {name: row[name] for name in kept} | {"metadata": {name: row[name] for name in extra}}
            for row in self._whole_rows(found)
        ]
        order = sorted(range(len(rows)), key=lambda place: rows[place]["image"])
        vectors = torch.from_numpy(embeddings(found).astype(np.float32)[order])
        return [rows[place] for place in order], torch.nn.functional.normalize(vectors, dim=-1)

    def clues(self, rows: Sequence[Mapping[str, Any]]) -> list[bytes]:
        """The clues of rows that :meth:`nearest` or :meth:`embeddings` found in the same :meth:`snapshot`.

        Raises:
            UnreadableTableError: they are damaged.
        """
        places = [row["_rowid"] for row in rows]
        found = self._run(self._table.take_row_ids(places).with_row_id().select(["clues"]), None)
        by_place = dict(zip(found["_rowid"].to_pylist(), found["clues"].to_pylist(), strict=True))
        return [self._whole_part(row, "clues", by_place.get(row["_rowid"])) for row in rows]

    def parts_of(self, image: str, parts: Sequence[str]) -> dict[str, bytes] | None:
        """``clues`` and ``thumbnail`` of an image, or one of them; None if the image is not in the table.

        Raises:
            UnreadableTableError: they are damaged.
        """
        found = self.rows_of([image], ["image", "check_sums", *parts])
        if not found:
            return None
        with self._damage_told(reading=True):
            return {part: self._whole_part(found[0], part, found[0][part]) for part in parts}

    def _check_all(self) -> None:
        """Compare the check sum of every row's facts and embedding."""
        columns = ["image", "camera", "time", "embedding", "check_sums", *self.metadata_columns]
        for batch in self._table.search().select(columns).to_batches(_CHECKED_AT_ONCE):
            self._whole_rows(batch)

    def _whole_rows(self, found: Any) -> list[dict[str, Any]]:
        """Rows that are as they were written, with their embeddings as bytes."""
        with self._damage_told(reading=True):
            rows = rows_with_embedding(found)
            for row in rows:
                self._whole_part(row, "facts", facts(row))
        return rows

    def _whole_part(self, row: Mapping[str, Any], part: str, content: bytes | None) -> bytes:
        """``facts``, ``clues`` or ``thumbnail`` of a row, if they are as they were written."""
        if content is None or not is_whole(row, part, content):
            what = "its facts or its embedding" if part == "facts" else f"its {part}"
            raise UnreadableTableError(
                f"the gallery {self.folder} is damaged at the picture {row['image']}: {what} changed on disk; remove "
                "the picture and add it again, copy the gallery back from a backup, or index all into another --gallery"
            )
        return content

    def drop_clues(self, images: Sequence[str]) -> None:
        """Drop the clues of pictures; a picture that is replaced meanwhile keeps its new ones.

        Raises:
            UnreadableTableError: a row is damaged.
        """
        for start in range(0, len(images), _CHECKED_AT_ONCE):
            self._drop_clues(_is_one_of(images[start : start + _CHECKED_AT_ONCE]))

    def _drop_clues(self, where: str) -> None:
        import pyarrow as pa

        found = read_again(lambda: self._run(self._table.search().where(where), None))
        rows = self._whole_rows(found.drop_columns(["clues", "thumbnail"]))
        for row, thumbnail in zip(rows, found["thumbnail"].to_pylist(), strict=True):
            self._whole_part(row, "thumbnail", thumbnail)  # damaged data must not get a valid check sum
        place = found.schema.get_field_index("clues")
        emptied = found.set_column(place, found.schema.field(place), pa.array([b""] * len(found), pa.binary()))
        with self._damage_told():
            merge = self._table.merge_insert("image").when_matched_update_all(where="target.sha256 = source.sha256")
            merge.use_index(False).execute(with_check_sums(emptied), timeout=_PATIENCE)

    def remove(self, where: str) -> int:
        """Remove the rows that pass a filter; returns how many.

        Raises:
            FilterError: see :meth:`rows`.
        """
        count = len(self.rows(where, ["image"]))
        if count:
            with self._damage_told():
                self._table.delete(where)
        return count

    def remove_images(self, images: Sequence[str]) -> int:
        """Remove rows by name; returns how many there were."""
        images = _in_utf8(images)
        return self.remove(_is_one_of(images)) if images else 0

    def optimize(self, erase: bool = False) -> None:
        """Merge small files, and make or renew the index of a large gallery.

        Earlier versions of the table are deleted once they are a minute old. Others may still read them, and then
        :func:`read_again`. A process that writes meanwhile may fail.

        Args:
            erase: rewrite all rows and delete every earlier file at once, so that nothing is left of removed rows;
                processes that read or write meanwhile may fail.
        """
        with self._damage_told():
            self._optimize(erase)

    def _optimize(self, erase: bool) -> None:
        if erase:
            self._table.update(values_sql={"image": "image"})  # every row moves into new files
        self._table.optimize(cleanup_older_than=_OUTDATED)
        rows = len(self)
        if rows >= _INDEX_FROM and self._not_indexed("embedding") > _INDEX_AGAIN * rows:
            from lancedb.index import BTree, HnswSq, IvfRq

            config: HnswSq | IvfRq = IvfRq(distance_type="cosine", num_bits=_BITS)
            if self._table.schema.field("embedding").type.list_size % 8:  # which IvfRq refuses
                config = HnswSq(distance_type="cosine")
            self._table.create_index("embedding", config=config, replace=True)
            self._table.create_index("image", config=BTree(), replace=True)
        if erase:
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", "optimize.cleanup_older_than=0", UserWarning)
                self._table.optimize(cleanup_older_than=timedelta(0), delete_unverified=True)

    def stats(self) -> dict[str, int]:
        """Rows, their bytes, bytes on disk (with index and earlier versions), and rows that are not in the index."""
        files = [path for path in Path(self._table.uri).rglob("*") if path.is_file()]
        return {
            "rows": len(self),
            "bytes": self._table.stats()["total_bytes"],
            "bytes_on_disk": sum(path.stat().st_size for path in files),
            "not_indexed": self._not_indexed("embedding"),
        }

    def _index(self, column: str) -> str | None:
        """The name of a column's index."""
        with self._damage_told(reading=True):
            return next((index.name for index in self._table.list_indices() if index.columns == [column]), None)

    def _not_indexed(self, column: str) -> int:
        name = self._index(column)
        return self._table.index_stats(name).num_unindexed_rows if name else len(self)

    def add_columns(self, metadata: Sequence[Mapping[str, Value]]) -> None:
        """Add the columns that metadata needs and the table lacks; the first value of each sets its type.

        Raises:
            ValueError: a column name is not allowed.
        """
        for left in reversed(range(_TRIES)):
            fresh = self._fresh_columns(metadata)
            try:
                if fresh:
                    self._table.add_columns({name: f"cast(NULL as {SQL[kind]})" for name, kind in fresh.items()})
                return
            except (RuntimeError, ValueError):  # Lance itself retries changes of rows, but not of columns
                if not left:
                    raise

    def _fresh_columns(self, metadata: Sequence[Mapping[str, Value]]) -> dict[str, type]:
        """Names and types of columns that the table does not have."""
        known = self.metadata_columns
        return {name: kind for name, kind in column_types(metadata).items() if name not in known}

    def _damage_told(self, reading: bool = False) -> AbstractContextManager[None]:
        return damage_told(self._damaged, reading)

    def _damaged(self, error: BaseException) -> str:
        why = _why(error).partition("\n")[0]
        return (
            f"the gallery {self.folder} cannot be read: {why}; its files may be damaged, or changed by "
            "another program: copy it back from a backup, or index the pictures into another --gallery"
        )

    def checked(self, where: str) -> str:
        """A user's filter, as SQL that is safe for :meth:`rows`, :meth:`nearest` and :meth:`remove`.

        Raises:
            FilterError: see :func:`cace_pyg.gallery.filter.checked_filter`.
            RuntimeError: sqlglot is not installed.
        """
        try:
            from cace_pyg.gallery.filter import checked_filter
        except ImportError as error:
            raise RuntimeError(
                f"filters need sqlglot, which is not installed ({error}): pip install 'cace-pyg[gallery]'"
            ) from error
        return checked_filter(where, self._told_columns())

    def _told_columns(self) -> list[str]:
        unknown = ("embedding", "clues", "thumbnail", "check_sums")
        return [name for name in self._table.schema.names if name not in unknown]

    def _run(self, query: Any, where: str | None) -> Any:
        """The rows as an Arrow table."""
        with self._filter_told(where):
            return query.to_arrow()

    @contextmanager
    def _filter_told(self, where: str | None) -> Iterator[None]:
        """Turn LanceDB's errors about a filter into :class:`FilterError`."""
        try:
            with self._damage_told(reading=where is None):
                yield
        except (RuntimeError, ValueError, OSError) as error:
            if where is None or isinstance(error, UnreadableTableError):
                raise
            from cace_pyg.gallery.filter import refusal_in_words

            columns, shown = ", ".join(self._told_columns()), where.replace("`", "")
            why = refusal_in_words(_why(error))
            raise FilterError(
                f"cannot filter by {shown!r}: {why}. Expected SQL such as \"camera = 'c3' and time > timestamp "
                f"'2026-01-31 12:00:00'\"; columns: {columns}"
            ) from error


def _why(error: BaseException) -> str:
    """LanceDB's own words, without the place in Lance's source that follows them."""
    return re.split(r",? /\S+\.rs\b", str(error))[0]


def _in_utf8(images: Sequence[str]) -> list[str]:
    """The names that can be in the table, which are UTF-8."""
    return [image for image in images if image.encode(errors="replace").decode() == image]


def _is_one_of(images: Sequence[str]) -> str:
    quoted = ", ".join("'" + image.replace("'", "''") + "'" for image in images)
    return f"image in ({quoted})"


def _lancedb() -> ModuleType:
    try:
        import lancedb
    except ImportError as error:
        raise RuntimeError(
            "a gallery needs LanceDB, which is not installed: pip install 'cace-pyg[gallery]'"
        ) from error
    return lancedb


def is_gallery(path: Path) -> bool:
    """Whether there is a gallery at ``path``: its table has a first commit."""
    return any((path / _FOLDER / "_versions").glob("*.manifest"))
