"""The peak memory of a call."""

import os
from collections.abc import Callable
from itertools import accumulate

import torch
from torch.autograd.profiler import profile
from torch.autograd.profiler_util import MEMORY_EVENT_NAME


def peak_memory(function: Callable[[], object]) -> int:
    """The peak number of tensor bytes of a call, beyond those before it.

    Exact on the CPU: PyTorch's allocator records each block that it allocates and frees, and this is the highest
    running sum. It does not include earlier blocks that the call frees, threads that the call starts itself, and
    memory other than tensors (numpy, Python, the scratch space inside MKL and oneDNN). If the call uses memory of the
    current CUDA device, the result is that device's peak, without the CPU; if there is such a device and the call does
    not use it, the call runs twice. Recording slows a call down, so measure time separately.

    Example: a call that makes 4 MB, makes and drops 8 MB, then makes 2 MB and returns has a peak of 12 MB.
    """
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # else the profiler writes two lines per call to stderr
    on_cuda = torch.cuda.is_available()
    if on_cuda:
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        held = torch.cuda.memory_allocated()
        function()
        torch.cuda.synchronize()
        peak = torch.cuda.max_memory_allocated() - held
        if peak > 0:
            return peak
    with profile(profile_memory=True) as recorded:
        function()
    return _highest_sum(recorded)


def _highest_sum(recorded: profile) -> int:
    events = [event for event in recorded.kineto_results.events() if event.name() == MEMORY_EVENT_NAME]
    on_cpu = [event for event in events if event.device_type() == torch.profiler.DeviceType.CPU]
    on_cpu.sort(key=lambda event: event.start_ns())
    return max(accumulate((event.nbytes() for event in on_cpu), initial=0))
