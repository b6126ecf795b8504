"""What may lie in a folder in Market-1501's layout besides the data set."""

import pytest

from cace_pyg.data import read_market_layout


@pytest.fixture
def root(tmp_path):
    folder = tmp_path / "market"
    for part, name in (("bounding_box_train", "0002"), ("query", "0005"), ("bounding_box_test", "0005")):
        (folder / part).mkdir(parents=True)
        (folder / part / f"{name}_c1s1_000451_03.jpg").write_bytes(b"x")
    return folder


def test_what_is_no_picture_is_ignored(root):
    expected = read_market_layout(root)
    for name in ("Thumbs.db", ".DS_Store", "readme.txt", "._0002_c1s1_000451_03.jpg"):
        (root / "query" / name).write_bytes(b"x")
    (root / "query" / "folder.jpg").mkdir()
    assert read_market_layout(root) == expected


@pytest.mark.parametrize(
    "name",
    [
        "x0002_c1s1_000451_03.jpg",  # not from the start
        "0002_c1s1_000451_03_copy.jpg",  # not to the end
        "0002_c1s1_000451_03.old.jpg",
        "002_c1s1_000451_03.jpg",
        "-2_c1s1_000451_03.jpg",
        "0002_c-1s1_000451_03.jpg",
        "0002_c1s1_000451_03.jpg.bmp",
        "0002_c1s1_000451_03.bmp",  # a picture, of a kind that is not read
    ],
)
def test_a_picture_of_another_name_is_refused(root, name):
    (root / "bounding_box_test" / name).write_bytes(b"x")
    with pytest.raises(ValueError, match=f"file name {name}.*expected PPPP_cCsS_FFFFFF_BB.jpg"):
        read_market_layout(root)


def test_names_that_are_read(root):
    for name in ("0012345_c12s1_000451_03.JPG", "0002_c3s1_000451_03.png", "0002_c3s1_000450_03.jpeg"):
        (root / "bounding_box_train" / name).write_bytes(b"x")
    train = read_market_layout(root).train
    assert [(sample.pid, sample.camid) for sample in train] == [(2, 1), (2, 3), (2, 3), (12345, 12)]
    assert [sample.path.name for sample in train] == sorted(sample.path.name for sample in train)


def test_two_data_sets_one_level_down_are_not_chosen_between(root):
    (root.parent / "other").mkdir()
    assert read_market_layout(root.parent) == read_market_layout(root)
    for part in root.iterdir():
        (root.parent / "other" / part.name).mkdir()
    with pytest.raises(ValueError, match=r"one data set .*\(got 2: market, other\); give the folder of one"):
        read_market_layout(root.parent)


def test_a_part_that_holds_junk_only_is_empty(root):
    (only,) = (root / "bounding_box_test").iterdir()
    only.rename(only.with_name("-1_c1s1_000451_03.jpg"))
    with pytest.raises(ValueError, match=r"bounding_box_test contains no pictures"):
        read_market_layout(root)
