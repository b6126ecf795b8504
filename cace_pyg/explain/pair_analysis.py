"""Analyses the pair graph of two pictures."""

from dataclasses import dataclass, replace
from pathlib import Path

import networkx as nx
import numpy as np

from cace_pyg.config import Config
from cace_pyg.engine.checkpoint import load_model
from cace_pyg.engine.evaluation import evaluate_model
from cace_pyg.explain.pair_view import PairView, picture_samples, view_pair
from cace_pyg.graph import (
    ClueClusters,
    DegreeStatistics,
    clue_clusters,
    decisive_matching,
    degree_statistics,
    pair_to_networkx,
)


@dataclass(frozen=True)
class PairAnalysis:
    """A trained model's analysis of two pictures.

    Attributes:
        pictures: the files of a and b.
        individual: distance of the individual embeddings, 0 to 2.
        conditional: the pair stage's distance, see :meth:`PairStage.distance`.
        fused: the distance that the second stage ranks by.
        fusion_weight: of the conditional distance in the fused one.
        view: the pair as the model sees it.
        graph: the pair graph, see :func:`~cace_pyg.graph.convert`; its nodes also have ``cluster`` (from 1, or 0 for
            none) and its edges ``decisive`` (whether they are in the matching).
        matching: rows (clue of a, clue of b, share in the propagation), strongest first.
        clusters: communities of the shares.
        statistics: of the graph.
    """

    pictures: tuple[Path, Path]
    individual: float
    conditional: float
    fused: float
    fusion_weight: float
    view: PairView
    graph: "nx.Graph[int]"
    matching: np.ndarray
    clusters: ClueClusters
    statistics: DegreeStatistics

    def node_maps(self, attribute: str) -> tuple[np.ndarray, np.ndarray]:
        """An attribute of each node of ``graph`` as maps (H, W) of a and of b."""
        values = np.array([self.graph.nodes[node][attribute] for node in sorted(self.graph)])
        of_a, of_b = values.reshape(2, *self.view.grid)
        return of_a, of_b


def analyse_pair(checkpoint: Path, pictures: tuple[Path, Path], config: Config) -> PairAnalysis:
    """Compare two pictures with a trained model as in the evaluation, and analyse their graph.

    Args:
        checkpoint: ``best.ckpt`` or ``last.ckpt`` of a run.
        pictures: the files of a and b.
        config: the checkpoint's, or one with other settings that its weights still fit.

    Raises:
        FileNotFoundError: there is no such picture or checkpoint.
        ValueError: a file is not a picture, or the checkpoint does not fit; or ``evaluation.fusion`` is ``auto``, but
            the run chose no weight.
    """
    a, b = picture_samples(pictures)
    config = replace(config, data=replace(config.data, workers=0))  # two pictures need no worker processes
    model, state = load_model(checkpoint, config)
    evaluation = evaluate_model(model, (a,), (b,), config, state["fusion_weight"])
    view = view_pair(model, evaluation.query.prepared, evaluation.gallery.prepared)
    graph = pair_to_networkx(view.graph, model.pair_stage.settings.degree_floor)
    matching, clusters = decisive_matching(graph), clue_clusters(graph)
    _annotate(graph, matching, clusters)
    distances, weight = evaluation.distances, evaluation.fusion_weight
    return PairAnalysis(
        pictures=pictures,
        individual=float(distances.individual()),
        conditional=float(distances.conditional),
        fused=float(distances.two_stage(weight)),
        fusion_weight=weight,
        view=view,
        graph=graph,
        matching=matching,
        clusters=clusters,
        statistics=degree_statistics(graph),
    )


def _annotate(graph: "nx.Graph[int]", matching: np.ndarray, clusters: ClueClusters) -> None:
    """Write clusters and matching into the graph, for other programs."""
    n = len(graph) // 2
    for node in graph:
        graph.nodes[node]["cluster"] = 0
    for number, cluster in enumerate(clusters.clusters, start=1):
        for node in [*cluster.clues_a, *(n + clue for clue in cluster.clues_b)]:
            graph.nodes[node]["cluster"] = number
    for _, _, edge in graph.edges(data=True):
        edge["decisive"] = False
    for a, b in matching[:, :2].astype(int):
        graph.edges[int(a), n + int(b)]["decisive"] = True
