"""The training log as curves."""

import numpy as np
import pytest

from cace_pyg.viz import loss_curves


def _log() -> list[dict]:
    joint = [
        {
            "epoch": e,
            "phase": "joint",
            "learning_rate": 0.02,
            "identity": 6 / e,
            "pair_triplet": 0.3,
            "validation_mAP": None,
        }
        for e in (1, 2, 3)
    ]
    pair = [
        {
            "epoch": e,
            "phase": "pair",
            "learning_rate": "0.001",
            "identity": "",
            "pair_triplet": "0.2",
            "validation_mAP": ".7",
        }
        for e in (4, 5)
    ]
    return joint + pair


def _known(line) -> list[float]:
    return [float(y) for y in line.get_ydata() if np.isfinite(y)]


def test_panels_lines_and_blanks() -> None:
    losses, validation, rate = loss_curves(_log()).axes
    lines = {line.get_label(): line for line in losses.lines}
    assert _known(lines["identity"]) == [6, 3, 2]
    assert _known(lines["pair_triplet"]) == [0.3, 0.3, 0.3, 0.2, 0.2]
    assert _known(validation.lines[0]) == [70, 70]
    assert list(rate.lines[0].get_ydata()) == [0.02] * 3 + [0.001] * 2


def test_density_has_a_panel_of_its_own_and_is_no_loss() -> None:
    log = [row | {"density_inter": 0.25 if row["phase"] == "pair" else None} for row in _log()]
    losses, _, density, _ = loss_curves(log).axes
    assert {line.get_label() for line in losses.lines} >= {"identity", "pair_triplet"}
    assert "density_inter" not in {line.get_label() for line in losses.lines}
    assert _known(density.lines[0]) == [25, 25] and "%" in density.get_ylabel()


def test_phase_change_is_a_vertical_line_in_every_panel_and_breaks_the_losses() -> None:
    figure = loss_curves(_log())
    for axes in figure.axes:
        assert [list(line.get_xdata()) for line in axes.lines].count([3.5, 3.5]) == 1
    broken = next(line for line in figure.axes[0].lines if line.get_label() == "pair_triplet")
    assert np.isnan(broken.get_ydata()[3])
    assert [text.get_text() for text in figure.axes[0].texts] == ["joint phase", "pair phase"]


def test_without_validation_there_is_no_panel_for_it() -> None:
    row = {"epoch": 1, "phase": "joint", "learning_rate": 0.1, "identity": 2.0}
    log = [row | {"validation_fusion_weight": 0.5, "seconds": 9}]
    figure = loss_curves(log)
    assert [axes.get_ylabel() for axes in figure.axes] == ["loss", "learning rate"]
    assert len(figure.axes[0].lines) == 1


def test_epochs_that_start_again_are_counted_through() -> None:
    log = _log()
    log[3]["epoch"], log[4]["epoch"] = 1, 2
    axes = loss_curves(log).axes
    assert list(axes[-1].lines[0].get_xdata()) == [1, 2, 3, 4, 5]
    assert "counted" in axes[-1].get_xlabel()


def test_a_phase_of_one_epoch_gets_a_marker() -> None:
    line = next(line for line in loss_curves(_log()[:4]).axes[0].lines if line.get_label() == "pair_triplet")
    assert len(line.get_xdata()) == 5 and 4 in line.get_markevery()


def test_log_scale_only_where_losses_lie_far_apart_and_are_positive() -> None:
    rows = [{"epoch": 1, "phase": "joint", "learning_rate": 0.1, "identity": 6.0, "triplet": 0.01}]
    assert loss_curves(rows).axes[0].get_yscale() == "log"
    assert loss_curves([rows[0] | {"triplet": 0.0}]).axes[0].get_yscale() == "linear"


def test_steps_of_the_learning_rate_get_a_log_axis_and_a_cosine_does_not() -> None:
    def scale(*rates: float) -> str:
        rows = [{"epoch": e, "phase": "joint", "learning_rate": r, "identity": 1.0} for e, r in enumerate(rates)]
        return loss_curves(rows).axes[-1].get_yscale()

    assert scale(0.1, 0.01, 0.001) == "log"
    assert scale(0.1, 0.05, 1e-7) == scale(0.1, 0.0) == "linear"


@pytest.mark.parametrize(
    ("log", "words"),
    [
        ([], "at least one row of log.csv"),
        ([{"phase": "joint", "identity": 1.0}], "'epoch' in every row"),
        ([{"epoch": 1, "phase": "", "identity": 1.0}], "'phase' in every row"),
        ([{"epoch": 1, "phase": "joint", "learning_rate": 0.1, "identity": "much"}], "'identity' of the log"),
        ([{"epoch": 1, "phase": "joint", "learning_rate": 0.1, "identity": ""}], "a loss term"),
    ],
)
def test_a_log_that_cannot_be_drawn_is_named(log: list[dict], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        loss_curves(log)
