"""Runs on top of a network of timm: its own embedding with the pair stage alone, and trained as a whole."""

import pytest
import torch

from cace_pyg.config import from_yaml
from cace_pyg.engine.checkpoint import load_checkpoint, load_model
from cace_pyg.evaluate import main as evaluate
from cace_pyg.gallery import Gallery
from cace_pyg.models import TimmExtractor
from cace_pyg.train import main as train


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    torch.manual_seed(3)
    path = tmp_path_factory.mktemp("weights") / "vit.pth"
    torch.save(
        {f"base.{key}": value for key, value in TimmExtractor("test_vit", (64, 32)).network.state_dict().items()}, path
    )
    return path


@pytest.fixture(scope="module")
def arguments(tiny):
    return [
        f"--data.root={tiny}", "--data.height=64", "--data.width=32", "--data.hold_out=0.3", "--data.workers=0",
        "--backbone.name=timm/test_vit", "--embedding.channels=16", "--pair_phase.epochs=1",
        "--pair_phase.batches_per_epoch=2", "--pair_phase.anchors=8", "--pair_phase.confusions=3",
        "--conditional.width=8", "--conditional.edges=inter", "--evaluation.top_k=10", "--threads=1", "--device=cpu",
    ]  # fmt: skip


def run_of(arguments, folder):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("cace_pyg.experiment.run.report_run", lambda *_: None)
        assert train([*arguments, f"--run_dir={folder}"]) == 0
    return folder / "checkpoints" / "best.ckpt"


@pytest.fixture(scope="module")
def published(arguments, weights, tmp_path_factory):
    own = [f"--backbone.weights={weights}", "--embedding.kind=published", "--joint_phase.epochs=0"]
    return run_of([*arguments, *own], tmp_path_factory.mktemp("published") / "run")


def test_the_individual_embedding_is_timms_own_and_the_checkpoint_holds_the_network(published, weights, tmp_path):
    config = from_yaml(load_checkpoint(published)["config"], f"--backbone.weights={tmp_path / 'gone.pth'}")
    model, state = load_model(published, config)
    assert "own_extractor" not in state and any(key.startswith("extractor.network.blocks.") for key in state["model"])
    images, original = torch.rand(3, 3, 64, 32), TimmExtractor("test_vit", (64, 32), str(weights)).eval()
    with torch.no_grad():
        found, expected = model(images), original(images)
    assert torch.equal(found.embedding, expected.embedding) and found.embedding.shape == (3, 64)
    assert torch.equal(found.clues.features, expected.clues.features) and found.clues.grid == (4, 2)


def test_a_gallery_searches_with_it(published, tiny, tmp_path):
    gallery = Gallery.create(tmp_path / "people.lance", published, device="cpu")
    pictures = sorted((tiny / "query").glob("*.jpg"))[:6]
    gallery.add(pictures)
    found = gallery.search(pictures[2], top_k=3)
    assert found.first_stage[0].path == pictures[2] and found.first_stage[0].individual < 0.05


def test_a_network_of_timm_can_be_trained_as_a_whole(arguments, tmp_path):
    joint = ["--joint_phase.epochs=1", "--joint_phase.batches_per_epoch=2", "--loss.pairwise_weight=1"]
    path = run_of([*arguments, *joint], tmp_path / "run")
    model, _ = load_model(path, from_yaml(load_checkpoint(path)["config"]))
    with torch.no_grad():
        assert model(torch.rand(2, 3, 64, 32)).embedding.shape == (2, 16)
    torch.manual_seed(0)
    before = TimmExtractor("test_vit", (64, 32)).network.blocks[0].attn.qkv.weight
    assert not torch.equal(model.extractor.network.blocks[0].attn.qkv.weight, before)


def test_its_own_embedding_is_evaluated_and_named(arguments, weights, tmp_path, capsys):
    (tmp_path / "config.yaml").write_text("data: {root: x}\n")
    given = [argument for argument in arguments if not argument.startswith("--evaluation")]
    assert evaluate(["--config", str(tmp_path / "config.yaml"), *given, f"--backbone.weights={weights}"]) == 0
    said = capsys.readouterr().out
    assert "embedding: timm/test_vit's own, clues 4×2 of 64 channels" in said and "tensors loaded from base.*" in said
