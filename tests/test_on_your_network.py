"""docs/on_your_network.md, line by line, on the tiny data set."""

import re
import shutil
from pathlib import Path

import pytest
import torch

from cace_pyg.engine import on_features
from cace_pyg.models import OnnxExtractor
from cace_pyg.torchvision_operators import import_torchvision

PAGE = (Path(__file__).parents[1] / "docs" / "on_your_network.md").read_text()


def test_the_page_runs_from_its_first_line_to_its_last(tiny, tmp_path, monkeypatch, capsys):
    """With smaller pictures and fewer steps; what is printed is a mean average precision and a weight."""
    monkeypatch.chdir(tmp_path)
    import_torchvision("models")  # a torchvision for GPUs beside a torch for CPUs can be imported by it alone
    (tmp_path / "data").mkdir()
    shutil.copytree(tiny, tmp_path / "data" / "people")
    short = on_features.PairPhaseSettings(epochs=1, batches_per_epoch=2, anchors=8, confusions=3)
    monkeypatch.setattr(on_features, "PairPhaseSettings", lambda **_: short)
    blocks = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    assert len(blocks) == 8
    program = (
        "\n".join(blocks)
        .replace("(128, 64)", "(32, 16)")
        .replace("size=(256, 128)", "size=(64, 32), progress=False, device='cpu'")
    )
    names = {"__name__": "page"}
    exec(re.sub(r"fit_pair_stage\(((?!.*held_out).*)\)", r"fit_pair_stage(\1, held_out=0.3)", program), names)
    printed = re.search(r"^(0\.\d+) fusion weight (\d\.\d+)$", capsys.readouterr().out, re.MULTILINE)
    assert printed and 0 < float(printed[1]) < 1 and 0 <= float(printed[2]) <= 1
    assert names["features"].grid == (16, 8) and names["features"].channels == 64
    assert names["train"].channels == 224 and names["train"].embedding.size(1) == 512
    images = torch.randn(3, 3, 256, 128)
    with torch.no_grad():
        wanted, found = names["both"].eval()(images), OnnxExtractor("both.onnx")(images)
    torch.testing.assert_close(found.embedding, wanted.embedding, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(found.clues.features, wanted.clues.features, rtol=1e-3, atol=1e-4)
    assert names["fitted"].channels == 512 and names["distance"].shape == (12, len(names["people"].gallery))


@pytest.mark.parametrize("path", re.findall(r"configs/[\w.]+", PAGE))
def test_files_that_it_names_are_there(path):
    assert (Path(__file__).parents[1] / path).is_file()
