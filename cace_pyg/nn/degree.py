"""The degree floor: the only place where a node's degree becomes a normalisation, for every backend."""

from typing import Literal, NamedTuple

import torch
from torch import Tensor

Mode = Literal["discrepancy", "smooth"]
DegreeFloor = Literal["textbook", "released"]

_RELEASED_THRESHOLD = 1e-3


class Normalisation(NamedTuple):
    r"""The convolution of mode :math:`\mp` is ``self_weight * x ∓ scale * (A @ (scale * x))``, node by node."""

    scale: Tensor
    self_weight: Tensor


def node_degree(weights: Tensor, dim: int = -1) -> Tensor:
    """Sums of edge weights, at least in float32: in half precision a sum of 384 terms would lose accuracy."""
    return weights.sum(dim, dtype=torch.promote_types(weights.dtype, torch.float32))


def normalise_degree(degree: Tensor, mode: Mode, floor: DegreeFloor) -> Normalisation:
    r"""Turn degrees into the factors of the propagation matrix.

    ``textbook`` is Eq. 5–7 of CACE-Net (with the misprinted :math:`D^{1/2}` read as :math:`D^{-1/2}`):
    :math:`I \mp D^{-1/2} A D^{-1/2}` where a node of degree exactly zero has :math:`D^{-1/2} = 0`, so that it keeps
    its own feature.

    ``released`` is the authors' code: :math:`N (D - A) N` with :math:`N = D^{-1/2}` where the degree exceeds 1e-3,
    else 1, and no gradient through :math:`N`. An isolated node becomes *zero* there, not itself. Their code has no
    smoothing; here it is :math:`I + N A N`.

    Args:
        degree: non-negative row sums of the adjacency, any shape, no unit.
        mode: ``discrepancy`` (Eq. 7) or ``smooth`` (Eq. 6).
        floor: ``textbook`` or ``released``.

    Returns:
        Two tensors of the shape of ``degree``. Gradients are finite at degree zero. A degree of NaN stays NaN and is
        not treated as an isolated node.
    """
    if floor == "textbook":
        isolated = degree == 0
        scale = torch.where(isolated, 1.0, degree).rsqrt() * ~isolated
        return Normalisation(scale, torch.ones_like(degree))
    scale = torch.where(degree <= _RELEASED_THRESHOLD, 1.0, degree).rsqrt().detach()
    self_weight = scale * degree * scale if mode == "discrepancy" else torch.ones_like(degree)
    return Normalisation(scale, self_weight)


def sign_of(mode: Mode) -> float:
    """-1 where neighbours are subtracted (``discrepancy``, Eq. 7), +1 where they are added (``smooth``, Eq. 6)."""
    return -1.0 if mode == "discrepancy" else 1.0


def check_form(mode: str, floor: str) -> None:
    """Raise ``ValueError`` if ``mode`` or ``floor`` is not a known name."""
    if mode not in ("discrepancy", "smooth"):
        raise ValueError(f"Expected mode 'discrepancy' (Eq. 7) or 'smooth' (Eq. 6) (got {mode!r})")
    if floor not in ("textbook", "released"):
        raise ValueError(f"Expected degree_floor 'textbook' or 'released' (got {floor!r})")
