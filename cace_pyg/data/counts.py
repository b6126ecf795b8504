"""Numbers of pictures, identities and cameras of a data set, expected and found."""

import os
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from cace_pyg.data.sample import Sample, Splits


class Counts(NamedTuple):
    """Size of one part. Distractors (pid 0) count as pictures, but not as an identity."""

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
    """The sizes of ``splits``."""
    return SplitCounts(_count(splits.train), _count(splits.query), _count(splits.gallery))


def counts_table(found: SplitCounts, expected: SplitCounts | None = None) -> str:
    """A line per part; with ``expected``, each number is compared with the expected one."""
    lines = [f"{'':8}" + "".join(f"{name:>24}" for name in Counts._fields)]
    for part in ("train", "query", "gallery"):
        has, wanted = getattr(found, part), getattr(expected, part, None)
        cells = [f"{number:,}" for number in has]
        if wanted is not None:
            cells = [_cell(count, other) for count, other in zip(has, wanted, strict=True)]
        lines.append(f"{part:8}" + "".join(f"{cell:>24}" for cell in cells))
    return "\n".join(lines)


def check_counts(name: str, splits: Splits, expected: SplitCounts, allow_partial: bool) -> None:
    """Check that a data set is complete.

    Args:
        name: of the data set, for the message.
        splits: the parts that were read.
        expected: the sizes of its authors' release.
        allow_partial: warn instead of raising.

    Raises:
        ValueError: a count differs; the message shows expected and found counts, and the folders.
    """
    found = count(splits)
    if found == expected:
        return
    places = {part: _folder(getattr(splits, part)) for part in ("train", "query", "gallery")}
    where = "\n".join(f"  {part}: {place}" for part, place in places.items())
    message = f"{name} is not complete:\n{counts_table(found, expected)}\nread from\n{where}"
    if not allow_partial:
        raise ValueError(
            f"{message}\ncomplete it, or give --data.allow_partial true to use it as it is; for your own pictures give "
            "--data.name market_layout, which does not check counts"
        )
    warnings.warn(message, stacklevel=3)


def _count(samples: Sequence[Sample]) -> Counts:
    identities = {sample.pid for sample in samples} - {0}
    return Counts(len(samples), len(identities), len({sample.camid for sample in samples}))


def _cell(found: int, expected: int) -> str:
    return f"{found:,} ok" if found == expected else f"{found:,} (expected {expected:,})"


def _folder(samples: Sequence[Sample]) -> str:
    return os.path.commonpath([sample.path.parent for sample in samples]) if samples else "nowhere"
