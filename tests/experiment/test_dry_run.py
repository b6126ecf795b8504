"""``--dry_run``: every configuration of a public data set builds and takes one step, and nothing is left behind."""

from pathlib import Path

import pytest

from cace_pyg.data import Sample, Splits
from cace_pyg.experiment.dry_run import excerpt
from cace_pyg.train import main

CONFIGS = Path(__file__).parents[2] / "configs"
SMALL = ("--backbone.name", "small_cnn", "--backbone.weights", "null", "--data.height", "64", "--data.width", "32")


@pytest.mark.parametrize(
    "name", [pytest.param("market1501", marks=pytest.mark.report), "dukemtmc", "occluded_duke", "msmt17"]
)
def test_the_configurations_of_the_public_data_sets(public_tree, report, name, tmp_path, capsys):
    root = ("--data.root", str(public_tree(name)), "--data.workers", "0", "--run_dir", str(tmp_path / "run"))
    assert main(["--config", str(CONFIGS / f"{name}.yaml"), *SMALL, *root, "--dry_run"]) == 0
    assert "dry run: data set, training step" in capsys.readouterr().out
    assert not (tmp_path / "run").exists()


def test_with_a_pair_phase_and_more_training_sets(public_tree, report, tmp_path, capsys):
    root, more = public_tree("market1501"), public_tree("dukemtmc")
    arguments = ["--config", str(CONFIGS / "market1501.yaml"), *SMALL, "--data.root", str(root), "--data.workers", "0"]
    arguments += ["--pair_phase.epochs", "3", "--run_dir", str(tmp_path / "run"), "--dry_run"]
    assert main([*arguments, f"--data.extra_train=['dukemtmc:{more}']"]) == 0
    assert main([*arguments, "--data.extra_train=['duke']"]) == 2
    assert "data.extra_train as NAME:ROOT" in capsys.readouterr().err
    assert main([*arguments, "--data.name", "msmt17"]) == 2
    assert "no MSMT17 at" in capsys.readouterr().err


def test_an_excerpt_keeps_matches_from_other_cameras(tmp_path):
    def samples(part, count, pids, cams):
        return tuple(Sample(tmp_path / f"{part}{i}", pids[i % len(pids)], cams[i % len(cams)]) for i in range(count))

    gallery = samples("g", 60, [1, 2, 3], [1, 2]) + samples("s", 20, [7, 0], [1])
    splits = Splits(samples("t", 40, [4, 5, 6], [1, 2]), samples("q", 9, [9, 1, 2, 3], [1]), gallery)
    few = excerpt(splits, 2)
    assert [sample.pid for sample in few.query] == [1, 2]
    assert all(any(g.pid == q.pid and g.camid != q.camid for g in few.gallery) for q in few.query)
    assert {sample.pid for sample in few.train} == {4, 5} and len(few.train) == 16
    assert len(few.gallery) == 8 * 2 + 8
