"""Verification and open-set identification, against the definitions written out."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cace_pyg.retrieval import evaluate_open_set, evaluate_open_set_blocks
from cace_pyg.retrieval import open_set as module
from cace_pyg.retrieval.open_set import FAR, FPR


def literal(distance, query_pids, gallery_pids, query_camids, gallery_camids):
    """Pairs one by one, thresholds tried one by one; queries of pid 0 are nobody's."""
    same, other, known, unknown = [], [], [], []
    for q, row in enumerate(distance):
        match, stranger = [], []
        for g, value in enumerate(row):
            pid = gallery_pids[g]
            one_person = pid == query_pids[q] and pid != 0
            if pid == -1 or (one_person and gallery_camids[g] == query_camids[q]):
                continue
            (match if one_person else stranger).append(value)
        same += match
        other += stranger
        if match:
            known.append((min(match), min(stranger, default=np.inf)))
        elif query_pids[q] == 0 or query_pids[q] not in gallery_pids:
            unknown.append(min(stranger))

    def widest(wrong, rate):
        """The largest threshold below which at most the rate of wrong ones lies."""
        allowed = [t for t in {*wrong, np.inf} if np.sum(np.array(wrong) < t) <= rate * len(wrong)]
        return max(allowed)

    tpr = {rate: np.mean(np.array(same) < widest(other, rate)) for rate in FPR if rate * len(other) >= 1}
    dir_ = {}
    for rate in FAR:
        if rate * len(unknown) >= 1:
            t = widest(unknown, rate)
            dir_[rate] = np.mean([match < stranger and match < t for match, stranger in known])
    return tpr, dir_, len(same), len(other), len(known), len(unknown)


def drawn_set(queries=30, gallery=60, people=12, seed=0, decimals=None):
    draw = np.random.default_rng(seed)
    query_pids, gallery_pids = draw.integers(0, people, queries), draw.integers(-1, people - 3, gallery)
    query_camids, gallery_camids = draw.integers(0, 3, queries), draw.integers(0, 3, gallery)
    distance = draw.random((queries, gallery)) + 0.5 * (query_pids[:, None] != gallery_pids)
    return (
        (distance if decimals is None else distance.round(decimals)),
        query_pids,
        gallery_pids,
        query_camids,
        gallery_camids,
    )


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from([None, 1]))
def test_every_number_is_that_of_the_definition_ties_included(seed, decimals):
    drawn = drawn_set(queries=14, gallery=40, seed=seed, decimals=decimals)
    found = evaluate_open_set(*drawn, resamples=2)
    tpr, dir_, *counts = literal(*drawn)
    assert [found.matches, found.others, found.known, found.unknown] == counts
    assert found.tpr.keys() == tpr.keys() and found.dir.keys() == dir_.keys()
    for rate in tpr:
        assert found.tpr[rate].value == pytest.approx(tpr[rate])
    for rate in dir_:
        assert found.dir[rate].value == pytest.approx(dir_[rate])


def test_the_worked_example():
    """Matches at 0.1 and 0.4, a hundred others from 0.3 and 0.5 on; one may pass at 0.01."""
    distance = np.concatenate([[0.1, 0.4, 0.3], np.linspace(0.5, 0.9, 99)])[None]
    pids = np.array([1, 1, *range(2, 102)])
    found = evaluate_open_set(distance, [1], pids, [0], np.ones(102, dtype=int), resamples=2)
    assert found.tpr.keys() == {0.01} and found.tpr[0.01].value == 1.0 and not found.dir


def test_a_perfect_ranking_accepts_every_match_at_any_rate():
    drawn = drawn_set(queries=200, gallery=300)
    perfect = 1.0 - ((drawn[1][:, None] == drawn[2]) & (drawn[2] > 0))
    found = evaluate_open_set(perfect, *drawn[1:], resamples=50)
    assert set(found.tpr) == {0.01, 0.001, 0.0001} and {0.1} <= set(found.dir)
    for estimate in (*found.tpr.values(), *found.dir.values()):
        assert estimate == (1.0, 1.0, 1.0)


