"""The rendered scene, the tracker by overlap, and what is measured of both."""

from dataclasses import replace

import numpy as np
import pytest

from benchmarks.iou_tracker import IouTracker, overlaps
from benchmarks.rendered_scene import HEIGHT, WIDTH, SceneSettings, walk_through

LITTLE = SceneSettings(people=4, family_size=2, cameras=2, visits=2, visit=10, length=30, seed=3)


@pytest.fixture(scope="module")
def frames():
    return list(walk_through(LITTLE))


def test_everybody_walks_through_a_camera_as_often_as_he_should_and_is_nowhere_twice(frames):
    seen = {(int(person), frame.time): frame.camera for frame in frames for person in frame.people}
    assert sum(len(frame.people) for frame in frames) == len(seen)
    assert {person for person, _ in seen} == set(range(4))
    for person in range(4):
        halves = {time < 15 for who, time in seen if who == person}
        assert halves == {True, False}
    assert [frame.time for frame in frames] == sorted(frame.time for frame in frames)


def test_boxes_lie_in_the_frame_and_detections_near_the_truth(frames):
    for frame in frames:
        assert frame.picture.shape == (HEIGHT, WIDTH, 3) and frame.picture.dtype == np.uint8
        assert (frame.truth >= 0).all() and (frame.truth <= [WIDTH, HEIGHT, WIDTH, HEIGHT]).all()
        if len(frame.detections):
            assert (overlaps(frame.detections, frame.truth).max(1) > 0.6).all()


def test_a_scene_is_the_same_every_time_and_another_with_another_seed(frames):
    again = next(walk_through(LITTLE))
    assert np.array_equal(again.picture, frames[0].picture) and np.array_equal(again.detections, frames[0].detections)
    other = next(walk_through(replace(LITTLE, seed=4)))
    assert not np.array_equal(other.picture, frames[0].picture)


def test_overlap_is_intersection_over_union():
    a, b = np.array([[0.0, 0, 10, 10]]), np.array([[5.0, 0, 15, 10], [0, 0, 10, 10], [20, 20, 30, 30]])
    np.testing.assert_allclose(overlaps(a, b), [[50 / 150, 1, 0]])


def test_the_tracker_follows_who_goes_on_as_he_went_and_gives_who_comes_back_another_number():
    tracker = IouTracker(patience=2)
    towards, away = np.array([0.0, 0, 20, 40]), np.array([100.0, 0, 120, 40])
    for step in range(12):  # they meet in the middle
        numbers = tracker.update(np.stack([towards + 8 * step * np.array([1, 0, 1, 0]),
                                           away - 8 * step * np.array([1, 0, 1, 0])]))  # fmt: skip
        assert numbers.tolist() == [0, 1]
    for _ in range(3):
        assert tracker.update(np.empty((0, 4))).tolist() == []
    assert tracker.update(towards[None]).tolist() == [2]


def test_idf1_and_switches_are_those_of_the_joined_tracks():
    """One person in two tracks of ten frames each, and another in one of ten."""
    pytest.importorskip("motmetrics")
    from benchmarks.reassociation import Replay, measure
    from benchmarks.rendered_scene import Frame
    from cace_pyg.trackers import Track

    box = np.array([[0.0, 0, 10, 20]])
    frames = [Frame(0, time, np.empty(0), np.array([time // 20]), box, box) for time in range(30)]
    numbers = [np.array([time // 10]) for time in range(30)]
    tracks = [Track(["a.jpg"], "0", tracker_id=number) for number in range(3)]
    scene = Replay(tracks, [0, 0, 1], frames, numbers)
    assert measure(scene, [0, 0, 1]) == {"IDF1": 100, "switches": 0}
    assert measure(scene, [0, 1, 2]) == pytest.approx({"IDF1": 100 * 20 / 30, "switches": 1})
    assert measure(scene, [0, 0, 0]) == pytest.approx({"IDF1": 100 * 20 / 30, "switches": 0})


def test_a_replay_has_the_tracks_of_the_tracker_and_who_is_on_them():
    pytest.importorskip("motmetrics")
    from benchmarks.reassociation import measure, replay

    scene = replay(LITTLE)
    assert [track.end for track in scene.tracks] == sorted(track.end for track in scene.tracks)
    assert set(scene.pids) == set(range(4)) and len(scene.tracks) >= 6
    alone, joined = (measure(scene, persons) for persons in (range(len(scene.tracks)), scene.pids))
    assert joined["IDF1"] > alone["IDF1"] and joined["switches"] < alone["switches"]


def test_the_rate_is_chosen_on_scenes_that_are_not_measured():
    pytest.importorskip("motmetrics")
    from benchmarks.reassociation import chosen_rates, interval, report

    def row(part, name, rate, idf1):
        return {"part": part, "joined_by": name, "false_alarms": rate, "IDF1": idf1, "switches": 100 - idf1}

    rows = [
        row(part, name, rate, idf1)
        for name, at in (("one stage", (70, 60)), ("two stages", (65, 75)))
        for part, worth in (("choice", at), ("measured", at[::-1]))
        for rate, idf1 in zip((0.1, 0.4), worth, strict=True)
    ] + [row("measured", name, None, 50) for name in ("tracker alone", "truth of each track")]
    rates = chosen_rates(rows, (0.1, 0.4))
    assert rates == {"one stage": 0.1, "two stages": 0.4}  # the worse ones where it is measured
    assert "two stages, IDF1: +5.0 [+5.0, +5.0], better in 1 of 1 scenes" in report(rows, rates)
    low, high = interval(np.array([1.0, 2, 3, 4]))
    assert 1 <= low < 2.5 < high <= 4
