"""Recognises who came back: joins finished tracks of several cameras into people, by both stages."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from cace_pyg.gallery.embedder import Embedded, Embedder
from cace_pyg.models import PairOperand
from cace_pyg.retrieval import Calibration, fit_calibration, merge_embeddings
from cace_pyg.retrieval.calibration import Form
from cace_pyg.trackers.track import Track

_PAIRS = 500  # of tracks drawn at random, at least


@dataclass(frozen=True)
class Recognition:
    """The person that a track shows.

    Attributes:
        person: a number from 1.
        is_new: whether the person was not known; then the number is new.
        probability: that the track and ``evidence`` show one person; None if there was nobody to compare with.
        nearest: number of the nearest person, even if not near enough; None as above.
        evidence: the nearest earlier track of that person, with the pictures that were compared; None as above.
        distance: fused distance of both tracks; None as above.
    """

    person: int
    is_new: bool
    probability: float | None = None
    nearest: int | None = None
    evidence: Track | None = None
    distance: float | None = None


@dataclass(frozen=True)
class _Kept:
    """A stored track with some of its views, and what is needed to compare them."""

    track: Track
    person: int
    mean: Tensor  # of the views' embeddings, unit length
    views: Embedded


class PersonMemory:
    """Decides whether the person of a finished track was seen before, in any camera.

    The distance of two tracks is the mean of the fused distances of all pairs of their views. The ``first_stage``
    tracks with the nearest mean embeddings are compared. The person of the nearest track is recognised if its distance
    is below the threshold that at most the share ``false_alarms`` of new people fall below
    (:meth:`cace_pyg.retrieval.Calibration.threshold`). A person with a track in the same camera that overlaps in time
    is excluded.

    Everything is in memory: some views of each track, with their pictures. :meth:`forget` removes tracks.

    Args:
        checkpoint: ``best.ckpt`` of a run, with a calibration; or an :class:`Embedder`.
        false_alarms: share of new people that may be mistaken for somebody else.
        views: number of pictures of a track that are compared, evenly spread over it.
        first_stage: number of tracks that the second stage compares.
        apart: cameras see different places, so nobody is in two of them at the same time.
        fusion_weight: of the conditional distance; 0: only the first stage; None: the checkpoint's.
        device: auto, cpu, cuda, cuda:1, mps; an ``Embedder`` stays where it is.

    Attributes:
        calibration: what distances of tracks mean. At first it is the checkpoint's, which was learned from pairs of
            single pictures. Distances of tracks vary less, so there are fewer false alarms than asked for, and more
            people are missed; :meth:`calibrate` learns a calibration from tracks.

    Raises:
        FileNotFoundError, ValueError: see :class:`Embedder`; or a number is out of range.
    """

    def __init__(
        self,
        checkpoint: str | Path | Embedder,
        false_alarms: float = 0.1,
        views: int = 4,
        first_stage: int = 20,
        apart: bool = False,
        fusion_weight: float | None = None,
        device: str = "auto",
    ):
        if views < 1 or first_stage < 1:
            raise ValueError(f"Expected views and first_stage of at least 1 (got {views} and {first_stage})")
        if fusion_weight is not None and not 0 <= fusion_weight <= 1:
            raise ValueError(f"Expected a fusion weight in [0, 1] (got {fusion_weight})")
        self.embedder = checkpoint if isinstance(checkpoint, Embedder) else Embedder(Path(checkpoint), device)
        self.embedder.expect_unstandardised("a tracker's memory")
        self.false_alarms = false_alarms
        self.views = views
        self.first_stage = first_stage
        self.apart = apart
        self.fusion_weight = self.embedder.fusion_weight if fusion_weight is None else fusion_weight
        same_weight = self.fusion_weight == self.embedder.fusion_weight
        self.calibration: Calibration | None = self.embedder.calibration if same_weight else None
        self._kept: list[_Kept] = []
        self._numbers = count(1)

    def __len__(self) -> int:
        """Number of known people."""
        return len({entry.person for entry in self._kept})

    def see(self, track: Track) -> Recognition:
        """Recognise the person of a finished track, and remember the track; call it in the order in which tracks end.

        Raises:
            ValueError: a picture cannot be read, or there is no calibration for this rate of false alarms and this
                number of tracks. Then nothing is remembered.
            FileNotFoundError: there is no such picture.
        """
        others = self._possible(track, self._kept)
        calibration = self._calibrated()
        try:
            threshold = calibration.threshold(self.false_alarms, max(len(others), 1))
        except ValueError as error:
            raise ValueError(f"{error}; or memory.forget(before=…) some of the {len(self._kept)} tracks") from error
        new = self._keep(track, 0)
        if not others:
            return self._remember(new, Recognition(next(self._numbers), True))
        index, distance = self._compare(new, others)
        best = int(distance.argmin())
        nearest, apart = others[int(index[best])], float(distance[best])
        known = apart < threshold
        return self._remember(
            new,
            Recognition(
                person=nearest.person if known else next(self._numbers),
                is_new=not known,
                probability=float(calibration.probability(apart, len(others))),
                nearest=nearest.person,
                evidence=nearest.track,
                distance=apart,
            ),
        )

    def calibrate(self, tracks: Sequence[Track], pids: ArrayLike, form: Form = "logistic") -> Calibration:
        """Learn what distances of tracks mean, from labelled tracks of people that the model was not trained on.

        Each track is searched among all others, as in :meth:`see`; none is remembered. Use people from your own
        cameras, with at least two tracks each, and about as many tracks as the memory will have.

        Args:
            tracks: from the same tracker.
            pids: the person of each track.
            form: see :func:`cace_pyg.retrieval.fit_calibration`.

        Raises:
            ValueError: there are no tracks, or not as many labels as tracks; see also
                :func:`cace_pyg.retrieval.fit_calibration`.
        """
        if not len(tracks):
            raise ValueError("Expected labelled tracks, two or more of each person (got none)")
        if np.shape(pids) != (len(tracks),):
            raise ValueError(f"Expected a label for each of {len(tracks)} tracks (got shape {np.shape(pids)})")
        people = np.unique(np.asarray(pids), return_inverse=True)[1]
        kept = [self._keep(track, person) for track, person in zip(tracks, people.tolist(), strict=True)]
        query: list[int] = []
        same: list[bool] = []
        distances: list[float] = []
        strangers = []
        for number, entry in enumerate(kept):
            others = self._possible(entry.track, [other for other in kept if other is not entry])
            strangers.append(sum(other.person != entry.person for other in others))
            if others:
                index, distance = self._compare(entry, others)
                query += [number] * len(index)
                same += [others[at].person == entry.person for at in index.tolist()]
                distances += distance.tolist()
        self.calibration = fit_calibration(
            distances, same, query, people, self._random_distances(kept), float(np.mean(strangers)),
            self.fusion_weight, form,
        )  # fmt: skip
        return self.calibration

    def forget(self, people: Sequence[int] = (), before: float = -math.inf) -> int:
        """Forget people by their numbers, and all tracks that ended before a time; returns how many tracks.

        Numbers are not used again. Tracks without a time stay until their person is forgotten.
        """
        gone = set(people)
        left = [entry for entry in self._kept if entry.person not in gone and not entry.track.end < before]
        forgotten, self._kept = len(self._kept) - len(left), left
        return forgotten

    def _calibrated(self) -> Calibration:
        if self.calibration is None:
            raise ValueError(
                f"the model has no calibration for the fusion weight {self.fusion_weight:g}, so it cannot decide who "
                "is new: memory.calibrate(tracks, pids) learns one from labelled tracks, python -m cace_pyg.calibrate "
                "from labelled pictures"
            )
        return self.calibration

    def _possible(self, track: Track, kept: Sequence[_Kept]) -> list[_Kept]:
        """The tracks of all people who can be the person of ``track``: none of their tracks excludes it."""
        busy = {
            entry.person
            for entry in kept
            if entry.track.overlaps(track) and (self.apart or entry.track.camera == track.camera)
        }
        return [entry for entry in kept if entry.person not in busy]

    def _keep(self, track: Track, person: int) -> _Kept:
        there = len(track.pictures)
        spread = {int((number + 0.5) * there / self.views) for number in range(self.views)}
        pictures = [track.pictures[at] for at in sorted(spread)]
        views = self.embedder(pictures)
        return _Kept(replace(track, pictures=pictures), person, merge_embeddings(views.embedding), views)

    def _remember(self, new: _Kept, found: Recognition) -> Recognition:
        self._kept.append(replace(new, person=found.person))
        return found

    def _compare(self, entry: _Kept, others: Sequence[_Kept]) -> tuple[Tensor, Tensor]:
        """Positions of the nearest tracks by their mean embeddings, and their distances by both stages."""
        first = torch.stack([other.mean for other in others]) @ entry.mean
        index = first.topk(min(self.first_stage, len(others))).indices
        return index, self._distances(entry, [others[int(at)] for at in index])

    @torch.no_grad()
    def _distances(self, entry: _Kept, others: Sequence[_Kept]) -> Tensor:
        """The distances from a track to others: the mean fused distance of all pairs of their views, float64.

        A gallery takes a soft minimum instead (:func:`cace_pyg.retrieval.set_distance`); docs/trackers.md has the
        figures behind the mean.
        """
        embedding = torch.cat([other.views.embedding for other in others])
        fused = (1 - self.fusion_weight) * torch.cdist(entry.views.embedding.double(), embedding.double())
        if self.fusion_weight > 0:
            device, stage = self.embedder.device, self.embedder.model.pair_stage
            prepared = PairOperand.concatenate([other.views.prepared for other in others]).to(device)
            mine = entry.views.prepared.to(device)
            conditional = [stage.distance(mine.select(slice(at, at + 1)), prepared).cpu() for at in range(len(mine))]
            fused += self.fusion_weight * torch.stack(conditional).double()
        sizes = [len(other.views.embedding) for other in others]
        return torch.stack([block.mean() for block in fused.split(sizes, dim=1)])

    def _random_distances(self, kept: Sequence[_Kept]) -> np.ndarray:
        """The distances of random pairs of tracks; nearly all show two people."""
        rng, several = np.random.default_rng(0), -(-_PAIRS // len(kept))
        drawn = []
        for position, entry in enumerate(kept):
            chosen = rng.permutation(len(kept) - 1)[:several]
            others = [kept[at + (at >= position)] for at in chosen.tolist()]
            drawn += self._distances(entry, others).tolist() if others else []
        return np.array(drawn)
