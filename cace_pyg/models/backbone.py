"""Any torchvision classification CNN as an extractor of feature maps."""

import difflib
from pathlib import Path

import torch
from torch import Tensor

from cace_pyg.models.small_cnn import SmallCnn
from cace_pyg.torchvision_operators import import_torchvision

_STRIDED = (torch.nn.Conv2d, torch.nn.MaxPool2d, torch.nn.AvgPool2d)
_CLASSIFIER_PREFIXES = ("fc.", "classifier.", "head.", "heads.")


class Backbone(torch.nn.Module):
    """The convolutional part of a network: images to feature maps, whose pixels are the clues.

    Args:
        name: ``small_cnn`` (from scratch, for CPUs) or a torchvision classification model with convolutional
            features: ``resnet18``, ``resnet50``, ``mobilenet_v2``, ``efficientnet_b0``, …
        weights: none (random), ``imagenet`` (torchvision downloads them), or the path of a state dict with
            torchvision's key names; a classifier in it is not needed.
        last_stride: 1 keeps the last stage at twice the resolution (common in re-identification); 2 leaves the
            network as it is.

    Shapes: ``(image, 3, height, width)`` to ``(image, channels, H, W)``.

    Raises:
        ValueError: unknown name, or a network where the last stride cannot be removed, or weights that do not fit.
        FileNotFoundError: no file at ``weights``.
        RuntimeError: the download failed.
    """

    def __init__(self, name: str = "resnet50", weights: str | None = None, last_stride: int = 1):
        super().__init__()
        if last_stride not in (1, 2):
            raise ValueError(f"Expected last_stride 1 or 2 (got {last_stride})")
        if name == "small_cnn":
            if weights == "imagenet":
                raise ValueError("small_cnn has no ImageNet weights: leave backbone.weights out, or choose resnet50")
            self.trunk = SmallCnn()
            if weights is not None:
                _load(self.trunk, Path(weights), name)
        else:
            network = _torchvision_network(name, weights)
            self.trunk = _feature_layers(network, name)
            if last_stride == 1:
                _remove_last_stride(self.trunk, name)
        self.name = name
        self.to(memory_format=torch.channels_last)  # faster on CPUs and in half precision, and clues come out as rows
        self.channels = self._count_channels()

    def forward(self, images: Tensor) -> Tensor:
        """Return the feature map of each image."""
        return self.trunk(images.contiguous(memory_format=torch.channels_last))

    def _count_channels(self) -> int:
        was_training = self.training
        with torch.no_grad():
            channels = self.eval().trunk(torch.zeros(1, 3, 64, 64)).size(1)
        self.train(was_training)
        return channels


def _torchvision_network(name: str, weights: str | None) -> torch.nn.Module:
    models = import_torchvision("models")
    known = models.list_models(module=models)
    if name not in known:
        near = ", ".join(difflib.get_close_matches(name, ["small_cnn", *known])) or "resnet18, resnet50, mobilenet_v2"
        raise ValueError(f"Expected the name of a torchvision classification model (got {name!r}); near names: {near}")
    if weights == "imagenet":
        return _download(models, name)
    network = models.get_model(name, weights=None)
    if weights is not None:
        _load(network, Path(weights), name)
    return network


def _download(models, name: str) -> torch.nn.Module:
    try:
        return models.get_model(name, weights="DEFAULT", progress=True)
    except OSError as error:
        raise RuntimeError(
            f"cannot download the ImageNet weights of {name}: {error}. Fetch them on a machine with a network and "
            "give the file: --backbone.weights PATH"
        ) from error


def _load(network: torch.nn.Module, path: Path, name: str) -> None:
    if not path.is_file():
        raise FileNotFoundError(f"no weights file at {path} (backbone.weights); expected a state dict of {name}")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise ValueError(f"cannot read {path} as a state dict of {name}: {error}") from error
    own = network.state_dict()
    expected = {key for key in own if not key.startswith(_CLASSIFIER_PREFIXES)}
    given = {key: value for key, value in state.items() if not key.startswith(_CLASSIFIER_PREFIXES)}
    missing, unknown = sorted(expected - given.keys()), sorted(given.keys() - expected)
    misshapen = sorted(key for key in expected & given.keys() if own[key].shape != given[key].shape)
    if missing or unknown or misshapen:
        raise ValueError(
            f"{path} does not hold weights of {name}: {len(missing)} keys missing {missing[:3]}, "
            f"{len(unknown)} unknown {unknown[:3]}, {len(misshapen)} of another shape {misshapen[:3]}; "
            "give the file of this architecture or change --backbone.name"
        )
    network.load_state_dict(given, strict=False)


def _feature_layers(network: torch.nn.Module, name: str) -> torch.nn.Sequential:
    """The layers before global pooling: ``features``, or the stem and stages of a ResNet."""
    if isinstance(getattr(network, "features", None), torch.nn.Sequential):
        return network.features
    if hasattr(network, "layer4"):
        layers = torch.nn.Sequential()
        for key in ("conv1", "bn1", "relu", "maxpool", "layer1", "layer2", "layer3", "layer4"):
            layers.add_module(key, getattr(network, key))
        return layers
    raise ValueError(f"{name} has no convolutional `features` or ResNet stages; choose resnet50, mobilenet_v2, …")


def _remove_last_stride(trunk: torch.nn.Sequential, name: str) -> None:
    """Set the strides of the last stage that has any to 1."""
    for stage in reversed(list(trunk.children())):
        strided = [m for m in stage.modules() if isinstance(m, _STRIDED) and m.stride in (2, (2, 2))]
        if not strided:
            continue
        for module in strided:
            pads = isinstance(module, torch.nn.Conv2d) and module.padding[0] == module.kernel_size[0] // 2
            if not pads:
                raise ValueError(f"the last stride of {name} cannot be removed; use --backbone.last_stride 2")
            module.stride = (1, 1)
        return
    raise ValueError(f"{name} has no stride to remove; use --backbone.last_stride 2")
