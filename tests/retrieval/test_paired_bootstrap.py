"""The paired bootstrap, against closed forms and a literal loop."""

import numpy as np
import pytest

from cace_pyg.retrieval import paired_bootstrap


def test_a_constant_gain_has_no_width():
    baseline = np.random.default_rng(0).random((3, 40))
    found = paired_bootstrap(baseline + 0.07, baseline)
    assert found.mean == pytest.approx(0.07) and found.low == pytest.approx(0.07) and found.high == pytest.approx(0.07)
    assert found.seeds == pytest.approx((0.07,) * 3) and found.spread == pytest.approx(0)


def test_what_is_hard_for_both_cancels():
    rng = np.random.default_rng(1)
    hard = rng.random((1, 200))
    gain = 0.02 + 0.01 * rng.standard_normal((1, 200))
    found = paired_bootstrap(hard + gain, hard)
    assert found.high - found.low < 0.005 < hard.std() / np.sqrt(200)
    assert found.low < 0.02 < found.high


def test_the_interval_is_that_of_the_normal_distribution_on_many_queries():
    rng = np.random.default_rng(2)
    better, baseline = rng.random((2, 500)), rng.random((2, 500))
    found = paired_bootstrap(better, baseline, resamples=20_000)
    queries = (better - baseline).mean(axis=0)
    half = 1.96 * queries.std() / np.sqrt(500)
    assert found.high - found.mean == pytest.approx(half, rel=0.05)
    assert found.mean - found.low == pytest.approx(half, rel=0.05)
    assert found.spread == pytest.approx(np.std((better - baseline).mean(axis=1), ddof=1))


def test_it_equals_a_literal_loop():
    rng = np.random.default_rng(3)
    better, baseline = rng.random(7), rng.random(7)
    found = paired_bootstrap(better, baseline, confidence=0.8, resamples=50, seed=5)
    draws = np.random.default_rng(5).integers(7, size=(50, 7))
    means = [np.mean([better[i] - baseline[i] for i in draw]) for draw in draws]
    assert (found.low, found.high) == pytest.approx(tuple(np.quantile(means, [0.1, 0.9])))
    assert np.isnan(found.spread)


def test_wrong_tables_are_refused():
    with pytest.raises(ValueError, match=r"got \(1, 3\) and \(1, 2\)"):
        paired_bootstrap([1, 2, 3], [1, 2])
    with pytest.raises(ValueError, match="got NaN or infinity"):
        paired_bootstrap([np.nan], [1])
    with pytest.raises(ValueError, match="confidence"):
        paired_bootstrap([1], [1], confidence=1)
