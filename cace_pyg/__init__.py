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
    from cace_pyg.engine.features import Features, extract_features
    from cace_pyg.engine.on_features import (
        FittedPairStage,
        calibrate_pair_stage,
        fit_pair_stage,
        load_pair_stage,
        rerank_features,
    )
    from cace_pyg.engine.pretrained import Pretrained, from_pretrained
    from cace_pyg.engine.training import Trainer, fit
    from cace_pyg.gallery import Gallery, search_galleries
    from cace_pyg.gallery.embed_pictures import embed_pictures
    from cace_pyg.models import (
        Backbone,
        CaceNet,
        ConditionalSettings,
        OnnxExtractor,
        OpenVinoExtractor,
        PublishedEmbedding,
        TimmExtractor,
        TwoNetworks,
    )
    from cace_pyg.retrieval import CameraStatistics, evaluate_open_set, rerank_pairs
    from cace_pyg.retrieval.metrics import evaluate as evaluate_ranking

__version__ = "0.2.0"
__all__ = [
    "Backbone",
    "CaceNet",
    "CameraStatistics",
    "ConditionalSettings",
    "Config",
    "ConfusionTripletSampler",
    "DataSettings",
    "Features",
    "FittedPairStage",
    "Gallery",
    "OnnxExtractor",
    "OpenVinoExtractor",
    "Pretrained",
    "PublishedEmbedding",
    "RandomIdentitySampler",
    "ReidDataset",
    "Sample",
    "Splits",
    "TimmExtractor",
    "Trainer",
    "TwoNetworks",
    "calibrate_pair_stage",
    "confusion_negatives",
    "embed_pictures",
    "evaluate_model",
    "evaluate_open_set",
    "evaluate_ranking",
    "extract_features",
    "fit",
    "fit_pair_stage",
    "from_pretrained",
    "load_pair_stage",
    "load_weights",
    "read_dataset",
    "rerank_features",
    "rerank_pairs",
    "search_galleries",
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
    "engine.features": ("Features", "extract_features"),
    "engine.on_features": (
        "FittedPairStage",
        "calibrate_pair_stage",
        "fit_pair_stage",
        "load_pair_stage",
        "rerank_features",
    ),
    "engine.pretrained": ("Pretrained", "from_pretrained"),
    "engine.training": ("Trainer", "fit"),
    "gallery": ("Gallery", "search_galleries"),
    "gallery.embed_pictures": ("embed_pictures",),
    "models": (
        "Backbone",
        "CaceNet",
        "ConditionalSettings",
        "OnnxExtractor",
        "OpenVinoExtractor",
        "PublishedEmbedding",
        "TimmExtractor",
        "TwoNetworks",
    ),
    "retrieval": ("CameraStatistics", "evaluate_open_set", "evaluate_ranking", "rerank_pairs"),
}


def __getattr__(name: str) -> object:
    """Import names when they are used: ``from cace_pyg import Gallery`` loads no training code."""
    for room, names in _ROOMS.items():
        if name in names:
            # cace_pyg.evaluate is the command
            own = "evaluate" if name == "evaluate_ranking" else name
            return getattr(importlib.import_module(f"cace_pyg.{room}"), own)
    raise AttributeError(f"module 'cace_pyg' has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
