"""The losses of CACE-Net."""

from cace_pyg.losses.cace_loss import CaceLoss, LossSettings
from cace_pyg.losses.identity import identity_loss, mixup_identity_loss
from cace_pyg.losses.triplet import batch_hard_triplet_loss, triplet_loss

__all__ = [
    "CaceLoss",
    "LossSettings",
    "batch_hard_triplet_loss",
    "identity_loss",
    "mixup_identity_loss",
    "triplet_loss",
]
