"""CACE-Net person re-identification on PyTorch Geometric."""

__version__ = "0.1.0"
