"""Each picture's nearest pictures by both stages, stored with the gallery."""

import json
import shutil
import warnings
import zlib
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import timedelta
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from cace_pyg.gallery.damage import UnreadableTableError, damage_told
from cace_pyg.gallery.neighbour_lists import NeighbourLists
from cace_pyg.gallery.unfinished_lists import Measure, Positions, UnfinishedLists
from cace_pyg.progress import progress_bar

_NAME = "neighbours"
_ABOUT = b"cace_pyg.neighbours"
_FORMAT = 1
_DELETED_AT_ONCE = 1000
_OUTDATED = timedelta(minutes=1)


class IncompleteNeighboursError(RuntimeError):
    """Pictures were added or removed after the lists were completed."""


@dataclass(frozen=True)
class Pictures:
    """The pictures of a gallery, whose neighbours are kept.

    Attributes:
        keys: int64, one for each picture and its content, see :func:`key_of`.
        embedding: of unit length, ``(picture, channel)``.
    """

    keys: np.ndarray
    embedding: Tensor

    @staticmethod
    def of(images: Sequence[str], sha256: Sequence[str], embedding: Tensor) -> "Pictures":
        keys = np.array([key_of(*picture) for picture in zip(images, sha256, strict=True)], np.int64)
        if len(np.unique(keys)) < len(keys):
            raise RuntimeError(
                "two pictures have the same key, which happens in one of billions of galleries; rename one"
            )
        return Pictures(keys, embedding)

    def __len__(self) -> int:
        return len(self.keys)


def key_of(image: str, sha256: str) -> int:
    """A 64-bit number for a name and the content of its picture; a replaced picture gets another number."""
    return int.from_bytes(blake2b(f"{sha256} {image}".encode(), digest_size=8).digest(), "little", signed=True)


