"""The distance of the second stage."""

import torch
from torch import Tensor


def conditional_distance(a_given_b: Tensor, b_given_a: Tensor) -> Tensor:
    """‖f(a|b) − f(b|a)‖ between unit vectors (CACE-Net, §3.5, which leaves the length of the embeddings open).

    Args:
        a_given_b: ``(…, channel)``.
        b_given_a: ``(…, channel)``.

    Returns:
        ``(…)``, 0 to 2; at least 1e-6, where the gradient is zero instead of infinite. Embeddings in half precision are
        compared in float32.
    """
    dtype = torch.promote_types(a_given_b.dtype, torch.float32)
    unit_a, unit_b = (torch.nn.functional.normalize(one.to(dtype), dim=-1) for one in (a_given_b, b_given_a))
    return (unit_a - unit_b).square().sum(-1).clamp_min(1e-12).sqrt()
