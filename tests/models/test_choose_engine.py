"""What auto means."""

import pytest
import torch

from cace_pyg.kernels import ReluGram
from cace_pyg.models.backends import choose_engine


@pytest.mark.parametrize(
    ("node_wise", "device", "density", "channels", "engine"),
    [
        ("identity", "cpu", 0.01, 2048, "pooled"),  # scalar work: edges cost more to find than to use
        ("magnitude", "cpu", 0.5, 2048, "pooled"),
        ("magnitude", "cpu", 0.01, 64, "pooled"),
        ("magnitude", "cpu", 0.01, 2048, "sparse_matrix"),
        ("relu", "cuda", 0.01, 2048, "pooled"),  # not measured there
    ],
)
def test_rule(node_wise, device, density, channels, engine):
    picked, reason = choose_engine(node_wise, device, density, channels)
    assert picked == engine
    assert reason == f"auto: density {density:.1%}, {device}, {node_wise}, {channels} channels"


@pytest.mark.parametrize(
    ("node_wise", "channels", "dtype", "engine"),
    [
        ("identity", 256, torch.bfloat16, "fused"),
        ("identity", 128, torch.float16, "fused"),
        ("identity", 257, torch.bfloat16, "pooled"),  # computing it twice costs more than moving the block
        ("identity", 128, torch.float32, "pooled"),  # likewise, without matrix units
        ("magnitude", 128, torch.bfloat16, "pooled"),
    ],
)
def test_the_fused_kernel_where_it_runs_and_pays(node_wise, channels, dtype, engine):
    gram = ReluGram(torch.ones(1, 2, channels, dtype=dtype), torch.ones(3, 2, channels, dtype=dtype))
    picked, reason = choose_engine(node_wise, "cuda", 0.5, 64, gram)
    assert picked == engine
    assert reason.startswith(f"auto: density 50.0%, cuda, {node_wise}, 64 channels")
    assert ("the fused kernel, on CUDA only" in reason) == (engine == "fused")
    assert choose_engine("identity", "cuda", 0.5, 64)[0] == "pooled"  # it does not run there


def test_autocast_counts_as_half_precision():
    gram = ReluGram(torch.ones(1, 2, 8), torch.ones(3, 2, 8))
    with torch.autocast("cpu", torch.bfloat16):
        assert choose_engine("identity", "cuda", 0.5, 64, gram)[0] == "fused"
    assert choose_engine("identity", "cuda", 0.5, 64, gram)[0] == "pooled"
