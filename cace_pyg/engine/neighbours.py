"""Re-ranking by neighbours, chosen by the individual embeddings alone or together with the pair stage."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from numbers import Integral

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

Reranking = KReciprocalSettings | PropagationSettings  # a method of re-ranking by neighbours, with its settings
MeasureLists = Callable[[Extraction, Extraction, Sequence[Tensor]], Tensor]  # such as measure_lists


@dataclass(frozen=True)
class SecondStage:
    """The second stage's distances from queries to the gallery.

    Attributes:
        index: gallery positions of the top k of each query, ``(query, k)``.
        conditional: the pair stage's distances to those, ``(query, k)``.
    """

    index: Tensor
    conditional: Tensor


@dataclass(frozen=True)
class Neighbours:
    """Queries and gallery with their nearest neighbours; gives re-ranked distances for any settings.

    Attributes:
        images: queries and gallery as one set.
        graph: of the individual embeddings.
        second_stage: its distances; None: it is not used.
        conditional: the pair stage's distances from each image to its nearest neighbours, without itself, ``(image,
            candidates)``. A pair that was not measured has the mean of the image's measured distances.
    """

    images: ImageSet
    graph: NeighbourGraph
    second_stage: SecondStage | None
    conditional: Tensor

    def ranking(self, settings: Reranking, fusion: float = 0.0, weight: float = 0.0) -> NeighbourRanking:
        """Distances after re-ranking.

        Args:
            settings: of the method.
            fusion: weight of the pair stage in choosing neighbours; 0: neighbours by the individual embeddings.
            weight: weight of the pair stage in the original distance that is mixed in, as in the second stage.

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
        """Squared individual distances divided by each query's largest; the second stage reorders its top k."""
        squared = squared_over_farthest(self.graph, self.images, queries)
        if self.second_stage is None or weight == 0:
            return squared
        index, conditional = self.second_stage.index[queries], self.second_stage.conditional[queries]
        own = (self.images.place[queries] - self.images.first)[:, None]  # below 0 if the query is not a gallery picture
        squared.masked_fill_(torch.arange(squared.size(1)) == own, 1)
        near = squared.gather(1, index)
        individual = near.sqrt() * self.graph.farthest[self.images.place[queries], None]
        fused = ((1 - weight) * individual + weight * conditional).masked_fill(index == own, torch.inf)
        return squared.scatter(1, index, in_order_of(near, fused))


def find_neighbours(query: Tensor, gallery: Tensor, own_position: Tensor | None, listed: int) -> Neighbours:
    """The nearest neighbours of each picture by the individual embedding.

    Args:
        query: embeddings of unit length, ``(query, embedding)``.
        gallery: ``(gallery, embedding)``.
        own_position: ``(query,)``, the position of each query itself in the gallery, −1 if it is not there; None: no
            query is.
        listed: number of neighbours of each picture.
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
    """Add the pair stage's distances from each picture to its nearest neighbours.

    Each unordered pair is measured once, since the distance is symmetric. Pairs that the second stage has measured are
    not measured again.

    Args:
        neighbours: with lists of ``candidates`` or more.
        query: query pictures.
        gallery: gallery pictures.
        second_stage: its distances, which are reused.
        candidates: number of nearest neighbours of each picture to measure.
        mutual: measure only pictures that are candidates of each other.
        measure: measures lists of pairs.
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
    """A unique number for each unordered pair of images."""
    return torch.minimum(a, b) * images + torch.maximum(a, b)


def _look_up(wanted: Tensor, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
    """The values of the wanted keys, and which of these exist; the values of the others are undefined."""
    if not len(keys):
        return values.new_zeros(wanted.shape), torch.zeros_like(wanted, dtype=torch.bool)
    keys, order = keys.sort(stable=True)
    place = torch.searchsorted(keys, wanted).clamp_max(len(keys) - 1)
    return values[order[place]], keys[place] == wanted


def _measure_pairs(
    pairs: Tensor, images: ImageSet, query: Extraction, gallery: Extraction, measure: MeasureLists
) -> Tensor:
    """The distances of pairs of images; the pairs are in ascending order."""
    distance = torch.empty(len(pairs))
    strangers = (images.place < images.first).nonzero().flatten()
    a, b = pairs // len(images), pairs % len(images)
    in_gallery = torch.arange(len(images)) - images.first
    sides = {False: (query, strangers), True: (gallery, in_gallery)}  # positions of images in their extraction
    for first, second in ((False, False), (False, True), (True, True)):  # queries come before the gallery
        here = ((a >= images.first) == first) & ((b >= images.first) == second)
        if here.any():
            (images_a, place_a), (images_b, place_b) = sides[first], sides[second]
            counts = torch.bincount(place_a[a[here]], minlength=len(images_a.embedding))
            distance[here] = measure(images_a, images_b, place_b[b[here]].split(counts.tolist()))
    return distance


def check_reranking(settings: Reranking, images: int) -> None:
    """Raise ``ValueError`` if these are no settings, or if there are too few images for this number of neighbours."""
    if not isinstance(settings, KReciprocalSettings | PropagationSettings):
        raise ValueError(
            "Expected neighbours as KReciprocalSettings() or PropagationSettings() of cace_pyg.config (got "
            f"{settings!r}); None: no re-ranking"
        )
    name = method_of(settings)
    for what in ("k1", "k2"):
        value = getattr(settings, what)
        if not isinstance(value, Integral) or value < 1:
            raise ValueError(f"Expected {name}.{what} as a whole number of at least 1 (got {value!r})")
    if not 0 <= settings.original_weight <= 1:
        raise ValueError(f"Expected {name}.original_weight in [0, 1] (got {settings.original_weight})")
    if isinstance(settings, PropagationSettings) and not settings.exponent >= 0:
        raise ValueError(f"Expected propagation.exponent of at least 0 (got {settings.exponent})")
    if settings.k1 >= images:
        raise ValueError(
            f"Expected {name}.k1 below the number of images, {images} (got {settings.k1}); give a smaller {name}.k1"
        )


def method_of(settings: Reranking) -> str:
    """The method's name in ``neighbours.method``."""
    return "k_reciprocal" if isinstance(settings, KReciprocalSettings) else "propagation"
