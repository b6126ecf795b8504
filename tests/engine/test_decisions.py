"""From held-out people to a calibration in the checkpoint, and from it to probabilities and decisions."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch

from cace_pyg.calibrate import describe
from cace_pyg.calibrate import main as calibrate
from cace_pyg.config import from_yaml
from cace_pyg.data.market_layout import read_market_layout
from cace_pyg.data.validation import every_identity
from cace_pyg.engine.checkpoint import calibration_of, load_checkpoint, load_model, save_checkpoint
from cace_pyg.engine.decisions import decisions_of, drift_warning
from cace_pyg.engine.distances import Distances, looked_at_pairs
from cace_pyg.engine.evaluation import evaluate_model
from cace_pyg.engine.held_out import validate_pairs
from cace_pyg.evaluate import main as evaluate
from cace_pyg.retrieval import Calibration, evaluate_open_set, expected_calibration_error


@pytest.fixture(scope="module")
def evaluated(trained, tiny):
    """The shared run's model on its test set, with a third of the people unknown."""
    state = load_checkpoint(trained.best)
    config = from_yaml(state["config"], "--evaluation.unknown_share=0.34", "--evaluation.fusion=0.25")
    model, _ = load_model(trained.best, config)
    splits = read_market_layout(tiny)
    calibration = replace(calibration_of(state), weight=0.25)
    return splits, evaluate_model(model, splits.query, splits.gallery, config, None, calibration=calibration)


def test_training_leaves_a_calibration_of_its_held_out_people(trained):
    state = load_checkpoint(trained.best)
    found = calibration_of(state)
    config = from_yaml(state["config"])
    assert found.weight == state["fusion_weight"] and found.people == round(0.3 * 12)
    assert 0 < found.matches < found.pairs <= 4 * found.people * config.evaluation.top_k
    assert (np.diff(found.probability(np.linspace(0, 3, 50))) <= 0).all()


def test_pairs_are_those_that_a_search_looks_at():
    """By hand: query 0 is pid 1 of camera 1; one of its own camera, junk and what is beyond the top k do not count."""
    splits = read_market_layout_of([(1, 1)], [(1, 1), (1, 2), (-1, 2), (2, 1), (0, 2), (1, 3)])
    query, gallery = torch.tensor([[1.0, 0.0]]), torch.nn.functional.normalize(torch.randn(6, 2), dim=1)
    distances = Distances(query, gallery, torch.tensor([[4, 0, 1, 2, 3]]), torch.tensor([[0.4, 0.0, 0.1, 0.2, 0.3]]))
    pairs = looked_at_pairs(distances, *splits, 0.5, "remove")
    individual = (gallery.double() - query.double()).norm(dim=1)
    expected = [0.5 * float(individual[i]) + 0.5 * i / 10 for i in (4, 1, 3)]
    assert pairs.distance.tolist() == pytest.approx(expected, abs=1e-6)
    assert pairs.same.tolist() == [False, True, False] and pairs.query.tolist() == [0, 0, 0]
    assert pairs.gallery == 2  # pictures of others


def read_market_layout_of(query, gallery):
    from pathlib import Path

    from cace_pyg.data.sample import Sample

    return tuple(
        [Sample(Path(f"{name}{i}"), *labels) for i, labels in enumerate(part)]
        for name, part in (("q", query), ("g", gallery))
    )


def test_decisions_of_both_stages_are_those_of_their_distances(evaluated):
    splits, evaluation = evaluated
    decisions = decisions_of(evaluation)
    query, gallery = evaluation.query.samples, evaluation.gallery.samples
    assert (
        len({sample.pid for sample in splits.gallery}) - len({sample.pid for sample in gallery}) == 2
    )  # of six people
    labels = [[getattr(sample, name) for sample in part] for name in ("pid", "camid") for part in (query, gallery)]
    distances = evaluation.distances
    fused = distances.individual().double() + 100
    fused.scatter_(1, distances.index, 0.75 * fused.gather(1, distances.index) - 75 + 0.25 * distances.conditional)
    for name, matrix in (("individual", distances.individual()), ("two_stage", fused)):
        expected = evaluate_open_set(matrix, *labels)
        assert decisions[name].tpr == expected.tpr and decisions[name].dir == expected.dir
        assert (
            decisions[name].unknown
            == expected.unknown
            == sum(sample.pid not in {other.pid for other in gallery} for sample in query)
        )
    pairs = looked_at_pairs(distances, query, gallery, 0.25, "remove")
    probability = evaluation.calibration.probability(pairs.distance, pairs.gallery)
    error = decisions["two_stage"].reliability.error
    assert error.value == pytest.approx(expected_calibration_error(probability, pairs.same)) and error.low <= error.high
    nearest = []
    for position in range(len(query)):
        of_query = (pairs.query == position).nonzero().flatten()
        nearest.append(int(of_query[pairs.distance[of_query].argmin()]))
    expected = expected_calibration_error(probability[nearest], pairs.same[nearest])
    assert decisions["two_stage"].nearest.error.value == pytest.approx(expected)


