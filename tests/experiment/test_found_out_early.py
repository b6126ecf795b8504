"""What the labels say is found out before anything is trained; and data with one camera, or one test set, is usable."""

import json
import shutil
from pathlib import Path

import pytest

from cace_pyg.data import read_market_layout
from cace_pyg.evaluate import main as evaluate
from cace_pyg.train import main as train


def copied(tiny, root, rename):
    """The data set under other names; ``rename`` gives that of a sample in a part."""
    for part, folder in (("train", "bounding_box_train"), ("query", "query"), ("gallery", "bounding_box_test")):
        (root / folder).mkdir(parents=True)
        for number, sample in enumerate(getattr(read_market_layout(tiny), part)):
            shutil.copy(sample.path, root / folder / rename(part, sample, number))
    return root


def one_camera(part, sample, number):
    return f"{sample.pid:04d}_c1s1_{number:06d}_00.jpg"


def other_people(part, sample, number):
    return f"{sample.pid + 1000 * (part == 'query'):04d}_c{sample.camid}s1_{number:06d}_00.jpg"


@pytest.mark.parametrize(
    ("rename", "words"),
    [
        (one_camera, r"0 whose identity is absent from it, 12 seen only by their own camera"),
        (other_people, r"12 whose identity is absent from it, 0 seen only by their own camera"),
    ],
    ids=["one camera", "other people"],
)
def test_a_gallery_without_a_match_is_refused_before_training(tiny, options, tmp_path, capsys, rename, words, trained):
    root = copied(tiny, tmp_path / "set", rename)
    queries = len(read_market_layout(root).query)
    words = words.replace("12", str(queries))
    for more in ([], ["--dry_run"], ["--data.hold_out=0", "--evaluation.fusion=0.5"]):
        assert train([*options, f"--data.root={root}", *more]) == 2
        said = capsys.readouterr().err
        assert "error: no query has a match in the gallery" in said and words in said and said.count("\n") <= 5
    assert not (tmp_path / "run").exists()
    if rename is one_camera:
        assert "--evaluation.same_camera keep" in said and "leave them out" in said
    assert evaluate(["--checkpoint", str(trained.best), "--data.root", str(root)]) == 2
    said = capsys.readouterr().err
    assert "no query has a match" in said and "extract" not in said


@pytest.mark.parametrize("dry", [True, False])
def test_the_remedy_for_one_camera_works(tiny, options, tmp_path, capsys, dry):
    root = copied(tiny, tmp_path / "set", one_camera)
    keep = [f"--data.root={root}", "--evaluation.same_camera=keep"]
    assert train([*options, *keep, *(["--dry_run"] if dry else [])]) == 0


def test_train_and_test_alone_are_a_whole_run(tiny, options, tmp_path, capsys):
    splits = read_market_layout(tiny)
    lines = ["path,pid,split"]
    lines += [f"{sample.path},{sample.pid},train" for sample in splits.train]
    lines += [f"{sample.path},{sample.pid},test" for sample in (*splits.query, *splits.gallery)]
    (tmp_path / "people.csv").write_text("\n".join(lines) + "\n")
    data = [f"--data.root={tmp_path / 'people.csv'}", "--data.name=manifest"]
    assert train([*options, *data]) == 0
    printed = capsys.readouterr().out
    people = sum(sample.pid > 0 for sample in (*splits.query, *splits.gallery))
    assert f"the query itself: left out of the gallery ({people} times)" in printed
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert 0 < metrics["two_stage"]["mAP"] < 1
    best = str(tmp_path / "run" / "checkpoints" / "best.ckpt")
    again = tmp_path / "again.json"
    more = ["--k_reciprocal", "--single_shot", "--k_reciprocal.k1", "5", "--k_reciprocal.k2", "2"]
    assert evaluate(["--checkpoint", best, "--output", str(again), *more]) == 0
    found = json.loads(Path(again).read_text())
    assert found["two_stage"] == metrics["two_stage"] and 0 < found["k_reciprocal"]["mAP"] < 1
    (tmp_path / "test.csv").write_text("\n".join(line for line in lines if not line.endswith(",train")) + "\n")
    assert evaluate(["--checkpoint", best, f"--data.root={tmp_path / 'test.csv'}", "--output", str(again)]) == 0
    assert json.loads(again.read_text())["two_stage"] == metrics["two_stage"]
    for asked, told in (
        (["--k_reciprocal", "--neighbours.tune=true"], "neighbours.tune"),
        (["--split=validation"], "--split"),
    ):
        assert evaluate(["--checkpoint", best, f"--data.root={tmp_path / 'test.csv'}", *asked]) == 2
        assert f"Expected training pictures with {told}" in capsys.readouterr().err
    assert train([*options, f"--data.root={tmp_path / 'test.csv'}", "--data.name=manifest"]) == 2
    assert "Expected training pictures (got none): query and gallery alone" in capsys.readouterr().err
    assert evaluate(["--checkpoint", best, f"--run_dir={tmp_path / 'other'}"]) == 2
    assert "an evaluation has no run folder" in capsys.readouterr().err
