"""Probabilities of search results, and people whom nobody knows."""

import json
import re
import shutil
from dataclasses import replace

import numpy as np
import pytest
from starlette.testclient import TestClient

from cace_pyg import Gallery
from cace_pyg.calibrate import main as calibrate_command
from cace_pyg.engine.checkpoint import load_checkpoint, save_checkpoint
from cace_pyg.gallery import drift
from cace_pyg.gallery.page import gallery_page
from cace_pyg.retrieval import Calibration
from cace_pyg.search import main as search

CALIBRATION = Calibration(
    form="logistic",
    knots=((0.0, 8.0), (1.0, -2.0)),
    weight=0.5,
    pairs=1000,
    matches=100,
    people=99,
    gallery=10.0,
    error=0.01,
    unknown=tuple((0.2 + k / 100, 1.0) for k in range(99)),
    scores=tuple(np.linspace(0.0, 3.0, 101).tolist()),
)


@pytest.fixture(autouse=True)
def few_pictures(monkeypatch):
    """The tiny gallery has 28, too few for a drift."""
    monkeypatch.setattr(drift, "_FEWEST", 20)


def calibrate(checkpoint, path, calibration):
    state = load_checkpoint(checkpoint)
    del state["format"]
    save_checkpoint(path, state | {"calibration": calibration.as_dict()})
    return path


@pytest.fixture(scope="module")
def path(checkpoint, splits, tmp_path_factory):
    """A gallery with a calibrated model; not to be changed."""
    folder = tmp_path_factory.mktemp("calibrated")
    best = calibrate(checkpoint, folder / "best.ckpt", CALIBRATION)
    made = Gallery.create(folder / "people.lance", best)
    made.add([sample.path for sample in splits.gallery], [f"c{sample.camid}" for sample in splits.gallery])
    return folder / "people.lance"


@pytest.fixture(scope="module")
def gallery(path):
    return Gallery.open(path)


def test_every_hit_that_was_looked_at_has_the_probability_of_its_distance(gallery, splits):
    found = gallery.search(splits.query[0].path, top_k=14)
    looked_at = [hit for hit in found if hit.conditional is not None]
    assert len(looked_at) == 10  # evaluation.top_k of the model
    for hit in looked_at:
        assert hit.probability == pytest.approx(float(CALIBRATION.probability(hit.distance, len(gallery))))
    assert all(hit.probability is None for hit in found if hit.conditional is None)
    rated = [hit.probability for hit in looked_at]
    assert rated == sorted(rated, reverse=True) and rated[0] > rated[-1]
    assert all(hit.probability is None for hit in gallery.search(splits.query[0].path, first_stage=0))


def test_a_filter_makes_the_gallery_smaller(gallery, splits):
    hit = gallery.search(splits.query[0].path, where="camera = 'c2'")[0]
    left = sum(sample.camid == 2 for sample in splits.gallery)
    assert left < len(gallery)
    assert hit.probability == pytest.approx(float(CALIBRATION.probability(hit.distance, max(left, 10))))


def test_a_person_is_known_below_the_threshold_and_unknown_above(gallery, splits):
    for rate in (0.05, 0.5, 0.97):
        found = gallery.search(splits.query[0].path, false_alarms=rate)
        assert found.threshold == CALIBRATION.threshold(rate, len(gallery))
        assert found.is_known == (found[0].distance < found.threshold)
    assert gallery.search(splits.query[0].path).is_known is None
    assert gallery.search(splits.query[0].path, where="camera = 'nowhere'", false_alarms=0.1).is_known is False
    several = gallery.search([splits.query[0].path, splits.query[1].path], false_alarms=0.1)
    assert [result.threshold for result in several] == [CALIBRATION.threshold(0.1, len(gallery))] * 2


def test_rates_and_galleries_that_cannot_answer_are_refused(gallery, shown_gallery, splits):
    query = splits.query[0].path
    with pytest.raises(
        ValueError,
        match=r"of at least 0\.028 .*rests on 99 people, and this gallery is 2\.8 times.*python -m cace_pyg.calibrate",
    ):
        gallery.search(query, false_alarms=1e-4)
    with pytest.raises(ValueError, match="first_stage of at least 1"):
        gallery.search(query, first_stage=0, false_alarms=0.1)
    with pytest.raises(ValueError, match=r"has no calibration.*cace_pyg.calibrate --checkpoint .*model.ckpt --output"):
        shown_gallery.search(query, false_alarms=0.1)
    assert all(hit.probability is None for hit in shown_gallery.search(query))


def test_another_fusion_weight_has_no_probabilities(path, splits):
    other = Gallery.open(path, overrides=["--evaluation.fusion=0.4"])
    assert other.calibration is None and other.search(splits.query[0].path)[0].probability is None


@pytest.fixture
def strict(path, tmp_path):
    """The same gallery, in which everybody is unknown: strangers came nearer than anything here."""
    copied = tmp_path / "strict.lance"
    shutil.copytree(path, copied)
    near = replace(CALIBRATION, unknown=tuple((-9.0 + k / 100, 1.0) for k in range(99)))
    calibrate(copied / "model.ckpt", copied / "model.ckpt", near)
    return copied


