"""Nothing needs torch-scatter, and with it nothing changes; only the fused kernel needs Triton."""

import importlib.util
import subprocess
import sys

import pytest

SAME_NUMBERS = """
import torch
from torch_geometric import typing
from torch_geometric.utils import dense_to_sparse
from cace_pyg.nn import DenseDiscrepancyConv, DiscrepancyConv
assert typing.WITH_TORCH_SCATTER == {there}
adjacency = torch.rand(6, 6).double()
adjacency = adjacency + adjacency.T
x = torch.randn(6, 4).double()
dense, sparse = DenseDiscrepancyConv(4, 3).double(), DiscrepancyConv(4, 3).double()
sparse.load_state_dict(dense.state_dict())
torch.testing.assert_close(sparse(x, *dense_to_sparse(adjacency)), dense(x[None], adjacency[None])[0])
"""
WITHOUT = f"""
import sys
sys.modules["torch_scatter"] = sys.modules["triton"] = None
{SAME_NUMBERS.format(there=False)}
import cace_pyg.train
from cace_pyg.kernels import ReluGram, relu_gram_products
x = torch.rand(1, 3, 4)
try:
    relu_gram_products(ReluGram(x, x), torch.ones(1, 3), torch.ones(1, 3))
except RuntimeError as error:
    print(error)
"""


def test_without_them_everything_else_works_and_the_error_names_the_extra():
    found = subprocess.run([sys.executable, "-W", "ignore", "-c", WITHOUT], capture_output=True, text=True, check=True)
    assert "pip install 'cace-pyg[kernels]'" in found.stdout
    assert "import triton" not in found.stdout


@pytest.mark.skipif(importlib.util.find_spec("torch_scatter") is None, reason="make test installs torch-scatter")
def test_with_torch_scatter():
    exec(SAME_NUMBERS.format(there=True), {})
