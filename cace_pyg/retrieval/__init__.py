"""Retrieval: distances, rankings, two-stage re-ranking, metrics."""

from cace_pyg.retrieval.calibration import Calibration, fit_calibration
from cace_pyg.retrieval.camera_statistics import CameraStatistics
from cace_pyg.retrieval.distance import (
    conditional_distance,
    distance_blocks,
    euclidean_distance,
)
from cace_pyg.retrieval.fusion import FusionChoice, choose_fusion_weight
from cace_pyg.retrieval.k_reciprocal import k_reciprocal_distance
from cace_pyg.retrieval.metrics import Metrics, evaluate, evaluate_blocks
from cace_pyg.retrieval.neighbour_graph import NeighbourGraph, nearest_neighbours
from cace_pyg.retrieval.open_set import OpenSet, evaluate_open_set, evaluate_open_set_blocks
from cace_pyg.retrieval.paired_bootstrap import Difference, paired_bootstrap
from cace_pyg.retrieval.picture_sets import PictureSets, choose_views, form_sets, merge_embeddings, set_distance
from cace_pyg.retrieval.propagation import propagation_distance
from cace_pyg.retrieval.reliability import Reliability, expected_calibration_error, reliability_curve
from cace_pyg.retrieval.single_shot import SingleShot, evaluate_single_shot
from cace_pyg.retrieval.two_stage import rank, rerank, rerank_pairs, top_k

__all__ = [
    "Calibration",
    "CameraStatistics",
    "Difference",
    "FusionChoice",
    "Metrics",
    "NeighbourGraph",
    "OpenSet",
    "PictureSets",
    "Reliability",
    "SingleShot",
    "choose_fusion_weight",
    "choose_views",
    "conditional_distance",
    "distance_blocks",
    "euclidean_distance",
    "evaluate",
    "evaluate_blocks",
    "evaluate_open_set",
    "evaluate_open_set_blocks",
    "evaluate_single_shot",
    "expected_calibration_error",
    "fit_calibration",
    "form_sets",
    "k_reciprocal_distance",
    "merge_embeddings",
    "nearest_neighbours",
    "paired_bootstrap",
    "propagation_distance",
    "rank",
    "reliability_curve",
    "rerank",
    "rerank_pairs",
    "set_distance",
    "top_k",
]
