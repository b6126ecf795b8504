"""What a search is asked for."""

from dataclasses import dataclass
from numbers import Integral


@dataclass(frozen=True)
class SearchRequest:
    """The arguments of :meth:`cace_pyg.gallery.Gallery.search` besides the picture.

    Raises:
        ValueError: a number is out of range.
    """

    top_k: int
    where: str | None
    first_stage: int
    false_alarms: float | None
    neighbours: bool
    gallery_neighbours: int

    def __post_init__(self) -> None:
        for name, least in (("top_k", 1), ("first_stage", 0), ("gallery_neighbours", 0)):
            value = getattr(self, name)
            if not (isinstance(value, Integral) and not isinstance(value, bool) and int(value) >= least):
                raise ValueError(f"Expected {name} as a whole number of at least {least} (got {value!r})")
        if self.where is not None and not isinstance(self.where, str):
            raise ValueError(f"Expected where as SQL in a text, such as \"camera = '3'\" (got {self.where!r})")
        if not isinstance(self.neighbours, bool):
            raise ValueError(
                f"Expected neighbours as True or False (got {self.neighbours!r}): a gallery re-ranks with its model's "
                "own settings, k_reciprocal"
            )
        if self.gallery_neighbours > 0 and self.first_stage == 0:
            raise ValueError(
                f"Expected first_stage above 0 with gallery_neighbours {self.gallery_neighbours} (got 0): it is the "
                "number of pictures that are compared, followed or not"
            )

    @property
    def nearest(self) -> int:
        """How many entries the first stage has to find."""
        return max(self.top_k, self.first_stage)

    def check_entries(self, together: bool) -> None:
        """Refuse what is known of single pictures only, where entries are searched.

        Args:
            together: several pictures are one query.

        Raises:
            ValueError: false alarms or neighbours are asked for.
        """
        if self.gallery_neighbours > 0 and (self.neighbours or self.false_alarms is not None):
            other = "neighbours" if self.neighbours else "false_alarms"
            raise ValueError(
                f"Expected gallery_neighbours or {other}, not both: the latter needs a second stage that compares "
                "the nearest of the query; search twice"
            )
        what = "if pictures are searched together" if together else "if the gallery has tracks (a column track)"
        if self.false_alarms is not None:
            raise ValueError(
                f"Expected no false_alarms {what}: calibrations are learned from pairs of single pictures, and say "
                "nothing about sets; leave it out"
            )
        if self.neighbours:
            raise ValueError(f"Expected no neighbours {what}: they are kept for single pictures; leave it out")
