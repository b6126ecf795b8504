"""A ReLU'd product of clues times two vectors, without the n×n block: the fused kernel and where it runs."""

import importlib.util
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from cace_pyg.kernels.relu_gram import ReluGram

_DTYPES = (torch.float32, torch.bfloat16, torch.float16)


def relu_gram_products(gram: ReluGram, left: Tensor, right: Tensor) -> tuple[Tensor, Tensor]:
    r"""R @ right and Rᵀ @ left for :math:`R = \mathrm{ReLU}(X_a X_b^\top)^p`, which never reaches the main memory.

    Everything that average pooling wants of an inter block: with ones as vectors the degrees of both sides, with the
    scaled pooling vectors the weights of all clues. A Triton kernel computes R tile by tile, in float32 whatever the
    precision of the clues, uses a tile while it is in registers and forgets it; the backward pass computes it again.

    Cost for a pair with n = n_a = n_b: 2n²·channel flops forward. Backward 4n²·channel for each side whose clues want
    a gradient (2n² of them for the tile again, which plain torch has kept), and the forward's once more if the vectors
    do. The gradient of an image that stands for all pairs is summed from one of each pair, 4·pair·n·channel bytes.

    Under ``torch.autocast`` the clues are taken in its precision, as in a matrix product.

    Args:
        gram: R; clues on a CUDA device, float32, bfloat16 or float16, both alike, of any strides.
        left: ``(pair, n_a)`` or ``(1, n_a)``, any floating type, computed with in float32.
        right: ``(pair, n_b)`` or ``(1, n_b)``.

    Returns:
        ``(pair, n_a)`` and ``(pair, n_b)``, float32. Gradients flow into the clues and the vectors, once.

    Raises:
        ValueError: clues of another precision or on different devices, or shapes that do not fit.
        RuntimeError: no Triton, or clues on a CPU and no TRITON_INTERPRET=1.
    """
    x_a, x_b = gram.x_a, gram.x_b
    if gram.dtype != x_a.dtype:
        x_a, x_b = x_a.to(gram.dtype), x_b.to(gram.dtype)
    _check(x_a, x_b, left, right)
    kernels_for(x_a.device)
    pairs = torch.broadcast_shapes(*(operand.shape[:1] for operand in (x_a, x_b, left, right)))
    operands = (operand.expand(*pairs, *operand.shape[1:]) for operand in (x_a, x_b, left.float(), right.float()))
    return _ReluGramProducts.apply(*operands, float(gram.sharpness), float(gram.threshold))


class _ReluGramProducts(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x_a: Tensor, x_b: Tensor, left: Tensor, right: Tensor, sharpness: float, threshold: float
    ) -> tuple[Tensor, Tensor]:
        ctx.save_for_backward(x_a, x_b, left, right)
        ctx.form = sharpness, threshold
        return kernels_for(x_a.device).products(x_a, x_b, left, right, *ctx.form)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, of_row: Tensor, of_column: Tensor) -> tuple[Tensor | None, ...]:
        x_a, x_b, left, right = ctx.saved_tensors
        kernels = kernels_for(x_a.device)
        # the gradient of R is of_row rightᵀ + left of_columnᵀ
        rows, columns = torch.stack([of_row, left], 1), torch.stack([right, of_column], 1)
        of_x_a = of_x_b = of_left = of_right = None
        if ctx.needs_input_grad[0]:
            of_x_a = kernels.gradient(x_a, x_b, rows, columns, *ctx.form).to(x_a.dtype)
        if ctx.needs_input_grad[1]:
            of_x_b = kernels.gradient(x_b, x_a, columns, rows, *ctx.form).to(x_b.dtype)
        if any(ctx.needs_input_grad[2:4]):
            of_left, of_right = kernels.products(x_a, x_b, of_row, of_column, *ctx.form)
        return of_x_a, of_x_b, of_left, of_right, None, None


def _check(x_a: Tensor, x_b: Tensor, left: Tensor, right: Tensor) -> None:
    if x_a.dtype not in _DTYPES or x_b.dtype != x_a.dtype:
        raise ValueError(
            f"Expected clues in float32, bfloat16 or float16, both alike (got {x_a.dtype} and {x_b.dtype}); the "
            "backend pooled takes every precision"
        )
    devices = {str(operand.device) for operand in (x_a, x_b, left, right)}
    if len(devices) > 1:
        raise ValueError(f"Expected clues and vectors on one device (got {', '.join(sorted(devices))})")
    if x_a.dim() != 3 or x_b.dim() != 3 or x_a.size(2) != x_b.size(2):
        raise ValueError(
            "Expected x_a as (pair, n_a, channel) and x_b as (pair, n_b, channel) (got "
            f"{tuple(x_a.shape)} and {tuple(x_b.shape)})"
        )
    if left.dim() != 2 or right.dim() != 2 or left.size(1) != x_a.size(1) or right.size(1) != x_b.size(1):
        raise ValueError(
            f"Expected left as (pair, {x_a.size(1)}) and right as (pair, {x_b.size(1)}), the nodes of x_a and x_b (got "
            f"{tuple(left.shape)} and {tuple(right.shape)})"
        )
    counts = {operand.size(0) for operand in (x_a, x_b, left, right)}
    if len(counts - {1}) > 1:
        raise ValueError(f"Expected one number of pairs, or 1, everywhere (got {', '.join(map(str, sorted(counts)))})")


def kernels_for(device: torch.device) -> ModuleType:
    """The module with the kernels; imported where they are needed, since it imports Triton.

    Raises:
        RuntimeError: no Triton, or ``device`` is no CUDA device and Triton's interpreter does not stand in for one.
    """
    try:
        from cace_pyg.kernels import relu_gram_triton
    except ModuleNotFoundError as error:
        if error.name != "triton":
            raise
        raise RuntimeError(
            "The fused kernel needs Triton, which is not installed: pip install 'cace-pyg[kernels]' (Linux), or choose "
            "conditional.backend pooled"
        ) from error
    if device.type != "cuda" and not relu_gram_triton.INTERPRETED:
        raise RuntimeError(
            f"The fused kernel runs on CUDA devices (got clues on {device.type}); choose conditional.backend pooled, "
            "or auto, which takes the kernel on CUDA only. For tests, TRITON_INTERPRET=1 runs it on a CPU, very slowly"
        )
    return relu_gram_triton


def runs_on(device: torch.device) -> bool:
    """Whether the kernels run on ``device``: an NVIDIA GPU of compute capability 8.0 or more, and Triton installed.

    Triton's interpreter (TRITON_INTERPRET=1) runs them on a CPU too, for tests; that is not meant here.
    """
    if device.type != "cuda" or torch.version.cuda is None or importlib.util.find_spec("triton") is None:
        return False
    return torch.cuda.get_device_capability(device) >= (8, 0)
