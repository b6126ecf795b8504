"""Data sets: lists of labelled pictures, and how they become batches."""

from cace_pyg.data.check_dataset import check_dataset
from cace_pyg.data.combine import combine
from cace_pyg.data.dukemtmc import read_dukemtmc
from cace_pyg.data.image_folder import read_image_folder
from cace_pyg.data.manifest import read_manifest
from cace_pyg.data.market1501 import read_market1501
from cace_pyg.data.market_layout import read_market_layout
from cace_pyg.data.msmt17 import read_msmt17
from cace_pyg.data.occluded_duke import read_occluded_duke
from cace_pyg.data.read_dataset import read_dataset
from cace_pyg.data.sample import Sample, Splits

__all__ = [
    "Sample",
    "Splits",
    "check_dataset",
    "combine",
    "read_dataset",
    "read_dukemtmc",
    "read_image_folder",
    "read_manifest",
    "read_market1501",
    "read_market_layout",
    "read_msmt17",
    "read_occluded_duke",
]
