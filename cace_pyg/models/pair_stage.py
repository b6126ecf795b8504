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
    """`embeddings`: f(a|b) with f(b|a). `verification`: the same, plus a head that sees what both images differ by (our
    addition). `aligned_clues`: no convolution, the mean similarity of the clues that inter edges join (Table 1, "+
    Visual Clue Alignment")."""
    own_encoder: bool = True
    """An encoder apart from the individual one; false shares it, as the authors' code does."""
    backend: Backend = "auto"
    """Same numbers at different cost (docs/backends.md): `auto`, `pooled`, `gram`, `fused` (CUDA), `pooled_messages`,
    `dense`, `message_passing`, `segment_csr`, `sparse_matrix`."""
    convolution: Callable[[int, int], MessagePassing] | None = None
    """A layer of torch_geometric.nn instead of the discrepancy convolution, for comparison: GCNConv, GATConv, …
    mode, degree_floor and backend then mean nothing."""


class PairStage(torch.nn.Module, ABC):
    """From the clues of two images to their distance: what stands on top of a network that sees one image at a time.

    :meth:`prepare` is done once per image; everything else takes what it returns. One image a may stand for all pairs.

    Args:
        builder: makes the graph.
        settings: see :class:`ConditionalSettings`.

    Attributes:
        density: share of edges of the first of the last training pairs, within images and between them; none before.
        backend: what computes the pairs, and ``backend_reason``, why.
        discrepancy_label: what :meth:`discrepancy` gives, for figures.
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
        """What the second stage ranks by, ``(pair,)``."""

    @abstractmethod
    def distance_of(self, blocks: PairBlocks, a: PairOperand, b: PairOperand) -> Tensor:
        """:meth:`distance` of pairs whose adjacency is given, such as :meth:`blocks` without an edge, ``(pair,)``."""

    @abstractmethod
    def discrepancy(self, a: PairOperand, b: PairOperand) -> Tensor:
        """How far each clue differs from those it is connected with, ``(pair, 2, n)``."""

    @property
    def takes_merged(self) -> bool:
        """Whether :meth:`distance` computes merged clues of images b as they are, at fewer products."""
        return False

    def restore(
        self, compared: Clues, projected: Tensor, individual: Tensor, merged: Merged | None = None
    ) -> PairOperand:
        """What :meth:`prepare` or :meth:`keep_clues` returned, from what of it cannot be computed again; so a gallery
        keeps it."""
        none = projected.new_zeros(projected.size(0), 0, 0)  # len() would tie an exported model to it
        operand = PairOperand(compared, none, projected, individual, merged)
        if not self.takes_merged:
            operand = operand.expanded()
        return (
            operand if self.settings.edges == "inter" else replace(operand, intra=self.builder.intra(operand.compared))
        )

    def keep_clues(self, prepared: PairOperand, count: int) -> PairOperand:
        """Images of a gallery by fewer clues, see :func:`cace_pyg.models.keep_clues`; for images b of pairs.

        Where the stage cannot compute with merged clues (:attr:`takes_merged`), every clue has what was kept for it:
        the distances are the same, and no cheaper.

        Raises:
            ValueError: see there; or the graph does not compare clues.
        """
        if not self.builder.compares_features:
            raise ValueError(
                f"Expected a graph that compares clues where fewer of them are kept (got {type(self.builder).__name__},"
                " whose edges depend on where clues are alone); leave gallery_clues out"
            )
        kept = keep_clues(prepared, count)
        return (
            kept if kept.merged is None else self.restore(kept.compared, kept.projected, kept.individual, kept.merged)
        )

    def blocks(self, a: PairOperand, b: PairOperand) -> PairBlocks:
        """The adjacency of each pair, of all clues; while training, their density is remembered."""
        blocks = self.draw(a.expanded(), b.expanded())
        self.note_density(blocks)
        return blocks

    def draw(self, a: PairOperand, b: PairOperand) -> PairBlocks:
        """The adjacency of each pair: what the builder draws, less the blocks that are switched off."""
        only_intra = self.settings.edges == "intra"
        inter = b.intra.new_zeros(b.intra.shape) if only_intra else self.builder.inter(a.compared, b.compared)
        return PairBlocks(a.intra, inter, b.intra)

    def note_density(self, blocks: PairBlocks) -> None:
        """Of the first pairs, and only while training: counting all of a batch takes as long as a matrix product."""
        if self.training:
            with torch.no_grad():
                self.density = PairBlocks(*(block[:_COUNTED] for block in blocks)).density()

    def check_device(self, device: torch.device) -> None:
        """Raise ``RuntimeError`` where the backend does not run on ``device``."""
