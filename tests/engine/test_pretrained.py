"""A model by the name of its folder or of its repository on the hub."""

import fnmatch
import inspect
import shutil
import sys
from types import SimpleNamespace

import pytest
import torch

from cace_pyg import Features, fit_pair_stage, from_pretrained, rerank_features
from cace_pyg.config import PairPhaseSettings
from cace_pyg.engine.checkpoint import load_checkpoint
from cace_pyg.engine.write_bundle import write_bundle
from tests.random_checkpoint import make_checkpoint


@pytest.fixture
def bundle(tmp_path, tiny):
    write_bundle(tmp_path / "people", make_checkpoint(tmp_path / "some.ckpt", tiny))
    return tmp_path / "people"


@pytest.fixture
def hub(bundle, monkeypatch, tmp_path):
    """huggingface_hub's call, which finds one repository in a folder; what it was asked for."""
    real = pytest.importorskip("huggingface_hub")
    signature, errors = inspect.signature(real.snapshot_download), real.errors
    asked = SimpleNamespace(calls=[], fails=None)
    (bundle / "pytorch_model.bin").write_bytes(b"a pickle")
    (bundle / ".gitattributes").write_text("*.safetensors filter=lfs\n")

    def snapshot_download(*given, **named):
        bound = signature.bind(*given, **named).arguments
        asked.calls.append(bound)
        if asked.fails is not None:
            raise asked.fails
        if bound["repo_id"] != "somebody/people":
            response = SimpleNamespace(headers={}, request=None, status_code=404)
            raise errors.RepositoryNotFoundError("404 Client Error", response=response)
        cache = tmp_path / "cache" / "models--somebody--people" / "snapshots" / "0123abcd"
        for path in bundle.rglob("*"):
            name = str(path.relative_to(bundle))
            if path.is_file() and any(fnmatch.fnmatch(name, pattern) for pattern in bound["allow_patterns"]):
                (cache / name).parent.mkdir(parents=True, exist_ok=True)
                (cache / name).symlink_to(path)  # as it keeps them
        return str(cache)

    monkeypatch.setattr(real, "snapshot_download", snapshot_download)
    return asked


@pytest.mark.parametrize("clues", [4, None])
def test_its_pair_stage_remembers_how_many_clues_it_was_trained_with(tmp_path, tiny, clues):
    checkpoint = make_checkpoint(tmp_path / "some.ckpt", tiny, **{"evaluation.gallery_clues": clues})
    write_bundle(tmp_path / "people", checkpoint)
    assert from_pretrained(tmp_path / "people").pair_stage.gallery_clues == clues


def test_a_folder_gives_the_model_its_settings_and_its_pair_stage(bundle):
    state = load_checkpoint(bundle)
    for name in (bundle, str(bundle)):
        found = from_pretrained(name)
        assert found.path == bundle and not found.model.training and found.config.data.height == 48
        weights = found.model.state_dict()
        assert all(torch.equal(weights[key], value) for key, value in state["model"].items())
        assert found.pair_stage.fusion_weight == state["fusion_weight"] == 0.5
        assert found.pair_stage.stage is found.model.pair_stage and found.pair_stage.calibration is None


def test_a_name_on_the_hub_is_fetched_and_only_the_files_of_a_bundle(bundle, hub, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = from_pretrained("somebody/people", revision="v1")
    assert hub.calls[0]["repo_id"] == "somebody/people" and hub.calls[0]["revision"] == "v1"
    names = {path.name for path in found.path.iterdir()}
    assert {"model.safetensors", "SHA256SUMS", "README.md"} <= names
    assert not names & {"pytorch_model.bin", ".gitattributes"}
    here = from_pretrained(bundle).model.state_dict()
    assert all(torch.equal(here[name], value) for name, value in found.model.state_dict().items())


def test_a_folder_here_wins_over_the_hub(bundle, hub, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(bundle, tmp_path / "somebody" / "people")
    assert str(from_pretrained("somebody/people").path) == "somebody/people" and not hub.calls


def test_a_name_that_is_found_neither_on_disk_nor_on_the_hub_is_an_error(hub, tmp_path, monkeypatch):
    import huggingface_hub.errors as errors

    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileNotFoundError, match="no folder somebody/peeple, and no repository of that name on the hub"):
        from_pretrained("somebody/peeple")
    response = SimpleNamespace(headers={}, request=None, status_code=500)
    for fails, kind, words in (
        (errors.LocalEntryNotFoundError("offline"), RuntimeError, "and the hub cannot be reached"),
        (errors.GatedRepoError("403", response=response), RuntimeError, "accept its terms on the hub first"),
        (errors.HfHubHTTPError("500 Server\nError", response=response), RuntimeError, "from the hub: 500 Server Error"),
    ):
        hub.fails = fails
        with pytest.raises(kind, match=words):
            from_pretrained("somebody/people")


@pytest.mark.parametrize("name", ["nowhere", "a/b/c", "../x y", "https://hub/a/b", ""])
def test_a_name_that_no_repository_has_is_not_looked_for(name, hub, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"the folder of a bundle, or OWNER/NAME on the hub|is a folder but"):
        from_pretrained(name)
    assert not hub.calls


def test_without_the_extra_folders_work_and_the_error_names_it(bundle, monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    assert from_pretrained(bundle).path == bundle
    with pytest.raises(RuntimeError, match=r"there is no folder somebody/people, .* pip install 'cace-pyg\[hub\]'"):
        from_pretrained("somebody/people")


def test_a_pair_stage_for_a_network_of_ones_own_is_shared_without_the_network(tmp_path):
    draw = torch.Generator().manual_seed(0)
    clues = torch.randn(60, 6, 8, generator=draw)
    features, pids = Features(clues.mean(1), clues, (3, 2)), torch.arange(60) // 6
    settings = PairPhaseSettings(epochs=1, batches_per_epoch=2, anchors=8, confusions=3)
    fitted = fit_pair_stage(
        features, pids, torch.arange(60) % 3, settings=settings, held_out=0.3, run_dir=tmp_path / "run", device="cpu"
    )
    write_bundle(tmp_path / "stage", tmp_path / "run" / "checkpoints" / "best.ckpt")
    found = from_pretrained(tmp_path / "stage")
    assert found.model is None and found.pair_stage.channels == 8
    query, gallery = (features.select(torch.arange(*span)) for span in ((0, 5), (5, 60)))
    before, after = (
        rerank_features(query, gallery, stage, device="cpu", progress=False) for stage in (fitted, found.pair_stage)
    )
    assert torch.equal(before, after)
    card = (tmp_path / "stage" / "README.md").read_text()
    assert "the folder has only the pair stage" in card and "rerank_features(query, gallery, found.pair_stage)" in card
