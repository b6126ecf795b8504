"""The readers of the public data sets, on trees of their whole size."""

import shutil

import pytest

from cace_pyg.data import check_dataset, read_dataset
from cace_pyg.data.counts import Counts, count

PROTOCOL = {  # images, identities, cameras of train, query, gallery
    "market1501": ((12_936, 751, 6), (3_368, 750, 6), (15_913, 750, 6)),
    "dukemtmc": ((16_522, 702, 8), (2_228, 702, 8), (17_661, 1_110, 8)),
    "occluded_duke": ((15_618, 702, 8), (2_210, 519, 8), (17_661, 1_110, 8)),
    "msmt17": ((30_248, 1_041, 15), (11_659, 3_060, 15), (82_161, 3_060, 15)),
    "msmt17_trainval": ((32_621, 1_041, 15), (11_659, 3_060, 15), (82_161, 3_060, 15)),
}


@pytest.mark.parametrize("name", PROTOCOL)
def test_the_whole_set_is_read_from_three_places(public_tree, name):
    root = public_tree(name.removesuffix("_trainval"))
    splits = read_dataset(name, root)
    found = count(splits)
    assert (found.train, found.query, found.gallery) == tuple(Counts(*sizes) for sizes in PROTOCOL[name])
    if name != "msmt17_trainval":  # the same way as msmt17, and slow
        assert read_dataset(name, root.parent) == splits
        assert read_dataset(name, root / ("test" if name == "msmt17" else "query")) == splits
    for part in (splits.train, splits.query, splits.gallery):
        assert [sample.path.name for sample in part] == sorted(sample.path.name for sample in part)


@pytest.mark.parametrize("name", ["market1501", "dukemtmc", "occluded_duke", "msmt17"])
def test_check_says_which_reader_fits(public_tree, name):
    found = check_dataset(public_tree(name).parent, decode=False)
    assert (found.name, found.passed) == (name, True)
    assert f"{PROTOCOL[name][0][0]:,} ok" in str(found)


def partial_copy(tree, root, part, left_out):
    """The tree again, without the first pictures of one part."""
    (root / part).mkdir(parents=True)
    for folder in ("bounding_box_train", "query", "bounding_box_test"):
        if folder != part:
            (root / folder).symlink_to(tree / folder)
    for path in sorted((tree / part).iterdir())[left_out:]:
        (root / part / path.name).symlink_to(path)
    return root


def test_a_missing_picture_is_an_error_or_a_warning(public_tree, tmp_path):
    root = partial_copy(public_tree("market1501"), tmp_path / "renamed_c9", "query", 1)
    with pytest.raises(ValueError, match=r"(?s)Market-1501.*3,367 \(expected 3,368\).*15,913 ok.*renamed_c9"):
        read_dataset("market1501", root)
    with pytest.warns(UserWarning, match=r"3,367 \(expected 3,368\)"):
        assert len(read_dataset("market1501", root, allow_partial=True).query) == 3_367
    found = check_dataset(root, "market1501", decode=False)
    assert not found.passed and "not complete" in str(found)
    assert check_dataset(root, decode=False).name == "market1501"


@pytest.fixture
def second(tmp_path):
    """A few pictures of MSMT17's second version."""
    root = tmp_path / "up" / "v2"
    for name, folder, lines in (
        ("train", "mask_train_v2", ["0000/0000_000_01_0303morning_0008_0.jpg 0"]),
        ("val", "mask_train_v2", ["0000/0000_001_14_0303noon_0008_0.jpg 0"]),
        ("query", "mask_test_v2", ["0003/0003_000_05_0303morning_0008_0.jpg 3"]),
        ("gallery", "mask_test_v2", ["0003/0003_001_06_0303morning_0008_0.jpg 3"]),
    ):
        for line in lines:
            path = root / folder / line.split()[0]
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"x")
        (root / f"list_{name}.txt").write_text("\n".join(lines) + "\n")
    return root


def test_msmt17_version_2(second):
    with pytest.warns(UserWarning, match="MSMT17"):
        splits = read_dataset("msmt17_trainval", second.parent, allow_partial=True)
    assert [(sample.pid, sample.camid) for sample in splits.train] == [(1, 1), (1, 14)]  # 0 would be a distractor
    assert [(sample.pid, sample.camid) for sample in (*splits.query, *splits.gallery)] == [(4, 5), (4, 6)]


def test_msmt17_says_what_is_wrong(second):
    with pytest.raises(ValueError, match=r"(?s)MSMT17 is not complete.*1 \(expected 30,248\).*mask_train_v2"):
        read_dataset("msmt17", second)
    (second / "mask_test_v2" / "0003" / "0003_001_06_0303morning_0008_0.jpg").unlink()
    with pytest.raises(FileNotFoundError, match=r"1 of the 1 pictures of .*list_gallery.txt.*0003_001_06"):
        read_dataset("msmt17", second)
    (second / "list_query.txt").write_text("0003/0003_000.jpg 3\n")
    with pytest.raises(ValueError, match=r"a line of .*list_query.txt: '0003/0003_000.jpg 3'"):
        read_dataset("msmt17", second)
    shutil.copytree(second, second.parent / "another")
    with pytest.raises(ValueError, match=r"one data set .*got another, v2"):
        read_dataset("msmt17", second.parent)
    with pytest.raises(FileNotFoundError, match=r"(?s)no MSMT17 at .*mask_train_v2"):
        read_dataset("msmt17", second.parent.parent)


def test_an_unknown_name():
    with pytest.raises(ValueError, match=r"data.name as one of market_layout, .*got 'cuhk'"):
        read_dataset("cuhk", "x")


def test_a_place_that_is_not_there_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no folder or table at .*nowhere"):
        check_dataset(tmp_path / "nowhere")


def test_a_public_set_with_pictures_missing_is_recognised(public_tree, tmp_path):
    part = partial_copy(public_tree("market1501"), tmp_path / "part", "bounding_box_train", 36)
    found = check_dataset(part, decode=False)
    assert found.name == "market1501" and not found.passed
    assert "12,900 (expected 12,936)" in str(found) and "pictures were not decoded" in str(found)


def test_what_an_evaluation_stumbles_over_is_remarked(tmp_path):
    from PIL import Image

    for name in ("train/a/c1/1.jpg", "train/a/c2/2.jpg", "query/a/c1/3.jpg", "query/b/c1/4.jpg", "gallery/a/c2/5.jpg"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (4, 8)).save(tmp_path / name)
    found = check_dataset(tmp_path)
    assert not found.passed and found.unreadable == ()
    assert "1 of 2 queries have a match from another camera in the gallery" in str(found)
    assert "identities of query and gallery that are trained on too: 1" in str(found)
