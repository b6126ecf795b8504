"""Your own labelled pictures, in a table or in folders, as the three parts of a data set."""

import re
from collections.abc import Hashable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from cace_pyg.data.sample import LARGEST_LABEL, Sample, Splits
from cace_pyg.data.sorted_pictures import pictures_below
from cace_pyg.data.table import label, read_table

PARTS = ("train", "query", "gallery")
_TEST = "test"  # both query and gallery
_JUNK, _DISTRACTOR = -1, 0


class Labelled(NamedTuple):
    """One picture with its owner's labels."""

    path: Path
    pid: str
    camid: str  # empty: unknown
    part: str  # train, query or gallery; test: both query and gallery
    track: str = ""  # pictures of one pid, camid and track are one query or one gallery entry; empty: no track


def splits_of(pictures: Sequence[Labelled], source: Path) -> Splits:
    """The parts of a data set from labelled pictures.

    Identities and cameras may be numbers or words (:func:`cace_pyg.data.own_pictures.as_numbers`, for all parts
    together). Numbers have the protocol's meaning: −1 is junk and left out, 0 is a distractor. If no picture has a
    camera, every picture (or track) counts as its own camera, so none is removed because of its camera. Training
    pictures are used individually, whatever their track.

    Every picture of the part ``test`` is a query and in the gallery; the evaluation removes each query from its own
    gallery (leave-one-out).

    Args:
        pictures: in any order.
        source: where the labels come from, for messages.

    Raises:
        ValueError: query or gallery is empty, a picture occurs twice, a distractor is in train or query, or only some
            pictures have a camera.
    """
    _check(pictures, source)
    pids = as_numbers(picture.pid for picture in pictures)
    camids = as_numbers((picture.camid for picture in pictures if picture.camid), meant=())
    own_cameras: dict[Hashable, int] = {}  # used if no camera is known
    parts: dict[str, list[Sample]] = {part: [] for part in (*PARTS, _TEST)}
    for number, picture in enumerate(
        sorted(pictures, key=lambda picture: (picture.path.name, str(picture.path))), start=1
    ):
        pid = pids[picture.pid]
        if pid == _DISTRACTOR and picture.part not in ("gallery", _TEST):
            raise ValueError(
                f"pid 0 marks distractors, expected in the gallery only (got {picture.path} in {picture.part})"
            )
        if pid != _JUNK:
            camid = (
                camids[picture.camid]
                if picture.camid
                else own_cameras.setdefault((pid, picture.track or picture.path), number)
            )
            parts[picture.part].append(
                Sample(picture.path, pid, camid, "" if picture.part == "train" else picture.track)
            )
    if parts[_TEST]:
        if parts["query"] or parts["gallery"]:
            raise ValueError(f"Expected either query and gallery in {source}, or test instead of both (got more)")
        parts |= {"query": [sample for sample in parts[_TEST] if sample.pid != _DISTRACTOR], "gallery": parts[_TEST]}
    empty = [part for part in ("query", "gallery") if not parts[part]]
    if empty:
        raise ValueError(f"Expected pictures for query and gallery in {source} (got none for {' and '.join(empty)})")
    return Splits(*(tuple(parts[part]) for part in PARTS))


def _check(pictures: Sequence[Labelled], source: Path) -> None:
    seen: set[Path] = set()
    for picture in pictures:
        if picture.path in seen:
            raise ValueError(f"Expected each picture once in {source} (got {picture.path} twice)")
        seen.add(picture.path)
    without = [picture.path for picture in pictures if not picture.camid]
    if without and len(without) < len(pictures):
        raise ValueError(
            f"Expected a camera for every picture in {source}, or for none (got none for {len(without)} of "
            f"{len(pictures)}, such as {without[0]})"
        )


_TREE = """
  ROOT/
    train/    anna/entrance/1.jpg …     part/identity/camera/picture, or
    query/    bob/1.jpg …               part/identity/picture if no camera is known
    gallery/  bob/2.jpg …               (or test/ instead of both: leave-one-out)
              bob/entrance/7/1.jpg …    part/identity/camera/track/picture if tracks are known"""


