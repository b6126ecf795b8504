"""``kill -9`` at any moment: nothing that was reported as added is lost, nothing half-added is found."""

import itertools
import random
import signal
import tempfile

import pytest

from cace_pyg import Gallery
from cace_pyg.gallery.gallery_table import GalleryTable, is_gallery
from cace_pyg.search import main as search
from tests.forkserver import kill_at_work

pytestmark = pytest.mark.usefixtures("ray_runs_meanwhile")
KILLS = 6, 12  # of a process that adds, and of one that makes galleries, which is sooner ready
CHUNK = 5


def keep_adding(path, pictures, log):
    """Add a few pictures at a time, remove some now and then, and report each commit: until killed."""
    import torch

    torch.set_num_threads(1)
    gallery = Gallery.open(path)
    chunks = [pictures[first : first + CHUNK] for first in range(0, len(pictures), CHUNK)]
    with open(log, "a", buffering=1) as file:

        def report(what, names):
            file.write("".join(f"{what} {name}\n" for name in names))

        report("ready", [""])
        for count in itertools.count():
            these = chunks[count % len(chunks)]
            if count % 4 == 0 or count >= len(chunks):  # from the second round on, all that is added was removed
                report("removing", these)
                gallery.remove(these)
                report("removed", these)
            gallery.add(these)
            report("added", these)
            if count % 6 == 0:
                gallery.optimize()


def told(log):
    """Pictures that are in the gallery for sure, and those that may be."""
    sure, maybe = set(), set()
    for line in log.read_text().splitlines():
        what, _, name = line.partition(" ")
        if what == "added":
            sure.add(name)
        elif what == "removing":
            sure.discard(name)
            maybe.add(name)
        elif what == "removed":
            maybe.discard(name)
    return sure, maybe


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="this system has no SIGKILL")
def test_killed_while_adding(checkpoint, pictures, splits, tmp_path):
    pictures = [str(path) for path in [*pictures, *(sample.path for sample in splits.train)]]
    path, log = tmp_path / "people.lance", tmp_path / "log"
    Gallery.create(path, checkpoint)
    chosen = random.Random(0)
    for _ in range(KILLS[0]):
        log.unlink(missing_ok=True)
        before = {row["image"] for row in Gallery.open(path)._table.rows(None, ["image"])}
        kill_at_work(keep_adding, (path, pictures, log), log, chosen.uniform(0, 0.5))

        gallery = Gallery.open(path)
        rows = gallery._table.rows(None, ["image", "clues", "thumbnail", "embedding"])
        names = [row["image"] for row in rows]
        assert len(names) == len(set(names)), "an image is found twice"
        sure, maybe = told(log)
        unharmed = before - {line.split(" ", 1)[1] for line in log.read_text().splitlines() if line[:3] == "rem"}
        assert (sure | unharmed) - maybe <= set(names), "an image that was reported is lost"
        gallery._codec.decode([row["clues"] for row in rows], gallery.embedder.model)  # all of them whole
        assert all(row["thumbnail"][:2] == b"\xff\xd8" and len(row["embedding"]) == 16 for row in rows)
        if rows:
            hits = gallery.search(pictures[0], top_k=len(rows))
            assert {hit.image for hit in hits} == set(names)
    gallery.add(pictures)
    assert {row["image"] for row in gallery._table.rows(None, ["image"])} == set(pictures)


def keep_making(folder, log):
    """Make one gallery's table after the other, each in a folder of its own: until killed."""
    for count in itertools.count():
        told = log.with_suffix(".next")
        told.write_text(str(count))
        told.replace(log)  # a kill while it is written would leave it empty
        GalleryTable.create(folder / str(count), 16, {"format": 2})


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="this system has no SIGKILL")
def test_killed_while_a_gallery_is_made(tmp_path):
    """It is there with its key, or not there; then it can be made."""
    chosen, outcomes = random.Random(0), []
    for number in range(KILLS[1]):
        folder, log = tmp_path / str(number), tmp_path / f"log{number}"
        kill_at_work(keep_making, (folder, log), log, chosen.uniform(0, 0.1))
        last = folder / log.read_text()
        outcomes.append(is_gallery(last))
        if not outcomes[-1]:
            assert not (last / "images.lance").exists()
            GalleryTable.create(last, 16, {"format": 2})
        assert sorted(path.name for path in last.iterdir() if path.suffix == ".lance") == ["images.lance"]
        table = GalleryTable(last)
        assert (len(table), table.about) == (0, {"format": 2})
        assert table._table.schema.field("image").metadata  # the key
        for made in folder.iterdir():
            assert len(GalleryTable(made)) == 0
    assert not all(outcomes)


@pytest.mark.parametrize("left", ["nothing", "folder", "data"])
def test_what_a_kill_of_an_earlier_version_left_is_no_gallery(checkpoint, pictures, tmp_path, left, capsys):
    path, crops = tmp_path / "people.lance", tmp_path / "crops"
    crops.mkdir()
    (crops / "a.jpg").write_bytes(pictures[0].read_bytes())
    (path / "images.lance" / ("_versions" if left == "folder" else "data")).mkdir(parents=True)
    if left == "data":
        (path / "images.lance" / "data" / "half.lance").write_bytes(b"half")
    (path / ".unfinished-1" / "images.lance").mkdir(parents=True)
    index = ["index", str(crops), "--gallery", str(path)]
    assert search(["stats", "--gallery", str(path)]) == 2
    assert "there is no gallery at" in capsys.readouterr().err
    assert search(index) == 2 and "there is no gallery at" in capsys.readouterr().err
    assert search([*index, "--checkpoint", str(checkpoint)]) == 0
    assert "added: 1" in capsys.readouterr().out
    assert sorted(file.name for file in path.iterdir()) == ["images.lance", "model.ckpt"]
    assert not (path / "images.lance" / "data" / "half.lance").exists()


def test_the_second_of_two_who_make_one_gallery_at_once_is_refused(tmp_path, monkeypatch):
    """The second is told; what the first made and wrote stays."""
    real, whole = GalleryTable.create.__func__, tempfile.mkdtemp

    def sooner(*args, **options):
        monkeypatch.setattr(tempfile, "mkdtemp", whole)
        real(GalleryTable, tmp_path, 16, {"format": 2, "whose": "the first"})
        return whole(*args, **options)

    monkeypatch.setattr(tempfile, "mkdtemp", sooner)
    with pytest.raises(FileExistsError, match="there is a gallery at .* already: another process just made it"):
        GalleryTable.create(tmp_path, 16, {"format": 2, "whose": "the second"})
    assert GalleryTable(tmp_path).about["whose"] == "the first"
    assert [path.name for path in tmp_path.iterdir()] == ["images.lance"]
