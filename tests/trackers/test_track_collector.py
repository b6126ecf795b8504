"""From numbered boxes to finished tracks, with pictures that are the frame's own pixels."""

from types import SimpleNamespace

import numpy as np
import pytest

from cace_pyg.trackers import Track, TrackCollector, crop_boxes

FRAME = np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8)


def numbered(*boxes):
    """Detections: a number and a box each."""
    ids = np.array([box[0] for box in boxes], dtype=int)
    return SimpleNamespace(xyxy=np.array([box[1:] for box in boxes], dtype=float).reshape(-1, 4), tracker_id=ids)


def test_a_crop_is_the_frames_own_pixels_in_rgb():
    inside, cut, outside = crop_boxes(FRAME, [[10.4, 5.6, 20.2, 30], [70, -9, 99, 8], [90, 0, 99, 9]])
    assert np.array_equal(inside, FRAME[6:30, 10:20, ::-1])
    assert np.array_equal(cut, FRAME[0:8, 70:80, ::-1])
    assert outside is None
    assert np.array_equal(crop_boxes(FRAME, [[10, 6, 20, 30]], "rgb")[0], FRAME[6:30, 10:20])
    assert crop_boxes(FRAME, []) == []


@pytest.mark.parametrize(
    ("frame", "boxes", "order", "words"),
    [
        (FRAME / 255, [[0, 0, 9, 9]], "bgr", r"a frame as a uint8 array .*got float64 \(60, 80, 3\)"),
        ("frame.jpg", [[0, 0, 9, 9]], "bgr", "a frame as a uint8 array .*got str"),
        (FRAME, [[0, 0, 9, 9, 0.5]], "bgr", r"boxes x0, y0, x1, y1 .*got shape \(1, 5\)"),
        (FRAME, [[0, 0, 9, np.nan]], "bgr", "boxes x0, y0, x1, y1 of finite numbers"),
        (FRAME, [[0, 0, 9, 9]], "gbr", "the channel order 'bgr' or 'rgb' .got 'gbr'"),
    ],
)
def test_what_is_no_frame_or_no_box_is_refused(frame, boxes, order, words):
    with pytest.raises(ValueError, match=words):
        crop_boxes(frame, boxes, order)


def test_a_track_is_finished_once_it_was_not_seen_for_as_long_as_the_patience():
    collector = TrackCollector("door", patience=2, shortest=2)
    for time in (10.0, 11.0, 12.0):
        assert collector.update(FRAME, numbered((7, 0, 0, 9, 20), (8, 30, 0, 39, 20)), time) == []
    assert collector.update(FRAME, numbered((8, 30, 0, 39, 20)), 13.0) == []
    (gone,) = collector.update(FRAME, numbered((8, 30, 0, 39, 20), (9, 50, 0, 60, 20)), 14.0)
    assert (gone.camera, gone.tracker_id, gone.start, gone.end, len(gone.pictures)) == ("door", 7, 10.0, 12.0, 3)
    (left,) = collector.finish()  # number 9 was seen once
    assert (left.tracker_id, left.start, left.end) == (8, 10.0, 14.0)
    assert collector.finish() == []


def test_frames_out_of_order_are_refused():
    collector = TrackCollector()
    collector.update(FRAME, numbered((1, 0, 0, 9, 20)), 5.0)
    for time in (4.0, float("nan")):
        with pytest.raises(ValueError, match=r"frames in time order \(got .* after 5.0\)"):
            collector.update(FRAME, numbered((1, 0, 0, 9, 20)), time)


def test_boxes_that_are_not_confirmed_or_lie_outside_are_no_pictures():
    collector = TrackCollector(shortest=1)
    collector.update(FRAME, numbered((-1, 0, 0, 9, 9), (3, 90, 0, 99, 9), (4, 0, 0, 9, 9)), 0.0)
    assert [track.tracker_id for track in collector.finish()] == [4]


def test_a_long_track_keeps_few_views_spread_over_its_time():
    collector = TrackCollector(views=4, channel_order="rgb")
    for time in range(100):
        collector.update(np.full_like(FRAME, time), numbered((1, 0, 0, 9, 20)), time)
    (track,) = collector.finish()
    kept = [int(picture[0, 0, 0]) for picture in track.pictures]
    assert 2 <= len(kept) <= 4 and kept == sorted(kept)
    assert kept[0] < 40 and kept[-1] >= 60


def test_of_several_moments_the_one_that_others_cover_least_is_kept():
    collector = TrackCollector(views=2, channel_order="rgb")
    for time, other in enumerate((0, 5, 40, 0, 0, 0)):  # far away at time 2 alone
        collector.update(np.full_like(FRAME, time), numbered((1, 0, 0, 10, 20), (2, other, 0, other + 10, 20)), time)
    track = next(track for track in collector.finish() if track.tracker_id == 1)
    assert 2 in [int(picture[0, 0, 0]) for picture in track.pictures]


def test_boxes_without_numbers_are_refused():
    with pytest.raises(ValueError, match="a tracker_id .got none.*let a tracker number them"):
        TrackCollector().update(FRAME, SimpleNamespace(xyxy=np.zeros((1, 4)), tracker_id=None), 0.0)
    empty = SimpleNamespace(xyxy=np.empty((0, 4)), tracker_id=None)
    assert TrackCollector().update(FRAME, empty, 0.0) == []
    with pytest.raises(
        ValueError, match=r"patience and shortest of at least 1, and views of at least 2 \(got 0, 3 and 12\)"
    ):
        TrackCollector(patience=0)


def test_a_track_has_pictures_and_does_not_end_before_it_starts():
    with pytest.raises(ValueError, match="the pictures of a track in a list"):
        Track("a.jpg")
    with pytest.raises(ValueError, match="the pictures of a track in a list"):
        Track([])
    with pytest.raises(ValueError, match=r"ends after it starts \(got 5 to 4\)"):
        Track(["a.jpg"], start=5, end=4)
    assert Track(["a.jpg"], "x", 0, 4).overlaps(Track(["b.jpg"], "x", 4, 9))
    assert not Track(["a.jpg"], "x", 0, 4).overlaps(Track(["b.jpg"], "x", 5, 9))
    assert not Track(["a.jpg"], "x").overlaps(Track(["b.jpg"], "x", 0, 9))


def test_detections_of_supervision_are_taken_as_they_are():
    supervision = pytest.importorskip("supervision")
    boxes = np.array([[10.4, 5.5, 20.2, 30], [-3, 2, 8.5, 99]], dtype=np.float32)
    found = supervision.Detections(xyxy=boxes, tracker_id=np.array([5, 6]))
    collector = TrackCollector("door", shortest=1)
    collector.update(FRAME, found, 0.0)
    collector.update(FRAME, supervision.Detections.empty(), 1.0)
    first, second = collector.finish()
    for box, track in zip(boxes, (first, second), strict=True):
        assert np.array_equal(track.pictures[0], supervision.crop_image(FRAME, box)[..., ::-1])


def test_bytetrack_of_the_package_trackers_numbers_what_is_collected():
    supervision, trackers = pytest.importorskip("supervision"), pytest.importorskip("trackers")
    collector, tracker = TrackCollector("door"), trackers.ByteTrackTracker()
    for time in range(20):
        boxes = np.array([[time, 5, time + 20, 50]], dtype=np.float32)
        found = supervision.Detections(xyxy=boxes, confidence=np.array([0.9]), class_id=np.array([0]))
        collector.update(FRAME, tracker.update(found), time)
    (track,) = collector.finish()
    assert track.tracker_id >= 0 and track.end == 19 and track.start <= 5
