"""Data sets: lists of labelled pictures, and how they become batches."""

from cace_pyg.data.check_dataset import check_dataset
from cace_pyg.data.market_layout import read_market_layout
from cace_pyg.data.own_pictures import read_image_folder, read_manifest
from cace_pyg.data.public_datasets import (
    read_dukemtmc,
    read_market1501,
    read_msmt17,
    read_occluded_duke,
)
from cace_pyg.data.read_dataset import read_dataset
from cace_pyg.data.sample import Sample, Splits, combine

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
