"""Nothing needs an extra, and with torch-scatter nothing changes; what needs one says so; and what an import loads."""

import importlib.util
import json
import os
import subprocess
import sys

import pytest

from tests.random_checkpoint import make_checkpoint

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
EXTRAS = ("torch_scatter", "triton", "onnxruntime", "openvino", "lancedb", "pyarrow", "sqlglot")
WITHOUT = f"""
import json, sys
sys.modules |= dict.fromkeys({EXTRAS})
import cace_pyg
from cace_pyg import Gallery
found = {{"gallery": [name for name in sys.modules if name.startswith("cace_pyg.")]}}

def error_of(function, *arguments):
    try:
        function(*arguments)
    except RuntimeError as error:
        return str(error)

found["onnx"] = error_of(cace_pyg.OnnxExtractor, "reid.onnx")
found["openvino"] = error_of(cace_pyg.OpenVinoExtractor, "reid.xml")
from cace_pyg.embed import main
found["embed"] = [main(sys.argv[1:] + ["-o", name]) for name in ("vectors.npy", "vectors.parquet")]
{SAME_NUMBERS.format(there=False)}
import cace_pyg.train
from cace_pyg.kernels import ReluGram, relu_gram_products
found["kernels"] = error_of(relu_gram_products, ReluGram(*torch.rand(2, 1, 3, 4)), torch.ones(1, 3), torch.ones(1, 3))
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def without(tiny, make_once):
    """What a process without the extras found, what it said on stderr, and the folder that it ran in: one for all."""

    def make(folder):
        folder.mkdir()
        checkpoint = make_checkpoint(folder / "model" / "best.ckpt", tiny)
        picture = min((tiny / "query").glob("*.jpg"))
        command = [sys.executable, "-W", "ignore", "-c", WITHOUT, str(picture), "--checkpoint", str(checkpoint)]
        path = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
        said = subprocess.run(command, capture_output=True, text=True, cwd=folder, env=path, check=False)
        assert said.returncode == 0, said.stderr
        (folder / "model" / "said.json").write_text(json.dumps([said.stdout.splitlines()[-1], said.stderr]))

    folder = make_once("without_extras", make)
    found, errors = json.loads((folder / "model" / "said.json").read_text())
    return json.loads(found), errors, folder


def test_a_gallery_loads_no_training_code(without):
    strange = ("engine.training", "engine.joint_phase", "engine.pair_phase", "experiment", "onnx_export")
    loaded = [name.removeprefix("cace_pyg.") for name in without[0]["gallery"]]
    assert "gallery.gallery" in loaded and not [name for name in loaded if name.startswith(strange)]


def test_without_triton_and_torch_scatter_everything_else_works_and_the_error_names_the_extra(without):
    assert "pip install 'cace-pyg[kernels]'" in without[0]["kernels"]
    assert "import triton" not in without[0]["kernels"]


def test_without_onnxruntime_the_error_names_the_extra(without):
    assert without[0]["onnx"].startswith("an ONNX network needs onnx and onnxruntime")
    assert "pip install 'cace-pyg[onnx]'" in without[0]["onnx"]


def test_without_openvino_the_error_names_the_extra(without):
    assert without[0]["openvino"].startswith("an OpenVINO network needs openvino")
    assert "pip install 'cace-pyg[openvino]'" in without[0]["openvino"]


def test_vectors_need_neither_lancedb_nor_pyarrow_and_the_error_names_the_extra(without):
    found, errors, folder = without
    assert found["embed"] == [0, 2] and "cace-pyg[parquet]" in errors
    assert {path.name for path in folder.iterdir()} == {"vectors.npy", "vectors.names.txt", "model"}


@pytest.mark.skipif(importlib.util.find_spec("torch_scatter") is None, reason="make test installs torch-scatter")
def test_with_torch_scatter():
    exec(SAME_NUMBERS.format(there=True), {})