def test_pairs_that_nobody_looked_at_stand_behind_all_others(evaluated):
    _, evaluation = evaluated
    distances = evaluation.distances
    whole = torch.cat(list(distances.decision_blocks(0.25)))
    looked_at = torch.zeros_like(whole, dtype=torch.bool).scatter_(1, distances.index, True)
    assert whole[looked_at].max() < whole[~looked_at].min()
    torch.testing.assert_close(whole[~looked_at] - whole[~looked_at].min(), (
        distances.individual().double()[~looked_at] - distances.individual().double()[~looked_at].min()
    ))  # fmt: skip


def test_a_calibration_of_another_weight_is_not_used(trained, tiny):
    state = load_checkpoint(trained.best)
    config = from_yaml(state["config"], "--evaluation.fusion=0.123")
    splits = read_market_layout(tiny)
    model, _ = load_model(trained.best, config)
    found = evaluate_model(model, splits.query, splits.gallery, config, None, calibration=calibration_of(state))
    assert found.calibration is None and found.drift is None
    assert decisions_of(found)["two_stage"].reliability is None


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_an_evaluation_leaves_the_model_on_the_device_that_it_came_on(trained, tiny):
    config = from_yaml(load_checkpoint(trained.best)["config"], "--evaluation.fusion=0.3")
    splits = read_market_layout(tiny)
    for home in ("cuda", "cpu"):
        model = load_model(trained.best, config)[0].to(home)
        for device in ("cpu", "cuda"):
            evaluate_model(model, splits.query, splits.gallery, replace(config, device=device))
            assert next(model.parameters()).device.type == home


def test_a_weight_that_the_run_fixes_is_the_one_that_is_calibrated(trained, tiny):
    state = load_checkpoint(trained.best)
    splits = read_market_layout(tiny)
    for fusion, weight in (("0.3", 0.3), ("paper", 1.0)):
        config = from_yaml(state["config"], f"--evaluation.fusion={fusion}")
        model, _ = load_model(trained.best, config)
        assert validate_pairs(model, splits.query, splits.gallery, config, "cpu").calibration.weight == weight


def test_evaluate_tells_of_decisions_and_unknown_people(trained, tmp_path, capsys):
    """With a fusion weight above 0, whatever this run has chosen on its few people."""
    state = load_checkpoint(trained.best)
    del state["format"]
    calibration = replace(calibration_of(state), weight=0.25).as_dict()
    save_checkpoint(tmp_path / "best.ckpt", state | {"fusion_weight": 0.25, "calibration": calibration})
    output = tmp_path / "metrics.json"
    asked = ["--checkpoint", str(tmp_path / "best.ckpt"), "--output", str(output), "--evaluation.unknown_share", "0.3"]
    assert evaluate([*asked, "--k_reciprocal", "--k_reciprocal.k1", "5", "--k_reciprocal.k2", "2"]) == 0
    printed, found = capsys.readouterr().out, json.loads(output.read_text())
    assert found["open_set"].keys() == {"individual", "two_stage", "k_reciprocal", "two_stage_k_reciprocal"}
    for row in found["open_set"].values():
        assert row["unknown"] > 0 and row["tpr_at_fpr"].keys() <= {"0.01", "0.001", "0.0001"}
        for value, low, high in row["tpr_at_fpr"].values():
            assert 0 <= low <= value <= high <= 1
    assert 0 <= found["open_set"]["two_stage"]["expected_calibration_error"][0] <= 1
    assert found["calibration"]["people"] == 4 and 0 <= found["calibration"]["drift"] <= 1
    assert "decisions, percent [95 % over people]" in printed and "TPR at FPR 0.01: " in printed
    assert "probabilities: expected calibration error" in printed and "for each query's nearest" in printed
    assert evaluate([*asked[:2], "--evaluation.unknown_share", "1.0"]) == 2
    assert "unknown_share in [0, 1)" in capsys.readouterr().err


