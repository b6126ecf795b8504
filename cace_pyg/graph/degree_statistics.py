"""Statistics of a pair graph."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

import networkx as nx
import numpy as np


class DegreeRange(NamedTuple):
    """Weighted degrees of one image's clues, in the unit of the weights."""

    minimum: float
    median: float
    maximum: float
    mean: float


@dataclass(frozen=True)
class DegreeStatistics:
    """How a pair graph is connected. Fractions are 0 to 1, or NaN if there is nothing to count.

    Attributes:
        nodes: clues of both images.
        edges: undirected; a self-loop counts as one.
        density_intra_a: share of the block's n² entries that are not zero (PairBlocks); likewise the next two.
        density_inter: between the images.
        density_intra_b: within image b.
        isolated_a: clues of a without any edge.
        isolated_b: clues of b without any edge.
        degree_a: weighted degrees d_i of a, with a self-loop counted once.
        degree_b: of b.
        crossing_weight: share of all edges' ``weight`` (attention) that is between the images.
        crossing_share: share of all edges' ``share`` (propagation) that is between the images.
    """

    nodes: int
    edges: int
    density_intra_a: float
    density_inter: float
    density_intra_b: float
    isolated_a: int
    isolated_b: int
    degree_a: DegreeRange
    degree_b: DegreeRange
    crossing_weight: float
    crossing_share: float

    def table(self) -> str:
        """As text, fractions in percent."""
        densities = (self.density_intra_a, self.density_inter, self.density_intra_b)
        lines = [
            f"{self.nodes} clues, {self.edges} edges",
            f"{'':16}" + _cells(("intra a", "inter", "intra b")),
            f"{'density, %':16}" + _cells(f"{100 * density:.1f}" for density in densities),
            f"{'':16}" + _cells(("min", "median", "max", "mean", "isolated")),
        ]
        for name, degrees, isolated in (
            ("a", self.degree_a, self.isolated_a),
            ("b", self.degree_b, self.isolated_b),
        ):
            label = f"degree in {name}"
            lines.append(f"{label:16}" + _cells([*(f"{value:.4g}" for value in degrees), isolated]))
        crossing = (
            f"{_percent(self.crossing_weight)} of the attention, {_percent(self.crossing_share)} of the propagation"
        )
        return "\n".join([*lines, f"between the images: {crossing}"])


def degree_statistics(graph: "nx.Graph[int]") -> DegreeStatistics:
    """Statistics of the edges of a pair graph, see :func:`~cace_pyg.graph.convert`."""
    degrees = [[d["degree"] for _, d in graph.nodes(data=True) if d["image"] == image] for image in (0, 1)]
    isolated = [sum(1 for node in nx.isolates(graph) if graph.nodes[node]["image"] == image) for image in (0, 1)]
    size_a, size_b = map(len, degrees)
    image = nx.get_node_attributes(graph, "image")
    entries = np.zeros((2, 2))
    total, crossing = np.zeros(2), np.zeros(2)
    for i, j, edge in graph.edges(data=True):
        entries[image[i], image[j]] += 1
        if i != j:
            entries[image[j], image[i]] += 1
        values = (edge["weight"], edge["share"])
        total += values
        crossing += values if image[i] != image[j] else 0.0
    crossing_weight, crossing_share = (c / t if t else math.nan for c, t in zip(crossing, total, strict=True))
    return DegreeStatistics(
        nodes=graph.number_of_nodes(),
        edges=graph.number_of_edges(),
        density_intra_a=entries[0, 0] / size_a**2,
        density_inter=entries[0, 1] / (size_a * size_b),
        density_intra_b=entries[1, 1] / size_b**2,
        isolated_a=isolated[0],
        isolated_b=isolated[1],
        degree_a=_range(degrees[0]),
        degree_b=_range(degrees[1]),
        crossing_weight=crossing_weight,
        crossing_share=crossing_share,
    )


def _range(degrees: list[float]) -> DegreeRange:
    return DegreeRange(*(float(measure(degrees)) for measure in (np.min, np.median, np.max, np.mean)))


def _cells(values: Iterable[str | int]) -> str:
    return "".join(f"{value:>10}" for value in values)


def _percent(fraction: float) -> str:
    return "–" if math.isnan(fraction) else f"{100 * fraction:.1f} %"
