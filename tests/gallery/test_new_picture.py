"""What pictures are called, what is told of them, and which cannot be read."""

import os
import shutil
from datetime import UTC, datetime, timedelta, timezone

import numpy as np
import pandas
import pyarrow.parquet
import pytest
from PIL import Image

from cace_pyg import Gallery
from cace_pyg.data.table import read_table
from cace_pyg.gallery import new_picture
from cace_pyg.gallery.columns import kept_value
from cace_pyg.gallery.new_picture import NewPicture, read
from cace_pyg.search import main as search


@pytest.fixture
def gallery(checkpoint, tmp_path):
    return Gallery.create(tmp_path / "people.lance", checkpoint)


def palette_picture(*colours):
    picture = Image.fromarray(np.arange(32 * 16, dtype=np.uint8).reshape(32, 16) % len(colours)).convert("P")
    picture.putdata(list(np.arange(32 * 16) % len(colours)))
    picture.putpalette([channel for colour in colours for channel in colour])
    return picture


def test_palettes_sizes_and_turns_make_other_pictures(gallery):
    red, green = palette_picture((255, 0, 0), (9, 9, 9)), palette_picture((0, 255, 0), (9, 9, 9))
    blue = palette_picture((0, 0, 255), (9, 9, 9))
    found = gallery.add([red, green, blue])
    assert (found.added, found.known, len(gallery)) == (3, 0, 3)
    assert gallery.search(green, top_k=1)[0].image == f"sha256:{NewPicture.of(green, None, None, {}).sha256}"

    pixels = np.random.default_rng(0).integers(0, 255, (32, 16, 3), dtype=np.uint8)
    sizes = [pixels, pixels.reshape(16, 32, 3), pixels.reshape(8, 64, 3)]
    assert gallery.add(sizes).added == 3
    turned = Image.fromarray(pixels)
    turned.getexif()[0x0112] = 3
    assert gallery.add([turned]).added == 1


def test_one_picture_has_one_name_in_whatever_form_it_comes(gallery):
    picture = palette_picture((255, 0, 0), (0, 0, 0), (255, 255, 255))
    pixels = np.asarray(picture.convert("RGB"))
    forms = [picture, picture.convert("RGB"), pixels, pixels / 255, np.asfortranarray(pixels)]
    assert (gallery.add(forms).added, gallery.add(forms).known, len(gallery)) == (1, 5, 1)


def test_pictures_without_a_file_that_cannot_be_read_are_listed(gallery, pictures, tmp_path):
    (tmp_path / "cut.jpg").write_bytes(pictures[0].read_bytes()[:700])
    bad = [Image.open(tmp_path / "cut.jpg"), np.zeros((2, 2, 7), np.uint8), b"no picture", f"{tmp_path}/a\0b.jpg"]
    found = gallery.add([bad[0], pictures[0], *bad[1:], bad[2]])
    assert (found.added, found.known, len(gallery)) == (1, 0, 1)
    names, reasons = zip(*found.unreadable, strict=True)
    assert names[:2] == (str(tmp_path / "cut.jpg"), "a ndarray") and names[2].startswith("sha256:")
    assert "truncated" in reasons[0] and "(2, 2, 7)" in reasons[1] and "cannot read" in reasons[2]


def test_names_that_are_not_utf8_are_listed_and_the_others_added(gallery, checkpoint, pictures, tmp_path, capsys):
    folder = tmp_path / "crops"
    folder.mkdir()
    strange = os.fsdecode(os.fsencode(folder) + b"/c\xff1.jpg")
    try:
        shutil.copy(pictures[0], strange)
    except OSError:
        pytest.skip("this file system takes UTF-8 only")
    shutil.copy(pictures[1], folder / "c2.jpg")
    for pattern in ([], ["--pattern", r"c(?P<camera>.+)\.jpg"]):
        assert search(["index", str(folder), "--gallery", str(gallery.path), *pattern]) == 1
        told = capsys.readouterr().out
        assert "cannot be read: 1" in told and r"/c\udcff1.jpg: its name, camera or metadata is not UTF-8" in told
        assert len(gallery) == 1
    assert gallery.search(strange, top_k=1)[0].camera == "2"  # as a query it needs no name
    assert strange not in gallery and gallery.remove([strange]) == 0 and gallery.thumbnail(strange) is None


BERLIN = timezone(timedelta(hours=1))
NOON = datetime(2026, 1, 31, 12)


@pytest.mark.parametrize(
    ("value", "kept"),
    [
        (np.int64(3), 3), (np.uint8(3), 3), (np.float32(0.5), 0.5), (np.bool_(True), True), (np.str_("a"), "a"),
        (float("nan"), None), (np.float64("nan"), None), (pandas.NaT, None), (np.datetime64("NaT"), None),
        (datetime(2026, 1, 31, 13, tzinfo=BERLIN), NOON), (NOON.replace(tzinfo=UTC), NOON), (NOON, NOON),
        (np.datetime64(NOON, "ns"), NOON), (pandas.Timestamp(NOON), NOON), (pandas.Timestamp(NOON, tz="UTC"), NOON),
        (pandas.Timestamp("2026-01-31T12:00:00.000001234"), NOON + timedelta(microseconds=1)), (None, None),
    ],
)  # fmt: skip
def test_values_are_kept_as_python_has_them(gallery, pictures, value, kept):
    assert kept_value("told", value) == kept and type(kept_value("told", value)) is type(kept)
    told = {"metadata": [{"told": value, "floor": 1}]}
    assert gallery.add(pictures[:1], **told).added == 1
    assert gallery.add(pictures[:1], **told).known == 1
    assert gallery.search(pictures[0])[0].metadata == {"floor": 1} | ({} if kept is None else {"told": kept})


