"""What auto means."""

import pytest

from cace_pyg.models.choose_engine import choose_engine


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


@pytest.mark.parametrize(("node_wise", "engine"), [("identity", "fused"), ("magnitude", "pooled")])
def test_the_fused_kernel_where_it_can_stand_for_the_inter_block(node_wise, engine):
    picked, reason = choose_engine(node_wise, "cuda", 0.5, 64, fusable=True)
    assert picked == engine
    assert reason.startswith(f"auto: density 50.0%, cuda, {node_wise}, 64 channels")
    assert ("the fused kernel, on CUDA only" in reason) == (engine == "fused")
