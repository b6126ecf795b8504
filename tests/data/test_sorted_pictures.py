"""Which files of a folder are pictures, and what is said of the others."""

import os

import numpy as np
import pytest
from PIL import Image

from cace_pyg.data import check_dataset, read_image_folder, read_market_layout
from cace_pyg.data.read_dataset import DataSettings, read_splits
from cace_pyg.data.sorted_pictures import LeftOutWarning, sorted_pictures

FORMS = {"jfif": "JPEG", "jpe": "JPEG", "gif": "GIF", "avif": "AVIF", "webp": "WEBP", "tif": "TIFF"}


def picture(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    ending = path.suffix[1:]
    Image.fromarray(np.zeros((8, 4, 3), np.uint8)).save(path, FORMS.get(ending))
    return path


@pytest.fixture
def root(tmp_path):
    for name in ("train/anna/door/1.jpg", "train/bob/door/1.jpg", "query/cleo/door/1.jpg", "gallery/cleo/hall/1.jpg"):
        picture(tmp_path / "set" / name)
    return tmp_path / "set"


def names(samples):
    return [sample.path.parent.parent.name for sample in samples]


@pytest.mark.filterwarnings("error")
def test_links_to_folders_are_followed_and_loops_end(root, tmp_path):
    picture(tmp_path / "elsewhere" / "hall" / "2.jpg")
    os.symlink(tmp_path / "elsewhere", root / "train" / "dora")
    os.symlink(root / "train", root / "train" / "anna" / "loop")
    os.symlink("..", root / "train" / "bob" / "up")
    train = read_image_folder(root).train
    assert sorted(names(train)) == ["anna", "bob", "dora"] and len({sample.pid for sample in train}) == 3
    assert root / "train" / "dora" / "hall" / "2.jpg" in sorted_pictures(root)
    assert len(sorted_pictures(root)) == 5


@pytest.mark.filterwarnings("error")
def test_hidden_folders_are_skipped(root):
    before = read_image_folder(root), sorted_pictures(root)
    picture(root / "train" / ".ipynb_checkpoints" / "door" / "1.jpg")
    picture(root / "train" / "anna" / ".git" / "1.jpg")
    picture(root / "train" / "anna" / "door" / "._1.jpg")
    assert (read_image_folder(root), sorted_pictures(root)) == before


@pytest.mark.filterwarnings("error")
def test_every_form_that_can_be_read_is_taken(root):
    for ending in FORMS:
        picture(root / "train" / "anna" / "door" / f"x.{ending}")
    assert names(read_image_folder(root).train).count("anna") == 1 + len(FORMS)
    assert len(sorted_pictures(root)) == 4 + len(FORMS)


@pytest.mark.filterwarnings("error")
def test_a_person_called_parts_is_a_person(root):
    picture(root / "train" / "parts" / "door" / "1.jpg")
    picture(root / "train" / "parts" / "yard" / "2.png")
    assert names(read_image_folder(root).train).count("parts") == 2
    assert len(sorted_pictures(root)) == 6


def test_label_maps_are_no_pictures_and_those_without_a_picture_are_told(root):
    before = read_image_folder(root), sorted_pictures(root)
    picture(root / "train" / "anna" / "parts" / "door" / "1.png")
    assert (read_image_folder(root), sorted_pictures(root)) == before
    stale = picture(root / "train" / "anna" / "parts" / "door" / "gone.png")
    with pytest.warns(LeftOutWarning, match=f"1 label maps without their picture, such as {stale}"):
        assert sorted_pictures(root) == before[1]


def test_what_looks_like_a_picture_and_is_not_used_is_told(root, capsys):
    before = read_image_folder(root).train
    (root / "train" / "anna" / "door" / "2.heic").write_bytes(b"x")
    os.symlink(root / "nowhere.jpg", root / "train" / "bob" / "door" / "3.jpg")
    (root / "train" / "notes.txt").write_text("x")
    os.mkfifo(root / "train" / "anna" / "door" / "4.jpg")
    os.symlink(root / "gone", root / "train" / "erna")
    words = "2 broken links, such as .*3.jpg; 1 of formats that are not read, such as .*2.heic"
    with pytest.warns(LeftOutWarning, match=words):
        assert read_image_folder(root).train == before
    capsys.readouterr()
    read_splits(DataSettings(str(root), "image_folder"))
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line]
    assert line.startswith("warning: files left out of ") and "Warning" not in line
    found = check_dataset(root)
    assert not found.passed and "remark: files left out of" in str(found) and "2.heic" in str(found)


def test_folders_inside_those_of_market_are_read(tmp_path):
    for part in ("bounding_box_train", "query", "bounding_box_test"):
        picture(tmp_path / part / "0002_c1s1_000451_03.jpg")
        picture(tmp_path / part / "0003" / "0003_c1s1_000451_03.jpg")
        picture(tmp_path / part / ".ipynb_checkpoints" / "0004_c1s1_000451_03.jpg")
    splits = read_market_layout(tmp_path)
    assert [[sample.pid for sample in part] for part in (splits.train, splits.query, splits.gallery)] == [[2, 3]] * 3
    (tmp_path / "query" / "0003" / "0005_c1s1_000451_03.jfif").write_bytes(b"x")
    with pytest.raises(ValueError, match=r"file name 0005_c1s1_000451_03.jfif"):
        read_market_layout(tmp_path)
