"""Tables and trees of one's own pictures."""

import shutil
import zlib

import numpy as np
import pytest
from PIL import Image

from cace_pyg.data import check_dataset, combine, hold_out_identities, read_image_folder, read_manifest
from cace_pyg.data.own_pictures import as_numbers
from cace_pyg.data.read_dataset import read_dataset
from cace_pyg.data.sample import Sample, track_labels

ROWS = [
    ("a/1.jpg", "7", "2", "train"),
    ("a/2.jpg", "7", "1", "train"),
    ("q.jpg", "9", "1", "query"),
    ("g.jpg", "9", "2", "gallery"),
    ("junk.jpg", "-1", "2", "gallery"),
    ("nobody.jpg", "0", "2", "gallery"),
]


def picture(path):
    """Of each place another one: copies of a query are told."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(zlib.crc32(str(path).encode()))
    Image.fromarray(rng.integers(0, 255, (8, 4, 3), dtype=np.uint8)).save(path)


def table(folder, rows=ROWS, header="path,pid,camid,split"):
    for name, *_ in rows:
        picture(folder / name)
    path = folder / "people.csv"
    path.write_text("\n".join([header, *(",".join(row) for row in rows)]) + "\n")
    return path


def short(samples):
    return [(sample.path.name, sample.pid, sample.camid) for sample in samples]


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
    columns["pid"] = [int(pid) for pid in columns["pid"]]
    parquet.write_table(pyarrow.table(columns), tmp_path / "people.parquet")
    assert read_manifest(tmp_path / "people.parquet") == read_manifest(csv)
    (tmp_path / "people.parquet").write_bytes(b"x")
    with pytest.raises(ValueError, match="cannot read .* as Parquet"):
        read_manifest(tmp_path / "people.parquet")


def test_without_cameras_every_picture_is_its_own(tmp_path):
    rows = [(name, pid, split) for name, pid, _, split in ROWS[:4]]
    splits = read_manifest(table(tmp_path, rows, "path,pid,split"))
    camids = [sample.camid for part in (splits.train, splits.query, splits.gallery) for sample in part]
    assert len(set(camids)) == 4


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (("x.jpg", "", "1", "train"), r"a value for pid in row 7"),
        (("x.jpg", "5", "1", "val"), r"split train, query, gallery or test in row 7 .*got 'val'"),
        (("x.jpg", "5", "", "train"), r"a camera for every picture .*none for 1 of 7"),
        (("q.jpg", "5", "1", "train"), r"each picture once .*q.jpg twice"),
        (("x.jpg", "0", "1", "query"), r"pid 0 marks distractors"),
    ],
)
def test_what_is_wrong_with_a_table_is_named(tmp_path, row, message):
    with pytest.raises(ValueError, match=message):
        read_manifest(table(tmp_path, [*ROWS, row]))


def test_invalid_tables_are_refused(tmp_path):
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
    assert [(sample.pid, sample.camid) for sample in splits.train] == [(1, 1), (2, 2)]
    assert [(sample.pid, sample.camid) for sample in (*splits.query, *splits.gallery)] == [(3, 1), (3, 2)]


def test_an_invalid_tree_is_refused(tmp_path):
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
    assert len({sample.pid for sample in combined}) == 6
    assert len({sample.camid for sample in combined}) == 6
    with pytest.raises(ValueError, match="pid 1 and above"):
        combine([[Sample(tmp_path / "a", 0, 1)]])


def test_check_finds_pictures_that_cannot_be_read(tmp_path):
    path = table(tmp_path)
    assert check_dataset(path).passed
    (tmp_path / "g.jpg").write_bytes((tmp_path / "g.jpg").read_bytes()[:150])
    found = check_dataset(path)
    assert not found.passed
    assert [path.name for path, _ in found.unreadable] == ["g.jpg"]
    assert "cannot be read: 1\n" in str(found) and "manifest" in str(found)


def test_check_of_nothing_says_what_each_reader_expected(tmp_path):
    with pytest.raises(ValueError, match=r"(?s)no data set at .*- market_layout: .*- msmt17: .*- image_folder: "):
        check_dataset(tmp_path)


def test_copies_of_a_query_in_the_gallery_are_told(tmp_path):
    path = table(tmp_path)
    shutil.copy(tmp_path / "q.jpg", tmp_path / "g.jpg")
    found = check_dataset(path)
    assert not found.passed
    told = (
        f"pictures of the gallery that are copies of a query, byte for byte: 1 ({tmp_path}/g.jpg of {tmp_path}/q.jpg)"
    )
    assert f"remark: {told}; results would look better than they are" in str(found)
    (tmp_path / "g.jpg").write_bytes((tmp_path / "q.jpg").read_bytes()[:-1] + b"x")  # of the same size
    assert not check_dataset(path, decode=False).remarks


def test_copies_that_the_protocol_removes_do_no_harm(tmp_path):
    path = table(tmp_path, [*ROWS, ("h.jpg", "9", "1", "gallery")])  # the query's person and camera
    shutil.copy(tmp_path / "q.jpg", tmp_path / "h.jpg")
    found = check_dataset(path)
    assert found.passed and "note: pictures of the gallery that are copies" in str(found) and "h.jpg" in str(found)


def test_check_says_why_queries_have_no_match(tmp_path):
    rows = [*ROWS, ("r.jpg", "11", "1", "query"), ("s.jpg", "12", "1", "query"), ("t.jpg", "12", "1", "gallery")]
    (remark,) = check_dataset(table(tmp_path, rows)).remarks
    assert remark == (
        "1 of 3 queries have a match from another camera in the gallery; the identities of 1 are absent from it, 1 are "
        "seen by their own camera only"
    )


TEST_ROWS = [("1.jpg", "7", "train"), ("2.jpg", "7", "train"), ("a.jpg", "9", "test"), ("b.jpg", "9", "test"),
             ("nobody.jpg", "0", "test"), ("junk.jpg", "-1", "test")]  # fmt: skip


def test_a_test_part_is_query_and_gallery(tmp_path):
    path = table(tmp_path, TEST_ROWS, "path,pid,split")
    splits = read_manifest(path)
    assert [sample.path.name for sample in splits.query] == ["a.jpg", "b.jpg"]
    assert [sample.path.name for sample in splits.gallery] == ["a.jpg", "b.jpg", "nobody.jpg"]
    assert check_dataset(path).passed
    with pytest.raises(ValueError, match="either query and gallery in .*, or test instead of both"):
        read_manifest(table(tmp_path, [*TEST_ROWS, ("q.jpg", "9", "query")], "path,pid,split"))
    with pytest.raises(ValueError, match="got none for query and gallery"):
        read_manifest(table(tmp_path, TEST_ROWS[:2], "path,pid,split"))


def test_a_tree_with_a_test_part(tmp_path):
    for name in ("train/anna/1.jpg", "train/bob/1.jpg", "test/cleo/1.jpg", "test/cleo/2.jpg", "test/dora/1.jpg"):
        picture(tmp_path / name)
    splits = read_image_folder(tmp_path)
    assert splits.query == splits.gallery and [sample.pid for sample in splits.query] == [3, 4, 3]
    (remark,) = check_dataset(tmp_path).remarks
    assert remark.startswith("2 of 3 queries") and "of 1 are absent" in remark
    picture(tmp_path / "query" / "cleo" / "3.jpg")
    with pytest.raises(FileNotFoundError, match=r"(?s)no folder gallery in .*test/ instead of both"):
        read_image_folder(tmp_path)


def test_query_and_gallery_without_a_training_part_are_enough_to_evaluate(tmp_path):
    layout, folders, named = (tmp_path / name for name in ("layout", "folders", "named"))
    for part in ("query", "bounding_box_test"):
        picture(layout / part / "0001_c1s1_000001_00.jpg")
        picture(named / part / "1_c1.jpg")
    for part in ("query", "gallery"):
        picture(folders / part / "anna" / "1.jpg")
    rows = table(tmp_path, [("q.jpg", "9", "1", "query"), ("g.jpg", "9", "2", "gallery")])
    found = [
        read_dataset("market_layout", layout),
        read_dataset("market_layout", named, pattern=r"(?P<pid>\d+)_c(?P<camid>\d+)"),
        read_dataset("image_folder", folders),
        read_dataset("manifest", rows),
    ]
    for splits in found:
        assert (len(splits.train), len(splits.query), len(splits.gallery)) == (0, 1, 1)
        with pytest.raises(ValueError, match=r"Expected training pictures \(got none\): query and gallery alone"):
            hold_out_identities(splits.train, 0.1, 0)


TRACKS = [
    ("t1.jpg", "7", "2", "train", "5"),
    ("q1.jpg", "9", "1", "query", "5"),
    ("q2.jpg", "9", "1", "query", "5"),
    ("g1.jpg", "9", "2", "gallery", "5"),
    ("g2.jpg", "9", "2", "gallery", "5.0"),
    ("g3.jpg", "9", "2", "gallery", ""),
]


def tracks(samples):
    labels = track_labels(samples)
    return sorted([sample.path.name for sample, other in zip(samples, labels, strict=True) if other == label]
                  for label in dict.fromkeys(labels))  # fmt: skip


def test_a_column_of_the_table_joins_pictures_to_tracks(tmp_path):
    splits = read_manifest(table(tmp_path, TRACKS, "path,pid,camid,split,track"))
    assert tracks(splits.query) == [["q1.jpg", "q2.jpg"]]
    assert tracks(splits.gallery) == [["g1.jpg", "g2.jpg"], ["g3.jpg"]]
    assert splits.train[0].track == ""  # training sees pictures


def test_a_folder_below_the_camera_is_a_track(tmp_path):
    for name in ("query/9/1/5/q1.jpg", "query/9/1/5/q2.jpg", "gallery/9/2/5/g1.jpg", "gallery/9/2/6/g2.jpg",
                 "gallery/9/2/6/g3.jpg", "train/7/1/x/t.jpg"):  # fmt: skip
        picture(tmp_path / name)
    splits = read_image_folder(tmp_path)
    assert tracks(splits.query) == [["q1.jpg", "q2.jpg"]]
    assert tracks(splits.gallery) == [["g1.jpg"], ["g2.jpg", "g3.jpg"]]


def test_pictures_of_a_track_are_of_one_camera_where_none_is_known(tmp_path):
    rows = [(name, pid, part, track) for name, pid, _, part, track in TRACKS]
    splits = read_manifest(table(tmp_path, rows, "path,pid,split,track"))
    assert tracks(splits.gallery) == [["g1.jpg", "g2.jpg"], ["g3.jpg"]]
    assert len({sample.camid for sample in splits.gallery}) == 2
    assert not {sample.camid for sample in splits.gallery if not sample.track} & {
        sample.camid for sample in splits.query
    }