def read_image_folder(root: str | Path) -> Splits:
    """The pictures below ``ROOT/{train,query,gallery}/IDENTITY/[CAMERA/[TRACK/]]``, or ``ROOT/{train,test}/…``.

    Names of identities and cameras are numbers or words, see :func:`cace_pyg.data.own_pictures.splits_of`. For the
    files that are used see :func:`cace_pyg.data.sorted_pictures.pictures_below`.

    Raises:
        FileNotFoundError: a folder is missing (except training, which an evaluation does not need); the message shows
            the tree.
        ValueError: a picture is at another folder depth; see also :func:`cace_pyg.data.own_pictures.splits_of`.
    """
    root = Path(root)
    one_set = (root / _TEST).is_dir() and not any((root / part).is_dir() for part in ("query", "gallery"))
    parts = ("train", _TEST) if one_set else PARTS
    missing = [part for part in parts if part != "train" and not (root / part).is_dir()]
    if missing:
        raise FileNotFoundError(f"no folder {', '.join(missing)} in {root} (data.root); expected{_TREE}")
    there = [part for part in parts if (root / part).is_dir()]
    return splits_of([_in_folders(path, root, part) for part in there for path in pictures_below(root / part)], root)


def _in_folders(path: Path, root: Path, part: str) -> Labelled:
    labels = path.relative_to(root / part).parts[:-1]
    if not 1 <= len(labels) <= 3:
        raise ValueError(f"cannot read identity and camera of {path}; expected{_TREE}")
    camera, track = (*labels[1:], "", "")[:2]
    return Labelled(path, labels[0], camera, part, track)


_COLUMNS = ("path", "pid", "split")  # camid and track may be left out


def read_manifest(path: str | Path) -> Splits:
    """The pictures of a CSV or Parquet table with the columns path, pid, split, and camid and track if known.

    Paths are relative to the table's folder, or absolute; split is train, query or gallery, or train or test;
    identities and cameras are numbers or words, see :func:`cace_pyg.data.own_pictures.splits_of`.

    Args:
        path: see :func:`cace_pyg.data.table.read_table`.

    Raises:
        FileNotFoundError: the table, or a picture in it, is missing.
        ImportError: it is a Parquet table and pyarrow is missing.
        ValueError: it is not a table, a column is missing, or a cell is empty or unknown; the message names row and
            column.
    """
    path = Path(path)
    rows = read_table(path)
    missing = [name for name in _COLUMNS if rows and name not in rows[0]]
    if not rows or missing:
        raise ValueError(
            f"Expected rows with the columns path, pid, split, and camid if cameras are known, in {path} "
            f"(got {', '.join(map(str, rows[0])) if rows else 'no row'})"
        )
    return splits_of([_labelled(row, number, path) for number, row in enumerate(rows, start=1)], path)


def _labelled(row: dict[str, Any], number: int, table: Path) -> Labelled:
    cells = {name: label(row.get(name)) for name in ("pid", "camid", "track")}
    cells |= {name: str(row[name] or "").strip() for name in ("path", "split")}
    empty = [name for name in _COLUMNS if not cells[name]]
    if empty:
        raise ValueError(f"Expected a value for {', '.join(empty)} in row {number} of {table} (got an empty cell)")
    if cells["split"] not in (*PARTS, _TEST):
        raise ValueError(
            f"Expected split {', '.join(PARTS)} or {_TEST} in row {number} of {table} (got {cells['split']!r})"
        )
    picture = table.parent / cells["path"]
    if not picture.is_file():
        raise FileNotFoundError(f"no picture at {picture}, row {number} of {table}; paths are relative to the table")
    return Labelled(picture, cells["pid"], cells["camid"], cells["split"], cells["track"])


def as_numbers(words: Iterable[str], meant: Sequence[int] = (_JUNK, _DISTRACTOR)) -> dict[str, int]:
    """A different number for every different word.

    If all words are integers with different values, these values are used. Otherwise words are numbered 1, 2, … in
    alphabetical order, except those with a special meaning.

    Example: 7, 12 stay 7, 12, and 007, 0012 are 7, 12; anna, bob, 12, -1 become 2, 3, 1, −1; 021, 21 become 1, 2.

    Args:
        words: identities or cameras.
        meant: numbers with a special meaning, which are kept among words, however they are written.

    Raises:
        ValueError: a number is below −1.
    """
    known = sorted(set(words))
    numbers = {word: number for word in known if (number := _number(word)) is not None}
    if (lowest := min(numbers.values(), default=0)) < _JUNK:
        raise ValueError(f"Expected identities and cameras of -1 (junk), 0 (distractor) or more (got {lowest})")
    if len(set(numbers.values())) == len(known) and max(numbers.values(), default=0) <= LARGEST_LABEL:
        return numbers
    kept = {word: number for word, number in numbers.items() if number in meant}
    others = [word for word in known if word not in kept]
    return kept | {word: number for number, word in enumerate(others, start=1)}


def _number(word: str) -> int | None:
    """The number, if the word is digits, or digits and .0; Python's own int() would read 5_11 as 511."""
    found = re.fullmatch(r"(?a)(-?\d+)(\.0+)?", word)
    return int(found[1]) if found and len(word) < 100 else None
