"""The benchmark of a public network's clues behind fine-tuned embeddings."""

import json
import sys

import torch

from benchmarks.clues_of_another_network import main
from cace_pyg import extract_features
from cace_pyg.data import read_market_layout
from cace_pyg.models import Backbone, PublishedEmbedding


def test_every_row_of_a_run_is_computed_once_and_compared(tiny, trained, tmp_path, monkeypatch, capsys):
    splits, kept = read_market_layout(tiny), {}
    for part in ("train", "query", "gallery"):
        pictures = [sample.path for sample in getattr(splits, part)]
        network = PublishedEmbedding(Backbone("osnet_x0_25"))
        kept[part] = vars(extract_features(network, pictures, (64, 32), progress=False))
    torch.save(kept, tmp_path / "public.pt")
    given = ["--runs", trained.folder, "--features", tmp_path / "public.pt", "--data", tiny, "--out", tmp_path / "rows"]
    monkeypatch.setattr(sys, "argv", ["benchmark", *map(str, given), "--steps", "20"])
    main()
    written = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "rows").iterdir()}
    assert sorted(written) == [f"{row}_{trained.folder.name}.json" for row in ("embeddings", "graph", "no_graph")]
    graph = json.loads((tmp_path / "rows" / f"graph_{trained.folder.name}.json").read_text())
    own = json.loads((trained.folder / "metrics.json").read_text())["individual"]
    embeddings = json.loads((tmp_path / "rows" / f"embeddings_{trained.folder.name}.json").read_text())
    assert abs(embeddings["individual"]["mAP"] - own["mAP"]) < 0.002
    assert len(graph["two_stage_k_reciprocal"]["average_precision"]) == len(graph["two_stage"]["average_precision"])
    main()
    assert {path.name: path.stat().st_mtime_ns for path in (tmp_path / "rows").iterdir()} == written
    table = [line for line in capsys.readouterr().out.splitlines() if line.startswith("graph two_stage ")]
    assert len(table) == 2 and "over its own: " in table[0] and "over the control: " in table[0]
