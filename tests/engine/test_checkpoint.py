"""What a checkpoint file may hold."""

import sys

import pytest
import torch
import yaml

from cace_pyg.engine.checkpoint import load_checkpoint
from cace_pyg.gallery.embedder import Embedder
from tests.random_checkpoint import make_checkpoint


@pytest.fixture
def changed(tmp_path):
    def change(**values):
        path = make_checkpoint(tmp_path / "some.ckpt", tmp_path)
        torch.save(torch.load(path, weights_only=True) | values, path)
        return path

    return change


@pytest.mark.parametrize(
    "values",
    [{"config": 3}, {"config": {"data": {"root": "x"}}}, {"identities": "5"}, {"model": {"a": 1}}, {"model": None}],
    ids=str,
)
def test_other_kinds_of_values_than_the_library_writes_are_refused(changed, values):
    with pytest.raises(ValueError, match=rf"something else for {next(iter(values))}\)"):
        load_checkpoint(changed(**values))


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_weights_that_are_not_finite_are_refused(changed, bad):
    path = changed()
    state = torch.load(path, weights_only=True)
    state["model"]["classifier.weight"][2, 3] = bad
    torch.save(state, path)
    with pytest.raises(ValueError, match=r"not finite, such as classifier.weight: the training diverged"):
        load_checkpoint(path)


def test_the_configuration_in_a_checkpoint_reads_no_file_and_imports_nothing(changed, tmp_path):
    config = yaml.safe_load(load_checkpoint(changed())["config"])
    (tmp_path / "other.yaml").write_text(yaml.dump(config))
    with pytest.raises(ValueError, match="Expected the text of a configuration"):
        Embedder(changed(config=str(tmp_path / "other.yaml")))
    with pytest.raises(ValueError, match="Expected loss as keys with values"):
        Embedder(changed(config=yaml.dump(config | {"loss": str(tmp_path / "other.yaml")})))
    with pytest.raises(ValueError, match="Expected graph as a class of cace_pyg.graph"):
        Embedder(changed(config=yaml.dump(config | {"graph": {"class_path": "antigravity.Thing"}})))
    assert "antigravity" not in sys.modules
