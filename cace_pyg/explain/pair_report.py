"""The analysis of one pair, as text and as files."""

import math
from collections.abc import Sequence
from pathlib import Path

import networkx as nx
from matplotlib.figure import Figure

from cace_pyg.engine.files import atomic_file, write_figures
from cace_pyg.explain.pair_analysis import PairAnalysis
from cace_pyg.viz import cluster_cells, decisive_correspondences, weighted_degrees

_LONGEST_NAME = 36


def describe_pair(analysis: PairAnalysis, strongest: int) -> str:
    """Distances, statistics, the ``strongest`` matches and the clusters as text for a terminal."""
    picture_a, picture_b = analysis.pictures
    sections = [
        f"a: {picture_a}\nb: {picture_b}",
        f"individual distance   {analysis.individual:.4f}\n"
        f"conditional distance  {analysis.conditional:.4f}\n"
        f"fused distance        {analysis.fused:.4f}  (fusion weight {analysis.fusion_weight:.2g})",
        "Pair graph\n" + analysis.statistics.table(),
        _describe_matching(analysis, strongest),
        _describe_clusters(analysis),
    ]
    return "\n\n".join(sections)


def pair_figures(analysis: PairAnalysis, strongest: int) -> dict[str, Figure]:
    """Figures by file name: ``matching`` with ``strongest`` lines, ``clusters``, ``degrees``."""
    names = [_shorten(picture.name) for picture in analysis.pictures]
    files = f"a: {names[0]}   ·   b: {names[1]}"
    distances = (
        f"distance: individual {analysis.individual:.3f}, conditional {analysis.conditional:.3f}, "
        f"fused {analysis.fused:.3f}"
    )
    view, clusters = analysis.view, analysis.clusters
    return {
        "matching": decisive_correspondences(
            *analysis.pictures,
            analysis.matching,
            view.grid,
            title=f"{files}\n{distances}",
            strongest=strongest,
            feature_map_a=view.discrepancy_a,
            feature_map_b=view.discrepancy_b,
            feature_map_label=view.discrepancy_label,
        ),
        "clusters": cluster_cells(
            *analysis.pictures,
            *analysis.node_maps("cluster"),
            title=f"{files}\nmodularity {_modularity(analysis)}",
            inner_shares=[cluster.inner_share for cluster in clusters.clusters],
        ),
        "degrees": weighted_degrees(
            *analysis.pictures,
            *analysis.node_maps("degree"),
            title=files,
            label="weighted degree (sum of attention)",
        ),
    }


def write_pair(folder: Path, analysis: PairAnalysis, strongest: int, formats: Sequence[str]) -> list[Path]:
    """Write the figures and ``graph.graphml`` (for Gephi and others) into ``folder``; earlier files are replaced.

    Args:
        folder: made if it is missing.
        analysis: what to write.
        strongest: how many matches to draw.
        formats: of the figures: ``png``, ``svg`` or both.

    Returns:
        The files.
    """
    files = write_figures(folder, pair_figures(analysis, strongest), formats)
    graph = folder / "graph.graphml"
    with atomic_file(graph) as file:
        nx.write_graphml(analysis.graph, file)
    return [graph, *files]


def _describe_matching(analysis: PairAnalysis, strongest: int) -> str:
    matching, width = analysis.matching, analysis.view.grid[1]
    if not len(matching):
        return "Decisive correspondences: none, there are no edges between the pictures"
    total = (
        f"{len(matching)} matches that carry {100 * _carried(analysis):.2g} % of the propagation between the pictures"
    )
    view = analysis.view.verdict
    lines = [f"Decisive correspondences: {total}", view, f"{'row, column in a':>18}{'in b':>10}{'share, %':>12}"]
    for a, b, share in matching[:strongest]:
        cells = [f"{int(clue) // width:>4}, {int(clue) % width:>2}" for clue in (a, b)]
        lines.append(f"{cells[0]:>18}{cells[1]:>10}{100 * share:>12.3f}")
    return "\n".join(lines)


def _carried(analysis: PairAnalysis) -> float:
    """The matching's part of the sum of all shares between the pictures."""
    image = nx.get_node_attributes(analysis.graph, "image")
    inter = sum(edge["share"] for i, j, edge in analysis.graph.edges(data=True) if image[i] != image[j])
    return analysis.matching[:, 2].sum() / inter


def _describe_clusters(analysis: PairAnalysis) -> str:
    clusters = analysis.clusters.clusters
    if not clusters:
        return "Clusters of clues: none, the graph has no edges"
    lines = [
        f"Clusters of clues: {len(clusters)}, modularity {_modularity(analysis)}",
        f"{'':>10}{'clues in a':>12}{'in b':>8}{'weight within, %':>20}",
    ]
    for number, cluster in enumerate(clusters, start=1):
        counts = f"{len(cluster.clues_a):>12}{len(cluster.clues_b):>8}"
        lines.append(f"{number:>10}{counts}{100 * cluster.inner_share:>20.1f}")
    return "\n".join(lines)


def _modularity(analysis: PairAnalysis) -> str:
    modularity = analysis.clusters.modularity
    return "–" if math.isnan(modularity) else f"{modularity:.3f}"


def _shorten(name: str) -> str:
    return name if len(name) <= _LONGEST_NAME else f"…{name[1 - _LONGEST_NAME :]}"
