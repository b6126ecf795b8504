"""The discrepancy convolution and its exact twins."""

from cace_pyg.nn.dense_discrepancy_conv import DenseDiscrepancyConv
from cace_pyg.nn.discrepancy_conv import DiscrepancyConv
from cace_pyg.nn.pooled_discrepancy import PooledDiscrepancy

__all__ = ["DenseDiscrepancyConv", "DiscrepancyConv", "PooledDiscrepancy"]
