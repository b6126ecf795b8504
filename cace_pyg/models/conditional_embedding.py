"""Conditional embedding: each image of a pair is embedded given the other."""

from dataclasses import replace
from typing import NamedTuple, get_args

import torch
from torch import Tensor

from cace_pyg.graph import Clues, GraphBuilder, PairBlocks, block_edges
from cace_pyg.graph.gram import row_lengths
from cace_pyg.kernels import kernels_for
from cace_pyg.models.backends import Backend, choose_backend, convolve_pairs, pool_pairs
from cace_pyg.models.heads import EmbeddingHead, VerificationHead
from cace_pyg.models.pair_operand import PairOperand
from cace_pyg.models.pair_stage import ConditionalSettings, PairStage
from cace_pyg.models.pyg_layer import PygLayer
from cace_pyg.nn import DiscrepancyConv, convolve_blocks, pool_blocks
from cace_pyg.nn.node_wise import NodeWise
from cace_pyg.retrieval import conditional_distance


class AllPairs(NamedTuple):
    """All ordered pairs of a batch, self-pairs included.

    Attributes:
        embedding: f(a|b), ``(image a, image b, embedding)``.
        distance: what the second stage ranks by, ``(image, image)``, symmetric.
    """

    embedding: Tensor
    distance: Tensor


