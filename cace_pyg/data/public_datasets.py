"""Market-1501, DukeMTMC-reID, Occluded-DukeMTMC and MSMT17 as their authors distribute them, with checked counts.

DukeMTMC was withdrawn by its authors: its readers are for researchers who already have it, and nothing here
downloads it.
"""

import os
from pathlib import Path

from cace_pyg.data.counts import Counts, SplitCounts, check_counts
from cace_pyg.data.market_layout import NameForm, read_market_layout
from cace_pyg.data.sample import Sample, Splits

MARKET1501 = SplitCounts(Counts(12_936, 751, 6), Counts(3_368, 750, 6), Counts(15_913, 750, 6))


def read_market1501(root: str | Path, allow_partial: bool = False) -> Splits:
    """Market-1501 (Zheng et al., ICCV 2015) as its authors distribute it, with checked counts.

    Its gallery folder has 19,732 pictures: 3,819 with pid −1 are junk and left out, 2,798 with pid 0000 are
    distractors and stay.

    Raises:
        FileNotFoundError, ValueError: see :func:`cace_pyg.data.market_layout.read_market_layout`, and
            :func:`cace_pyg.data.counts.check_counts` with ``allow_partial``.
    """
    splits = read_market_layout(root)
    check_counts("Market-1501", splits, MARKET1501, allow_partial)
    return splits


DUKE_NAMES = NameForm(r"(?P<pid>\d{4,})_c(?P<camid>\d+)_f\d+", "PPPP_cC_fFFFFFFF.jpg", "0001_c2_f0046182.jpg")
DUKEMTMC = SplitCounts(Counts(16_522, 702, 8), Counts(2_228, 702, 8), Counts(17_661, 1_110, 8))


def read_dukemtmc(root: str | Path, allow_partial: bool = False) -> Splits:
    """DukeMTMC-reID (Ristani et al., 2016; Zheng et al., ICCV 2017), with checked counts.

    Raises:
        FileNotFoundError, ValueError: see :func:`cace_pyg.data.market_layout.read_market_layout`, and
            :func:`cace_pyg.data.counts.check_counts` with ``allow_partial``.
    """
    splits = read_market_layout(root, DUKE_NAMES)
    check_counts("DukeMTMC-reID", splits, DUKEMTMC, allow_partial)
    return splits


OCCLUDED_DUKE = SplitCounts(Counts(15_618, 702, 8), Counts(2_210, 519, 8), Counts(17_661, 1_110, 8))


def read_occluded_duke(root: str | Path, allow_partial: bool = False) -> Splits:
    """Occluded-DukeMTMC (Miao et al., ICCV 2019), with checked counts: folders made by its authors' lists.

    Raises:
        FileNotFoundError, ValueError: see :func:`cace_pyg.data.market_layout.read_market_layout`, and
            :func:`cace_pyg.data.counts.check_counts` with ``allow_partial``.
    """
    splits = read_market_layout(root, DUKE_NAMES)
    check_counts("Occluded-DukeMTMC", splits, OCCLUDED_DUKE, allow_partial)
    return splits


MSMT17 = SplitCounts(Counts(30_248, 1_041, 15), Counts(11_659, 3_060, 15), Counts(82_161, 3_060, 15))
MSMT17_TRAINVAL = SplitCounts(Counts(32_621, 1_041, 15), MSMT17.query, MSMT17.gallery)
_FOLDERS = (("train", "test"), ("mask_train_v2", "mask_test_v2"))  # V1, V2
_LISTS = ("list_train.txt", "list_val.txt", "list_query.txt", "list_gallery.txt")
_TREE = """
  ROOT/
    list_train.txt  list_val.txt  list_query.txt  list_gallery.txt
    train/ and test/                  (V1), or
    mask_train_v2/ and mask_test_v2/  (V2)"""


