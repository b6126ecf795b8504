"""Each picture's nearest pictures by both stages, stored with the gallery."""

import json
import shutil
import warnings
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cace_pyg.gallery.gallery_table import UnreadableTableError
from cace_pyg.gallery.neighbour_lists import NeighbourLists
from cace_pyg.progress import progress_bar
from cace_pyg.retrieval import euclidean_distance
from cace_pyg.retrieval.two_stage import top_k

_NAME = "neighbours"
_ABOUT = b"cace_pyg.neighbours"
_FORMAT = 1
_BATCH = 64  # lists per commit
_BLOCK = 2**22  # distances in memory at once
_DELETED_AT_ONCE = 1000
_OUTDATED = timedelta(minutes=1)
Measure = Callable[[Sequence[int]], Callable[[int, np.ndarray], Tensor]]
"""Takes positions of some pictures; returns a function for the pair stage's distances from one of them to others."""


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

    def _lists(self, pictures: Pictures) -> tuple["_Lists", np.ndarray]:
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
        where = _Positions(pictures.keys)
        row = where.of(keys)
        return _Lists.of(row[row >= 0], records[row >= 0], where, self.candidates), keys[row < 0]

    def _write(self, keys: np.ndarray, lists: "_Lists", rows: np.ndarray) -> None:
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

    @contextmanager
    def _damage_told(self, reading: bool = False) -> Iterator[None]:
        """Report a panic of Lance as damage, and with ``reading`` any error that only damaged files can cause."""
        try:
            yield
        except UnreadableTableError:
            raise
        except BaseException as error:  # a panic is not an Exception
            panic = type(error).__name__ in ("PanicException", "RustPanic")
            if not (panic or "Not found: " in str(error) or (reading and isinstance(error, _UNREADABLE))):
                raise
            why = str(error).partition("\n")[0]
            raise UnreadableTableError(
                f"the kept neighbours of {self.folder} cannot be read: {why}; {self._remedy}"
            ) from error


_UNREADABLE = (RuntimeError, ValueError, OSError, TypeError, LookupError)


