"""Triplet losses on distances, for individual and conditional embeddings."""

import torch
from torch import Tensor


def triplet_loss(positive_distance: Tensor, negative_distance: Tensor, margin: float = 0.3) -> Tensor:
    """The mean of max(0, margin + positive − negative) over triplets; all shapes ``(anchor,)``.

    Raises:
        ValueError: the shapes differ, or there is no anchor.
    """
    if positive_distance.shape != negative_distance.shape or positive_distance.dim() != 1 or not len(positive_distance):
        raise ValueError(
            "Expected a positive and a negative distance for each anchor, both (anchor,) (got "
            f"{tuple(positive_distance.shape)} and {tuple(negative_distance.shape)})"
        )
    return (margin + positive_distance - negative_distance).relu().mean()


def batch_hard_triplet_loss(distance: Tensor, labels: Tensor, margin: float = 0.3) -> Tensor:
    """The triplet loss of each image's farthest match and nearest non-match (Hermans et al., 2017).

    Args:
        distance: ``(image, image)``, from any source: Euclidean between individual embeddings, or the conditional
            ‖f(a|b) − f(b|a)‖ of each pair.
        labels: ``(image,)``.
        margin: in the unit of the distance.

    Raises:
        ValueError: some image has no match or no non-match in the batch, or the shapes do not fit.
    """
    if labels.dim() != 1 or distance.shape != (len(labels), len(labels)):
        raise ValueError(
            "Expected distances (image, image) and labels (image,) of the same images (got "
            f"{tuple(distance.shape)} and {tuple(labels.shape)})"
        )
    same = labels[:, None] == labels[None, :]
    itself = torch.eye(len(labels), dtype=torch.bool, device=labels.device)
    match = same & ~itself
    if not match.any(1).all() or same.all(1).any():
        raise ValueError(
            "Expected at least two images of every identity and at least two identities in the batch "
            f"(got identities {labels.tolist()}); sample with RandomIdentitySampler"
        )
    farthest_match = distance.masked_fill(~match, -torch.inf).amax(1)
    nearest_other = distance.masked_fill(same, torch.inf).amin(1)
    return triplet_loss(farthest_match, nearest_other, margin)
