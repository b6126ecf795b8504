"""From a configuration to the model it describes."""

from cace_pyg.config import Config
from cace_pyg.models import Backbone, CaceNet


def build_model(config: Config, num_identities: int, pretrained: bool = True) -> CaceNet:
    """The network of ``config``, its weights drawn from torch's current random state.

    Args:
        config: the run.
        num_identities: training identities.
        pretrained: load ``backbone.weights``; false where a checkpoint follows that holds them.
    """
    settings = config.backbone
    weights = settings.weights if pretrained else None
    return CaceNet(
        Backbone(settings.name, weights, settings.last_stride, settings.stem),
        config.graph,
        num_identities,
        config.embedding.channels,
        config.embedding.batch_norm,
        config.conditional,
    )
