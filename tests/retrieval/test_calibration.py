"""From distances to probabilities and thresholds."""

import io
import json

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy.optimize import brute
from scipy.special import expit
from scipy.stats import kstest

from cace_pyg.retrieval import Calibration, expected_calibration_error, fit_calibration

FORMS = ("logistic", "isotonic")


def made(**changed):
    """By hand: log-odds 4 at 0 and −4 at 1, nine unknown people at 0.1 to 0.9."""
    values = {
        "form": "logistic", "knots": ((0.0, 4.0), (1.0, -4.0)), "weight": 0.5, "pairs": 100, "matches": 10, "people": 9,
        "gallery": 200.0, "error": 0.01, "unknown": tuple((k / 10, 1.0) for k in range(1, 10)),
        "scores": tuple(np.linspace(0, 2, 101).tolist()),
    }  # fmt: skip
    return Calibration(**(values | changed))


def pairs(people=40, queries=2, near=30, seed=0):
    """Pairs whose log-odds are 6 − 10·distance, by construction."""
    draw = np.random.default_rng(seed)
    query = np.repeat(np.arange(people * queries), near)
    distance = draw.uniform(0, 1.4, len(query))
    same = draw.random(len(query)) < expit(6 - 10 * distance)
    return distance, same, query, np.arange(people * queries) // queries + 1


def fitted(form="logistic", seed=0, **options):
    distance, same, query, pids = pairs(seed=seed, **options)
    return fit_calibration(distance, same, query, pids, distance, gallery=500, weight=0.25, form=form)


def test_the_worked_example():
    found = made()
    assert found.probability([0, 0.5, 1]) == pytest.approx([0.982, 0.5, 0.018], abs=5e-4)
    assert found.probability([0, 0.5, 1], gallery=2000) == pytest.approx([0.845, 0.0909, 0.0018], abs=5e-4)
    assert found.probability([0.3], gallery=20) == found.probability([0.3])  # fewer pictures raise nothing


@pytest.mark.parametrize("form", FORMS)
@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.tuples(st.floats(0, 3), st.booleans()), min_size=4, max_size=60),
    st.lists(st.floats(-1, 5), min_size=2, max_size=20),
)
@example([(0.65625, False), (0.6875, False), (0.6875, False), (0.65625, True)], [0.0, 5.0])  # log-odds beyond 40
def test_probability_never_rises_with_the_distance(form, drawn, asked):
    distance, same = (np.array(column) for column in zip(*drawn, strict=True))
    same[:2] = True, False
    query = np.arange(len(same)) % 4
    found = fit_calibration(distance, same, query, [1, 1, 2, 3], [0.5, 1], gallery=10, weight=0, form=form)
    probability = found.probability(np.sort(asked))
    assert (np.diff(probability) <= 1e-12).all() and ((probability > 0) & (probability < 1)).all()


@pytest.mark.parametrize("form", FORMS)
def test_the_true_curve_is_found(form):
    found = fitted(form, people=300)
    asked = np.linspace(0.2, 1.0, 9)
    assert found.probability(asked) == pytest.approx(expit(6 - 10 * asked), abs=0.05)
    distance, same, *_ = pairs(people=300, seed=1)
    assert expected_calibration_error(found.probability(distance), same) < 0.02 and found.error < 0.02


def test_the_logistic_curve_has_the_best_likelihood_of_all():
    """Against a search over a grid, with Platt's targets (1999, §2.2)."""
    distance, same, *_ = pairs(people=5, seed=4)
    target = np.where(same, (same.sum() + 1) / (same.sum() + 2), 1 / ((~same).sum() + 2))

    def loss(line):
        log_odds = line[0] + line[1] * distance
        return -(target * np.log(expit(log_odds)) + (1 - target) * np.log(expit(-log_odds))).mean()

    found = fitted(people=5, seed=4)
    (first, at_zero), (last, at_one) = found.knots
    assert (first, last) == (0.0, 1.0)
    best = brute(loss, ((at_zero - 2, at_zero + 2), (at_one - at_zero - 2, at_one - at_zero + 2)), Ns=25)
    assert (at_zero, at_one - at_zero) == pytest.approx(tuple(best), abs=1e-3)


