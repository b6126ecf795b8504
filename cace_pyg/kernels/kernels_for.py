"""The kernels for a device."""

from types import ModuleType

import torch


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
            "conditional.engine pooled"
        ) from error
    if device.type != "cuda" and not relu_gram_triton.INTERPRETED:
        raise RuntimeError(
            f"The fused kernel runs on CUDA devices (got clues on {device.type}); choose conditional.engine pooled, or "
            "auto, which takes the kernel on CUDA only. For tests, TRITON_INTERPRET=1 runs it on a CPU, very slowly"
        )
    return relu_gram_triton
