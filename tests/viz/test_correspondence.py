"""Correspondences between clues."""

import numpy as np
import pytest
from matplotlib.collections import LineCollection
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from cace_pyg.viz import correspondences
from cace_pyg.viz.style import BLUE, VERMILLION

_A = np.full((32, 16, 3), 100, dtype=np.uint8)
_B = np.full((40, 10, 3), 200, dtype=np.uint8)
_GRID = (4, 2)


def _lines(figure: Figure) -> LineCollection:
    return next(artist for axes in figure.axes for artist in axes.collections if isinstance(artist, LineCollection))


def test_lines_join_the_middles_of_the_cells() -> None:
    (segment,) = _lines(correspondences(_A, _B, [(1, 6, 0.5)], _GRID)).get_segments()
    # a is 128 wide and 256 high, in cells of 64 × 64: clue 1 is row 0, column 1. b is 64 wide, from 238 on.
    np.testing.assert_allclose(segment[[0, -1]], [[96, 32], [238 + 16, 256 - 32]])


def test_width_and_opacity_grow_with_the_weight_and_only_the_strongest_are_drawn() -> None:
    matches = np.array([[0, 0, 0.9], [1, 1, 0.0], [2, 2, 0.1], [3, 3, 0.5]])
    lines = _lines(correspondences(_A, _B, matches, _GRID, strongest=2))
    assert len(lines.get_segments()) == 2
    assert np.all(np.diff(lines.get_linewidths()) > 0) and np.all(np.diff(lines.get_colors()[:, 3]) > 0)
    assert len(_lines(correspondences(_A, _B, matches, _GRID)).get_segments()) == 3


def test_no_match_is_said() -> None:
    for matches in ([], [(0, 0, 0.0)]):
        figure = correspondences(_A, _B, matches, _GRID)
        assert figure.axes[0].get_xlabel() == "no correspondence of positive weight"


@pytest.mark.parametrize(("is_match", "colour"), [(True, BLUE), (np.False_, VERMILLION), (None, "#000000")])
def test_borders_tell_right_from_wrong(is_match: bool | None, colour: str) -> None:
    frames = correspondences(_A, _B, [], _GRID, is_match=is_match).axes[0].patches
    assert [to_hex(frame.get_edgecolor()).upper() for frame in frames] == [colour] * 2
    is_solid = is_match is None or bool(is_match)
    assert {frame.get_linestyle() in ("-", "solid") for frame in frames} == {is_solid}


def test_title() -> None:
    figure = correspondences(
        _A, _B, [], _GRID, pid_a=7, pid_b=9, distance_before=0.5, distance_after=0.25, is_match=False
    )
    title = figure.get_suptitle()
    for words in (
        "person 7 and person 9",
        "✗ another person",
        "distance before 0.500",
        "distance after 0.250",
    ):
        assert words in title


def test_feature_maps_get_panels_on_one_scale() -> None:
    low, high = np.zeros(_GRID), np.full(_GRID, 5.0)
    figure = correspondences(_A, _B, [(0, 0, 1.0)], _GRID, feature_map_a=low, feature_map_b=high)
    panel_a, pair, panel_b, _bar = figure.axes
    assert len(pair.patches) == 2
    for panel, values in ((panel_a, low), (panel_b, high)):
        overlay = panel.images[-1]
        np.testing.assert_array_equal(overlay.get_array(), values)
        assert overlay.get_clim() == (0, 5) and overlay.get_alpha() < 1
    assert len(correspondences(_A, _B, [], _GRID, feature_map_b=high).axes) == 3


@pytest.mark.parametrize(
    ("matches", "words"),
    [
        ([(0, 8, 0.5)], "number them in each picture from 0"),
        ([(-1, 0, 0.5)], "from 0 to 7"),
        ([(0.5, 0, 0.5)], "whole numbers"),
        ([(0, 0, -0.5)], "weights ≥ 0"),
        ([(0, 0, np.nan)], "weights ≥ 0"),
        ([(0, 0)], "rows"),
    ],
)
def test_impossible_matches_are_refused(matches: list, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        correspondences(_A, _B, matches, _GRID)


def test_a_map_must_fit_the_grid() -> None:
    with pytest.raises(ValueError, match=r"feature_map_b of the grid's shape \(4, 2\) \(got \(2, 4\)\)"):
        correspondences(_A, _B, [], _GRID, feature_map_b=np.zeros((2, 4)))
    with pytest.raises(ValueError, match="feature_map_a of finite"):
        correspondences(_A, _B, [], _GRID, feature_map_a=np.full(_GRID, np.nan))
