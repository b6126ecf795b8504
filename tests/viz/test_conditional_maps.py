"""Feature maps given other images."""

import numpy as np
import pytest

from cace_pyg.viz import ConditionalMap, conditional_maps

_A = np.full((32, 16, 3), 100, dtype=np.uint8)
_B = np.full((40, 10, 3), 200, dtype=np.uint8)


def map_given(query, own=None, **other):
    zeros = np.zeros((4, 2))
    return ConditionalMap(_B, query, zeros, zeros if own is None else own, **other)


def test_columns_show_norms_in_one_scale_and_changes_in_one_around_zero():
    before = np.ones((4, 2))
    first, second = np.full((4, 2), 3.0), np.full((4, 2), 0.5)
    figure = conditional_maps(
        _A, before, [map_given(first, caption="near"), map_given(second, own=np.full((4, 2), -2.5))]
    )
    maps = [axes.images[-1] for axes in figure.axes if len(axes.images) == 2]
    norms, changes = (
        sorted(float(m.get_array().mean()) for m in maps if m.get_cmap().name == name) for name in ("viridis", "PuOr_r")
    )
    assert norms == [0.5, 1.0, 3.0] and changes == [-2.5, -0.5, 0.0, 2.0]
    assert {m.get_clim() for m in maps} == {(0.5, 3.0), (-2.5, 2.5)}
    assert "near" in [axes.get_title() for axes in figure.axes]


def test_no_change_at_all_is_drawn():
    figure = conditional_maps(_A, np.ones((4, 2)), [map_given(np.ones((4, 2)))])
    figure.canvas.draw()
    norms = [axes for axes in figure.axes if axes.images and axes.images[-1].get_cmap().name == "viridis"]
    pictures = [axes for axes in figure.axes if len(axes.images) == 1]
    for above, below in zip(pictures, norms, strict=False):  # a column is a column
        assert abs(above.get_position().x0 - below.get_position().x0) < 0.02


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ([], "1 to 8 gallery images"),
        ([map_given(np.ones((4, 2)))] * 9, "got 9"),
        ([map_given(np.ones((4, 3)))], "query of gallery image 1"),
        ([map_given(np.ones((4, 2)), own=np.full((4, 2), np.nan))], "finite"),
    ],
)
def test_what_it_refuses(given, words):
    with pytest.raises(ValueError, match=words):
        conditional_maps(_A, np.ones((4, 2)), given)
