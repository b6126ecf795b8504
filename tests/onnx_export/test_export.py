"""``python -m cace_pyg.export``: what is written answers as torch does; what cannot be written is refused."""

import gc
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

import cace_pyg.graph
from cace_pyg.config import from_yaml
from cace_pyg.data import read_market_layout, transforms
from cace_pyg.data.transforms import evaluation_transform
from cace_pyg.engine.checkpoint import load_checkpoint, load_model, model_fingerprint
from cace_pyg.engine.evaluation import evaluate_two_stage
from cace_pyg.export import main as export
from cace_pyg.graph import GraphBuilder
from cace_pyg.graph.clues import clue_parts
from cace_pyg.models import ConditionalEmbedding
from cace_pyg.onnx_export import export_onnx
from cace_pyg.onnx_export.modules import PairScorer, PartVote
from cace_pyg.retrieval import rank
from tests.random_checkpoint import make_checkpoint

PAGE = (Path(__file__).parents[2] / "docs" / "export.md").read_text()
ATTENTION = "CorrespondenceAttention"
MODELS = {
    "paper, to the letter": {
        "graph.form": "paper", "graph.sharpness": None, "conditional.node_wise": "identity", "conditional.width": None,
        "conditional.residual": "false", "conditional.compare": "embeddings",
    },
    "released, cut, aligned clues": {
        "graph.threshold": 0.3, "graph.top_edges": 3, "conditional.edges": "inter", "conditional.node_wise": "square",
        "conditional.compare": "aligned_clues",
    },
    "NoAlignment": {
        "graph": "NoAlignment", "graph.sharpness": None, "conditional.node_wise": "relu", "backbone.name": "resnet18",
        "conditional.backend": "dense",
    },
    "Part": {
        "graph": "Part", "graph.sharpness": None, "graph.stripes": 2, "conditional.edges": "intra",
        "conditional.mode": "smooth", "conditional.degree_floor": "released", "conditional.own_encoder": "false",
        "conditional.compare": "embeddings",
    },
    "TopKSimilarity": {"graph": "TopKSimilarity", "graph.sharpness": None, "graph.k": 2, "graph.weighted": "true"},
    "FullyConnected": {
        "graph": "FullyConnected", "graph.sharpness": None, "conditional.residual": "false",
        "conditional.node_wise": "identity", "conditional.compare": "embeddings", "embedding.batch_norm": "false",
    },
    "Semantic": {"graph": "Semantic", "graph.sharpness": None, "conditional.node_wise": "mlp"},
}  # fmt: skip


def session(path):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(path, options)


def run(model, **inputs):
    return dict(zip([output.name for output in model.get_outputs()], model.run(None, inputs), strict=True))


def pictures(count):
    """uint8, and label maps of blocks."""
    images = torch.randint(256, (count, 3, 48, 24), dtype=torch.uint8)
    return images, torch.randint(4, (count, 12, 6), dtype=torch.uint8).repeat_interleave(4, 1).repeat_interleave(4, 2)


