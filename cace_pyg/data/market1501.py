"""Market-1501, and every folder in its layout."""

import re
from pathlib import Path

from cace_pyg.data.sample import Sample, Splits

_FOLDERS = ("bounding_box_train", "query", "bounding_box_test")
_PICTURES = (".jpg", ".jpeg", ".png")
_FOREIGN_PICTURES = (".bmp", ".gif", ".tif", ".tiff", ".webp")  # refused: left out silently they would be missed
# A doubled ending (.jpg.jpg) occurs in copies of the data set; it leaves no doubt about who is shown.
_NAME = re.compile(r"(?P<pid>-1|\d{4,})_c(?P<camid>\d+)s\d+_\d+_\d+(?:\.(?i:jpe?g|png))+")
_TREE = """
  ROOT/
    bounding_box_train/   0002_c1s1_000451_03.jpg …
    query/                0001_c1s1_001051_00.jpg …
    bounding_box_test/    -1_c1s1_000401_03.jpg, 0000_c1s1_000151_01.jpg, 0001_c1s1_001051_03.jpg …"""


def read_market1501(root: str | Path) -> Splits:
    """The pictures of a folder in Market-1501's layout (Zheng et al., 2015), sorted by file name.

    Names are PPPP_cCsS_FFFFFF_BB.jpg (or .jpeg, .png): identity, camera, sequence, frame, box. Junk (pid −1) is left
    out; distractors (pid 0000) stay, in the gallery only. Hidden files and files that are no pictures are ignored.

    Args:
        root: the folder that holds bounding_box_train, query and bounding_box_test, or the one above it.

    Raises:
        FileNotFoundError: a folder is missing; shows the expected tree.
        ValueError: a picture's name does not parse, a part is empty, pid 0 is in train or query, or several folders
            below ``root`` are such data sets.
    """
    root = _locate(Path(root))
    train, query, gallery = (_read(root / folder) for folder in _FOLDERS)
    for folder, samples in zip(_FOLDERS, (train, query), strict=False):
        distractors = [sample.path.name for sample in samples if sample.pid == 0]
        if distractors:
            raise ValueError(
                f"pid 0000 marks distractors, expected in bounding_box_test only (got {distractors[0]} in {folder})"
            )
    return Splits(train, query, gallery)


def _locate(root: Path) -> Path:
    if _has_layout(root):
        return root
    below = sorted(path for path in root.glob("*") if _has_layout(path))
    if len(below) > 1:
        raise ValueError(
            f"Expected one data set in {root} (got {len(below)}: {', '.join(path.name for path in below)}); "
            "give the folder of one of them as data.root"
        )
    if below:
        return below[0]
    found = ", ".join(sorted(path.name for path in root.iterdir())[:8]) if root.is_dir() else "no such folder"
    raise FileNotFoundError(
        f"no data set in Market-1501's layout at {root} (data.root); expected{_TREE}\nfound: {found or 'nothing'}. "
        "For the built-in data: python -m cace_pyg.data synthetic ROOT"
    )


def _has_layout(root: Path) -> bool:
    return all((root / folder).is_dir() for folder in _FOLDERS)


def _read(folder: Path) -> tuple[Sample, ...]:
    pictures = sorted(path for path in folder.iterdir() if _is_picture(path))
    samples = tuple(sample for sample in map(_parse, pictures) if sample.pid != -1)
    if not samples:
        raise ValueError(f"{folder} holds no pictures (.jpg, .jpeg, .png); expected{_TREE}")
    return samples


def _is_picture(path: Path) -> bool:
    # macOS leaves a hidden ._NAME.jpg beside each file that it copies; it holds no picture.
    return path.suffix.lower() in _PICTURES + _FOREIGN_PICTURES and not path.name.startswith(".") and path.is_file()


def _parse(path: Path) -> Sample:
    found = _NAME.fullmatch(path.name)
    if found is None:
        raise ValueError(
            f"cannot read identity and camera from the file name {path.name} (in {path.parent}); expected "
            "PPPP_cCsS_FFFFFF_BB.jpg such as 0002_c1s1_000451_03.jpg, or -1 as identity of junk; rename or remove it"
        )
    return Sample(path, int(found["pid"]), int(found["camid"]))