class KeptNeighbours:
    """A table with a list for each picture: its nearest by the individual embedding, with both distances of each.

    The table is ``folder/neighbours.lance``, next to the table of pictures, and can always be made again from that.
    Pictures are named by their keys, so an entry of a removed or replaced picture matches no picture and is ignored.
    Every commit writes complete lists with their check sums. The list of a new picture is written only after the
    picture was entered in the lists of all others. So if the process is killed, :meth:`complete` continues with what
    was written, and :meth:`read` refuses it until then. One process at a time completes the lists.

    Args:
        folder: the gallery's.

    Raises:
        FileNotFoundError: no neighbours are kept there.
        UnreadableTableError: the table is damaged.
    """

    def __init__(self, folder: Path):
        import lancedb

        if not is_kept(folder):
            raise FileNotFoundError(
                f"no neighbours are kept at {folder}: python -m cace_pyg.search index FOLDER --gallery {folder} "
                "--neighbours keeps them (in Python gallery.keep_neighbours())"
            )
        self.folder = folder
        with self._damage_told(reading=True):
            database = lancedb.connect(folder, read_consistency_interval=timedelta(0))
            self._table = database.open_table(_NAME)
            about = json.loads(self._table.schema.metadata[_ABOUT])
        if about["format"] != _FORMAT:
            raise ValueError(
                f"Expected kept neighbours of format {_FORMAT} at {folder} (got {about['format']}); update cace_pyg, "
                f"or delete {folder / f'{_NAME}.lance'} and make them again"
            )
        self.candidates: int = about["candidates"]
        self._kind = _record(self.candidates)

    @classmethod
    def create(cls, folder: Path, candidates: int) -> "KeptNeighbours":
        """Those of a gallery, or new ones without any lists.

        Args:
            folder: the gallery's.
            candidates: pictures in a list of a new table; an existing table keeps its own number.
        """
        import lancedb
        import pyarrow as pa

        with _alone(folder):
            if not is_kept(folder):
                shutil.rmtree(folder / f"{_NAME}.lance", ignore_errors=True)  # left by a killed process
                fields = [("key", pa.int64()), ("list", pa.binary()), ("check_sum", pa.int64())]
                about = json.dumps({"format": _FORMAT, "candidates": candidates}).encode()
                schema = pa.schema([pa.field(*field, nullable=False) for field in fields], metadata={_ABOUT: about})
                lancedb.connect(folder).create_table(_NAME, schema=schema)
        return cls(folder)

    @property
    def version(self) -> int:
        """A number that changes with every commit."""
        with self._damage_told(reading=True):
            return self._table.version

    def __len__(self) -> int:
        with self._damage_told(reading=True):
            return self._table.count_rows()

    def stats(self) -> dict[str, int]:
        """Pictures with a list, neighbours in a list, and bytes on disk, with earlier versions."""
        files = [path for path in (self.folder / f"{_NAME}.lance").rglob("*") if path.is_file()]
        size = sum(path.stat().st_size for path in files)
        return {"pictures": len(self), "candidates": self.candidates, "bytes_on_disk": size}

    def read(self, pictures: Pictures, weight: float) -> NeighbourLists:
        """All lists.

        Args:
            pictures: all of the gallery.
            weight: of the pair stage's distance; at 0 it is not needed.

        Raises:
            IncompleteNeighboursError: pictures were added or removed after the lists were completed, or distances of
                the pair stage are missing.
            UnreadableTableError: a list is damaged.
        """
        lists, _ = self._lists(pictures)
        behind = lists.to_do(weight > 0)
        if behind.any():
            raise IncompleteNeighboursError(
                f"the kept neighbours of {self.folder} are out of date: {int(behind.sum())} of {len(pictures)} "
                f"pictures have no complete list. python -m cace_pyg.search optimize --gallery {self.folder} completes "
                "them (in Python gallery.keep_neighbours()); or search without neighbours"
            )
        size = lists.full
        index, individual, conditional = (
            values[:, :size] for values in (lists.index, lists.individual, lists.conditional)
        )
        conditional = conditional if weight > 0 else np.zeros_like(conditional)
        return NeighbourLists(
            pictures.embedding, index, individual, conditional, lists.farthest, weight, self.candidates
        )

    def complete(self, look: Callable[[], tuple[Pictures, Measure | None]], progress: bool = False) -> int:
        """Update the lists for all pictures that the gallery has now; returns how many lists were written.

        A distance of the pair stage that is already in the list of either picture is not computed again.

        Args:
            look: returns all pictures of the gallery as they are now, and how the pair stage measures some of them
                (None: it is not used).
            progress: show a bar.

        Raises:
            UnreadableTableError: a list is damaged.
        """
        with _alone(self.folder):
            pictures, measure = look()
            lists, gone = self._lists(pictures)
            with self._damage_told():
                for start in range(0, len(gone), _DELETED_AT_ONCE):
                    keys = ", ".join(map(str, gone[start : start + _DELETED_AT_ONCE]))
                    self._table.delete(f"key in ({keys})")
            changed = lists.renew(pictures.embedding, measure is not None)
            hidden = not (progress and len(changed))
            with progress_bar(total=len(changed), desc="neighbours", unit="picture", disable=hidden) as bar:
                for rows in lists.measured(changed, measure):
                    self._write(pictures.keys, lists, rows)
                    bar.update(len(rows))
        return len(changed)

    def optimize(self, erase: bool) -> None:
        """Merge small files; ``erase``: rewrite everything and delete all earlier files."""
        with self._damage_told():
            if erase:
                self._table.update(values_sql={"key": "key"})
            self._table.optimize(cleanup_older_than=_OUTDATED)
            if erase:
                with warnings.catch_warnings():
                    warnings.filterwarnings("ignore", "optimize.cleanup_older_than=0", UserWarning)
                    self._table.optimize(cleanup_older_than=timedelta(0), delete_unverified=True)

    def _lists(self, pictures: Pictures) -> tuple[UnfinishedLists, np.ndarray]:
        """The kept lists of the pictures, and the keys of lists whose picture is gone."""
        with self._damage_told(reading=True):
            found = self._table.search().select(["key", "list", "check_sum"]).to_arrow()
            keys, blobs = found["key"].to_numpy().astype(np.int64), found["list"].to_pylist()
            for key, blob, check_sum in zip(keys.tolist(), blobs, found["check_sum"].to_pylist(), strict=True):
                if len(blob) != self._kind.itemsize or _check_sum(key, blob) != check_sum:
                    raise UnreadableTableError(
                        f"the kept neighbours of {self.folder} are damaged: a list changed on disk; {self._remedy}"
                    )
        records = np.frombuffer(b"".join(blobs), self._kind)
        where = Positions(pictures.keys)
        row = where.of(keys)
        return UnfinishedLists.of(row[row >= 0], records[row >= 0], where, self.candidates), keys[row < 0]

    def _write(self, keys: np.ndarray, lists: UnfinishedLists, rows: np.ndarray) -> None:
        import pyarrow as pa

        blobs = [record.tobytes() for record in lists.records(keys, rows, self._kind)]
        some = keys[rows].tolist()
        sums = [_check_sum(key, blob) for key, blob in zip(some, blobs, strict=True)]
        schema = self._table.schema.remove_metadata()
        table = pa.table({"key": some, "list": pa.array(blobs, pa.binary()), "check_sum": sums}, schema=schema)
        with self._damage_told():
            self._table.merge_insert("key").when_matched_update_all().when_not_matched_insert_all().execute(table)

    @property
    def _remedy(self) -> str:
        return (
            f"delete {self.folder / f'{_NAME}.lance'} and make them again with python -m cace_pyg.search index FOLDER "
            f"--gallery {self.folder} --neighbours"
        )

    def _damage_told(self, reading: bool = False) -> AbstractContextManager[None]:
        return damage_told(self._damaged, reading)

    def _damaged(self, error: BaseException) -> str:
        why = str(error).partition("\n")[0]
        return f"the kept neighbours of {self.folder} cannot be read: {why}; {self._remedy}"


def is_kept(folder: Path) -> bool:
    """Whether neighbours are kept in a gallery."""
    return any((folder / f"{_NAME}.lance" / "_versions").glob("*.manifest"))


def _record(candidates: int) -> np.dtype:
    near = np.dtype([("key", "<i8"), ("individual", "<f4"), ("conditional", "<f4")])
    return np.dtype([("farthest_key", "<i8"), ("farthest", "<f4"), ("count", "<i4"), ("near", near, (candidates,))])


def _check_sum(key: int, blob: bytes) -> int:
    return zlib.crc32(blob, zlib.crc32(key.to_bytes(8, "little", signed=True)))


def _alone(folder: Path) -> Any:
    """A lock for one process at a time; it ends with the process."""
    from filelock import FileLock

    return FileLock(folder / f"{_NAME}.lock")
