"""The interface of all graph builders."""

from abc import ABC, abstractmethod
from dataclasses import replace

import torch
from torch import Tensor

from cace_pyg.graph.clues import Clues, PairBlocks
from cace_pyg.kernels import ReluGram


class GraphBuilder(torch.nn.Module, ABC):
    """Decides which clues are connected, and how strongly.

    A builder is one class in one file; there is nothing to register. Its constructor takes ``channels``, the size
    of a clue, first, and its own settings after it.

    The contract, tested for every builder: the adjacency is symmetric and ≥ 0; the blocks of a pair depend only on
    that pair; a permutation of the pixels permutes the blocks, unless the class says ``positional = True``; one
    image a can be shared by all pairs; and :meth:`among` equals :meth:`inter` for every pair.
    """

    compares_features: bool = True  # False: no edge depends on the features, and prepare drops them
    positional: bool = False  # edges depend on the positions of clues
    needs_parts: bool = False  # edges depend on Clues.parts
    is_relu_gram: bool = False  # relu_gram describes inter, so the fused kernel can compute it

    def prepare(self, clues: Clues) -> Clues:
        """Everything that depends on one image alone, done once per image however many pairs it is in.

        :meth:`intra` and :meth:`inter` take the result. By default it is the clues unchanged, or without their features
        if ``compares_features`` is false.
        """
        return clues if self.compares_features else replace(clues, features=clues.features[..., :0])

    @abstractmethod
    def intra(self, prepared: Clues) -> Tensor:
        """Edges within each image: ``(image, n, n)``, symmetric, ≥ 0."""

    @abstractmethod
    def inter(self, prepared_a: Clues, prepared_b: Clues) -> Tensor:
        """Edges between the images of each pair: ``(pair, n, n)``, rows are nodes of a, ≥ 0.

        Exchanging a and b transposes it. One image a may be paired with many b.
        """

    def relu_gram(self, prepared_a: Clues, prepared_b: Clues) -> ReluGram:
        """The factors of :meth:`inter`, if ``is_relu_gram``; nothing is computed yet."""
        raise NotImplementedError(f"{type(self).__name__} has inter edges that are not a ReLU'd product (is_relu_gram)")

    def among(self, prepared: Clues) -> Tensor:
        """:meth:`inter` of all pairs a ≤ b of a batch, ``(pair, n, n)`` in the order of ``torch.triu_indices``.

        A builder whose blocks are products of clues overrides this with :func:`cace_pyg.graph.gram.upper_gram`.
        """
        first, second = torch.triu_indices(len(prepared), len(prepared), device=prepared.features.device)
        return self.inter(prepared.select(first), prepared.select(second))

    def forward(self, clues_a: Clues, clues_b: Clues) -> PairBlocks:
        """The adjacency blocks of the pairs (a₀, b₀), (a₁, b₁), …"""
        prepared_a, prepared_b = self.prepare(clues_a), self.prepare(clues_b)
        return PairBlocks(self.intra(prepared_a), self.inter(prepared_a, prepared_b), self.intra(prepared_b))
