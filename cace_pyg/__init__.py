"""CACE-Net person re-identification on PyTorch Geometric."""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cace_pyg.config import Config
    from cace_pyg.data import (
        ConfusionTripletSampler,
        RandomIdentitySampler,
        ReidDataset,
        Sample,
        Splits,
        confusion_negatives,
        read_dataset,
    )
    from cace_pyg.data.read_dataset import DataSettings
    from cace_pyg.engine.checkpoint import load_weights
    from cace_pyg.engine.evaluation import evaluate_model
    from cace_pyg.engine.training import Trainer, fit
    from cace_pyg.gallery import Gallery
    from cace_pyg.gallery.embed_pictures import embed_pictures
    from cace_pyg.models import Backbone, CaceNet, ConditionalSettings, OnnxExtractor, OpenVinoExtractor
    from cace_pyg.retrieval import rerank_pairs
    from cace_pyg.retrieval.metrics import evaluate as evaluate_ranking

__version__ = "0.2.0"
__all__ = [
    "Backbone",
    "CaceNet",
    "ConditionalSettings",
    "Config",
    "ConfusionTripletSampler",
    "DataSettings",
    "Gallery",
    "OnnxExtractor",
    "OpenVinoExtractor",
    "RandomIdentitySampler",
    "ReidDataset",
    "Sample",
    "Splits",
    "Trainer",
    "confusion_negatives",
    "embed_pictures",
    "evaluate_model",
    "evaluate_ranking",
    "fit",
    "load_weights",
    "read_dataset",
    "rerank_pairs",
]
_ROOMS = {
    "config": ("Config",),
    "data": (
        "ConfusionTripletSampler",
        "RandomIdentitySampler",
        "ReidDataset",
        "Sample",
        "Splits",
        "confusion_negatives",
        "read_dataset",
    ),
    "data.read_dataset": ("DataSettings",),
    "engine.checkpoint": ("load_weights",),
    "engine.evaluation": ("evaluate_model",),
    "engine.training": ("Trainer", "fit"),
    "gallery": ("Gallery",),
    "gallery.embed_pictures": ("embed_pictures",),
    "models": ("Backbone", "CaceNet", "ConditionalSettings", "OnnxExtractor", "OpenVinoExtractor"),
    "retrieval": ("evaluate_ranking", "rerank_pairs"),
}


def __getattr__(name: str) -> object:
    """``from cace_pyg import Gallery`` loads what a gallery needs, and no training code."""
    for room, names in _ROOMS.items():
        if name in names:
            # cace_pyg.evaluate is the command
            own = "evaluate" if name == "evaluate_ranking" else name
            return getattr(importlib.import_module(f"cace_pyg.{room}"), own)
    raise AttributeError(f"module 'cace_pyg' has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
