"""The pair stage alone, on top of a published network that stays as it is."""

import numpy as np
import pytest
import torch

from cace_pyg.config import from_yaml
from cace_pyg.embed import main as embed
from cace_pyg.engine.checkpoint import load_checkpoint, load_model
from cace_pyg.gallery import Gallery
from cace_pyg.models import Backbone, PublishedEmbedding
from cace_pyg.models.osnet import osnet_layers
from cace_pyg.train import main as train


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """A file in torchreid's form, trained on nobody."""
    torch.manual_seed(3)
    state = osnet_layers("osnet_x0_25").state_dict()
    neck = torch.nn.Sequential(torch.nn.Linear(128, 32), torch.nn.BatchNorm1d(32))
    state |= {f"fc.{key}": value for key, value in neck.state_dict().items()}
    path = tmp_path_factory.mktemp("weights") / "osnet.pth"
    torch.save(state | {"classifier.weight": torch.rand(7, 32)}, path)
    return path


@pytest.fixture(scope="module")
def arguments(tiny, weights):
    return [
        f"--data.root={tiny}", "--data.height=64", "--data.width=32", "--data.hold_out=0.3", "--data.workers=0",
        "--backbone.name=osnet_x0_25", f"--backbone.weights={weights}", "--embedding.kind=published",
        "--embedding.channels=16", "--joint_phase.epochs=0", "--pair_phase.epochs=2",
        "--pair_phase.batches_per_epoch=3", "--pair_phase.anchors=8", "--pair_phase.confusions=3",
        "--conditional.width=8", "--conditional.edges=inter",
        "--conditional.compare=verification", "--evaluation.top_k=10", "--threads=1", "--device=cpu",
    ]  # fmt: skip


@pytest.fixture(scope="module")
def run(arguments, tmp_path_factory, weights):
    folder = tmp_path_factory.mktemp("published") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("cace_pyg.experiment.run.report_run", lambda *_: None)
        assert train([*arguments, f"--run_dir={folder}"]) == 0
    return folder


@pytest.fixture(scope="module")
def loaded(run):
    state = load_checkpoint(run / "checkpoints" / "best.ckpt")
    return load_model(run / "checkpoints" / "best.ckpt", from_yaml(state["config"]))[0]


def test_the_individual_embedding_is_the_networks_own_and_nothing_of_it_has_changed(loaded, weights):
    images = torch.rand(3, 3, 64, 32)
    published = PublishedEmbedding(Backbone("osnet_x0_25", str(weights))).eval()
    with torch.no_grad():
        assert torch.equal(loaded(images).embedding, published(images).embedding)
        assert torch.equal(loaded(images).clues.features, published(images).clues.features)
    assert loaded.encoder is None and loaded.classifier is None


def test_the_checkpoint_needs_no_other_file_and_the_pair_stage_was_trained(run, arguments, tmp_path, monkeypatch):
    """The neck comes from the checkpoint, not from the file of the weights, which may be gone."""
    state = load_checkpoint(run / "checkpoints" / "best.ckpt")
    assert state["layers"] == ["mean", "Linear 128 32 bias", "BatchNorm1d 32", "ReLU"]
    config = from_yaml(state["config"], f"--backbone.weights={tmp_path / 'gone.pth'}")
    model, _ = load_model(run / "checkpoints" / "best.ckpt", config)
    assert model.pair_stage.expansion.weight.abs().sum() > 0  # it starts at zero


def test_a_gallery_searches_with_it(run, tiny, tmp_path):
    gallery = Gallery.create(tmp_path / "people.lance", run / "checkpoints" / "best.ckpt", device="cpu")
    pictures = sorted((tiny / "query").glob("*.jpg"))[:6]
    gallery.add(pictures)
    found = gallery.search(pictures[2], top_k=3)
    assert found.first_stage[0].path == pictures[2] and found.first_stage[0].individual < 0.05


def test_vectors_in_a_file_have_the_size_of_its_own_embedding(run, tiny, tmp_path):
    pictures = sorted((tiny / "query").glob("*.jpg"))[:3]
    given = [*map(str, pictures), "--checkpoint", str(run / "checkpoints" / "best.ckpt"), "--device=cpu"]
    assert embed([*given, "-o", str(tmp_path / "vectors.npy")]) == 0
    assert np.load(tmp_path / "vectors.npy").shape == (3, 32)