def test_the_order_of_the_gallery_changes_nothing():
    distance, query_pids, gallery_pids, query_camids, gallery_camids = drawn_set(queries=80, decimals=1)
    order = np.random.default_rng(1).permutation(len(gallery_pids))
    first = evaluate_open_set(distance, query_pids, gallery_pids, query_camids, gallery_camids, resamples=20)
    second = evaluate_open_set(
        distance[:, order], query_pids, gallery_pids[order], query_camids, gallery_camids[order], resamples=20
    )
    assert first.as_dict() == second.as_dict() and np.array_equal(first.roc, second.roc)


def test_blocks_give_what_the_matrix_gives_and_far_pairs_are_forgotten(monkeypatch):
    drawn = drawn_set(queries=80, gallery=200)
    whole = evaluate_open_set(*drawn, resamples=20)
    monkeypatch.setattr(module, "_KEPT", 300)
    blocks = torch.from_numpy(drawn[0]).split(7)
    some = evaluate_open_set_blocks(blocks, *drawn[1:], resamples=20)
    assert some.as_dict() == whole.as_dict()
    assert some.roc[-1, 0] < 0.03 and whole.roc[-1].tolist() == [1.0, 1.0]


def test_the_query_itself_is_left_out():
    pids, camids = np.array([1, 1, 2, 2]), np.array([0, 1, 0, 1])
    distance = np.full((4, 4), 0.5)
    np.fill_diagonal(distance, 0.0)
    options = {"same_camera": "keep", "resamples": 2}
    found = evaluate_open_set(distance, pids, pids, camids, camids, own_position=range(4), **options)
    assert (found.matches, found.others) == (4, 8)
    assert evaluate_open_set(distance, pids, pids, camids, camids, **options).matches == 8


def test_the_roc_begins_without_false_positives_and_never_falls():
    found = evaluate_open_set(*drawn_set(queries=80), resamples=2)
    assert (np.diff(found.roc, axis=0) >= 0).all() and found.roc[0, 0] == 0
    for rate, estimate in found.tpr.items():
        assert found.roc[found.roc[:, 0] <= rate, 1].max() == estimate.value


def test_intervals_are_over_people():
    """One of two people is always accepted and the other never: a resample has 0, a half or 1, however many queries."""
    queries, strangers = 60, 100
    query_pids = np.repeat([1, 2], queries // 2)
    gallery_pids = np.array([1, 2, *range(3, 3 + strangers)])
    distance = np.full((queries, strangers + 2), 0.9)
    distance[:30, 0], distance[30:, 1] = 0.1, 1.5
    cameras = np.zeros(queries, dtype=int), np.ones(strangers + 2, dtype=int)
    value, low, high = evaluate_open_set(distance, query_pids, gallery_pids, *cameras).tpr[0.01]
    assert (value, low, high) == (0.5, 0.0, 1.0)


def test_what_cannot_be_decided_is_refused():
    with pytest.raises(ValueError, match="of one person and of two .got 0 and 2"):
        evaluate_open_set([[0.1, 0.2]], [1], [2, 3], [0], [1, 1])
    with pytest.raises(ValueError, match="of one person and of two .got 1 and 0"):
        evaluate_open_set([[0.1]], [1], [1], [0], [1])
    with pytest.raises(ValueError, match="NaN for query 0"):
        evaluate_open_set([[0.1, np.nan]], [1], [1, 2], [0], [1, 1])
    with pytest.raises(ValueError, match="'remove' or 'keep'"):
        evaluate_open_set([[0.1, 0.2]], [1], [1, 2], [0], [1, 1], same_camera="maybe")
    with pytest.raises(ValueError, match="with one pid and one camid for each"):
        evaluate_open_set([[0.1]], [1], [1, 2], [0], [1, 1])
