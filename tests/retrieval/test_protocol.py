"""The protocol once more: against a sorting reference, on every kind of input, and its refusals."""

import numpy as np
import pytest
import torch

from cace_pyg.retrieval import evaluate


def sorting_reference(distance, query_pids, gallery_pids, query_camids, gallery_camids, max_rank=50):
    """The usual vectorised evaluation: sort all, then walk along cumulative sums."""
    order = np.argsort(distance, axis=1, kind="stable")
    precisions, curves, penalties = [], [], []
    for query, ranking in enumerate(order):
        pids, camids = gallery_pids[ranking], gallery_camids[ranking]
        same = (pids == query_pids[query]) & (pids != 0)
        found = same[(pids != -1) & ~(same & (camids == query_camids[query]))].astype(float)
        if not found.any():
            continue
        cumulative = found.cumsum()
        precisions.append((cumulative / np.arange(1, len(found) + 1) * found).sum() / found.sum())
        curves.append(np.pad(cumulative.clip(max=1), (0, max_rank), mode="edge")[:max_rank])
        penalties.append(found.sum() / (np.flatnonzero(found)[-1] + 1))
    return np.array(precisions), np.mean(curves, axis=0), np.mean(penalties)


@pytest.fixture
def labelled():
    """A ranking with ties, junk, distractors, and queries of every fate."""
    rng = np.random.default_rng(0)
    pids = rng.integers(0, 25, 150), rng.integers(-1, 20, 300)
    camids = rng.integers(1, 4, 150), rng.integers(1, 4, 300)
    distance = rng.integers(0, 40, (150, 300)) - 15 * (rng.random((150, 300)) < 0.5) * (pids[0][:, None] == pids[1])
    return distance.astype(np.float32), *pids, *camids


def test_equals_the_sorting_reference(labelled):
    metrics = evaluate(*labelled)
    precisions, curve, penalty = sorting_reference(*labelled)
    assert 0 < len(precisions) < 150
    np.testing.assert_allclose(metrics.average_precision, precisions, rtol=1e-12)
    np.testing.assert_allclose(metrics.cmc, curve, rtol=1e-12)
    assert metrics.mAP == pytest.approx(precisions.mean(), rel=1e-12)
    assert metrics.mINP == pytest.approx(penalty, rel=1e-12)
    assert metrics.num_queries + metrics.left_out_absent + metrics.left_out_same_camera == 150
    assert metrics.cmc.dtype == metrics.average_precision.dtype == np.float64


def test_every_kind_of_input_gives_the_same(labelled):
    expected = evaluate(*labelled)
    tensors = [torch.from_numpy(values) for values in labelled]
    scattered = [np.asfortranarray(labelled[0]), *labelled[1:]]
    learned = [tensors[0].clone().requires_grad_(), *tensors[1:]]
    rough = [tensors[0].bfloat16(), *tensors[1:]]  # whole numbers below 256 are exact in it
    lists = [values.tolist() for values in labelled]
    for kind in (tensors, scattered, learned, rough, lists):
        assert np.array_equal(evaluate(*kind).average_precision, expected.average_precision)


def test_nothing_else_than_order_matters(labelled):
    distance, *labels = labelled
    assert evaluate(np.exp(distance.astype(np.float64) / 9), *labels).mAP == evaluate(distance, *labels).mAP


def test_the_callers_arrays_stay_as_they_are(labelled):
    copies = [values.copy() for values in labelled]
    evaluate(*labelled)
    assert all(map(np.array_equal, copies, labelled))


def test_distractors_are_nobodys_match():
    metrics = evaluate(np.zeros((2, 2)), [0, 1], [0, 1], [1, 1], [2, 2])
    assert (metrics.num_queries, metrics.left_out_absent, metrics.mAP) == (1, 1, 0.5)


def test_the_curve_goes_on_past_a_small_gallery():
    metrics = evaluate([[0.1, 0.2]], [1], [2, 1], [1], [2, 2], max_rank=12)
    assert metrics.cmc.tolist() == [0] + [1] * 11
    assert metrics.as_dict() == {"mAP": 0.5, "rank1": 0, "rank5": 1, "rank10": 1, "mINP": 0.5}
    with pytest.raises(ValueError, match=r"max_rank of at least 10.*\(got 5\)"):
        evaluate([[0.1]], [1], [1], [1], [2], max_rank=5)


def test_the_policy_says_what_was_done(labelled):
    assert "own pid and camera: removed" in evaluate(*labelled).policy
    kept = evaluate(*labelled, same_camera="keep")
    assert "own pid and camera: kept" in kept.policy and kept.left_out_same_camera == 0


def test_where_no_query_counts_the_reasons_and_remedies_are_told():
    with pytest.raises(ValueError, match=r"2 whose identity is absent from it, 0 seen only.*parts of one data set"):
        evaluate(np.zeros((2, 1)), [1, 2], [3], [1, 1], [1])
    with pytest.raises(ValueError, match=r"0 whose identity is absent from it, 1 seen only.*same_camera keep"):
        evaluate([[0.0]], [1], [1], [1], [1])
    assert evaluate([[0.0]], [1], [1], [1], [1], same_camera="keep").mAP == 1
    with pytest.raises(ValueError, match="no query has a match"):
        evaluate(np.zeros((0, 3)), [], [1, 2, 3], [], [1, 1, 1])


def test_nan_is_named_even_where_it_is_far_down_or_on_junk():
    distance = np.zeros((200, 3))
    distance[130, 2] = np.nan
    with pytest.raises(ValueError, match="NaN for query 130"):
        evaluate(distance, [1] * 200, [1, 1, -1], [1] * 200, [2, 2, 2])


def test_scalars_and_matrices_as_labels_are_refused():
    with pytest.raises(ValueError, match=r"got shape \(2,\)"):
        evaluate([0.0, 1.0], [1], [1, 1], [1], [1, 1])
    with pytest.raises(ValueError, match=r"one pid and one camid for each .*got \(1, 1\) and 1 for queries"):
        evaluate([[0.0]], [[1]], [1], [1], [2])