@dataclass
class _Lists:
    """The lists of all pictures while they are completed; an empty place has index −1 and an infinite distance.

    Attributes:
        index: ``(picture, candidates)``, nearest first.
        individual: distances.
        conditional: distances of the pair stage; NaN: not computed yet.
        farthest: ``(picture,)``.
        farthest_is: the picture at that distance, ``(picture,)``; −1: gone.
        there: whether a picture has a list, ``(picture,)``.
        lost: whether the list of a picture names one that is gone, ``(picture,)``.
    """

    index: np.ndarray
    individual: np.ndarray
    conditional: np.ndarray
    farthest: np.ndarray
    farthest_is: np.ndarray
    there: np.ndarray
    lost: np.ndarray

    @staticmethod
    def of(row: np.ndarray, records: np.ndarray, where: "_Positions", candidates: int) -> "_Lists":
        """Make them from the records of the pictures ``row``, without neighbours that are gone."""
        pictures = len(where)
        shape = (pictures, candidates)
        lists = _Lists(
            np.full(shape, -1, np.int32),
            np.full(shape, np.inf, np.float32),
            np.full(shape, np.nan, np.float32),
            np.zeros(pictures, np.float32),
            np.full(pictures, -1),
            np.zeros(pictures, bool),
            np.zeros(pictures, bool),
        )
        near = records["near"]
        listed = np.arange(candidates) < records["count"][:, None]
        index = np.where(listed, where.of(near["key"]), -1)
        individual = np.where(index < 0, np.inf, near["individual"])
        conditional = np.where(index < 0, np.nan, near["conditional"])
        lists.put(row, index, individual, conditional)
        lists.farthest[row], lists.farthest_is[row] = records["farthest"], where.of(records["farthest_key"])
        lists.there[row] = True
        lists.lost[row] = (listed & (index < 0)).any(1) | (lists.farthest_is[row] < 0)
        return lists

    @property
    def full(self) -> int:
        """Neighbours in a complete list."""
        return max(0, min(self.index.shape[1], len(self.index) - 1))

    def put(self, row: np.ndarray, index: np.ndarray, individual: np.ndarray, conditional: np.ndarray) -> None:
        """Store unsorted lists, sorted and cut to the length of the others; ties are in the order of pictures."""
        order = np.lexsort((index, individual), axis=1)[:, : self.index.shape[1]]
        for mine, given in ((self.index, index), (self.individual, individual), (self.conditional, conditional)):
            mine[row, : order.shape[1]] = np.take_along_axis(given, order, 1)

    def to_do(self, asked: bool) -> np.ndarray:
        """Pictures whose list is not complete; ``asked``: it needs the pair stage's distances to be complete."""
        wrong = ~self.there | ((self.index >= 0).sum(1) < self.full) | (self.farthest_is < 0)
        return wrong | self._not_asked() if asked else wrong

    def renew(self, embedding: Tensor, asked: bool) -> np.ndarray:
        """Put the nearest pictures into all lists; returns the pictures whose lists changed, new pictures last."""
        was = self.index.copy(), self.farthest.copy()
        again = ~self.there | self.lost
        self._list_again(embedding, again.nonzero()[0])
        self._enter(embedding, (~again).nonzero()[0], (~self.there).nonzero()[0])
        changed = again | (self.index != was[0]).any(1) | (self.farthest != was[1])
        if asked:
            changed |= self._not_asked()
        rows = changed.nonzero()[0]
        return rows[np.argsort(~self.there[rows], kind="stable")]

    def measured(self, rows: np.ndarray, measure: Measure | None) -> Iterator[np.ndarray]:
        """Compute the pair stage's missing distances in some lists; yields batches of rows that are complete."""
        missing = (self.index[rows] >= 0) & np.isnan(self.conditional[rows])
        a, b = rows[missing.nonzero()[0]].astype(np.int64), self.index[rows][missing].astype(np.int64)
        pairs, pair = np.unique(np.minimum(a, b) * len(self.index) + np.maximum(a, b), return_inverse=True)
        told = self._told_by_the_other(pairs)
        number = np.full(missing.shape, -1)
        number[missing] = pair
        for start in range(0, len(rows), _BATCH):
            some, numbers = rows[start : start + _BATCH], number[start : start + _BATCH]
            if measure is not None:
                wanted = numbers[numbers >= 0]
                unknown = np.unique(wanted[np.isnan(told[wanted])])
                both = np.stack([pairs[unknown] // len(self.index), pairs[unknown] % len(self.index)])
                self._ask(measure, unknown, both, some, told)
            row, place = (numbers >= 0).nonzero()
            self.conditional[some[row], place] = told[numbers[row, place]]
            yield some

    def records(self, keys: np.ndarray, rows: np.ndarray, kind: np.dtype) -> np.ndarray:
        """Some lists as they are stored."""
        found = np.zeros(len(rows), kind)
        index = self.index[rows]
        found["farthest"], found["farthest_key"] = self.farthest[rows], keys[self.farthest_is[rows]]
        found["count"] = (index >= 0).sum(1)
        found["near"]["key"] = np.where(index >= 0, keys[index], 0)
        found["near"]["individual"], found["near"]["conditional"] = self.individual[rows], self.conditional[rows]
        return found

    def _not_asked(self) -> np.ndarray:
        return ((self.index >= 0) & np.isnan(self.conditional)).any(1)

    def _list_again(self, embedding: Tensor, rows: np.ndarray) -> None:
        """Make the lists of some pictures again from all embeddings; known distances of the pair stage are kept."""
        for some in np.array_split(rows, max(1, len(rows) * len(embedding) // _BLOCK)):
            if not len(some):
                continue
            here = np.arange(len(some))
            distance = euclidean_distance(embedding[some], embedding)
            distance[here, some] = -1
            far = distance.max(1)
            self.farthest[some], self.farthest_is[some] = far.values.clamp_min(0).numpy(), far.indices.numpy()
            distance[here, some] = torch.inf
            index, conditional = self.index[some].copy(), self.conditional[some].copy()
            self.index[some], self.individual[some], self.conditional[some] = -1, np.inf, np.nan
            if not self.full:
                continue
            near = top_k(distance, self.full)
            told = np.full(near.shape, np.nan, np.float32)
            if (index >= 0).any():
                before = np.full(distance.shape, np.nan, np.float32)
                row, place = (index >= 0).nonzero()
                before[row, index[row, place]] = conditional[row, place]
                told = np.take_along_axis(before, near.numpy(), 1)
            self.put(some, near.numpy(), distance.gather(1, near).numpy(), told)

    def _enter(self, embedding: Tensor, rows: np.ndarray, fresh: np.ndarray) -> None:
        """Enter new pictures in the lists of others that they are near to, in place of the farthest ones."""
        if not len(fresh):
            return
        column = np.full(len(embedding), -1)
        column[fresh] = np.arange(len(fresh))
        for some in np.array_split(rows, max(1, len(rows) * len(fresh) // _BLOCK)):
            distance = euclidean_distance(embedding[some], embedding[fresh]).numpy()
            if not len(some):
                continue
            far = distance.max(1)
            farther = far > self.farthest[some]
            self.farthest[some[farther]] = far[farther]
            self.farthest_is[some[farther]] = fresh[distance.argmax(1)[farther]]
            listed = np.where(self.index[some] >= 0, column[self.index[some]], -1)
            row, place = (listed >= 0).nonzero()
            distance[row, listed[row, place]] = np.inf  # entered before the process was killed
            entered = (distance < self.individual[some, -1:]).any(1)
            some, distance = some[entered], distance[entered]
            new = np.broadcast_to(fresh, distance.shape)
            new = np.where(np.isinf(distance), -1, new)
            unknown = np.full(distance.shape, np.nan, np.float32)
            self.put(
                some,
                np.hstack([self.index[some], new]),
                np.hstack([self.individual[some], distance]),
                np.hstack([self.conditional[some], unknown]),
            )

    def _told_by_the_other(self, pairs: np.ndarray) -> np.ndarray:
        """The pair stage's distances of pairs, from the list of either picture; NaN: in neither list."""
        told = np.full(len(pairs), np.nan, np.float32)
        for start in range(0, len(pairs), _BLOCK // self.index.shape[1]):
            some = pairs[start : start + _BLOCK // self.index.shape[1]]
            first, second = some // len(self.index), some % len(self.index)
            for owner, other in ((first, second), (second, first)):
                row, place = (self.index[owner] == other[:, None]).nonzero()
                found = self.conditional[owner[row], place]
                told[start + row[~np.isnan(found)]] = found[~np.isnan(found)]
        return told

    def _ask(self, measure: Measure, unknown: np.ndarray, both: np.ndarray, rows: np.ndarray, told: np.ndarray) -> None:
        """Measure the pairs ``both``; one picture of each pair is among ``rows``."""
        if not len(unknown):
            return
        distances = measure(np.unique(both).tolist())
        mine = np.where(np.isin(both[0], rows), both[0], both[1])
        others = both.sum(0) - mine
        for picture in np.unique(mine):
            here = mine == picture
            told[unknown[here]] = distances(int(picture), others[here]).numpy()


class _Positions:
    """Positions of pictures, by their keys."""

    def __init__(self, keys: np.ndarray):
        self._order = keys.argsort()
        self._keys = keys[self._order]

    def __len__(self) -> int:
        return len(self._keys)

    def of(self, wanted: np.ndarray) -> np.ndarray:
        """The positions; −1: no picture has this key."""
        if not len(self):
            return np.full(wanted.shape, -1)
        place = np.searchsorted(self._keys, wanted).clip(max=len(self) - 1)
        return np.where(self._keys[place] == wanted, self._order[place], -1)


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
