"""Small graphs, a tiny data set and a run of seconds, which many tests share."""

import pytest
import torch

from cace_pyg.data.synthetic import SyntheticSettings, make_synthetic
from tests import fake_trees


@pytest.fixture(autouse=True)
def seeded():
    """Every test draws the same numbers, alone or among others."""
    torch.manual_seed(0)


def soft_adjacency(pairs: int, nodes: int, isolated: int = 2, self_loops: bool = True) -> torch.Tensor:
    """Symmetric, soft-weighted, about half dense, the first ``isolated`` nodes without an edge, float64."""
    upper = torch.rand(pairs, nodes, nodes, dtype=torch.float64)
    upper = upper * (torch.rand(pairs, nodes, nodes) < 0.5)
    adjacency = upper + upper.mT
    if not self_loops:
        adjacency.diagonal(dim1=1, dim2=2).zero_()
    adjacency[:, :isolated] = 0
    adjacency[:, :, :isolated] = 0
    return adjacency


@pytest.fixture
def make_adjacency():
    return soft_adjacency


@pytest.fixture(scope="session")
def tiny(tmp_path_factory):
    """12 + 6 rendered identities of 48×24 pixels."""
    settings = SyntheticSettings(
        train_identities=12, test_identities=6, images_per_identity=6, cameras=4, distractors=4, junk=4,
        height=48, width=24,
    )  # fmt: skip
    return make_synthetic(tmp_path_factory.mktemp("data") / "tiny", settings, progress=False)


@pytest.fixture(scope="session")
def public_trees(tmp_path_factory):
    """Trees of the public data sets' whole size, by the names of their readers, each below a folder of its own."""
    top = tmp_path_factory.mktemp("public")
    msmt17 = fake_trees.msmt17(top / "m17" / "first")
    return {
        "market1501": fake_trees.market(top / "m" / "renamed_c9"),
        "dukemtmc": fake_trees.duke(top / "d" / "any name"),
        "occluded_duke": fake_trees.occluded_duke(top / "o" / "occluded"),
        "msmt17": msmt17,
        "msmt17_trainval": msmt17,
    }


@pytest.fixture
def options(tiny, tmp_path):
    """Dotted options of a run with both phases into ``tmp_path / "run"``."""
    chosen = {
        "data.root": tiny, "data.height": 48, "data.width": 24, "data.workers": 0, "data.hold_out": 0.3,
        "run_dir": tmp_path / "run", "threads": 1, "backbone.name": "small_cnn", "embedding.channels": 16,
        "joint_phase.num_identities": 4, "joint_phase.num_instances": 4,
        "joint_phase.epochs": 2, "joint_phase.batches_per_epoch": 4, "joint_phase.warmup_epochs": 1, "validate_every": 1,
        "joint_phase.learning_rate": 0.01, "pair_phase.epochs": 2, "pair_phase.batches_per_epoch": 4,
        "pair_phase.anchors": 6, "pair_phase.clue_dropout": 0.3, "evaluation.top_k": 10,
    }  # fmt: skip
    return [f"--{name}={value}" for name, value in chosen.items()]
