"""Clusters over both pictures."""

import numpy as np
import pytest
from matplotlib.colors import to_rgb

from cace_pyg.viz import cluster_cells
from cace_pyg.viz.style import BLUE, GREY, ORANGE

_PICTURE = np.full((40, 20, 3), 128, dtype=np.uint8)
_A = np.array([[1, 1], [2, 0], [1, 8]])
_B = np.array([[2, 2], [1, 1], [0, 0]])


def test_a_cluster_looks_the_same_in_both_pictures() -> None:
    panels = cluster_cells(_PICTURE, _PICTURE, _A, _B).axes
    for panel, cells in zip(panels, (_A, _B), strict=True):
        overlay = np.asarray(panel.images[-1].get_array())
        for cluster, colour in ((1, BLUE), (2, ORANGE), (8, GREY)):
            np.testing.assert_allclose(
                overlay[cells == cluster][:, :3], np.tile(to_rgb(colour), ((cells == cluster).sum(), 1))
            )
        assert (overlay[cells == 0, 3] == 0).all()
        written = [[int(text.get_text()), *text.get_position()] for text in panel.texts]
        height, width = 40 / 3, 20 / 2
        assert written == [
            [cells[row, column], pytest.approx((column + 0.5) * width), pytest.approx((row + 0.5) * height)]
            for row, column in np.argwhere(cells)
        ]


def test_the_legend_counts() -> None:
    figure = cluster_cells(_PICTURE, _PICTURE, _A, _B, inner_shares=[0.5] * 8, title="a: x.jpg")
    (legend,) = figure.legends
    labels = [text.get_text() for text in legend.get_texts()]
    assert labels[:2] == ["1: 3 + 2, 50 %", "2: 1 + 2, 50 %"]
    assert labels[-2:] == ["7 to 8: smaller ones", "no cluster: 3 without an edge"]
    assert figure.get_suptitle() == "a: x.jpg"
    (plain,) = cluster_cells(_PICTURE, _PICTURE, _A, _B).legends
    assert plain.get_texts()[0].get_text() == "1: 3 + 2" and "weight" not in plain.get_title().get_text()


def test_no_cluster_at_all() -> None:
    figure = cluster_cells(_PICTURE, _PICTURE, np.zeros((3, 2), int), np.zeros((3, 2), int))
    figure.draw_without_rendering()
    assert not any(panel.texts for panel in figure.axes)


def test_what_cannot_be_drawn() -> None:
    for broken in (np.ones((2, 2)), np.array([1, 2]), np.array([[-1]])):
        with pytest.raises(ValueError, match="clusters_b as a matrix"):
            cluster_cells(_PICTURE, _PICTURE, _A, broken)
    with pytest.raises(ValueError, match=r"one inner share for each of 8 clusters, or none \(got 2\)"):
        cluster_cells(_PICTURE, _PICTURE, _A, _B, inner_shares=[0.5, 0.5])
