"""What people have said of pairs of a gallery's pictures: the same person, or not."""

import csv
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from datetime import datetime
from pathlib import Path

import networkx as nx

from cace_pyg.engine.files import write_csv

_NAME = "corrections.csv"
_WORDS = {True: "yes", False: "no"}


@dataclass(frozen=True)
class Correction:
    """One pair of pictures, and what somebody said of it.

    Attributes:
        image_a: its name in the gallery.
        sha256_a: of what it showed then: of a replaced picture nothing was said.
        image_b: the other.
        sha256_b: of the other.
        same: whether they show one person.
        said: when, in UTC.
    """

    image_a: str
    sha256_a: str
    image_b: str
    sha256_b: str
    same: bool
    said: datetime

    @property
    def pair(self) -> frozenset[tuple[str, str]]:
        """Both pictures, in no order."""
        return frozenset({(self.image_a, self.sha256_a), (self.image_b, self.sha256_b)})


class Corrections:
    """A small table, ``folder/corrections.csv``, whole or not there at all; one process at a time writes it.

    Args:
        folder: of the gallery.
    """

    def __init__(self, folder: Path):
        self.path = folder / _NAME

    def read(self) -> tuple[Correction, ...]:
        """All, the oldest first.

        Raises:
            RuntimeError: the file is not what was written.
        """
        if not self.path.is_file():
            return ()
        try:
            with self.path.open(newline="", encoding="utf-8") as file:
                return tuple(_correction(row) for row in csv.DictReader(file, strict=True))
        except (csv.Error, KeyError, TypeError, ValueError) as error:
            columns = ", ".join(field.name for field in fields(Correction))
            raise RuntimeError(
                f"cannot read {self.path} ({error}); expected rows with {columns}, same yes or no: mend it, or copy it "
                "back from a backup"
            ) from error

    def say(self, new: Correction) -> None:
        """Keep one; what was said of the same pair before no longer holds.

        Raises:
            ValueError: both are one picture, or it contradicts what was said of others.
        """
        if len(new.pair) < 2:
            raise ValueError(f"Expected two pictures (got {new.image_a} twice)")
        with self._alone():
            kept = [*(one for one in self.read() if one.pair != new.pair), new]
            check_corrections(kept)
            self._write(kept)

    def take_back(self, pair: frozenset[tuple[str, str]]) -> bool:
        """Forget what was said of a pair; whether anything was."""
        return self._keep(lambda one: one.pair != pair) > 0

    def forget(self, images: Collection[str]) -> int:
        """Forget all that was said of some pictures; returns how many pairs that were."""
        gone = set(images)
        return self._keep(lambda one: not gone & {one.image_a, one.image_b})

    def _keep(self, wanted: Callable[[Correction], bool]) -> int:
        if not self.path.is_file():
            return 0
        with self._alone():
            before = self.read()
            kept = [one for one in before if wanted(one)]
            if len(kept) < len(before):
                self._write(kept)
        return len(before) - len(kept)

    def _write(self, kept: Sequence[Correction]) -> None:
        if not kept:
            self.path.unlink(missing_ok=True)
            return
        write_csv(self.path, [asdict(one) | {"same": _WORDS[one.same], "said": one.said.isoformat()} for one in kept])

    @contextmanager
    def _alone(self) -> Iterator[None]:
        from filelock import FileLock

        with FileLock(self.path.with_suffix(".lock")):
            yield


def check_corrections(corrections: Sequence[Correction]) -> None:
    """Raise ``ValueError`` where pictures that are one person, through others too, are said not to be."""
    same: nx.Graph[tuple[str, str]] = nx.Graph()
    for one in corrections:
        if one.same:
            same.add_edge(*one.pair)
    for one in corrections:
        a, b = one.pair
        if not one.same and same.has_node(a) and same.has_node(b) and nx.has_path(same, a, b):
            way = " = ".join(Path(image).name for image, _ in nx.shortest_path(same, a, b))
            apart = f"{Path(one.image_a).name} and {Path(one.image_b).name}"
            raise ValueError(
                f"{apart} are said not to be one person, but with this they would be one: {way}. Take one of these "
                "back first (--take_back A B)"
            )


def _correction(row: dict[str, str]) -> Correction:
    values = {name: row[name] for name in ("image_a", "sha256_a", "image_b", "sha256_b")}
    if any(not value for value in values.values()):
        raise ValueError("a picture without a name")
    same = {word: truth for truth, word in _WORDS.items()}[row["same"]]
    return Correction(**values, same=same, said=datetime.fromisoformat(row["said"]))
