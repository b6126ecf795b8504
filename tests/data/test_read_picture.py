"""Pictures stand upright, however the camera was held."""

import numpy as np
import pytest
from PIL import Image

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
