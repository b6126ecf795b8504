"""timm's networks, CNNs and transformers, as extractors."""

import difflib
from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial
from types import ModuleType
from typing import Any, get_args

import torch
from torch import Tensor

from cace_pyg.graph import Clues
from cace_pyg.models.clues_of_layers import check_earlier, fits_below, join_layers, layer_names
from cace_pyg.models.extractor import Individual
from cace_pyg.models.load_backbone_weights import LoadedWeights
from cace_pyg.models.load_timm_weights import load_timm_weights
from cace_pyg.models.normalisation import Normalisation, renormalisation
from cace_pyg.torchvision_operators import import_torchvision

PREFIX = "timm/"
_LISTED = 8


class TimmExtractor(torch.nn.Module):
    """A timm model: the last feature map of a CNN or the patch tokens of a transformer, and its own embedding.

    The clues are the output of timm's ``forward_features``, after the last normalisation, without class, register and
    distillation tokens. The embedding is the output of ``model(images)`` without a classifier: pooled features or the
    class token, depending on the model.

    It is an :class:`~cace_pyg.models.extractor.Extractor`.

    Args:
        name: timm's name, with or without ``timm/``: ``vit_small_patch14_reg4_dinov2.lvd142m``, ``swin_…``, ….
        size: (height, width) of the pictures; a transformer is built for this size.
        weights: None (random), ``imagenet`` (timm's weights for this name, downloaded), or the path of a state dict,
            see :func:`cace_pyg.models.load_timm_weights.load_timm_weights`.
        own_embedding: also return the embedding, as :class:`Individual`; otherwise only a map or clues.
        earlier: names of modules of the network whose output is added to the channels of the clues, such as
            ``["layer3"]`` or ``["blocks.8"]``, see :func:`cace_pyg.models.clues_of_layers.join_layers`.
        normalisation: of the images that the network was trained with: ``imagenet``, ``symmetric`` (−1 to 1) or
            ``clip``; None: timm's for this name. The images given to this class always have ImageNet's.

    Attributes:
        channels: of a clue.
        grid: (H, W) of the clues of a picture of ``size``.
        loaded_weights: which keys of a file were loaded.

    Raises:
        ValueError: there is no such model, it does not take pictures of this size, or it has neither a map nor a grid
            of tokens; or the weights do not fit.
        FileNotFoundError: there is no file at ``weights``.
        RuntimeError: timm is not installed, or the download failed.
    """

    scale: Tensor
    shift: Tensor

    def __init__(
        self,
        name: str,
        size: tuple[int, int] = (256, 128),
        weights: str | None = None,
        own_embedding: bool = True,
        normalisation: Normalisation | None = None,
        earlier: Sequence[str | int] = (),
    ):
        super().__init__()
        if normalisation not in (None, *get_args(Normalisation)):
            raise ValueError(f"Expected normalisation {', '.join(get_args(Normalisation))} (got {normalisation!r})")
        timm = _import_timm()
        self.name = PREFIX + name.removeprefix(PREFIX)
        self.size, self.own_embedding = size, own_embedding
        self.network, any_size = _create(timm, self.name, size, weights == "imagenet")
        _check_patches(timm, self.network, self.name, size)
        self.grid, self._prefix_tokens = self._look_at_the_features()
        self._takes_any_size = any_size and self._prefix_tokens is None
        self.earlier = layer_names(earlier)
        self.channels: int = self.network.num_features + self._count_earlier()
        known = self.network.pretrained_cfg
        scale, shift = renormalisation(normalisation or (known["mean"], known["std"]))
        self.register_buffer("scale", scale, persistent=False)
        self.register_buffer("shift", shift, persistent=False)
        self.loaded_weights: LoadedWeights | None = None
        if weights is not None and weights != "imagenet":
            self.loaded_weights = load_timm_weights(self.network, self.name, weights, self.grid)
        if self._prefix_tokens is None:
            self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # missing in torch's types

    def forward(self, images: Tensor) -> Individual | Clues | Tensor:
        """Clues of ``(image, 3, height, width)``, with the embedding if ``own_embedding``.

        Raises:
            ValueError: the network was built for images of another size.
        """
        if not self._takes_any_size and tuple(images.shape[2:]) != self.size:
            raise ValueError(
                f"Expected images of {self.size[0]}×{self.size[1]} pixels, for which {self.name} was built (got "
                f"{images.size(2)}×{images.size(3)}); build it for those: TimmExtractor({self.name!r}, "
                f"size=({images.size(2)}, {images.size(3)}))"
            )
        features, found = self._features(images * self.scale + self.shift, self.earlier)
        clues = self._clues(features)
        if self.earlier:
            clues = join_layers(self._as_map(features), [found[name] for name in self.earlier])
        if not self.own_embedding:
            return clues
        clues = clues if isinstance(clues, Clues) else Clues.from_map(clues)
        return Individual(self.network.forward_head(features), clues)

    def _clues(self, features: Tensor) -> Clues | Tensor:
        if self._prefix_tokens is None:
            return features.permute(0, 3, 1, 2) if _is_channels_last(self.network) else features
        return Clues(features[:, self._prefix_tokens :], self.grid)

    def _features(self, images: Tensor, names: Sequence[str]) -> tuple[Tensor, dict[str, Tensor]]:
        """The last features as timm returns them, and the maps of those modules that are used and return a tensor."""
        found: dict[str, Tensor] = {}
        with ExitStack() as hooks:
            for name in names:
                keep = partial(_keep, found, name)
                hooks.callback(self.network.get_submodule(name).register_forward_hook(keep).remove)
            features = self.network.forward_features(images)
        return features, {name: self._as_map(output) for name, output in found.items()}

    def _as_map(self, output: Tensor) -> Tensor:
        """The output of a layer as ``(image, channel, H, W)``, if it is a map or tokens."""
        if self._prefix_tokens is None:
            return output.permute(0, 3, 1, 2) if _is_channels_last(self.network) and output.dim() == 4 else output
        tokens = output[:, self._prefix_tokens :]
        fits = output.dim() == 3 and tokens.size(1) == self.grid[0] * self.grid[1]
        return tokens.mT.unflatten(2, self.grid) if fits else output

    @torch.no_grad()
    def _count_earlier(self) -> int:
        """The channels of all earlier layers; also says which are unknown, make no map, or are the last one."""
        modules = [name for name, _ in self.network.named_modules() if name]
        image, has_tokens = torch.rand(1, 3, *self.size), self._prefix_tokens is not None
        self.network.eval()
        try:
            features, found = self._features(image, [name for name in self.earlier if name in modules])
            last = self._as_map(features)
            if wrong := [name for name in self.earlier if name not in found]:
                near = [name for name in modules if name.count(".") < 2]  # blocks, not what is inside them
                _, every = self._features(image, near)
                fitting = [name for name, made in every.items() if fits_below(made.shape, self.grid, has_tokens)]
                raise ValueError(
                    f"Expected modules of {self.name} that make maps (got {', '.join(wrong)}); some that do: "
                    f"{', '.join(fitting[:: -(-len(fitting) // _LISTED)])}"
                )
        finally:
            self.network.train()
        shapes = {name: tuple(made.shape) for name, made in found.items()}
        check_earlier(shapes, self.grid, self.name, has_tokens)
        if again := [name for name, made in found.items() if made.shape == last.shape and torch.equal(made, last)]:
            raise ValueError(f"Expected layers of {self.name} before its last (got {again[0]}); leave it out")
        return sum(shape[1] for shape in shapes.values())

    @torch.no_grad()
    def _look_at_the_features(self) -> tuple[tuple[int, int], int | None]:
        """The grid, and the number of tokens before those of patches; None if there is a map.

        timm's ``forward_intermediates`` arranges tokens as a map; it is checked that these are the same tokens.
        """
        image = torch.rand(1, 3, *self.size, generator=torch.Generator().manual_seed(0))
        self.network.eval()
        try:
            features = self.network.forward_features(image)
            if isinstance(features, Tensor) and features.dim() == 3:
                laid_out = _lay_out(self.network, image)
            self.network.forward_head(features)
        except Exception as error:  # models fail in different ways
            raise ValueError(_does_not_fit(self.name, self.network, self.size, error)) from error
        finally:
            self.network.train()
        if isinstance(features, Tensor) and features.dim() == 4:
            height, width = features.shape[1:3] if _is_channels_last(self.network) else features.shape[2:]
            channels = features.size(3 if _is_channels_last(self.network) else 1)
            if channels == self.network.num_features:
                return (height, width), None
        elif isinstance(features, Tensor) and features.dim() == 3:
            tokens = laid_out.flatten(2).mT
            before = features.size(1) - tokens.size(1)
            if before >= 0 and tokens.size(2) == features.size(2) and _are_alike(features[:, before:], tokens):
                return (laid_out.size(2), laid_out.size(3)), before
        shape = tuple(features.shape) if isinstance(features, Tensor) else type(features).__name__
        raise ValueError(
            f"Expected a feature map or patch tokens with a grid from {self.name} (got {shape}, whose layout timm does "
            "not say); choose another model, such as timm/vit_small_patch16_224, or give an extractor of your own"
        )

    def __str__(self) -> str:
        height, width = self.grid
        loaded = self.loaded_weights or f"{self.name} with timm's own weights"
        further = f", with those of {', '.join(self.earlier)}" if self.earlier else ""
        return f"embedding: {self.name}'s own, clues {height}×{width} of {self.channels} channels{further}\n{loaded}"


