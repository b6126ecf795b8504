"""A damaged gallery refuses, or answers as before: never otherwise."""

import json
import shutil
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest

from cace_pyg import Gallery
from cace_pyg.gallery.damage import UnreadableTableError
from cace_pyg.gallery.gallery_table import Entry, GalleryTable
from cace_pyg.search import main as search
from tests.forkserver import FORKSERVER

pytestmark = pytest.mark.usefixtures("ray_runs_meanwhile")
CHANNELS, NEAREST = 16, 4
EACH = 45  # places in a file


def small_table(folder):
    """Two data files and a file of removed rows."""
    chosen = np.random.default_rng(0)
    table = GalleryTable.create(folder, CHANNELS, {"format": 2})
    for part in "ab":
        table.put(
            [
                Entry(
                    f"/crops/{part}{number}.jpg", "0" * 64, chosen.standard_normal(CHANNELS), chosen.bytes(300),
                    chosen.bytes(200), f"c{number % 3}", datetime(2026, 1, 31, number),
                    {"pid": number, "size": number / 7},
                )
                for number in range(8)
            ]
        )  # fmt: skip
    table.remove_images(["/crops/a3.jpg"])
    return table


def answer(folder):
    table = GalleryTable(folder).snapshot()
    rows = table.nearest(np.ones(CHANNELS, np.float32), NEAREST, None)
    return [
        [row["image"], row["embedding"].tolist(), clues.hex(), row["camera"], str(row["time"]), row["metadata"]]
        for row, clues in zip(rows, table.clues(rows), strict=True)
    ]


def damages(folder):
    """File, place and kind of damage, in a fixed order."""
    files = [*folder.rglob("data/*.lance"), *folder.rglob("_deletions/*"), *folder.rglob("_versions/*.manifest")]
    for number, file in enumerate(sorted(files, key=lambda file: (file.parent.name, file.stat().st_mtime))):
        size = file.stat().st_size
        for step in range(EACH):
            yield file, step * size // EACH + number, ("flip", "bit", "cut")[step % 3]


def answer_to_damages(folder, log, first):
    """Write what each damage leads to; a child of its own, for Lance may end the process where memory is asked for."""
    expected = answer(folder)
    with log.open("a", buffering=1) as told:
        for file, place, kind in list(damages(folder))[first:]:
            whole = file.read_bytes()
            place = min(place, len(whole) - 1)
            changed = whole[place] ^ (1 if kind == "bit" else 255)
            told.write("begun ")
            file.write_bytes(whole[:place] if kind == "cut" else whole[:place] + bytes([changed]) + whole[place + 1 :])
            try:
                became = "same" if answer(folder) == expected else "OTHER"
            except UnreadableTableError as error:
                became = "refused" if str(folder) in str(error) and "backup" in str(error) else "UNTOLD"
            except BaseException as error:
                became = f"{type(error).__name__}: {error}"
            file.write_bytes(whole)
            told.write(json.dumps([file.parent.name, kind, place, became]) + "\n")


def test_a_byte_that_changed_is_refused_or_changes_nothing(tmp_path):
    folder, log = tmp_path / "people.lance", tmp_path / "log"
    small_table(folder)
    shutil.copytree(folder, tmp_path / "whole")
    log.touch()
    count = len(list(damages(folder)))
    while (done := log.read_text().count("begun")) < count:
        child = FORKSERVER.Process(target=answer_to_damages, args=(folder, log, done))
        child.start()
        child.join()
        if child.exitcode == 0:
            break
        shutil.rmtree(folder)
        shutil.copytree(tmp_path / "whole", folder)
        log.write_text(log.read_text() + json.dumps(["?", "?", 0, "the process ended"]) + "\n")
    results = [json.loads(line.removeprefix("begun ")) for line in log.read_text().splitlines()]
    assert len(results) == count > 300
    wrong = [result for result in results if result[3] not in ("same", "refused", "the process ended")]
    assert not wrong, wrong
    refused = [where for where, *_, became in results if became == "refused"]
    assert refused.count("data") > 15 and refused.count("_versions") > 5 and refused.count("_deletions") > 5
    assert sum(result[3] == "the process ended" for result in results) <= 3


