"""What auto means, and what torch-scatter does."""

import pytest
import torch

from cace_pyg.graph import PairBlocks
from cace_pyg.models.backends import choose_backend, convolve_pairs
from cace_pyg.nn import DiscrepancyConv


@pytest.mark.parametrize(
    ("node_wise", "device", "density", "channels", "backend"),
    [
        ("identity", "cpu", 0.01, 2048, "pooled"),  # scalar work: edges cost more to find than to use
        ("magnitude", "cpu", 0.5, 2048, "pooled"),
        ("magnitude", "cpu", 0.01, 64, "pooled"),
        ("magnitude", "cpu", 0.01, 2048, "sparse_matrix"),
        ("relu", "cuda", 0.01, 2048, "pooled"),  # sparse products were not measured there
    ],
)
def test_auto_follows_its_rule(node_wise, device, density, channels, backend):
    picked, reason = choose_backend(node_wise, device, density, channels)
    assert picked == backend
    assert reason == f"auto: density {density:.1%}, {device}, {node_wise}, {channels} channels"


def test_the_fused_kernel_is_never_chosen():
    """An H200 computes whole stages faster without it (docs/kernels.md)."""
    for channels in (64, 2048):
        assert choose_backend("identity", "cuda", 0.5, channels)[0] == "pooled"


def test_segments_are_summed_by_torch_scatter(monkeypatch):
    torch_scatter = pytest.importorskip("torch_scatter")
    calls = []
    summed = torch_scatter.segment_csr
    monkeypatch.setattr(
        torch_scatter, "segment_csr", lambda *args, **kwargs: calls.append(1) or summed(*args, **kwargs)
    )
    blocks = PairBlocks(*torch.rand(3, 2, 4, 4, dtype=torch.float64))
    convolution = DiscrepancyConv(3, 2).double()
    nodes = torch.randn(2, 2, 4, 3, dtype=torch.float64)
    got = convolve_pairs("segment_csr", convolution, blocks, *nodes)
    assert len(calls) == 2  # degrees, and messages
    torch.testing.assert_close(got, convolve_pairs("dense", convolution, blocks, *nodes))
