"""File names of one's own, read by a pattern."""

import zlib

import numpy as np
import pytest
from PIL import Image

from cace_pyg.config import config_of, config_parser, parse
from cace_pyg.data import check_dataset, read_dataset
from cace_pyg.data.__main__ import main
from cace_pyg.data.read_dataset import DataSettings, read_splits
from cace_pyg.data.sample import track_labels

PATTERN = r"(?P<pid>-?\d+)_c(?P<camid>\d+)"


def tree(root, names):
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        rng = np.random.default_rng(zlib.crc32(name.encode()))
        Image.fromarray(rng.integers(0, 255, (8, 4, 3), dtype=np.uint8)).save(path)
    return root


def short(samples):
    return [(sample.path.name, sample.pid, sample.camid) for sample in samples]


@pytest.mark.parametrize(
    "folders",
    [
        ("train", "query", "gallery"),
        ("bounding_box_train", "query", "bounding_box_test"),
        ("image_train", "image_query", "image_test"),
        ("train", "query", "test"),
    ],
)
def test_folders_of_any_usual_name(tmp_path, folders):
    train, query, gallery = folders
    root = tree(
        tmp_path,
        [f"{train}/0001_c1_0002.jpg", f"{train}/0002_c010_0001.png", f"{query}/0005_c1_0001.jpg",
         f"{gallery}/sub/0005_c2_0001.gif", f"{gallery}/0000_c2_0001.jpg", f"{gallery}/-1_c2_0001.jpg"],
    )  # fmt: skip
    splits = read_dataset("market_layout", root, pattern=PATTERN)
    assert short(splits.train) == [("0001_c1_0002.jpg", 1, 1), ("0002_c010_0001.png", 2, 10)]
    assert short(splits.query) == [("0005_c1_0001.jpg", 5, 1)]
    assert short(splits.gallery) == [("0000_c2_0001.jpg", 0, 2), ("0005_c2_0001.gif", 5, 2)]
    with pytest.raises(ValueError, match="data.pattern with data.name market_layout .got image_folder"):
        read_dataset("image_folder", root, pattern=PATTERN)
    assert read_splits(DataSettings(str(root), pattern=PATTERN)) == splits


def test_veri_needs_no_renaming(tmp_path, capsys):
    """VeRi-776 (Liu et al., 2016): image_train, image_query, image_test; 0002_c002_00030600_0.jpg."""
    root = tree(
        tmp_path,
        ["image_train/0001_c001_00016450_0.jpg", "image_train/0003_c004_00086540_0.jpg",
         "image_query/0002_c002_00030600_0.jpg", "image_test/0002_c003_00084280_0.jpg"],
    )  # fmt: skip
    assert main(["check", str(root), "--pattern", PATTERN]) == 0
    assert f"(--data.name market_layout --data.pattern '{PATTERN}')" in capsys.readouterr().out
    parser = config_parser("train", "")
    config = config_of(parse(parser, [f"--data.root={root}", f"--data.pattern={PATTERN}"]), parser)
    splits = read_splits(config.data)
    assert short(splits.query) == [("0002_c002_00030600_0.jpg", 2, 2)]
    assert short(splits.gallery) == [("0002_c003_00084280_0.jpg", 2, 3)]


def test_words_and_no_camera_and_a_test_folder(tmp_path):
    root = tree(
        tmp_path, ["train/anna-1.jpg", "train/bob-1.jpg", "test/5_11-1.jpg", "test/51_1-1.jpg", "test/51_1-2.jpg"]
    )
    splits = read_dataset("market_layout", root, pattern=r"(?P<pid>\w+)-\d")
    assert splits.query == splits.gallery and len({sample.camid for sample in splits.query}) == 3
    assert [sample.pid for sample in splits.query] == [1, 1, 2] and [sample.pid for sample in splits.train] == [3, 4]


def test_what_does_not_fit_is_named(tmp_path):
    root = tree(tmp_path, ["train/0001_c1_1.jpg", "train/0002_c1_1.jpg", "query/0003_c1_1.jpg"])
    with pytest.raises(FileNotFoundError, match=r"(?s)no folder for gallery in .*image_test"):
        read_dataset("market_layout", root, pattern=PATTERN)
    tree(root, ["gallery/0003_c2_1.jpg", "gallery/me.jpg"])
    with pytest.raises(ValueError, match=r"to match every file name from its beginning .it does not match me.jpg in"):
        read_dataset("market_layout", root, pattern=PATTERN)
    (root / "gallery" / "me.jpg").rename(root / "gallery" / "x0003_c2_1.jpg")
    with pytest.raises(ValueError, match=r"it does not match x0003_c2_1.jpg in .*start it with \.\* to skip"):
        read_dataset("market_layout", root, pattern=PATTERN)
    tree(root, ["bounding_box_test/0003_c2_1.jpg"])
    with pytest.raises(ValueError, match=r"one folder per part .*got gallery and bounding_box_test"):
        read_dataset("market_layout", root, pattern=PATTERN)
    for name in ("market1501", "manifest"):
        with pytest.raises(ValueError, match=f"data.pattern with data.name market_layout .got {name}"):
            read_dataset(name, root, pattern=PATTERN)


@pytest.mark.parametrize("pattern", ["(", r"(\d+)", r"c(?P<camid>\d+)", r"(?P<pid>\d+)_c(?P<camera>\d+)"])
def test_a_pattern_that_is_none_is_refused_before_anything_is_read(pattern):
    with pytest.raises(ValueError, match=r"Expected data.pattern (as a regular expression|with the named group pid)"):
        DataSettings("nowhere", pattern=pattern)


def test_without_a_pattern_check_finds_the_form_itself(tmp_path):
    root = tree(tmp_path, ["train/a/1.jpg", "train/b/1.jpg", "query/c/1.jpg", "gallery/c/2.jpg"])
    assert check_dataset(root).name == "image_folder" and check_dataset(root).pattern is None


def test_a_group_of_the_pattern_joins_pictures_to_tracks(tmp_path):
    names = ["query/0009_c1t4_1.jpg", "query/0009_c1t4_2.jpg", "gallery/0009_c2t4_1.jpg", "gallery/0009_c2t5_1.jpg"]
    splits = read_dataset("market_layout", tree(tmp_path, names), pattern=PATTERN + r"t(?P<track>\d+)")
    assert [sample.track for sample in splits.query] == ["4", "4"] and len(set(track_labels(splits.query))) == 1
    assert [sample.track for sample in splits.gallery] == ["4", "5"]
