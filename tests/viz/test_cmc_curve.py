"""CMC curves."""

import numpy as np
import pytest

from cace_pyg.viz import cmc_curve
from cace_pyg.viz.style import series_style


def test_curves_stop_at_rank_20_with_markers_of_their_own() -> None:
    ranks = np.arange(50)
    figure = cmc_curve({"individual": 1 - 0.3 * np.exp(-ranks), "two_stage": 1 - 0.2 * np.exp(-ranks)})
    first, second = figure.axes[0].lines
    assert list(first.get_xdata()) == list(range(1, 21))
    assert first.get_marker() != second.get_marker() and first.get_linestyle() != second.get_linestyle()
    assert first.get_label() == "individual (Rank-1 70.0 %)"


def test_the_axis_is_zoomed_and_says_so() -> None:
    axes = cmc_curve({"individual": np.array([0.72, 0.8, 0.93])}).axes[0]
    low, high = axes.get_ylim()
    assert low == pytest.approx(0.70) and 0.95 <= high <= 0.96
    assert "from 70 %" in axes.get_ylabel()


def test_a_perfect_and_an_empty_handed_ranking_are_drawn() -> None:
    low, high = cmc_curve({"a": np.ones(5), "b": np.zeros(5)}).axes[0].get_ylim()
    assert low <= 0 and high >= 1


@pytest.mark.parametrize(
    ("curves", "words"),
    [
        ({}, "at least one CMC"),
        ({"individual": np.array([])}, "'individual' as a vector"),
        ({"individual": np.array([70.0, 80.0])}, "fractions from 0 to 1"),
        ({"individual": np.array([np.nan])}, "fractions from 0 to 1"),
        ({"individual": np.array([0.8, 0.7])}, "never falls"),
    ],
)
def test_what_is_no_cmc_is_refused(curves: dict, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        cmc_curve(curves)


def test_series_differ_by_more_than_colour() -> None:
    styles = [series_style(index) for index in range(28)]
    assert len({(style["marker"], style["linestyle"]) for style in styles}) == 28