def test_the_command_says_it_in_words_and_by_its_exit_status(path, strict, splits, capsys):
    query = ["query", str(splits.query[0].path), "--gallery"]
    assert search([*query, str(path)]) == 0
    head, first = capsys.readouterr().out.splitlines()[:2]
    assert head.split()[:4] == ["rank", "was", "probability", "distance"] and first.split()[2].endswith("%")
    assert search([*query, str(path), "--false_alarms", "0.97"]) == 0
    assert "known: the nearest is at " in capsys.readouterr().out
    assert search([*query, str(strict), "--false_alarms", "0.1"]) == 3
    assert "nobody we know: the nearest is at " in capsys.readouterr().out
    assert search([*query, str(strict), "--false_alarms", "0.1", "--json"]) == 3
    told = json.loads(capsys.readouterr().out)
    assert told["known"] is False and told["false_alarms"] == 0.1 and told["threshold"] < 0
    assert 0 < told["hits"][0]["probability"] < 1
    assert search([*query, str(path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)[0]["probability"] > 0
    assert search([*query, str(path), "--false_alarms", "0.97"]) == 0
    assert "at most 97 % of the people who are not in the gallery come below " in capsys.readouterr().out
    assert search([*query, str(path), "--false_alarms", "0.97", "--where", "camera = 'none'"]) == 2
    assert "(got none: nothing passes --where camera = 'none')" in capsys.readouterr().err
    assert search([*query, str(path), "--false_alarms", "1e-6"]) == 2
    assert "Expected a rate of false alarms of at least" in capsys.readouterr().err
    assert search(["stats", "--gallery", str(path)]) == 0
    assert "probabilities: learned from 1,000 pairs of 99 people" in capsys.readouterr().out


def test_scores_of_other_cameras_are_warned_of_and_ones_own_are_not(path, gallery, splits, tmp_path, capsys):
    assert gallery.drift() > CALIBRATION.drift_limit
    query = ["query", str(splits.query[0].path), "--gallery"]
    assert search([*query, str(path)]) == 0
    assert f"the scores of the gallery {path} are not those" in capsys.readouterr().err
    copied = tmp_path / "own.lance"
    shutil.copytree(path, copied)
    own = np.quantile(scores_of(gallery, splits), np.linspace(0, 1, 101))
    calibrate(copied / "model.ckpt", copied / "model.ckpt", replace(CALIBRATION, scores=tuple(own.tolist())))
    assert Gallery.open(copied).drift() < CALIBRATION.drift_limit
    assert search([*query, str(copied)]) == 0 and "warning" not in capsys.readouterr().err


def scores_of(gallery, splits):
    """Fused distances of every pair of forty pictures, by searching for each among all."""
    whole = [gallery.search(sample.path, top_k=200, first_stage=200) for sample in splits.gallery[:40]]
    return [hit.distance for found in whole for hit in found if hit.individual > 0.01]


def test_without_a_calibration_or_with_few_pictures_there_is_no_drift(
    shown_gallery, path, splits, tmp_path, monkeypatch
):
    assert shown_gallery.drift() is None
    few = Gallery.create(tmp_path / "few.lance", path / "model.ckpt")
    few.add([sample.path for sample in splits.gallery[:5]])
    assert few.drift() is None and few.calibration == CALIBRATION
    monkeypatch.setattr(drift, "_FEWEST", 5)
    assert few.drift() is not None


def test_the_page_is_told(gallery, splits):
    client = TestClient(gallery_page(gallery, ["testserver"]))
    stats = client.get("/stats").json()
    assert stats["calibration"]["people"] == 99 and stats["warning"].startswith("warning: the scores of this gallery")
    hits = client.post("/search", content=splits.query[0].path.read_bytes()).json()["hits"]
    found = gallery.search(splits.query[0].path)
    assert [hit["probability"] for hit in hits] == pytest.approx([hit.probability for hit in found])


def test_the_smallest_rate_that_stats_names_is_answered(path, splits, capsys):
    assert search(["stats", "--gallery", str(path)]) == 0
    smallest = re.search(r"false alarms from ([\d.]+) upwards, in this gallery", capsys.readouterr().out)[1]
    assert search(["query", str(splits.query[0].path), "--gallery", str(path), "--false_alarms", smallest]) in (0, 3)
    less = str(float(smallest) * 0.9)
    assert search(["query", str(splits.query[0].path), "--gallery", str(path), "--false_alarms", less]) == 2
    assert f"of at least {smallest}" in capsys.readouterr().err


def test_another_calibration_than_the_gallerys_is_told(path, tmp_path, splits, capsys):
    other = tmp_path / "other.ckpt"
    calibrate(path / "model.ckpt", other, replace(CALIBRATION, people=240))
    query = ["query", str(splits.query[0].path), "--gallery", str(path), "--checkpoint"]
    assert search([*query, str(other)]) == 0
    assert f"{other} has another calibration than the gallery {path}, which uses its own" in capsys.readouterr().err
    assert search([*query, str(path / "model.ckpt")]) == 0
    assert "another calibration" not in capsys.readouterr().err


def test_a_gallery_in_place_of_a_checkpoint_is_told_where_its_model_is(path, capsys):
    assert calibrate_command(["--checkpoint", str(path), "--data.root", "anywhere", "--output", "x.ckpt"]) == 2
    assert f"the checkpoint of a gallery is {path / 'model.ckpt'}" in capsys.readouterr().err
