"""Cross-entropy on identities: of single images, and mixed (mix-up) over the two images of a pair."""

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


def mixup_identity_loss(logits: Tensor, labels: Tensor, labels_given: Tensor, alpha: float = 0.9) -> Tensor:
    """α·CE(y_a, f(a|b)) + (1 − α)·CE(y_b, f(a|b)), the mean over pairs in nats (CACE-Net, Eq. 8).

    The paper sums over the pairs; the mean keeps the scale of the other losses whatever the batch.

    Args:
        logits: of the conditional embeddings f(a|b), ``(pair, identity)``.
        labels: identity of image a, ``(pair,)``.
        labels_given: identity of image b, ``(pair,)``.
        alpha: share of the image's own identity, in [0, 1]; the paper's best is 0.9 (Table 3).

    Raises:
        ValueError: alpha is outside [0, 1].
    """
    if not 0 <= alpha <= 1:
        raise ValueError(f"Expected alpha in [0, 1] (got {alpha})")
    log_probability = logits.log_softmax(-1)
    own = torch.nn.functional.nll_loss(log_probability, labels)
    given = torch.nn.functional.nll_loss(log_probability, labels_given)
    return alpha * own + (1 - alpha) * given
