"""The pair stage on top of a network that is an ONNX file: trained, evaluated, searched with, resumed, exported."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from PIL import Image

from cace_pyg import CaceNet, OnnxExtractor, Trainer, extract_features, from_pretrained, load_weights
from cace_pyg.config import from_yaml
from cace_pyg.data import read_market_layout
from cace_pyg.data.transforms import evaluation_transform, to_tensor
from cace_pyg.data.validation import hold_out_identities
from cace_pyg.engine.checkpoint import load_checkpoint, load_model, model_fingerprint
from cace_pyg.engine.write_bundle import write_bundle
from cace_pyg.evaluate import main as evaluate
from cace_pyg.export import main as export
from cace_pyg.gallery import Gallery
from cace_pyg.read_picture import read_picture
from cace_pyg.train import main as train
from tests.frozen_networks import SmallReid, write_onnx

PAGE = Path(__file__).parents[2] / "docs" / "export.md"


def arguments_of(tiny, weights):
    return [
        f"--data.root={tiny}", "--data.height=48", "--data.width=24", "--data.hold_out=0.3", "--data.workers=0",
        "--backbone.name=onnx", f"--backbone.weights={weights}", "--embedding.kind=published",
        "--embedding.channels=16", "--joint_phase.epochs=0", "--pair_phase.epochs=2",
        "--pair_phase.batches_per_epoch=3", "--pair_phase.anchors=8", "--pair_phase.confusions=3",
        "--conditional.width=8", "--conditional.edges=inter",
        "--conditional.compare=verification", "--evaluation.top_k=10", "--threads=1", "--device=cpu",
    ]  # fmt: skip


@pytest.fixture(autouse=True)
def without_report(monkeypatch):
    monkeypatch.setattr("cace_pyg.experiment.run.report_run", lambda *_: None)


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(3)
    return SmallReid("adaptive").eval()


@pytest.fixture
def place(tiny, run, tmp_path):
    """A run and its network, to be done with as one likes: (arguments, run folder, network's file)."""
    shutil.copytree(run[0].parent, tmp_path / "copy")
    weights = tmp_path / "copy" / "reid.onnx"
    return arguments_of(tiny, weights), tmp_path / "copy" / "run", weights


@pytest.fixture(scope="module")
def run(tiny, network, tmp_path_factory):
    """The folder of a run, and the network's file."""
    folder = tmp_path_factory.mktemp("frozen")
    weights = write_onnx(network, folder / "reid.onnx", dynamo=True, external=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("cace_pyg.experiment.run.report_run", lambda *_: None)
        assert train([*arguments_of(tiny, weights), f"--run_dir={folder / 'run'}"]) == 0
    return folder / "run", weights


def best(run):
    return run / "checkpoints" / "best.ckpt"


def other_network(weights):
    """Another network at the same place."""
    torch.manual_seed(4)
    write_onnx(SmallReid("adaptive").eval(), weights)


@torch.no_grad()
def test_the_model_has_the_networks_embedding_and_the_checkpoint_its_sum_and_nothing_else_of_it(run, network):
    state = load_checkpoint(best(run[0]))
    model, _ = load_model(best(run[0]), from_yaml(state["config"]))
    images = torch.randn(3, 3, 48, 24)
    torch.testing.assert_close(model(images).embedding, network(images), atol=1e-5, rtol=1e-4)
    assert state["network"] == {"path": str(run[1]), "sha256": model.extractor.sha256}
    assert all(name.startswith("pair_stage.") for name in state["model"])
    assert model.pair_stage.expansion.weight.abs().sum() > 0  # it starts at zero
    changed = state | {"network": state["network"] | {"sha256": "0" * 64}}
    assert model_fingerprint(changed) != model_fingerprint(state)


def test_evaluation_needs_the_file_and_says_where_it_was_and_what_it_was(place, capsys, tmp_path):
    _, run, weights = place
    said = ["--checkpoint", str(best(run)), "--output", str(tmp_path / "metrics.json")]
    moved = ["--backbone.weights", str(weights)]
    state = load_checkpoint(best(run))
    recorded = state["network"]["path"]
    state["config"] = state["config"].replace(recorded, str(tmp_path / "gone.onnx"))
    torch.save(state | {"network": state["network"] | {"path": str(tmp_path / "gone.onnx")}}, best(run))
    assert evaluate(said) == 2
    printed = capsys.readouterr().err
    assert "its network is the file gone.onnx with SHA-256 " + state["network"]["sha256"][:12] in printed
    assert f"is not at {tmp_path / 'gone.onnx'}" in printed and "--backbone.weights PATH" in printed
    assert evaluate([*said, *moved]) == 0
    expected = json.loads((run / "metrics.json").read_text())["two_stage"]
    assert json.loads((tmp_path / "metrics.json").read_text())["two_stage"] == expected
    other_network(weights)
    assert evaluate([*said, *moved]) == 2
    assert f"was made with the network of SHA-256 {state['network']['sha256'][:12]}" in capsys.readouterr().err


def test_the_network_alone_is_evaluated_as_it_is(run, tiny, capsys, tmp_path):
    config = tmp_path / "config.yaml"
    config.write_text(f"data: {{root: {tiny}, height: 48, width: 24, workers: 0}}\nbackbone: {{name: onnx}}\n")
    output = tmp_path / "metrics.json"
    said = ["--config", str(config), "--backbone.weights", str(run[1]), "--output", str(output)]
    assert evaluate(said) == 0
    assert "(6×3 of 16 channels); takes 48×24 pixels, RGB, ImageNet's mean and deviation" in capsys.readouterr().out
    expected = json.loads((run[0] / "metrics.json").read_text())["individual"]
    assert json.loads(output.read_text())["individual"] == expected


def test_a_run_goes_on_but_not_with_another_network(place, capsys):
    arguments, run, weights = place
    shutil.rmtree(run)
    cut = [*arguments, f"--run_dir={run}"]
    assert train(cut) == 0
    finished = load_checkpoint(run / "checkpoints" / "last.ckpt")["model"]
    (run / "checkpoints" / "last.ckpt").unlink()  # as after epoch 1 of 2
    assert load_checkpoint(run / "checkpoints" / "previous.ckpt")["epoch"] == 1
    before = (run / "checkpoints" / "previous.ckpt").read_bytes()
    assert train([*cut, "--resume"]) == 0
    again = load_checkpoint(run / "checkpoints" / "last.ckpt")["model"]
    assert finished.keys() == again.keys() and all(torch.equal(finished[name], again[name]) for name in finished)
    (run / "checkpoints" / "last.ckpt").unlink()
    (run / "checkpoints" / "previous.ckpt").write_bytes(before)
    other_network(weights)
    assert train([*cut, "--resume"]) == 2
    assert "was made with the network of SHA-256" in capsys.readouterr().err


def test_a_gallery_keeps_the_network_and_refuses_another(place, tiny, tmp_path):
    _, run, weights = place
    folder = tmp_path / "people.lance"
    pictures = sorted((tiny / "query").glob("*.jpg"))[:6]
    Gallery.create(folder, best(run), device="cpu").add(pictures)
    names = ["reid.onnx", "reid.onnx.data"]
    assert [(folder / "network" / name).read_bytes() for name in names] == [
        (weights.parent / name).read_bytes() for name in names
    ]
    shutil.rmtree(run.parent)
    found = Gallery.open(folder.rename(tmp_path / "moved.lance"), device="cpu").search(pictures[2], top_k=3)
    assert found.first_stage[0].path == pictures[2] and found.first_stage[0].individual < 0.05
    assert found[0].conditional is not None
    other_network(tmp_path / "moved.lance" / "network" / "reid.onnx")
    with pytest.raises(ValueError, match="was made with the network of SHA-256"):
        Gallery.open(tmp_path / "moved.lance", device="cpu")


@torch.no_grad()
def test_a_bundle_brings_the_network_and_refuses_another(place, network, tmp_path):
    _, run, weights = place
    write_bundle(tmp_path / "people", best(run))
    names = {path.name for path in (tmp_path / "people" / "network").iterdir()}
    assert names == {"reid.onnx", "reid.onnx.data"}
    assert "network/reid.onnx.data" in (tmp_path / "people" / "SHA256SUMS").read_text()
    assert str(weights.parent) not in (tmp_path / "people" / "bundle.json").read_text()
    fingerprint = model_fingerprint(load_checkpoint(best(run)))
    shutil.rmtree(weights.parent)
    moved = (tmp_path / "people").rename(tmp_path / "moved")
    found, images = from_pretrained(moved), torch.randn(3, 3, 48, 24)
    torch.testing.assert_close(found.model(images).embedding, network(images), atol=1e-5, rtol=1e-4)
    assert model_fingerprint(load_checkpoint(moved)) == fingerprint
    other_network(moved / "network" / "reid.onnx")
    with pytest.raises(ValueError, match=r"is damaged: network/reid\.onnx\S* has changed"):
        from_pretrained(moved)


def test_the_export_has_the_pair_stage_and_says_what_is_left_to_the_networks_own_file(run, tiny, capsys, tmp_path):
    """A program with onnxruntime and numpy alone ranks as evaluation does: the embedding and the map are the file's."""
    assert export(["--checkpoint", str(best(run[0])), "--output", str(tmp_path / "out")]) == 0
    printed = capsys.readouterr().out
    assert "not exported: the network itself, reid.onnx (SHA-256 " in printed and "into map" in printed
    sessions = [onnxruntime.InferenceSession(tmp_path / "out" / f"{name}.onnx") for name in ("clues", "pair")]
    facts = sessions[0].get_modelmeta().custom_metadata_map
    told = json.loads(facts["network"])
    names = json.loads(facts["clues"])
    model, _ = load_model(best(run[0]), from_yaml(load_checkpoint(best(run[0]))["config"]))
    assert told["sha256"] == model.extractor.sha256 and told["normalisation"] == "imagenet"
    paths = sorted((tiny / "query").glob("*.jpg"))[:5]
    images = evaluation_transform()(torch.stack([to_tensor(read_picture(path), (48, 24)) for path in paths]))
    network = onnx.load(run[1])
    network.graph.output.append(onnx.ValueInfoProto(name=told["map"]))
    found = onnxruntime.InferenceSession(network.SerializeToString()).run([told["map"]], {"images": images.numpy()})[0]
    clues = dict(
        zip([output.name for output in sessions[0].get_outputs()], sessions[0].run(None, {"map": found}), strict=True)
    )
    sides = {f"query_{name}": clues[name][:1] for name in names} | {f"gallery_{name}": clues[name] for name in names}
    distance = sessions[1].run(["distance"], sides)[0]
    with torch.no_grad():
        prepared = model.pair_stage.prepare(model(images).clues)
        expected = model.pair_stage.distance(prepared.select(slice(0, 1)), prepared)
    np.testing.assert_allclose(distance, expected.numpy(), atol=1e-4)


def test_from_python_the_configuration_says_which_network_it_was(run, tiny, tmp_path):
    config = from_yaml(
        (run[0] / "config.yaml").read_text(), f"--run_dir={tmp_path / 'run'}", "--backbone.name=resnet50",
        "--backbone.weights=null",
    )  # fmt: skip
    extractor = OnnxExtractor(run[1])
    model = CaceNet(extractor, config.graph, conditional=config.conditional, embedding_channels=16, published=True)
    held_out = hold_out_identities(read_market_layout(tiny).train, 0.3, config.seed, "remove")
    folder = Trainer(model, config, held_out).run()
    kept = from_yaml(folder.config.read_text()).backbone
    assert (kept.name, kept.weights, kept.map) == ("onnx", str(run[1]), extractor.map.tensor)
    assert load_model(folder.best, from_yaml(folder.config.read_text()))[0].extractor.sha256 == extractor.sha256
    load_weights(model, folder.best)


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        (["--embedding.kind=trained"], "Expected embedding.kind published with backbone.name onnx"),
        (["--compile=inductor"], "torch cannot compile a network of onnx"),
        (["--backbone.last_stride=1"], "a network of onnx cannot be changed; leave backbone.last_stride"),
        (["--data.height=64"], "give --data.height 48 --data.width 24"),
        (["--backbone.map=middle"], "Expected backbone.map to name a map or tokens of reid.onnx (got 'middle'"),
        (["--backbone.name=resnet18"], "Expected weights of resnet18 (got the onnx file"),
        (
            ["--backbone.name=small_cnn", "--backbone.map=x"],
            "backbone.map is for networks from ONNX or OpenVINO files",
        ),
        (["--backbone.weights=gone.onnx"], "no ONNX file at gone.onnx"),
        (["--backbone.weights=null"], "give its file as --backbone.weights"),
    ],
)
def test_what_does_not_go_together_is_refused_before_anything_is_written(run, tiny, tmp_path, capsys, changed, words):
    assert train([*arguments_of(tiny, run[1]), f"--run_dir={tmp_path / 'run'}", *changed]) == 2
    assert words in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_a_dry_run_has_no_joint_phase(run, tiny, tmp_path):
    assert train([*arguments_of(tiny, run[1]), f"--run_dir={tmp_path / 'run'}", "--dry_run"]) == 0


