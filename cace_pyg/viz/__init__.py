"""Figures of training and retrieval, and the report that holds them: arrays and files in, figures out."""

from cace_pyg.viz.ablation_gains import AblationGain, ablation_gains
from cace_pyg.viz.cluster_cells import cluster_cells
from cace_pyg.viz.cmc_curve import cmc_curve
from cace_pyg.viz.compared_correspondences import compared_correspondences
from cace_pyg.viz.conditional_maps import ConditionalMap, conditional_maps
from cace_pyg.viz.correspondence import correspondences
from cace_pyg.viz.decisive_matching import decisive_correspondences
from cace_pyg.viz.loss_curves import loss_curves
from cace_pyg.viz.ranking import RankedImage, ranked_lists
from cace_pyg.viz.report import Report, ReportFigure, write_report
from cace_pyg.viz.weighted_degrees import weighted_degrees

__all__ = [
    "AblationGain",
    "ConditionalMap",
    "RankedImage",
    "Report",
    "ReportFigure",
    "ablation_gains",
    "cluster_cells",
    "cmc_curve",
    "compared_correspondences",
    "conditional_maps",
    "correspondences",
    "decisive_correspondences",
    "loss_curves",
    "ranked_lists",
    "weighted_degrees",
    "write_report",
]
