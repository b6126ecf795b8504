"""Weighted degrees as maps and histogram."""

import numpy as np
import pytest
from matplotlib.patches import StepPatch

from cace_pyg.viz import weighted_degrees

_PICTURE = np.full((40, 20, 3), 128, dtype=np.uint8)
_A = np.array([[0.0, 1.0], [2.0, 2.0], [3.0, 0.5]])
_B = _A + 2


def test_maps_share_a_scale_and_the_histogram_counts_every_clue() -> None:
    figure = weighted_degrees(_PICTURE, _PICTURE, _A, _B, title="a: x.jpg", label="degree, no unit")
    panel_a, panel_b, histogram, bar = figure.axes
    for panel, values in ((panel_a, _A), (panel_b, _B)):
        np.testing.assert_array_equal(panel.images[-1].get_array(), values)
        assert panel.images[-1].get_clim() == (0, 5)
    steps = [patch for patch in histogram.patches if isinstance(patch, StepPatch)]
    assert {int(patch.get_data().values.sum()) for patch in steps} == {6}
    assert [text.get_text() for text in histogram.get_legend().get_texts()] == ["a", "b"]
    assert histogram.get_xlabel() == bar.get_ylabel() == "degree, no unit" and figure.get_suptitle() == "a: x.jpg"


def test_equal_degrees_can_be_drawn() -> None:
    figure = weighted_degrees(_PICTURE, _PICTURE, np.ones((3, 2)), np.ones((3, 2)))
    figure.draw_without_rendering()


def test_what_cannot_be_drawn() -> None:
    for broken in (np.zeros(3), np.full((2, 2), np.nan), np.zeros((0, 2))):
        with pytest.raises(ValueError, match="degrees_b as a matrix"):
            weighted_degrees(_PICTURE, _PICTURE, _A, broken)
