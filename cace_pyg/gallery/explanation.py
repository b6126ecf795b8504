"""Why a picture of the gallery was found."""

from dataclasses import dataclass

import networkx as nx
from matplotlib.figure import Figure
from PIL import Image
from torch_geometric.data import Data

from cace_pyg.explain.conditional_maps import conditional_maps_figure
from cace_pyg.explain.pair_view import PairView
from cace_pyg.gallery.embedder import Embedder
from cace_pyg.gallery.search_result import SearchHit
from cace_pyg.graph import pair_to_networkx
from cace_pyg.viz import correspondences


@dataclass(frozen=True)
class Explanation:
    """The pair graph of a query and an image of the gallery, as the second stage saw it.

    Attributes:
        hit: the image, with its distances.
        view: graph, strongest correspondences, and the discrepancy of each clue.
        pictures: the query, and the image's file (its thumbnail if the file is gone).
        embedder: the gallery's.
        cameras: of both pictures, if they are known.
    """

    hit: SearchHit
    view: PairView
    pictures: tuple[Image.Image, Image.Image]
    embedder: Embedder
    cameras: tuple[str | None, str | None] = (None, None)

    @property
    def data(self) -> Data:
        """The pair graph, see :func:`cace_pyg.graph.pair_to_data`; image a is the query."""
        return self.view.graph

    @property
    def verdict(self) -> str:
        """How many of the twenty strongest correspondences speak for one person, and how many speak against it."""
        return self.view.verdict

    def networkx(self) -> "nx.Graph[int]":
        """The pair graph, see :func:`cace_pyg.graph.convert`."""
        return pair_to_networkx(self.view.graph, self.embedder.model.pair_stage.settings.degree_floor)

    def figure(self, strongest: int = 20) -> Figure:
        """Both pictures, the ``strongest`` correspondences, and how much each clue differs from its neighbours."""
        return correspondences(
            *self.pictures,
            self.view.matches,
            self.view.grid,
            distance_before=self.hit.individual,
            distance_after=self.hit.distance,
            feature_map_a=self.view.discrepancy_a,
            feature_map_b=self.view.discrepancy_b,
            feature_map_label=self.view.discrepancy_label,
            strongest=strongest,
            note=self.verdict,
        )

    def conditional_maps(self) -> Figure:
        """Feature maps of both pictures, each by itself and given the other (Fig. 4 of the paper).

        The gallery keeps no feature maps, so both pictures pass through the network again.

        Raises:
            ValueError: the model compares aligned clues and has no conditional maps.
        """
        embedding, clues = self.embedder.clues(self.pictures, self.cameras)
        with self.embedder.on_cpu() as model:
            return conditional_maps_figure(model, embedding, clues, self.pictures)
