"""A person's sightings, drawn."""

from datetime import datetime, timedelta

import numpy as np
import pytest

from cace_pyg.viz import Seen, timeline

GREY = np.full((20, 10, 3), 128, np.uint8)
NOON = datetime(2026, 1, 31, 12)


def test_each_sighting_stands_in_the_row_of_its_camera_in_the_order_that_it_comes_in():
    seen = [Seen(GREY, camera, NOON + timedelta(minutes=i), f"0.{i}") for i, camera in enumerate(["b", "a", "b"])]
    figure = timeline("person 7", seen)
    places = [axes.get_subplotspec() for axes in figure.axes]
    assert [(place.rowspan.start, place.colspan.start) for place in places] == [(1, 0), (0, 1), (1, 2)]
    assert [axes.get_xlabel() for axes in figure.axes] == ["12:00:00\n0.0", "12:01:00\n0.1", "12:02:00\n0.2"]
    assert [axes.get_ylabel() for axes in figure.axes] == ["camera b", "camera a", ""]
    assert figure.get_suptitle() == "person 7: 3 sightings, 2026-01-31"


def test_of_many_the_first_and_the_last_are_among_the_sixteen_that_are_drawn():
    seen = [Seen(GREY, None, NOON + timedelta(hours=i)) for i in range(60)]
    figure = timeline("person 1", seen)
    labels = [axes.get_xlabel() for axes in figure.axes]
    assert len(labels) == 16 and labels[0] == "01-31 12:00" and labels[-1] == "02-02 23:00"
    assert figure.get_suptitle() == "person 1: 60 sightings, 16 of them"
    assert figure.axes[0].get_ylabel() == "camera unknown"
    with pytest.raises(ValueError, match="at least one sighting"):
        timeline("nobody", [])
