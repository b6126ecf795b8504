"""The memory that a call needs at its worst moment."""

import os
from collections.abc import Callable
from itertools import accumulate

import torch
from torch.autograd.profiler import profile
from torch.autograd.profiler_util import MEMORY_EVENT_NAME


def peak_memory(function: Callable[[], object]) -> int:
    """The most bytes of tensors that one call holds at once, beyond those held before it.

    Exact on the CPU: PyTorch's allocator records each block it hands out and takes back, and this is the highest
    running sum. Not seen are blocks of before that the call gives back, the work of threads that it starts itself,
    and memory that is not a tensor's (numpy, Python, the scratch space inside MKL and oneDNN). Where the call takes
    memory of the current CUDA device, the answer is that device's peak and leaves out the CPU; where there is such a
    device and the call takes nothing of it, it is called twice. Recording slows a call down: time it apart.

    Example: a call that makes 4 MB, makes and drops 8 MB, then makes 2 MB and returns has a peak of 12 MB.
    """
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # else the profiler writes two lines a call to stderr
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
    events = [one for one in recorded.kineto_results.events() if one.name() == MEMORY_EVENT_NAME]
    on_cpu = [one for one in events if one.device_type() == torch.profiler.DeviceType.CPU]
    on_cpu.sort(key=lambda one: one.start_ns())
    return max(accumulate((one.nbytes() for one in on_cpu), initial=0))
