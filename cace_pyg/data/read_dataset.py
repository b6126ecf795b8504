"""Any data set by its name."""

from pathlib import Path
from typing import Literal, get_args

from cace_pyg.data.dukemtmc import read_dukemtmc
from cace_pyg.data.image_folder import read_image_folder
from cace_pyg.data.manifest import read_manifest
from cace_pyg.data.market1501 import read_market1501
from cace_pyg.data.market_layout import read_market_layout
from cace_pyg.data.msmt17 import read_msmt17, read_msmt17_trainval
from cace_pyg.data.occluded_duke import read_occluded_duke
from cace_pyg.data.sample import Splits

DatasetName = Literal[
    "market_layout",
    "market1501",
    "dukemtmc",
    "occluded_duke",
    "msmt17",
    "msmt17_trainval",
    "manifest",
    "image_folder",
]
_PUBLIC = {
    "market1501": read_market1501,
    "dukemtmc": read_dukemtmc,
    "occluded_duke": read_occluded_duke,
    "msmt17": read_msmt17,
    "msmt17_trainval": read_msmt17_trainval,
}
_OWN = {"market_layout": read_market_layout, "manifest": read_manifest, "image_folder": read_image_folder}


def read_dataset(name: DatasetName, root: str | Path, allow_partial: bool = False) -> Splits:
    """Training, query and gallery pictures of a data set.

    Args:
        name: a public data set, which is counted, or the form that one's own pictures have.
        root: folder, or the table of ``manifest``.
        allow_partial: of a public data set: work with what is there, and warn.

    Raises:
        FileNotFoundError, ValueError: see the reader of that name; an unknown name.
    """
    if name in _PUBLIC:
        return _PUBLIC[name](root, allow_partial)
    if name in _OWN:
        return _OWN[name](root)
    raise ValueError(f"Expected data.name as one of {', '.join(get_args(DatasetName))} (got {name!r})")
