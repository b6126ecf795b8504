"""CACE-Net written out: its equations on whole matrices, slow and obvious.

This is for readers, and it is the reference for tests and benchmarks. Nothing is shared between pairs, cached or
reordered; W, W' and D^-½ are multiplied as full matrices, as the paper writes them. The graph of a pair has 2n nodes,
first the clues of image a, then those of b. The shapes below may have further dimensions in front, for pairs. Use
float64 for comparisons.
"""

import torch
from torch import Tensor

from cace_pyg.nn.degree import DegreeFloor, Mode, check_form
from cace_pyg.nn.node_wise import NodeWiseForm


def paper_adjacency(x_a: Tensor, x_b: Tensor, intra_weight: Tensor, inter_weight: Tensor) -> Tensor:
    r"""Eq. 2–4: :math:`\mathrm{ReLU}` of :math:`\begin{bmatrix} X_a W X_a^\top & X_a W' X_b^\top \\
    (X_a W' X_b^\top)^\top & X_b W X_b^\top \end{bmatrix}`.

    Args:
        x_a: clues of image a, ``(n, channel)``.
        x_b: clues of image b, ``(n, channel)``.
        intra_weight: the diagonal of W, ``(channel)``.
        inter_weight: the diagonal of W', ``(channel)``.

    Returns:
        ``(2n, 2n)``, symmetric.
    """
    intra_a = x_a @ intra_weight.diag() @ x_a.mT
    intra_b = x_b @ intra_weight.diag() @ x_b.mT
    inter = x_a @ inter_weight.diag() @ x_b.mT
    top = torch.cat([intra_a, inter], dim=-1)
    bottom = torch.cat([inter.mT, intra_b], dim=-1)
    return torch.cat([top, bottom], dim=-2).relu()


def released_adjacency(x: Tensor, projection: Tensor, sharpness: float = 1.0) -> Tensor:
    """The authors' code instead of Eq. 2–4: the ReLU of the cosine of one projection, without self-loops.

    Args:
        x: clues of both images, which this attention treats alike, ``(2n, channel)``.
        projection: ``(width, channel)``.
        sharpness: our addition: exponent of the ReLU'd cosines; powers of at most 1e-4 become zero.

    Returns:
        ``(2n, 2n)``, symmetric.
    """
    key = torch.nn.functional.normalize(x @ projection.T, dim=-1)
    edges = (key @ key.mT).relu() * (1 - _identity(key))
    if sharpness == 1:
        return edges
    sharpened = edges**sharpness
    return sharpened * (sharpened > 1e-4)


def propagation(adjacency: Tensor, mode: Mode = "discrepancy", degree_floor: DegreeFloor = "textbook") -> Tensor:
    r"""The matrix in front of X: :math:`I + D^{-1/2} A D^{-1/2}` (``smooth``, Eq. 6) or
    :math:`I - D^{-1/2} A D^{-1/2}` (``discrepancy``, Eq. 7), which are Eq. 5 with
    :math:`\theta'_0 = \mp \theta'_1`; its :math:`D^{1/2}` on the right is a misprint.

    ``textbook``: :math:`D^{-1/2}` is 0 where the degree is. ``released``, the authors' code: :math:`N (D - A) N`, where
    N is :math:`D^{-1/2}` if the degree exceeds 1e-3, else 1, and no gradient flows through it; their code has no
    smoothing, here it is :math:`I + N A N`.

    Args:
        adjacency: non-negative, ``(node, node)``; in a directed graph rows are targets.
        mode: ``discrepancy`` or ``smooth``.
        degree_floor: ``textbook`` or ``released``.

    Returns:
        ``(node, node)``.

    Raises:
        ValueError: an unknown mode or degree floor.
    """
    check_form(mode, degree_floor)
    identity, degree = _identity(adjacency), adjacency.sum(-1)
    if degree_floor == "textbook":
        isolated = degree == 0
        root = (torch.where(isolated, 1.0, degree) ** -0.5 * ~isolated).diag_embed()
        smoothed = root @ adjacency @ root
        return identity - smoothed if mode == "discrepancy" else identity + smoothed
    root = (torch.where(degree <= 1e-3, 1.0, degree) ** -0.5).detach().diag_embed()
    if mode == "discrepancy":
        return root @ (degree.diag_embed() - adjacency) @ root
    return identity + root @ adjacency @ root


def convolve(
    x: Tensor,
    adjacency: Tensor,
    theta: Tensor,
    mode: Mode = "discrepancy",
    degree_floor: DegreeFloor = "textbook",
) -> Tensor:
    """Eq. 6 and 7: the matrix of :func:`propagation` times X Θ.

    Args:
        x: ``(node, channel)``.
        adjacency: ``(node, node)``.
        theta: ``(width, channel)``, laid out like the weight of ``torch.nn.Linear``.

    Returns:
        ``(node, width)``.
    """
    return propagation(adjacency, mode, degree_floor) @ x @ theta.T


def node_wise(y: Tensor, form: NodeWiseForm = "identity", mlp: tuple[Tensor, ...] = ()) -> Tensor:
    """The function of each node before the pooling; the paper has ``identity``, the others are our addition.

    Args:
        y: ``(node, channel)``.
        form: ``identity``, ``relu``, ``magnitude``, ``square`` or ``mlp``.
        mlp: weight and bias of the hidden layer on ``[|y|, y]``, then of the last one.

    Returns:
        The shape of ``y``.
    """
    if form == "mlp":
        hidden_weight, hidden_bias, weight, bias = mlp
        hidden = (torch.cat([y.abs(), y], dim=-1) @ hidden_weight.T + hidden_bias).relu()
        return hidden @ weight.T + bias
    return {"identity": y, "relu": y.relu(), "magnitude": y.abs(), "square": y**2}[form]


def pool(y: Tensor) -> Tensor:
    """The mean over each image (the GAP of Eq. 1): nodes ``(2n, channel)`` to images ``(2, channel)``."""
    return y.unflatten(-2, (2, -1)).mean(-2)


def expand(y: Tensor, expansion: Tensor | None = None, x: Tensor | None = None) -> Tensor:
    """The input of the encoder: Y Uᵀ, or X + Y Uᵀ with the residual of the authors' code.

    Args:
        y: pooled, ``(2, width)``, or node by node, ``(2n, width)``.
        expansion: U, ``(channel, width)``; None: Y itself, as in the paper.
        x: the clues, pooled if ``y`` is, ``(…, channel)``; None: no residual.

    Returns:
        ``(…, channel)``.
    """
    expanded = y if expansion is None else y @ expansion.T
    return expanded if x is None else x + expanded


def _identity(matrix: Tensor) -> Tensor:
    return torch.eye(matrix.size(-2), dtype=matrix.dtype, device=matrix.device)
