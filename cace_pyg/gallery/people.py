"""The people of a gallery: its pictures joined across cameras, and what joined them."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import networkx as nx
import numpy as np
from scipy.special import expit, logit

from cace_pyg.engine.files import write_csv, write_text
from cace_pyg.gallery.corrections import Correction, Corrections
from cace_pyg.gallery.entries import CONFIDENCE, PERSON, TRACK
from cace_pyg.gallery.gallery import Gallery
from cace_pyg.gallery.gallery_table import Value
from cace_pyg.gallery.new_picture import image_name
from cace_pyg.retrieval.clustering import agglomerate, connected_images, listed_pairs, pairs_of_known

_SETTINGS = "people.json"
_SUREST = 1e-6  # probabilities are kept this far from 0 and 1; otherwise one pair could outweigh all others of a mean
_UNLISTED = 0.03  # probability of a pair in neither picture's list; chosen as IdentifySettings says
_DOUBTED = 0.5  # share of look-alikes among pictures of one camera and time; from this share on, times are doubted


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
        if not _UNLISTED <= self.probability < 1:
            raise ValueError(f"Expected a probability from {_UNLISTED} to below 1 (got {self.probability})")


class Sighting(NamedTuple):
    """One picture of a gallery, and the person it shows.

    Attributes:
        image: its name.
        person: a number from 1; None: not identified yet.
        confidence: mean probability of its listed pairs with the other sightings of this person; for a person seen
            once, the probability that it is nobody else. 0 to 1.
        camera: None: unknown.
        time: None: unknown.
        metadata: other columns.
    """

    image: str
    person: int | None
    confidence: float | None
    camera: str | None
    time: datetime | None
    metadata: Mapping[str, Value]


class Join(NamedTuple):
    """Why two pictures are one person.

    Attributes:
        a: name of a picture.
        b: name of the other picture.
        why: ``"pair"``: they look alike; ``"said"``: a user said so; ``"track"``: they are in one track.
        probability: of the pair; None if it was not measured.
        distance: of both stages.
    """

    a: str
    b: str
    why: str
    probability: float | None
    distance: float | None


@dataclass(frozen=True)
class Explained:
    """Why two pictures are one person, or two.

    Attributes:
        a: the first picture.
        b: the second picture.
        chain: joins that lead from a to b, along the path whose weakest join is strongest; empty if they are two
            people, or if pictures that joined them are gone.
        pairs: number of listed pairs between the two pictures, or between the two people.
        probability: of the mean log-odds of all these pairs, including those not listed; None if none is listed.
        forbidden: what keeps them apart, in words.
    """

    a: Sighting
    b: Sighting
    chain: tuple[Join, ...]
    pairs: int
    probability: float | None
    forbidden: tuple[str, ...]

    @property
    def same(self) -> bool:
        """Whether they are one person."""
        return self.a.person is not None and self.a.person == self.b.person


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
            found, following = _named(evidence, self._state()["next"], anew)
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
        found = [_sighting(row) for row in rows if row.get(PERSON) is not None]
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

    def _evidence(self, settings: IdentifySettings) -> "_Evidence":
        return _Evidence(self.gallery, self.corrections.read(), settings)

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


class _Evidence:
    """What is known about a gallery's pictures and about pairs of them.

    Attributes:
        rows: of the gallery, sorted by name.
        place: position of each name.
        pairs: listed pairs, ``(pair, 2)``, lower position first, sorted.
        probability: of each pair.
        said: (image, other, same): the corrections of pairs in the gallery.
        together: pairs that are known to be one person, ``(pair, 2)``.
        apart: pairs that are known to be two people, ``(pair, 2)``.
    """

    def __init__(self, gallery: Gallery, corrections: Sequence[Correction], settings: IdentifySettings):
        self.settings = settings
        self.rows, lists = gallery.told_with_neighbours()
        self.place = {row["image"]: position for position, row in enumerate(self.rows)}
        self.pairs, self.distance = listed_pairs(lists.index, lists.fused())
        if gallery.calibration is None:
            raise ValueError("Expected a calibrated model (got one without)")
        found = gallery.calibration.probability(self.distance, max(len(self.rows), 1))
        self.probability = np.clip(found, _SUREST, 1 - _SUREST)
        there = {(row["image"], row["sha256"]) for row in self.rows}
        self.said = [
            (correction.image_a, correction.image_b, correction.same)
            for correction in corrections
            if correction.pair <= there
        ]
        self._know()

    def _know(self) -> None:
        """Combine what is known; corrections override tracks, and tracks override times."""
        self.same, self.different = (
            _pairs((self.place[a], self.place[b]) for a, b, truth in self.said if truth == wanted)
            for wanted in (True, False)
        )
        self.by_track = self._tracks()
        self.together = np.concatenate([self.same, self.by_track])
        unit = connected_images(len(self.rows), self.together)
        self.at_once = _pairs(() if self.settings.ignore_times else self._at_once(unit))
        self.apart = np.concatenate([self.different, self.at_once])

    def _tracks(self) -> np.ndarray:
        """Pairs that connect the pictures of each track, except tracks that contradict a correction."""
        tracks: dict[Any, list[int]] = {}
        for position, row in enumerate(self.rows):
            if row.get(TRACK) is not None:
                tracks.setdefault((row["camera"], row[TRACK]), []).append(position)
        pairs = {track: _pairs(pairwise(several)) for track, several in tracks.items()}
        while True:
            together = _pairs([tuple(pair) for some in (*pairs.values(), self.same) for pair in some.tolist()])
            unit = connected_images(len(self.rows), together)
            broken = self.different[unit[self.different[:, 0]] == unit[self.different[:, 1]]]
            if not len(broken):
                return _pairs([tuple(pair) for some in pairs.values() for pair in some.tolist()])
            wrong = {unit[a] for a in broken[:, 0].tolist()}
            pairs = {track: some for track, some in pairs.items() if not len(some) or unit[some[0, 0]] not in wrong}

    def _at_once(self, unit: np.ndarray) -> Iterable[tuple[int, int]]:
        """Pairs of pictures or tracks of one camera that overlap in time, unless they are known to be one person."""
        spans: dict[tuple[str, int], tuple[datetime, datetime]] = {}
        tracked = {place for pair in self.by_track.tolist() for place in pair}
        track_of = connected_images(len(self.rows), self.by_track)
        for position, row in enumerate(self.rows):
            if row["camera"] and row["time"]:
                key = (row["camera"], int(track_of[position]) if position in tracked else position)
                first, last = spans.get(key, (row["time"], row["time"]))
                spans[key] = min(first, row["time"]), max(last, row["time"])
        cameras: dict[str, list[tuple[datetime, datetime, int]]] = {}
        for (camera, image), (first, last) in spans.items():
            cameras.setdefault(camera, []).append((first, last, image))
        for several in cameras.values():
            open_now: list[tuple[datetime, int]] = []
            for first, last, image in sorted(several):
                open_now = [(until, other) for until, other in open_now if until >= first]
                yield from ((other, image) for _, other in open_now if unit[other] != unit[image])
                open_now.append((last, image))

    @property
    def known(self) -> np.ndarray:
        """The person that each picture has already; −1: none, or later facts contradict it."""
        people = np.array([-1 if row.get(PERSON) is None else row[PERSON] for row in self.rows], dtype=np.int64)
        unit = connected_images(len(people), self.together)
        both = np.unique(np.stack([unit, people], 1)[people >= 0], axis=0)
        again = both[1:, 0] == both[:-1, 0]
        joined = nx.Graph(zip(both[:-1][again, 1].tolist(), both[1:][again, 1].tolist(), strict=True))
        for several in nx.connected_components(joined):  # keep the lowest number
            people[np.isin(people, list(several))] = min(several)
        while True:
            start = connected_images(len(people), np.concatenate([self.together, pairs_of_known(people)]))
            broken = start[self.apart]
            broken = broken[broken[:, 0] == broken[:, 1], 0]
            if not len(broken):
                return people
            people[np.isin(start, broken)] = -1

    def join(self, known: np.ndarray) -> np.ndarray:
        """For each picture, the first picture of the same person."""
        above = logit(self.settings.probability)
        unlisted = float(logit(_UNLISTED) - above)
        log_odds = logit(self.probability) - above
        return agglomerate(len(self.rows), self.pairs, log_odds, self.together, self.apart, known, unlisted)

    def confidence(self, people: np.ndarray) -> np.ndarray:
        """See :class:`Sighting`; rounded to hundredths, so that tiny changes do not rewrite rows."""
        pairs, probability = self._with_known()
        within = people[pairs[:, 0]] == people[pairs[:, 1]]
        sums, counts = (np.zeros(len(people)) for _ in range(2))
        strangest = np.zeros(len(people))
        for side in (0, 1):
            np.add.at(sums, pairs[within, side], probability[within])
            np.add.at(counts, pairs[within, side], 1)
            np.maximum.at(strangest, pairs[~within, side], probability[~within])
        alone = np.bincount(people, minlength=1)[people] == 1
        mean = np.divide(sums, counts, out=np.full(len(people), _UNLISTED), where=counts > 0)
        return np.round(np.where(alone, 1 - strangest, mean), 2)

    def _with_known(self) -> tuple[np.ndarray, np.ndarray]:
        """Listed pairs, and known pairs with probability 1 or 0."""
        known = np.sort(np.concatenate([self.together, self.apart]), 1)
        sure = np.repeat([1.0, 0.0], [len(self.together), len(self.apart)])
        pairs = np.concatenate([known, self.pairs])
        probability = np.concatenate([sure, self.probability])
        _, first = np.unique(pairs, axis=0, return_index=True)
        return pairs[first], probability[first]

    def doubted(self) -> int | None:
        """How many listed pairs of one camera and time look like one person; None if less than half do."""
        at_once = {tuple(pair) for pair in np.sort(self.at_once, 1).tolist()}
        found = [
            sure for pair, sure in zip(self.pairs.tolist(), self.probability, strict=True) if tuple(pair) in at_once
        ]
        alike = sum(sure > 0.5 for sure in found)
        return alike if alike and alike >= _DOUBTED * len(found) else None

    def probability_of(self, a: int, b: int) -> float | None:
        """The probability of a pair; None if it is not listed."""
        a, b = sorted((a, b))
        here = np.flatnonzero((self.pairs[:, 0] == a) & (self.pairs[:, 1] == b))
        return float(self.probability[here[0]]) if len(here) else None

    def explain(self, a: str, b: str) -> Explained:
        place_a, place_b = self.place[a], self.place[b]
        sightings = [_sighting(self.rows[place]) for place in (place_a, place_b)]
        people = np.array([row.get(PERSON) or -1 for row in self.rows])
        person_a, person_b = people[place_a], people[place_b]
        if min(person_a, person_b) < 0:
            raise ValueError(f"{a if person_a < 0 else b} is not identified yet: run identify first")
        if person_a == person_b:
            chain = self._chain(people == person_a, place_a, place_b)
            sure = self.probability_of(place_a, place_b)
            return Explained(sightings[0], sightings[1], chain, int(sure is not None), sure, ())
        sides = people[self.pairs]
        both = {person_a, person_b}
        between = (np.isin(sides, list(both)).all(1)) & (sides[:, 0] != sides[:, 1])
        log_odds = logit(self.probability[between])
        sizes = int((people == person_a).sum() * (people == person_b).sum())
        mean = (log_odds.sum() + logit(_UNLISTED) * (sizes - len(log_odds))) / sizes
        forbidden = []
        for pairs, why in ((self.different, "said not to be one person"), (self.at_once, "one camera at one time")):
            for x, y in pairs.tolist():
                if {people[x], people[y]} == both:
                    forbidden.append(f"{self.rows[x]['image']} and {self.rows[y]['image']}: {why}")
        sure = float(expit(mean)) if len(log_odds) else None
        return Explained(sightings[0], sightings[1], (), len(log_odds), sure, tuple(forbidden))

    def _chain(self, here: np.ndarray, start: int, end: int) -> tuple[Join, ...]:
        """The path between two pictures of a person whose weakest join is strongest."""
        graph: nx.Graph[int] = nx.Graph()
        graph.add_nodes_from((start, end))
        for number in np.flatnonzero(here[self.pairs].all(1)).tolist():
            a, b = self.pairs[number].tolist()
            sure, distance = float(self.probability[number]), float(self.distance[number])
            graph.add_edge(a, b, sure=sure, join=("pair", sure, distance))
        for pairs, why in ((self.by_track, "track"), (self.same, "said")):
            for a, b in pairs.tolist():
                told = graph.get_edge_data(a, b, {}).get("join", (None, None, None))
                graph.add_edge(a, b, sure=1.0, join=(why, *told[1:]))
        tree = nx.maximum_spanning_tree(graph, weight="sure")
        if not nx.has_path(tree, start, end):
            return ()
        name = [row["image"] for row in self.rows]
        way = nx.shortest_path(tree, start, end)
        return tuple(Join(name[a], name[b], *tree.edges[a, b]["join"]) for a, b in pairwise(way))

    def resembling(self, person: int, most: int) -> list[tuple[Sighting, Sighting, float]]:
        people = np.array([row.get(PERSON) or -1 for row in self.rows])
        sides = people[self.pairs]
        outside = ((sides == person).sum(1) == 1) & (sides >= 0).all(1)
        found: dict[int, tuple[Sighting, Sighting, float]] = {}
        numbers = np.flatnonzero(outside)
        for number in numbers[np.argsort(-self.probability[numbers], kind="stable")].tolist():
            mine, theirs = sorted(self.pairs[number].tolist(), key=lambda place: people[place] != person)
            pair = _sighting(self.rows[mine]), _sighting(self.rows[theirs]), float(self.probability[number])
            found.setdefault(int(people[theirs]), pair)
            if len(found) == most:
                break
        return list(found.values())


def _named(evidence: _Evidence, following: int, anew: bool) -> tuple[np.ndarray, int]:
    """The number of each picture's person, and the next number that was never used."""
    before = np.array([row.get(PERSON) or 0 for row in evidence.rows], dtype=np.int64)
    following = max(following, int(before.max(initial=0)) + 1)
    known = np.full(len(before), -1) if anew else evidence.known
    first = evidence.join(known)
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


def _sighting(row: Mapping[str, Any]) -> Sighting:
    metadata = {name: value for name, value in row["metadata"].items() if name not in (PERSON, CONFIDENCE)}
    return Sighting(row["image"], row.get(PERSON), row.get(CONFIDENCE), row["camera"], row["time"], metadata)


def _pairs(pairs: Iterable[tuple[int, int]]) -> np.ndarray:
    return np.array(list(pairs), dtype=np.int64).reshape(-1, 2)