def test_the_isotonic_curve_is_the_pooled_shares():
    """Distances 1, 2, 3, 4 of pairs [same, other, same, other]: 2 and 3 are pooled to a half."""
    same, query = [True, False, True, False], [0, 1, 2, 3]
    found = fit_calibration([1, 2, 3, 4], same, query, [1, 1, 2, 2], [1.0], gallery=4, weight=0, form="isotonic")
    assert found.probability([1, 2, 2.5, 3, 4, 9]) == pytest.approx([5 / 6, 0.5, 0.5, 0.5, 1 / 6, 1 / 6])


def test_a_distance_that_says_nothing_gives_the_share_of_matches():
    distance, same = np.tile([0.2, 0.8], 50), np.repeat([True, False], 50)
    found = fit_calibration(distance, same, np.arange(100) % 10, np.arange(10), distance, gallery=9, weight=0)
    assert found.probability([0.0, 0.5, 1.0]) == pytest.approx([0.5] * 3, abs=1e-3)
    wrong_way = fit_calibration(same.astype(float), same, np.arange(100) % 10, np.arange(10), distance, 9, 0)
    assert wrong_way.probability([0.0, 1.0]) == pytest.approx([0.5, 0.5], abs=1e-3)  # it never rises


def test_it_says_what_it_rests_on():
    distance, same, query, _ = pairs(people=12)
    found = fitted(people=12)
    assert (found.pairs, found.matches, found.people) == (len(distance), same.sum(), 12)
    assert (found.gallery, found.weight) == (500, 0.25)
    for at, (best, share) in enumerate(found.unknown):
        assert share == 0.5 and best >= found.unknown[max(at - 1, 0)][0]
    nearest = sorted(min(distance[(query == number) & ~same]) for number in range(24))
    assert [best for best, _ in found.unknown] == pytest.approx(nearest)


def test_thresholds_of_the_worked_example():
    assert made().threshold(0.1) == 0.1 and made().threshold(0.2) == 0.2 and made().threshold(0.25) == 0.2
    assert made().threshold(0.95) == 0.9


def test_at_most_the_rate_of_strangers_comes_below_the_threshold():
    """Over many sets of 49 people, the next one from the same crowd; some have one query, others three."""
    draw = np.random.default_rng(5)
    alarms = {rate: [] for rate in (0.02, 0.1, 0.3)}
    for _ in range(2000):
        own = draw.normal(size=50)
        best = [(float(own[i] + draw.normal()), 1 / n) for i in range(49) for n in [1 + 2 * (i % 2)] for _ in range(n)]
        found = made(unknown=tuple(sorted(best)))
        for rate, seen in alarms.items():
            seen.append(own[49] + draw.normal() < found.threshold(rate))
    for rate, seen in alarms.items():
        assert rate - 4 * np.sqrt(rate / 2000) - 0.02 < np.mean(seen) < rate + 4 * np.sqrt(rate / 2000)


def test_a_larger_gallery_gives_strangers_more_chances():
    """The best of k independent galleries: P(below) = 1 − (1 − rate)^k."""
    found = made()
    assert found.threshold(1 - 0.8**3, gallery=600) == pytest.approx(found.threshold(0.2))
    assert found.threshold(0.2, gallery=20) == found.threshold(0.2)
    assert found.smallest_rate() == pytest.approx(0.1) and found.smallest_rate(400) == pytest.approx(1 - 0.9**2)


def test_a_rate_that_so_few_people_cannot_answer_for_is_refused_with_what_they_can():
    with pytest.raises(ValueError, match=r"of at least 0\.10.*got 0\.01.*rests on 9 people.*on 99 people or more"):
        made().threshold(0.01)
    assert made().threshold(0.1) == 0.1
    with pytest.raises(ValueError, match=r"of at least 0\.19 .*2 times as large.*on 199 people"):
        made().threshold(0.01, gallery=400)
    for wrong in (0, 1, -0.1, float("nan"), "abc"):
        with pytest.raises(ValueError, match="in .0, 1., such as 0.01"):
            made().threshold(wrong)


def test_the_rate_that_is_named_is_allowed():
    for people in (3, 9, 74, 750):
        for gallery in (None, 333, 5000):
            found = made(unknown=tuple((k / 1000, 1.0) for k in range(1, people + 1)))
            with pytest.raises(ValueError, match="of at least|no rate of false alarms") as refused:
                found.threshold(1e-9, gallery)
            assert (found.smallest_rate(gallery) > 0.995) == ("no rate" in str(refused.value))
            if found.smallest_rate(gallery) <= 0.995:
                named = float(str(refused.value).split("of at least ")[1].split()[0])
                assert np.isfinite(found.threshold(named, gallery))


