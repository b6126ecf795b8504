"""Queries and gallery as one set of images, for finding neighbours."""

from dataclasses import dataclass

import torch
from numpy.typing import ArrayLike
from torch import Tensor


@dataclass(frozen=True)
class ImageSet:
    """Queries that are not gallery images themselves, then the gallery.

    Attributes:
        embedding: ``(image, channel)``.
        place: int64 ``(query,)``, the position of each query among the images.
        first: position of the first gallery image.
    """

    embedding: Tensor
    place: Tensor
    first: int

    def __len__(self) -> int:
        return len(self.embedding)


def one_set(
    query: Tensor | ArrayLike, gallery: Tensor | ArrayLike, own_position: Tensor | ArrayLike | None = None
) -> ImageSet:
    """The images of queries and gallery, each once, on the CPU, float64 if either is, else float32.

    Args:
        query: embeddings, ``(query, channel)``.
        gallery: ``(gallery, channel)``.
        own_position: ``(query,)``, the position of each query itself in the gallery, −1 if it is not there.

    Raises:
        ValueError: shapes do not fit, or an embedding is not finite.
    """
    query, gallery = torch.as_tensor(query).detach().cpu(), torch.as_tensor(gallery).detach().cpu()
    if query.dim() != 2 or gallery.dim() != 2 or query.size(1) != gallery.size(1) or not len(query) * len(gallery):
        raise ValueError(
            "Expected embeddings as (query, channel) and (gallery, channel) with the same channels "
            f"(got {tuple(query.shape)} and {tuple(gallery.shape)})"
        )
    for name, embeddings in (("query", query), ("gallery", gallery)):
        if not embeddings.isfinite().all():
            row = int((~embeddings.isfinite()).any(1).nonzero()[0])
            raise ValueError(f"Expected finite embeddings (got NaN or infinity in row {row} of {name})")
    dtype = torch.float64 if torch.float64 in (query.dtype, gallery.dtype) else torch.float32
    own = torch.full((len(query),), -1) if own_position is None else torch.as_tensor(own_position).long()
    strangers = own < 0
    first = int(strangers.sum())
    place = torch.where(strangers, strangers.cumsum(0) - 1, own + first)
    return ImageSet(torch.cat([query[strangers].to(dtype), gallery.to(dtype)]), place, first)
