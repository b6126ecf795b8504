"""In bf16 and fp16, degrees and distances are float32 all the same."""

from typing import get_args

import pytest
import torch

from cace_pyg.graph import Clues, CorrespondenceAttention
from cace_pyg.models import ConditionalEmbedding, ConditionalSettings, EmbeddingHead, backends
from cace_pyg.models.backends import Backend
from cace_pyg.nn import block_convolution, dense_discrepancy_conv, discrepancy_conv
from cace_pyg.nn.degree import node_degree, normalise_degree

BACKENDS = [backend for backend in get_args(Backend) if backend != "fused"]  # tests/kernels


def pair_branch(backend, node_wise="identity"):
    torch.manual_seed(0)
    settings = ConditionalSettings(backend=backend, node_wise=node_wise, width=8)
    made = ConditionalEmbedding(32, CorrespondenceAttention(32), EmbeddingHead(32, 6), settings)
    torch.nn.init.normal_(made.expansion.weight, std=0.3)
    return made.eval()


@pytest.fixture
def degrees(monkeypatch):
    """The types of all degrees that are made into norms."""
    seen = []
    for module in (block_convolution, dense_discrepancy_conv, discrepancy_conv, backends):
        monkeypatch.setattr(
            module,
            "normalise_degree",
            lambda degree, *form: (seen.append(degree.dtype), normalise_degree(degree, *form))[1],
        )
    return seen


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_degrees_and_distances_under_autocast(backend, dtype, degrees):
    branch = pair_branch(backend)
    clues = Clues(torch.rand(3, 12, 32), (4, 3))
    expected = branch.distance(*(branch.prepare(side) for side in (clues, clues.select([1, 2, 0]))))
    degrees.clear()
    with torch.autocast("cpu", dtype):
        found = branch.distance(*(branch.prepare(side) for side in (clues, clues.select([1, 2, 0]))))
    assert degrees and set(degrees) == {torch.float32}
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, expected, rtol=0.05, atol=0.01)


@pytest.mark.parametrize("node_wise", ["identity", "magnitude", "mlp"])
@pytest.mark.parametrize("backend", ["pooled", "dense"])
def test_a_model_in_bf16_altogether(backend, node_wise, degrees):
    branch = pair_branch(backend, node_wise)
    clues = Clues(torch.rand(3, 12, 32), (4, 3))
    expected = branch.distance(*(branch.prepare(side) for side in (clues, clues.select([1, 2, 0]))))
    degrees.clear()
    branch, rough = branch.bfloat16(), Clues(clues.features.bfloat16(), clues.grid)
    found = branch.distance(*(branch.prepare(side) for side in (rough, rough.select([1, 2, 0]))))
    assert set(degrees) == {torch.float32}
    torch.testing.assert_close(found.float(), expected, rtol=0.1, atol=0.05)


def test_a_degree_keeps_the_bits_that_its_weights_have_not():
    weights = torch.full((1, 400), 1 + 2**-7, dtype=torch.bfloat16)
    assert node_degree(weights).item() == 403.125  # in bf16 the sum would be 404
    assert node_degree(weights.double()).dtype == torch.float64


@pytest.mark.parametrize("compare", ["embeddings", "verification"])
def test_all_pairs_of_a_batch_under_autocast(compare):
    torch.manual_seed(0)
    settings = ConditionalSettings(width=8, node_wise="mlp", compare=compare)
    branch = ConditionalEmbedding(32, CorrespondenceAttention(32), EmbeddingHead(32, 6), settings).eval()
    clues = Clues(torch.rand(3, 12, 32), (4, 3))
    expected = branch.all_pairs(branch.prepare(clues))
    with torch.autocast("cpu", torch.bfloat16):
        found = branch.all_pairs(branch.prepare(clues))
    assert found.distance.dtype == torch.float32
    torch.testing.assert_close(found.distance, expected.distance, rtol=0.05, atol=0.01)
