"""CACE-Net: backbone, graph builder, conditional embedding, heads."""

from cace_pyg.models.aligned_clues import AlignedClues
from cace_pyg.models.backbone import Backbone
from cace_pyg.models.cace_net import CaceNet
from cace_pyg.models.conditional import ConditionalEmbedding
from cace_pyg.models.conditional_settings import ConditionalSettings
from cace_pyg.models.embedding_head import EmbeddingHead
from cace_pyg.models.load_backbone_weights import LoadedWeights, load_backbone_weights
from cace_pyg.models.prepared_clues import PreparedClues
from cace_pyg.models.published_embedding import PublishedEmbedding
from cace_pyg.models.verification_head import VerificationHead

__all__ = [
    "AlignedClues",
    "Backbone",
    "CaceNet",
    "ConditionalEmbedding",
    "ConditionalSettings",
    "EmbeddingHead",
    "LoadedWeights",
    "PreparedClues",
    "PublishedEmbedding",
    "VerificationHead",
    "load_backbone_weights",
]
