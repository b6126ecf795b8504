"""A published network whose earlier maps are clues too, through the commands: trained, evaluated, searched with."""

import json

import pytest
import torch

from cace_pyg.config import from_yaml
from cace_pyg.data.market_layout import read_market_layout
from cace_pyg.engine.checkpoint import load_checkpoint, load_model
from cace_pyg.evaluate import main as evaluate
from cace_pyg.gallery import Gallery
from cace_pyg.models import Backbone
from cace_pyg.train import main as train


@pytest.fixture
def trained(tiny, tmp_path, monkeypatch):
    monkeypatch.setattr("cace_pyg.experiment.run.report_run", lambda *_: None)
    torch.manual_seed(0)
    torch.save(Backbone("osnet_x0_25").trunk.state_dict(), tmp_path / "osnet.pth")
    arguments = [
        f"--data.root={tiny}", "--data.height=64", "--data.width=32", "--data.hold_out=0.3", "--data.workers=0",
        "--backbone.name=osnet_x0_25", f"--backbone.weights={tmp_path / 'osnet.pth'}", "--backbone.earlier=[conv3]",
        "--embedding.kind=published", "--embedding.channels=16", "--joint_phase.epochs=0", "--pair_phase.epochs=1",
        "--pair_phase.batches_per_epoch=2", "--pair_phase.anchors=8", "--pair_phase.confusions=3",
        "--conditional.width=8", "--evaluation.top_k=10", "--evaluation.fusion=0.5", "--threads=1", "--device=cpu",
        f"--run_dir={tmp_path / 'run'}",
    ]  # fmt: skip
    assert train(arguments) == 0
    return tmp_path / "run"


def test_the_checkpoint_has_its_clues_and_every_command_takes_it(trained, splits_of_tiny, tmp_path):
    best = trained / "checkpoints" / "best.ckpt"
    config = from_yaml(load_checkpoint(best)["config"])
    model, _ = load_model(best, config)
    assert config.backbone.earlier == ["conv3"] and model.extractor.channels == 128 + 96
    assert model(torch.rand(1, 3, 64, 32)).clues.features.shape == (1, 8, 128 + 96)
    assert evaluate(["--checkpoint", str(best), "--output", str(tmp_path / "metrics.json")]) == 0
    expected = json.loads((trained / "metrics.json").read_text())["two_stage"]
    assert json.loads((tmp_path / "metrics.json").read_text())["two_stage"] == expected
    gallery = Gallery.create(tmp_path / "people.lance", best, device="cpu")
    gallery.add([sample.path for sample in splits_of_tiny.gallery])
    hits = gallery.search(splits_of_tiny.query[0].path)
    assert len(hits) == 10 and all(hit.conditional is not None for hit in hits)


@pytest.fixture
def splits_of_tiny(tiny):
    return read_market_layout(tiny)


@pytest.mark.parametrize("layers", ["[conv2, conv1, maxpool]", "null"])
def test_a_checkpoint_is_not_used_with_other_layers_even_if_its_weights_fit(trained, layers, capsys):
    """conv2, conv1 and maxpool have 96 channels together, as conv3 has."""
    best = trained / "checkpoints" / "best.ckpt"
    assert evaluate(["--checkpoint", str(best), f"--backbone.earlier={layers}"]) == 2
    told = capsys.readouterr().err
    assert "Expected backbone.earlier [conv3], with which " in told and f"(got {layers})" in told
