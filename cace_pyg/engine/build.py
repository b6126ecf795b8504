"""Networks as a configuration says them."""

from collections.abc import Sequence

from cace_pyg.config import Config
from cace_pyg.models import Backbone, CaceNet, Extractor, PublishedEmbedding, TimmExtractor
from cace_pyg.models.timm_extractor import PREFIX


def build_model(
    config: Config, num_identities: int | None, pretrained: bool = True, layers: Sequence[str] | None = None
) -> CaceNet:
    """The network of ``config``, its weights drawn from torch's current random state.

    Args:
        config: the run.
        num_identities: training identities; none where ``embedding.kind`` is published.
        pretrained: load ``backbone.weights``; false where a checkpoint follows that holds them.
        layers: pooling and neck of a published embedding, see :class:`PublishedEmbedding`, where a checkpoint follows.

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
        pretrained: load ``backbone.weights``.
        layers: see :func:`build_model`.

    Raises:
        FileNotFoundError, ValueError: its weights are missing or do not fit, or it has no embedding of its own.
        RuntimeError: it is one of timm, which is not installed; or a download failed.
    """
    settings = config.backbone
    if published and settings.weights is None:
        raise ValueError(
            "embedding.kind published is the embedding of a network that is trained already: give its file as "
            "--backbone.weights, or --embedding.kind trained"
        )
    weights = settings.weights if pretrained else None
    if settings.name.startswith(PREFIX):
        if settings.last_stride == 1 or settings.stem != "torchvision":
            raise ValueError(
                f"{settings.name} stays as timm made it; give --backbone.last_stride 2 and no backbone.stem"
            )
        size = config.data.height, config.data.width
        return TimmExtractor(settings.name, size, weights, published, settings.normalisation)
    if settings.normalisation is not None:
        raise ValueError(
            f"backbone.normalisation is for networks of timm (got it with backbone.name {settings.name}); leave it out"
        )
    backbone = Backbone(settings.name, weights, settings.last_stride, settings.stem)
    return PublishedEmbedding(backbone, layers) if published else backbone
