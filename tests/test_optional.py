"""Nothing needs torch-scatter, and with it nothing changes."""

import importlib.util
import subprocess
import sys

import pytest

PROGRAM = """
import sys
if {hide}:
    sys.modules["torch_scatter"] = None
import torch
from torch_geometric.utils import dense_to_sparse
from torch_geometric import typing
from cace_pyg.nn import DenseDiscrepancyConv, DiscrepancyConv
assert typing.WITH_TORCH_SCATTER == (not {hide})
adjacency = torch.rand(6, 6).double()
adjacency = adjacency + adjacency.T
x = torch.randn(6, 4).double()
dense, sparse = DenseDiscrepancyConv(4, 3).double(), DiscrepancyConv(4, 3).double()
sparse.load_state_dict(dense.state_dict())
torch.testing.assert_close(sparse(x, *dense_to_sparse(adjacency)), dense(x[None], adjacency[None])[0])
"""


@pytest.mark.parametrize("hide", [True, False])
def test_with_and_without_torch_scatter(hide):
    if not hide and importlib.util.find_spec("torch_scatter") is None:
        pytest.skip("torch-scatter is not installed; make test installs it")
    program = PROGRAM.format(hide=hide)
    if hide:  # before PyG is imported
        subprocess.run([sys.executable, "-W", "ignore", "-c", program], check=True)
    else:
        exec(program, {})
