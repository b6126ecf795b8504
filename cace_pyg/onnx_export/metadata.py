"""The metadata of an exported model."""

import json
from typing import Any

import torch
import yaml

from cace_pyg.config import Config
from cace_pyg.data.part_map import LABELS
from cace_pyg.data.transforms import IMAGENET_MEAN, IMAGENET_STD
from cace_pyg.engine.checkpoint import model_fingerprint
from cace_pyg.engine.evaluation import fusion_weight_of
from cace_pyg.models import CaceNet, FrozenExtractor
from cace_pyg.onnx_export.modules import ExportedClues

_SETTINGS = "backbone", "graph", "embedding", "conditional"
_PIXELS = (
    "uint8 RGB (image, 3, height, width), resized as Pillow's Image.resize((width, height), BILINEAR) does; "
    "mean and deviation (of pixels / 255) are inside"
)


_PART_MAPS = (
    "uint8 (image, height, width), body part of each pixel, 0: background, resized as Pillow's "
    "Image.resize((width, height), NEAREST) does"
)


_OF_NETWORK = (
    "resized as Pillow's Image.resize((width, height), BILINEAR) does, they go into the file of the network, in the "
    "form that network says (imagenet: pixels / 255, less mean, by deviation; unit: pixels / 255; pixels: as is); "
    "its embedding, divided by its length, is the first stage's, and its maps go into clues.onnx"
)


_RANKING = (
    "rank the gallery by the Euclidean distance of embeddings; rank its top_k nearest again by "
    "(1 - fusion_weight) * that distance + fusion_weight * distance of pair.onnx; all others stay behind them"
)


def map_inputs(network: FrozenExtractor) -> tuple[str, ...]:
    """Names of the inputs of ``clues.onnx`` that are maps: ``map``, and ``map_1``, ``map_2``, … of earlier layers."""
    return ("map", *(f"map_{number}" for number in range(1, len(network.earlier) + 1)))


def _network(network: FrozenExtractor) -> dict[str, str]:
    tensors = [clue_map.tensor for clue_map in (network.map, *network.earlier)]
    return {
        "file": network.path.name,
        "sha256": network.sha256,
        "embedding": network.output,
        **dict(zip(map_inputs(network), tensors, strict=True)),
        "normalisation": network.normalisation,
        "channel_order": network.channel_order,
    }


def onnx_metadata(model: CaceNet, clues: ExportedClues, state: dict[str, Any], config: Config) -> dict[str, str]:
    """Everything that a program needs to rank with both models, except their inputs and outputs.

    Args:
        model: the exported model.
        clues: the tensors passed from one exported model to the other.
        state: the rest of the checkpoint.
        config: of the model.

    Returns:
        Texts: words unchanged, everything else as JSON.

    Raises:
        ValueError: see :func:`cace_pyg.engine.evaluation.fusion_weight_of`.
    """
    config_yaml = config.to_yaml()
    tree = yaml.safe_load(config_yaml)
    settings = {name: tree[name] for name in _SETTINGS}
    settings["backbone"] |= {"weights": None}  # a path of this machine
    metadata = {
        "format": "cace_pyg 1",
        "fingerprint": model_fingerprint(state | {"config": config_yaml}, config.evaluation.flip),
        "height": config.data.height,
        "width": config.data.width,
        "grid": clues.grid,
        "images": _PIXELS,
        "mean": IMAGENET_MEAN,
        "deviation": IMAGENET_STD,
        "clues": clues.names,
        "ranking": _RANKING,
        "fusion_weight": fusion_weight_of(config, state["fusion_weight"]),
        "top_k": config.evaluation.top_k,
        "settings": settings,
        "made_with": f"torch {torch.__version__}",
    }
    if isinstance(model.extractor, FrozenExtractor):
        metadata |= {"images": _OF_NETWORK, "network": _network(model.extractor)}
    if model.needs_parts:
        palette = config.data.part_palette
        metadata["part_maps"] = _PART_MAPS
        metadata["part_of_label"] = None if palette == "as_is" else list(LABELS[palette].values())
    return {
        key: value if isinstance(value, str) else json.dumps(value, sort_keys=True) for key, value in metadata.items()
    }
