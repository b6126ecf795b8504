"""Checks which data set a folder is, whether it is complete, and whether its pictures can be read."""

import filecmp
import shlex
import warnings
from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

from cace_pyg.data.counts import SplitCounts, count, counts_table
from cace_pyg.data.matches import count_matches
from cace_pyg.data.public_datasets import (
    DUKEMTMC,
    MARKET1501,
    MSMT17,
    MSMT17_TRAINVAL,
    OCCLUDED_DUKE,
)
from cace_pyg.data.read_dataset import DatasetName, read_dataset
from cace_pyg.data.sample import Sample, Splits, track_labels
from cace_pyg.data.sorted_pictures import LeftOutWarning
from cace_pyg.progress import progress_bar
from cace_pyg.read_picture import read_picture

_EXPECTED: dict[DatasetName, SplitCounts] = {
    "market1501": MARKET1501,
    "dukemtmc": DUKEMTMC,
    "occluded_duke": OCCLUDED_DUKE,
    "msmt17": MSMT17,
    "msmt17_trainval": MSMT17_TRAINVAL,
}
_SHOWN, _FEW = 20, 3


@dataclass(frozen=True)
class DatasetCheck:
    """The result of a check.

    Attributes:
        name: the name to give as ``data.name``.
        found: sizes of the parts.
        expected: sizes that they should have; None if any size is right.
        unreadable: pictures that cannot be decoded, with the reason; None if pictures were not decoded.
        remarks: files that were left out, and problems for an evaluation.
        pattern: the pattern of the file names, if any.
        notes: facts that are good to know, but no problem.
    """

    root: Path
    name: DatasetName
    found: SplitCounts
    expected: SplitCounts | None
    unreadable: tuple[tuple[Path, str], ...] | None
    remarks: tuple[str, ...]
    pattern: str | None = None
    notes: tuple[str, ...] = ()

    @property
    def passed(self) -> bool:
        """Whether everything is there and can be read."""
        return not self.unreadable and not self.remarks and self.expected in (None, self.found)

    def __str__(self) -> str:
        whole = {True: "", False: ", but not complete"}[self.expected in (None, self.found)]
        option = "" if self.pattern is None else f" --data.pattern {shlex.quote(self.pattern)}"
        name = f"{self.root}: {self.name}{whole} (--data.name {self.name}{option})"
        lines = [name, counts_table(self.found, self.expected)]
        lines += [f"remark: {remark}" for remark in self.remarks] + [f"note: {note}" for note in self.notes]
        if self.unreadable is None:
            return "\n".join([*lines, "pictures were not decoded"])
        lines.append(f"pictures that cannot be read: {len(self.unreadable) or 'none'}")
        lines += [f"  {path}: {reason}" for path, reason in self.unreadable[:_SHOWN]]
        if len(self.unreadable) > _SHOWN:
            lines.append(f"  and {len(self.unreadable) - _SHOWN} more")
        return "\n".join(lines)


def check_dataset(
    root: str | Path, name: DatasetName | None = None, decode: bool = True, pattern: str | None = None
) -> DatasetCheck:
    """Find out which data set is at ``root``; junk, which is never used, is not checked.

    Without a name every reader is tried. A public data set with the right counts comes first, then a public one that
    is partly there (its cameras, at least half of its identities, and nothing more), then the formats for own data.

    Args:
        root: folder or table.
        name: check against this data set.
        decode: decode every picture, which is the slow part.
        pattern: of the file names, see :func:`cace_pyg.data.read_dataset.read_dataset`; without a name:
            ``market_layout``.

    Raises:
        FileNotFoundError, ValueError: no reader can read it; the message says what each expected. With a name: the
            error of its reader.
    """
    if not Path(root).exists():
        raise FileNotFoundError(f"there is no folder or table at {root}")
    if name is None and pattern is not None:
        name = "market_layout"
    if name is None:
        name, splits, left_out = _fitting(Path(root))
    else:
        splits, left_out = _read(name, root, pattern)
    pictures = [sample for part in (splits.train, splits.query, splits.gallery) for sample in part]
    unreadable = _unreadable(pictures) if decode else None
    return DatasetCheck(
        Path(root),
        name,
        count(splits),
        _EXPECTED.get(name),
        unreadable,
        (*left_out, *(() if name in _EXPECTED else _remarks(splits))),
        pattern,
        () if name in _EXPECTED else tuple(_notes(splits)),
    )


