"""The result of a search."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from cace_pyg.gallery.columns import Value


@dataclass(frozen=True)
class SearchHit:
    """One image of the gallery, as both stages rank it.

    Attributes:
        image: its name in the gallery, see :class:`~cace_pyg.gallery.gallery_table.Entry`.
        rank: from 1.
        first_stage_rank: by the individual embedding alone, from 1.
        distance: what it is ranked by, unless by neighbours: (1 − weight)·individual + weight·conditional, or the
            individual distance if the second stage did not compare it.
        individual: distance of the individual embeddings, 0 to 2.
        conditional: the second stage's distance, see :meth:`cace_pyg.models.PairStage.distance`; None if it did not
            compare this image.
        camera: any word; None: unknown.
        time: when it was taken; None: unknown.
        metadata: the gallery's other columns.
        probability: that it shows the person of the query, see :meth:`cace_pyg.retrieval.Calibration.probability`;
            None if the model has no calibration, the second stage did not compare the image, or several pictures were
            compared, which no calibration covers.
        pictures: names of all pictures of its track, sorted by time and name; ``image`` is the view nearest to the
            query. Empty: a picture without a track.
        query_picture: which of several pictures searched together is nearest to ``image``, from 0.
        gallery: the folder of the gallery that has it, if several were searched; None: the one that was searched.
        neighbour_distance: distance after re-ranking by neighbours, 0 to 1, which it is then ranked by; None if
            neighbours were not asked for.
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
    gallery: Path | None = None

    @property
    def path(self) -> Path | None:
        """Its file, which may be gone; None for a picture without a file."""
        return None if self.image.startswith("sha256:") else Path(self.image)


@dataclass(frozen=True)
class SearchResult:
    """What was found for one picture, or for several pictures of one person.

    Attributes:
        hits: nearest first, by the second stage, or by neighbours if they were asked for.
        first_stage: as many hits, nearest first by the individual embedding alone.
        seconds: time for embedding the picture, for the first and the second stage, and for neighbours.
        threshold: distance below which the nearest hit is a known person; None if no rate of false alarms was given.
    """

    hits: tuple[SearchHit, ...]
    first_stage: tuple[SearchHit, ...]
    seconds: Mapping[str, float]
    threshold: float | None = None

    @property
    def is_known(self) -> bool | None:
        """Whether the person is in the gallery, at the given rate of false alarms; None if no rate was given."""
        if self.threshold is None:
            return None
        return len(self.hits) > 0 and self.hits[0].distance < self.threshold

    def __len__(self) -> int:
        return len(self.hits)

    def __getitem__(self, rank: int) -> SearchHit:
        """Hit number ``rank``, counted from 0."""
        return self.hits[rank]

    def __iter__(self) -> Iterator[SearchHit]:
        return iter(self.hits)