def _keep(found: dict[str, Tensor], name: str, _module: torch.nn.Module, _given: object, output: object) -> None:
    if isinstance(output, Tensor):
        found[name] = output.clone()  # the next layer may change it, as ReLU(inplace=True) does


def _import_timm() -> ModuleType:
    import_torchvision("models")  # timm imports it, which fails with some builds of torch
    try:
        import timm
    except ImportError as error:
        raise RuntimeError("backbone.name timm/… needs timm: pip install 'cace-pyg[timm]'") from error
    return timm


def _create(timm: ModuleType, name: str, size: tuple[int, int], pretrained: bool) -> tuple[Any, bool]:
    """The network without its classifier, and whether it takes pictures of any size."""
    plain = name.removeprefix(PREFIX)
    _check_name(timm, plain, pretrained)
    sized: dict[str, Any] = {"img_size": size}
    try:
        try:
            network = timm.create_model(plain, num_classes=0, **sized)
        except TypeError as error:
            if "img_size" not in str(error):
                raise
            sized = {}
            network = timm.create_model(plain, num_classes=0)
    except Exception as error:  # every model fails in its own way
        raise ValueError(_does_not_fit(name, None, size, error)) from error
    if pretrained:
        try:
            network = timm.create_model(plain, pretrained=True, num_classes=0, **sized)
        except Exception as error:  # from Hugging Face's client, from httpx, from sockets
            raise RuntimeError(
                f"cannot get timm's weights of {name}: {type(error).__name__}: {str(error).partition('. ')[0]}. Fetch "
                "them on a machine with a network and give the file: --backbone.weights PATH"
            ) from error
    return network, not sized


