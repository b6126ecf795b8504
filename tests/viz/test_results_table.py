"""The table of results, and the sentence on the second stage."""

import math

import pytest

from cace_pyg.viz.report import results_table, second_stage_verdict


def _results(first: dict, second: dict) -> dict:
    return {"individual": first, "two_stage": second}


def test_a_worse_second_stage_is_said() -> None:
    results = _results({"mAP": 0.664, "rank1": 0.7}, {"mAP": 0.661, "rank1": 0.8})
    assert second_stage_verdict(results) == "The second stage did not help here: −0.3 mAP."


def test_an_equal_second_stage_did_not_help_either() -> None:
    for second in (0.664, 0.6643, 0.6637):
        verdict = second_stage_verdict(_results({"mAP": 0.664}, {"mAP": second}))
        assert verdict == "The second stage did not help here: ±0.0 mAP."


def test_a_gain_names_what_it_cost() -> None:
    results = _results({"mAP": 0.66, "rank1": 0.755, "mINP": 0.3}, {"mAP": 0.73, "rank1": 0.75, "mINP": 0.4})
    verdict = second_stage_verdict(results)
    assert verdict.startswith("The second stage helped here: +7.0 mAP, but Rank-1 −0.5. ")
    assert "several seeds" in verdict and "mINP" not in verdict


def test_without_both_stages_there_is_no_verdict() -> None:
    assert second_stage_verdict({}) == ""
    assert second_stage_verdict({"individual": {"mAP": 0.5}}) == ""
    assert second_stage_verdict(_results({"mAP": 0.5}, {"mAP": math.nan})) == ""


def test_percent_difference_and_best_in_bold() -> None:
    results = _results({"rank1": 0.8, "mAP": 0.664, "mINP": 0.3}, {"rank1": 0.8, "mAP": 0.661, "mINP": math.nan})
    head, first, second, difference = results_table(results).split("<tr")[1:]
    assert head.index("mAP") < head.index("Rank-1") < head.index("mINP")
    assert "<td><b>66.4</b></td><td>80.0</td><td>30.0</td>" in first
    assert "<td>66.1</td><td>80.0</td><td>–</td>" in second
    assert "<td>−0.3</td><td>±0.0</td><td>–</td>" in difference


def test_one_stage_alone_has_no_difference_and_no_best() -> None:
    table = results_table({"individual": {"mAP": 0.5, "<odd>": 0.1}})
    assert "difference" not in table and "<b>" not in table and "&lt;odd&gt;" in table


@pytest.mark.parametrize("value", [66.4, -0.1, math.inf])
def test_percent_in_place_of_fractions_is_refused(value: float) -> None:
    with pytest.raises(ValueError, match="mAP of 'individual' as a fraction"):
        results_table({"individual": {"mAP": value}})
