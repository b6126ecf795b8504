"""Every command takes a bundle where it takes a checkpoint, and finds the same."""

import json
import shutil

import pytest
import torch

import cace_pyg.export
from cace_pyg import Gallery, embed_pictures, load_pair_stage
from cace_pyg.calibrate import main as calibrate
from cace_pyg.config import from_yaml
from cace_pyg.embed import main as embed
from cace_pyg.engine.build import build_model
from cace_pyg.engine.checkpoint import calibration_of, load_checkpoint, load_individual_branch, load_weights
from cace_pyg.engine.write_bundle import write_bundle
from cace_pyg.evaluate import main as evaluate
from cace_pyg.search import main as search
from cace_pyg.visualize import main as visualize


@pytest.fixture
def bundle(trained, tmp_path):
    write_bundle(tmp_path / "people", trained.best)
    return tmp_path / "people"


@pytest.fixture
def pictures(tiny):
    return sorted((tiny / "query").glob("*.jpg"))


def test_evaluate_finds_what_the_run_found_where_the_data_is_given(
    bundle, trained, tiny, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    output = tmp_path / "metrics.json"
    assert evaluate(["--checkpoint", str(bundle)]) == 2
    assert "give --data.root and --data.name if the data is elsewhere" in capsys.readouterr().err
    assert evaluate(["--checkpoint", str(bundle), "--data.root", str(tiny), "--output", str(output)]) == 0
    found, expected = (json.loads(path.read_text()) for path in (output, trained.folder / "metrics.json"))
    for row in ("individual", "two_stage", "fusion_weight"):
        assert found[row] == expected[row]


def test_vectors_are_the_checkpoints(bundle, trained, pictures, tmp_path):
    expected = embed_pictures(pictures[:3], trained.best, device="cpu")
    assert torch.equal(embed_pictures(pictures[:3], bundle, device="cpu"), expected)
    arguments = [*map(str, pictures[:3]), "--checkpoint", str(bundle), "-o", str(tmp_path / "vectors.npy")]
    assert embed(arguments) == 0


def test_a_gallery_made_with_either_takes_the_other(bundle, trained, pictures, tmp_path, capsys):
    pytest.importorskip("lancedb")
    gallery = str(tmp_path / "people.lance")
    indexed = ["index", str(pictures[0].parent), "--gallery", gallery, "--checkpoint", str(bundle)]
    assert search(indexed) == 0
    capsys.readouterr()
    for checkpoint in (bundle, trained.best):
        assert search(["query", str(pictures[0]), "--gallery", gallery, "--checkpoint", str(checkpoint), "--json"]) == 0
        told = capsys.readouterr()
        assert json.loads(told.out)[0]["image"] == str(pictures[0]) and "another calibration" not in told.err
    assert calibration_of(load_checkpoint(tmp_path / "people.lance" / "model.ckpt")) is not None
    assert len(Gallery.open(gallery, bundle)) == len(pictures)


def test_pairs_are_drawn_beside_the_bundle_and_nothing_is_put_into_it(bundle, pictures, tmp_path):
    before = sorted(bundle.rglob("*"))
    drawn = ["pair", str(pictures[0]), str(pictures[1]), "--checkpoint", str(bundle), "--format", "png"]
    assert visualize(drawn) == 0
    assert sorted(bundle.rglob("*")) == before and [*(tmp_path / "figures").rglob("*.png")]


def test_it_is_calibrated_into_a_checkpoint_beside_it(bundle, tiny, tmp_path, capsys):
    assert calibrate(["--checkpoint", str(bundle), "--data.root", str(tiny), "--json"]) == 0
    found = calibration_of(load_checkpoint(tmp_path / "people_calibrated.ckpt"))
    assert json.loads(capsys.readouterr().out) == found.summary()
    assert found != calibration_of(load_checkpoint(bundle))
    write_bundle(tmp_path / "calibrated", tmp_path / "people_calibrated.ckpt")
    assert calibration_of(load_checkpoint(tmp_path / "calibrated")) == found
    assert calibrate(["--checkpoint", str(bundle), "--data.root", str(tiny), "--output", str(bundle)]) == 2
    assert "Expected --output FILE in an existing folder" in capsys.readouterr().err


def test_it_is_exported_beside_itself(bundle, tmp_path, monkeypatch):
    """What becomes of a model on its way to ONNX is tested with checkpoints; it comes through load_model."""
    asked = []
    monkeypatch.setattr(cace_pyg.export, "export_onnx", lambda *given: asked.append(given))
    monkeypatch.setattr(cace_pyg.export, "_described", lambda exported: "")
    assert cace_pyg.export.main(["--checkpoint", str(bundle)]) == 0
    (checkpoint, config, folder), expected = asked[0], load_checkpoint(bundle)["config"]
    assert checkpoint == bundle and folder == tmp_path / "onnx" and config.to_yaml() == from_yaml(expected).to_yaml()


def test_a_run_can_start_from_it_and_a_model_of_ones_own_can_take_its_weights(bundle, trained):
    state = load_checkpoint(trained.best)
    config = from_yaml(state["config"])
    for load in (load_individual_branch, load_weights):
        model = build_model(config, state["identities"])
        load(model, bundle)
        assert torch.equal(model.extractor.state_dict()[(first := next(iter(model.extractor.state_dict())))],
                           state["model"][f"extractor.{first}"])  # fmt: skip


def test_its_pair_stage_is_the_checkpoints(bundle, trained):
    ours, theirs = load_pair_stage(bundle), load_pair_stage(trained.best)
    assert ours.fusion_weight == theirs.fusion_weight and ours.calibration == theirs.calibration
    assert all(torch.equal(a, b) for a, b in zip(ours.stage.parameters(), theirs.stage.parameters(), strict=True))


def test_it_goes_on_working_where_it_is_moved(bundle, pictures, tmp_path):
    before = embed_pictures(pictures[:2], bundle, device="cpu")
    moved = shutil.move(bundle, tmp_path / "elsewhere")
    assert torch.equal(embed_pictures(pictures[:2], moved, device="cpu"), before)
