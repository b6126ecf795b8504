"""The same pair, once for each graph."""

import numpy as np
import pytest
from matplotlib.collections import LineCollection

from cace_pyg.viz import compared_correspondences

_A = np.full((32, 16, 3), 100, dtype=np.uint8)
_B = np.full((40, 10, 3), 200, dtype=np.uint8)


def test_every_graph_has_its_lines_and_its_words():
    matches = {"attention": np.array([[0, 1, 0.5], [2, 7, 0.1]]), "none": np.array([[0, 0, 0.0]])}
    figure = compared_correspondences(_A, _B, matches, (4, 2), captions={"attention": "shares"})
    left, right = figure.axes
    (lines,) = [found for found in left.collections if isinstance(found, LineCollection)]
    assert len(lines.get_segments()) == 2 and not right.collections
    assert [axes.get_title() for axes in figure.axes] == ["attention", "none"]
    assert [axes.get_xlabel() for axes in figure.axes] == ["shares", "no edges between the pictures"]


def test_lines_of_one_row_stay_apart():
    matches = {"attention": np.array([[0, 0, 1.0], [1, 1, 1.0]])}
    axes = compared_correspondences(_A, _B, matches, (4, 2)).axes[0]
    (lines,) = [found for found in axes.collections if isinstance(found, LineCollection)]
    first, second = lines.get_segments()
    assert abs(first[12, 1] - second[12, 1]) > 5 and first[0, 1] == second[0, 1] == first[-1, 1]


def test_what_it_refuses():
    with pytest.raises(ValueError, match="at least one graph"):
        compared_correspondences(_A, _B, {}, (4, 2))
    with pytest.raises(ValueError, match="whole numbers from 0 to 7"):
        compared_correspondences(_A, _B, {"attention": np.array([[0, 8, 1.0]])}, (4, 2))
