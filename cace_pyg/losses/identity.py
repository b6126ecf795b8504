"""Cross-entropy on identities."""

import torch
from torch import Tensor


def identity_loss(logits: Tensor, labels: Tensor, label_smoothing: float = 0.0) -> Tensor:
    """The mean cross-entropy in nats (CACE-Net, Eq. 1, whose sign and 1/C are misprinted).

    Args:
        logits: ``(image, identity)``.
        labels: ``(image,)``, 0 … identities − 1.
        label_smoothing: share of the target spread evenly over all identities (0: the paper; 0.1: the authors' code).
    """
    return torch.nn.functional.cross_entropy(logits, labels, label_smoothing=label_smoothing)