def _check_name(timm: ModuleType, plain: str, pretrained: bool) -> None:
    architecture, _, tag = plain.partition(".")
    if not timm.is_model(plain):
        near = difflib.get_close_matches(architecture, timm.list_models()) or ["resnet50"]
        raise ValueError(
            f"Expected the name of a model of timm (got timm/{plain}); near names: timm/{', timm/'.join(near)}"
        )
    weights = [name.partition(".")[2] for name in timm.list_pretrained(f"{architecture}.*")]
    if tag and tag not in weights:
        known = ", ".join(weights) or "none"
        raise ValueError(f"Expected weights of timm/{architecture} that timm knows (got {tag}; known: {known})")
    if pretrained and not weights:
        raise ValueError(f"timm has no weights for timm/{plain}; give a file as --backbone.weights, or leave it out")


def _does_not_fit(name: str, network: Any, size: tuple[int, int], error: Exception) -> str:
    usual = "" if network is None else f", made for {'×'.join(map(str, network.pretrained_cfg['input_size'][1:]))}"
    reason = f"{type(error).__name__}: {error}".splitlines()[0]
    return (
        f"{name}{usual}, does not take pictures of {size[0]}×{size[1]} ({reason}); change --data.height and "
        "--data.width, or choose another model"
    )


def _check_patches(timm: ModuleType, network: Any, name: str, size: tuple[int, int]) -> None:
    """Refuse pictures that are not a whole number of patches: the rest would be cut off silently."""
    embed = getattr(network, "patch_embed", None)
    if not isinstance(embed, timm.layers.PatchEmbed) or embed.dynamic_img_pad:
        return
    patch = tuple(embed.patch_size)
    if any(pixels % side for pixels, side in zip(size, patch, strict=True)):
        height, width = (max(round(pixels / side), 1) * side for pixels, side in zip(size, patch, strict=True))
        raise ValueError(
            f"Expected pictures of a whole number of patches of {patch[0]}×{patch[1]} pixels for {name} (got "
            f"{size[0]}×{size[1]}); give --data.height {height} --data.width {width}"
        )


def _is_channels_last(network: Any) -> bool:
    return getattr(network, "output_fmt", "NCHW") == "NHWC"


def _lay_out(network: Any, image: Tensor) -> Tensor:
    """The last tokens as a map, without those that are not patches."""
    options = {"indices": 1, "intermediates_only": True, "output_fmt": "NCHW"}
    try:
        return network.forward_intermediates(image, norm=True, **options)[-1]
    except AssertionError:  # some networks only normalise after pooling
        return network.forward_intermediates(image, norm=False, **options)[-1]


def _are_alike(tokens: Tensor, others: Tensor) -> bool:
    return torch.allclose(tokens, others, atol=1e-3 * float(tokens.abs().max()))
