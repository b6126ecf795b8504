"""Uses any matcher in place of the pair stage."""

from typing import Protocol

import torch
from torch import Tensor

from cace_pyg.graph import Clues, NoAlignment, PairBlocks
from cace_pyg.models import ConditionalSettings, PairOperand, PairStage


class Matcher(Protocol):
    """A module that scores pairs of pictures by their clues."""

    def keys(self, clues: Clues) -> Tensor:
        """The matcher's input of each picture, ``(image, n, any)``."""

    def __call__(self, keys_a: Tensor, keys_b: Tensor) -> Tensor:
        """The score of each pair, ``(pair,)``, larger for one person, and symmetric."""


class MatcherStage(PairStage):
    """A pair stage without a graph, for the same training loop and the same second stage.

    Args:
        channels: size of a clue.
        matcher: computes the scores; the distance is minus the score, and may be negative.
    """

    backend = "none"
    backend_reason = "a matcher has no graph"
    discrepancy_label = "none"

    def __init__(self, channels: int, matcher: Matcher):
        super().__init__(NoAlignment(channels), ConditionalSettings())
        self.matcher = matcher
        self.density = torch.zeros(()), torch.zeros(())

    def prepare(self, clues: Clues) -> PairOperand:
        keys = self.matcher.keys(clues)
        nothing = keys.new_zeros(len(keys), 0)
        return PairOperand(self.builder.prepare(clues), nothing, keys, nothing)

    def distance(self, a: PairOperand, b: PairOperand) -> Tensor:
        return -self.matcher(a.projected, b.projected)

    def distance_of(self, blocks: PairBlocks, a: PairOperand, b: PairOperand) -> Tensor:
        return self.distance(a, b)  # edges mean nothing to a matcher

    def discrepancy(self, a: PairOperand, b: PairOperand) -> Tensor:
        raise NotImplementedError("figures show a graph, and a matcher has none")
