"""A model of random weights, and pictures to index."""

from datetime import datetime, timedelta

import pytest
import torch

from cace_pyg import Gallery
from cace_pyg.config import config_of, config_parser, parse, to_yaml
from cace_pyg.data.market_layout import read_market_layout
from cace_pyg.engine.assembly import build_model
from cace_pyg.engine.checkpoint import save_checkpoint

OPTIONS = {
    "data.height": 48, "data.width": 24, "data.hold_out": 0.3, "threads": 1, "backbone.name": "small_cnn",
    "embedding.channels": 16, "pair_phase.epochs": 2, "evaluation.top_k": 10, "conditional.width": 8,
    "conditional.compare": "verification", "graph": "CorrespondenceAttention", "graph.sharpness": 4,
}  # fmt: skip


def make_checkpoint(path, root, seed=0, **options):
    """A checkpoint whose weights are random, the pair branch's too."""
    parser = config_parser("train", "")
    chosen = {name: value for name, value in {"data.root": root, **OPTIONS, **options}.items() if value is not None}
    parsed = parse(parser, [f"--{name}={value}" for name, value in chosen.items()])
    torch.manual_seed(seed)
    model = build_model(config_of(parsed, parser), 5, pretrained=False)
    for name, weight in model.named_parameters():
        if "expansion" in name or "verification.layers.2" in name:
            torch.nn.init.normal_(weight, std=0.3)
    path.parent.mkdir(parents=True, exist_ok=True)
    state = {"config": to_yaml(parsed), "identities": 5, "fusion_weight": 0.5, "model": model.state_dict(), "epoch": 1}
    save_checkpoint(path, state)
    return path


@pytest.fixture(scope="session")
def checkpoint(tiny, tmp_path_factory):
    return make_checkpoint(tmp_path_factory.mktemp("model") / "best.ckpt", tiny)


@pytest.fixture(scope="session")
def splits(tiny):
    return read_market_layout(tiny)


@pytest.fixture(scope="session")
def pictures(splits):
    """The gallery's files: more than the second stage looks at."""
    return [sample.path for sample in splits.gallery]


@pytest.fixture(scope="session")
def shown_gallery(checkpoint, splits, tmp_path_factory):
    """A gallery that no test changes; a picture a minute, from noon on."""
    made = Gallery.create(tmp_path_factory.mktemp("shown") / "people.lance", checkpoint)
    cameras = [f"c{sample.camid}" for sample in splits.gallery]
    taken = [datetime(2026, 1, 31, 12) + timedelta(minutes=i) for i in range(len(cameras))]
    pids = [{"pid": one.pid} for one in splits.gallery]
    made.add([one.path for one in splits.gallery], cameras, taken, pids)
    return made
