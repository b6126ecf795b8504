"""Correspondence attention: the learned graph of CACE-Net."""

import math
from dataclasses import replace
from typing import Any, Literal

import torch
from torch import Tensor

from cace_pyg.graph.builder import GraphBuilder
from cace_pyg.graph.clues import Clues
from cace_pyg.graph.gram import upper_gram
from cace_pyg.graph.sparsify import sparsify
from cace_pyg.kernels import ReluGram

_FAINTEST = 1e-4  # smallest weight of a sharpened edge


class CorrespondenceAttention(GraphBuilder):
    r"""Learned importance of every pair of clues, kept where it is positive (CACE-Net, Eq. 2–4).

    ``form="paper"``: :math:`\mathrm{ReLU}(X_a W X_a^\top)` within an image and
    :math:`\mathrm{ReLU}(X_a W' X_b^\top)` between images, with W and W' diagonal and learned (they start at
    1/channels, so that an entry starts as a mean of products). Self-loops stay.

    ``form="released"``: what the authors' code does instead. One bias-free projection to ``width`` channels shared
    by intra and inter, L2-normalised, the ReLU of the cosine, no self-loops.

    A ReLU'd cosine hardly separates the true counterpart of a clue (0.9) from an unrelated clue (0.5), and some 80 % of
    all pairs of clues stay connected, so a clue is compared with nearly the mean of the other picture. ``sharpness``
    raises the cosine to a power (0.9¹⁶ = 0.19, 0.5¹⁶ = 0.00002), so that few counterparts count (docs/results/). Powers
    below 1e-4 become zero: a clue without a counterpart is then isolated, and does not have a tiny degree.

    Args:
        channels: size of a clue.
        form: ``paper`` or ``released``.
        width: channels of the projection of the released form; default channels / 16. The paper form has none.
        sharpness: exponent of the released form's ReLU'd cosines (our addition; 1 is the authors').
        threshold: edges of at most this weight are removed (our addition; 0 removes no more edges). The released form's
            weights are powers of cosines, 0 to 1; the paper form's have the unit of a product of clues.
        top_edges: an edge is kept if it is among this many strongest of either of its ends, in each block separately
            (our addition; None keeps all).

    Raises:
        ValueError: the form is unknown, the width does not fit it, or ``threshold`` or ``top_edges`` is out of range.
    """

    def __init__(
        self,
        channels: int,
        form: Literal["paper", "released"] = "released",
        width: int | None = None,
        sharpness: float = 1.0,
        threshold: float = 0.0,
        top_edges: int | None = None,
    ):
        if form not in ("paper", "released"):
            raise ValueError(f"Expected form 'paper' (Eq. 2–3) or 'released' (the authors' code) (got {form!r})")
        if form == "paper" and width is not None:
            raise ValueError(f"Expected no width with form 'paper', whose W is diagonal (got width={width})")
        if width is not None and width < 1:
            raise ValueError(f"Expected a width of at least 1, or None for channels / 16 (got {width})")
        if not sharpness >= 1 or (form == "paper" and sharpness != 1):
            raise ValueError(
                f"Expected a sharpness of at least 1, and 1 with form 'paper', whose weights are not cosines (got "
                f"{sharpness} with form {form!r})"
            )
        if not threshold >= 0:
            raise ValueError(f"Expected a threshold of at least 0, which removes nothing (got {threshold})")
        if top_edges is not None and top_edges < 1:
            raise ValueError(f"Expected top_edges of at least 1, or None to keep all edges (got {top_edges})")
        super().__init__()
        self.form = form
        self.sharpness = sharpness
        self.threshold = threshold
        self.top_edges = top_edges
        self.is_relu_gram = top_edges is None  # the strongest edges need all edges
        if form == "paper":
            self.intra_weight = torch.nn.Parameter(torch.full((channels,), 1 / channels))
            self.inter_weight = torch.nn.Parameter(torch.full((channels,), 1 / channels))
        else:
            width = max(channels // 16, 1) if width is None else width
            self.projection = torch.nn.Linear(channels, width, bias=False)

    def prepare(self, clues: Clues) -> Clues:
        """The released form's normalised projection; the paper form compares the clues themselves."""
        if self.form == "paper":
            return clues
        projected = torch.nn.functional.normalize(self.projection(clues.features), dim=-1)
        return replace(clues, features=projected)

    def intra(self, prepared: Clues) -> Tensor:
        x = prepared.features
        if self.form == "paper":
            return self._edges((x * self.intra_weight) @ x.mT)
        self_loop = torch.eye(x.size(1), dtype=torch.bool, device=x.device)
        return self._edges((x @ x.mT).masked_fill(self_loop, 0.0))

    def inter(self, prepared_a: Clues, prepared_b: Clues) -> Tensor:
        gram = self.relu_gram(prepared_a, prepared_b)
        return self._edges(gram.x_a @ gram.x_b.mT)

    def relu_gram(self, prepared_a: Clues, prepared_b: Clues) -> ReluGram:
        x_a, x_b = prepared_a.features, prepared_b.features
        x_a = x_a * self.inter_weight if self.form == "paper" else x_a
        return ReluGram(x_a, x_b, self.sharpness, self._cut)

    def among(self, prepared: Clues) -> Tensor:
        weight = self.inter_weight if self.form == "paper" else None
        return self._edges(upper_gram(prepared.features, weight))

    def _edges(self, importance: Tensor) -> Tensor:
        if self.sharpness == 1:
            return sparsify(importance.relu(), self._cut, self.top_edges)
        if torch.is_grad_enabled() and importance.requires_grad:
            edges = _Sharpened.apply(importance, self.sharpness, self._cut)
        else:
            edges = _sharpened(importance.relu(), self.sharpness, self._cut)
        return sparsify(edges, top_edges=self.top_edges)

    @property
    def _cut(self) -> float:
        """Edges of at most this weight are removed."""
        return self.threshold if self.sharpness == 1 else max(self.threshold, _FAINTEST)


def _sharpened(cosines: Tensor, sharpness: float, cut: float) -> Tensor:
    """Powers of cosines ≥ 0; those of at most ``cut`` become zero.

    Squares are many times faster than a power, and the inter block is the largest tensor of a pair.
    """
    squarings = math.log2(sharpness)
    if squarings.is_integer():
        edges = cosines * cosines
        for _ in range(int(squarings) - 1):
            edges.mul_(edges)
    else:
        edges = cosines**sharpness
    return torch.threshold_(edges, cut, 0.0)


class _Sharpened(torch.autograd.Function):
    """ReLU, power and cut in one step; it saves two tensors for the gradient, where autograd would save eight."""

    @staticmethod
    def forward(ctx: Any, importance: Tensor, sharpness: float, cut: float) -> Tensor:
        cosines = importance.relu()
        edges = _sharpened(cosines, sharpness, cut)
        ctx.save_for_backward(cosines, edges)
        ctx.sharpness = sharpness
        return edges

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        cosines, edges = ctx.saved_tensors  # a removed edge has no gradient
        slope = edges / cosines.clamp_min(torch.finfo(cosines.dtype).tiny)  # p·c^(p − 1) = p·c^p / c
        return slope.mul_(gradient).mul_(ctx.sharpness), None, None