@pytest.mark.parametrize("name", MODELS)
@torch.no_grad()
def test_as_torch_at_sizes_that_were_not_traced(name, tiny, tmp_path, capsys):
    checkpoint = make_checkpoint(tmp_path / "best.ckpt", tiny, **MODELS[name])
    options = ["--output", str(tmp_path / "out"), "--evaluation.fusion=paper", "--evaluation.top_k=7"]
    assert export(["--checkpoint", str(checkpoint), *options]) == 0
    assert not [kind for builder in GraphBuilder.__subclasses__() for kind in builder.__subclasses__()]
    printed = capsys.readouterr().out
    assert "fusion weight 1.0, top k 7" in printed and "largest difference between onnxruntime and torch" in printed
    individual, pair = (session(tmp_path / "out" / f"{name}.onnx") for name in ("individual", "pair"))
    assert {tensor.shape[0] for tensor in (*individual.get_inputs(), *individual.get_outputs())} == {"image"}
    assert {tensor.shape[0] for tensor in (*pair.get_inputs(), *pair.get_outputs())} == {1, "pair"}
    names = json.loads(individual.get_modelmeta().custom_metadata_map["clues"])
    model, _ = load_model(checkpoint, from_yaml(load_checkpoint(checkpoint)["config"]))

    def both(count):
        images, parts = pictures(count)
        with_parts = {"part_maps": parts.numpy()} if model.needs_parts else {}
        embedding, clues = model(evaluation_transform()(images), parts if model.needs_parts else None)
        got = run(individual, images=images.numpy(), **with_parts)
        np.testing.assert_allclose(got["embedding"], torch.nn.functional.normalize(embedding), atol=1e-5)
        return got, model.pair_stage.prepare(clues)

    query, prepared_query = both(1)
    for size in (1, 3, 7):
        gallery, prepared = both(size)
        inputs = {f"query_{name}": query[name] for name in names} | {f"gallery_{name}": gallery[name] for name in names}
        got = run(pair, **inputs)["distance"]
        wanted = model.pair_stage.distance(prepared_query, prepared).numpy()
        assert got.shape == wanted.shape == (size,)
        np.testing.assert_allclose(got, wanted, atol=1e-4)


def test_every_graph_builder_is_among_the_models():
    tried = {options.get("graph", ATTENTION) for options in MODELS.values()}
    public = (getattr(cace_pyg.graph, name) for name in cace_pyg.graph.__all__)
    assert tried == {kind.__name__ for kind in public if kind in GraphBuilder.__subclasses__()}


def test_the_page_ranks_as_evaluation_does_without_torch(exported, tiny):
    checkpoint, folder = exported
    config = from_yaml(load_checkpoint(checkpoint)["config"])
    model, state = load_model(checkpoint, config)
    splits = read_market_layout(tiny)
    query = splits.query[:2]
    evaluation = evaluate_two_stage(model, query, splits.gallery, config, state["fusion_weight"], "cpu")
    wanted = rank(evaluation.distances.two_stage(state["fusion_weight"]))
    assert (wanted != rank(evaluation.distances.individual())).any(), "the second stage changes nothing here"
    program, _of_a_frozen_network = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    program += "\nassert 'torch' not in sys.modules and 'cace_pyg' not in sys.modules"
    files = [str(sample.path) for sample in splits.gallery]
    for sample, order in zip(query, wanted.tolist(), strict=True):
        arguments = [sys.executable, "-c", program, str(folder), str(sample.path), *files]
        printed = subprocess.run(arguments, capture_output=True, text=True, check=True).stdout
        assert printed.splitlines() == [files[position] for position in order]


def test_metadata_say_what_a_program_needs(exported):
    checkpoint, folder = exported
    both = [session(folder / f"{name}.onnx").get_modelmeta().custom_metadata_map for name in ("individual", "pair")]
    assert both[0] == both[1]
    facts = both[0]
    assert facts["fingerprint"] == model_fingerprint(load_checkpoint(checkpoint))
    clues = ["compared", "intra", "projected", "individual"]
    wanted = {"height": 48, "width": 24, "fusion_weight": 0.5, "top_k": 10, "clues": clues}
    assert {key: json.loads(facts[key]) for key in wanted} == wanted
    assert json.loads(facts["mean"]) == [0.485, 0.456, 0.406] and json.loads(facts["deviation"])[2] == 0.225
    assert json.loads(facts["settings"])["graph"]["init_args"]["sharpness"] == 4
    assert set(facts) <= set(re.findall(r"`(\w+)`", PAGE)), "docs/export.md explains every key"
    content = (folder / "individual.onnx").read_bytes() + (folder / "pair.onnx").read_bytes()
    assert str(Path(export_onnx.__file__).parent).encode() not in content, "no paths of this machine"


def test_again_gives_the_same_bytes_and_nothing_else(exported, tmp_path):
    before = {file.name: file.read_bytes() for file in exported[1].iterdir()}
    assert sorted(before) == ["individual.onnx", "pair.onnx"]
    folder = shutil.copytree(exported[1], tmp_path / "onnx")
    assert export(["--checkpoint", str(exported[0]), "--output", str(folder)]) == 0
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == before


