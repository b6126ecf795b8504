"""The discrepancy convolution and its exact twins."""

from cace_pyg.nn.aligned_distance import aligned_distance
from cace_pyg.nn.block_convolution import convolve_blocks, pool_blocks
from cace_pyg.nn.dense_discrepancy_conv import DenseDiscrepancyConv
from cace_pyg.nn.discrepancy_conv import DiscrepancyConv
from cace_pyg.nn.pooled_messages import pooled_messages

__all__ = [
    "DenseDiscrepancyConv",
    "DiscrepancyConv",
    "aligned_distance",
    "convolve_blocks",
    "pool_blocks",
    "pooled_messages",
]