@pytest.mark.parametrize(
    ("told", "message"),
    [
        ({"metadata": [{"badge": 10**19}]}, "a whole number of 64 bits in the column badge .*; give it as text"),
        ({"metadata": [{"badge": [1]}]}, r"text, a number, a time .* in the column badge \(got \[1\], list\)"),
        ({"metadata": [{"badge": b"a"}]}, "in the column badge .*bytes"),
        ({"metadata": [{3: "a"}]}, "metadata column as lower-case letters.*got 3"),
        ({"camera": [3]}, r"a camera as text \(got 3, int\)"),
        ({"taken": ["noon"]}, r"the time it was taken as a datetime \(got 'noon', str\)"),
    ],
)
def test_what_no_column_takes_is_refused(gallery, pictures, told, message):
    with pytest.raises(ValueError, match=message):
        gallery.add(pictures[:1], **told)
    assert len(gallery) == 0 and not gallery.stats()["metadata"]


def test_tables_with_zones_and_nan_are_not_indexed_anew(gallery, pictures, tmp_path, capsys):
    (tmp_path / "told.csv").write_text(
        f"path,time,size\n{pictures[0]},2026-01-31T13:00:00+01:00,nan\n{pictures[1]},2026-01-31T12:30:00Z,2.5\n"
    )
    nanoseconds = pyarrow.array([1_769_860_800_123_456_789, None], pyarrow.timestamp("ns", "Europe/Berlin"))
    told = {"path": [str(path) for path in pictures[2:4]], "time": nanoseconds, "size": [float("nan"), 3.5]}
    pyarrow.parquet.write_table(pyarrow.table(told), tmp_path / "told.parquet")
    for table, times in (
        ("told.csv", {NOON: None, datetime(2026, 1, 31, 12, 30): 2.5}),
        ("told.parquet", {datetime(2026, 1, 31, 12, 0, 0, 123456): None, None: 3.5}),
    ):
        index = ["index", str(tmp_path / table), "--gallery", str(gallery.path)]
        for counts in ("added: 2; replaced, because they had changed: 0", "changed: 0; there already: 2"):
            assert search(index) == 0 and counts in capsys.readouterr().out
        rows = [row for row in gallery._table.rows(None, ["time", "size"]) if row["time"] in times]
        assert {row["time"]: row["size"] for row in rows} == times
    found = gallery.search(pictures[0], where="time = timestamp '2026-01-31 12:00:00'")
    assert [hit.path for hit in found] == [pictures[0]]


def test_nanoseconds_of_a_table_come_as_a_time_of_python(tmp_path):
    told = pyarrow.table({"time": pyarrow.array([1_769_860_800_123_456_789], pyarrow.timestamp("ns"))})
    pyarrow.parquet.write_table(told, tmp_path / "told.parquet")
    (row,) = read_table(tmp_path / "told.parquet")
    assert row["time"] == datetime(2026, 1, 31, 12, 0, 0, 123456) and type(row["time"]) is datetime


@pytest.mark.parametrize("form", ["csv", "parquet"])
def test_a_badge_of_twenty_digits_keeps_them(gallery, pictures, tmp_path, form, capsys):
    badges = ["12345678901234567890", "17"]
    table = tmp_path / f"told.{form}"
    if form == "csv":
        rows = zip(pictures, badges, strict=False)
        table.write_text("path,badge\n" + "".join(f"{path},{badge}\n" for path, badge in rows))
    else:
        numbers = pyarrow.array([int(badge) for badge in badges], pyarrow.uint64())
        told = {"path": [str(path) for path in pictures[:2]], "badge": numbers}
        pyarrow.parquet.write_table(pyarrow.table(told), table)
    assert search(["index", str(table), "--gallery", str(gallery.path)]) == 0, capsys.readouterr().err
    assert {row["badge"] for row in gallery._table.rows(None, ["badge"])} == set(badges)
    (hit,) = gallery.search(pictures[0], where=f"badge = '{badges[0]}'")
    assert hit.metadata == {"badge": badges[0]}


def test_pictures_at_full_size_are_in_memory_a_few_at_a_time(gallery, pictures, monkeypatch):
    """What is left of each is the network's size, and nothing of it changes: neither embedding nor thumbnail."""
    alive, most = [], []
    whole = new_picture.read_picture

    def large(path):
        picture = whole(path).resize((1200, 2400))
        alive.append(1)
        most.append(len(alive))
        return picture

    def resize(picture):
        resized = gallery.embedder.resize(picture)
        assert picture.size == (1200, 2400)
        alive.pop()
        return resized

    monkeypatch.setattr(new_picture, "read_picture", large)
    good, bad = read([NewPicture.of(path, None, None, {}) for path in pictures], resize)
    assert len(good) == len(pictures) > 20 and not bad and max(most) <= 4
    assert all(tuple(picture.resized.shape) == (3, 48, 24) for picture in good)
    full = whole(pictures[0]).resize((1200, 2400))
    embedded = gallery.embedder.embed([good[0].resized])
    assert (embedded.embedding == gallery.embedder([full]).embedding).all()
    assert new_picture._thumbnail(full) == good[0].thumbnail
