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
        distance: what it is ranked by: (1 − weight)·individual + weight·conditional, or the individual one where the
            second stage did not look at it.
        individual: distance of the individual embeddings, 0 to 2.
        conditional: what the second stage found, see :meth:`cace_pyg.models.PairStage.distance`; none where it did
            not look.
        camera: any word; none: unknown.
        time: when it was taken; none: unknown.
        metadata: the gallery's other columns.
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

    @property
    def path(self) -> Path | None:
        """Its file; none for a picture that came without one. The file may be gone."""
        return None if self.image.startswith("sha256:") else Path(self.image)


@dataclass(frozen=True)
class SearchResult:
    """What was found for one picture.

    Attributes:
        hits: nearest first, as the second stage has it.
        first_stage: as many, nearest first, as the individual embedding alone has them.
        seconds: what embedding the picture, the first and the second stage took.
    """

    hits: tuple[SearchHit, ...]
    first_stage: tuple[SearchHit, ...]
    seconds: Mapping[str, float]

    def __len__(self) -> int:
        return len(self.hits)

    def __getitem__(self, rank: int) -> SearchHit:
        """Hit number ``rank``, from 0."""
        return self.hits[rank]

    def __iter__(self) -> Iterator[SearchHit]:
        return iter(self.hits)
