"""Who came back: finished tracks of several cameras, joined into people by both stages."""

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
from cace_pyg.retrieval import Calibration, fit_calibration
from cace_pyg.retrieval.calibration import Form
from cace_pyg.trackers.track import Track

_PAIRS = 500  # of tracks drawn at random, at least


@dataclass(frozen=True)
class Recognition:
    """Who a track shows.

    Attributes:
        person: a number from 1.
        is_new: nobody whom the memory knew; the number is a new one.
        probability: that the track and ``evidence`` show one person; none where there was nobody to compare with.
        nearest: number of the person who is nearest, also where that was not near enough; none as above.
        evidence: the earlier track of that person that is nearest, with the pictures that were compared; as above.
        distance: of both tracks, fused; as above.
    """

    person: int
    is_new: bool
    probability: float | None = None
    nearest: int | None = None
    evidence: Track | None = None
    distance: float | None = None


@dataclass(frozen=True)
class _Kept:
    """A track of which only some views are left, and what they are compared by."""

    track: Track
    person: int
    mean: Tensor  # of the views' embeddings, of length one
    views: Embedded


class PersonMemory:
    """Whether the person of a finished track is one who was seen before, in whatever camera.

    The distance of two tracks is, over some views of each, the mean of the fused distances of all pairs of a view here
    and a view there. The ``first_stage`` tracks with the nearest mean embedding are compared so. Of the people whose
    tracks these are, the nearest is the one, if he comes below the distance that at most the share ``false_alarms`` of
    new people come below (:meth:`cace_pyg.retrieval.Calibration.threshold`). Whoever has a track in the same camera
    that overlaps in time is somebody else.

    Everything is kept in memory, some views of each track with their pictures; :meth:`forget` ends it.

    Args:
        checkpoint: ``best.ckpt`` of a run, with a calibration; or an :class:`Embedder`.
        false_alarms: share of the new people who may be taken for somebody else.
        views: pictures of a track that are compared, evenly spread over it.
        first_stage: tracks that the second stage looks at.
        apart: cameras look at different places, so that nobody is in two of them at one moment.
        fusion_weight: of the conditional distance; 0: one stage; none: the checkpoint's.
        device: auto, cpu, cuda, cuda:1, mps; an ``Embedder`` stays where it is.

    Attributes:
        calibration: what distances of tracks mean. At first that of the checkpoint, learned from pairs of single
            pictures: distances of tracks vary less, so that it takes fewer people for somebody they are not than was
            asked for, and misses more who are; :meth:`calibrate` learns one from tracks.

    Raises:
        FileNotFoundError, ValueError: see :class:`Embedder`; or a number that makes no sense.
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
        """How many people are known."""
        return len({one.person for one in self._kept})

    def see(self, track: Track) -> Recognition:
        """Say who a finished track shows, and remember it; to be called in the order in which tracks end.

        Raises:
            ValueError: a picture cannot be read; there is no calibration, or none that could answer for this rate of
                false alarms among so many tracks. Nothing is remembered then.
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
        """Learn what distances of tracks mean, from labelled tracks of people whom the model was not trained on.

        Each track is looked up among all others, as :meth:`see` does it; nothing of them is remembered. Take people of
        your own cameras, with two tracks each at least, and about as many tracks as the memory will hold.

        Args:
            tracks: of the same tracker.
            pids: who is on each.
            form: see :func:`cace_pyg.retrieval.fit_calibration`.

        Raises:
            ValueError: no track, as many labels as tracks are expected, or see
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
        for number, one in enumerate(kept):
            others = self._possible(one.track, [two for two in kept if two is not one])
            strangers.append(sum(two.person != one.person for two in others))
            if others:
                index, distance = self._compare(one, others)
                query += [number] * len(index)
                same += [others[at].person == one.person for at in index.tolist()]
                distances += distance.tolist()
        self.calibration = fit_calibration(
            distances, same, query, people, self._random_distances(kept), float(np.mean(strangers)),
            self.fusion_weight, form,
        )  # fmt: skip
        return self.calibration

    def forget(self, people: Sequence[int] = (), before: float = -math.inf) -> int:
        """Forget people by their numbers, and every track that ended before a moment; returns how many tracks.

        Numbers are not given again. Tracks without a time stay until their person is forgotten.
        """
        gone = set(people)
        left = [one for one in self._kept if one.person not in gone and not one.track.end < before]
        forgotten, self._kept = len(self._kept) - len(left), left
        return forgotten

    def _calibrated(self) -> Calibration:
        if self.calibration is None:
            raise ValueError(
                f"the model has no calibration of the fusion weight {self.fusion_weight:g}, so nothing says who is "
                "new: memory.calibrate(tracks, pids) learns one from labelled tracks, python -m cace_pyg.calibrate "
                "from labelled pictures"
            )
        return self.calibration

    def _possible(self, track: Track, kept: Sequence[_Kept]) -> list[_Kept]:
        """The tracks of all people of whom no track was elsewhere at the same time."""
        busy = {
            one.person for one in kept if one.track.overlaps(track) and (self.apart or one.track.camera == track.camera)
        }
        return [one for one in kept if one.person not in busy]

    def _keep(self, track: Track, person: int) -> _Kept:
        there = len(track.pictures)
        spread = {int((number + 0.5) * there / self.views) for number in range(self.views)}
        pictures = [track.pictures[at] for at in sorted(spread)]
        views = self.embedder(pictures)
        mean = torch.nn.functional.normalize(views.embedding.mean(0), dim=0)
        return _Kept(replace(track, pictures=pictures), person, mean, views)

    def _remember(self, new: _Kept, found: Recognition) -> Recognition:
        self._kept.append(replace(new, person=found.person))
        return found

    def _compare(self, one: _Kept, others: Sequence[_Kept]) -> tuple[Tensor, Tensor]:
        """Positions of the nearest tracks by their mean embeddings, and their distances by both stages."""
        first = torch.stack([two.mean for two in others]) @ one.mean
        index = first.topk(min(self.first_stage, len(others))).indices
        return index, self._distances(one, [others[int(at)] for at in index])

    @torch.no_grad()
    def _distances(self, one: _Kept, others: Sequence[_Kept]) -> Tensor:
        """Of a track and others: the mean of the fused distances of all pairs of their views, float64."""
        embedding = torch.cat([two.views.embedding for two in others])
        fused = (1 - self.fusion_weight) * torch.cdist(one.views.embedding.double(), embedding.double())
        if self.fusion_weight > 0:
            device, stage = self.embedder.device, self.embedder.model.pair_stage
            prepared = PairOperand.concatenate([two.views.prepared for two in others]).to(device)
            mine = one.views.prepared.to(device)
            conditional = [stage.distance(mine.select(slice(at, at + 1)), prepared).cpu() for at in range(len(mine))]
            fused += self.fusion_weight * torch.stack(conditional).double()
        sizes = [len(two.views.embedding) for two in others]
        return torch.stack([block.mean() for block in fused.split(sizes, dim=1)])

    def _random_distances(self, kept: Sequence[_Kept]) -> np.ndarray:
        """Of pairs of tracks drawn at random; nearly all show two people."""
        rng, several = np.random.default_rng(0), -(-_PAIRS // len(kept))
        drawn = []
        for position, one in enumerate(kept):
            chosen = rng.permutation(len(kept) - 1)[:several]
            others = [kept[at + (at >= position)] for at in chosen.tolist()]
            drawn += self._distances(one, others).tolist() if others else []
        return np.array(drawn)