class ConditionalEmbedding(PairStage):
    r"""f(a|b) and f(b|a) from the pair graph of a and b (CACE-Net, §3.4).

    With :math:`\mathcal{L}` the operator of :class:`~cace_pyg.nn.DiscrepancyConv`, φ the node-wise function, U the
    expansion and E the encoder: :math:`f(a|b) = E(m_a + U \, \mathrm{mean}_{i \in a} φ(\mathcal{L}X)_i)`, and without
    the residual :math:`E(U \, \mathrm{mean}_{i \in a} φ(\mathcal{L}X)_i)`. U starts at zero in the residual form, so
    that training starts from the individual embedding. To the letter (no residual, identity, width null: U is left
    out) this is Eq. 7, where on a complete graph f(a|b) = −f(b|a).

    E is linear up to its BatchNorm, so E(m_a) is computed once per image, and E·U is one matrix. With the identity as
    φ, the clues are projected directly to the embedding if that is narrower than the convolution.

    With ``compare="verification"``, a :class:`VerificationHead` also sees the pooled discrepancies of both images, and
    its output is added to ‖f(a|b) − f(b|a)‖.

    Args:
        channels: size of a clue.
        builder: makes the graph.
        encoder: maps pooled clues to the embedding.
        settings: see :class:`ConditionalSettings`.

    Shapes: prepared clues of ``pair`` images a (or of one image for all pairs) and ``pair`` images b, to two tensors
    ``(pair, embedding)``.

    Raises:
        ValueError: the backend is unknown, or cannot compute what the other settings need.
    """

    def __init__(self, channels: int, builder: GraphBuilder, encoder: EmbeddingHead, settings: ConditionalSettings):
        _check_backend(settings, builder)
        super().__init__(builder, settings)
        self.encoder = encoder
        width = channels if settings.width is None else settings.width
        self.convolution: DiscrepancyConv | PygLayer
        if settings.convolution is None:
            self.convolution = DiscrepancyConv(channels, width, settings.mode, degree_floor=settings.degree_floor)
        else:
            self.convolution = PygLayer(settings.convolution, channels, width)
        self.node_wise = NodeWise(settings.node_wise, width)
        literal = not settings.residual and settings.width is None
        self.expansion: torch.nn.Identity | torch.nn.Linear
        self.expansion = torch.nn.Identity() if literal else torch.nn.Linear(width, channels, bias=False)
        if settings.residual and isinstance(self.expansion, torch.nn.Linear):
            torch.nn.init.zeros_(self.expansion.weight)
        self.verification = VerificationHead(width) if settings.compare == "verification" else None
        is_linear = settings.node_wise == "identity" and settings.convolution is None and self.verification is None
        self._projects_to_embedding = is_linear and encoder.convolution.out_features < width
        self._backend: Backend | None = None if settings.backend == "auto" else settings.backend
        self.backend_reason = "as configured"
        self._kept_tail: tuple[tuple[object, ...], Tensor] | None = None

    discrepancy_label = "‖convolved clue‖"

    @property
    def backend(self) -> Backend:
        """The backend in use; ``auto`` until the first pairs come."""
        return self._backend or "auto"

    @property
    def takes_merged(self) -> bool:
        form = self.settings.edges, self.settings.degree_floor
        plain = self.settings.backend in ("auto", "pooled") and isinstance(self.convolution, DiscrepancyConv)
        return plain and form == ("inter", "textbook") and self.builder.is_relu_gram

    def check_device(self, device: torch.device) -> None:
        if self._backend == "fused":
            kernels_for(device)

    def prepare(self, clues: Clues) -> PairOperand:
        compared, x = self.builder.prepare(clues), clues.features
        mean = x.mean(1)
        individual = self.encoder.convolution(mean if self.settings.residual else torch.zeros_like(mean))
        if isinstance(self.convolution, PygLayer):
            projected = x
        elif self._projects_to_embedding:
            projected = torch.nn.functional.linear(x, self._tail() @ self.convolution.lin.weight)
        else:
            projected = self.convolution.lin(x)
        return self.restore(compared, projected, individual)

    def forward(self, a: PairOperand, b: PairOperand) -> tuple[Tensor, Tensor]:
        """Return f(a|b) and f(b|a) of each pair."""
        return self._embed(a.individual, b.individual, self._pool(a, b))

    def all_pairs(self, operand: PairOperand) -> AllPairs:
        """All ordered pairs of a batch.

        Both embeddings of a pair come from one graph, so only a ≤ b is computed, row by row, one image against many.
        With the backend ``gram`` (and ``auto``) all inter blocks are those of one Gram matrix.
        """
        images = len(operand)
        first, second = torch.triu_indices(images, images, device=operand.individual.device)
        rows = [(operand.select(slice(a, a + 1)), operand.select(slice(a, None))) for a in range(images)]
        if self._backend == "fused":
            found = [self._pool(a, b) for a, b in rows]
        else:
            graphs = self._graphs(operand, rows)
            self.note_density(graphs[0])
            found = [self._pool(a, b, blocks) for blocks, (a, b) in zip(graphs, rows, strict=True)]
        pooled_a, pooled_b = (torch.cat(side) for side in zip(*found, strict=True))
        pooled = pooled_a, pooled_b
        forward, backward = self._embed(operand.individual[first], operand.individual[second], pooled)
        table = forward.new_zeros(images, images, forward.size(-1))
        table = table.index_put((second, first), backward).index_put((first, second), forward)
        upper = self._compare(forward, backward, pooled)
        distance = upper.new_zeros(images, images)
        return AllPairs(table, distance.index_put((second, first), upper).index_put((first, second), upper))

    def distance(self, a: PairOperand, b: PairOperand) -> Tensor:
        """‖f(a|b) − f(b|a)‖ between unit vectors (§3.5), ``(pair,)``, 0 to 2; plus the verification head's output."""
        pooled = self._pool(a, b)
        return self._compare(*self._embed(a.individual, b.individual, pooled), pooled)

    def distance_of(self, blocks: PairBlocks, a: PairOperand, b: PairOperand) -> Tensor:
        pooled = self._pool(a.expanded(), b.expanded(), blocks)
        return self._compare(*self._embed(a.individual, b.individual, pooled), pooled)

    def discrepancy(self, a: PairOperand, b: PairOperand) -> Tensor:
        """‖convolved clue‖ before the node-wise function, ``(pair, 2, n)``."""
        a, b = a.expanded(), b.expanded()
        return self._convolve(self.blocks(a, b), a, b).norm(dim=-1)

    def conditional_maps(self, clues_a: Clues, clues_b: Clues) -> tuple[Tensor, Tensor]:
        """The feature maps whose averages become f(a|b) and f(b|a): x_i + U φ(ℒX)_i, or U φ(ℒX)_i without the residual.

        Fig. 4 of the paper shows these maps. One image a may be shared by all pairs.

        Returns:
            ``(pair, n, channel)`` each, with as many channels as a clue.
        """
        a, b = (self._with_map_nodes(clues) for clues in (clues_a, clues_b))
        maps = self.expansion(self.node_wise(self._convolve(self.blocks(a, b), a, b)))
        if self.settings.residual:
            maps = maps + torch.stack([clues_a.features.expand_as(clues_b.features), clues_b.features], dim=1)
        return maps[:, 0], maps[:, 1]

    def _with_map_nodes(self, clues: Clues) -> PairOperand:
        """:meth:`prepare`, but the nodes are not projected to the embedding."""
        x = clues.features
        projected = x if isinstance(self.convolution, PygLayer) else self.convolution.lin(x)
        return replace(self.prepare(clues), projected=projected)

    def _tail(self) -> Tensor:
        """The linear part after the pooling, E·U: ``(embedding, width)``.

        It is cached outside training, because a query is compared in many small batches, and each costs less than this
        product. It is computed again when a weight has changed.
        """
        encoder = self.encoder.convolution.weight
        if isinstance(self.expansion, torch.nn.Identity):
            return encoder
        expansion = self.expansion.weight
        if self.training or torch.is_grad_enabled() or torch.compiler.is_compiling():
            self._kept_tail = None
            return encoder @ expansion
        precision = torch.is_autocast_enabled(encoder.device.type)
        state = (precision, *((weight.data_ptr(), weight._version, weight.dtype) for weight in (encoder, expansion)))
        if self._kept_tail is None or self._kept_tail[0] != state:
            self._kept_tail = state, encoder @ expansion
        return self._kept_tail[1]

    def _embed(
        self, individual_a: Tensor, individual_b: Tensor, pooled: tuple[Tensor, Tensor]
    ) -> tuple[Tensor, Tensor]:
        """Both conditional embeddings, normalised together."""
        if not self._projects_to_embedding:
            tail = self._tail()
            pooled = pooled[0] @ tail.mT, pooled[1] @ tail.mT
        both = self.encoder.batch_norm(torch.cat([individual_a + pooled[0], individual_b + pooled[1]]))
        # not chunk, with which an exported model would take only one batch size
        embedded_a, embedded_b = both.unflatten(0, (2, -1))
        return embedded_a, embedded_b

    def _compare(self, a_given_b: Tensor, b_given_a: Tensor, pooled: tuple[Tensor, Tensor]) -> Tensor:
        distance = conditional_distance(a_given_b, b_given_a)
        return distance if self.verification is None else distance + self.verification(*pooled)

    def _graphs(self, operand: PairOperand, rows: list[tuple[PairOperand, PairOperand]]) -> list[PairBlocks]:
        """The adjacency of each pair of a batch, row by row."""
        if self.settings.backend not in ("auto", "gram") or self.settings.edges == "intra":
            return [self.draw(a, b) for a, b in rows]
        among = self.builder.among(operand.compared).split(row_lengths(len(operand)))
        return [PairBlocks(a.intra, inter, b.intra) for (a, b), inter in zip(rows, among, strict=True)]

    def _pool(self, a: PairOperand, b: PairOperand, blocks: PairBlocks | None = None) -> tuple[Tensor, Tensor]:
        """The mean of φ of the convolved clues of each image, ``(pair, width)`` each.

        ``blocks`` are the pairs' adjacency, if it exists already.
        """
        a = a.expanded()  # images a are few, so this costs little
        if b.merged is not None:
            return self._pool_merged(a, b)
        if self._backend == "fused" and blocks is None:
            return self._pool_fused(a, b)
        blocks = self.blocks(a, b) if blocks is None else blocks
        if isinstance(self.convolution, PygLayer):
            both = self.node_wise.mean(self._convolve(blocks, a, b))
            return both[:, 0], both[:, 1]
        if self._backend is None:
            density, device = sum(map(float, blocks.density())) / 2, blocks.inter.device.type
            chosen = choose_backend(self.settings.node_wise, device, density, b.projected.size(-1))
            self._backend, self.backend_reason = chosen
        return pool_pairs(self._backend, self.convolution, self.node_wise, blocks, a.projected, b.projected)

    def _pool_fused(self, a: PairOperand, b: PairOperand) -> tuple[Tensor, Tensor]:
        if self.training:  # the kernel does not return edges to count, so the first pair gives the density
            self.blocks(a.select(slice(1)), b.select(slice(1)))
        gram, form = self.builder.relu_gram(a.compared, b.compared), (self.settings.mode, self.settings.degree_floor)
        return pool_blocks(a.projected, b.projected, a.intra, gram, b.intra, *form)

    def _pool_merged(self, a: PairOperand, b: PairOperand) -> tuple[Tensor, Tensor]:
        """:meth:`_pool` with merged clues of b, as if each clue of b were its group's mean.

        Node j, which stands for c clues, has the edges ``c·a_ij`` and the value ``√c·x_j``. One convolution then gives
        each node of a the sum of the messages of c equal nodes, and gives node j ``√c`` times the result of each of
        these nodes.
        """
        assert b.merged is not None
        if not self.takes_merged:
            return self._pool(a, b.expanded())
        if self.backend == "auto":
            self.backend_reason = f"{b.projected.size(1)} clues of each gallery picture"
        sizes = b.merged.sizes(b.projected.size(1)).to(b.projected.dtype)
        root = sizes.sqrt().unsqueeze(-1)
        inter = self.builder.inter(a.compared, b.compared) * sizes.unsqueeze(1)
        blocks = PairBlocks(a.intra, inter, b.intra)
        self.note_density(blocks)
        form = self.settings.mode, self.settings.degree_floor
        convolved_a, convolved_b = convolve_blocks(a.projected, root * b.projected, *blocks, *form)
        return self.node_wise.mean(convolved_a), self.node_wise.mean(convolved_b / root.clamp_min(1), sizes)

    def _convolve(self, blocks: PairBlocks, a: PairOperand, b: PairOperand) -> Tensor:
        """The convolved clues of both images, ``(pair, 2, n, width)``."""
        if not isinstance(self.convolution, PygLayer):
            return convolve_pairs(self._backend or "pooled", self.convolution, blocks, a.projected, b.projected)
        pairs, n = b.projected.shape[:2]
        nodes = torch.cat([a.projected.expand_as(b.projected), b.projected], dim=1).flatten(0, 1)
        return self.convolution(nodes, *block_edges(blocks)).view(pairs, 2, n, -1)


