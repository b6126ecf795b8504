"""The embedding of a published re-identification network, as its authors compare it."""

from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from cace_pyg.graph import Clues
from cace_pyg.models.backbone import Backbone
from cace_pyg.models.cace_net import Individual
from cace_pyg.models.load_backbone_weights import LoadedWeights, read_state_dict

_NECKS = ("bottleneck.", "heads.bottleneck.", "heads.bnneck.")  # strong baseline, fast-reid, older fast-reid
_EXPONENT = "heads.pool_layer.p"  # of fast-reid's generalised mean
_SMALLEST = 1e-6


class PublishedEmbedding(torch.nn.Module):
    """Feature map, pooling, and the neck that the file of the backbone's weights has.

    The strong baseline (Luo et al., 2019) and fast-reid compare what comes out of a BatchNorm ("BN neck"), torchreid
    and plain classification networks the pooled features. fast-reid's generalised mean is read with its exponent;
    without one the mean is taken. Classifiers are of no use here.

    Args:
        backbone: with its weights loaded from a file, or with ImageNet's, which have no neck.

    Raises:
        ValueError: a neck of other layers than a 1×1 convolution and BatchNorm, or of another size.
    """

    needs_parts = False

    def __init__(self, backbone: Backbone):
        super().__init__()
        self.backbone = backbone
        self.exponent: Tensor | None = None
        self.neck = torch.nn.Sequential()
        if backbone.loaded_weights is not None:
            path = backbone.loaded_weights.path
            state, _ = read_state_dict(path, backbone.name)
            state = {key.removeprefix("module."): value for key, value in state.items()}
            self.exponent = state.get(_EXPONENT)
            self.neck = _neck(path, state, backbone.channels)
        self.loaded_weights = _with_neck(backbone.loaded_weights)

    def forward(self, images: Tensor, part_maps: Tensor | None = None) -> Individual:
        """Embeddings of ``(image, 3, height, width)``; the clues are those of the feature map."""
        clues = Clues.from_map(self.backbone(images))
        return Individual(self.neck(self._pool(clues.features)), clues)

    def _pool(self, clues: Tensor) -> Tensor:
        if self.exponent is None:
            return clues.mean(1)
        return clues.clamp_min(_SMALLEST).pow(self.exponent).mean(1).pow(1 / self.exponent)

    def __str__(self) -> str:
        pooling = "mean" if self.exponent is None else f"generalised mean, p = {float(self.exponent):.3g}"
        layers = " and ".join(type(layer).__name__ for layer in self.neck) or "no neck"
        return f"embedding: {pooling}, then {layers}"


def _with_neck(loaded: LoadedWeights | None) -> LoadedWeights | None:
    """What became of the keys of the file, now that pooling and neck are read too."""
    if loaded is None:
        return None
    used = [key for key in loaded.skipped if key.removeprefix("module.").startswith((*_NECKS, _EXPONENT))]
    skipped = tuple(key for key in loaded.skipped if key not in used)
    return replace(loaded, loaded=loaded.loaded + len(used), skipped=skipped)


def _neck(path: Path, state: dict[str, Tensor], channels: int) -> torch.nn.Sequential:
    """The layers between pooling and classifier, in their order."""
    layers: dict[str, dict[str, Tensor]] = {}
    for key, value in state.items():
        for prefix in _NECKS:
            if key.startswith(prefix):
                number, _, field = key.removeprefix(prefix).rpartition(".")
                layers.setdefault(number, {})[field] = value
    neck = torch.nn.Sequential()
    for number in sorted(layers):
        neck.append(_layer(path, number, layers[number], channels))
        channels = len(layers[number]["weight"])
    return neck


def _layer(path: Path, number: str, state: dict[str, Tensor], channels: int) -> torch.nn.Module:
    shape = tuple(state["weight"].shape) if "weight" in state else ()
    if "running_mean" in state and shape == (channels,):
        layer: torch.nn.Module = torch.nn.BatchNorm1d(channels)
    elif set(state) <= {"weight", "bias"} and shape[1:] in ((channels,), (channels, 1, 1)):
        layer = torch.nn.Linear(channels, shape[0], bias="bias" in state)
        state = state | {"weight": state["weight"].flatten(1)}
    else:
        raise ValueError(
            f"Expected the neck in {path} to be a 1×1 convolution and BatchNorm over {channels} channels (got layer "
            f"{number or 'bottleneck'} with {sorted(state)}, weight {shape}); remove it from the file to compare the "
            "pooled features"
        )
    layer.load_state_dict(state, strict=False)  # BatchNorm's counter may be missing
    missing = layer.state_dict().keys() - state.keys() - {"num_batches_tracked"}
    if missing:
        raise ValueError(
            f"Expected {sorted(missing)} of the neck in {path} (got {sorted(state)}); the file is not whole"
        )
    return layer
