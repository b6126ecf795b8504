"""The combined losses of joint training."""

from dataclasses import dataclass

from torch import Tensor

from cace_pyg.bounded_numbers import ClosedUnitInterval, NonNegativeFloat
from cace_pyg.losses.identity import identity_loss, mixup_identity_loss
from cace_pyg.losses.triplet import batch_hard_triplet_loss


@dataclass
class LossSettings:
    """Weights and constants of the losses."""

    margin: NonNegativeFloat = 0.3
    """Triplet margin, in units of the distance between unit-length embeddings (0 to 2); the authors' code has 0.5."""
    label_smoothing: ClosedUnitInterval = 0.0
    """Share of the individual identity target spread over all identities; the authors' code has 0.1."""
    alpha: ClosedUnitInterval = 0.9
    """Share of an image's own identity in the mix-up identity loss (Eq. 8)."""
    pairwise_weight: NonNegativeFloat = 0.0
    """Weight of the two pairwise losses in joint training; the paper's is 1, 0 leaves them out."""


class CaceLoss:
    """Individual identity + individual triplet + pairwise_weight · (mix-up identity + conditional triplet)."""

    def __init__(self, settings: LossSettings):
        self.settings = settings

    def individual(self, logits: Tensor, distance: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """The two losses of the individual branch: logits ``(image, identity)``, distance ``(image, image)``."""
        settings = self.settings
        return {
            "identity": identity_loss(logits, labels, settings.label_smoothing),
            "triplet": batch_hard_triplet_loss(distance, labels, settings.margin),
        }

    def pairwise(self, logits: Tensor, distance: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """The two weighted losses of the pair branch, over all ordered pairs of a batch.

        Args:
            logits: of f(a|b), ``(image a, image b, identity)``.
            distance: ‖f(a|b) − f(b|a)‖, ``(image, image)``.
            labels: ``(image,)``.
        """
        settings, images = self.settings, len(labels)
        own = labels.repeat_interleave(images)
        mixup = mixup_identity_loss(logits.flatten(0, 1), own, labels.repeat(images), settings.alpha)
        triplet = batch_hard_triplet_loss(distance, labels, settings.margin)
        return {
            "pair_identity": settings.pairwise_weight * mixup,
            "pair_triplet": settings.pairwise_weight * triplet,
        }