def test_a_run_goes_on(run, arguments, tmp_path, monkeypatch):
    monkeypatch.setattr("cace_pyg.experiment.run.report_run", lambda *_: None)
    first = tmp_path / "run"
    assert train([*arguments, f"--run_dir={first}"]) == 0
    before = load_checkpoint(first / "checkpoints" / "last.ckpt")["model"]
    assert train([*arguments, f"--run_dir={first}", "--resume"]) == 0
    after = load_checkpoint(first / "checkpoints" / "last.ckpt")["model"]
    assert before.keys() == after.keys() and all(torch.equal(before[key], after[key]) for key in before)


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ("--joint_phase.epochs=1", "Expected no joint phase with embedding.kind published"),
        ("--loss.pairwise_weight=1", "Expected no joint phase with embedding.kind published"),
        ("--backbone.weights=null", "give its file as --backbone.weights"),
        ("--start_from=RUN", "start_from needs a trained individual branch"),
    ],
)
def test_what_does_not_go_together_is_refused(arguments, run, tmp_path, capsys, changed, words):
    changed = changed.replace("RUN", str(run / "checkpoints" / "best.ckpt"))
    assert train([*arguments, f"--run_dir={tmp_path / 'run'}", changed]) == 2
    assert words in capsys.readouterr().err


def test_the_pair_phase_may_have_people_of_its_own(arguments, tiny, tmp_path, monkeypatch):
    """Trained on the same pictures under another name, it is the same stage; on fewer, another."""
    monkeypatch.setattr("cace_pyg.experiment.run.report_run", lambda *_: None)
    fewer, stages = tmp_path / "fewer", []
    for part in ("bounding_box_train", "query", "bounding_box_test"):
        (fewer / part).mkdir(parents=True)
        for picture in sorted((tiny / part).glob("*.jpg")):
            if part != "bounding_box_train" or not picture.name.startswith(("0001", "0002")):
                (fewer / part / picture.name).symlink_to(picture)
    for number, other in enumerate((None, tiny, fewer)):
        own = [] if other is None else [f"--pair_phase.data=market_layout:{other}"]
        assert train([*arguments, f"--run_dir={tmp_path / str(number)}", *own]) == 0
        state = load_checkpoint(tmp_path / str(number) / "checkpoints" / "best.ckpt")["model"]
        stages.append(state["pair_stage.expansion.weight"])
    assert torch.equal(stages[0], stages[1]) and not torch.equal(stages[0], stages[2])


def test_clues_on_disk_train_the_same_stage(arguments, run, tmp_path, monkeypatch):
    monkeypatch.setattr("cace_pyg.experiment.run.report_run", lambda *_: None)
    (tmp_path / "clues").mkdir()
    on_disk = f"--evaluation.clues_on_disk={tmp_path / 'clues'}"
    assert train([*arguments, f"--run_dir={tmp_path / 'run'}", on_disk]) == 0
    states = [load_checkpoint(folder / "checkpoints" / "best.ckpt")["model"] for folder in (run, tmp_path / "run")]
    assert all(torch.equal(value, states[1][key]) for key, value in states[0].items())


def test_clues_made_anew_from_augmented_pictures_train_too(arguments, run, tmp_path, monkeypatch):
    """One of the two ways out where the network knows the people; the weight is then given."""
    monkeypatch.setattr("cace_pyg.experiment.run.report_run", lambda *_: None)
    fresh = ["--pair_phase.clues=fresh", "--pair_phase.clue_dropout=0.7", "--evaluation.fusion=0.1"]
    assert train([*arguments, f"--run_dir={tmp_path / 'run'}", *fresh]) == 0
    states = [load_checkpoint(folder / "checkpoints" / "best.ckpt")["model"] for folder in (run, tmp_path / "run")]
    assert not torch.equal(*(state["pair_stage.convolution.lin.weight"] for state in states))
    assert torch.equal(*(state["extractor.backbone.trunk.conv1.conv.weight"] for state in states))
    assert '"fusion_weight": 0.1' in (tmp_path / "run" / "metrics.json").read_text()
