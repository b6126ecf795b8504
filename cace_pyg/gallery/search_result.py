"""What a search found."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from cace_pyg.gallery.gallery_table import Value


@dataclass(frozen=True)
class SearchHit:
    """One image of the gallery, as both stages rank it.

    Attributes:
        image: its name in the gallery, see :class:`~cace_pyg.gallery.gallery_table.Entry`.
        rank: from 1.
        first_stage_rank: by the individual embedding alone, from 1.
        distance: what it is ranked by, unless by neighbours: (1 − weight)·individual + weight·conditional, or the
            individual one where the second stage did not look at it.
        individual: distance of the individual embeddings, 0 to 2.
        conditional: what the second stage found, see :meth:`cace_pyg.models.PairStage.distance`; none where it did
            not look.
        camera: any word; none: unknown.
        time: when it was taken; none: unknown.
        metadata: the gallery's other columns.
        probability: that it shows the person of the picture, see :meth:`cace_pyg.retrieval.Calibration.probability`;
            none where the model has no calibration, the second stage did not look, or several pictures were compared,
            for which no calibration holds.
        pictures: names of all pictures of its track, by time and name, of which ``image`` is the view that is nearest
            to the query; none: a picture by itself.
        query_picture: which of the pictures that were asked about together ``image`` is nearest to, from 0.
        neighbour_distance: 0 to 1, after re-ranking by neighbours: then it is ranked by this one; none where neighbours
            were not asked for.
    """

    image: str
    rank: int
    first_stage_rank: int
    distance: float
    individual: float
    conditional: float | None
    camera: str | None
    time: datetime | None
    metadata: Mapping[str, Value]
    probability: float | None = None
    neighbour_distance: float | None = None
    pictures: tuple[str, ...] = ()
    query_picture: int = 0

    @property
    def path(self) -> Path | None:
        """Its file; none for a picture that came without one. The file may be gone."""
        return None if self.image.startswith("sha256:") else Path(self.image)


@dataclass(frozen=True)
class SearchResult:
    """What was found for one picture, or for several of one person.

    Attributes:
        hits: nearest first, as the second stage has it, or neighbours where they were asked for.
        first_stage: as many, nearest first, as the individual embedding alone has them.
        seconds: what embedding the picture, the first and the second stage took, and neighbours.
        threshold: distance below which the nearest is a known person; none where no rate of false alarms was given.
    """

    hits: tuple[SearchHit, ...]
    first_stage: tuple[SearchHit, ...]
    seconds: Mapping[str, float]
    threshold: float | None = None

    @property
    def is_known(self) -> bool | None:
        """Whether the person is in the gallery, at the rate of false alarms that was given; none: none was given."""
        if self.threshold is None:
            return None
        return len(self.hits) > 0 and self.hits[0].distance < self.threshold

    def __len__(self) -> int:
        return len(self.hits)

    def __getitem__(self, rank: int) -> SearchHit:
        """Hit number ``rank``, from 0."""
        return self.hits[rank]

    def __iter__(self) -> Iterator[SearchHit]:
        return iter(self.hits)
