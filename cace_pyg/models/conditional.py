"""Conditional embedding: each image of a pair embedded given the other."""

from dataclasses import dataclass, replace
from typing import Literal

import torch
from jsonargparse.typing import PositiveInt
from torch import Tensor

from cace_pyg.graph import Clues, GraphBuilder, PairBlocks, pairs_to_batch
from cace_pyg.models.embedding_head import EmbeddingHead
from cace_pyg.nn import DenseDiscrepancyConv, DiscrepancyConv, PooledDiscrepancy
from cace_pyg.nn.degree import DegreeFloor, Mode
from cace_pyg.nn.node_wise import NodeWise, apply_node_wise

Engine = Literal["pooled", "dense", "message_passing"]
_CONVOLUTIONS = {
    "pooled": PooledDiscrepancy,
    "dense": DenseDiscrepancyConv,
    "message_passing": DiscrepancyConv,
}


@dataclass
class ConditionalSettings:
    """The graph convolution and what surrounds it."""

    mode: Mode = "discrepancy"
    """`discrepancy` (Eq. 7) or `smooth` (Eq. 6)."""
    residual: bool = True
    """Add the convolution, zero-initialised, to the clues. False is Eq. 7 to the letter, which collapses."""
    node_wise: NodeWise = "magnitude"
    """`identity` (the paper), `relu` or `magnitude` (our addition) of each node before pooling."""
    width: PositiveInt | None = 64
    """Channels of the convolution, expanded again after pooling; null is the paper's square Θ."""
    degree_floor: DegreeFloor = "textbook"
    """`textbook` (Eq. 7; an isolated clue keeps itself) or `released` (the authors' code)."""
    own_encoder: bool = True
    """An encoder apart from the individual one; false shares it, as the authors' code does."""
    engine: Engine = "pooled"
    """`pooled`, `dense` or `message_passing`: the same numbers at different cost."""


@dataclass(frozen=True)
class PreparedClues:
    """What the pair stage needs of each image: computed once per image, whatever number of pairs it enters.

    Attributes:
        keys: what the graph builder compares, ``(image, n, any)``.
        intra: edges within the image, ``(image, n, n)``.
        nodes: what the convolution takes, ``(image, n, channel)``; projected already with engine ``pooled``.
        mean: average clue, ``(image, channel)``.
    """

    keys: Clues
    intra: Tensor
    nodes: Tensor
    mean: Tensor

    def __len__(self) -> int:
        return len(self.keys)

    def select(self, index: Tensor | slice) -> "PreparedClues":
        """The images at ``index``."""
        return PreparedClues(self.keys.select(index), self.intra[index], self.nodes[index], self.mean[index])

    def to(self, device: torch.device | str) -> "PreparedClues":
        """The same on ``device``."""
        return PreparedClues(self.keys.to(device), self.intra.to(device), self.nodes.to(device), self.mean.to(device))

    @staticmethod
    def concatenate(parts: list["PreparedClues"]) -> "PreparedClues":
        """All images of ``parts`` in order."""
        keys = replace(parts[0].keys, features=torch.cat([part.keys.features for part in parts]))
        if keys.parts is not None:
            keys = replace(keys, parts=torch.cat([part.keys.parts for part in parts]))
        intra, nodes, mean = (torch.cat([getattr(p, name) for p in parts]) for name in ("intra", "nodes", "mean"))
        return PreparedClues(keys, intra, nodes, mean)


