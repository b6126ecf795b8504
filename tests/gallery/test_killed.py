"""``kill -9`` at any moment: nothing that was reported as added is lost, nothing half-added is found."""

import itertools
import random
import signal
import time

import pytest

from cace_pyg import Gallery
from tests.forkserver import FORKSERVER

KILLS = 12
CHUNK = 5


def keep_adding(path, pictures, log):
    """Add a few pictures at a time, remove some now and then, and report each commit: until killed."""
    import torch

    torch.set_num_threads(1)
    gallery = Gallery.open(path)
    chunks = [pictures[first : first + CHUNK] for first in range(0, len(pictures), CHUNK)]
    with open(log, "a", buffering=1) as file:

        def report(what, names):
            file.write("".join(f"{what} {one}\n" for one in names))

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
    pictures = [str(one) for one in [*pictures, *(sample.path for sample in splits.train)]]
    path, log = tmp_path / "people.lance", tmp_path / "log"
    Gallery.create(path, checkpoint)
    chosen = random.Random(0)
    for _ in range(KILLS):
        log.unlink(missing_ok=True)
        before = {row["image"] for row in Gallery.open(path)._table.rows(None, ["image"])}
        process = FORKSERVER.Process(target=keep_adding, args=(path, pictures, log))
        process.start()
        while not log.exists() or "ready" not in log.read_text():
            assert process.is_alive()
            time.sleep(0.002)
        time.sleep(chosen.uniform(0, 0.5))
        process.kill()
        process.join()
        assert process.exitcode == -signal.SIGKILL  # it was at work

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
