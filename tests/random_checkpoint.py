"""Checkpoints of models that nobody trained."""

import torch

from cace_pyg.config import config_of, config_parser, parse
from cace_pyg.engine.build import build_model
from cace_pyg.engine.checkpoint import save_checkpoint

OPTIONS = {
    "data.height": 48, "data.width": 24, "data.hold_out": 0.3, "threads": 1, "backbone.name": "small_cnn",
    "embedding.channels": 16, "pair_phase.epochs": 2, "evaluation.top_k": 10, "conditional.width": 8,
    "conditional.compare": "verification", "graph": "CorrespondenceAttention", "graph.sharpness": 4,
}  # fmt: skip


def make_checkpoint(path, root, seed=0, **options):
    """A checkpoint whose weights are random, the pair branch's too; an option that is None is left at its default."""
    parser = config_parser("train", "")
    chosen = {name: value for name, value in {"data.root": root, **OPTIONS, **options}.items() if value is not None}
    config = config_of(parse(parser, [f"--{name}={value}" for name, value in chosen.items()]), parser)
    torch.manual_seed(seed)
    model = build_model(config, 5, pretrained=False)
    for name, weight in model.named_parameters():
        if "expansion" in name or "verification.layers.2" in name:
            torch.nn.init.normal_(weight, std=0.3)
    path.parent.mkdir(parents=True, exist_ok=True)
    state = {"config": config.to_yaml(), "identities": 5, "fusion_weight": 0.5, "model": model.state_dict(), "epoch": 1}
    save_checkpoint(path, state)
    return path
