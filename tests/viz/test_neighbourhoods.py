"""Graphs of neighbours side by side."""

import numpy as np
import pytest
from matplotlib.offsetbox import AnnotationBbox

from cace_pyg.viz import neighbourhoods
from cace_pyg.viz.style import BLUE, VERMILLION

PICTURE = np.full((16, 8, 3), 120, dtype=np.uint8)
PEOPLE = [7, 7, 9, 9, 9]


def test_edges_within_and_between_people_differ_and_are_counted():
    figure = neighbourhoods([PICTURE] * 5, PEOPLE, {"before": [(0, 1), (1, 2), (0, 4)], "after": [(2, 3)]})
    before, after = figure.axes
    assert [line.get_color() for line in before.lines] == [BLUE, VERMILLION, VERMILLION]
    assert before.lines[0].get_linestyle() == "-" != before.lines[1].get_linestyle()
    assert before.get_title() == "before\n1 edges within a person, 2 between people"
    assert after.get_title() == "after\n1 edges within a person, 0 between people"
    places = [[tuple(box.xy) for box in axes.get_children() if isinstance(box, AnnotationBbox)] for axes in figure.axes]
    assert places[0] == places[1] and len(set(places[0])) == 5  # nobody moves, and no two stand in one place
    assert before.lines[1].get_xydata().tolist() == [list(places[0][1]), list(places[0][2])]


def test_what_cannot_be_drawn_is_refused():
    with pytest.raises(ValueError, match=r"got 1 graphs, 5 pictures, 2 people"):
        neighbourhoods([PICTURE] * 5, [1, 2], {"a": []})
    with pytest.raises(ValueError, match=r"edges between 5 pictures in 'a' \(got \(0, 5\)\)"):
        neighbourhoods([PICTURE] * 5, PEOPLE, {"a": [(0, 5)]})
