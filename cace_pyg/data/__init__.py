"""Data sets: lists of labelled pictures, and how they become batches."""

from cace_pyg.data.market1501 import read_market1501
from cace_pyg.data.sample import Sample, Splits

__all__ = ["Sample", "Splits", "read_market1501"]
