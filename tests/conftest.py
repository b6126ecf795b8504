"""Small graphs and pictures that many tests share."""

import pytest
import torch


@pytest.fixture(autouse=True)
def seeded():
    """Every test draws the same numbers, alone or among others."""
    torch.manual_seed(0)


def soft_adjacency(pairs: int, nodes: int, isolated: int = 2, self_loops: bool = True) -> torch.Tensor:
    """Symmetric, soft-weighted, about half dense, the first ``isolated`` nodes without an edge, float64."""
    upper = torch.rand(pairs, nodes, nodes, dtype=torch.float64)
    upper = upper * (torch.rand(pairs, nodes, nodes) < 0.5)
    adjacency = upper + upper.mT
    if not self_loops:
        adjacency.diagonal(dim1=1, dim2=2).zero_()
    adjacency[:, :isolated] = 0
    adjacency[:, :, :isolated] = 0
    return adjacency


@pytest.fixture
def make_adjacency():
    return soft_adjacency
