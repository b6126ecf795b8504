"""A tree of folders with one's own pictures."""

from pathlib import Path

from cace_pyg.data.own_pictures import PARTS, Labelled, splits_of
from cace_pyg.data.part_map import without_part_maps
from cace_pyg.data.sample import Splits

_PICTURES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")
_TREE = """
  ROOT/
    train/    anna/entrance/1.jpg …     part/identity/camera/picture, or
    query/    bob/1.jpg …               part/identity/picture where no camera is known
    gallery/  bob/2.jpg …"""


def read_image_folder(root: str | Path) -> Splits:
    """The pictures below ``ROOT/{train,query,gallery}/IDENTITY/[CAMERA/]``.

    Names of identities and cameras are numbers or words, see :func:`cace_pyg.data.own_pictures.splits_of`. Hidden
    files, label maps of pictures (``parts`` folders) and other files than pictures are ignored.

    Raises:
        FileNotFoundError: one of the three folders is missing; shows the expected tree.
        ValueError: a picture lies deeper or less deep, or see :func:`cace_pyg.data.own_pictures.splits_of`.
    """
    root = Path(root)
    missing = [part for part in PARTS if not (root / part).is_dir()]
    if missing:
        raise FileNotFoundError(f"no folder {', '.join(missing)} in {root} (data.root); expected{_TREE}")
    return splits_of([_labelled(path, root, part) for part in PARTS for path in _pictures(root / part)], root)


def _pictures(folder: Path) -> list[Path]:
    files = sorted(folder.rglob("*"))
    return without_part_maps(
        [path for path in files if path.suffix.lower() in _PICTURES and path.name[0] != "." and path.is_file()]
    )


def _labelled(path: Path, root: Path, part: str) -> Labelled:
    labels = path.relative_to(root / part).parts[:-1]
    if len(labels) not in (1, 2):
        raise ValueError(f"cannot read identity and camera of {path}; expected{_TREE}")
    return Labelled(path, labels[0], labels[1] if len(labels) == 2 else "", part)
