"""The embedding of a published re-identification network, as its authors use it."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from cace_pyg.graph import Clues
from cace_pyg.models.backbone import Backbone
from cace_pyg.models.extractor import Individual
from cace_pyg.models.generalised_mean import generalised_mean
from cace_pyg.models.load_backbone_weights import LoadedWeights
from cace_pyg.models.read_state_dict import read_state_dict

_TORCHREID = "fc."  # followed by a ReLU, which is not in the file; in other projects a classifier
_NECKS = (  # strong baseline; fast-reid, today and older; torchreid; layumi's baseline
    "bottleneck.",
    "heads.bottleneck.",
    "heads.bnneck.",
    _TORCHREID,
    "classifier.add_block.",
)
_EXPONENT = "heads.pool_layer.p"  # of fast-reid's generalised mean
_CLASSIFIERS = {"classifier", "fc", "head", "heads", "logits"}
_NO_LAYERS = {"pixel_mean", "pixel_std", "num_batches_tracked"}


class PublishedEmbedding(torch.nn.Module):
    """Feature map, pooling, and the neck from the file of the backbone's weights.

    The strong baseline (Luo et al., 2019) and fast-reid compare the output of a BatchNorm ("BN neck"); torchreid's
    networks with ``fc`` that of its linear layer, BatchNorm and ReLU; layumi's baseline that of
    ``classifier.add_block``; plain classification networks the pooled features. The neck is next to the trunk in the
    file, with the same prefix. fast-reid's generalised mean is read with its exponent; without one the mean is used.
    Classifiers are ignored.

    It is an :class:`~cace_pyg.models.extractor.Extractor` with its own embedding.

    Args:
        backbone: with weights loaded from a file, or with ImageNet's, which have no neck.
        layers: the attribute ``layers`` of another one: makes the same pooling and neck, for weights from a checkpoint.
            None: read them from the backbone's file.

    Attributes:
        channels: of a clue.
        layers: pooling and neck in words, such as ``["mean", "BatchNorm1d 2048"]``.

    Raises:
        ValueError: the neck has layers other than linear ones and BatchNorm, or has another size; or there are layers
            besides the trunk that are neither a known neck nor a classifier, so the embedding is unknown.
    """

    needs_parts = False

    def __init__(self, backbone: Backbone, layers: Sequence[str] | None = None):
        super().__init__()
        self.backbone = backbone
        self.channels = backbone.channels
        self.loaded_weights = backbone.loaded_weights
        self.exponent: Tensor | None
        exponent, self.neck = None, torch.nn.Sequential()
        if layers is not None:
            exponent = torch.ones(1) if layers[0] == "generalised mean" else None
            self.neck.extend(_layer_of(words) for words in layers[1:])
        elif backbone.loaded_weights is not None:
            exponent = self._read_neck(backbone.loaded_weights)
        self.register_buffer("exponent", exponent)

    def _read_neck(self, loaded: LoadedWeights) -> Tensor | None:
        """Find pooling and neck in the file of the backbone; returns the exponent of a generalised mean."""
        state, _ = read_state_dict(loaded.path, self.backbone.name)
        beside = {key: state[key] for key in loaded.skipped if key in state}
        exponent, neck = _find_exponent(beside, loaded.prefix), _find_neck(beside, loaded)
        self.neck = _build_neck(loaded, neck, beside, self.backbone.last_channels)
        used = {key for key in beside if key == exponent or (neck and key.startswith(neck))}
        _check_explained({key: value for key, value in beside.items() if key not in used}, loaded)
        skipped = tuple(key for key in loaded.skipped if key not in used)
        self.loaded_weights = replace(loaded, loaded=loaded.loaded + len(used), skipped=skipped)
        return beside.get(exponent)

    @property
    def layers(self) -> list[str]:
        pooling = "mean" if self.exponent is None else "generalised mean"
        return [pooling, *(_words_of(layer) for layer in self.neck)]

    def forward(self, images: Tensor, part_maps: Tensor | None = None) -> Individual:
        """Embeddings and clues of ``(image, 3, height, width)``; the embedding is that of the last layer alone."""
        clues = Clues.from_map(self.backbone(images))
        last = clues.features[..., : self.backbone.last_channels]
        return Individual(self.neck(self._pool(last)), clues)

    def _pool(self, clues: Tensor) -> Tensor:
        if self.exponent is None:
            return clues.mean(1)
        return generalised_mean(clues, self.exponent)

    def __str__(self) -> str:
        pooling = "mean" if self.exponent is None else f"generalised mean, p = {float(self.exponent):.3g}"
        layers = " and ".join(type(layer).__name__ for layer in self.neck) or "no neck"
        backbone = self.backbone
        loaded = self.loaded_weights or f"{backbone.name} with torchvision's ImageNet weights"
        earlier = "".join(f" and {channels} of {name}" for name, channels in backbone.earlier.items())
        clues = f"; clues of {backbone.last_channels} channels{earlier}" if earlier else ""
        return f"embedding: {pooling}, then {layers}; {backbone.described}{clues}\n{loaded}"


def _words_of(layer: torch.nn.Module) -> str:
    if isinstance(layer, torch.nn.Linear):
        bias = "" if layer.bias is None else " bias"
        return f"Linear {layer.in_features} {layer.out_features}{bias}"
    return f"BatchNorm1d {layer.num_features}" if isinstance(layer, torch.nn.BatchNorm1d) else "ReLU"


def _layer_of(words: str) -> torch.nn.Module:
    kind, *rest = words.split()
    if kind == "Linear":
        return torch.nn.Linear(int(rest[0]), int(rest[1]), bias=len(rest) > 2)
    return torch.nn.BatchNorm1d(int(rest[0])) if kind == "BatchNorm1d" else torch.nn.ReLU()


def _places(prefix: str) -> list[str]:
    """Possible prefixes of a neck: the trunk's prefix and all above it, such as ``model.base.``, ``model.``, ````."""
    parts = prefix.split(".")[:-1]
    return ["".join(f"{part}." for part in parts[:count]) for count in range(len(parts), -1, -1)]


