"""CACE-Net: backbone, graph builder, conditional embedding, heads."""

from cace_pyg.models.backbone import Backbone
from cace_pyg.models.cace_net import CaceNet
from cace_pyg.models.conditional import ConditionalEmbedding, ConditionalSettings, PreparedClues
from cace_pyg.models.embedding_head import EmbeddingHead

__all__ = [
    "Backbone",
    "CaceNet",
    "ConditionalEmbedding",
    "ConditionalSettings",
    "EmbeddingHead",
    "PreparedClues",
]
