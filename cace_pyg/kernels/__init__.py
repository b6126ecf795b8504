"""Fused kernels (Triton), each with its reference in plain torch."""

from cace_pyg.kernels.relu_gram import ReluGram, relu_gram_products_reference
from cace_pyg.kernels.relu_gram_products import kernels_for, relu_gram_products, runs_on

__all__ = ["ReluGram", "kernels_for", "relu_gram_products", "relu_gram_products_reference", "runs_on"]
