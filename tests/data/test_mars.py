"""MARS: a drawn tree of tracks, with and without the authors' lists, and its protocol of track against track."""

import warnings
import zlib

import numpy as np
import pytest
import scipy.io
import torch
from PIL import Image

from cace_pyg.data import check_dataset, read_dataset, read_mars
from cace_pyg.data.sample import track_labels

TRACKS = {  # frames
    "0001C1T0001": 3, "0001C1T0002": 2, "0001C2T0001": 4, "0003C3T0007": 2, "0003C1T0002": 3,
    "0000C1T0001": 2, "0000C2T0001": 2, "00-1C1T0001": 3,
}  # fmt: skip


def names_of(track):
    return [f"{track}F{frame:03}.jpg" for frame in range(1, TRACKS[track] + 1)]


def draw(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(zlib.crc32(path.name.encode())).integers(0, 255, (16, 8, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)


def tree(root):
    for track in TRACKS:
        for name in names_of(track):
            draw(root / "bbox_test" / track[:4] / name)
    for name in ("0005C1T0001F001.jpg", "0005C2T0001F001.jpg"):
        draw(root / "bbox_train" / "0005" / name)
    return root


def lists(root, tracks=tuple(TRACKS), queries=(2, 5), pids=None):
    """The authors' lists: names, rows of lines and labels, and rows that are queries, all counted from 1."""
    info = root / "info"
    info.mkdir()
    names = [name for track in TRACKS for name in names_of(track)]
    (info / "test_name.txt").write_text("\n".join(names) + "\n")
    rows = []
    for track in tracks:
        start = names.index(names_of(track)[0]) + 1
        pid = {"00-1": -1}.get(track[:4]) or int(track[:4].replace("00-1", "0"))
        rows.append([start, start + TRACKS[track] - 1, (pids or {}).get(track, pid), int(track[5])])
    scipy.io.savemat(info / "tracks_test_info.mat", {"track_test_info": np.array(rows, np.int32)})
    scipy.io.savemat(info / "query_IDX.mat", {"query_IDX": np.array([queries], np.uint16)})
    return root


def entries(samples):
    found = {}
    for sample, label in zip(samples, track_labels(samples), strict=True):
        found.setdefault(label, []).append(sample)
    return [
        (pictures[0].pid, pictures[0].camid, pictures[0].path.name[:11], len(pictures)) for pictures in found.values()
    ]


def test_the_lists_say_which_tracks_are_queries(tmp_path):
    splits = read_dataset("mars", lists(tree(tmp_path)))
    assert entries(splits.query) == [(1, 1, "0001C1T0002", 2), (3, 1, "0003C1T0002", 3)]
    assert entries(splits.gallery) == [
        (1, 1, "0001C1T0001", 3), (1, 1, "0001C1T0002", 2), (1, 2, "0001C2T0001", 4), (3, 3, "0003C3T0007", 2),
        (3, 1, "0003C1T0002", 3), (0, 1, "0000C1T0001", 2), (0, 2, "0000C2T0001", 2),
    ]  # fmt: skip
    assert [(sample.pid, sample.camid, sample.track) for sample in splits.train] == [(5, 1, ""), (5, 2, "")]


def test_without_lists_the_first_track_of_a_person_and_camera_is_a_query(tmp_path):
    with pytest.warns(UserWarning, match=r"there is no query_IDX.mat .* not those of MARS's authors"):
        splits = read_mars(tree(tmp_path))
    assert sorted(entry[2] for entry in entries(splits.query)) == [
        "0001C1T0001", "0001C2T0001", "0003C1T0002", "0003C3T0007",
    ]  # fmt: skip
    assert len(entries(splits.gallery)) == 7 and not any(sample.pid == -1 for sample in splits.gallery)


def test_training_pictures_may_be_absent(tmp_path):
    root = lists(tree(tmp_path / "all"))
    (root / "bbox_train").rename(tmp_path / "elsewhere")
    assert read_mars(root).train == ()


def test_data_check_knows_it_and_counts_tracks(tmp_path):
    found = check_dataset(lists(tree(tmp_path)))
    assert (found.name, found.passed) == ("mars", True) and "track against track: 2 over 7" in str(found)


def damage(root, what):
    info = root / "info"
    if what == "missing":
        (root / "bbox_test" / "0001" / "0001C2T0001F002.jpg").unlink()
    elif what == "not matlab":
        (info / "tracks_test_info.mat").write_bytes(b"nothing of the kind")
    elif what == "another table":
        scipy.io.savemat(info / "query_IDX.mat", {"other": np.zeros(3)})
    elif what == "row":
        scipy.io.savemat(info / "query_IDX.mat", {"query_IDX": np.array([[99]])})
    elif what == "short list":
        (info / "test_name.txt").write_text("0001C1T0001F001.jpg\n")
    elif what == "name":
        draw(root / "bbox_test" / "0001" / "somebody.jpg")
    elif what == "distractor":
        draw(root / "bbox_train" / "0000" / "0000C1T0001F001.jpg")
    else:
        (root / "bbox_test").rename(root / "test")
    return root


@pytest.mark.parametrize(
    ("what", "error", "message"),
    [
        ("missing", FileNotFoundError, "1 pictures that .* names are not in .*0001C2T0001F002.jpg"),
        ("not matlab", RuntimeError, "cannot read .*tracks_test_info.mat as a MATLAB file"),
        ("another table", ValueError, r"Expected the numbers query_IDX in .* \(got other\)"),
        ("row", ValueError, r"Expected rows from 1 to 8 in .*query_IDX.mat \(got up to 99\)"),
        ("short list", ValueError, r"lines up to 21 of 1\)"),
        ("name", ValueError, "from the file name somebody.jpg .*such as 0001C1T0001F001.jpg"),
        ("distractor", ValueError, "pid 0000 marks distractors, expected in bbox_test only"),
        ("folder", FileNotFoundError, "no folder bbox_test in .*expected"),
    ],
)
def test_what_is_refused(tmp_path, what, error, message):
    root = damage(lists(tree(tmp_path)), what)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(error, match="(?s)" + message):
            read_mars(root)


def test_labels_that_are_not_those_of_the_names_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"identity 9 on camera 2 in row 3 of .* \(got 0001C2T0001F001.jpg\)"):
        read_mars(lists(tree(tmp_path), pids={"0001C2T0001": 9}))


@pytest.fixture
def evaluated(tmp_path, tiny):
    """Of random weights."""
    from cace_pyg.config import from_yaml
    from cace_pyg.engine.checkpoint import load_checkpoint, load_model
    from cace_pyg.engine.evaluation import evaluate_model
    from tests.random_checkpoint import make_checkpoint

    checkpoint = make_checkpoint(tmp_path / "best.ckpt", tiny)
    splits = read_mars(lists(tree(tmp_path / "mars")))
    config = from_yaml(load_checkpoint(checkpoint)["config"])
    model, state = load_model(checkpoint, config)
    return evaluate_model(model, splits.query, splits.gallery, config, state["fusion_weight"]), model, splits, config


def test_evaluation_ranks_tracks_by_the_rule_of_the_same_camera(evaluated):
    evaluation, model, splits, config = evaluated
    assert evaluation.individual.num_queries == 2 and len(evaluation.gallery.samples) == 7
    assert "track against track: 2 over 7" in evaluation.two_stage.policy

    from cace_pyg.engine.extraction import extract_embeddings
    from cace_pyg.retrieval import euclidean_distance, evaluate, merge_embeddings

    def merged(samples):
        embedding = extract_embeddings(model, samples, config, "cpu")
        labels = track_labels(samples)
        names = list(dict.fromkeys(labels))
        rows = [[i for i, label in enumerate(labels) if label == name] for name in names]
        return torch.stack([merge_embeddings(embedding[row]) for row in rows]), names

    (query, asked), (gallery, known) = merged(splits.query), merged(splits.gallery)
    distance = euclidean_distance(query, gallery)
    found = evaluate(
        distance, [label[0] for label in asked], [label[0] for label in known], [label[1] for label in asked],
        [label[1] for label in known],
    )  # fmt: skip
    assert evaluation.individual.mAP == pytest.approx(found.mAP, abs=1e-9)
    assert evaluation.individual.first_match.tolist() == found.first_match.tolist()
