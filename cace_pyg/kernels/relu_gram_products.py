"""A ReLU'd product of clues times two vectors, without the n×n block: the fused kernel, and where it runs."""

import importlib.util
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from cace_pyg.kernels.relu_gram import ReluGram

_DTYPES = (torch.float32, torch.bfloat16, torch.float16)


def relu_gram_products(gram: ReluGram, left: Tensor, right: Tensor) -> tuple[Tensor, Tensor]:
    r"""R @ right and Rᵀ @ left for :math:`R = \mathrm{ReLU}(X_a X_b^\top)^p`, without R in main memory.

    This is all that average pooling needs of an inter block: with vectors of ones it gives the degrees of both sides,
    and with the scaled pooling vectors the weights of all clues. A Triton kernel computes R tile by tile, in float32
    whatever the precision of the clues, and uses each tile while it is in registers. The backward pass computes the
    tiles again.

    Cost for a pair with n = n_a = n_b: forward 2n²·channel flops. Backward 4n²·channel for each side whose clues need
    a gradient (2n²·channel of them to compute the tile again, which plain torch would have stored), and the forward
    cost once more if the vectors need one. The gradient of an image shared by all pairs is summed over the pairs, which
    takes 4·pair·n·channel bytes.

    Under ``torch.autocast`` the clues are converted to its precision, as in a matrix product.

    Args:
        gram: R; both clues on a CUDA device, in float32, bfloat16 or float16 (the same), with any strides.
        left: ``(pair, n_a)`` or ``(1, n_a)``, any floating type; computed in float32.
        right: ``(pair, n_b)`` or ``(1, n_b)``.

    Returns:
        ``(pair, n_a)`` and ``(pair, n_b)``, float32. Gradients flow into the clues and the vectors; there are no second
        derivatives.

    Raises:
        ValueError: clues have another precision or are on different devices, or shapes do not fit.
        RuntimeError: Triton is missing, or the clues are on a CPU without TRITON_INTERPRET=1.
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
            f"Expected both clues in the same of float32, bfloat16 and float16 (got {x_a.dtype} and {x_b.dtype}); "
            "conditional.backend pooled takes every precision"
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
        raise ValueError(
            f"Expected equal numbers of pairs, or 1, everywhere (got {', '.join(map(str, sorted(counts)))})"
        )


def kernels_for(device: torch.device) -> ModuleType:
    """The module with the kernels; imported only when they are needed, because it imports Triton.

    Raises:
        RuntimeError: Triton is missing, or ``device`` is not a CUDA device and Triton's interpreter is off.
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

    Triton's interpreter (TRITON_INTERPRET=1) also runs them on a CPU, for tests; this does not count here.
    """
    if device.type != "cuda" or torch.version.cuda is None or importlib.util.find_spec("triton") is None:
        return False
    return torch.cuda.get_device_capability(device) >= (8, 0)
