"""Data sets: lists of labelled pictures, and how they become batches."""

from cace_pyg.data.check_dataset import check_dataset
from cace_pyg.data.confusion_triplets import ConfusionTripletSampler, confusion_negatives
from cace_pyg.data.dataset import ReidDataset
from cace_pyg.data.market_layout import read_market_layout
from cace_pyg.data.mars import read_mars
from cace_pyg.data.own_pictures import read_image_folder, read_manifest
from cace_pyg.data.public_datasets import (
    read_dukemtmc,
    read_market1501,
    read_msmt17,
    read_occluded_duke,
)
from cace_pyg.data.read_dataset import read_dataset
from cace_pyg.data.sample import Sample, Splits, combine
from cace_pyg.data.sampler import RandomIdentitySampler
from cace_pyg.data.validation import hold_out_identities

__all__ = [
    "ConfusionTripletSampler",
    "RandomIdentitySampler",
    "ReidDataset",
    "Sample",
    "Splits",
    "check_dataset",
    "combine",
    "confusion_negatives",
    "hold_out_identities",
    "read_dataset",
    "read_dukemtmc",
    "read_image_folder",
    "read_manifest",
    "read_market1501",
    "read_market_layout",
    "read_mars",
    "read_msmt17",
    "read_occluded_duke",
]