def _find_exponent(beside: Mapping[str, Tensor], prefix: str) -> str:
    return next((place + _EXPONENT for place in _places(prefix) if place + _EXPONENT in beside), "")


def _find_neck(beside: Mapping[str, Tensor], loaded: LoadedWeights) -> str:
    """The prefix of the neck's keys; empty if there is no neck."""
    found = []
    for start in (place + name for place in _places(loaded.prefix) for name in _NECKS):
        keys = [key for key in beside if key.startswith(start)]
        if keys and (not start.endswith(_TORCHREID) or any(_is_norm(beside, key) for key in keys)):  # else a classifier
            found.append(start)
    if len(found) > 1:
        raise ValueError(
            f"Expected one neck in {loaded.path} (got {', '.join(found)}); remove the layers that its authors do not "
            "compare"
        )
    return found[0] if found else ""


def _is_norm(state: Mapping[str, Tensor], key: str) -> bool:
    """Whether a key belongs to a normalisation, which no classifier has."""
    module = key.rpartition(".")[0]
    return f"{module}.running_mean" in state or state.get(f"{module}.weight", torch.empty(1, 1)).dim() == 1


def _build_neck(loaded: LoadedWeights, start: str, beside: Mapping[str, Tensor], channels: int) -> torch.nn.Sequential:
    """The layers between pooling and classifier, in their order."""
    layers: dict[str, dict[str, Tensor]] = {}
    for key, value in beside.items():
        if start and key.startswith(start):
            number, _, field = key.removeprefix(start).rpartition(".")
            layers.setdefault(number, {})[field] = value
    neck = torch.nn.Sequential()
    for number in sorted(layers, key=lambda name: (len(name), name)):
        neck.append(_layer(loaded, start + number, layers[number], channels))
        channels = len(layers[number]["weight"])
    if start.endswith(_TORCHREID):
        neck.append(torch.nn.ReLU())
    return neck


def _layer(loaded: LoadedWeights, name: str, state: dict[str, Tensor], channels: int) -> torch.nn.Module:
    shape = tuple(state["weight"].shape) if "weight" in state else ()
    if "running_mean" in state and shape == (channels,):
        layer: torch.nn.Module = torch.nn.BatchNorm1d(channels)
    elif set(state) <= {"weight", "bias"} and shape[1:] in ((channels,), (channels, 1, 1)):
        layer = torch.nn.Linear(channels, shape[0], bias="bias" in state)
        state = state | {"weight": state["weight"].flatten(1)}
    else:
        raise ValueError(
            f"Expected the neck in {loaded.path} to be a 1×1 convolution and BatchNorm over {channels} channels (got "
            f"layer {name.rstrip('.')} with {sorted(state)}, weight {shape}); remove it from the file to compare the "
            "pooled features"
        )
    layer.load_state_dict(state, strict=False)  # BatchNorm's counter may be missing
    missing = layer.state_dict().keys() - state.keys() - {"num_batches_tracked"}
    if missing:
        raise ValueError(
            f"Expected {sorted(missing)} of the neck in {loaded.path} (got {sorted(state)}); the file is incomplete"
        )
    return layer


def _check_explained(beside: Mapping[str, Tensor], loaded: LoadedWeights) -> None:
    """Refuse unknown layers that may be part of the embedding: without them the results would be those of the trunk."""
    unknown = [key for key in beside if not _NO_LAYERS & {key, *key.split(".")} and not _is_classifier(key, beside)]
    if unknown:
        raise ValueError(
            f"{loaded.path} has unknown layers between the pooled features and the classifier: "
            f"{', '.join(unknown[:4])}{', …' if len(unknown) > 4 else ''}; without them the embedding is not the one "
            "that its authors published. Remove them from the file to compare the pooled features"
        )


def _is_classifier(key: str, beside: Mapping[str, Tensor]) -> bool:
    """Whether a key belongs to linear layers that end in classes, whose output is not an embedding."""
    return bool(_CLASSIFIERS & set(key.split("."))) and not _is_norm(beside, key)
