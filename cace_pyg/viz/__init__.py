"""Figures of training and retrieval, and the report that holds them: arrays and files in, figures out."""

from cace_pyg.viz.cmc_curve import cmc_curve
from cace_pyg.viz.correspondence import correspondences
from cace_pyg.viz.loss_curves import loss_curves
from cace_pyg.viz.ranking import RankedImage, ranked_lists
from cace_pyg.viz.report import Report, ReportFigure, write_report

__all__ = [
    "RankedImage",
    "Report",
    "ReportFigure",
    "cmc_curve",
    "correspondences",
    "loss_curves",
    "ranked_lists",
    "write_report",
]