def test_an_old_checkpoint_has_none_says_so_and_gets_one(trained, tiny, tmp_path, capsys):
    state = load_checkpoint(trained.best)
    before = Calibration.from_dict(state.pop("calibration"))
    del state["format"]
    old = tmp_path / "old.ckpt"
    save_checkpoint(old, state)
    assert evaluate(["--checkpoint", str(old)]) == 0
    assert "probabilities: none, because there is no calibration" in capsys.readouterr().out
    assert calibrate(["--checkpoint", str(old), "--split", "validation"]) == 0
    assert "pairs of 4 people" in capsys.readouterr().out
    after = load_checkpoint(tmp_path / "old_calibrated.ckpt")
    assert calibration_of(after).probability([0.5, 1.0]) == pytest.approx(before.probability([0.5, 1.0]), abs=1e-6)
    assert all(torch.equal(value, after["model"][key]) for key, value in state["model"].items())
    assert calibration_of(load_checkpoint(old)) is None

    in_place = [
        "--checkpoint",
        str(old),
        "--output",
        str(old),
        "--data.root",
        str(tiny),
        "--form",
        "isotonic",
        "--json",
    ]
    assert calibrate(in_place) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["form"] == calibration_of(load_checkpoint(old)).form == "isotonic" and told["people"] == 6


def test_all_people_of_another_data_set_can_be_asked(trained, tiny, tmp_path, capsys):
    """One picture a camera of each person is a query; distractors stay in the gallery."""
    other = tmp_path / "other"
    shutil.copytree(tiny, other)
    next((other / "bounding_box_train").glob("*.jpg")).unlink()
    asked = ["--checkpoint", str(trained.best), "--output", str(tmp_path / "all.ckpt"), "--data.root", str(other)]
    assert calibrate([*asked, "--split", "all", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["people"] == 18
    splits = read_market_layout(other)
    everybody = [*splits.train, *splits.query, *splits.gallery]
    found = every_identity(everybody, seed=0)
    assert sorted(sample.path for sample in (*found.query, *found.gallery)) == sorted(
        sample.path for sample in everybody
    )
    assert {sample.pid for sample in found.query} == set(range(1, 19)) and not found.train
    for sample in found.query:
        assert any(other.pid == sample.pid and other.camid != sample.camid for other in found.gallery)


def test_what_cannot_be_calibrated_is_refused_and_nothing_is_written(trained, tiny, tmp_path, capsys):
    asked = ["--checkpoint", str(trained.best), "--output", str(tmp_path / "new.ckpt")]
    for more, words in (
        ([], "Expected --data.root PATH, labelled pictures of your cameras (got none)"),
        (
            ["--split", "all", "--data.root", str(tiny)],
            "people that the model was not trained on (got its own data set",
        ),
        (["--split", "validation", "--data.hold_out", "0"], "held out of the training (got data.hold_out 0)"),
        (["--data.root", str(tmp_path / "nowhere")], "nowhere"),
        (["--data.root", str(tiny), "--output", str(tmp_path / "no" / "new.ckpt")], "in an existing folder"),
    ):
        assert calibrate([*asked, *more]) == 2
        told = capsys.readouterr().err
        assert told.startswith("error: ") and words in told and "Traceback" not in told
    assert not (tmp_path / "new.ckpt").exists()
    assert calibrate([]) == 0 and "--split" in capsys.readouterr().out


def test_a_damaged_calibration_is_refused(trained, tmp_path):
    state = load_checkpoint(trained.best)
    del state["format"]
    for wrong in ("yes", {}, state["calibration"] | {"knots": [[0.0, 1.0], [1.0, 3.0]]}):
        save_checkpoint(tmp_path / "odd.ckpt", state | {"calibration": wrong})
        with pytest.raises(ValueError, match=r"odd.ckpt: Expected a calibration"):
            load_checkpoint(tmp_path / "odd.ckpt")


def test_scores_of_other_cameras_are_warned_of(trained):
    """A hundred people differ less by chance than nine."""
    found = calibration_of(load_checkpoint(trained.best))
    many, few = replace(found, people=100), replace(found, people=9)
    assert (many.drift_limit, few.drift_limit) == (0.1, pytest.approx(0.2))
    assert drift_warning(many, 0.05, "here") == drift_warning(few, 0.15, "here") == ""
    told = drift_warning(many, 0.15, "here")
    assert "python -m cace_pyg.calibrate" in told and "of here are not" in told


def test_a_calibration_that_says_nothing_is_warned_of():
    unknown, scores = tuple((k / 10, 1.0) for k in range(1, 31)), (0.1, 0.9)
    steep = Calibration("logistic", ((0.0, 4.0), (1.0, -4.0)), 0.5, 100, 10, 30, 200.0, 0.01, unknown, scores)
    said = describe(replace(steep, knots=((0.0, -5.5), (1.0, -5.6)), people=5))
    assert "hardly depends on the distance" in said and "5 people are few" in said
    assert "warning" not in describe(steep)
