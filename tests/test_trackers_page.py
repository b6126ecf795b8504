"""docs/trackers.md: its programs run, those for other packages with the real ones where they are installed."""

import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from benchmarks.iou_tracker import IouTracker
from benchmarks.rendered_scene import SceneSettings, walk_through
from cace_pyg.trackers import Track

PAGE = (Path(__file__).parents[1] / "docs" / "trackers.md").read_text()
PROGRAMS = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
CHECKPOINT = '"runs/synthetic/checkpoints/best.ckpt"'


def program(word):
    (found,) = [program for program in PROGRAMS if word in program]
    return found


@pytest.fixture(scope="module")
def frames():
    settings = SceneSettings(people=4, family_size=2, cameras=2, visits=2, visit=10, length=40, seed=3)
    return list(walk_through(settings))


def test_its_program_reports_people_who_pass_two_cameras(trained, frames, capsys):
    names = ("entrance", "hall")
    trackers = {name: IouTracker() for name in names}
    detections = {(names[shown.camera], shown.time): shown.detections for shown in frames}

    def follow(camera, frame):
        boxes = detections[camera, frame[1]]
        return SimpleNamespace(xyxy=boxes, tracker_id=trackers[camera].update(boxes))

    text = (
        program("def remember")
        .replace(CHECKPOINT, repr(str(trained.best)))
        .replace("false_alarms=0.1", "false_alarms=0.7")
    )
    text = text.replace("update(frame,", "update(frame[0],")  # with its time, by which the boxes are found
    told = {
        "video": [(shown.time, names[shown.camera], (shown.picture[..., ::-1], shown.time)) for shown in frames],
        "follow": follow,
    }
    exec(text, told)
    assert len([line for line in text.splitlines() if line.strip()]) <= 20
    lines = capsys.readouterr().out.splitlines()
    wanted = r"(entrance|hall), \d+\.0 to \d+\.0, track \d+: person \d+ (is new|again, with probability [01]\.\d\d)"
    assert len(lines) >= 6 and all(re.fullmatch(wanted, line) for line in lines)
    assert len(told["memory"]) == len([line for line in lines if line.endswith("is new")])

    tracks = [Track([shown.picture[:, :48]], str(shown.camera), shown.time, shown.time) for shown in frames[:12]]
    exec(program("calibrate"), told | {"tracks": tracks, "pids": np.arange(12) % 4})
    assert re.fullmatch(r"4 people; the smallest rate of false alarms is 0\.200\n", capsys.readouterr().out)


def test_the_file_for_ultralytics_is_written(exported, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    exec(program("write_tracker_onnx").replace("exported/", f"{exported[1]}/"), {})
    assert (tmp_path / "tracker.onnx").stat().st_size > 10_000


def test_boxmot_takes_the_model_as_the_page_says(trained, frames):
    pytest.importorskip("boxmot")
    frame = next(shown for shown in frames if len(shown.detections) > 1)
    rows = np.array([[*box, 0.9, 0] for box in frame.detections], dtype=np.float32)
    told = {"detections": rows, "frame": np.ascontiguousarray(frame.picture[..., ::-1])}
    exec(program("boxmot").replace(CHECKPOINT, repr(str(trained.best))), told)
    assert len(told["tracks"]) == len(rows)


def test_ultralytics_calls_the_model_as_the_page_says(trained, frames):
    """Its detector needs a file from the net, so here its tracker alone is real."""
    pytest.importorskip("ultralytics")
    from ultralytics.engine.results import Boxes
    from ultralytics.trackers.bot_sort import BOTSORT
    from ultralytics.utils import YAML, IterableSimpleNamespace
    from ultralytics.utils.checks import check_yaml

    settings = IterableSimpleNamespace(**YAML.load(check_yaml("botsort.yaml")))
    settings.gmc_method = "none"
    predictor = SimpleNamespace(trackers=[BOTSORT(settings)])

    class Yolo:
        def add_callback(self, event, function):
            assert event == "on_predict_batch_start"
            self.function = function

        def track(self, frame, persist, tracker):
            self.function(predictor)
            (bot_sort,) = predictor.trackers
            return bot_sort.update(Boxes(rows, frame.shape[:2]), frame)

    frame = next(shown for shown in frames if len(shown.detections) > 1)
    rows = np.array([[*box, 0.9, 0] for box in frame.detections], dtype=np.float32)
    told = {"yolo": Yolo(), "frame": np.ascontiguousarray(frame.picture[..., ::-1])}
    exec(program("add_callback").replace(CHECKPOINT, repr(str(trained.best))), told)
    assert len(told["results"]) == len(rows)
    assert {track.smooth_feat.shape for track in predictor.trackers[0].tracked_stracks} == {(16,)}
