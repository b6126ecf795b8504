"""The people of a gallery: its pictures joined across cameras, and what joined them."""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from cace_pyg.engine.files import write_csv, write_text
from cace_pyg.gallery.corrections import Correction, Corrections
from cace_pyg.gallery.entries import CONFIDENCE, PERSON
from cace_pyg.gallery.evidence import UNLISTED, Evidence, Explained, Sighting, sighting_of
from cace_pyg.gallery.gallery import Gallery
from cace_pyg.gallery.new_picture import image_name

_SETTINGS = "people.json"


@dataclass(frozen=True)
class IdentifySettings:
    """How pictures are joined; stored with the gallery, so that later pictures are joined in the same way.

    Attributes:
        probability: two groups of pictures are one person while the mean log-odds of their pairs are above those of
            this probability. A higher value gives fewer wrong joins and more people. The default is below ½ because a
            mean over many pairs is surer than one pair of the same probability; docs/people.md has the figures behind
            the choice.
        ignore_times: two pictures of one camera at one time may show one person, for example if times are whole
            seconds.
    """

    probability: float = 0.1
    ignore_times: bool = False

    def __post_init__(self) -> None:
        if not UNLISTED <= self.probability < 1:
            raise ValueError(f"Expected a probability from {UNLISTED} to below 1 (got {self.probability})")


@dataclass(frozen=True)
class Identified:
    """What :meth:`People.identify` found.

    Attributes:
        pictures: number of pictures in the gallery.
        people: number of people found in them.
        changed: pictures that moved to another person; new pictures had none, and do not count.
        fresh: new people.
        doubted: pairs of pictures of one camera and time that look like one person; None if they are less than half.
    """

    pictures: int
    people: int
    changed: int
    fresh: int
    doubted: int | None