def test_a_wrong_model_is_noticed_and_not_kept(exported, tmp_path, monkeypatch, capsys):
    """It need not be made: the right one is wrong beside a torch that has other pixels and longer distances."""
    made = map(onnx.load, (exported[1] / "individual.onnx", exported[1] / "pair.onnx"))
    monkeypatch.setattr(export_onnx, "to_onnx", lambda *_: next(made))
    monkeypatch.setattr(transforms, "IMAGENET_MEAN", (0.0, 0.0, 0.0))
    distance = ConditionalEmbedding.distance
    monkeypatch.setattr(ConditionalEmbedding, "distance", lambda self, *pair: distance(self, *pair) * 1.01)
    assert export(["--checkpoint", str(exported[0]), "--output", str(tmp_path / "new")]) == 2
    error = capsys.readouterr().err
    assert "the exported model is not the trained one, and nothing was kept" in error
    for number in ("embedding", "distance", "distance from pixels"):
        assert f"{number}, batch of 1: " in error
    assert not (tmp_path / "new").exists()


def test_a_batch_size_that_was_fixed_is_noticed(exported, tmp_path, monkeypatch, capsys):
    forward = PairScorer.forward
    monkeypatch.setattr(PairScorer, "forward", lambda self, query, gallery: forward(self, query, gallery).view(2))
    monkeypatch.setattr(export_onnx, "_individual_model", lambda *_: None)  # of which this says nothing
    assert export(["--checkpoint", str(exported[0]), "--output", str(tmp_path / "new")]) == 2
    assert "cannot make pair.onnx of" in capsys.readouterr().err
    assert not (tmp_path / "new").exists()
    gc.collect()  # what the failed trace made of the builders' classes


@pytest.mark.parametrize(
    ("options", "arguments", "message"),
    [
        ({"conditional.convolution": "GCNConv"}, [], "torch_geometric.nn.GCNConv, a layer of PyG on edge lists"),
        ({}, ["--nonsense=1"], "--nonsense"),
        ({}, ["--evaluation.fusion=2"], "evaluation.fusion"),
        ({}, ["--output=FILE"], "Expected --output to name a folder (got the file"),
        ({}, ["--checkpoint=nowhere.ckpt"], "nowhere.ckpt"),
    ],
)
def test_what_is_refused(options, arguments, message, tiny, tmp_path, capsys):
    checkpoint = make_checkpoint(tmp_path / "best.ckpt", tiny, **options)
    (tmp_path / "file").touch()
    arguments = [argument.replace("FILE", str(tmp_path / "file")) for argument in arguments]
    assert export(["--checkpoint", str(checkpoint), *arguments]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and message in error and len(error.splitlines()) == 1
    assert sorted(file.name for file in tmp_path.iterdir()) == ["best.ckpt", "file"]


@pytest.mark.parametrize("package", ["onnx", "onnxruntime", "onnxscript"])
def test_without_the_extra_the_remedy_is_named(package, exported, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, package, None)
    assert export(["--checkpoint", str(exported[0]), "--output", str(tmp_path / "new")]) == 2
    assert f"export needs {package}" in (error := capsys.readouterr().err) and "pip install 'cace-pyg[onnx]'" in error
    assert not (tmp_path / "new").exists()


def test_help_explains_itself(capsys):
    assert export([]) == 0
    assert "individual.onnx: from pictures (uint8)" in capsys.readouterr().out
    with pytest.raises(SystemExit) as stopped:
        export(["--help"])
    assert stopped.value.code == 0 and "--output" in capsys.readouterr().out


@pytest.mark.parametrize(("size", "grid"), [((48, 24), (12, 6)), ((50, 23), (7, 3)), ((4, 4), (4, 4))])
def test_part_vote_is_clue_parts(size, grid):
    maps = torch.randint(5, (3, *size), dtype=torch.uint8)
    maps[1] = 255
    assert torch.equal(PartVote(size, grid)(maps), clue_parts(maps, grid))
