"""docs/cameras.md: its program and its commands run."""

import re
import shlex
from pathlib import Path

import torch

from cace_pyg import PublishedEmbedding, evaluate_ranking
from cace_pyg.config import PairPhaseSettings
from cace_pyg.data import read_market_layout
from cace_pyg.engine import on_features
from cace_pyg.evaluate import main as evaluate
from cace_pyg.models import Backbone
from cace_pyg.models.osnet import osnet_layers
from cace_pyg.train import main as train

PAGE = (Path(__file__).parents[1] / "docs" / "cameras.md").read_text()


def test_its_program_runs(tiny, monkeypatch):
    short = PairPhaseSettings(epochs=1, batches_per_epoch=2, anchors=8, confusions=3)
    monkeypatch.setattr(on_features, "PairPhaseSettings", lambda **_: short)
    splits = read_market_layout(tiny)
    names = {"network": PublishedEmbedding(Backbone("osnet_x0_25"))}
    for part in ("train", "query", "gallery"):
        samples = getattr(splits, part)
        names |= {f"{part}_paths": [sample.path for sample in samples]}
        names |= {f"{part}_cameras": [f"camera {sample.camid}" for sample in samples]}
        names |= {f"{part}_people": [sample.pid for sample in samples]}
    (block,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    block = block.replace("extract_features(network, paths)", "extract_features(network, paths, (64, 32))")
    exec(block.replace("train_cameras)\ndistance", "train_cameras, held_out=0.3)\ndistance"), names)
    pids, camids = (
        [[getattr(sample, name) for sample in part] for part in (splits.query, splits.gallery)]
        for name in ("pid", "camid")
    )
    assert 0 < evaluate_ranking(names["distance"], *pids, *camids).mAP < 1


def test_its_commands_run(tiny, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("cace_pyg.experiment.run.report_run", lambda *_: None)
    torch.save(osnet_layers("osnet_x0_25").state_dict(), tmp_path / "osnet.pth")
    text = re.search(r"```\n(python -m cace_pyg.train.*?)```", PAGE, re.DOTALL)[1].replace("\\\n", "")
    first, second = (shlex.split(line)[3:] for line in text.strip().splitlines())
    moved = {"PATH": str(tiny), "OTHER_CAMERAS": str(tiny), "osnet_x0_25_msmt17.pth": str(tmp_path / "osnet.pth")}
    moved |= {"runs/standardised": str(tmp_path / "run")}
    moved |= {"runs/standardised/checkpoints/best.ckpt": str(tmp_path / "run" / "checkpoints" / "best.ckpt")}
    small = [
        "--data.height=64", "--data.width=32", "--data.hold_out=0.3", "--data.workers=0", "--pair_phase.epochs=1",
        "--pair_phase.batches_per_epoch=2", "--pair_phase.anchors=8", "--threads=1", "--device=cpu",
    ]  # fmt: skip
    assert train([*(moved.get(word, word) for word in first), *small]) == 0
    assert evaluate([moved.get(word, word) for word in second]) == 0
    assert "features: standardised by the gallery's pictures of each camera" in capsys.readouterr().out
