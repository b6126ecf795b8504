"""Fused kernels (Triton), each beside its reference in plain torch."""

from cace_pyg.kernels.kernels_for import kernels_for
from cace_pyg.kernels.relu_gram import ReluGram
from cace_pyg.kernels.relu_gram_products import relu_gram_products
from cace_pyg.kernels.relu_gram_products_reference import relu_gram_products_reference
from cace_pyg.kernels.runs_on import runs_on

__all__ = ["ReluGram", "kernels_for", "relu_gram_products", "relu_gram_products_reference", "runs_on"]
