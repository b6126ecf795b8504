"""Several writers in one gallery: every image is in it once, whoever writes, and whoever dies."""

import json
import os
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from cace_pyg import Gallery
from cace_pyg.gallery import add_on_ray as module
from cace_pyg.gallery.gallery_table import Entry, GalleryTable
from cace_pyg.search import main as search
from tests.forkserver import FORKSERVER
from tests.gallery.killed_on_ray import ENDED, FAILED, Ended

pytestmark = pytest.mark.usefixtures("ray_runs_meanwhile")
ROUNDS, WRITERS, NAMES = 8, 3, 5


def entry(name, writer, **metadata):
    return Entry(name, str(writer), np.ones(4, np.float32) / 2, b"clues", b"thumbnail", metadata=metadata)


def write(folder, writer, barrier):
    table = GalleryTable(folder)
    for number in range(ROUNDS):
        barrier.wait(60)  # all at once
        table.put([entry(f"{number}-{name}", writer, **{f"new{number}": name}) for name in range(NAMES)])


@pytest.mark.parametrize("kind", ["new", "indexed"])
def test_the_same_names_from_several_writers_are_there_once(tmp_path, kind):
    """Lance alone would keep every writer's rows: neither sees the other's, which are new, and all are inserted."""
    table = GalleryTable.create(tmp_path, 4, {})
    table.put([entry(f"before-{name}", 0) for name in range(300)])
    if kind == "indexed":
        from lancedb.index import BTree

        table._table.create_index("image", config=BTree())
    barrier = FORKSERVER.Barrier(WRITERS)
    writers = [FORKSERVER.Process(target=write, args=(tmp_path, writer, barrier)) for writer in range(WRITERS)]
    for process in writers:
        process.start()
    for process in writers:
        process.join()
    assert [process.exitcode for process in writers] == [0] * WRITERS
    names = [row["image"] for row in table.rows(None, ["image"])]
    assert len(names) == len(set(names)) == 300 + ROUNDS * NAMES
    assert sorted(table.metadata_columns) == [f"new{number}" for number in range(ROUNDS)]
    told = [row for row in table.rows("new3 is not null", ["image", "new3", "new4"])]
    assert sorted((row["image"], row["new3"], row["new4"]) for row in told) == [
        (f"3-{i}", i, None) for i in range(NAMES)
    ]


@pytest.mark.parametrize("writes", ["remove", "replace", "add", "optimize"])
def test_a_search_sees_one_version_whoever_writes_meanwhile(checkpoint, pictures, tmp_path, writes, monkeypatch):
    """The writer commits between the search's two reads, of the nearest rows and of their clues."""
    path = tmp_path / "people.lance"
    gallery = Gallery.create(path, checkpoint)
    gallery.add(pictures[:12])
    other = Gallery.open(path)
    expected = gallery.search(pictures[0], top_k=20)
    read, written = GalleryTable.clues, []

    def write_first(self, rows):
        if not written:
            written.append(writes)
            if writes == "remove":
                other.remove(pictures[:6])
            elif writes == "replace":
                other.add(pictures[:6], [f"c{number}" for number in range(6)])
            elif writes == "add":
                other.add(pictures[12:20])
            else:
                other.remove(pictures[:6])
                other.optimize(erase=True)
        return read(self, rows)

    monkeypatch.setattr(GalleryTable, "clues", write_first)
    found = gallery.search(pictures[0], top_k=20)
    assert written == [writes]
    if writes != "optimize":  # the files of before are gone: the search is made again, on what is left
        assert [(hit.image, hit.distance) for hit in found] == [(hit.image, hit.distance) for hit in expected]
    after = gallery.search(pictures[0], top_k=20)
    assert len(after) == {"remove": 6, "replace": 12, "add": 20, "optimize": 6}[writes]
    if writes == "optimize":
        assert [(hit.image, hit.distance) for hit in found] == [(hit.image, hit.distance) for hit in after]


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="looks for open files in /proc")
def test_a_worker_that_is_killed_costs_nothing(begin_on_ray):
    """It was killed where it waited for a picture, a commit of the same task behind it."""
    pytest.importorskip("ray")
    folder, until = begin_on_ray(), time.monotonic() + 300
    while not (folder / ENDED).exists():
        assert not (folder / FAILED).exists(), (folder / FAILED).read_text()
        assert time.monotonic() < until
        time.sleep(0.1)
    found = Ended(*json.loads((folder / ENDED).read_text()))
    assert found.status == 1, found.errors
    assert "added: 579; replaced, because they had changed: 0; there already: 0" in found.printed
    assert "cannot be read: 1" in found.printed and "100.jpg: cannot read the picture" in found.printed
    assert "WARN" not in found.errors and "Traceback" not in found.errors

    assert search([*found.index, "--gallery", str(folder / "local.lance")]) == 1
    columns = ["image", "sha256", "camera", "time", "floor", "size", "left", "embedding", "thumbnail"]
    rows, expected = (
        sorted(Gallery.open(path)._table.rows(None, columns), key=lambda row: row["image"])
        for path in (found.gallery, folder / "local.lance")
    )
    assert len(rows) == len(expected) == 579
    for row, other in zip(rows, expected, strict=True):
        np.testing.assert_allclose(row.pop("embedding"), other.pop("embedding"), atol=2e-3)  # half precision
        assert row == other


