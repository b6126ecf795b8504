"""The discrepancy convolution and its exact twins."""

from cace_pyg.nn.aligned_distance import aligned_distance
from cace_pyg.nn.dense_discrepancy_conv import DenseDiscrepancyConv
from cace_pyg.nn.discrepancy_conv import DiscrepancyConv
from cace_pyg.nn.pooled_discrepancy import PooledDiscrepancy
from cace_pyg.nn.pooled_messages import pooled_messages

__all__ = ["DenseDiscrepancyConv", "DiscrepancyConv", "PooledDiscrepancy", "aligned_distance", "pooled_messages"]
