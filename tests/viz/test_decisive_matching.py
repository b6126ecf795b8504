"""A matching drawn as lines."""

import numpy as np
from matplotlib.collections import LineCollection

from cace_pyg.viz import decisive_correspondences

_A, _B = np.zeros((32, 16, 3), dtype=np.uint8), np.full((32, 16, 3), 90, dtype=np.uint8)
_GRID = (4, 2)
_MATCHING = np.array([[0, 5, 0.5], [3, 1, 0.25], [2, 2, 0.02]])


def test_the_strongest_are_drawn_and_the_caption_tells_a_matching() -> None:
    figure = decisive_correspondences(_A, _B, _MATCHING, _GRID, title="a: x.jpg", strongest=2)
    (pair,) = figure.axes
    (lines,) = (artist for artist in pair.collections if isinstance(artist, LineCollection))
    assert len(lines.get_segments()) == 2
    caption = pair.get_xlabel()
    assert "maximum-weight matching, strongest 2 of 3 matches" in caption and "25 % (thin) to 50 % (thick)" in caption
    assert figure.get_suptitle() == "a: x.jpg"
    assert "all 3 matches" in decisive_correspondences(_A, _B, _MATCHING, _GRID).axes[0].get_xlabel()


def test_maps_stand_beside_the_pair() -> None:
    ones = np.ones(_GRID)
    figure = decisive_correspondences(_A, _B, _MATCHING, _GRID, feature_map_a=ones, feature_map_b=2 * ones)
    assert len(figure.axes) == 4 and "matching" in figure.axes[1].get_xlabel()
    figure = decisive_correspondences(_A, _B, _MATCHING, _GRID, feature_map_b=ones)
    assert "matching" in figure.axes[0].get_xlabel()


def test_captions_are_not_cut_off() -> None:
    for maps in ({}, {"feature_map_a": np.eye(4, 2), "feature_map_b": np.eye(4, 2)}):
        figure = decisive_correspondences(_A, _B, _MATCHING, _GRID, title="a: x\ndistance: 1", **maps)
        figure.draw_without_rendering()
        pair = figure.axes[1 if maps else 0]
        assert pair.xaxis.label.get_window_extent().y0 >= 0


def test_nothing_to_match_is_said() -> None:
    assert "nothing to match" in decisive_correspondences(_A, _B, np.zeros((0, 3)), _GRID).axes[0].get_xlabel()
