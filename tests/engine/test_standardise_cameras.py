"""evaluation.standardise_cameras: rankings and training by features with equal statistics in every camera."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from cace_pyg import CameraStatistics, evaluate_ranking
from cace_pyg.calibrate import main as calibrate
from cace_pyg.config import from_yaml
from cace_pyg.data import read_market_layout
from cace_pyg.data.sample import track_labels
from cace_pyg.engine.checkpoint import load_checkpoint, load_model
from cace_pyg.engine.distances import measure
from cace_pyg.engine.evaluation import evaluate_individual, evaluate_two_stage
from cace_pyg.engine.extraction import camera_statistics, extract_clues
from cace_pyg.engine.pair_phase import PairPhase
from cace_pyg.engine.ranks import ALONE
from cace_pyg.evaluate import main as evaluate
from cace_pyg.export import main as export
from cace_pyg.retrieval import euclidean_distance
from cace_pyg.train import main as train
from cace_pyg.visualize import main as visualize
from tests.random_checkpoint import make_checkpoint


@pytest.fixture
def splits(tiny):
    return read_market_layout(tiny)


def checkpoint_of(tiny, folder, standardised):
    return make_checkpoint(folder / "best.ckpt", tiny, **{"evaluation.standardise_cameras": standardised})


@pytest.fixture
def standardised(tiny, tmp_path):
    return checkpoint_of(tiny, tmp_path / "standardised", True)


@pytest.fixture
def plain(tiny, tmp_path):
    return checkpoint_of(tiny, tmp_path / "plain", False)


@pytest.fixture
def model_and_config(standardised):
    config = from_yaml(load_checkpoint(standardised)["config"])
    config = replace(config, data=replace(config.data, workers=0))
    return load_model(standardised, config)[0].eval(), config


def plainly(config):
    return replace(config, evaluation=replace(config.evaluation, standardise_cameras=False))


def by_hand(model, config, gallery, *sides):
    """Embeddings and clues of each side, standardised by the gallery's statistics."""
    found = [extract_clues(model, side, plainly(config), "cpu") for side in (gallery, *sides)]
    (embedding, clues), *others = found
    cameras = [[sample.camid for sample in side] for side in sides]
    statistics = CameraStatistics([(embedding, clues.features)], [sample.camid for sample in gallery])
    return [
        (statistics.embeddings(embedding, own), replace(clues, features=statistics.clues(clues.features, own)))
        for (embedding, clues), own in zip(others, cameras, strict=True)
    ]


def test_both_stages_see_standardised_features(model_and_config, splits):
    model, config = model_and_config
    (query, asked), (gallery, clues) = by_hand(model, config, splits.gallery, splits.query, splits.gallery)
    labels = [
        [getattr(sample, name) for sample in part]
        for name in ("pid", "camid")
        for part in (splits.query, splits.gallery)
    ]
    expected = evaluate_ranking(euclidean_distance(query, gallery), *labels)
    config = replace(
        config,
        neighbours=replace(config.neighbours, method="k_reciprocal", candidates=6),
        k_reciprocal=replace(config.k_reciprocal, k1=4, k2=2),
    )
    found = evaluate_two_stage(model, splits.query, splits.gallery, config, 0.5, "cpu")
    np.testing.assert_allclose(found.individual.average_precision, expected.average_precision)
    assert evaluate_individual(model, splits.query, splits.gallery, config, "cpu").mAP == found.individual.mAP
    distances = measure(model, splits.query, splits.gallery, config, "cpu")[2]
    torch.testing.assert_close(distances.query, query)
    torch.testing.assert_close(distances.gallery, gallery)
    prepared = [model.pair_stage.prepare(side) for side in (asked, clues)]
    near = distances.index[3]
    with torch.no_grad():
        pairs = model.pair_stage.distance(prepared[0].select(torch.tensor([3])), prepared[1].select(near))
    torch.testing.assert_close(distances.conditional[3], pairs, atol=1e-5, rtol=1e-4)
    assert all("standardised by the gallery's" in metrics.policy for metrics in found.stages().values())
    other = evaluate_two_stage(model, splits.query, splits.gallery, plainly(config), 0.5, "cpu")
    assert not any("standardised" in metrics.policy for metrics in other.stages().values())
    assert not np.array_equal(other.individual.average_precision, expected.average_precision)


