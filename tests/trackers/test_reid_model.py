"""The calls of BoxMOT and of ultralytics give what the library gives for the same pictures."""

import numpy as np
import onnx
import onnxruntime
import pytest

from cace_pyg import embed_pictures
from cace_pyg.trackers import ReidModel, write_tracker_onnx
from tests.random_checkpoint import make_checkpoint

FRAME = np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8)
BOXES = np.array([[10, 5, 30, 45], [0, 0, 24, 48], [50, 2, 79, 60]], dtype=np.float32)


@pytest.fixture
def checkpoint(tiny, tmp_path):
    return make_checkpoint(tmp_path / "best.ckpt", tiny)


def expected(checkpoint, boxes):
    crops = [FRAME[y0:y1, x0:x1, ::-1] for x0, y0, x1, y1 in boxes.astype(int)]
    return embed_pictures([np.ascontiguousarray(crop) for crop in crops], checkpoint).numpy()


def moving(frames=12):
    """Boxes, confidence and class of two who walk, as detectors hand them on."""
    for step in range(frames):
        boxes = [[2 + step, 4, 22 + step, 48], [55 - step, 6, 75 - step, 52]]
        yield np.array([[*box, 0.9, 0] for box in boxes], dtype=np.float32)


def test_boxmots_call_embeds_the_crops_in_rgb(checkpoint):
    found = ReidModel(checkpoint).get_features(BOXES, FRAME)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected(checkpoint, BOXES), atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-5)


def test_a_box_outside_of_the_frame_has_the_embedding_of_grey_for_boxmot_and_none_for_ultralytics(checkpoint):
    reid, outside = ReidModel(checkpoint), np.array([[90.0, 0, 99, 9]])
    grey = embed_pictures([np.full((9, 9, 3), 128, np.uint8)], checkpoint).numpy()
    np.testing.assert_allclose(reid.get_features(outside, FRAME), grey, atol=1e-6)
    assert reid(FRAME, np.array([[95.0, 4, 8, 8]])) == [None]
    assert reid.get_features(np.empty((0, 4)), FRAME).shape == (0, 16) and reid(FRAME, np.empty((0, 5))) == []


def test_ultralyticss_call_takes_centres_and_sizes(checkpoint):
    reid = ReidModel(checkpoint)
    low, high = BOXES[:, :2], BOXES[:, 2:]
    rows = np.concatenate([(low + high) / 2, high - low, np.arange(3)[:, None]], 1)  # the last column is its own
    np.testing.assert_allclose(np.stack(reid(FRAME, rows)), reid.get_features(BOXES, FRAME), atol=1e-6)


def test_the_file_for_trackers_gives_the_embedding_of_pictures_from_0_to_1(exported, tmp_path):
    checkpoint, folder = exported
    write_tracker_onnx(folder / "individual.onnx", tmp_path / "tracker.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "tracker.onnx")
    (taken,), (given,) = session.get_inputs(), session.get_outputs()
    assert taken.type == "tensor(float)" and taken.shape[1:] == [3, 48, 24] and not isinstance(taken.shape[0], int)
    pictures = np.random.default_rng(0).integers(0, 256, (3, 48, 24, 3), dtype=np.uint8)
    (found,) = session.run(None, {taken.name: pictures.transpose(0, 3, 1, 2).astype(np.float32) / 255})
    np.testing.assert_allclose(found, embed_pictures(list(pictures), checkpoint).numpy(), atol=1e-4)
    assert given.name == "embedding" and session.get_modelmeta().custom_metadata_map["fingerprint"]


def test_another_file_is_refused_and_nothing_is_written(exported, tmp_path):
    pair = exported[1] / "pair.onnx"
    with pytest.raises(ValueError, match=r"Expected individual.onnx of an export, .*with .*gallery_projected"):
        write_tracker_onnx(pair, tmp_path / "tracker.onnx")
    (tmp_path / "broken.onnx").write_bytes(b"no model")
    with pytest.raises(ValueError, match=r"cannot read .*broken.onnx"):
        write_tracker_onnx(tmp_path / "broken.onnx", tmp_path / "tracker.onnx")
    with pytest.raises(FileNotFoundError, match=r"no file at .*; python -m cace_pyg.export writes individual.onnx"):
        write_tracker_onnx(tmp_path / "none.onnx", tmp_path / "tracker.onnx")
    with pytest.raises(ValueError, match=r"ends in .onnx .got .*tracker.bin"):
        write_tracker_onnx(exported[1] / "individual.onnx", tmp_path / "tracker.bin")
    assert {file.name for file in tmp_path.iterdir()} == {"broken.onnx"}


def test_the_file_is_left_with_what_the_embedding_needs(exported, tmp_path):
    whole = exported[1] / "individual.onnx"
    write_tracker_onnx(whole, tmp_path / "tracker.onnx")
    alone = onnx.load(tmp_path / "tracker.onnx").graph
    assert len(alone.output) == 1 and len(alone.node) - 4 < len(onnx.load(whole).graph.node)


def test_boxmots_botsort_asks_for_the_features_of_its_boxes(checkpoint):
    boxmot = pytest.importorskip("boxmot")
    asked = []

    class Heard(ReidModel):
        def get_features(self, boxes, image):
            asked.append(super().get_features(boxes, image))
            return asked[-1]

    tracker = boxmot.BotSort(reid_model=Heard(checkpoint), use_cmc=False)
    for rows in moving():
        followed = tracker.update(rows, FRAME)
    assert len(followed) == 2 and len(asked) == 12 and asked[0].shape == (2, 16)


def test_ultralyticss_botsort_takes_the_model_as_its_encoder(checkpoint):
    pytest.importorskip("ultralytics")
    from ultralytics.engine.results import Boxes

    tracker = botsort()
    tracker.encoder, tracker.args.with_reid, tracker.args.model = ReidModel(checkpoint), True, "cace_pyg"
    for rows in moving():
        followed = tracker.update(Boxes(rows, FRAME.shape[:2]), FRAME)
    assert len(followed) == 2 and {track.smooth_feat.shape for track in tracker.tracked_stracks} == {(16,)}


def botsort():
    from ultralytics.trackers.bot_sort import BOTSORT
    from ultralytics.utils import YAML, IterableSimpleNamespace
    from ultralytics.utils.checks import check_yaml

    settings = IterableSimpleNamespace(**YAML.load(check_yaml("botsort.yaml")))
    settings.gmc_method = "none"
    return BOTSORT(settings)


def test_ultralytics_loads_the_file_by_itself(exported, tmp_path):
    pytest.importorskip("ultralytics")
    from ultralytics.trackers.utils.reid import ReID

    write_tracker_onnx(exported[1] / "individual.onnx", tmp_path / "tracker.onnx")
    encoder = ReID(str(tmp_path / "tracker.onnx"), device="cpu")
    frame = FRAME[:48, :24]  # a box of the whole frame needs no margin and no resizing
    (found,) = encoder(frame, np.array([[12.0, 24, 24, 48, 0]]))
    assert encoder.imgsz == (48, 24)
    picture = np.ascontiguousarray(frame[..., ::-1])
    np.testing.assert_allclose(found, embed_pictures([picture], exported[0]).numpy()[0], atol=1e-4)
