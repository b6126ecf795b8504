"""What is known about a gallery's pictures and pairs of them, from which its people follow."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from typing import Any, NamedTuple

import networkx as nx
import numpy as np
from scipy.special import expit, logit

from cace_pyg.gallery.columns import Value
from cace_pyg.gallery.corrections import Correction
from cace_pyg.gallery.entries import CONFIDENCE, PERSON, TRACK
from cace_pyg.gallery.gallery import Gallery
from cace_pyg.retrieval.clustering import agglomerate, connected_images, listed_pairs, pairs_of_known

UNLISTED = 0.03  # probability of a pair in neither picture's list; chosen as IdentifySettings says
_SUREST = 1e-6  # probabilities are kept this far from 0 and 1; otherwise one pair could outweigh all others of a mean
_DOUBTED = 0.5  # share of look-alikes among pictures of one camera and time; from this share on, times are doubted


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


class Evidence:
    """What is known about a gallery's pictures and about pairs of them.

    Args:
        gallery: a calibrated one with kept neighbours.
        corrections: of users.
        ignore_times: two pictures of one camera at one time may show one person.

    Attributes:
        rows: of the gallery, sorted by name.
        place: position of each name.
        pairs: listed pairs, ``(pair, 2)``, lower position first, sorted.
        probability: of each pair.
        said: (image, other, same): the corrections of pairs in the gallery.
        together: pairs that are known to be one person, ``(pair, 2)``.
        apart: pairs that are known to be two people, ``(pair, 2)``.
    """

    def __init__(self, gallery: Gallery, corrections: Sequence[Correction], ignore_times: bool):
        self.ignore_times = ignore_times
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
        self.at_once = _pairs(() if self.ignore_times else self._at_once(unit))
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

    def join(self, known: np.ndarray, probability: float) -> np.ndarray:
        """For each picture, the first picture of the same person.

        Args:
            known: the person that each picture has already, −1: none.
            probability: see :class:`cace_pyg.gallery.people.IdentifySettings`.
        """
        above = logit(probability)
        unlisted = float(logit(UNLISTED) - above)
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
        mean = np.divide(sums, counts, out=np.full(len(people), UNLISTED), where=counts > 0)
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
        """Why two pictures are one person, or two; see :meth:`cace_pyg.gallery.people.People.explain`."""
        place_a, place_b = self.place[a], self.place[b]
        sightings = [sighting_of(self.rows[place]) for place in (place_a, place_b)]
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
        mean = (log_odds.sum() + logit(UNLISTED) * (sizes - len(log_odds))) / sizes
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
        """Other people who may be the same; see :meth:`cace_pyg.gallery.people.People.resembling`."""
        people = np.array([row.get(PERSON) or -1 for row in self.rows])
        sides = people[self.pairs]
        outside = ((sides == person).sum(1) == 1) & (sides >= 0).all(1)
        found: dict[int, tuple[Sighting, Sighting, float]] = {}
        numbers = np.flatnonzero(outside)
        for number in numbers[np.argsort(-self.probability[numbers], kind="stable")].tolist():
            mine, theirs = sorted(self.pairs[number].tolist(), key=lambda place: people[place] != person)
            pair = sighting_of(self.rows[mine]), sighting_of(self.rows[theirs]), float(self.probability[number])
            found.setdefault(int(people[theirs]), pair)
            if len(found) == most:
                break
        return list(found.values())


def sighting_of(row: Mapping[str, Any]) -> Sighting:
    """A row of the gallery as a sighting."""
    metadata = {name: value for name, value in row["metadata"].items() if name not in (PERSON, CONFIDENCE)}
    return Sighting(row["image"], row.get(PERSON), row.get(CONFIDENCE), row["camera"], row["time"], metadata)


def _pairs(pairs: Iterable[tuple[int, int]]) -> np.ndarray:
    return np.array(list(pairs), dtype=np.int64).reshape(-1, 2)
