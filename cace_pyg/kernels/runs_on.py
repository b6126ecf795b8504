"""Where the fused kernels run."""

import importlib.util

import torch


def runs_on(device: torch.device) -> bool:
    """Whether the kernels run on ``device``: an NVIDIA GPU of compute capability 8.0 or more, and Triton installed.

    Triton's interpreter (TRITON_INTERPRET=1) runs them on a CPU too, for tests; that is not meant here.
    """
    if device.type != "cuda" or torch.version.cuda is None or importlib.util.find_spec("triton") is None:
        return False
    return torch.cuda.get_device_capability(device) >= (8, 0)
