"""Reading folders in Market-1501's layout."""

from pathlib import Path

import pytest

from cace_pyg.data import read_market_layout
from cace_pyg.data.sample import fingerprint

REAL = Path(__file__).parents[2].parent / "shared" / "data" / "pku_reid_subset"
NAMES = {
    "bounding_box_train": [
        "0002_c1s1_000451_03.jpg",
        "0002_c2s1_000451_03.jpg.jpg",
        "0007_c10s3_000001_00.png",
    ],
    "query": ["0005_c1s1_000001_00.jpg"],
    "bounding_box_test": [
        "-1_c1s1_000001_00.jpg",
        "0000_c3s1_000001_00.jpg",
        "0005_c2s1_000001_00.jpg",
        "Thumbs.db",
    ],
}


@pytest.fixture
def root(tmp_path):
    folder = tmp_path / "set_c9" / "Market"  # a camera-like folder name must not be read as a camera
    for part, names in NAMES.items():
        (folder / part).mkdir(parents=True)
        for name in names:
            (folder / part / name).write_bytes(b"x")
    return folder


def test_names_junk_and_distractors(root):
    splits = read_market_layout(root)
    assert [(s.pid, s.camid) for s in splits.train] == [(2, 1), (2, 2), (7, 10)]
    assert [(s.pid, s.camid) for s in splits.query] == [(5, 1)]
    assert [(s.pid, s.camid) for s in splits.gallery] == [(0, 3), (5, 2)]


def test_one_level_up(root):
    assert read_market_layout(root.parent) == read_market_layout(root)


def test_missing_folders_show_the_expected_tree(root, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"(?s)nowhere.*bounding_box_train/.*found: no such folder"):
        read_market_layout(tmp_path / "nowhere")
    (root / "query").rename(root / "queries")
    with pytest.raises(FileNotFoundError, match=r"(?s)query/.*found: bounding_box_test, bounding_box_train, queries"):
        read_market_layout(root)


def test_a_name_that_does_not_parse_is_shown(root):
    (root / "query" / "me.jpg").write_bytes(b"x")
    with pytest.raises(ValueError, match=r"file name me.jpg.*expected PPPP_cCsS_FFFFFF_BB.jpg"):
        read_market_layout(root)


def test_misplaced_distractors_and_empty_parts(root):
    extra = root / "query" / "0000_c1s1_000001_00.jpg"
    extra.write_bytes(b"x")
    with pytest.raises(ValueError, match="pid 0000 marks distractors.*in query"):
        read_market_layout(root)
    extra.unlink()
    (root / "query" / NAMES["query"][0]).unlink()
    with pytest.raises(ValueError, match="contains no pictures"):
        read_market_layout(root)


def test_the_fingerprint_knows_names_and_sizes(root):
    before = fingerprint(read_market_layout(root))
    assert before == fingerprint(read_market_layout(root.rename(root.parent / "renamed")))
    (root.parent / "renamed" / "query" / NAMES["query"][0]).write_bytes(b"xx")
    assert before != fingerprint(read_market_layout(root.parent / "renamed"))


@pytest.mark.skipif(not REAL.is_dir(), reason="the real crops are on the developers' machines only")
def test_real_crops():
    splits = read_market_layout(REAL)
    counts = [
        (len(part), len({s.pid for s in part}), len({s.camid for s in part}))
        for part in (splits.train, splits.query, splits.gallery)
    ]
    assert counts == [(800, 50, 2), (96, 24, 2), (288, 24, 2)]