class People:
    """The people of a gallery (:class:`Gallery`): who is on each picture, across cameras.

    Candidate pairs are the neighbours that the gallery keeps, never all pairs. Their calibrated probabilities decide
    (:func:`cace_pyg.retrieval.clustering.agglomerate`), within constraints: pictures of one camera with one ``track``
    are one person, pictures or tracks of one camera that overlap in time are two, and users' corrections override
    both. Numbers are stable: a new picture joins a person or starts a new one, and only a correction joins or splits
    existing people. The results are columns of the gallery, ``person`` and ``person_confidence``.

    Args:
        gallery: the gallery.
    """

    def __init__(self, gallery: Gallery):
        self.gallery = gallery
        self.corrections = Corrections(gallery.path)

    @property
    def settings(self) -> IdentifySettings:
        """Those of the last :meth:`identify`."""
        return IdentifySettings(**{name: value for name, value in self._state().items() if name != "next"})

    def identify(
        self, settings: IdentifySettings | None = None, anew: bool = False, progress: bool = False
    ) -> Identified:
        """Assign each picture to a person, in one commit; first measures the pairs of new pictures
        (``keep_neighbours``).

        Args:
            settings: None: those of the last call.
            anew: join all pictures again from scratch; a person keeps its number if most of its pictures stay together.
            progress: show a bar while pairs are measured.

        Raises:
            ValueError: the model has no calibration, or there is a column ``person`` that is not from here; see also
                :meth:`Gallery.keep_neighbours`.
            RuntimeError: the gallery or one of its files is damaged.
        """
        with self._alone():
            self._check()
            settings = settings or self.settings
            self.gallery.keep_neighbours(progress)
            evidence = self._evidence(settings)
            found, following = _numbered(evidence, settings.probability, self._state()["next"], anew)
            confidence = evidence.confidence(found)
            told = {
                row["image"]: {PERSON: person, CONFIDENCE: sure}
                for row, person, sure in zip(evidence.rows, found.tolist(), confidence.tolist(), strict=True)
                if (row.get(PERSON), row.get(CONFIDENCE)) != (person, sure)
            }
            self._keep(settings, following)  # first: a number is never given twice
            self.gallery.tell(told)
        before = np.array([row.get(PERSON) or 0 for row in evidence.rows], dtype=np.int64)
        people = set(found.tolist())
        changed = int(((before != found) & (before > 0)).sum())
        return Identified(len(found), len(people), changed, len(people - set(before.tolist())), evidence.doubted())

    def say(self, a: str | Path, b: str | Path, same: bool) -> None:
        """Store that two pictures show one person, or do not; :meth:`identify` obeys it from now on.

        Raises:
            ValueError: a picture is not in the gallery, both are the same picture, or it contradicts other corrections.
        """
        picture_a, picture_b = self._named([a, b])
        now = datetime.now(UTC).replace(tzinfo=None, microsecond=0)
        self.corrections.say(Correction(*picture_a, *picture_b, same, now))

    def take_back(self, a: str | Path, b: str | Path) -> None:
        """Forget the correction of two pictures; people stay as they are until :meth:`identify` is called.

        Raises:
            ValueError: a picture is not in the gallery, or there is no such correction.
        """
        pair = frozenset(self._named([a, b]))
        if not self.corrections.take_back(pair):
            raise ValueError(f"Expected two pictures with a correction (got {a} and {b}, which have none)")

    def sightings(self, person: int | None = None) -> list[Sighting]:
        """The sightings of a person in time order, those of unknown time last; None: of all people, one by one.

        Raises:
            ValueError: nobody has this number.
        """
        rows = self.gallery.told()
        if person is not None:
            rows = [row for row in rows if row.get(PERSON) == person]
            if not rows:
                known = sorted({row[PERSON] for row in self.gallery.told() if row.get(PERSON) is not None})
                there = f"{len(known)} people, {known[0]} to {known[-1]}" if known else "nobody is identified yet"
                raise ValueError(f"Expected a person of the gallery ({there}; got {person})")
        found = [sighting_of(row) for row in rows if row.get(PERSON) is not None]
        return sorted(
            found,
            key=lambda sighting: (
                sighting.person or 0,
                sighting.time is None,
                sighting.time or datetime.min,
                sighting.image,
            ),
        )

    def explain(self, a: str | Path, b: str | Path) -> Explained:
        """Why two pictures are one person, or two.

        Raises:
            ValueError: a picture is not in the gallery, or not identified yet.
            IncompleteNeighboursError: pictures were added since :meth:`identify`.
        """
        images = [image for image, _ in self._named([a, b])]
        evidence = self._evidence(self.settings)
        return evidence.explain(*images)

    def resembling(self, person: int, most: int = 6) -> list[tuple[Sighting, Sighting, float]]:
        """Other people who may be the same, most likely first: the most likely pair with each, and its probability.

        Raises:
            ValueError: nobody has this number.
        """
        self.sightings(person)
        return self._evidence(self.settings).resembling(person, most)

    def remove(self, person: int, erase: bool = False) -> int:
        """Remove all pictures of a person and their corrections; returns how many pictures there were.

        Args:
            person: the number; it is not used again.
            erase: leave nothing of them on disk, see :meth:`Gallery.optimize`; otherwise files are deleted over time.

        Raises:
            ValueError: nobody has this number.
        """
        with self._alone():
            images = [sighting.image for sighting in self.sightings(person)]
            self.gallery.remove(images)
            if self.gallery.keeps_neighbours:
                self.gallery.keep_neighbours()
            if erase:
                self.gallery.optimize(erase=True)
        return len(images)

    def export(self, folder: str | Path) -> tuple[int, int]:
        """Write the corrections for training: ``pairs.csv`` and ``pictures.csv``; returns how many rows each has.

        The first has a row for each pair: ``path_a``, ``path_b``, ``same`` (yes or no), ``probability``. The second is
        a manifest (``--data.name manifest``) of the pictures in these pairs, whose people the corrections confirm:
        ``path``, ``pid`` (the person), ``camid``, ``split`` (test). Pictures without a file are left out.

        Raises:
            ValueError: there are no corrections, or :meth:`identify` was not called since.
            OSError: the folder cannot be made.
        """
        folder = Path(folder)
        evidence = self._evidence(self.settings)
        said = [pair for pair in evidence.said if not any(name.startswith("sha256:") for name in pair[:2])]
        if not said:
            raise ValueError("Expected corrected pairs to export (got none): give --same A B or --not_same A B first")
        folder.mkdir(parents=True, exist_ok=True)
        place = evidence.place
        for a, b, same in said:
            people = [evidence.rows[place[image]].get(PERSON) for image in (a, b)]
            if None in people or (people[0] == people[1]) != same:
                raise ValueError(f"the correction of {a} and {b} has no effect yet: run identify first")
        pairs = []
        for a, b, same in said:
            sure = evidence.probability_of(place[a], place[b])
            pairs.append({"path_a": a, "path_b": b, "same": "yes" if same else "no", "probability": sure})
        named = sorted({name for pair in said for name in pair[:2]})
        rows = [evidence.rows[place[name]] for name in named]
        known = all(row["camera"] for row in rows)
        camera = [{"camid": row["camera"]} if known else {} for row in rows]
        pictures = [
            {"path": row["image"], "pid": row[PERSON], **camid, "split": "test"}
            for row, camid in zip(rows, camera, strict=True)
        ]
        write_csv(folder / "pairs.csv", pairs)
        write_csv(folder / "pictures.csv", pictures)
        return len(pairs), len(pictures)

    def _check(self) -> None:
        if not len(self.gallery):
            raise ValueError(f"Expected pictures in the gallery {self.gallery.path} (got none): add some first")
        self.gallery.check_calibrated("it cannot say how probable it is that two pictures show one person")
        columns = self.gallery.metadata_columns
        if PERSON in columns and CONFIDENCE not in columns:
            raise ValueError(
                f"{self.gallery.path} already has a column {PERSON}, which this command did not make: index the "
                "pictures again with another name for it"
            )

    def _evidence(self, settings: IdentifySettings) -> Evidence:
        return Evidence(self.gallery, self.corrections.read(), settings.ignore_times)

    def _named(self, pictures: Sequence[str | Path]) -> list[tuple[str, str]]:
        """Names and SHA-256 of some pictures of the gallery."""
        names = [image_name(picture) for picture in pictures]
        known = {row["image"]: row["sha256"] for row in self.gallery.told()}
        for name in names:
            if name not in known:
                raise ValueError(f"Expected pictures of the gallery {self.gallery.path} (got {name}, which is not)")
        return [(name, known[name]) for name in names]

    def _state(self) -> dict[str, Any]:
        path = self.gallery.path / _SETTINGS
        if not path.is_file():
            return {"next": 1}
        try:
            state = json.loads(path.read_text())
            IdentifySettings(float(state["probability"]), bool(state["ignore_times"]))
            return {name: state[name] for name in ("next", "probability", "ignore_times")}
        except (ValueError, KeyError, TypeError) as error:
            raise RuntimeError(f"cannot read {path} ({error}); copy it back from a backup, or delete it") from error

    def _keep(self, settings: IdentifySettings, following: int) -> None:
        state = {"next": following, "probability": settings.probability, "ignore_times": settings.ignore_times}
        write_text(self.gallery.path / _SETTINGS, json.dumps(state))

    @contextmanager
    def _alone(self) -> Iterator[None]:
        from filelock import FileLock

        with FileLock(self.gallery.path / "people.lock"):
            yield


def _numbered(evidence: Evidence, probability: float, following: int, anew: bool) -> tuple[np.ndarray, int]:
    """The number of each picture's person, and the next number that was never used."""
    before = np.array([row.get(PERSON) or 0 for row in evidence.rows], dtype=np.int64)
    following = max(following, int(before.max(initial=0)) + 1)
    known = np.full(len(before), -1) if anew else evidence.known
    first = evidence.join(known, probability)
    number = dict(zip(first[known >= 0].tolist(), known[known >= 0].tolist(), strict=True))
    taken = set(number.values())
    overlap, shared = np.unique(np.stack([first, before], 1)[before > 0], axis=0, return_counts=True)
    for group, person in overlap[np.argsort(-shared, kind="stable")].tolist():
        if group not in number and person not in taken:
            number[group] = person
            taken.add(person)
    for group in np.unique(first).tolist():
        if group not in number:
            number[group] = following
            following += 1
    return np.array([number[group] for group in first.tolist()], dtype=np.int64), following
