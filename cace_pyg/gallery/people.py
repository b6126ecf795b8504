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
_SUREST = 1e-6  # no pair is surer than that: one would outweigh all others of a mean
_UNLISTED = 0.03  # probability of a pair of which neither is listed for the other; chosen as IdentifySettings says
_DOUBTED = 0.5  # share of look-alikes among pictures of one camera and time, from which on the times are doubted


@dataclass(frozen=True)
class IdentifySettings:
    """How pictures are joined; kept with the gallery, so that later pictures are joined in the same way.

    Attributes:
        probability: two groups of pictures are one person while the mean log-odds of their pairs are above those of
            this one. More: fewer wrong joins, more people. The default is below ½ because a mean over many pairs is
            surer than one pair of the same probability; docs/people.md has the figures it was chosen by.
        ignore_times: two pictures of one camera at one time may show one person, as where times are whole seconds.
    """

    probability: float = 0.1
    ignore_times: bool = False

    def __post_init__(self) -> None:
        if not _UNLISTED <= self.probability < 1:
            raise ValueError(f"Expected a probability from {_UNLISTED} to below 1 (got {self.probability})")


class Sighting(NamedTuple):
    """One picture of a gallery, and whose it is.

    Attributes:
        image: its name.
        person: a number from 1; none: not identified yet.
        confidence: mean probability of its pairs with the other sightings of this person that are listed; of a person
            seen once, the probability that nobody else is this one. 0 to 1.
        camera: none: unknown.
        time: none: unknown.
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
        b: of another.
        why: ``"pair"``, ``"said"``: a person said so; ``"track"``: one track.
        probability: of the pair; none where it was not measured.
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
        a: one.
        b: the other.
        chain: joins from one to the other, the way whose weakest is strongest; empty where they are two people, or
            where pictures that joined them are gone.
        pairs: listed pairs between them, or between both people where they are two.
        probability: of the mean log-odds of these, those not listed counted; none where there are none.
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
        pictures: in the gallery.
        people: found among them.
        changed: pictures whose person is another than before; new pictures had none, and do not count.
        fresh: people who are new.
        doubted: pairs of pictures of one camera and time that look like one person; none where that is not so of most.
    """

    pictures: int
    people: int
    changed: int
    fresh: int
    doubted: int | None


