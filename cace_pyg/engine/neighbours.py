"""Re-ranking by neighbours, with or without the pair stage's word on who they are."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from cace_pyg.config import KReciprocalSettings, PropagationSettings
from cace_pyg.engine.extraction import Extraction
from cace_pyg.retrieval import NeighbourGraph, nearest_neighbours
from cace_pyg.retrieval.image_set import ImageSet, one_set
from cace_pyg.retrieval.k_reciprocal import jaccard_distance, k_reciprocal_encoding
from cace_pyg.retrieval.neighbour_graph import in_order_of
from cace_pyg.retrieval.neighbour_ranking import NeighbourRanking, squared_over_farthest
from cace_pyg.retrieval.propagation import cosine_distance, propagation_encoding

Reranking = KReciprocalSettings | PropagationSettings  # a way to re-rank by neighbours, with its numbers
MeasureLists = Callable[[Extraction, Extraction, Sequence[Tensor]], Tensor]  # as measure_lists does


@dataclass(frozen=True)
class SecondStage:
    """What the second stage has measured of queries and gallery.

    Attributes:
        index: gallery positions of the top k of each query, ``(query, k)``.
        conditional: the pair stage's distance of those, ``(query, k)``.
    """

    index: Tensor
    conditional: Tensor


@dataclass(frozen=True)
class Neighbours:
    """Queries and gallery with their nearest, from which re-ranked distances follow, whatever the settings.

    Attributes:
        images: queries and gallery as one set.
        graph: of the individual embeddings.
        second_stage: what it has measured; none: it is not asked.
        conditional: the pair stage's distance of each image to the nearest after itself, ``(image, candidates)``; where
            it was not asked, the mean of what it said of that image.
    """

    images: ImageSet
    graph: NeighbourGraph
    second_stage: SecondStage | None
    conditional: Tensor

    def ranking(self, settings: Reranking, fusion: float = 0.0, weight: float = 0.0) -> NeighbourRanking:
        """Distances after re-ranking.

        Args:
            settings: of the method.
            fusion: weight of the pair stage among neighbours; 0: those of the individual embeddings.
            weight: of the pair stage in the distance that they are mixed with: the second stage's.

        Raises:
            ValueError: there are too few images for these settings.
        """
        check_reranking(settings, len(self.images))
        graph = self.decided_by(fusion)

        def original(queries: slice) -> Tensor:
            return self._original(queries, weight)

        if isinstance(settings, KReciprocalSettings):
            encoding, compare = k_reciprocal_encoding(graph, settings.k1, settings.k2), jaccard_distance
        else:
            encoding = propagation_encoding(graph, settings.k1, settings.k2, settings.exponent)
            compare = cosine_distance
        return NeighbourRanking.of(encoding, self.images, compare, original, settings.original_weight)

    def decided_by(self, fusion: float) -> NeighbourGraph:
        """The graph whose candidates are ranked by (1 − fusion)·individual + fusion·conditional distance."""
        if fusion == 0:
            return self.graph
        individual = self.graph.distance[:, 1 : 1 + self.conditional.size(1)]
        return self.graph.reranked((1 - fusion) * individual + fusion * self.conditional)

    def _original(self, queries: slice, weight: float) -> Tensor:
        """Squared individual distances over each query's largest; the second stage says who gets which of its top k."""
        squared = squared_over_farthest(self.graph, self.images, queries)
        if self.second_stage is None or weight == 0:
            return squared
        index, conditional = self.second_stage.index[queries], self.second_stage.conditional[queries]
        own = (self.images.place[queries] - self.images.first)[:, None]  # below 0 where the query is no gallery picture
        squared.masked_fill_(torch.arange(squared.size(1)) == own, 1)
        near = squared.gather(1, index)
        individual = near.sqrt() * self.graph.farthest[self.images.place[queries], None]
        fused = ((1 - weight) * individual + weight * conditional).masked_fill(index == own, torch.inf)
        return squared.scatter(1, index, in_order_of(near, fused))


