"""The evaluator that ours is timed against is right itself."""

import numpy as np
import pytest

from benchmarks.argsort_evaluator import argsort_evaluation
from cace_pyg.retrieval import evaluate


@pytest.mark.parametrize("lists", [False, True])
def test_a_worked_example(lists):
    distance = np.array([[0.1, 0.2, 0.3, 0.05], [0.1, 0.2, 0.3, 0.4]])
    # The nearest of the first query is of its own camera; the second has no match and does not count.
    labels = np.array([7, 8]), np.array([7, 5, 7, 7]), np.array([1, 1]), np.array([2, 2, 2, 1])
    precision, cmc, penalty = argsort_evaluation(distance, *labels, lists=lists)
    assert precision == pytest.approx((1 / 1 + 2 / 3) / 2)
    assert penalty == pytest.approx(2 / 3)
    assert cmc.tolist() == [1.0, 1.0, 1.0]


@pytest.mark.parametrize("lists", [False, True])
def test_it_agrees_with_ours_ties_included(lists):
    rng = np.random.default_rng(0)
    distance = rng.integers(0, 20, (30, 200)) / 10
    labels = [rng.integers(low, high, size) for low, high, size in ((1, 9, 30), (0, 9, 200), (1, 4, 30), (1, 4, 200))]
    found = argsort_evaluation(distance, *labels, lists=lists, kind="stable")
    ours = evaluate(distance, *labels)
    for value, expected in zip(found, (ours.mAP, ours.cmc, ours.mINP), strict=True):
        np.testing.assert_allclose(value, expected, rtol=1e-12)