@torch.no_grad()
def test_features_of_pictures_are_the_networks_own(run, network, tiny):
    paths = sorted((tiny / "query").glob("*.jpg"))[:5]
    features = extract_features(OnnxExtractor(run[1]), paths, size=(48, 24))
    images = evaluation_transform()(torch.stack([to_tensor(read_picture(path), (48, 24)) for path in paths]))
    expected = torch.nn.functional.normalize(network(images), dim=-1)
    torch.testing.assert_close(features.embedding, expected, atol=1e-5, rtol=1e-4)
    clues = network.feature_map(images).flatten(2).mT
    torch.testing.assert_close(features.clues.float(), clues, atol=1e-3, rtol=1e-3)  # half precision


def test_with_the_map_of_an_earlier_layer_too(tiny, network, capsys, tmp_path):
    """Trained, evaluated and exported: clues.onnx takes both maps as the network returns them."""
    weights = write_onnx(network, tmp_path / "reid.onnx")
    graph = OnnxExtractor(weights, size=(48, 24))._runtime.graph((1, 3, 48, 24))
    earlier = [name for step in graph.steps for name in step.outputs if graph.shapes.get(name) == (1, 8, 12, 6)][-1]
    assert train([*arguments_of(tiny, weights), f"--backbone.earlier=['{earlier}']", f"--run_dir={tmp_path}/run"]) == 0
    assert f"(6×3 of 16 channels and 8 of {earlier})" in capsys.readouterr().out
    model, _ = load_model(best(tmp_path / "run"), from_yaml(load_checkpoint(best(tmp_path / "run"))["config"]))
    assert model.extractor.channels == model.pair_stage.builder.projection.in_features == 16 + 8
    output = tmp_path / "metrics.json"
    assert evaluate(["--checkpoint", str(best(tmp_path / "run")), "--output", str(output)]) == 0
    expected = json.loads((tmp_path / "run" / "metrics.json").read_text())["two_stage"]
    assert json.loads(output.read_text())["two_stage"] == expected
    assert export(["--checkpoint", str(best(tmp_path / "run")), "--output", str(tmp_path / "out")]) == 0
    assert f"its tensor {earlier} into map_1" in capsys.readouterr().out
    session = onnxruntime.InferenceSession(tmp_path / "out" / "clues.onnx")
    shapes = {entry.name: entry.shape[1:] for entry in session.get_inputs()}
    assert shapes == {"map": [16, 6, 3], "map_1": [8, 12, 6]}
    program = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)[1]
    paths = sorted((tiny / "query").glob("*.jpg"))[:3]
    given = {
        "folder": tmp_path / "out",
        "network_file": weights,
        "size": (24, 48),
        "json": json,
        "np": np,
        "Path": Path,
    }
    given |= {"Image": Image, "onnxruntime": onnxruntime}
    exec(program, given)
    found = given["embed"](paths)
    images = evaluation_transform()(torch.stack([to_tensor(read_picture(path), (48, 24)) for path in paths]))
    with torch.no_grad():
        embedding, clues = model(images)
        prepared = model.pair_stage.prepare(clues)
    np.testing.assert_allclose(found["projected"], prepared.projected.numpy(), rtol=1e-3, atol=1e-5)
    expected = torch.nn.functional.normalize(embedding, dim=-1)
    np.testing.assert_allclose(found["embedding"], expected.numpy(), rtol=1e-3, atol=1e-5)