def test_options_that_do_not_fit_ray_are_refused(tmp_path, capsys, pictures, checkpoint, monkeypatch):
    for name in ("RAY_USAGE_STATS_ENABLED", "RAY_BACKEND_LOG_LEVEL"):
        monkeypatch.setenv(name, os.environ.get(name, "0"))  # what the command sets is taken back
    index = ["index", str(pictures[0].parent), "--gallery", str(tmp_path / "g"), "--checkpoint", str(checkpoint)]
    assert search([*index, "--workers=2"]) == 2
    assert "--workers and --ray_address are for --ray" in capsys.readouterr().err
    (tmp_path / "table.csv").write_text("path\na.jpg\n")
    assert search(["index", str(tmp_path / "table.csv"), *index[2:], "--pattern", "(?P<a>a)"]) == 2
    assert "leave --pattern and --metadata out" in capsys.readouterr().err
    assert search([*index, "--ray", "--workers=0"]) == 2
    assert "Expected at least one worker (got 0)" in capsys.readouterr().err
    monkeypatch.setitem(sys.modules, "ray", None)
    assert search([*index, "--ray"]) == 2
    assert "pip install 'cace-pyg[cluster]'" in capsys.readouterr().err
    assert module.__name__ == "cace_pyg.gallery.add_on_ray"  # it is imported without Ray


def test_a_cluster_that_is_not_there_is_named(tmp_path, capsys, pictures, checkpoint, monkeypatch):
    pytest.importorskip("ray")
    for name in ("RAY_USAGE_STATS_ENABLED", "RAY_BACKEND_LOG_LEVEL"):
        monkeypatch.setenv(name, os.environ.get(name, "0"))
    index = ["index", str(pictures[0].parent), "--gallery", str(tmp_path / "g"), "--checkpoint", str(checkpoint)]
    for address in ("127.0.0.1:1", "nowhere"):
        assert search([*index, "--ray", f"--ray_address={address}"]) == 2
        assert f"there is no Ray cluster at {address}" in capsys.readouterr().err
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))  # where Ray notes the cluster that auto means
    (tmp_path / "ray").mkdir()
    (tmp_path / "ray" / "ray_current_cluster").write_text("127.0.0.1:1\n")
    for told, meant in (("", "127.0.0.1:1"), ("auto", "127.0.0.1:1"), ("127.0.0.1:2", "127.0.0.1:2")):
        monkeypatch.setenv("RAY_ADDRESS", told)
        assert search([*index, "--ray", "--ray_address=auto"]) == 2
        assert f"there is no Ray cluster at {meant}, which auto is" in capsys.readouterr().err