def _check_backend(settings: ConditionalSettings, builder: GraphBuilder) -> None:
    if settings.backend not in get_args(Backend):
        raise ValueError(f"Expected backend {', '.join(map(repr, get_args(Backend)))} (got {settings.backend!r})")
    if settings.backend == "pooled_messages" and settings.node_wise != "identity":
        raise ValueError(
            f"backend pooled_messages pools before it propagates, which is exact with node_wise identity only (got "
            f"{settings.node_wise!r}); choose backend auto, or --conditional.node_wise identity"
        )
    if settings.backend == "fused":
        _check_fused(settings, builder)
    if settings.convolution is not None and settings.backend != "auto":
        raise ValueError(
            f"conditional.convolution replaces the discrepancy convolution and its backends (got backend "
            f"{settings.backend!r}); leave conditional.backend at auto"
        )


def _check_fused(settings: ConditionalSettings, builder: GraphBuilder) -> None:
    if settings.node_wise != "identity":
        raise ValueError(
            "backend fused only has products of the inter block with vectors, which are enough with node_wise identity "
            f"only (got {settings.node_wise!r}); choose backend auto, or --conditional.node_wise identity"
        )
    if not builder.is_relu_gram:
        raise ValueError(
            "backend fused needs inter edges that are a ReLU'd product: CorrespondenceAttention without top_edges (got "
            f"{type(builder).__name__}); choose backend auto"
        )
    if settings.edges == "intra":
        raise ValueError(
            "backend fused computes inter edges, but conditional.edges intra has none; choose backend auto"
        )
