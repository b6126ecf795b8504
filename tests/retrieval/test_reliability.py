"""Reliability of probabilities, against the definition written out."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cace_pyg.retrieval import expected_calibration_error, reliability_curve


def literal(probability, same, bins):
    """Guo et al. (2017), Eq. 3, bin by bin."""
    total = 0.0
    for number in range(bins):
        low, high = number / bins, (number + 1) / bins
        last = number == bins - 1
        chosen = [i for i, p in enumerate(probability) if low <= p < high or (last and p == 1)]
        if chosen:
            promised = sum(probability[i] for i in chosen) / len(chosen)
            true = sum(same[i] for i in chosen) / len(chosen)
            total += len(chosen) / len(same) * abs(promised - true)
    return total


def test_the_worked_example():
    assert expected_calibration_error([0.8, 0.8, 0.1], [1, 0, 0]) == pytest.approx((2 * 0.3 + 0.1) / 3)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.floats(0.001, 1), st.booleans()), min_size=1, max_size=40), st.integers(1, 9))
def test_the_error_is_that_of_the_definition(pairs, bins):
    probability, same = zip(*pairs, strict=True)
    on_edge = [p for p in probability if abs(p * bins - round(p * bins)) < 1e-9 and p < 1]
    if not on_edge:
        assert expected_calibration_error(probability, same, bins) == pytest.approx(literal(probability, same, bins))


def test_the_curve_is_the_means_of_the_bins_that_hold_something():
    found = reliability_curve([0.05, 0.1, 0.95, 0.95], [0, 1, 1, 1], people=[1, 1, 2, 2], bins=4)
    assert found.predicted.tolist() == pytest.approx([0.075, 0.95])
    assert found.observed.tolist() == [0.5, 1.0] and found.count.tolist() == [2, 2]
    assert found.error.value == pytest.approx((2 * 0.425 + 2 * 0.05) / 4)


def test_the_interval_is_over_people_not_pairs():
    """Two people, each of one error: resamples have the mean of both, or one of them alone."""
    probability, same = np.full(2000, 0.5), np.repeat([1, 0, 1, 1, 0, 0, 1, 0], 250)
    people = np.repeat([7, 7, 7, 7, 9, 9, 9, 9], 250)
    found = reliability_curve(probability, same, people)
    assert found.error.value == 0 and (found.error.low, found.error.high) == (0.0, 0.25)
    assert reliability_curve(probability, same, np.arange(2000)).error.high < 0.05


def test_a_perfect_calibration_has_hardly_any_error():
    draw = np.random.default_rng(3)
    probability = draw.random(200_000)
    assert expected_calibration_error(probability, draw.random(200_000) < probability) < 0.01


@pytest.mark.parametrize(
    ("probability", "same", "words"),
    [([], [], "of some pairs"), ([0.5], [1, 0], "of some pairs"), ([1.2], [1], "from 0 to 1"), ([np.nan], [1], "NaN")],
)
def test_what_is_no_probability_is_refused(probability, same, words):
    with pytest.raises(ValueError, match=words):
        expected_calibration_error(probability, same)


def test_a_person_for_each_pair_and_bins_are_wanted():
    with pytest.raises(ValueError, match="a person for each of 2 pairs .got 1"):
        reliability_curve([0.5, 0.5], [1, 0], [3])
    with pytest.raises(ValueError, match="at least one bin"):
        expected_calibration_error([0.5], [1], bins=0)