class People:
    """The people of a gallery (:class:`Gallery`): who is on each picture, across cameras.

    Candidate pairs are the neighbours that the gallery keeps, never all pairs; their calibrated probabilities decide
    (:func:`cace_pyg.retrieval.clustering.agglomerate`), under what is known: pictures of one camera with one ``track``
    are one person, pictures or tracks of one camera that overlap in time are two, and what people have said of pairs
    comes before both. Numbers stay: a new picture joins a person or founds one, and only a correction joins or splits
    those that there are. They are columns of the gallery, ``person`` and ``person_confidence``.

    Args:
        gallery: whose.
    """

    def __init__(self, gallery: Gallery):
        self.gallery = gallery
        self.corrections = Corrections(gallery.path)

    @property
    def settings(self) -> IdentifySettings:
        """Those of the last :meth:`identify`."""
        return IdentifySettings(**{name: one for name, one in self._state().items() if name != "next"})

    def identify(
        self, settings: IdentifySettings | None = None, anew: bool = False, progress: bool = False
    ) -> Identified:
        """Say who is on each picture, in one commit; measures what pairs of new pictures need (``keep_neighbours``).

        Args:
            settings: none: as the last time.
            anew: join all pictures anew; a person keeps its number where most of its pictures stay together.
            progress: show a bar while pairs are measured.

        Raises:
            ValueError: the model has no calibration, a column ``person`` is not ours, or see
                :meth:`Gallery.keep_neighbours`.
            RuntimeError: the gallery or a file of its is damaged.
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
        """Keep that two pictures show one person, or do not; :meth:`identify` obeys it from now on.

        Raises:
            ValueError: a picture is not in the gallery, both are one, or it contradicts what was said of others.
        """
        one, other = self._named([a, b])
        now = datetime.now(UTC).replace(tzinfo=None, microsecond=0)
        self.corrections.say(Correction(*one, *other, same, now))

    def take_back(self, a: str | Path, b: str | Path) -> None:
        """Forget what was said of two pictures; the people stay as they are until :meth:`identify`.

        Raises:
            ValueError: a picture is not in the gallery, or nothing was said.
        """
        pair = frozenset(self._named([a, b]))
        if not self.corrections.take_back(pair):
            raise ValueError(f"Expected two pictures of which something was said (got {a} and {b})")

    def sightings(self, person: int | None = None) -> list[Sighting]:
        """Of a person, in time order, those of unknown time last; none: of all people, person by person.

        Raises:
            ValueError: there is nobody of this number.
        """
        rows = self.gallery.told()
        if person is not None:
            rows = [row for row in rows if row.get(PERSON) == person]
            if not rows:
                known = sorted({row[PERSON] for row in self.gallery.told() if row.get(PERSON) is not None})
                there = f"{len(known)} people, {known[0]} to {known[-1]}" if known else "nobody is identified yet"
                raise ValueError(f"Expected a person of the gallery ({there}; got {person})")
        found = [_sighting(row) for row in rows if row.get(PERSON) is not None]
        return sorted(found, key=lambda one: (one.person or 0, one.time is None, one.time or datetime.min, one.image))

    def explain(self, a: str | Path, b: str | Path) -> Explained:
        """Why two pictures are one person, or two.

        Raises:
            ValueError: a picture is not in the gallery, or not identified yet.
            IncompleteNeighboursError: pictures came since :meth:`identify`.
        """
        images = [image for image, _ in self._named([a, b])]
        evidence = self._evidence(self.settings)
        return evidence.explain(*images)

    def resembling(self, person: int, most: int = 6) -> list[tuple[Sighting, Sighting, float]]:
        """Other people who may be this one: of each its likeliest pair with it, and the probability; likeliest first.

        Raises:
            ValueError: there is nobody of this number.
        """
        self.sightings(person)
        return self._evidence(self.settings).resembling(person, most)

    def remove(self, person: int, erase: bool = False) -> int:
        """Remove every picture of a person and what was said of them; returns how many there were.

        Args:
            person: the number, which nobody else gets.
            erase: leave nothing of them on disk, see :meth:`Gallery.optimize`; else that comes with time.

        Raises:
            ValueError: there is nobody of this number.
        """
        with self._alone():
            images = [one.image for one in self.sightings(person)]
            self.gallery.remove(images)
            if self.gallery.keeps_neighbours:
                self.gallery.keep_neighbours()
            if erase:
                self.gallery.optimize(erase=True)
        return len(images)

    def export(self, folder: str | Path) -> tuple[int, int]:
        """What people have said, for training: ``pairs.csv`` and ``pictures.csv``; returns how many rows each has.

        The first has a row a pair: ``path_a``, ``path_b``, ``same`` (yes or no), ``probability``. The second is a
        manifest (``--data.name manifest``) of the pictures in these pairs, whose people the corrections confirm:
        ``path``, ``pid`` (the person), ``camid``, ``split`` (test). Pictures that came without a file are left out.

        Raises:
            ValueError: nothing was said yet, or was not identified since; or the folder cannot be.
        """
        folder = Path(folder)
        evidence = self._evidence(self.settings)
        said = [one for one in evidence.said if not any(name.startswith("sha256:") for name in one[:2])]
        if not said:
            raise ValueError("Expected pairs of which something was said (got none): --same A B, --not_same A B")
        folder.mkdir(parents=True, exist_ok=True)
        place = evidence.place
        for a, b, same in said:
            people = [evidence.rows[place[one]].get(PERSON) for one in (a, b)]
            if None in people or (people[0] == people[1]) != same:
                raise ValueError(f"what was said of {a} and {b} is not obeyed yet: run identify first")
        pairs = []
        for a, b, same in said:
            sure = evidence.probability_of(place[a], place[b])
            pairs.append({"path_a": a, "path_b": b, "same": "yes" if same else "no", "probability": sure})
        named = sorted({name for one in said for name in one[:2]})
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
        self.gallery.check_calibrated("nothing says how probable it is that two pictures show one person")
        columns = self.gallery.metadata_columns
        if PERSON in columns and CONFIDENCE not in columns:
            raise ValueError(
                f"{self.gallery.path} has a column {PERSON} already, which is not of this command: index the pictures "
                "with another name for it"
            )

    def _evidence(self, settings: IdentifySettings) -> "_Evidence":
        return _Evidence(self.gallery, self.corrections.read(), settings)

    def _named(self, pictures: Sequence[str | Path]) -> list[tuple[str, str]]:
        """Names and SHA-256 of pictures that are in the gallery."""
        names = [image_name(one) for one in pictures]
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
    """What is known of a gallery's pictures and of pairs of them.

    Attributes:
        rows: of the gallery, by name.
        place: position of each name.
        pairs: listed ones, ``(pair, 2)``, lower position first, in order.
        probability: of each.
        said: (image, other, same) of pairs that are there.
        together: ``(pair, 2)``.
        apart: ``(pair, 2)``.
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
        self.said = [(one.image_a, one.image_b, one.same) for one in corrections if one.pair <= there]
        self._know()

    def _know(self) -> None:
        """Put together what is known; corrections come first, then tracks, then times."""
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
        """Pairs that connect the pictures of each track, but of those that a correction breaks."""
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
        """Pictures or tracks of one camera that overlap in time; those that are one by now do not count."""
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
        """Who it is already; −1: nobody knows, or what is known since contradicts it."""
        people = np.array([-1 if row.get(PERSON) is None else row[PERSON] for row in self.rows], dtype=np.int64)
        unit = connected_images(len(people), self.together)
        both = np.unique(np.stack([unit, people], 1)[people >= 0], axis=0)
        again = both[1:, 0] == both[:-1, 0]
        joined = nx.Graph(zip(both[:-1][again, 1].tolist(), both[1:][again, 1].tolist(), strict=True))
        for several in nx.connected_components(joined):  # the lowest number stays
            people[np.isin(people, list(several))] = min(several)
        while True:
            start = connected_images(len(people), np.concatenate([self.together, pairs_of_known(people)]))
            broken = start[self.apart]
            broken = broken[broken[:, 0] == broken[:, 1], 0]
            if not len(broken):
                return people
            people[np.isin(start, broken)] = -1

    def join(self, known: np.ndarray) -> np.ndarray:
        """The first picture of the same person, of each."""
        above = logit(self.settings.probability)
        unlisted = float(logit(_UNLISTED) - above)
        log_odds = logit(self.probability) - above
        return agglomerate(len(self.rows), self.pairs, log_odds, self.together, self.apart, known, unlisted)

    def confidence(self, people: np.ndarray) -> np.ndarray:
        """See :class:`Sighting`; in hundredths, so that little changes change nothing."""
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
        """Listed pairs and known ones, the probability of which is 1 or 0."""
        known = np.sort(np.concatenate([self.together, self.apart]), 1)
        sure = np.repeat([1.0, 0.0], [len(self.together), len(self.apart)])
        pairs = np.concatenate([known, self.pairs])
        probability = np.concatenate([sure, self.probability])
        _, first = np.unique(pairs, axis=0, return_index=True)
        return pairs[first], probability[first]

    def doubted(self) -> int | None:
        """Pairs of one camera and time that look like one person, where half of the listed ones or more do."""
        at_once = {tuple(pair) for pair in np.sort(self.at_once, 1).tolist()}
        found = [
            sure for pair, sure in zip(self.pairs.tolist(), self.probability, strict=True) if tuple(pair) in at_once
        ]
        alike = sum(sure > 0.5 for sure in found)
        return alike if alike and alike >= _DOUBTED * len(found) else None

    def probability_of(self, one: int, other: int) -> float | None:
        """Of a pair; none where it is not listed."""
        a, b = sorted((one, other))
        here = np.flatnonzero((self.pairs[:, 0] == a) & (self.pairs[:, 1] == b))
        return float(self.probability[here[0]]) if len(here) else None

    def explain(self, a: str, b: str) -> Explained:
        one, other = self.place[a], self.place[b]
        sightings = [_sighting(self.rows[place]) for place in (one, other)]
        people = np.array([row.get(PERSON) or -1 for row in self.rows])
        if min(people[one], people[other]) < 0:
            raise ValueError(f"{a if people[one] < 0 else b} is not identified yet: run identify first")
        if people[one] == people[other]:
            chain = self._chain(people == people[one], one, other)
            sure = self.probability_of(one, other)
            return Explained(sightings[0], sightings[1], chain, int(sure is not None), sure, ())
        sides = people[self.pairs]
        both = {people[one], people[other]}
        between = (np.isin(sides, list(both)).all(1)) & (sides[:, 0] != sides[:, 1])
        log_odds = logit(self.probability[between])
        sizes = int((people == people[one]).sum() * (people == people[other]).sum())
        mean = (log_odds.sum() + logit(_UNLISTED) * (sizes - len(log_odds))) / sizes
        forbidden = []
        for pairs, why in ((self.different, "said not to be one person"), (self.at_once, "one camera at one time")):
            for x, y in pairs.tolist():
                if {people[x], people[y]} == both:
                    forbidden.append(f"{self.rows[x]['image']} and {self.rows[y]['image']}: {why}")
        sure = float(expit(mean)) if len(log_odds) else None
        return Explained(sightings[0], sightings[1], (), len(log_odds), sure, tuple(forbidden))

    def _chain(self, here: np.ndarray, one: int, other: int) -> tuple[Join, ...]:
        """The way from one picture of a person to another whose weakest join is strongest."""
        graph: nx.Graph[int] = nx.Graph()
        graph.add_nodes_from((one, other))
        for number in np.flatnonzero(here[self.pairs].all(1)).tolist():
            a, b = self.pairs[number].tolist()
            sure, distance = float(self.probability[number]), float(self.distance[number])
            graph.add_edge(a, b, sure=sure, join=("pair", sure, distance))
        for pairs, why in ((self.by_track, "track"), (self.same, "said")):
            for a, b in pairs.tolist():
                told = graph.get_edge_data(a, b, {}).get("join", (None, None, None))
                graph.add_edge(a, b, sure=1.0, join=(why, *told[1:]))
        tree = nx.maximum_spanning_tree(graph, weight="sure")
        if not nx.has_path(tree, one, other):
            return ()
        name = [row["image"] for row in self.rows]
        way = nx.shortest_path(tree, one, other)
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
    """A number for each picture's person, and the next one that nobody has had."""
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
