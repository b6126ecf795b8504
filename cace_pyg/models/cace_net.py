"""CACE-Net, whole."""

import copy
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from cace_pyg.graph import Clues, GraphBuilder
from cace_pyg.models.backbone import Extractor
from cace_pyg.models.clue_alignment import ClueAlignment
from cace_pyg.models.conditional_embedding import ConditionalEmbedding
from cace_pyg.models.heads import EmbeddingHead
from cace_pyg.models.pair_stage import ConditionalSettings, PairStage


class Individual(NamedTuple):
    """What an image is on its own: embedding ``(image, embedding)`` and clues ``(image, n, channel)``."""

    embedding: Tensor
    clues: Clues


class CaceNet(torch.nn.Module):
    """Clue alignment and conditional embedding for re-identification (Yu et al., CVPR 2021).

    An image has an individual embedding f(a), from ``extractor`` and ``encoder``. Two images become one graph of clues,
    of which ``pair_stage`` makes f(a|b), f(b|a) and the distance that the second stage ranks by. Embeddings are
    compared by direction: distances are Euclidean between unit vectors.

    Args:
        extractor: images to feature maps: a :class:`Backbone`, or any module with ``channels``.
        graph: makes the builder from the size of a clue; a builder class is such a function.
        num_identities: training identities, of both classifiers.
        embedding_channels: size of both embeddings.
        batch_norm: normalise embeddings over the batch, see :class:`EmbeddingHead`.
        conditional: see :class:`ConditionalSettings`.

    Raises:
        ValueError: the extractor does not say how many channels it has.
    """

    def __init__(
        self,
        extractor: Extractor,
        graph: Callable[[int], GraphBuilder],
        num_identities: int,
        embedding_channels: int = 256,
        batch_norm: bool = True,
        conditional: ConditionalSettings | None = None,
    ):
        super().__init__()
        conditional = conditional or ConditionalSettings()
        channels = getattr(extractor, "channels", None)
        if not isinstance(channels, int):
            raise ValueError(
                f"Expected an extractor that has the channels of its feature map as `channels`, a whole number (got "
                f"{type(extractor).__name__} with {channels!r}); set it, such as extractor.channels = 2048"
            )
        self.extractor = extractor
        self.encoder = EmbeddingHead(channels, embedding_channels, batch_norm)
        self.pair_stage: PairStage
        if conditional.compare != "aligned_clues":
            own = copy.deepcopy(self.encoder) if conditional.own_encoder else self.encoder
            self.pair_stage = ConditionalEmbedding(channels, graph(channels), own, conditional)
        else:
            self.pair_stage = ClueAlignment(graph(channels), conditional)
        self.classifier = _classifier(embedding_channels, num_identities)
        self.pair_classifier = _classifier(embedding_channels, num_identities)

    def forward(self, images: Tensor, part_maps: Tensor | None = None) -> Individual:
        """Individual embeddings and clues of ``(image, 3, height, width)``.

        A builder that looks at body parts needs label maps too, ``(image, height, width)``.

        Raises:
            ValueError: the extractor gives no map of its channels.
        """
        feature_map = self.extractor(images)
        if feature_map.dim() != 4 or feature_map.size(1) != self.extractor.channels:
            raise ValueError(
                f"Expected the extractor to give a map (image, {self.extractor.channels}, H, W) (got "
                f"{tuple(feature_map.shape)}); set its `channels` to those of the map, which stand second, and leave "
                "pooling out"
            )
        clues = Clues.from_map(feature_map, part_maps)
        return Individual(self.encoder(clues.features.mean(1)), clues)

    @property
    def needs_parts(self) -> bool:
        """Whether the graph builder looks at body parts."""
        return self.pair_stage.builder.needs_parts

    @property
    def conditional(self) -> ConditionalEmbedding:
        """The pair stage, where it has conditional embeddings.

        Raises:
            ValueError: it has none (``compare="aligned_clues"``).
        """
        if not isinstance(self.pair_stage, ConditionalEmbedding):
            raise ValueError(
                "compare aligned_clues has distances of pairs, no conditional embeddings and maps; use "
                "pair_stage.distance, and train it in the pair phase (loss.pairwise_weight 0)"
            )
        return self.pair_stage

    def condition(self, clues_a: Clues, clues_b: Clues) -> tuple[Tensor, Tensor]:
        """f(a|b) and f(b|a) of the pairs (a₀, b₀), (a₁, b₁), …, each ``(pair, embedding)``.

        For many pairs, prepare each image once: ``conditional(conditional.prepare(a), conditional.prepare(b))``.

        Raises:
            ValueError: the two sides differ in number of images or in feature-map size, or there are no conditional
                embeddings (``compare="aligned_clues"``).
        """
        if len(clues_a) != len(clues_b) or clues_a.grid != clues_b.grid:
            raise ValueError(
                "Expected as many images a as images b, with maps of one size "
                f"(got {len(clues_a)} of {clues_a.grid} and {len(clues_b)} of {clues_b.grid})"
            )
        return self.conditional(self.conditional.prepare(clues_a), self.conditional.prepare(clues_b))

    def start_conditional_from_individual(self) -> None:
        """Copy the individual encoder into the conditional one, so that the pair branch starts where it ends."""
        if isinstance(self.pair_stage, ConditionalEmbedding) and self.pair_stage.encoder is not self.encoder:
            self.pair_stage.encoder.load_state_dict(self.encoder.state_dict())

    def pair_branch(self) -> list[torch.nn.Parameter]:
        """The parameters that are trained on frozen clues: builder, convolution, expansion and own encoder."""
        shared = {id(parameter) for parameter in self.encoder.parameters()}
        return [parameter for parameter in self.pair_stage.parameters() if id(parameter) not in shared]


def _classifier(channels: int, identities: int) -> torch.nn.Linear:
    layer = torch.nn.Linear(channels, identities, bias=False)
    torch.nn.init.normal_(layer.weight, std=0.001)
    return layer
