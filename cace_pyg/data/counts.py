"""How many pictures, identities and cameras a data set must have, and has."""

import os
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from cace_pyg.data.sample import Sample, Splits


class Counts(NamedTuple):
    """Size of one part. Distractors (pid 0) are pictures, but no identity."""

    images: int
    identities: int
    cameras: int


@dataclass(frozen=True)
class SplitCounts:
    """Size of the three parts of a data set."""

    train: Counts
    query: Counts
    gallery: Counts


def count(splits: Splits) -> SplitCounts:
    """What ``splits`` hold."""
    return SplitCounts(_count(splits.train), _count(splits.query), _count(splits.gallery))


def counts_table(found: SplitCounts, expected: SplitCounts | None = None) -> str:
    """A line a part; with ``expected``, each number beside the one that should be there, and differences marked."""
    lines = [f"{'':8}" + "".join(f"{name:>24}" for name in Counts._fields)]
    for part in ("train", "query", "gallery"):
        has, wanted = getattr(found, part), getattr(expected, part, None)
        cells = [f"{number:,}" for number in has]
        if wanted is not None:
            cells = [_cell(count, other) for count, other in zip(has, wanted, strict=True)]
        lines.append(f"{part:8}" + "".join(f"{cell:>24}" for cell in cells))
    return "\n".join(lines)


def check_counts(name: str, splits: Splits, expected: SplitCounts, allow_partial: bool) -> None:
    """See that a data set is whole.

    Args:
        name: of the data set, for the message.
        splits: what was read.
        expected: what its authors' release holds.
        allow_partial: warn instead of raising.

    Raises:
        ValueError: a count differs; shows expected and found, part by part, and where the pictures lie.
    """
    found = count(splits)
    if found == expected:
        return
    places = {part: _folder(getattr(splits, part)) for part in ("train", "query", "gallery")}
    where = "\n".join(f"  {part}: {place}" for part, place in places.items())
    message = f"not the whole of {name}:\n{counts_table(found, expected)}\nread from\n{where}"
    if not allow_partial:
        raise ValueError(
            f"{message}\ncomplete it, or give --data.allow_partial true to work with what is there; for pictures of "
            "your own give --data.name market_layout, which counts nothing"
        )
    warnings.warn(message, stacklevel=3)


def _count(samples: Sequence[Sample]) -> Counts:
    identities = {sample.pid for sample in samples} - {0}
    return Counts(len(samples), len(identities), len({sample.camid for sample in samples}))


def _cell(found: int, expected: int) -> str:
    return f"{found:,} ok" if found == expected else f"{found:,} (expected {expected:,})"


def _folder(samples: Sequence[Sample]) -> str:
    return os.path.commonpath([sample.path.parent for sample in samples]) if samples else "nowhere"
