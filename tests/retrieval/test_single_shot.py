"""The single-shot form against every possible draw, one by one."""

from itertools import product

import numpy as np
import pytest

from cace_pyg.retrieval import evaluate, evaluate_single_shot


def every_draw(row, pid, camid, pids, camids, max_rank):
    """The expected curve of one query: all draws of one image for each identity, equally likely; none if no match."""
    kept = [g for g in range(len(row)) if pids[g] != -1 and not (pids[g] == pid and camids[g] == camid)]
    groups = [[g for g in kept if pids[g] == pid] for pid in sorted({pids[g] for g in kept} - {0})]
    groups += [[g] for g in kept if pids[g] == 0]
    if pid not in {pids[g] for g in kept}:
        return None
    curves = []
    for draw in product(*groups):
        ranked = sorted(draw, key=lambda g: (row[g], g))
        place = [pids[g] == pid for g in ranked].index(True)
        curves.append([place < k for k in range(1, max_rank + 1)])
    return np.mean(curves, axis=0)


@pytest.mark.parametrize("seed", range(4))
def test_the_mean_over_draws_is_that_of_all_draws(seed):
    generator = np.random.default_rng(seed)
    distance = generator.integers(0, 5, size=(4, 12)) / 4  # ties are common
    pids, camids = generator.integers(-1, 4, size=12), generator.integers(1, 3, size=12)
    query_pids, query_camids = np.array([1, 2, 3, 9]), np.array([1, 2, 1, 1])
    curves = [
        every_draw(row, pid, camid, pids.tolist(), camids.tolist(), 10)
        for row, pid, camid in zip(distance, query_pids, query_camids, strict=True)
    ]
    curves = [curve for curve in curves if curve is not None]
    found = evaluate_single_shot(distance, query_pids, pids, query_camids, camids, repeats=20_000, max_rank=10)
    assert found.num_queries == len(curves)
    np.testing.assert_allclose(found.cmc, np.mean(curves, axis=0), atol=0.015)


def test_with_one_image_of_each_it_is_the_usual_curve():
    distance = np.random.default_rng(0).random((6, 20))
    labels = np.arange(1, 7), np.arange(1, 21), np.ones(6), np.full(20, 2)
    assert evaluate_single_shot(distance, *labels, repeats=2).cmc == pytest.approx(evaluate(distance, *labels).cmc)


def test_the_seed_decides():
    distance = np.random.default_rng(0).random((6, 40))
    labels = np.arange(1, 7), np.arange(40) % 10 + 1, np.ones(6), np.full(40, 2)
    first, again, other = (evaluate_single_shot(distance, *labels, repeats=3, seed=seed).cmc for seed in (0, 0, 1))
    assert (first == again).all() and (first != other).any()
    assert "3 draws a query, seed 0" in evaluate_single_shot(distance, *labels, repeats=3).policy


def test_bad_input_is_named():
    with pytest.raises(ValueError, match="no query has a match"):
        evaluate_single_shot([[0.1]], [1], [1], [1], [1])
    with pytest.raises(ValueError, match=r"got \(1, 1\)"):
        evaluate_single_shot([[0.1]], [1], [1, 2], [1], [1, 2])
    with pytest.raises(ValueError, match="got NaN"):
        evaluate_single_shot([[np.nan]], [1], [1], [1], [2])
    with pytest.raises(ValueError, match=r"at least 1 \(got 0 and 50\)"):
        evaluate_single_shot([[0.1]], [1], [1], [1], [2], repeats=0)
