"""Reliability diagrams."""

import numpy as np
import pytest

from cace_pyg.viz import reliability_diagram


def test_the_curve_stands_beside_the_diagonal_and_the_pairs_below() -> None:
    upper, lower = reliability_diagram([0.1, 0.9], [0.2, 0.8], [1000, 10], error=0.0123).axes
    diagonal, curve = upper.lines
    assert list(diagonal.get_xdata()) == list(diagonal.get_ydata()) == [0, 1]
    assert curve.get_xdata().tolist() == [0.1, 0.9] and curve.get_ydata().tolist() == [0.2, 0.8]
    assert "0.012" in curve.get_label()
    assert [bar.get_height() for bar in lower.patches] == [1000, 10] and lower.get_yscale() == "log"


@pytest.mark.parametrize(
    ("bins", "words"),
    [
        (([], [], []), "one or more"),
        (([0.5], [0.5, 0.6], [1]), "as many probabilities"),
        (([0.5], [50], [1]), "fractions from 0 to 1"),
        (([0.5], [np.nan], [1]), "fractions from 0 to 1"),
        (([0.5], [0.5], [0]), "bins of one pair or more"),
    ],
)
def test_what_is_no_reliability_is_refused(bins: tuple, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        reliability_diagram(*bins, error=0.1)
