"""Rows of one table: the same people, the same loop."""

from dataclasses import replace

import pytest
import torch

from benchmarks.opponents.people import split_people
from benchmarks.opponents.rows import TRAINED, TRANSMATCHER_LAYERS, Recipe, build, bytes_a_picture, measure_row, train
from cace_pyg import Features
from cace_pyg.engine.pair_phase import PairPhase
from cace_pyg.engine.ranks import ALONE

GRID, CHANNELS, CAMERAS = (4, 2), 16, 3
QUICK = Recipe(steps=1, anchors=8, confusions=3, width=8, top_k=5)


def people(count=20, held_out=6):
    """Training people from 1 and test people from 101, in three pictures each; every number differs."""
    draw = torch.Generator().manual_seed(1)
    pids = [pid for pid in range(1, count + 1) for _ in range(CAMERAS)]
    test = [100 + pid for pid in pids]
    labels = [(pid, 1 + position % CAMERAS) for position, pid in enumerate(pids)]
    labels += [(pid, 1) for pid in sorted(set(test))] + [(pid, 1 + p % CAMERAS) for p, pid in enumerate(test)]
    own = torch.rand(200, 8, CHANNELS, generator=draw)[[pid for pid, _ in labels]]
    clues = own + 0.5 * torch.rand(len(labels), 8, CHANNELS, generator=draw)
    return split_people(Features(clues.mean(1), clues.half(), GRID), labels, (len(pids), count), held_out)


def test_held_out_people_are_neither_trained_on_nor_tested():
    found = people()
    trained, (query, gallery) = {sample.pid for sample in found.train}, found.held_out
    held_out = {sample.pid for sample in gallery}
    assert len(held_out) == 6 and {sample.pid for sample in query} == held_out
    assert not trained & held_out and trained | held_out == set(range(1, 21))
    assert {sample.pid for part in found.test for sample in part} == set(range(101, 121))


def test_pictures_keep_their_features():
    found = people()
    model, config = build("qaconv", found.features, QUICK, seed=0)
    query, gallery = found.test
    assert [sample.camid for sample in query] == [1] * 20
    *_, distances = measure_row(model.eval(), config, found, "test")
    torch.testing.assert_close(distances.query, found.features.embedding[60:80])
    torch.testing.assert_close(distances.gallery, found.features.embedding[80:])
    assert len(gallery) == 60


@pytest.mark.parametrize("row", TRAINED)
def test_a_step_of_the_loop_trains_a_row_and_moves_every_matrix_of_a_matcher(row):
    found = people()
    model, config = build(row, found.features, QUICK, seed=0)
    before = {name: weight.clone() for name, weight in model.pair_stage.named_parameters()}
    train(model, config, found)
    moved = {name for name, weight in model.pair_stage.named_parameters() if not weight.cpu().equal(before[name])}
    assert moved and all(weight.isfinite().all() for weight in model.pair_stage.parameters())
    if row in (
        "mutual_nearest",
        "qaconv",
        *TRANSMATCHER_LAYERS,
    ):  # a vector may only shift all distances, which has no gradient
        assert moved >= {name for name, weight in before.items() if weight.dim() == 2}
    *_, distances = measure_row(model, config, found, "test")
    assert distances.conditional.shape == (20, 5) and distances.conditional.isfinite().all()


@pytest.mark.parametrize("row", ["mutual_nearest", "qaconv", *TRANSMATCHER_LAYERS])
def test_a_matchers_distance_is_the_smaller_the_higher_its_score(row):
    found = people()
    model, config = build(row, found.features, QUICK, seed=0)
    _, gallery, distances = measure_row(model, config, found, "test")
    kept = gallery.prepared
    keys = kept.projected[distances.index[3]]
    matcher = model.pair_stage.cpu().matcher
    with torch.no_grad():
        of_query = matcher.keys(replace_features(kept, found.features.clues[63:64].float()))
        torch.testing.assert_close(distances.conditional[3], -matcher(of_query, keys))


def replace_features(kept, features):
    return replace(kept.compared, features=features)


def test_every_row_sees_the_same_triplets():
    found, seen = people(), []
    for row in TRAINED:
        model, config = build(row, found.features, replace(QUICK, steps=2), seed=3)
        phase = PairPhase(config, found.train, ALONE)
        phase.start(model, True, torch.device("cpu"))
        seen.append(torch.stack([clues for (clues,) in phase.batches(0)]))
    assert all(batches.equal(seen[0]) for batches in seen)


def test_bytes_are_those_of_what_a_pair_needs():
    found = people()
    sizes = {}
    for row in TRAINED:
        model, config = build(row, found.features, QUICK, seed=0)
        sizes[row] = bytes_a_picture(measure_row(model, config, found, "test")[1].prepared)
    n, width, embedding = 8, QUICK.width, 256
    assert sizes == {
        "graph": 4 * (2 * n * width + embedding),
        "no_graph": 4 * (n * width + embedding),
        "part": 4 * (n * width + embedding),
        "nearest_counterpart": 4 * (n * (CHANNELS + width) + embedding),
        "fully_connected": 4 * (n * width + embedding),
        "smoothing": 4 * (2 * n * width + embedding),
        "aligned_clues": 4 * n * (width + CHANNELS),
        "mutual_nearest": 4 * n * width,
        "qaconv": 4 * n * width,
        "transmatcher_one_layer": 4 * n * width,
        "transmatcher": 2 * 4 * n * width,
    }


def test_steps_that_make_no_epochs_are_refused():
    with pytest.raises(ValueError, match=r"such as 1200 \(got 1201\)"):
        build("graph", people().features, Recipe(steps=1201), seed=0)
