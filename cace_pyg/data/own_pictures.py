"""One's own labelled pictures as the three parts of a data set."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from cace_pyg.data.as_numbers import as_numbers
from cace_pyg.data.sample import Sample, Splits

PARTS = ("train", "query", "gallery")
_JUNK = -1


class Labelled(NamedTuple):
    """One picture as its owner describes it."""

    path: Path
    pid: str
    camid: str  # empty: unknown
    part: str  # train, query or gallery


def splits_of(pictures: Sequence[Labelled], source: Path) -> Splits:
    """The parts of a data set from labelled pictures.

    Identities and cameras may be numbers or words (:func:`cace_pyg.data.as_numbers.as_numbers`, over all parts at
    once). As numbers they mean what the protocol says: −1 is junk and left out, 0 a distractor. Where no camera is
    known for any picture, every picture counts as a camera of its own, so none is removed for its camera.

    Args:
        pictures: in any order.
        source: where they are described, for messages.

    Raises:
        ValueError: a part is empty, a picture occurs twice, a distractor is in train or query, or only some pictures
            have a camera.
    """
    _check(pictures, source)
    pids = as_numbers(one.pid for one in pictures)
    camids = as_numbers(one.camid for one in pictures if one.camid)
    parts: dict[str, list[Sample]] = {part: [] for part in PARTS}
    for number, one in enumerate(sorted(pictures, key=lambda one: (one.path.name, str(one.path))), start=1):
        pid = pids[one.pid]
        if pid == 0 and one.part != "gallery":
            raise ValueError(f"pid 0 marks distractors, expected in the gallery only (got {one.path} in {one.part})")
        if pid != _JUNK:
            parts[one.part].append(Sample(one.path, pid, camids[one.camid] if one.camid else number))
    empty = [part for part in PARTS if not parts[part]]
    if empty:
        raise ValueError(f"Expected pictures for {', '.join(PARTS)} in {source} (got none for {', '.join(empty)})")
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
