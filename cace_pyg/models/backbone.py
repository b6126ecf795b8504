"""Networks that turn images into feature maps: torchvision's CNNs, IBN ResNets, OSNet, and a small one for CPUs."""

import difflib
from collections.abc import Collection, Sequence
from types import ModuleType
from typing import Literal, get_args

import torch
from torch import Tensor

from cace_pyg.models.clues_of_layers import check_earlier, join_layers, layer_names
from cace_pyg.models.instance_batch_norm import IBN_RESNETS, make_ibn_a
from cace_pyg.models.load_backbone_weights import LoadedWeights, load_backbone_weights
from cace_pyg.models.osnet import OSNETS, osnet_layers
from cace_pyg.torchvision_operators import import_torchvision

Stem = Literal["torchvision", "strong_baseline", "fast_reid"]
_STRIDED = (torch.nn.Conv2d, torch.nn.MaxPool2d, torch.nn.AvgPool2d)


class Backbone(torch.nn.Module):
    """The convolutional part of a network: images to feature maps, whose pixels are the clues.

    Args:
        name: ``small_cnn`` (from scratch, for CPUs); ``osnet_x0_25`` and its siblings, see
            :func:`cace_pyg.models.osnet.osnet_layers`; ``resnet50_ibn_a`` and its siblings, see
            :class:`cace_pyg.models.instance_batch_norm.InstanceBatchNorm`; or a torchvision classification model with
            convolutional features: ``resnet18``, ``resnet50``, ``mobilenet_v2``, ``efficientnet_b0``, …
        weights: None (random), ``imagenet`` (torchvision downloads them), or the path of a state dict, see
            :func:`cace_pyg.models.load_backbone_weights`; ``loaded_weights`` then lists the keys that were used.
        last_stride: 1 keeps the last stage of torchvision's networks at twice the resolution (common in
            re-identification); 2 leaves the network unchanged; None: 1 for torchvision's networks.
        stem: of a ResNet. ``torchvision``; ``strong_baseline``: that project's ResNet has no ReLU before the first
            pooling; ``fast_reid``: the first pooling is unpadded, with a rounded-up size. Weights only reach their
            published figures with the stem that they were trained with.
        earlier: names of earlier layers, such as ``["conv3"]`` of OSNet or ``["layer3"]`` of a ResNet, whose channels
            come after those of the last map, see :func:`cace_pyg.models.clues_of_layers.join_layers`.

    Attributes:
        channels: of the map that it returns.
        last_channels: of the last layer alone.

    Shapes: ``(image, 3, height, width)`` to ``(image, channels, H, W)``.

    Raises:
        ValueError: the name is unknown, the last stride cannot be removed, or the weights do not fit; or a layer of
            ``earlier`` is unknown or makes no map.
        FileNotFoundError: there is no file at ``weights``.
        RuntimeError: the download failed.
    """

    def __init__(
        self,
        name: str = "resnet50",
        weights: str | None = None,
        last_stride: int | None = None,
        stem: Stem = "torchvision",
        earlier: Sequence[str | int] = (),
    ):
        super().__init__()
        if stem not in get_args(Stem):
            raise ValueError(f"Expected stem {', '.join(get_args(Stem))} (got {stem!r})")
        if last_stride not in (1, 2, None):
            raise ValueError(f"Expected last_stride 1 or 2, or None for the default (got {last_stride})")
        self.trunk: torch.nn.Module
        if weights == "imagenet" and name in ("small_cnn", *OSNETS, *IBN_RESNETS):
            where = ", such as one from github.com/XingangPan/IBN-Net" if name in IBN_RESNETS else ""
            raise ValueError(
                f"{name} has no ImageNet weights here: give a file as backbone.weights{where}, leave it out, or choose "
                "resnet50"
            )
        if name == "small_cnn" or name in OSNETS:
            if last_stride == 1 and name in OSNETS:
                raise ValueError(f"the strides of {name} cannot be changed; leave backbone.last_stride out")
            self.trunk = SmallCnn() if name == "small_cnn" else osnet_layers(name)
        else:
            network = _torchvision_network(name, pretrained=weights == "imagenet")
            self.trunk = layers = _feature_layers(network, name)
            if last_stride != 2:
                _remove_last_stride(layers, name)
        _change_stem(self.trunk, stem, name)
        self.name = name
        self.described = name if name in ("small_cnn", *OSNETS) else f"last stride {last_stride or 1}, stem {stem}"
        self.loaded_weights: LoadedWeights | None = None
        if weights is not None and weights != "imagenet":
            self.loaded_weights = load_backbone_weights(self.trunk, name, weights)
        # faster on CPUs and in half precision, and each clue is contiguous
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # missing in torch's types
        self.last_channels = self._count_channels()
        self.earlier = self._earlier_channels(layer_names(earlier))
        self.channels = self.last_channels + sum(self.earlier.values())

    def forward(self, images: Tensor) -> Tensor:
        """Return the feature map of each image."""
        *earlier, last = self._maps(images.contiguous(memory_format=torch.channels_last), self.earlier)
        return join_layers(last, earlier)

    def _maps(self, x: Tensor, names: Collection[str]) -> list[Tensor]:
        """The maps of these layers, in the order of the layers, and the last map."""
        if not names:
            return [self.trunk(x)]
        found = []
        for name, layer in self.trunk.named_children():
            x = layer(x)
            if name in names:
                found.append(x.clone())  # the next layer may change it, as ReLU(inplace=True) does
        return [*found, x]

    def _earlier_channels(self, names: Sequence[str]) -> dict[str, int]:
        """The number of channels of each earlier layer, in the order of the layers."""
        children = self.trunk.named_children() if isinstance(self.trunk, torch.nn.Sequential) else []
        known = [name for name, _ in children][:-1]
        if unknown := [name for name in names if name not in known]:
            have = f"has the layers {', '.join(known)}" if known else "has none by name, so leave them out"
            raise ValueError(
                f"Expected earlier layers of {self.name}, before its last (got {', '.join(unknown)}); it {have}"
            )
        was_training = self.training
        with torch.no_grad():
            *earlier, last = self.eval()._maps(torch.zeros(1, 3, 64, 64), names)
        self.train(was_training)
        ordered = [name for name in known if name in names]
        shapes = {name: tuple(found.shape) for name, found in zip(ordered, earlier, strict=True)}
        check_earlier(shapes, tuple(last.shape[2:]), self.name)
        return {name: shape[1] for name, shape in shapes.items()}

    def _count_channels(self) -> int:
        was_training = self.training
        with torch.no_grad():
            small, large = (self.eval().trunk(torch.zeros(1, 3, size, size)) for size in (64, 128))
        self.train(was_training)
        if small.dim() != 4 or small.size(1) != large.size(1):
            raise ValueError(
                f"Expected a feature map (image, channel, H, W) from {self.name} (got {tuple(small.shape)} for 64×64 "
                f"pixels and {tuple(large.shape)} for 128×128: its channels come last); choose timm/… instead"
            )
        return small.size(1)