def read_msmt17(root: str | Path, allow_partial: bool = False, validation: bool = False) -> Splits:
    """MSMT17 (Wei et al., CVPR 2018) as its authors distribute it, with checked counts.

    Its identities begin at 0, which means a distractor here, so 1 is added to each. The camera is the third field of a
    file name.

    Args:
        root: the folder of the lists, the one above it, or one of its picture folders.
        allow_partial: skip listed pictures that are not on disk, and warn instead of raising.
        validation: also train on the 2,373 validation pictures, as for some published results; the paper does not.

    Raises:
        FileNotFoundError: there is no such folder, or listed pictures are missing; the message shows the expected tree
            or the first missing picture.
        ValueError: a line or a file name cannot be parsed, or the counts differ
            (:func:`cace_pyg.data.counts.check_counts`).
    """
    root, (train, test) = _locate(Path(root))
    lists = [(train, _LISTS[: 1 + validation]), (test, _LISTS[2:3]), (test, _LISTS[3:])]
    on_disk = {folder: _pictures(root / folder) for folder in (train, test)}
    parts = [
        [sample for name in names for sample in _read(root / name, root / folder, on_disk[folder], allow_partial)]
        for folder, names in lists
    ]
    splits = Splits(*(tuple(sorted(part, key=lambda sample: sample.path.name)) for part in parts))
    check_counts("MSMT17", splits, MSMT17_TRAINVAL if validation else MSMT17, allow_partial)
    return splits


def read_msmt17_trainval(root: str | Path, allow_partial: bool = False) -> Splits:
    """:func:`read_msmt17`, with the validation pictures in the training part."""
    return read_msmt17(root, allow_partial, validation=True)


def _locate(root: Path) -> tuple[Path, tuple[str, str]]:
    """The folder of the lists, and the names of its picture folders."""
    above = [root.parent] if root.name in (*_FOLDERS[0], *_FOLDERS[1]) else []
    here = [(place, names) for place in (root, *above) for names in _FOLDERS if _has_layout(place, names)]
    if here:
        return here[0]
    below = [(place, names) for place in sorted(root.glob("*")) for names in _FOLDERS if _has_layout(place, names)]
    if not below:
        raise FileNotFoundError(f"no MSMT17 at {root} (data.root), one level up or down; expected{_TREE}")
    if len(below) > 1:
        raise ValueError(
            f"Expected one data set in {root} (got {', '.join(place.name for place, _ in below)}); give the folder of "
            "one of them as data.root"
        )
    return below[0]


def _has_layout(root: Path, names: tuple[str, str]) -> bool:
    return all((root / name).is_dir() for name in names) and all((root / name).is_file() for name in _LISTS)


def _pictures(folder: Path) -> set[str]:
    """Files in the subfolders of a folder, named as in the lists; 130,000 ``Path`` objects would take a second."""
    return {f"{below.name}/{name}" for below in folder.iterdir() if below.is_dir() for name in os.listdir(below)}


def _read(names: Path, folder: Path, on_disk: set[str], allow_partial: bool) -> list[Sample]:
    """The pictures of one list."""
    lines = [line.split() for line in names.read_text(encoding="utf-8").splitlines() if line.strip()]
    samples = [_parse(folder, line, names) for line in lines]
    missing = [sample for sample, line in zip(samples, lines, strict=True) if line[0] not in on_disk]
    if missing and not allow_partial:
        raise FileNotFoundError(
            f"{len(missing)} of the {len(samples)} pictures of {names} are not in {folder}, such as "
            f"{missing[0].path.relative_to(folder)}; complete it, or give --data.allow_partial true"
        )
    return [sample for sample, line in zip(samples, lines, strict=True) if line[0] in on_disk]


def _parse(folder: Path, line: list[str], where: Path) -> Sample:
    fields = line[0].rsplit("/", 1)[-1].split("_")
    if len(line) != 2 or not line[1].isdecimal() or len(fields) < 3 or not fields[2].isdecimal():
        raise ValueError(
            f"cannot read a line of {where}: {' '.join(line)!r}; expected a picture with its camera as third field, "
            "and its identity, such as 0000/0000_000_01_0303morning_0008_0.jpg 0"
        )
    return Sample(folder / line[0], int(line[1]) + 1, int(fields[2]))