def _fitting(root: Path) -> tuple[DatasetName, Splits, tuple[str, ...]]:
    names: tuple[DatasetName, ...] = ("manifest",) if root.is_file() else get_args(DatasetName)
    read: dict[DatasetName, Splits] = {}
    left_out: dict[DatasetName, tuple[str, ...]] = {}
    reasons = []
    for name in names:
        try:
            read[name], left_out[name] = _read(name, root)
        except (OSError, ValueError, ImportError) as error:
            reasons.append(f"- {name}: {error}")
    if not read:
        own_names = "" if root.is_file() else "\nfile names of your own: give --pattern, see docs/data.md"
        raise ValueError(f"no data set at {root} that can be read:\n" + "\n".join(reasons) + own_names)
    whole = [name for name, splits in read.items() if _EXPECTED.get(name) == count(splits)]
    partly = [name for name, splits in read.items() if name in _EXPECTED and _is_part(count(splits), _EXPECTED[name])]
    partly.sort(key=lambda name: _EXPECTED[name].train.images - count(read[name]).train.images)
    own = [name for name in read if name not in _EXPECTED]
    name = [*whole, *partly, *own, *read][0]
    return name, read[name], left_out[name]


def _is_part(found: SplitCounts, expected: SplitCounts) -> bool:
    """Whether a data set may be a public one from which pictures are missing."""
    pairs = [(getattr(found, part), getattr(expected, part)) for part in ("train", "query", "gallery")]
    return all(
        part.images <= whole.images and whole.identities / 2 <= part.identities <= whole.identities
        and part.cameras == whole.cameras
        for part, whole in pairs
    )  # fmt: skip


def _remarks(splits: Splits) -> list[str]:
    """Problems for an evaluation. Not for public sets, where equal training and test pids may be different people."""
    trained = {sample.pid for sample in splits.train}
    counted, absent, same_camera = count_matches(splits.query, splits.gallery)
    copies = _copies(splits, removed=False)
    shared = trained & {sample.pid for sample in (*splits.query, *splits.gallery)}
    remarks = []
    if counted < len(splits.query):
        remarks.append(
            f"{counted} of {len(splits.query)} queries have a match from another camera in the gallery; the identities "
            f"of {absent} are absent from it, {same_camera} are seen by their own camera only"
        )
    if shared:
        remarks.append(
            f"identities of query and gallery that are trained on too: {len(shared)}; results would look better than "
            "they are"
        )
    if copies:
        remarks.append(f"{_told(copies)}; results would look better than they are")
    return remarks


def _notes(splits: Splits) -> list[str]:
    """Facts that are good to know, but harmless under the protocol."""
    copies = _copies(splits, removed=True)
    notes = [f"{_told(copies)}; each is removed, since its query is of the same camera"] if copies else []
    tracks = [len(set(track_labels(part))) for part in (splits.query, splits.gallery)]
    if tracks != [len(splits.query), len(splits.gallery)]:
        notes.append(f"track against track: {tracks[0]:,} over {tracks[1]:,}")
    return notes


def _told(copies: Sequence[tuple[Path, Path]]) -> str:
    few = ", ".join(f"{copy} of {query}" for copy, query in copies[:_FEW]) + ", …" * (len(copies) > _FEW)
    return f"pictures of the gallery that are copies of a query, byte for byte: {len(copies)} ({few})"


def _copies(splits: Splits, removed: bool) -> list[tuple[Path, Path]]:
    """Gallery pictures that are byte-identical to a query, and that query; ``removed``: by the protocol or not.

    Only files of equal size are read.
    """
    queries: dict[int, list[Sample]] = defaultdict(list)
    for sample in splits.query:
        queries[sample.path.stat().st_size].append(sample)
    own = {sample.path for sample in splits.query}
    return [
        (sample.path, query.path)
        for sample in splits.gallery
        if sample.path not in own
        for query in queries.get(sample.path.stat().st_size, ())
        if (sample[1:3] == query[1:3]) == removed and filecmp.cmp(sample.path, query.path, shallow=False)
    ]


def _read(name: DatasetName, root: str | Path, pattern: str | None = None) -> tuple[Splits, tuple[str, ...]]:
    """The data set, and the files that its reader left out; missing files show in the table of counts."""
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        splits = read_dataset(name, root, True, pattern)
    return splits, tuple(str(warning.message) for warning in told if warning.category is LeftOutWarning)


def _unreadable(pictures: Sequence[Sample]) -> tuple[tuple[Path, str], ...]:
    paths = list(dict.fromkeys(sample.path for sample in pictures))  # pictures of a test part are in query and gallery
    with ThreadPoolExecutor() as pool:
        reasons = list(progress_bar(pool.map(_reason, paths), total=len(paths), desc="decode", unit="picture"))
    return tuple((path, reason) for path, reason in zip(paths, reasons, strict=True) if reason)


def _reason(path: Path) -> str:
    """Why a picture cannot be decoded; "" if it can."""
    try:
        read_picture(path)
    except (OSError, ValueError) as error:
        return str(error.__cause__ or error) or type(error.__cause__).__name__
    return ""
