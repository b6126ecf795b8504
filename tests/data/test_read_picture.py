"""Pictures stand upright and have 8 bits a channel and no transparency, however they were saved; or are refused."""

import ast
import io
import struct
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest
from PIL import Image

import cace_pyg
from cace_pyg.data.dataset import ReidDataset
from cace_pyg.data.mediapipe_parser import answer
from cace_pyg.data.sample import Sample
from cace_pyg.gallery.page.upload import decode_upload
from cace_pyg.read_picture import read_picture
from cace_pyg.viz.style import picture_array

UPRIGHT = np.arange(8 * 4 * 3, dtype=np.uint8).reshape(8, 4, 3)
ORIENTATION = 0x0112


@pytest.fixture
def turned(tmp_path):
    """A file whose pixels lie on their side, and whose EXIF data says so (6: turn clockwise to see it)."""
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    path = tmp_path / "turned.png"
    Image.fromarray(np.rot90(UPRIGHT)).save(path, exif=exif)
    assert Image.open(path).size == (8, 4)
    return path


@pytest.mark.parametrize(
    "read",
    [
        read_picture,
        lambda path: read_picture(path.read_bytes()),
        lambda path: read_picture(Image.open(path)),
        lambda path: decode_upload(path.read_bytes()),
        picture_array,
        lambda path: picture_array(Image.open(path)),
    ],
    ids=["path", "bytes", "PIL image", "upload", "drawn path", "drawn PIL image"],
)
def test_exif_orientation_is_followed(read, turned):
    np.testing.assert_array_equal(np.asarray(read(turned)), UPRIGHT)


def test_the_callers_picture_is_left_alone(turned):
    picture = Image.open(turned)
    read_picture(picture)
    assert picture.size == (8, 4) and picture.getexif()[ORIENTATION] == 6


RAMP = np.linspace(0, 1, 32).reshape(8, 4)
IN_8_BITS = np.round(RAMP * 255)


def saved(path, array, **options):
    Image.fromarray(array).save(path, **options)
    return path


def deep(path):
    """Grey values of 16 bits, whose upper half Pillow's own convert("RGB") makes white."""
    return saved(path, np.round(RAMP * 65535).astype(np.uint16))


@pytest.mark.parametrize("name", ["deep.png", "deep.tif"])
@pytest.mark.parametrize(
    "read",
    [
        read_picture,
        lambda path: read_picture(path.read_bytes()),
        lambda path: read_picture(Image.open(path)),
        lambda path: read_picture(np.asarray(Image.open(path))),
        lambda path: ReidDataset([Sample(path, 1, 1)], lambda image: image, (8, 4))[0].image.permute(1, 2, 0),
        picture_array,
    ],
    ids=["path", "bytes", "PIL image", "array", "data set", "drawn"],
)
def test_16_bits_are_scaled(read, name, tmp_path):
    found = np.asarray(read(deep(tmp_path / name)))
    np.testing.assert_allclose(found, np.repeat(IN_8_BITS[:, :, None], 3, axis=2), atol=0.51)


def test_16_bits_of_an_upload_are_scaled(tmp_path):
    np.testing.assert_allclose(np.asarray(decode_upload(deep(tmp_path / "a.png").read_bytes()))[..., 0], IN_8_BITS)


