"""Tables and trees of one's own pictures."""

import numpy as np
import pytest
from PIL import Image

from cace_pyg.data import check_dataset, combine, read_image_folder, read_manifest
from cace_pyg.data.own_pictures import as_numbers
from cace_pyg.data.sample import Sample

ROWS = [
    ("a/1.jpg", "7", "2", "train"),
    ("a/2.jpg", "7", "1", "train"),
    ("q.jpg", "9", "1", "query"),
    ("g.jpg", "9", "2", "gallery"),
    ("junk.jpg", "-1", "2", "gallery"),
    ("nobody.jpg", "0", "2", "gallery"),
]


def picture(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.zeros((8, 4, 3), np.uint8)).save(path)


def table(folder, rows=ROWS, header="path,pid,camid,split"):
    for name, *_ in rows:
        picture(folder / name)
    path = folder / "people.csv"
    path.write_text("\n".join([header, *(",".join(row) for row in rows)]) + "\n")
    return path


def short(samples):
    return [(one.path.name, one.pid, one.camid) for one in samples]


def test_a_table(tmp_path):
    splits = read_manifest(table(tmp_path))
    assert short(splits.train) == [("1.jpg", 7, 2), ("2.jpg", 7, 1)]
    assert short(splits.query) == [("q.jpg", 9, 1)]
    assert short(splits.gallery) == [("g.jpg", 9, 2), ("nobody.jpg", 0, 2)]  # the junk is gone


def test_parquet_and_csv_are_the_same(tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    csv = table(tmp_path)
    columns = {name: [row[i] for row in ROWS] for i, name in enumerate(("path", "pid", "camid", "split"))}
    columns["pid"] = [int(one) for one in columns["pid"]]
    parquet.write_table(pyarrow.table(columns), tmp_path / "people.parquet")
    assert read_manifest(tmp_path / "people.parquet") == read_manifest(csv)
    (tmp_path / "people.parquet").write_bytes(b"x")
    with pytest.raises(ValueError, match="cannot read .* as Parquet"):
        read_manifest(tmp_path / "people.parquet")


def test_without_cameras_every_picture_is_its_own(tmp_path):
    rows = [(name, pid, split) for name, pid, _, split in ROWS[:4]]
    splits = read_manifest(table(tmp_path, rows, "path,pid,split"))
    camids = [one.camid for part in (splits.train, splits.query, splits.gallery) for one in part]
    assert len(set(camids)) == 4


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (("x.jpg", "", "1", "train"), r"a value for pid in row 7"),
        (("x.jpg", "5", "1", "val"), r"split train, query, gallery in row 7 .*got 'val'"),
        (("x.jpg", "5", "", "train"), r"a camera for every picture .*none for 1 of 7"),
        (("q.jpg", "5", "1", "train"), r"each picture once .*q.jpg twice"),
        (("x.jpg", "0", "1", "query"), r"pid 0 marks distractors"),
    ],
)
def test_what_is_wrong_with_a_table_is_named(tmp_path, row, message):
    with pytest.raises(ValueError, match=message):
        read_manifest(table(tmp_path, [*ROWS, row]))


def test_tables_that_are_none(tmp_path):
    path = table(tmp_path)
    (tmp_path / "q.jpg").unlink()
    with pytest.raises(FileNotFoundError, match=r"no picture at .*q.jpg, row 3"):
        read_manifest(path)
    path.write_text("path;pid;split\n1;2;train\n")
    with pytest.raises(ValueError, match=r"columns path, pid, split.*got path;pid;split"):
        read_manifest(path)
    path.write_text("path,pid,split\n")
    with pytest.raises(ValueError, match="got no row"):
        read_manifest(path)
    path.write_bytes(b"\xff\xfe,\n")
    with pytest.raises(ValueError, match="as CSV in UTF-8"):
        read_manifest(path)
    with pytest.raises(FileNotFoundError, match="no table"):
        read_manifest(tmp_path / "none.csv")
    with pytest.raises(ValueError, match=r"ending in .csv or .parquet"):
        read_manifest(tmp_path / "g.jpg")


def test_a_tree_with_words_and_cameras(tmp_path):
    for name in ("train/anna/door/1.jpg", "train/bob/hall/1.jpg", "query/cleo/door/1.png", "gallery/cleo/hall/1.jpg"):
        picture(tmp_path / name)
    (tmp_path / "train" / "anna" / "notes.txt").write_text("x")
    splits = read_image_folder(tmp_path)
    assert [(one.pid, one.camid) for one in splits.train] == [(1, 1), (2, 2)]
    assert [(one.pid, one.camid) for one in (*splits.query, *splits.gallery)] == [(3, 1), (3, 2)]


def test_a_tree_that_is_none(tmp_path):
    for name in ("train/7/1.jpg", "query/7/2.jpg"):
        picture(tmp_path / name)
    with pytest.raises(FileNotFoundError, match=r"(?s)no folder gallery in .*part/identity/camera/picture"):
        read_image_folder(tmp_path)
    picture(tmp_path / "gallery" / "1.jpg")
    with pytest.raises(ValueError, match=r"cannot read identity and camera of .*1.jpg"):
        read_image_folder(tmp_path)
    (tmp_path / "gallery" / "1.jpg").unlink()
    with pytest.raises(ValueError, match=r"none for gallery"):
        read_image_folder(tmp_path)


def test_words_and_numbers():
    assert as_numbers(["12", "7", "-1"]) == {"12": 12, "7": 7, "-1": -1}
    assert as_numbers(["anna", "bob", "12", "bob"]) == {"12": 1, "anna": 2, "bob": 3}


def test_combined_sets_share_no_identity_and_no_camera(tmp_path):
    first = [Sample(tmp_path / "a", 3, 1), Sample(tmp_path / "b", 9, 2)]
    second = [Sample(tmp_path / "c", 1, 0), Sample(tmp_path / "d", 3, 1)]
    combined = combine([first, second, second])
    assert list(combined[:2]) == first
    assert len({one.pid for one in combined}) == 6
    assert len({one.camid for one in combined}) == 6
    with pytest.raises(ValueError, match="pid 1 and above"):
        combine([[Sample(tmp_path / "a", 0, 1)]])


def test_check_finds_pictures_that_cannot_be_read(tmp_path):
    path = table(tmp_path)
    assert check_dataset(path).passed
    (tmp_path / "g.jpg").write_bytes((tmp_path / "g.jpg").read_bytes()[:150])
    found = check_dataset(path)
    assert not found.passed
    assert [one.name for one, _ in found.unreadable] == ["g.jpg"]
    assert "cannot be read: 1\n" in str(found) and "manifest" in str(found)


def test_check_of_nothing_says_what_each_reader_expected(tmp_path):
    with pytest.raises(ValueError, match=r"(?s)no data set at .*- market_layout: .*- msmt17: .*- image_folder: "):
        check_dataset(tmp_path)
