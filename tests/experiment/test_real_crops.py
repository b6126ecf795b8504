"""Real pedestrians and ImageNet weights, where a developer's machine has them."""

import json
from pathlib import Path

import pytest

from cace_pyg.train import main as train

SHARED = Path(__file__).parents[3] / "shared"
CROPS = SHARED / "data" / "pku_reid_subset"
WEIGHTS = SHARED / "weights" / "mobilenet_v2_imagenet.pth"
CONFIG = Path(__file__).parents[2] / "configs" / "small_real.yaml"


@pytest.mark.report
@pytest.mark.skipif(not (CROPS.is_dir() and WEIGHTS.is_file()), reason="real crops are on developers' machines only")
def test_fine_tuning_from_imagenet_runs_to_the_end(report, tmp_path):
    short = [
        "--joint_phase.epochs=1",
        "--joint_phase.batches_per_epoch=4",
        "--joint_phase.warmup_epochs=0",
        "--pair_phase.epochs=1",
    ]
    size = ["--data.height=96", "--data.width=48", "--pair_phase.batches_per_epoch=3", "--threads=1"]
    place = [f"--data.root={CROPS}", f"--backbone.weights={WEIGHTS}", f"--run_dir={tmp_path / 'run'}"]
    assert train([f"--config={CONFIG}", *place, *short, *size]) == 0
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert "96 counted" in metrics["policy"] and 0 < metrics["two_stage"]["mAP"] < 1
    assert (tmp_path / "run" / "report.html").stat().st_size > 10_000
