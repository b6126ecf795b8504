"""Words as numbers."""

import numpy as np
import pytest
from PIL import Image

from cace_pyg.data import read_image_folder, read_manifest
from cace_pyg.data.own_pictures import as_numbers
from cace_pyg.data.sample import Sample, Splits


def test_numbers_stay_and_words_are_counted():
    assert as_numbers(["7", "12", "7"]) == {"7": 7, "12": 12}
    assert as_numbers(["bob", "anna", "12"]) == {"12": 1, "anna": 2, "bob": 3}


def test_junk_and_distractors_keep_their_meaning_among_words():
    assert as_numbers(["bob", "-1", "0", "anna"]) == {"-1": -1, "0": 0, "anna": 1, "bob": 2}
    with pytest.raises(ValueError, match="-1 .junk., 0 .distractor. or more .got -5."):
        as_numbers(["-5", "bob"])


def test_different_words_are_different_people():
    assert as_numbers(["0007", "0012", "0000", "-1"]) == {"0007": 7, "0012": 12, "0000": 0, "-1": -1}
    assert as_numbers(["021", "21", "5"]) == {"021": 1, "21": 2, "5": 3}
    for words in (["5_11", "51_1"], ["1_0", "10"], [" 7", "7"], ["٣", "3"], ["1.0", "1"], ["1e1", "10"], ["+7", "7"]):
        assert sorted(as_numbers(words).values()) == [1, 2]
    assert len(set(as_numbers(["0", "00", "7"], meant=()).values())) == 3  # cameras


def test_floats_as_pandas_writes_them_are_the_numbers_they_are():
    assert as_numbers(["-1.0", "0.0", "7.0", "12.0"]) == {"-1.0": -1, "0.0": 0, "7.0": 7, "12.0": 12}
    assert as_numbers(["-1.0", "0.0", "anna"]) == {"-1.0": -1, "0.0": 0, "anna": 1}


def test_numbers_that_no_tensor_holds_are_words():
    most = str(2**63)
    assert as_numbers([most, "7", "9" * 5000]) == {"7": 1, most: 2, "9" * 5000: 3}
    with pytest.raises(ValueError, match=r"at most 2\^60 .got pid 9223372036854775808, camid 1 of a.jpg.; renumber"):
        Splits((Sample("a.jpg", 2**63, 1),), (), ())


def folder_of(root, people):
    for part in ("train", "query", "gallery"):
        for person in people:
            path = root / part / person / "door" / "1.jpg"
            path.parent.mkdir(parents=True)
            Image.fromarray(np.zeros((8, 4, 3), np.uint8)).save(path)
    return root


@pytest.mark.parametrize("pair", [("5_11", "51_1"), ("021", "21"), ("1_2", "12")])
def test_folders_of_two_names_are_two_identities(tmp_path, pair):
    splits = read_image_folder(folder_of(tmp_path, [*pair, "7"]))
    assert splits.num_identities == 3
    by_name = {sample.path.parent.parent.name: sample.pid for sample in splits.train}
    assert by_name == {sample.path.parent.parent.name: sample.pid for sample in splits.query}


ROWS = [("1.jpg", 7, 2, "train"), ("2.jpg", 9, 1, "query"), ("3.jpg", 9, 2, "gallery"), ("4.jpg", 0, 2, "gallery"),
        ("5.jpg", -1, 2, "gallery")]  # fmt: skip


@pytest.mark.parametrize("ending", ["csv", "parquet"])
@pytest.mark.parametrize("write", [lambda number: number, float], ids=["whole", "floats"])
def test_a_table_of_floats_is_the_table_of_their_numbers(tmp_path, ending, write):
    rows = [(name, write(pid), write(camid), split) for name, pid, camid, split in ROWS]
    splits = read_manifest(manifest(tmp_path, rows, ending))
    assert [(sample.pid, sample.camid) for sample in splits.train] == [(7, 2)]
    assert [(sample.pid, sample.camid) for sample in splits.gallery] == [(9, 2), (0, 2)]  # the junk is gone


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_cells_that_are_not_a_number_are_empty(tmp_path, ending):
    nan = float("nan")
    path = manifest(tmp_path, [(name, float(pid), nan, split) for name, pid, _, split in ROWS], ending)
    splits = read_manifest(path)
    assert len({sample.camid for sample in (*splits.train, *splits.query, *splits.gallery)}) == 4  # no camera is known
    path = manifest(tmp_path, [*[(*row[:1], *map(float, row[1:3]), row[3]) for row in ROWS],
                               ("6.jpg", nan, 1.0, "train")], ending)  # fmt: skip
    with pytest.raises(ValueError, match="a value for pid in row 6 .*got an empty cell"):
        read_manifest(path)
    path = manifest(tmp_path, [*[(*row[:1], *map(float, row[1:3]), row[3]) for row in ROWS],
                               ("6.jpg", 8.0, nan, "train")], ending)  # fmt: skip
    with pytest.raises(ValueError, match="a camera for every picture .*got none for 1 of 6"):
        read_manifest(path)


def manifest(folder, rows, ending):
    for name, *_ in rows:
        Image.fromarray(np.zeros((8, 4, 3), np.uint8)).save(folder / name)
    path, header = folder / f"people.{ending}", ("path", "pid", "camid", "split")
    if ending == "csv":
        path.write_text("\n".join(",".join(map(str, row)) for row in [header, *rows]) + "\n")
        return path
    pyarrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    columns = {name: list(cells) for name, cells in zip(header, zip(*rows, strict=True), strict=True)}
    parquet.write_table(pyarrow.table(columns), path)
    return path
