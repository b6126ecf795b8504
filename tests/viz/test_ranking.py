"""Ranked lists."""

from pathlib import Path

import numpy as np
import pytest
from matplotlib.colors import to_hex
from PIL import Image

from cace_pyg.viz import RankedImage, ranked_lists
from cace_pyg.viz.style import BLUE, VERMILLION

_PICTURE = np.full((16, 8, 3), 120, dtype=np.uint8)


def _images(matches: list[bool]) -> list[RankedImage]:
    return [RankedImage(_PICTURE, match, 0.1 * rank, "camera 3") for rank, match in enumerate(matches)]


def test_one_axes_a_picture_ten_ranks_at_most() -> None:
    figure = ranked_lists(_PICTURE, {"individual": _images([True] * 12), "two_stage": _images([False] * 3)})
    assert len(figure.axes) == 1 + 10 + 3
    assert all(len(axes.images) == 1 for axes in figure.axes)
    assert [axes.get_ylabel() for axes in figure.axes if axes.get_ylabel()] == ["individual", "two_stage"]
    assert figure.axes[11].get_ylabel() == "two_stage"


def test_right_and_wrong_differ_in_colour_line_and_sign() -> None:
    _, right, wrong = ranked_lists(_PICTURE, {"individual": _images([True, False])}).axes
    for axes, colour, style in ((right, BLUE, "-"), (wrong, VERMILLION, (0, (2.0, 1.0)))):
        for spine in axes.spines.values():
            assert to_hex(spine.get_edgecolor()).upper() == colour
            assert spine.get_linestyle() == style
    assert (right.get_title(), wrong.get_title()) == ("1 ✓", "2 ✗")
    assert wrong.get_xlabel() == "0.100\ncamera 3"


def test_a_picture_keeps_its_proportions(tmp_path: Path) -> None:
    path = tmp_path / "wide.png"
    Image.new("RGB", (40, 20), (255, 0, 0)).save(path)
    drawn = np.asarray(ranked_lists(path, {"individual": _images([True])}).axes[0].images[0].get_array())
    red = (drawn == (255, 0, 0)).all(axis=2)
    assert red.any(axis=1).sum() * 2 == red.any(axis=0).sum() == drawn.shape[1]


def test_empty_rankings_are_refused() -> None:
    with pytest.raises(ValueError, match="at least one ranking"):
        ranked_lists(_PICTURE, {})
    with pytest.raises(ValueError, match="'two_stage'"):
        ranked_lists(_PICTURE, {"individual": _images([True]), "two_stage": []})


def test_what_is_not_a_picture_is_refused() -> None:
    with pytest.raises(FileNotFoundError, match=r"nobody\.jpg"):
        ranked_lists("nobody.jpg", {"individual": _images([True])})
    with pytest.raises(ValueError, match="undo the normalisation"):
        ranked_lists(np.full((4, 4, 3), -1.5), {"individual": _images([True])})
    with pytest.raises(ValueError, match=r"got shape \(3, 16, 8\)"):
        ranked_lists(np.zeros((3, 16, 8)), {"individual": _images([True])})
