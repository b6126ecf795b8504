"""The figure of an ablation."""

import pytest

from cace_pyg.viz import AblationGain, ablation_gains


def gain(name="+ graph", **changes):
    row = AblationGain(name, (4.0, 2.0, 6.0), (3.0, 1.0, 5.0), (3.5, 4.5), (2.0, 4.0), (4.26, 3.05), False)
    return row._replace(**changes)


def test_means_intervals_seeds_and_the_papers_gain_are_drawn():
    figure = ablation_gains([gain("no graph", is_control=True, paper=None), gain()], "T")
    left, right = figure.axes
    assert [label.get_text() for label in left.get_yticklabels()] == ["no graph", "+ graph"]
    assert [bar.get_width() for bar in left.patches] == [4.0, 4.0] and [bar.get_width() for bar in right.patches] == [
        3,
        3,
    ]
    drawn = [
        line.get_xdata().tolist() if hasattr(line.get_xdata(), "tolist") else list(line.get_xdata())
        for line in left.lines
    ]
    assert [2.0, 6.0] in drawn and [3.5, 4.5] in drawn and [4.26] in drawn
    labels = {text.get_text() for text in figure.legends[0].get_texts()}
    assert labels == {"mean over seeds", "95 % interval over queries", "a seed", "the paper's gain"}


def test_nothing_to_draw_and_no_numbers_are_refused():
    with pytest.raises(ValueError, match="at least one row"):
        ablation_gains([], "T")
    with pytest.raises(ValueError, match="finite gains"):
        ablation_gains([gain(mAP=(float("nan"), 0, 1))], "T")
