"""What a sampler asks of a data set."""

from typing import NamedTuple


class Draw(NamedTuple):
    """One picture and the seed of its augmentation.

    With the seed in the draw, an epoch is a function of the run's seed and the epoch alone, whatever the number of
    workers and wherever a killed run goes on.
    """

    index: int
    seed: int
