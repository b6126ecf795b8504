"""Which pictures the ranked lists of a report show: those that the protocol leaves in the gallery."""

from dataclasses import replace

import pytest

from cace_pyg.config import from_yaml
from cace_pyg.data import Sample, read_market_layout
from cace_pyg.engine.checkpoint import load_checkpoint, load_model
from cace_pyg.engine.evaluation import evaluate_two_stage
from cace_pyg.explain import run_report
from tests.random_checkpoint import make_checkpoint


@pytest.mark.parametrize(("same_camera", "shown"), [("remove", 4), ("keep", 7)])
def test_the_query_is_never_shown_and_its_camera_only_where_it_is_kept(tiny, tmp_path, monkeypatch, same_camera, shown):
    checkpoint = make_checkpoint(tmp_path / "checkpoints" / "best.ckpt", tiny)
    config = from_yaml(load_checkpoint(checkpoint)["config"])
    evaluation = replace(config.evaluation, same_camera=same_camera)
    config = replace(config, data=replace(config.data, workers=0), evaluation=evaluation)
    gallery = [sample for sample in read_market_layout(tiny).gallery if sample.pid > 0]
    people = sorted({sample.pid for sample in gallery})[:2]
    pictures = [
        Sample(*sample[:2], 1) for pid in people for sample in [sample for sample in gallery if sample.pid == pid][:4]
    ]
    pictures[0] = pictures[0]._replace(camid=2)  # so that the others have a match from another camera
    found = evaluate_two_stage(load_model(checkpoint, config)[0].eval(), pictures, pictures, config, 0.5, "cpu")
    drawn = []
    monkeypatch.setattr(run_report, "ranked_lists", lambda query, rows: drawn.append((query, rows)))
    run_report.query_lists(found, 7)
    ((query, rows),) = drawn
    for row in rows.values():
        assert len(row) == shown and query not in [path.path for path in row]


def test_the_last_row_is_that_of_the_neighbours(tiny, tmp_path, monkeypatch):
    options = {"data.workers": 0, "neighbours.method": "k_reciprocal", "k_reciprocal.k1": 5, "k_reciprocal.k2": 2}
    checkpoint = make_checkpoint(tmp_path / "checkpoints" / "best.ckpt", tiny, **options)
    config, splits = from_yaml(load_checkpoint(checkpoint)["config"]), read_market_layout(tiny)
    model = load_model(checkpoint, config)[0].eval()
    found = evaluate_two_stage(model, splits.query, splits.gallery, config, 0.5, "cpu")
    drawn = []
    monkeypatch.setattr(run_report, "ranked_lists", lambda query, rows: drawn.append(rows))
    run_report.query_lists(found, 3)
    assert list(drawn[0]) == ["individual", "two_stage", "two_stage_k_reciprocal"]
    shown = drawn[0]["two_stage_k_reciprocal"]
    ranked = found.neighbours[-1].ranking.whole()[3]
    assert [ranked_image.distance for ranked_image in shown] == pytest.approx(
        sorted(ranked_image.distance for ranked_image in shown)
    )
    paths = [sample.path for sample in splits.gallery]
    assert [ranked_image.distance for ranked_image in shown] == pytest.approx(
        [float(ranked[paths.index(ranked_image.path)]) for ranked_image in shown], abs=1e-6
    )
    said = run_report._neighbours(found)
    how = "k-reciprocal: k1 5, k2 2, original weight 0.3"
    listed = len(splits.query) + len(splits.gallery) - 1
    both = f"neighbours: k1 5, k2 2, original weight 0.3, by both stages among the {listed} nearest, fusion weight 0.5"
    assert said == [f"k_reciprocal: {how}.", f"two_stage_k_reciprocal: {how}; {both}."]