def test_five_hundred_pictures_of_each_camera_are_enough(model_and_config, splits, monkeypatch):
    """At most as many, evenly spread over the list."""
    model, config = model_and_config
    monkeypatch.setattr("cace_pyg.retrieval.camera_statistics._OF_A_CAMERA", 5)
    seen = []
    monkeypatch.setattr(
        "cace_pyg.engine.extraction.CameraStatistics", lambda batches, cameras: seen.append((list(batches), cameras))
    )
    camera_statistics(model, splits.gallery, config, "cpu")
    ((batches, cameras),) = seen
    kept = [
        list(range(len(own)))[:: -(-len(own) // 5)]
        for camera in dict.fromkeys(sample.camid for sample in splits.gallery)
        for own in [[sample for sample in splits.gallery if sample.camid == camera]]
    ]
    assert all(len(some) <= 5 for some in kept) and len(cameras) == sum(map(len, kept))
    assert sum(len(embedding) for embedding, _ in batches) == len(cameras)
    assert camera_statistics(model, splits.gallery, plainly(config), "cpu") is None


def test_the_pair_phase_trains_on_standardised_features(model_and_config, splits, monkeypatch):
    model, config = model_and_config
    config = replace(config, pair_phase=replace(config.pair_phase, clues="cached", anchors=4))
    seen = []
    monkeypatch.setattr(
        "cace_pyg.engine.pair_phase.confusion_negatives", lambda embedding, *_: seen.append(embedding) or {}
    )
    monkeypatch.setattr("cace_pyg.engine.pair_phase.ConfusionTripletSampler", lambda *_: None)
    phase = PairPhase(config, splits.train, ALONE)
    phase.start(model, True, torch.device("cpu"))
    ((embedding, clues),) = by_hand(model, config, splits.train, splits.train)
    torch.testing.assert_close(seen[0], embedding)
    torch.testing.assert_close(phase.clues.features, clues.features)


def test_tracks_are_of_standardised_pictures(model_and_config, splits):
    model, config = model_and_config
    gallery = [sample._replace(track=f"{sample.pid}") for sample in splits.gallery if sample.pid > 0]
    alone = [sample._replace(track="") for sample in gallery]
    extracted = measure(model, splits.query, gallery, config, "cpu")[1]
    ((embedding, _),) = by_hand(model, config, alone, alone)
    members = [at for at, sample in enumerate(gallery) if track_labels([sample]) == track_labels([gallery[0]])]
    expected = torch.nn.functional.normalize(embedding[members].mean(0), dim=0)
    torch.testing.assert_close(extracted.embedding[0], expected)


@pytest.mark.parametrize("trained", [True, False])
def test_only_as_in_the_training(trained, request, capsys, tiny):
    checkpoint = request.getfixturevalue("standardised" if trained else "plain")
    other = f"--evaluation.standardise_cameras={str(not trained).lower()}"
    for command in (evaluate, calibrate):
        assert command(["--checkpoint", str(checkpoint), f"--data.root={tiny}", other]) == 2
        assert f"Expected evaluation.standardise_cameras {str(trained).lower()}" in capsys.readouterr().err


def test_what_looks_at_single_pictures_refuses_such_a_model(standardised, splits, tmp_path, capsys):
    pair = [str(sample.path) for sample in splits.query[:2]]
    for command in ("pair", "conditional_maps", "correspondences"):
        assert visualize([command, *pair, "--checkpoint", str(standardised), f"--output={tmp_path / command}"]) == 2
        assert "Expected a gallery of at least 5 pictures" in capsys.readouterr().err
    assert export(["--checkpoint", str(standardised), f"--output={tmp_path / 'onnx'}"]) == 2
    assert "individual.onnx sees a single picture" in capsys.readouterr().err


@pytest.mark.parametrize("wrong", ["--pair_phase.clues=fresh", "--loss.pairwise_weight=1"])
def test_what_cannot_be_trained_so(wrong, tiny, tmp_path, capsys):
    options = [f"--data.root={tiny}", "--backbone.name=small_cnn", "--evaluation.standardise_cameras=true", wrong]
    assert train([*options, f"--run_dir={tmp_path / 'run'}", "--data.hold_out=0.3"]) == 2
    assert "Expected pair_phase.clues cached and loss.pairwise_weight 0" in capsys.readouterr().err
