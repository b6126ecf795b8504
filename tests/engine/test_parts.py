"""Training and evaluating with a graph of body parts."""

import json
import shutil

import pytest

from cace_pyg.evaluate import main as evaluate
from cace_pyg.train import main as train
from cace_pyg.visualize import main as visualize


@pytest.mark.parametrize("extra", [[], ["--pair_phase.clues=fresh"], ["--loss.pairwise_weight=0.5"]])
def test_a_graph_of_body_parts_trains_evaluates_and_shows_itself(options, extra, tiny, tmp_path, capsys):
    assert train([*options, "--graph=Semantic", *extra]) == 0
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    best = str(tmp_path / "run" / "checkpoints" / "best.ckpt")
    assert evaluate(["--checkpoint", best, "--output", str(tmp_path / "again.json")]) == 0
    assert json.loads((tmp_path / "again.json").read_text())["two_stage"] == metrics["two_stage"]
    pictures = sorted((tiny / "query").glob("*.jpg"))[:2]
    assert visualize(["--checkpoint", best, "--pair", *map(str, pictures)]) == 0
    assert "density" in capsys.readouterr().out


def test_without_label_maps_nothing_is_trained(options, tiny, tmp_path, capsys):
    bare = shutil.copytree(tiny, tmp_path / "bare", ignore=shutil.ignore_patterns("parts"))
    assert train([*options, "--graph=Semantic", f"--data.root={bare}"]) == 2
    error = capsys.readouterr().err
    assert "no label map at" in error and "pictures have none" in error
    assert not (tmp_path / "run" / "checkpoints" / "last.ckpt").exists()
    assert train([*options, f"--data.root={bare}", "--train.epochs=1", "--pair_phase.epochs=0"]) == 0