@pytest.mark.parametrize("form", FORMS)
def test_it_goes_through_json_and_a_checkpoint(form):
    found = fitted(form, people=6)
    assert Calibration.from_dict(json.loads(json.dumps(found.as_dict()))) == found
    file = io.BytesIO()
    torch.save({"calibration": found.as_dict()}, file)
    file.seek(0)
    assert Calibration.from_dict(torch.load(file, weights_only=True)["calibration"]) == found
    assert json.dumps(found.summary())


@pytest.mark.parametrize(
    "changed",
    [
        {"form": "linear"}, {"knots": ((0.0, 1.0), (1.0, 2.0))}, {"knots": ((0.0, 1.0),)}, {"knots": "abc"},
        {"knots": ((0.0, float("nan")), (1.0, 0.0))}, {"unknown": ()}, {"scores": (1.0, 0.0)}, {"gallery": 0.0},
        {"weight": 2.0}, {"pairs": None},
    ],
)  # fmt: skip
def test_what_is_no_calibration_is_refused(changed):
    with pytest.raises(ValueError, match="Expected a calibration"):
        Calibration.from_dict(made().as_dict() | changed)


def test_other_things_than_a_calibration_are_refused():
    for wrong in (None, 3, {}, {"form": "logistic"}):
        with pytest.raises(ValueError, match="Expected a calibration with"):
            Calibration.from_dict(wrong)


def test_pairs_that_nothing_can_be_learned_from_are_refused():
    with pytest.raises(ValueError, match="held out of the training .got 0 of one, 0 of two, from 0 people"):
        fit_calibration([], [], [], [], [0.1], gallery=1, weight=0)
    with pytest.raises(ValueError, match="got 0 of one, 3 of two, from 2 people"):
        fit_calibration([1, 2, 3], [0, 0, 0], [0, 1, 1], [5, 6], [0.1], gallery=1, weight=0)
    with pytest.raises(ValueError, match="from 1 people"):
        fit_calibration([1, 2], [1, 0], [0, 0], [5], [0.1], gallery=1, weight=0)
    with pytest.raises(ValueError, match="NaN"):
        fit_calibration([1, np.nan], [1, 0], [0, 1], [5, 6], [0.1], gallery=1, weight=0)
    with pytest.raises(ValueError, match="'logistic' or 'isotonic'"):
        fit_calibration([1, 2], [1, 0], [0, 1], [5, 6], [0.1], gallery=1, weight=0, form="spline")
    with pytest.raises(ValueError, match="for each pair"):
        fit_calibration([1, 2, 3], [1, 0], [0, 1], [5, 6], [0.1], gallery=1, weight=0)


def test_distances_that_are_no_numbers_are_refused():
    for wrong in (np.nan, np.inf):
        with pytest.raises(ValueError, match="finite distances"):
            made().probability([0.1, wrong])
    with pytest.raises(ValueError, match="at least one picture"):
        made().probability([0.1], gallery=0)


def test_the_drift_is_the_kolmogorov_smirnov_distance():
    found = made(scores=tuple(np.linspace(0, 1, 101).tolist()))
    draw = np.random.default_rng(2)
    assert found.drift(draw.random(5000)) < 0.03
    assert found.drift(0.3 + draw.random(5000)) == pytest.approx(0.3, abs=0.03)
    assert found.drift([5.0, 6.0]) == 1.0 and found.drift([0.5]) == pytest.approx(0.5)
    sample = draw.random(40) ** 2
    assert found.drift(sample) == pytest.approx(kstest(sample, "uniform").statistic)
    with pytest.raises(ValueError, match="finite distances of some pairs"):
        found.drift([])


def test_a_gallery_in_which_every_stranger_would_come_near_is_told_so():
    with pytest.raises(ValueError, match="no rate of false alarms is possible.* 9 people.*100 times as large"):
        made().threshold(0.5, gallery=20000)
    assert made().summary(400)["smallest_false_alarms"] == pytest.approx(1 - 0.9**2)
