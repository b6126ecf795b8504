"""The complete CACE-Net."""

import copy
from collections.abc import Callable
from dataclasses import replace
from typing import get_args

import torch
from torch import Tensor

from cace_pyg.graph import Clues, GraphBuilder
from cace_pyg.graph.clues import clue_parts
from cace_pyg.models.clue_alignment import ClueAlignment
from cace_pyg.models.conditional_embedding import ConditionalEmbedding
from cace_pyg.models.extractor import Extractor, Individual, split_extracted
from cace_pyg.models.generalised_mean import GeneralisedMean, Pooling
from cace_pyg.models.heads import EmbeddingHead
from cace_pyg.models.pair_stage import ConditionalSettings, PairStage


class CaceNet(torch.nn.Module):
    """Clue alignment and conditional embedding for re-identification (Yu et al., 2020, arXiv:2009.05250).

    An image has an individual embedding f(a), from ``extractor`` and ``encoder``. Two images form one graph of clues,
    from which ``pair_stage`` computes f(a|b), f(b|a) and the distance that the second stage ranks by. Embeddings are
    compared by direction: distances are Euclidean between unit vectors.

    Args:
        extractor: maps images to clues: a :class:`Backbone`, or any module with the interface :class:`Extractor`.
        graph: makes the builder from the size of a clue; a builder class is such a function.
        num_identities: number of training identities, for both classifiers; None if nothing is classified, as with
            ``published``.
        embedding_channels: size of the trained embeddings.
        batch_norm: normalise embeddings over the batch, see :class:`EmbeddingHead`.
        conditional: see :class:`ConditionalSettings`.
        pooling: of clues to the individual embedding: ``mean``, or ``generalised_mean`` with a learned exponent
            (:class:`~cace_pyg.models.generalised_mean.GeneralisedMean`). Conditional embeddings always use the mean,
            because their fast computation needs a linear pooling; with ``generalised_mean`` they need their own
            encoder.
        published: the individual embedding is the extractor's own, and neither is trained: there is no ``encoder``
            (None), and the pair stage has its own.

    Raises:
        ValueError: the extractor does not say how many channels it has, the number of identities is missing, or the
            pooling contradicts other settings.
    """

    def __init__(
        self,
        extractor: Extractor,
        graph: Callable[[int], GraphBuilder],
        num_identities: int | None = None,
        embedding_channels: int = 256,
        batch_norm: bool = True,
        conditional: ConditionalSettings | None = None,
        published: bool = False,
        pooling: Pooling = "mean",
    ):
        super().__init__()
        conditional = conditional or ConditionalSettings()
        channels = getattr(extractor, "channels", None)
        if not isinstance(channels, int):
            raise ValueError(
                f"Expected an extractor with the number of channels of its map as `channels`, a whole number (got "
                f"{type(extractor).__name__} with {channels!r}); set it, such as extractor.channels = 2048"
            )
        if num_identities is None and not published:
            raise ValueError("Expected num_identities of a model whose individual branch is trained (got none)")
        _check_pooling(pooling, published, conditional)
        self.extractor = extractor
        self.is_published = published
        encoder = EmbeddingHead(channels, embedding_channels, batch_norm)
        self.encoder = None if published else encoder
        self.pooling = GeneralisedMean() if pooling == "generalised_mean" else None
        self.pair_stage: PairStage
        if conditional.compare != "aligned_clues":
            own = copy.deepcopy(encoder) if conditional.own_encoder and not published else encoder
            self.pair_stage = ConditionalEmbedding(channels, graph(channels), own, conditional)
        else:
            self.pair_stage = ClueAlignment(graph(channels), conditional)
        self.classifier: torch.nn.Linear | None = None
        self.pair_classifier: torch.nn.Linear | None = None
        if num_identities is not None and not published:
            self.classifier = _classifier(embedding_channels, num_identities)
            self.pair_classifier = _classifier(embedding_channels, num_identities)

    def forward(self, images: Tensor, part_maps: Tensor | None = None) -> Individual:
        """Individual embeddings and clues of ``(image, 3, height, width)``.

        A builder that uses body parts also needs label maps, ``(image, height, width)``.

        Raises:
            ValueError: the extractor returns clues with other channels, or no embedding with ``published``.
        """
        embedding, clues = split_extracted(self.extractor(images), self.extractor.channels, images.size(0))
        if part_maps is not None:
            clues = replace(clues, parts=clue_parts(part_maps, clues.grid))
        if self.encoder is not None:
            pooled = clues.features.mean(1) if self.pooling is None else self.pooling(clues.features)
            return Individual(self.encoder(pooled), clues)
        if embedding is None:
            raise ValueError(
                f"Expected the extractor's own embedding (got none from {type(self.extractor).__name__}): return "
                "cace_pyg.models.Individual(embedding, Clues.from_map(map)), or train one with published=False"
            )
        return Individual(embedding, clues)

    @property
    def channels(self) -> int:
        """Of a clue, so that a whole model is an :class:`~cace_pyg.models.extractor.Extractor`, too."""
        return self.extractor.channels

    @property
    def needs_parts(self) -> bool:
        """Whether the graph builder uses body parts."""
        return self.pair_stage.builder.needs_parts

    @property
    def conditional(self) -> ConditionalEmbedding:
        """The pair stage, if it has conditional embeddings.

        Raises:
            ValueError: it has none (``compare="aligned_clues"``).
        """
        if not isinstance(self.pair_stage, ConditionalEmbedding):
            raise ValueError(
                "compare aligned_clues has distances of pairs, but no conditional embeddings or maps; use "
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
        """Initialise the conditional encoder with the individual one."""
        if self.encoder is None or not isinstance(self.pair_stage, ConditionalEmbedding):
            return
        if self.pair_stage.encoder is not self.encoder:
            self.pair_stage.encoder.load_state_dict(self.encoder.state_dict())

    def pair_branch(self) -> list[torch.nn.Parameter]:
        """The parameters that are trained on frozen clues: builder, convolution, expansion and own encoder."""
        shared = set() if self.encoder is None else {id(parameter) for parameter in self.encoder.parameters()}
        return [parameter for parameter in self.pair_stage.parameters() if id(parameter) not in shared]


def _check_pooling(pooling: Pooling, published: bool, conditional: ConditionalSettings) -> None:
    if pooling not in get_args(Pooling):
        raise ValueError(f"Expected pooling {', '.join(get_args(Pooling))} (got {pooling!r})")
    if pooling == "mean":
        return
    if published:
        raise ValueError(
            "embedding.pooling generalised_mean is for embeddings that are trained here (got embedding.kind published, "
            "whose pooling comes with the network); leave it out"
        )
    if not conditional.own_encoder and conditional.compare != "aligned_clues":
        raise ValueError(
            "Expected conditional.own_encoder true with embedding.pooling generalised_mean (got false): conditional "
            "embeddings average their clues, and one encoder would see two kinds of pooled clues"
        )


def _classifier(channels: int, identities: int) -> torch.nn.Linear:
    layer = torch.nn.Linear(channels, identities, bias=False)
    torch.nn.init.normal_(layer.weight, std=0.001)
    return layer
