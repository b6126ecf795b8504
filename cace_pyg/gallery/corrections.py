"""Corrections: what users have said about pairs of a gallery's pictures (the same person, or not)."""

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
    """What a user said about one pair of pictures.

    Attributes:
        image_a: name of the first picture in the gallery.
        sha256_a: its content at that time; a correction does not hold for a picture that was replaced since.
        image_b: name of the second picture.
        sha256_b: its content.
        same: whether both show one person.
        said: time of the correction, in UTC.
    """

    image_a: str
    sha256_a: str
    image_b: str
    sha256_b: str
    same: bool
    said: datetime

    @property
    def pair(self) -> frozenset[tuple[str, str]]:
        """Both pictures, unordered."""
        return frozenset({(self.image_a, self.sha256_a), (self.image_b, self.sha256_b)})


class Corrections:
    """A small table, ``folder/corrections.csv``; it is replaced as a whole, by one process at a time.

    Args:
        folder: the gallery's.
    """

    def __init__(self, folder: Path):
        self.path = folder / _NAME

    def read(self) -> tuple[Correction, ...]:
        """All corrections, oldest first.

        Raises:
            RuntimeError: the file is damaged.
        """
        if not self.path.is_file():
            return ()
        try:
            with self.path.open(newline="", encoding="utf-8") as file:
                return tuple(_correction(row) for row in csv.DictReader(file, strict=True))
        except (csv.Error, KeyError, TypeError, ValueError) as error:
            columns = ", ".join(field.name for field in fields(Correction))
            raise RuntimeError(
                f"cannot read {self.path} ({error}); expected rows with {columns}, same yes or no: repair it, or copy "
                "it back from a backup"
            ) from error

    def say(self, new: Correction) -> None:
        """Keep a correction; it replaces an earlier one of the same pair.

        Raises:
            ValueError: both pictures are the same, or it contradicts other corrections.
        """
        if len(new.pair) < 2:
            raise ValueError(f"Expected two pictures (got {new.image_a} twice)")
        with self._alone():
            kept = [*(correction for correction in self.read() if correction.pair != new.pair), new]
            check_corrections(kept)
            self._write(kept)

    def take_back(self, pair: frozenset[tuple[str, str]]) -> bool:
        """Forget the correction of a pair; returns whether there was one."""
        return self._keep(lambda correction: correction.pair != pair) > 0

    def forget(self, images: Collection[str]) -> int:
        """Forget all corrections of some pictures; returns how many there were."""
        gone = set(images)
        return self._keep(lambda correction: not gone & {correction.image_a, correction.image_b})

    def _keep(self, wanted: Callable[[Correction], bool]) -> int:
        if not self.path.is_file():
            return 0
        with self._alone():
            before = self.read()
            kept = [correction for correction in before if wanted(correction)]
            if len(kept) < len(before):
                self._write(kept)
        return len(before) - len(kept)

    def _write(self, kept: Sequence[Correction]) -> None:
        if not kept:
            self.path.unlink(missing_ok=True)
            return
        write_csv(
            self.path,
            [
                asdict(correction) | {"same": _WORDS[correction.same], "said": correction.said.isoformat()}
                for correction in kept
            ],
        )

    @contextmanager
    def _alone(self) -> Iterator[None]:
        from filelock import FileLock

        with FileLock(self.path.with_suffix(".lock")):
            yield


def check_corrections(corrections: Sequence[Correction]) -> None:
    """Raise ``ValueError`` if two pictures are said to differ, but other corrections make them one person."""
    same: nx.Graph[tuple[str, str]] = nx.Graph()
    for correction in corrections:
        if correction.same:
            same.add_edge(*correction.pair)
    for correction in corrections:
        a, b = correction.pair
        if not correction.same and same.has_node(a) and same.has_node(b) and nx.has_path(same, a, b):
            way = " = ".join(Path(image).name for image, _ in nx.shortest_path(same, a, b))
            apart = f"{Path(correction.image_a).name} and {Path(correction.image_b).name}"
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
