"""Builds the networks that a configuration describes."""

from collections.abc import Sequence
from pathlib import Path

from cace_pyg.config import Config
from cace_pyg.config.settings import BackboneSettings
from cace_pyg.models import (
    Backbone,
    CaceNet,
    Extractor,
    FrozenExtractor,
    OnnxExtractor,
    OpenVinoExtractor,
    PublishedEmbedding,
    TimmExtractor,
)
from cace_pyg.models.timm_extractor import PREFIX

FROZEN: dict[str, type[OnnxExtractor | OpenVinoExtractor]] = {
    "onnx": OnnxExtractor,
    "openvino": OpenVinoExtractor,
}  # values of backbone.name; the network is in a file


def build_model(
    config: Config, num_identities: int | None, pretrained: bool = True, layers: Sequence[str] | None = None
) -> CaceNet:
    """The network of ``config``, its weights drawn from torch's current random state.

    Args:
        config: the run.
        num_identities: training identities; None if ``embedding.kind`` is published.
        pretrained: load ``backbone.weights``; False if a checkpoint is loaded afterwards, which contains them.
        layers: pooling and neck of a published embedding, see :class:`PublishedEmbedding`, if a checkpoint is loaded
            afterwards.

    Raises:
        FileNotFoundError, ValueError: see :func:`build_extractor`.
    """
    published = config.embedding.kind == "published"
    return CaceNet(
        build_extractor(config, published, pretrained, layers),
        config.graph,
        None if published else num_identities,
        config.embedding.channels,
        config.embedding.batch_norm,
        config.conditional,
        published,
        config.embedding.pooling,
    )


def build_extractor(
    config: Config, published: bool, pretrained: bool = True, layers: Sequence[str] | None = None
) -> Extractor:
    """The network below the pair stage.

    Args:
        config: the run.
        published: with its own embedding.
        pretrained: load ``backbone.weights``; an ONNX or OpenVINO network is read from its file in any case.
        layers: see :func:`build_model`.

    Raises:
        FileNotFoundError, ValueError: its weights are missing or do not fit, or its own embedding is asked for and it
            has none, or is not asked for and it has no other.
        RuntimeError: see :class:`OnnxExtractor`, :class:`OpenVinoExtractor` and :class:`TimmExtractor`.
    """
    settings = config.backbone
    if published and settings.weights is None:
        raise ValueError(
            "embedding.kind published uses the embedding of a trained network: give its file as --backbone.weights, or "
            "give --embedding.kind trained"
        )
    weights = settings.weights if pretrained else None
    if settings.name in FROZEN:
        return _frozen(settings, published, (config.data.height, config.data.width))
    _check_frozen_alone(settings)
    if settings.name.startswith(PREFIX):
        return _of_timm(settings, published, (config.data.height, config.data.width), weights)
    backbone = Backbone(settings.name, weights, settings.last_stride, settings.stem, settings.earlier or ())
    return PublishedEmbedding(backbone, layers) if published else backbone


def _of_timm(settings: BackboneSettings, published: bool, size: tuple[int, int], weights: str | None) -> TimmExtractor:
    if settings.last_stride == 1 or settings.stem != "torchvision":
        raise ValueError(f"{settings.name} cannot be changed; leave backbone.last_stride and backbone.stem out")
    return TimmExtractor(settings.name, size, weights, published, settings.normalisation, settings.earlier or ())


def _frozen(settings: BackboneSettings, published: bool, size: tuple[int, int]) -> FrozenExtractor:
    if not published:
        raise ValueError(
            f"Expected embedding.kind published with backbone.name {settings.name}, whose network is frozen (got "
            "trained); give --embedding.kind published, or train a network with torch weights"
        )
    if settings.last_stride is not None or settings.stem != "torchvision":
        raise ValueError(
            f"a network of {settings.name} cannot be changed; leave backbone.last_stride and backbone.stem out"
        )
    assert settings.weights is not None  # checked before, for a published embedding
    return FROZEN[settings.name](
        Path(settings.weights),
        settings.map,
        settings.output,
        settings.normalisation,
        settings.channel_order,
        size,
        settings.earlier or (),
    )


def _check_frozen_alone(settings: BackboneSettings) -> None:
    """Refuse settings that have no effect for this backbone, and files that need another backbone name."""
    for name in ("map", "output", "normalisation", "channel_order"):
        of_timm = name == "normalisation" and settings.name.startswith(PREFIX)
        if getattr(settings, name) is not None and not of_timm:
            timms = " or from timm" if name == "normalisation" else ""
            raise ValueError(
                f"backbone.{name} is for networks from ONNX or OpenVINO files{timms} (got it with backbone.name "
                f"{settings.name}); leave it out"
            )
    kind = {".onnx": "onnx", ".xml": "openvino"}.get(Path(settings.weights or "").suffix)
    if kind is not None:
        raise ValueError(
            f"Expected weights of {settings.name} (got the {kind} file {settings.weights}); give --backbone.name {kind}"
        )