@pytest.mark.parametrize("part", ["embedding", "clues", "image", "camera", "pid", "thumbnail"])
def test_each_part_of_a_row_is_compared(tmp_path, part):
    """Even where the damaged row would not have been among the nearest, or would have been the nearest."""
    table = small_table(tmp_path)
    values = {
        "embedding": list(np.full(CHANNELS, -1.0)), "clues": b"other", "image": "/crops/other.jpg", "camera": "c9",
        "pid": 99, "thumbnail": b"other",
    }  # fmt: skip
    nearest = answer(tmp_path)[0][0]
    table._table.update(where=f"image = '{nearest}'", values={part: values[part]})  # without a new check sum
    told = "its clues" if part == "clues" else "its thumbnail" if part == "thumbnail" else "its facts"
    with pytest.raises(RuntimeError, match=f"damaged at the picture .*{told}.* changed on disk; remove the picture"):
        answer(tmp_path) if part != "thumbnail" else GalleryTable(tmp_path).parts_of(nearest, ["thumbnail"])


def test_columns_that_come_later_and_files_put_together_leave_the_sums_right(tmp_path):
    table = small_table(tmp_path)
    before = answer(tmp_path)
    table.add_columns([{"floor": "upstairs"}])
    table.optimize(erase=True)
    assert [hit[:5] for hit in answer(tmp_path)] == [hit[:5] for hit in before]


def test_a_damaged_manifest_is_told_in_one_line(shown_gallery, tmp_path, capsys):
    path = tmp_path / "people.lance"
    shutil.copytree(shown_gallery.path, path)
    newest = min(path.rglob("*.manifest"))  # they count down
    newest.write_bytes(newest.read_bytes()[:100])
    assert search(["stats", "--gallery", str(path)]) == 2
    told = capsys.readouterr().err
    assert told.startswith(f"error: the gallery {path} cannot be read: ") and told.count("\n") == 1
    assert "copy it back from a backup, or index the pictures into another --gallery" in told


def test_a_panic_of_lance_is_a_runtime_error(shown_gallery, monkeypatch):
    class PanicException(BaseException):
        """As pyo3 has it, which cannot be imported."""

    def panic(*_, **__):
        raise PanicException("index out of bounds")

    table = GalleryTable(shown_gallery.path)
    monkeypatch.setattr(table._table, "merge_insert", lambda _: panic())
    monkeypatch.setattr(table._database, "open_table", panic)
    for use in (table.snapshot, lambda: table.put([Entry("a", "", np.zeros(16), b"", b"")])):
        with pytest.raises(UnreadableTableError, match="cannot be read: index out of bounds; its files may be damaged"):
            use()


def test_a_gallery_of_before_is_refused_with_what_to_do(shown_gallery, tmp_path, monkeypatch):
    for number, remedy in ((1, "index the pictures again into another --gallery"), (3, "update cace_pyg")):
        monkeypatch.setattr(GalleryTable, "about", {"format": number})
        with pytest.raises(ValueError, match=rf"format 2 at .*\(got {number}\); {remedy}"):
            Gallery.open(shown_gallery.path)


def test_a_file_that_goes_meanwhile_costs_another_read_only(shown_gallery, pictures, monkeypatch):
    """As where another process optimises: what it put together it deletes."""
    expected = shown_gallery.search(pictures[0])
    whole, tries = GalleryTable.clues, []

    def gone_once(self, rows):
        tries.append(len(rows))
        if len(tries) == 1:
            raise UnreadableTableError("gone")
        return whole(self, rows)

    monkeypatch.setattr(GalleryTable, "clues", gone_once)
    found = shown_gallery.search(pictures[0])
    assert [(hit.image, hit.distance) for hit in found] == [(hit.image, hit.distance) for hit in expected]
    assert len(tries) == 2
    monkeypatch.setattr(GalleryTable, "clues", lambda self, rows: gone_once(self, tries.clear() or rows))
    with pytest.raises(UnreadableTableError, match="gone"):
        shown_gallery.search(pictures[0])


def test_a_file_that_is_gone_is_told(shown_gallery, pictures, tmp_path):
    path = tmp_path / "people.lance"
    shutil.copytree(shown_gallery.path, path)
    for file in Path(path).rglob("data/*.lance"):
        file.unlink()
    for where in (None, "camera = 'c1'"):
        with pytest.raises(RuntimeError, match="cannot be read: .*Not found: .*its files may be damaged"):
            Gallery.open(path).search(pictures[0], where=where)