def tiff_of_12_bits(values):
    """A TIFF of one row; Pillow reads such files and writes none."""
    packed = int("".join(f"{value:012b}" for value in values), 2).to_bytes(len(values) * 3 // 2, "big")
    tags = {256: len(values), 257: 1, 258: 12, 259: 1, 262: 1, 273: 8, 277: 1, 278: 1, 279: len(packed)}
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
    return struct.pack("<2sHI", b"II", 42, 8 + len(packed)) + packed + struct.pack("<H", len(tags)) + entries + bytes(4)


def test_the_depth_and_the_white_of_a_tiff_are_what_its_tags_say(tmp_path):
    assert np.asarray(read_picture(tiff_of_12_bits([0, 4095, 2048, 257])))[0, :, 0].tolist() == [0, 255, 128, 16]
    path = saved(tmp_path / "b.tif", np.round(RAMP * 65535).astype(np.uint16), tiffinfo={262: 0})  # white is zero
    np.testing.assert_allclose(np.asarray(read_picture(path))[..., 0], 255 - IN_8_BITS)


def test_floats_from_0_to_1_are_scaled_and_others_refused(tmp_path):
    path = saved(tmp_path / "a.tif", RAMP.astype(np.float32))
    np.testing.assert_allclose(np.asarray(read_picture(path))[..., 0], IN_8_BITS)
    for values in (RAMP * 255, RAMP - 0.5, np.where(RAMP > 0.5, np.nan, RAMP)):
        saved(path, values.astype(np.float32))
        with pytest.raises(ValueError, match=r"the picture .*a.tif: Expected a float picture from 0 to 1 .*divide by"):
            read_picture(path)


def test_32_bits_are_refused_by_name_since_their_white_is_not_known(tmp_path):
    path = saved(tmp_path / "a.tif", np.round(RAMP * 65535).astype(np.int32))
    for picture in (path, Image.open(path), path.read_bytes()):
        with pytest.raises(ValueError, match=r"grey values of 32 bits, or with a sign.*save it with 8 or 16"):
            read_picture(picture)
    with pytest.raises(ValueError, match=r"uint8, uint16, or of floats from 0 to 1 .got int32"):
        read_picture(np.asarray(Image.open(path)))


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_what_is_transparent_is_mid_grey_whatever_colour_is_hidden_there(tmp_path, mode):
    found = []
    for hidden in (0, 255):
        pixels = np.full((8, 4, 4), hidden, dtype=np.uint8)
        pixels[..., 3] = 0
        pixels[2:6] = 200, 200, 200, 255
        path = tmp_path / f"{hidden}.png"
        if mode == "P":
            opaque = Image.fromarray(pixels[..., 3] // 255)
            opaque.putpalette([hidden] * 3 + [200] * 3)
            opaque.save(path, transparency=0)
        else:
            Image.fromarray(pixels).convert(mode).save(path)
        found.append(np.asarray(read_picture(path)))
    assert (found[0] == found[1]).all()
    assert (found[0][:2] == 128).all() and (found[0][2:6] == 200).all()


def test_half_of_a_colour_lies_on_grey():
    picture = Image.new("RGBA", (1, 1), (228, 28, 128, 128))
    assert np.asarray(read_picture(picture)).ravel().tolist() == pytest.approx([178, 78, 128], abs=1)


@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.eps"])
def test_postscript_never_starts_a_program(tmp_path, name, monkeypatch):
    path = tmp_path / name
    path.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\nshowpage\n%%EOF\n")
    monkeypatch.setattr("subprocess.check_call", lambda *_, **__: pytest.fail("Ghostscript was started"))
    monkeypatch.setattr("subprocess.Popen", lambda *_, **__: pytest.fail("a program was started"))
    sample = Sample(path, 1, 1)
    task = {"picture": str(path), "map": str(tmp_path / "parts" / "a.png")}
    for read in (
        read_picture,
        lambda path: read_picture(path.read_bytes()),
        lambda path: ReidDataset([sample], lambda image: image, (8, 4))[0],
    ):
        with pytest.raises(ValueError, match="it is none of JPEG"):
            read(path)
    assert "cannot identify" in answer(task, lambda canvas: pytest.fail("was parsed"))["error"]


def test_every_picture_is_opened_with_the_formats_that_are_read():
    """Pillow's Image.open without formats runs Ghostscript for a PostScript file of any name."""
    opened = [
        (path.name, call)
        for path in sorted(Path(cace_pyg.__file__).parent.rglob("*.py"))
        for call in ast.walk(ast.parse(path.read_text()))
        if isinstance(call, ast.Call) and ast.unparse(call.func) in ("Image.open", "PIL.Image.open")
    ]
    assert len(opened) >= 4
    assert [name for name, call in opened if "formats" not in [keyword.arg for keyword in call.keywords]] == []


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "AVIF", "BMP", "GIF", "TIFF"])
def test_a_damaged_file_of_any_form_is_an_unreadable_picture(form):
    if form == "AVIF":
        pytest.importorskip("PIL._avif")
    file = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (24, 24, 3), dtype=np.uint8)).save(file, form)
    whole, rng = file.getvalue(), np.random.default_rng(1)
    assert read_picture(whole).size == (24, 24)
    for turn in range(300):
        damaged = bytearray(whole)
        for _ in range(1 + turn % 3):
            damaged[rng.integers(min(len(damaged), 400))] = rng.integers(256)
        try:
            assert read_picture(bytes(damaged[: len(whole) - turn % 2 * int(rng.integers(len(whole)))])).mode == "RGB"
        except ValueError as error:
            assert "cannot read the picture" in str(error) and str(error).count("\n") < 3


def test_whatever_a_decoder_raises_is_an_unreadable_picture(tmp_path, monkeypatch):
    path = saved(tmp_path / "a.png", UPRIGHT)
    for error in (RuntimeError("Failed to decode frame 0"), IndexError("out of range"), EOFError(), KeyError(7)):
        monkeypatch.setattr(Image.Image, "convert", Mock(side_effect=error))
        with pytest.raises(ValueError, match=f"cannot read the picture .*a.png: {str(error) or 'EOFError'}"):
            read_picture(path)
