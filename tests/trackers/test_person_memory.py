"""Who came back: what tracks are compared by, who may be one person, and from where on two are."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from cace_pyg.gallery.embedder import Embedder
from cace_pyg.retrieval import Calibration
from cace_pyg.trackers import PersonMemory, Track
from tests.random_checkpoint import make_checkpoint

CALIBRATION = Calibration(
    form="logistic", knots=((0.0, 4.0), (1.0, -4.0)), weight=0.5, pairs=40, matches=20, people=9, gallery=20, error=0.0,
    unknown=tuple((at / 10, 1.0) for at in range(1, 10)), scores=(0.0, 2.0),
)  # fmt: skip


@pytest.fixture
def embedder(tiny, tmp_path):
    return Embedder(make_checkpoint(tmp_path / "best.ckpt", tiny))


@pytest.fixture
def pictures(tiny):
    """Those of each test person, by number."""
    found: dict[int, list[str]] = {}
    for path in sorted((tiny / "bounding_box_test").glob("0*.jpg")):
        if (pid := int(path.name[:4])) > 0:
            found.setdefault(pid, []).append(str(path))
    return list(found.values())


def memory_of(embedder, below=0.5, **options):
    """One in which every track nearer than ``below`` is the same person."""
    memory = PersonMemory(embedder, false_alarms=0.1, **options)
    memory.calibration = replace(CALIBRATION, weight=memory.fusion_weight, unknown=((below, 9.0),))
    return memory


@pytest.mark.parametrize("weight", [0.0, 0.3, None])
def test_tracks_are_as_far_apart_as_their_views_are_on_average(embedder, pictures, weight):
    memory = memory_of(embedder, fusion_weight=weight)
    first, second = pictures[0][:3], pictures[1][:2]
    memory.see(Track(first))
    found = memory.see(Track(second))
    a, b = embedder(second), embedder(first)
    share, stage = embedder.fusion_weight if weight is None else weight, embedder.model.pair_stage
    distances = []
    for i in range(2):
        for j in range(3):
            individual = float((a.embedding[i].double() - b.embedding[j].double()).norm())
            with torch.no_grad():
                pair = a.prepared.select(slice(i, i + 1)), b.prepared.select(slice(j, j + 1))
                conditional = float(stage.distance(*(operand.to(embedder.device) for operand in pair)))
            distances.append((1 - share) * individual + share * conditional)
    assert found.distance == pytest.approx(np.mean(distances), abs=1e-5)
    assert found.probability == pytest.approx(float(CALIBRATION.probability(np.mean(distances))), abs=1e-4)
    assert (found.nearest, list(found.evidence.pictures)) == (1, first)


def test_whoever_is_near_enough_is_known_and_everybody_else_is_new(embedder, pictures):
    memory = memory_of(embedder, below=2.0)
    assert memory.see(Track(pictures[0])).is_new
    back = memory.see(Track(pictures[1]))
    assert (back.person, back.is_new, len(memory)) == (1, False, 1)
    strict = memory_of(embedder, below=back.distance)  # at the threshold itself he is unknown
    strict.see(Track(pictures[0]))
    other = strict.see(Track(pictures[1]))
    assert (other.person, other.is_new, other.nearest, len(strict)) == (2, True, 1, 2)
    assert other.distance == back.distance


def test_of_several_people_the_one_with_the_nearest_track_is_taken(embedder, pictures):
    memory = memory_of(embedder, below=1e-6)
    for own in pictures[:4]:
        memory.see(Track(own[:2]))
    memory.calibration = memory_of(embedder, below=2.0).calibration
    for number, own in enumerate(pictures[:4], start=1):
        assert memory.see(Track(own[:2])).person == number


@pytest.mark.parametrize(
    ("camera", "start", "apart", "same"),
    [
        ("a", 10, False, True),
        ("a", 4, False, False),
        ("b", 4, False, True),
        ("b", 4, True, False),
        ("b", 6, True, True),
    ],
)
def test_nobody_is_at_two_places_at_once(embedder, pictures, camera, start, apart, same):
    memory = memory_of(embedder, below=2.0, apart=apart)
    memory.see(Track(pictures[0], "a", 0, 5))
    found = memory.see(Track(pictures[0], camera, start, start + 9))
    assert found.is_new is not same and (found.probability is None) is not same


def test_a_person_is_elsewhere_with_all_his_tracks(embedder, pictures):
    memory = memory_of(embedder, below=2.0)
    memory.see(Track(pictures[0], "a", 0, 5))
    assert memory.see(Track(pictures[0], "a", 8, 20)).person == 1
    assert memory.see(Track(pictures[0], "a", 10, 30)).person == 2  # his first track was over, his second was not


def test_a_track_without_a_time_may_be_anybody(embedder, pictures):
    memory = memory_of(embedder, below=2.0)
    memory.see(Track(pictures[0], "a"))
    assert memory.see(Track(pictures[0], "a", 0, 5)).person == 1


def test_the_views_are_spread_over_a_long_track(embedder, pictures):
    memory = memory_of(embedder, below=2.0, views=2)
    memory.see(Track(pictures[0] + pictures[1]))
    several = pictures[0] + pictures[1]
    kept = list(memory.see(Track(pictures[2])).evidence.pictures)
    assert [several.index(view) for view in kept] == [len(several) // 4, 3 * len(several) // 4]


def test_whoever_is_forgotten_is_new_again_under_another_number(embedder, pictures):
    memory = memory_of(embedder, below=1e-6)
    for number, own in enumerate(pictures[:3]):
        memory.see(Track(own, "a", 10 * number, 10 * number + 5))
    assert memory.forget([2]) == 1 and memory.forget(before=6) == 1 and len(memory) == 1
    assert memory.see(Track(pictures[0], "a", 50, 60)).person == 4
    assert memory.forget([9]) == 0


def test_calibration_looks_every_track_up_among_all_others_and_remembers_none(embedder, pictures):
    times = [(0, 10), (0, 10), (20, 30), (20, 30)]  # two people are there at once, and two later
    tracks = [
        Track(own[at : at + 2], "a", time, time + 1)
        for own, seen in zip(pictures, times, strict=False)
        for at, time in zip((0, 2), seen, strict=True)
    ]
    memory = PersonMemory(embedder)
    found = memory.calibrate(tracks, [name for name in "wxyz" for _ in range(2)])
    # each is compared with the other track of his own, and with four of those who came at another time
    assert (found.pairs, found.matches, found.people, found.gallery) == (8 * 5, 8, 4, 4)
    assert found.weight == memory.fusion_weight and memory.calibration is found and len(memory) == 0


def test_what_cannot_be_answered_is_refused_and_nothing_is_remembered(embedder, pictures):
    memory = PersonMemory(embedder)
    with pytest.raises(ValueError, match="no calibration for the fusion weight 0.5.*memory.calibrate"):
        memory.see(Track(pictures[0]))
    memory = memory_of(embedder)
    memory.false_alarms = 0.01
    with pytest.raises(ValueError, match=r"at least 0.10 .got 0.01.*; or memory.forget.before=…. some of the 0 tracks"):
        memory.see(Track(pictures[0]))
    assert len(memory) == 0
    with pytest.raises(ValueError, match=r"a label for each of 1 tracks \(got shape \(2,\)\)"):
        memory.calibrate([Track(pictures[0])], [1, 2])
    with pytest.raises(ValueError, match=r"labelled tracks, two or more of each person \(got none\)"):
        memory.calibrate([], [])
    with pytest.raises(ValueError, match=r"views and first_stage of at least 1 \(got 0 and 20\)"):
        PersonMemory(embedder, views=0)
    with pytest.raises(ValueError, match=r"a fusion weight in \[0, 1\] \(got 2\)"):
        PersonMemory(embedder, fusion_weight=2)


def test_a_checkpoint_brings_its_own_calibration_and_one_stage_has_none_of_it(trained, pictures):
    both, first_stage = PersonMemory(trained.best), PersonMemory(trained.best, fusion_weight=0.0)
    if both.fusion_weight:
        assert both.calibration == both.embedder.calibration is not None and first_stage.calibration is None
    else:
        assert both.calibration == first_stage.calibration == first_stage.embedder.calibration
