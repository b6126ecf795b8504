"""One set of pictures as query and gallery: both stages give what a gallery without the query gives."""

from dataclasses import replace

import numpy as np
import pytest

from cace_pyg.config import from_yaml
from cace_pyg.data import Sample, read_market_layout
from cace_pyg.engine.checkpoint import load_checkpoint, load_model
from cace_pyg.engine.distances import own_positions
from cace_pyg.engine.evaluation import evaluate_individual, evaluate_two_stage
from tests.random_checkpoint import make_checkpoint

PICTURES = 12


@pytest.fixture
def model_and_config(tiny, tmp_path):
    checkpoint = make_checkpoint(tmp_path / "checkpoints" / "best.ckpt", tiny)
    config = from_yaml(load_checkpoint(checkpoint)["config"])
    evaluation = replace(config.evaluation, same_camera="keep", top_k=5)
    neighbours = replace(config.neighbours, method="k_reciprocal", candidates=6)
    config = replace(
        config,
        data=replace(config.data, workers=0),
        evaluation=evaluation,
        neighbours=neighbours,
        k_reciprocal=replace(config.k_reciprocal, k1=4, k2=2),
    )
    return load_model(checkpoint, config)[0].eval(), config


@pytest.fixture
def pictures(tiny):
    """Three people with four pictures each, all of one camera."""
    gallery = [sample for sample in read_market_layout(tiny).gallery if sample.pid > 0]
    people = sorted({sample.pid for sample in gallery})[:3]
    chosen = [sample for pid in people for sample in [sample for sample in gallery if sample.pid == pid][:4]]
    assert len(chosen) == PICTURES
    return [Sample(sample.path, sample.pid, 1) for sample in chosen]


@pytest.mark.parametrize("top_k", [5, PICTURES - 1, 100])
def test_each_query_against_the_others(model_and_config, pictures, top_k):
    model, config = model_and_config
    config = replace(config, evaluation=replace(config.evaluation, top_k=top_k))
    found = evaluate_two_stage(model, pictures, pictures, config, 0.5, "cpu")
    assert found.gallery is found.query  # every picture passes the backbone once
    assert "the query itself: left out of the gallery (12 times)" in found.two_stage.policy
    expected = {name: [] for name in ("individual", "two_stage", "k_reciprocal", "two_stage_k_reciprocal")}
    for number, query in enumerate(pictures):
        others = pictures[:number] + pictures[number + 1 :]
        alone = evaluate_two_stage(model, [query], others, config, 0.5, "cpu")
        assert own_positions([query], others) is None and "the query itself" not in alone.two_stage.policy
        for name, metrics in alone.stages().items():
            expected[name].append(metrics.mAP)
    measured = found.stages()
    for name, values in expected.items():
        np.testing.assert_allclose(measured[name].average_precision, values, atol=1e-9, err_msg=name)
    assert evaluate_individual(model, pictures, pictures, config, "cpu").mAP == found.individual.mAP


def test_a_query_takes_no_place_among_its_own_top_k(model_and_config, pictures):
    model, config = model_and_config
    found = evaluate_two_stage(model, pictures, pictures, config, 0.5, "cpu")
    assert found.distances.index.shape == (PICTURES, 5)
    assert not (found.distances.index == np.arange(PICTURES)[:, None]).any()


def test_a_gallery_with_further_pictures(model_and_config, pictures, tiny):
    """Distractors stand in the gallery alone, so that both are not the same list."""
    model, config = model_and_config
    distractors = [sample for sample in read_market_layout(tiny).gallery if sample.pid == 0][:2]
    gallery = [distractors[0], *pictures, distractors[1]]
    assert own_positions(pictures, gallery).tolist() == list(range(1, PICTURES + 1))
    found = evaluate_two_stage(model, pictures, gallery, config, 0.5, "cpu")
    for number, query in enumerate(pictures):
        alone = evaluate_two_stage(model, [query], [p for p in gallery if p != query], config, 0.5, "cpu")
        assert found.two_stage.average_precision[number] == pytest.approx(alone.two_stage.mAP)
