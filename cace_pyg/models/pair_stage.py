"""The pair stage and its settings."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor
from torch_geometric.nn import MessagePassing

from cace_pyg.bounded_numbers import PositiveInt
from cace_pyg.graph import Clues, GraphBuilder, PairBlocks
from cace_pyg.models.backends import Backend
from cace_pyg.models.keep_clues import keep_clues
from cace_pyg.models.pair_operand import Merged, PairOperand
from cace_pyg.nn.degree import DegreeFloor, Mode
from cace_pyg.nn.node_wise import NodeWiseForm

_COUNTED = 16  # pairs of a batch whose edges are counted


@dataclass
class ConditionalSettings:
    """The graph convolution and what surrounds it."""

    mode: Mode = "discrepancy"
    """`discrepancy` (Eq. 7) or `smooth` (Eq. 6; Table 1, "Normal")."""
    residual: bool = True
    """Add the convolution, zero-initialised, to the clues. False is Eq. 7 to the letter, which collapses."""
    node_wise: NodeWiseForm = "magnitude"
    """`identity` (the paper), `relu`, `magnitude`, `square` or `mlp` (our addition) of each node before pooling."""
    width: PositiveInt | None = 64
    """Channels of the convolution, expanded again after pooling; null is the paper's square Θ."""
    degree_floor: DegreeFloor = "textbook"
    """`textbook` (Eq. 7; an isolated clue keeps itself) or `released` (the authors' code)."""
    edges: Literal["all", "intra", "inter"] = "all"
    """Which blocks of the graph stay: `all`, `intra` (Table 1, "Individual-GCN"), or `inter`."""
    compare: Literal["embeddings", "verification", "aligned_clues"] = "embeddings"
    """`embeddings`: f(a|b) with f(b|a). `verification`: the same, plus a head on the pooled discrepancies (our
    addition). `aligned_clues`: no convolution, the mean similarity of the clues that inter edges join (Table 1, "+
    Visual Clue Alignment")."""
    own_encoder: bool = True
    """An encoder apart from the individual one; false shares it, as the authors' code does."""
    backend: Backend = "auto"
    """Same numbers at different cost (docs/backends.md): `auto`, `pooled`, `gram`, `fused` (CUDA), `pooled_messages`,
    `dense`, `message_passing`, `segment_csr`, `sparse_matrix`."""
    convolution: Callable[[int, int], MessagePassing] | None = None
    """A layer of torch_geometric.nn instead of the discrepancy convolution, for comparison: GCNConv, GATConv, …
    mode, degree_floor and backend then have no effect."""


class PairStage(torch.nn.Module, ABC):
    """Computes the distance of two images from their clues, on top of a network that sees one image at a time.

    :meth:`prepare` is called once per image; all other methods take its result. One image a may be shared by all pairs.

    Args:
        builder: makes the graph.
        settings: see :class:`ConditionalSettings`.

    Attributes:
        density: share of edges in the first pairs of the last training batch, within images and between them; None
            before training.
        backend: what computes the pairs; ``backend_reason`` says why.
        discrepancy_label: describes the values of :meth:`discrepancy`, for figures.
    """

    backend_reason: str
    discrepancy_label: str

    def __init__(self, builder: GraphBuilder, settings: ConditionalSettings):
        super().__init__()
        self.builder = builder
        self.settings = settings
        self.density: tuple[Tensor, Tensor] | None = None

    @property
    @abstractmethod
    def backend(self) -> str:
        """What computes the pairs."""

    @abstractmethod
    def prepare(self, clues: Clues) -> PairOperand:
        """Everything that depends on one image alone."""

    @abstractmethod
    def distance(self, a: PairOperand, b: PairOperand) -> Tensor:
        """The distance that the second stage ranks by, ``(pair,)``."""

    @abstractmethod
    def distance_of(self, blocks: PairBlocks, a: PairOperand, b: PairOperand) -> Tensor:
        """:meth:`distance` of pairs with a given adjacency, such as :meth:`blocks` without an edge, ``(pair,)``."""

    @abstractmethod
    def discrepancy(self, a: PairOperand, b: PairOperand) -> Tensor:
        """How much each clue differs from those it is connected with, ``(pair, 2, n)``."""

    @property
    def takes_merged(self) -> bool:
        """Whether :meth:`distance` computes with merged clues of images b directly, which takes fewer products."""
        return False

    def restore(
        self, compared: Clues, projected: Tensor, individual: Tensor, merged: Merged | None = None
    ) -> PairOperand:
        """Rebuild the result of :meth:`prepare` or :meth:`keep_clues` from the parts that cannot be recomputed, which a
        gallery stores."""
        none = projected.new_zeros(projected.size(0), 0, 0)  # len would fix the size in an export
        operand = PairOperand(compared, none, projected, individual, merged)
        if not self.takes_merged:
            operand = operand.expanded()
        return (
            operand if self.settings.edges == "inter" else replace(operand, intra=self.builder.intra(operand.compared))
        )

    def keep_clues(self, prepared: PairOperand, count: int) -> PairOperand:
        """Gallery images with fewer clues, see :func:`cace_pyg.models.keep_clues`, to be images b of pairs.

        If the stage cannot compute with merged clues (:attr:`takes_merged`), each clue is replaced by its group's mean.
        The distances are the same, but computing them takes as long as with all clues.

        Raises:
            ValueError: see there; or the graph does not compare clues.
        """
        if not self.builder.compares_features:
            raise ValueError(
                f"Expected a graph that compares clues when fewer are kept (got {type(self.builder).__name__}, "
                "whose edges depend only on the positions of clues); leave gallery_clues out"
            )
        kept = keep_clues(prepared, count)
        return (
            kept if kept.merged is None else self.restore(kept.compared, kept.projected, kept.individual, kept.merged)
        )

    def blocks(self, a: PairOperand, b: PairOperand) -> PairBlocks:
        """The adjacency of each pair, with all clues; in training, its density is noted."""
        blocks = self.draw(a.expanded(), b.expanded())
        self.note_density(blocks)
        return blocks

    def draw(self, a: PairOperand, b: PairOperand) -> PairBlocks:
        """The adjacency of each pair from the builder, without the blocks that are switched off."""
        only_intra = self.settings.edges == "intra"
        inter = b.intra.new_zeros(b.intra.shape) if only_intra else self.builder.inter(a.compared, b.compared)
        return PairBlocks(a.intra, inter, b.intra)

    def note_density(self, blocks: PairBlocks) -> None:
        """Note the density of the first pairs, in training only: counting a whole batch costs as much as a product."""
        if self.training:
            with torch.no_grad():
                self.density = PairBlocks(*(block[:_COUNTED] for block in blocks)).density()

    def check_device(self, device: torch.device) -> None:
        """Raise ``RuntimeError`` if the backend does not run on ``device``."""