def find_neighbours(query: Tensor, gallery: Tensor, own_position: Tensor | None, listed: int) -> Neighbours:
    """The nearest of each picture by its individual embedding.

    Args:
        query: embeddings of unit length, ``(query, embedding)``.
        gallery: ``(gallery, embedding)``.
        own_position: ``(query,)``, where each query itself stands in the gallery, −1 or none where it does not.
        listed: neighbours of each picture that will be looked at.
    """
    images = one_set(query, gallery, own_position)
    graph = nearest_neighbours(images.embedding, min(listed, len(images) - 1) + 1)
    return Neighbours(images, graph, None, torch.empty(len(images), 0))


def ask_pair_stage(
    neighbours: Neighbours,
    query: Extraction,
    gallery: Extraction,
    second_stage: SecondStage,
    candidates: int,
    mutual: bool,
    measure: MeasureLists,
) -> Neighbours:
    """The same with the pair stage's distances of each picture to its nearest.

    It is asked once for each unordered pair, since its distance is symmetric, and not again for those that the second
    stage has measured.

    Args:
        neighbours: with lists of ``candidates`` or more.
        query: query pictures.
        gallery: gallery pictures.
        second_stage: what it has measured.
        candidates: nearest of each picture that the pair stage is asked about.
        mutual: ask only about pictures that are candidates of each other.
        measure: asks it.
    """
    images, near = neighbours.images, neighbours.graph.index[:, 1 : 1 + candidates]
    pairs = _unordered(torch.arange(len(images))[:, None], near, len(images))
    wanted, counts = pairs.unique(return_counts=True)
    wanted = wanted[counts == 2] if mutual else wanted
    second = _unordered(images.place[:, None], images.first + second_stage.index, len(images))
    distance, known = _look_up(wanted, second.flatten(), second_stage.conditional.flatten())
    distance[~known] = _measure_pairs(wanted[~known], images, query, gallery, measure)
    conditional, asked = _look_up(pairs, wanted, distance)
    mean = conditional.masked_fill(~asked, 0).sum(1, keepdim=True) / asked.sum(1, keepdim=True).clamp_min(1)
    return replace(neighbours, second_stage=second_stage, conditional=torch.where(asked, conditional, mean))


def _unordered(a: Tensor, b: Tensor, images: int) -> Tensor:
    """One number for each pair of images, whichever comes first."""
    return torch.minimum(a, b) * images + torch.maximum(a, b)


def _look_up(wanted: Tensor, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
    """The values of the wanted keys, and which of them there are; the others' are left open."""
    if not len(keys):
        return values.new_zeros(wanted.shape), torch.zeros_like(wanted, dtype=torch.bool)
    keys, order = keys.sort(stable=True)
    place = torch.searchsorted(keys, wanted).clamp_max(len(keys) - 1)
    return values[order[place]], keys[place] == wanted


def _measure_pairs(
    pairs: Tensor, images: ImageSet, query: Extraction, gallery: Extraction, measure: MeasureLists
) -> Tensor:
    """The distances of pairs of images, which are in ascending order."""
    distance = torch.empty(len(pairs))
    strangers = (images.place < images.first).nonzero().flatten()
    a, b = pairs // len(images), pairs % len(images)
    in_gallery = torch.arange(len(images)) - images.first
    sides = {False: (query, strangers), True: (gallery, in_gallery)}  # where an image is in its extraction
    for first, second in ((False, False), (False, True), (True, True)):  # queries come before the gallery
        here = ((a >= images.first) == first) & ((b >= images.first) == second)
        if here.any():
            (one, of_one), (other, of_other) = sides[first], sides[second]
            counts = torch.bincount(of_one[a[here]], minlength=len(one.embedding))
            distance[here] = measure(one, other, of_other[b[here]].split(counts.tolist()))
    return distance


def check_reranking(settings: Reranking, images: int) -> None:
    """Raise ``ValueError`` where there are too few images for so many neighbours."""
    if settings.k1 >= images:
        name = method_of(settings)
        raise ValueError(
            f"Expected {name}.k1 below the number of images, {images} (got {settings.k1}); give a smaller --{name}.k1"
        )


def method_of(settings: Reranking) -> str:
    """As ``neighbours.method`` calls it."""
    return "k_reciprocal" if isinstance(settings, KReciprocalSettings) else "propagation"
