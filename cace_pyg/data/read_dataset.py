"""Reads any data set by its name; settings of data sets and of picture loading."""

import warnings
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal, cast, get_args

from cace_pyg.bounded_numbers import ClosedUnitInterval, NonNegativeInt, PositiveInt
from cace_pyg.data.market_layout import read_market_layout
from cace_pyg.data.mars import read_mars
from cace_pyg.data.named_pictures import compile_pattern, read_named_pictures
from cace_pyg.data.own_pictures import read_image_folder, read_manifest
from cace_pyg.data.part_map import PartPalette
from cace_pyg.data.public_datasets import (
    read_dukemtmc,
    read_market1501,
    read_msmt17,
    read_msmt17_trainval,
    read_occluded_duke,
)
from cace_pyg.data.sample import Splits, combine
from cace_pyg.data.sorted_pictures import LeftOutWarning
from cace_pyg.progress import write_line
from cace_pyg.user_path import user_path

DatasetName = Literal[
    "market_layout",
    "market1501",
    "dukemtmc",
    "occluded_duke",
    "msmt17",
    "msmt17_trainval",
    "manifest",
    "image_folder",
    "mars",
]


@dataclass
class DataSettings:
    """The data set, and how its pictures are loaded."""

    root: str
    """Folder of the data set, or the table of a manifest."""
    name: DatasetName = "market_layout"
    """market1501, dukemtmc, occluded_duke, msmt17, msmt17_trainval: with the counts that their authors published.
    market_layout (Market-1501's folders, any size), manifest, image_folder: your own. mars: folders of tracks as in
    MARS, any size, track against track."""
    pattern: str | None = None
    """Regular expression for the file names of your own pictures, with the group pid and, optionally, camid and track,
    such as '(?P<pid>-?\\d+)_c(?P<camid>\\d+)', in folders named train, query, gallery or as in Market-1501 and VeRi."""
    allow_partial: bool = False
    """Warn, instead of stopping, if a public data set is not complete."""
    extra_train: list[str] = field(default_factory=list)
    """More training sets, each as NAME:ROOT; identities and cameras are kept apart."""
    height: PositiveInt = 384
    """Pixels to which pictures are resized (the paper: 384)."""
    width: PositiveInt = 128
    """Pixels to which pictures are resized (the paper: 128)."""
    hold_out: ClosedUnitInterval = 0.1
    """Share of the training identities kept for validation: best checkpoint and fusion weight are chosen on them."""
    part_palette: PartPalette = "as_is"
    """The meaning of labels in body-part maps: our own parts (as_is), or those of lip, pascal_person_part, atr."""
    workers: NonNegativeInt = 2
    """Processes that decode pictures; 0: the main one does."""
    cache: bool = False
    """Keep decoded pictures in memory (3·height·width bytes each)."""

    def __post_init__(self) -> None:
        if min(self.height, self.width) < 16:
            raise ValueError(f"Expected data.height and data.width of at least 16 (got {self.height}, {self.width})")
        if self.pattern is not None:
            compile_pattern(self.pattern)


_PUBLIC: dict[str, Callable[[str | Path, bool], Splits]] = {
    "market1501": read_market1501,
    "dukemtmc": read_dukemtmc,
    "occluded_duke": read_occluded_duke,
    "msmt17": read_msmt17,
    "msmt17_trainval": read_msmt17_trainval,
}


_OWN: dict[str, Callable[[str | Path], Splits]] = {
    "market_layout": read_market_layout,
    "manifest": read_manifest,
    "image_folder": read_image_folder,
    "mars": read_mars,
}


def read_dataset(
    name: DatasetName, root: str | Path, allow_partial: bool = False, pattern: str | None = None
) -> Splits:
    """Training, query and gallery pictures of a data set.

    Args:
        name: a public data set, whose counts are checked, or the format of your own pictures.
        root: folder, or the table of ``manifest``.
        allow_partial: accept an incomplete public data set, with a warning.
        pattern: how to read the file names of ``market_layout``, see
            :func:`cace_pyg.data.named_pictures.read_named_pictures`; None: Market-1501's names.

    Raises:
        FileNotFoundError, ValueError: the name is unknown; see also the reader of that name.
    """
    if pattern is not None:
        if name != "market_layout":
            raise ValueError(
                f"Expected data.pattern with data.name market_layout (got {name}, which does not use a pattern)"
            )
        return read_named_pictures(root, pattern)
    if name in _PUBLIC:
        return _PUBLIC[name](root, allow_partial)
    if name in _OWN:
        return _OWN[name](root)
    raise ValueError(f"Expected data.name as one of {', '.join(get_args(DatasetName))} (got {name!r})")


def read_splits(data: DataSettings) -> Splits:
    """``data.root``, with the training pictures of ``data.extra_train`` after its own.

    For commands: files that are left out are reported in one line, without the extra lines of a Python warning.

    Raises:
        FileNotFoundError, ValueError: see :func:`cace_pyg.data.read_dataset.read_dataset`; or an extra set is not
            written as NAME:ROOT.
    """
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always", LeftOutWarning)
        splits = read_dataset(data.name, data.root, data.allow_partial, data.pattern)
        extra = [read_named_root(entry, "data.extra_train", data.allow_partial).train for entry in data.extra_train]
    for warned in told:
        if warned.category is LeftOutWarning:
            write_line(f"warning: {warned.message}")
        else:
            warnings.warn_explicit(warned.message, warned.category, warned.filename, warned.lineno)
    return replace(splits, train=combine([splits.train, *extra])) if extra else splits


def read_named_root(entry: str, setting: str, allow_partial: bool = False) -> Splits:
    """:func:`read_dataset` for a data set that is written as NAME:ROOT.

    Args:
        entry: such as ``market1501:data/market``.
        setting: the setting that it comes from, for error messages.
        allow_partial: see :func:`read_dataset`.

    Raises:
        FileNotFoundError, ValueError: it is not written as NAME:ROOT; see also :func:`read_dataset`.
    """
    name, colon, root = entry.partition(":")
    if not colon or name not in get_args(DatasetName):
        raise ValueError(
            f"Expected {setting} as NAME:ROOT with a NAME of {', '.join(get_args(DatasetName))} (got {entry!r})"
        )
    return read_dataset(cast(DatasetName, name), user_path(root), allow_partial)
