"""Market-1501's three folders, which many data sets share."""

import re
from dataclasses import dataclass
from pathlib import Path

from cace_pyg.data.sample import Sample, Splits
from cace_pyg.data.sorted_pictures import OTHER_PICTURES, PICTURES, pictures_below

_FOLDERS = ("bounding_box_train", "query", "bounding_box_test")


@dataclass(frozen=True)
class NameForm:
    """How identity and camera are written in a data set's file names, without their extension.

    Attributes:
        pattern: regular expression of a whole name, with the groups ``pid`` and ``camid``.
        form: the same in a readable form.
        example: one such name.
    """

    pattern: str
    form: str
    example: str


MARKET_NAMES = NameForm(
    r"(?P<pid>-1|\d{4,})_c(?P<camid>\d+)s\d+_\d+_\d+", "PPPP_cCsS_FFFFFF_BB.jpg", "0002_c1s1_000451_03.jpg"
)
_TREE = """
  ROOT/
    bounding_box_train/   {0} …
    query/                {0} …
    bounding_box_test/    {0} …"""
# A doubled extension (.jpg.jpg) occurs in copies of the data set; identity and camera are still clear.
_ENDING = r"(?:\.(?i:jpe?g|png))+"


def read_market_layout(root: str | Path, names: NameForm = MARKET_NAMES) -> Splits:
    """The pictures of a folder in Market-1501's layout (Zheng et al., 2015), sorted by file name; any number of them.

    Names are PPPP_cCsS_FFFFFF_BB.jpg (or .jpeg, .png): identity, camera, sequence, frame, box; or as ``names`` says.
    Junk (pid −1) is left out; distractors (pid 0000) stay, and may only be in the gallery. Subfolders of the three are
    read, too, see :func:`cace_pyg.data.sorted_pictures.pictures_below`; files that are not pictures are ignored.

    Args:
        root: the folder with bounding_box_train, query and bounding_box_test, the one above it, or one of the three.
        names: form of the file names.

    Raises:
        FileNotFoundError: a folder is missing (except training, which an evaluation does not need); the message shows
            the tree.
        ValueError: a picture's name cannot be parsed, a part is empty, pid 0 is in train or query, or several folders
            in ``root`` are such data sets.
    """
    root = _locate(Path(root), names)
    there = (root / _FOLDERS[0]).is_dir()
    train = _read(root / _FOLDERS[0], names) if there else ()  # enough to evaluate
    query, gallery = (_read(root / folder, names) for folder in _FOLDERS[1:])
    for folder, samples in zip(_FOLDERS, (train, query), strict=False):
        distractors = [sample.path.name for sample in samples if sample.pid == 0]
        if distractors:
            raise ValueError(
                f"pid 0000 marks distractors, expected in bounding_box_test only (got {distractors[0]} in {folder})"
            )
    return Splits(train, query, gallery)


def _locate(root: Path, names: NameForm) -> Path:
    if _has_layout(root):
        return root
    if root.name in _FOLDERS and _has_layout(root.parent):
        return root.parent
    below = sorted(path for path in root.glob("*") if _has_layout(path))
    if len(below) > 1:
        raise ValueError(
            f"Expected one data set in {root} (got {len(below)}: {', '.join(path.name for path in below)}); "
            "give the folder of one of them as data.root"
        )
    if below:
        return below[0]
    if root.is_file():
        raise ValueError(f"Expected a folder as data.root (got the file {root}); for a table give --data.name manifest")
    found = ", ".join(sorted(path.name for path in root.iterdir())[:8]) if root.is_dir() else "no such folder"
    raise FileNotFoundError(
        f"no data set in Market-1501's layout at {root} (data.root); expected"
        f"{_TREE.format(names.example)}\nfound: {found or 'nothing'}. "
        "For your own file names: --data.pattern (docs/data.md); for the built-in data: python -m cace_pyg.data "
        "synthetic ROOT"
    )


def _has_layout(root: Path) -> bool:
    return all((root / folder).is_dir() for folder in _FOLDERS[1:])


def _read(folder: Path, names: NameForm) -> tuple[Sample, ...]:
    found = pictures_below(folder, PICTURES + OTHER_PICTURES)  # other formats are refused by name
    pictures = sorted(found, key=lambda path: path.name)  # those of one name stay in the order of their folders
    form = re.compile(names.pattern + _ENDING)
    samples = tuple(sample for sample in (_parse(path, form, names) for path in pictures) if sample.pid != -1)
    if not samples:
        raise ValueError(f"{folder} contains no pictures (.jpg, .jpeg, .png); expected{_TREE.format(names.example)}")
    return samples


def _parse(path: Path, form: re.Pattern[str], names: NameForm) -> Sample:
    found = form.fullmatch(path.name)
    if found is None:
        raise ValueError(
            f"cannot read identity and camera from the file name {path.name} (in {path.parent}); expected "
            f"{names.form} such as {names.example}, or -1 as identity of junk; rename or remove it, or give the "
            "data set's own name as data.name (python -m cace_pyg.data check ROOT says which fits)"
        )
    return Sample(path, int(found["pid"]), int(found["camid"]))
