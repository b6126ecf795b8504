"""ROC curves."""

import numpy as np
import pytest

from cace_pyg.viz import roc_curve

STEPS = np.array([[0.0, 0.2], [0.0005, 0.4], [0.01, 0.6], [1.0, 1.0]])


def test_the_axis_is_logarithmic_and_the_rate_at_one_in_a_thousand_is_told() -> None:
    axes = roc_curve({"individual": STEPS, "two_stage": STEPS}).axes[0]
    first, second = axes.lines[:2]
    assert axes.get_xscale() == "log" and axes.get_xlim() == (0.0005, 1)
    assert first.get_ydata().tolist() == [0.2, 0.4, 0.6, 1.0] and first.get_xdata()[0] == 0.0005
    assert first.get_label() == "individual (40.0 % at 0.1 % false positives)"
    assert first.get_linestyle() != second.get_linestyle() and len(axes.lines) == 3


def test_few_pairs_tell_no_such_rate() -> None:
    axes = roc_curve({"individual": np.array([[0.0, 0.5], [0.2, 0.9]])}).axes[0]
    assert axes.lines[0].get_label() == "individual" and len(axes.lines) == 1


@pytest.mark.parametrize(
    ("curves", "words"),
    [
        ({}, "at least one ROC"),
        ({"a": np.zeros(3)}, "'a' as points"),
        ({"a": np.zeros((0, 2))}, "'a' as points"),
        ({"a": np.array([[0.0, 70.0]])}, "fractions from 0 to 1"),
        ({"a": np.array([[0.0, np.nan]])}, "fractions from 0 to 1"),
        ({"a": STEPS[::-1]}, "never falls"),
    ],
)
def test_what_is_no_roc_is_refused(curves: dict, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        roc_curve(curves)
