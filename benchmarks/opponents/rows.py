"""The rows of the table: models on the same features, trained by the same loop."""

import functools
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import torch

from benchmarks.opponents.matcher_stage import Matcher, MatcherStage
from benchmarks.opponents.mutual_nearest import MutualNearest
from benchmarks.opponents.people import People
from benchmarks.opponents.qaconv import QAConv
from benchmarks.opponents.transmatcher import TransMatcher
from cace_pyg import Features
from cace_pyg.config import Config, PairPhaseSettings
from cace_pyg.config.settings import EvaluationSettings, JointPhaseSettings
from cace_pyg.data.read_dataset import DataSettings
from cace_pyg.data.sample import Splits
from cace_pyg.engine.distances import Distances, measure
from cace_pyg.engine.extraction import Extraction
from cace_pyg.engine.features import KeptFeatures
from cace_pyg.engine.launch_fabric import find_device
from cace_pyg.engine.on_features import RECIPE
from cace_pyg.engine.training import Trainer
from cace_pyg.graph import (
    CorrespondenceAttention,
    FullyConnected,
    GraphBuilder,
    NoAlignment,
    Part,
    TopKSimilarity,
)
from cace_pyg.models import CaceNet, ConditionalSettings, PairOperand

UNTRAINED = ("individual", "k_reciprocal")
TRANSMATCHER_LAYERS = {"transmatcher_one_layer": 1, "transmatcher": 2}
BUILDERS: dict[str, Callable[[int], GraphBuilder]] = {
    "no_graph": NoAlignment,
    "part": Part,
    "nearest_counterpart": functools.partial(TopKSimilarity, k=1),
    "fully_connected": FullyConnected,
}
TRAINED = ("graph", *BUILDERS, "smoothing", "aligned_clues", "mutual_nearest", "qaconv", *TRANSMATCHER_LAYERS)
_STEPS_OF_AN_EPOCH = 60


@dataclass(frozen=True)
class Recipe:
    """Settings that all rows share, and settings that each row may have.

    Attributes:
        steps: of training.
        anchors: triplets per step.
        confusions: negatives come from this many nearest wrong people.
        clue_dropout: share of clues dropped in training.
        mirror: share of pictures whose map is mirrored in training.
        learning_rate: of AdamW at the start; then cosine to 0.
        width: channels of the projected clues.
        top_k: pictures that the second stage re-ranks.
        precision: of training, see :class:`cace_pyg.config.Config`.
        fusion: weight of the pair stage; None: chosen on the held-out people.
    """

    steps: int = 1200
    anchors: int = 96
    confusions: int = 20
    clue_dropout: float = 0.5
    mirror: float = 0.0
    learning_rate: float = 1e-3
    width: int = 64
    top_k: int = 100
    precision: Literal["32-true", "bf16-mixed"] = "32-true"
    fusion: float | None = None

    def config(self, conditional: ConditionalSettings, graph: Callable[[int], GraphBuilder], seed: int) -> Config:
        """For the library's own loop; the last step's weights are used, without validation in between."""
        epochs = max(1, self.steps // _STEPS_OF_AN_EPOCH)
        if self.steps % epochs:
            raise ValueError(f"Expected steps in epochs of {_STEPS_OF_AN_EPOCH}, such as 1200 (got {self.steps})")
        return Config(
            DataSettings(root="features", hold_out=0.0),
            seed=seed,
            precision=self.precision,
            graph=graph,
            conditional=conditional,
            joint_phase=JointPhaseSettings(epochs=0),
            pair_phase=PairPhaseSettings(
                epochs=epochs,
                batches_per_epoch=self.steps // epochs,
                anchors=self.anchors,
                confusions=self.confusions,
                clue_dropout=self.clue_dropout,
                mirror=self.mirror,
                learning_rate=self.learning_rate,
            ),
            evaluation=EvaluationSettings(top_k=self.top_k),
        )


def build(row: str, features: Features, recipe: Recipe, seed: int) -> tuple[CaceNet, Config]:
    """The model of a row, untrained, and its configuration.

    ``graph`` is the recipe of ``configs/on_top.yaml``, ``no_graph`` the same without edges; likewise the other builders
    of Table 2, and smoothing (Table 1, "Normal").
    """
    torch.manual_seed(seed)
    channels, n = features.channels, features.clues.size(1)
    graph: Callable[[int], GraphBuilder]
    graph = functools.partial(CorrespondenceAttention, width=recipe.width, sharpness=16.0)
    conditional = replace(RECIPE, width=recipe.width)
    if row in BUILDERS:
        graph = BUILDERS[row]
    elif row == "smoothing":
        conditional = replace(conditional, mode="smooth")
    elif row == "aligned_clues":
        conditional = replace(conditional, compare="aligned_clues")
    model = CaceNet(KeptFeatures(features), graph, embedding_channels=256, conditional=conditional, published=True)
    matcher = _matcher(row, channels, n, recipe.width)
    if matcher is not None:
        model.pair_stage = MatcherStage(channels, matcher)
        conditional, graph = model.pair_stage.settings, NoAlignment
    return model, recipe.config(conditional, graph, seed)


def _matcher(row: str, channels: int, n: int, width: int) -> Matcher | None:
    if row == "mutual_nearest":
        return MutualNearest(channels, width)
    if row in TRANSMATCHER_LAYERS:
        return TransMatcher(channels, n, width, TRANSMATCHER_LAYERS[row])
    return QAConv(channels, n, width) if row == "qaconv" else None


def train(model: CaceNet, config: Config, people: People) -> None:
    """The pair phase on the people who are not held out."""
    with tempfile.TemporaryDirectory() as folder:
        kept = replace(config, run_dir=str(Path(folder) / "run"))
        Trainer(model, kept, Splits(people.train, (), ())).run()


def measure_row(
    model: CaceNet, config: Config, people: People, part: str, weight: float | None = None
) -> tuple[Extraction, Extraction, Distances]:
    """Query and gallery of ``held_out`` or ``test`` as extracted, and both stages' distances.

    With a fusion ``weight`` the second stage follows ``config.evaluation.gallery_neighbours``.
    """
    device = find_device(config.device)
    return measure(model.to(device), *getattr(people, part), config, device, weight=weight)


def bytes_a_picture(kept: PairOperand) -> int:
    """Bytes per picture in float32, as in memory; without edges within a picture, which no row has."""
    tensors = kept.compared.features, kept.projected, kept.individual
    return sum(tensor[0].numel() * tensor.element_size() for tensor in tensors)