def _torchvision_network(name: str, pretrained: bool) -> torch.nn.Module:
    models = import_torchvision("models")
    if name in IBN_RESNETS:
        network = models.get_model(name.removesuffix("_ibn_a"), weights=None)
        make_ibn_a(network)
        return network
    known = models.list_models(module=models)
    if name not in known:
        names = ["small_cnn", *OSNETS, *IBN_RESNETS, *known]
        near = ", ".join(difflib.get_close_matches(name, names)) or "resnet50, osnet_x1_0"
        raise ValueError(
            f"Expected the name of a torchvision classification model, or osnet_x1_0 and its siblings (got {name!r}); "
            f"near names: {near}"
        )
    return _download(models, name) if pretrained else models.get_model(name, weights=None)


def _download(models: ModuleType, name: str) -> torch.nn.Module:
    try:
        return models.get_model(name, weights="DEFAULT", progress=True)
    except OSError as error:
        raise RuntimeError(
            f"cannot download the ImageNet weights of {name}: {error}. Fetch them on a machine with a network and "
            "give the file: --backbone.weights PATH"
        ) from error


def _feature_layers(network: torch.nn.Module, name: str) -> torch.nn.Sequential:
    """The layers before global pooling: ``features``, or the stem and stages of a ResNet."""
    features = getattr(network, "features", None)
    if isinstance(features, torch.nn.Sequential):
        return features
    if hasattr(network, "layer4"):
        layers = torch.nn.Sequential()
        for key in ("conv1", "bn1", "relu", "maxpool", "layer1", "layer2", "layer3", "layer4"):
            layers.add_module(key, getattr(network, key))
        return layers
    raise ValueError(f"{name} has no convolutional `features` or ResNet stages; choose resnet50, mobilenet_v2, …")


def _change_stem(trunk: torch.nn.Module, stem: Stem, name: str) -> None:
    """Change the first layers to those of another library's ResNet; parameters keep their names."""
    if stem == "torchvision":
        return
    if not hasattr(trunk, "maxpool"):
        raise ValueError(f"Expected a ResNet for the stem {stem} (got {name}); leave backbone.stem out")
    if stem == "strong_baseline":
        trunk.relu = torch.nn.Identity()
    else:
        trunk.maxpool = torch.nn.MaxPool2d(3, stride=2, ceil_mode=True)


def _remove_last_stride(trunk: torch.nn.Sequential, name: str) -> None:
    """Set the strides of the last stage that has strides to 1."""
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


class SmallCnn(torch.nn.Module):
    """Five stages, 64 to 256 channels, output stride 8: 96×48 pixels give a 12×6 map of 256 channels.

    The last stages have one narrow 3×3 convolution; with wide ones, a training step on a CPU took 1.5 times as long.

    Shapes: ``(image, 3, height, width)`` to ``(image, 256, height / 8, width / 8)``.
    """

    def __init__(self) -> None:
        super().__init__()
        self.stem = _convolution(3, 32, stride=2)
        self.stages = torch.nn.Sequential(
            _convolution(32, 64, stride=2), _residual(64), _convolution(64, 128, stride=2), _residual(128),
            _convolution(128, 256, kernel=1), _bottleneck(256, 64),
        )  # fmt: skip

    def forward(self, images: Tensor) -> Tensor:
        return self.stages(self.stem(images))


class _Residual(torch.nn.Module):
    """A residual block: convolutions whose result is added to their input; the last ReLU comes after the sum."""

    def __init__(self, *branch: torch.nn.Sequential):
        super().__init__()
        layers = [layer for convolution in branch for layer in convolution]
        self.branch = torch.nn.Sequential(*layers[:-1])

    def forward(self, x: Tensor) -> Tensor:
        return (x + self.branch(x)).relu()


def _convolution(channels_in: int, channels_out: int, kernel: int = 3, stride: int = 1) -> torch.nn.Sequential:
    return torch.nn.Sequential(
        torch.nn.Conv2d(channels_in, channels_out, kernel, stride, padding=kernel // 2, bias=False),
        torch.nn.BatchNorm2d(channels_out),
        torch.nn.ReLU(inplace=True),
    )


def _residual(channels: int) -> _Residual:
    return _Residual(_convolution(channels, channels // 2, kernel=1), _convolution(channels // 2, channels))


def _bottleneck(channels: int, inner: int) -> _Residual:
    convolutions = ((channels, inner, 1), (inner, inner, 3), (inner, channels, 1))
    return _Residual(*(_convolution(*shape) for shape in convolutions))
