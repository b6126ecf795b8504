"""docs/neighbours.md: its program runs, and its options are there."""

import re
from pathlib import Path

import torch

from cace_pyg import Features, fit_pair_stage
from cace_pyg.config import PairPhaseSettings, config_parser, parse
from cace_pyg.data import read_market_layout

PAGE = (Path(__file__).parents[1] / "docs" / "neighbours.md").read_text()


def test_its_program_runs(tiny, trained):
    pids = torch.arange(12).repeat_interleave(4)
    features = Features(torch.randn(48, 6), torch.randn(48, 4, 8), (2, 2))
    settings = PairPhaseSettings(epochs=1, batches_per_epoch=2, anchors=6, confusions=3)
    fitted = fit_pair_stage(features, pids, settings=settings, held_out=0.3, device="cpu")
    names = {
        "query": features.select(slice(0, 12)),
        "gallery": features.select(slice(12, None)),
        "fitted": fitted,
        "embeddings": features.embedding,
        "fused": torch.rand(48, 10),
    }
    splits = read_market_layout(tiny)
    names |= {f"{part}_paths": [sample.path for sample in getattr(splits, part)] for part in ("query", "gallery")}
    shapes = []
    for block in re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL):
        exec(block.replace("RUN_DIR", str(trained.folder)), names)
        assert names["distance"].isfinite().all()
        shapes.append(tuple(names["distance"].shape))
    assert shapes[0] == (12, 36) and shapes[1] == (len(splits.query), len(splits.gallery))
    assert names["data"].num_edges == names["rows"].nnz == 48 * 20
    assert names["again"].index.shape == (48, 20)


def test_its_options_are_options():
    options = [option.split() for option in re.findall(r"`(--[a-z_]+\.[a-z0-9_]+ [^`]+)`", PAGE)]
    words = [word for option in options for word in option]
    assert len(words) > 16
    parse(config_parser("train", ""), ["--data.root=x", *words])