class ConditionalEmbedding(torch.nn.Module):
    r"""f(a|b) and f(b|a) from the pair graph of a and b (CACE-Net, §3.4).

    With :math:`\mathcal{L}` the operator of :class:`~cace_pyg.nn.DiscrepancyConv`, φ the node-wise function, U the
    expansion and E the encoder: :math:`f(a|b) = E(m_a + U \, \mathrm{mean}_{i \in a} φ(\mathcal{L}X)_i)`, and without
    the residual :math:`E(U \, \mathrm{mean}_{i \in a} φ(\mathcal{L}X)_i)`. U starts at zero in the residual form, so
    that training starts from the individual embedding. To the letter (no residual, identity, width null: U is left
    out) this is Eq. 7, where on a complete graph f(a|b) = −f(b|a).

    Args:
        channels: size of a clue.
        builder: makes the graph.
        encoder: from pooled clues to the embedding.
        settings: see :class:`ConditionalSettings`.

    Shapes: prepared clues of ``pair`` images a and as many b, to two tensors ``(pair, embedding)``.
    """

    def __init__(self, channels: int, builder: GraphBuilder, encoder: EmbeddingHead, settings: ConditionalSettings):
        super().__init__()
        if settings.engine not in _CONVOLUTIONS:
            raise ValueError(f"Expected engine {' or '.join(map(repr, _CONVOLUTIONS))} (got {settings.engine!r})")
        self.settings = settings
        self.builder = builder
        self.encoder = encoder
        width = channels if settings.width is None else settings.width
        convolution = _CONVOLUTIONS[settings.engine]
        extra = {"node_wise": settings.node_wise} if settings.engine == "pooled" else {}
        self.convolution = convolution(channels, width, mode=settings.mode, degree_floor=settings.degree_floor, **extra)
        literal = not settings.residual and settings.width is None
        self.expansion = torch.nn.Identity() if literal else torch.nn.Linear(width, channels, bias=False)
        if settings.residual:
            torch.nn.init.zeros_(self.expansion.weight)

    def prepare(self, clues: Clues) -> PreparedClues:
        """Everything that depends on one image alone."""
        keys = self.builder.prepare(clues)
        x = clues.features
        nodes = self.convolution.project(x) if self.settings.engine == "pooled" else x
        return PreparedClues(keys, self.builder.intra(keys), nodes, x.mean(1))

    def forward(self, prepared_a: PreparedClues, prepared_b: PreparedClues) -> tuple[Tensor, Tensor]:
        """Return f(a|b) and f(b|a) of each pair."""
        blocks = self.blocks(prepared_a, prepared_b)
        pooled_a, pooled_b = self._pool(blocks, prepared_a, prepared_b)
        out = self.expansion(torch.cat([pooled_a, pooled_b]))
        if self.settings.residual:
            out = torch.cat([prepared_a.mean, prepared_b.mean]) + out
        embedded_a, embedded_b = self.encoder(out).chunk(2)
        return embedded_a, embedded_b

    def blocks(self, prepared_a: PreparedClues, prepared_b: PreparedClues) -> PairBlocks:
        """The adjacency of each pair."""
        return PairBlocks(prepared_a.intra, self.builder.inter(prepared_a.keys, prepared_b.keys), prepared_b.intra)

    def convolve(self, prepared_a: PreparedClues, prepared_b: PreparedClues) -> Tensor:
        """The convolved clues of both images before the node-wise function, ``(pair, 2, n, width)``: for looking at."""
        return self._convolve(self.blocks(prepared_a, prepared_b), prepared_a, prepared_b)

    def _pool(self, blocks: PairBlocks, a: PreparedClues, b: PreparedClues) -> tuple[Tensor, Tensor]:
        """The mean over each image of the node-wise function of the convolved nodes, ``(pair, width)`` each."""
        if self.settings.engine == "pooled":
            return self.convolution(a.nodes, b.nodes, *blocks)
        pooled = apply_node_wise(self._convolve(blocks, a, b), self.settings.node_wise).mean(2)
        return pooled[:, 0], pooled[:, 1]

    def _convolve(self, blocks: PairBlocks, a: PreparedClues, b: PreparedClues) -> Tensor:
        if self.settings.engine == "pooled":
            return torch.stack(self.convolution.convolve(a.nodes, b.nodes, *blocks), dim=1)
        if self.settings.engine == "dense":
            convolved = self.convolution(torch.cat([a.nodes, b.nodes], dim=1), blocks.adjacency())
        else:
            graph = pairs_to_batch(blocks, a.nodes, b.nodes, a.keys.grid)
            convolved = self.convolution(graph.x, graph.edge_index, graph.edge_weight)
        pairs, n = a.nodes.shape[:2]
        return convolved.reshape(pairs, 2, n, -1)
