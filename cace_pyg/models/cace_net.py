"""CACE-Net, whole."""

import copy
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from cace_pyg.graph import Clues, GraphBuilder
from cace_pyg.kernels import kernels_for
from cace_pyg.models.backbone import Backbone
from cace_pyg.models.clue_alignment import ClueAlignment
from cace_pyg.models.conditional_embedding import AllPairs, ConditionalEmbedding
from cace_pyg.models.conditional_settings import ConditionalSettings
from cace_pyg.models.heads import EmbeddingHead
from cace_pyg.models.pair_operand import PairOperand


class Individual(NamedTuple):
    """What an image is on its own: embedding ``(image, embedding)`` and clues ``(image, n, channel)``."""

    embedding: Tensor
    clues: Clues


class CaceNet(torch.nn.Module):
    """Clue alignment and conditional embedding for re-identification (Yu et al., CVPR 2021).

    An image has an individual embedding f(a). Two images become one graph of clues, and each gets an embedding given
    the other, f(a|b) and f(b|a). Embeddings are compared by direction: distances are Euclidean between unit vectors.

    Args:
        backbone: images to feature maps.
        graph: makes the builder from the size of a clue; a builder class is such a function.
        num_identities: training identities, of both classifiers.
        embedding_channels: size of both embeddings.
        batch_norm: normalise embeddings over the batch, see :class:`EmbeddingHead`.
        conditional: see :class:`ConditionalSettings`.
    """

    def __init__(
        self,
        backbone: Backbone,
        graph: Callable[[int], GraphBuilder],
        num_identities: int,
        embedding_channels: int = 256,
        batch_norm: bool = True,
        conditional: ConditionalSettings | None = None,
    ):
        super().__init__()
        conditional = conditional or ConditionalSettings()
        channels = backbone.channels
        self.backbone = backbone
        self.encoder = EmbeddingHead(channels, embedding_channels, batch_norm)
        if conditional.compare != "aligned_clues":
            own = copy.deepcopy(self.encoder) if conditional.own_encoder else self.encoder
            self.conditional = ConditionalEmbedding(channels, graph(channels), own, conditional)
        else:
            self.conditional = ClueAlignment(graph(channels), conditional)
        self.classifier = _classifier(embedding_channels, num_identities)
        self.pair_classifier = _classifier(embedding_channels, num_identities)

    def forward(self, images: Tensor, part_maps: Tensor | None = None) -> Individual:
        """Individual embeddings and clues of ``(image, 3, height, width)``.

        A builder that looks at body parts needs label maps too, ``(image, height, width)``.
        """
        clues = Clues.from_map(self.backbone(images), part_maps)
        return Individual(self.encoder(clues.features.mean(1)), clues)

    @property
    def needs_parts(self) -> bool:
        """Whether the graph builder looks at body parts."""
        return self.conditional.builder.needs_parts

    def check_device(self, device: torch.device) -> None:
        """Raise ``RuntimeError`` where the pair stage's engine does not run on ``device``."""
        if self.conditional.engine == "fused":
            kernels_for(device)

    def prepare(self, clues: Clues) -> PairOperand:
        """What the pair stage needs of each image; compute it once and pass it to :meth:`condition_prepared`."""
        return self.conditional.prepare(clues)

    def restore(self, keys: Clues, nodes: Tensor, own: Tensor) -> PairOperand:
        """Prepared clues from their own keys, nodes and own parts, as a gallery keeps them."""
        return self.conditional.restore(keys, nodes, own)

    def condition(self, clues_a: Clues, clues_b: Clues) -> tuple[Tensor, Tensor]:
        """f(a|b) and f(b|a) of the pairs (a₀, b₀), (a₁, b₁), …, each ``(pair, embedding)``.

        Raises:
            ValueError: the two sides differ in number of images or in feature-map size, or there are no conditional
                embeddings (``compare="aligned_clues"``).
        """
        self._check_embeddings()
        if len(clues_a) != len(clues_b) or clues_a.grid != clues_b.grid:
            raise ValueError(
                "Expected as many images a as images b, with maps of one size "
                f"(got {len(clues_a)} of {clues_a.grid} and {len(clues_b)} of {clues_b.grid})"
            )
        return self.condition_prepared(self.prepare(clues_a), self.prepare(clues_b))

    def condition_prepared(self, prepared_a: PairOperand, prepared_b: PairOperand) -> tuple[Tensor, Tensor]:
        """:meth:`condition` from prepared clues; one image a may stand for all pairs."""
        self._check_embeddings()
        return self.conditional(prepared_a, prepared_b)

    def condition_all(self, prepared: PairOperand) -> AllPairs:
        """f(a|b) of all ordered pairs of a batch and their distances, see :meth:`ConditionalEmbedding.all_pairs`."""
        self._check_embeddings()
        return self.conditional.all_pairs(prepared)

    def conditional_maps(self, clues_a: Clues, clues_b: Clues) -> tuple[Tensor, Tensor]:
        """The feature maps behind f(a|b) and f(b|a), see :meth:`ConditionalEmbedding.conditional_maps`."""
        self._check_embeddings()
        return self.conditional.conditional_maps(clues_a, clues_b)

    def pair_distance(self, prepared_a: PairOperand, prepared_b: PairOperand) -> Tensor:
        """What the second stage ranks by, ``(pair,)``; one image a may stand for all pairs.

        ‖f(a|b) − f(b|a)‖ between unit vectors (§3.5; 0 to 2), the same with a verification head (of either sign), or
        the distance of aligned clues (0 to 2): :class:`ConditionalSettings`, ``compare``.
        """
        return self.conditional.distance(prepared_a, prepared_b)

    def start_conditional_from_individual(self) -> None:
        """Copy the individual encoder into the conditional one, so that the pair branch starts where it ends."""
        if isinstance(self.conditional, ConditionalEmbedding) and self.conditional.encoder is not self.encoder:
            self.conditional.encoder.load_state_dict(self.encoder.state_dict())

    def pair_branch(self) -> list[torch.nn.Parameter]:
        """The parameters that are trained on frozen clues: builder, convolution, expansion and own encoder."""
        shared = {id(parameter) for parameter in self.encoder.parameters()}
        return [parameter for parameter in self.conditional.parameters() if id(parameter) not in shared]

    def _check_embeddings(self) -> None:
        if not isinstance(self.conditional, ConditionalEmbedding):
            raise ValueError(
                "compare aligned_clues has distances of pairs, no conditional embeddings and maps; use pair_distance, "
                "and train it in the pair phase (loss.pairwise_weight 0)"
            )


def _classifier(channels: int, identities: int) -> torch.nn.Linear:
    layer = torch.nn.Linear(channels, identities, bias=False)
    torch.nn.init.normal_(layer.weight, std=0.001)
    return layer
