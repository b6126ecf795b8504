"""Figures of training and retrieval, and the report that contains them: arrays and files in, figures out."""

from cace_pyg.viz.ablation_gains import AblationGain, ablation_gains
from cace_pyg.viz.clue_maps import (
    ConditionalMap,
    cluster_cells,
    conditional_maps,
    weighted_degrees,
)
from cace_pyg.viz.cmc_curve import cmc_curve
from cace_pyg.viz.correspondences import (
    compared_correspondences,
    correspondences,
    decisive_correspondences,
)
from cace_pyg.viz.loss_curves import loss_curves
from cace_pyg.viz.neighbourhoods import neighbourhoods
from cace_pyg.viz.ranked_lists import RankedImage, ranked_lists
from cace_pyg.viz.reliability_diagram import reliability_diagram
from cace_pyg.viz.report import Report, ReportFigure, write_report
from cace_pyg.viz.roc_curve import roc_curve
from cace_pyg.viz.timeline import Seen, timeline

__all__ = [
    "AblationGain",
    "ConditionalMap",
    "RankedImage",
    "Report",
    "ReportFigure",
    "Seen",
    "ablation_gains",
    "cluster_cells",
    "cmc_curve",
    "compared_correspondences",
    "conditional_maps",
    "correspondences",
    "decisive_correspondences",
    "loss_curves",
    "neighbourhoods",
    "ranked_lists",
    "reliability_diagram",
    "roc_curve",
    "timeline",
    "weighted_degrees",
    "write_report",
]
