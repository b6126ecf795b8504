"""CACE-Net: extractor, graph builder, pair stage, heads."""

from cace_pyg.models.backbone import Backbone
from cace_pyg.models.cace_net import CaceNet
from cace_pyg.models.clue_alignment import ClueAlignment
from cace_pyg.models.clues_of_layers import join_layers
from cace_pyg.models.conditional_embedding import ConditionalEmbedding
from cace_pyg.models.extractor import Extractor, Individual
from cace_pyg.models.frozen_extractor import FrozenExtractor
from cace_pyg.models.heads import EmbeddingHead, VerificationHead
from cace_pyg.models.keep_clues import keep_clues
from cace_pyg.models.load_backbone_weights import LoadedWeights, load_backbone_weights
from cace_pyg.models.onnx_extractor import OnnxExtractor
from cace_pyg.models.openvino_extractor import OpenVinoExtractor
from cace_pyg.models.pair_operand import Merged, PairOperand
from cace_pyg.models.pair_stage import ConditionalSettings, PairStage
from cace_pyg.models.published_embedding import PublishedEmbedding
from cace_pyg.models.timm_extractor import TimmExtractor
from cace_pyg.models.two_networks import TwoNetworks

__all__ = [
    "Backbone",
    "CaceNet",
    "ClueAlignment",
    "ConditionalEmbedding",
    "ConditionalSettings",
    "EmbeddingHead",
    "Extractor",
    "FrozenExtractor",
    "Individual",
    "LoadedWeights",
    "Merged",
    "OnnxExtractor",
    "OpenVinoExtractor",
    "PairOperand",
    "PairStage",
    "PublishedEmbedding",
    "TimmExtractor",
    "TwoNetworks",
    "VerificationHead",
    "join_layers",
    "keep_clues",
    "load_backbone_weights",
]
