"""CACE-Net person re-identification on PyTorch Geometric."""

__version__ = "0.2.0"
__all__ = ["CaceNet", "Gallery"]


def __getattr__(name: str):
    """``from cace_pyg import CaceNet, Gallery``, loaded when they are asked for."""
    if name == "CaceNet":
        from cace_pyg.models import CaceNet

        return CaceNet
    if name == "Gallery":
        from cace_pyg.gallery import Gallery

        return Gallery
    raise AttributeError(f"module 'cace_pyg' has no attribute {name!r}")
