"""One's own labelled pictures, in a table or in folders, as the three parts of a data set."""

import re
from collections.abc import Hashable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from cace_pyg.data.sample import LARGEST_LABEL, Sample, Splits
from cace_pyg.data.sorted_pictures import pictures_below
from cace_pyg.data.table import label, read_table

PARTS = ("train", "query", "gallery")
_TEST = "test"  # query and gallery in one
_JUNK, _DISTRACTOR = -1, 0


class Labelled(NamedTuple):
    """One picture as its owner describes it."""

    path: Path
    pid: str
    camid: str  # empty: unknown
    part: str  # train, query or gallery; test: query and gallery in one
    track: str = ""  # pictures of one pid, camid and track are one query or one entry of the gallery; empty: by itself


def splits_of(pictures: Sequence[Labelled], source: Path) -> Splits:
    """The parts of a data set from labelled pictures.

    Identities and cameras may be numbers or words (:func:`cace_pyg.data.own_pictures.as_numbers`, over all parts at
    once). As numbers they mean what the protocol says: −1 is junk and left out, 0 a distractor. Where no camera is
    known for any picture, every picture (or track) counts as a camera of its own, so none is removed for its camera.
    Training pictures are taken one by one, whatever their track.

    Of the part ``test`` every picture is a query and in the gallery; evaluation leaves each query itself out of its own
    gallery (leave-one-out).

    Args:
        pictures: in any order.
        source: where they are described, for messages.

    Raises:
        ValueError: query or gallery is empty, a picture occurs twice, a distractor is in train or query, or only some
            pictures have a camera.
    """
    _check(pictures, source)
    pids = as_numbers(one.pid for one in pictures)
    camids = as_numbers((one.camid for one in pictures if one.camid), meant=())
    own_cameras: dict[Hashable, int] = {}  # where none is known
    parts: dict[str, list[Sample]] = {part: [] for part in (*PARTS, _TEST)}
    for number, one in enumerate(sorted(pictures, key=lambda one: (one.path.name, str(one.path))), start=1):
        pid = pids[one.pid]
        if pid == _DISTRACTOR and one.part not in ("gallery", _TEST):
            raise ValueError(f"pid 0 marks distractors, expected in the gallery only (got {one.path} in {one.part})")
        if pid != _JUNK:
            camid = camids[one.camid] if one.camid else own_cameras.setdefault((pid, one.track or one.path), number)
            parts[one.part].append(Sample(one.path, pid, camid, "" if one.part == "train" else one.track))
    if parts[_TEST]:
        if parts["query"] or parts["gallery"]:
            raise ValueError(f"Expected either query and gallery in {source}, or test in place of both (got more)")
        parts |= {"query": [one for one in parts[_TEST] if one.pid != _DISTRACTOR], "gallery": parts[_TEST]}
    empty = [part for part in ("query", "gallery") if not parts[part]]
    if empty:
        raise ValueError(f"Expected pictures for query and gallery in {source} (got none for {' and '.join(empty)})")
    return Splits(*(tuple(parts[part]) for part in PARTS))


def _check(pictures: Sequence[Labelled], source: Path) -> None:
    seen: set[Path] = set()
    for one in pictures:
        if one.path in seen:
            raise ValueError(f"Expected each picture once in {source} (got {one.path} twice)")
        seen.add(one.path)
    without = [one.path for one in pictures if not one.camid]
    if without and len(without) < len(pictures):
        raise ValueError(
            f"Expected a camera for every picture in {source}, or for none (got none for {len(without)} of "
            f"{len(pictures)}, such as {without[0]})"
        )


_TREE = """
  ROOT/
    train/    anna/entrance/1.jpg …     part/identity/camera/picture, or
    query/    bob/1.jpg …               part/identity/picture where no camera is known
    gallery/  bob/2.jpg …               (or test/ in place of both: each query leaves itself out)
              bob/entrance/7/1.jpg …    part/identity/camera/track/picture where tracks are known"""


def read_image_folder(root: str | Path) -> Splits:
    """The pictures below ``ROOT/{train,query,gallery}/IDENTITY/[CAMERA/[TRACK/]]``, or ``ROOT/{train,test}/…``.

    Names of identities and cameras are numbers or words, see :func:`cace_pyg.data.own_pictures.splits_of`. Which files
    are taken says :func:`cace_pyg.data.sorted_pictures.pictures_below`.

    Raises:
        FileNotFoundError: a folder is missing (but for training, which an evaluation does without); shows the tree.
        ValueError: a picture lies deeper or less deep, or see :func:`cace_pyg.data.own_pictures.splits_of`.
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
    """A number for every word, and another one for another word.

    Each is what it says if all are whole numbers and no two say the same; otherwise they are 1, 2, … in alphabetical
    order, beside those that mean something.

    Example: 7, 12 stay 7, 12, and 007, 0012 are 7, 12; anna, bob, 12, -1 become 2, 3, 1, −1; 021, 21 become 1, 2.

    Args:
        words: identities or cameras.
        meant: numbers that stay what they are among words, however written.

    Raises:
        ValueError: a number below −1.
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
    """Digits alone are a number, or digits and .0 after them; Python's own int() takes 5_11 for 511."""
    found = re.fullmatch(r"(?a)(-?\d+)(\.0+)?", word)
    return int(found[1]) if found and len(word) < 100 else None
