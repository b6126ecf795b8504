"""A bundle is the checkpoint as plain files: the same model, nothing of the machine, and no damage goes unseen."""

import hashlib
import json
import shutil
import subprocess
import sys

import pytest
import torch
import yaml

from cace_pyg import embed_pictures
from cace_pyg.config import from_yaml
from cace_pyg.engine import write_bundle as writing
from cace_pyg.engine.checkpoint import calibration_of, load_checkpoint, load_model
from cace_pyg.engine.checkpoint import model_fingerprint as fingerprint
from cace_pyg.engine.write_bundle import without_folders, write_bundle
from cace_pyg.export import main as export
from tests.random_checkpoint import make_checkpoint

READ = ("bundle.json", "config.yaml", "model.safetensors", "calibration.json")


@pytest.fixture(scope="module")
def bundle(trained, tmp_path_factory):
    """Not to be written into."""
    folder = tmp_path_factory.mktemp("shared") / "people"
    arguments = ["--checkpoint", str(trained.best), "--bundle", str(folder), "--licence", "CC BY 4.0"]
    assert export(arguments) == 0
    return folder


@pytest.fixture
def copied(bundle, tmp_path):
    return shutil.copytree(bundle, tmp_path / "people")


def renew_sums(folder):
    """As somebody would who makes a bundle by hand."""
    names = [path.name for path in folder.iterdir() if path.name not in ("README.md", "SHA256SUMS")]
    sums = {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in names}
    (folder / "SHA256SUMS").write_text("".join(f"{digest}  {name}\n" for name, digest in sums.items()))


def change_json(path, **values):
    path.write_text(json.dumps(json.loads(path.read_text()) | values))
    renew_sums(path.parent)


def test_it_holds_the_checkpoints_weights_settings_and_calibration_bit_for_bit(bundle, trained):
    there, here = load_checkpoint(trained.best), load_checkpoint(bundle)
    assert here["model"].keys() == there["model"].keys()
    assert all(torch.equal(here["model"][name], value) for name, value in there["model"].items())
    assert all(here["model"][name].dtype == value.dtype for name, value in there["model"].items())
    assert calibration_of(here) == calibration_of(there) and calibration_of(here) is not None
    for name in ("identities", "fusion_weight", "epoch", "channels", "format"):
        assert here[name] == there[name]
    assert fingerprint(here) == fingerprint(there) and fingerprint(here, flip=True) == fingerprint(there, flip=True)
    ours, theirs = (
        load_model(path, from_yaml(of["config"]))[0] for path, of in ((bundle, here), (trained.best, there))
    )
    images = torch.randn(2, 3, 48, 24)
    with torch.no_grad():
        assert torch.equal(ours(images).embedding, theirs(images).embedding)


def test_nothing_in_it_names_a_folder_of_the_machine(bundle, tiny, trained):
    texts = {path.name: path.read_bytes().decode(errors="replace") for path in bundle.iterdir()}
    for name, text in texts.items():
        assert str(tiny.parent) not in text and str(trained.folder.parent) not in text, name
        assert "--data.root=" not in text, name
    assert yaml.safe_load(texts["config.yaml"])["data"]["root"] == tiny.name


def test_every_path_that_a_configuration_can_hold_is_taken_out():
    place = "/home/somebody"
    tree = yaml.safe_load(
        from_yaml(
            f"data: {{root: {place}/data, extra_train: ['market1501:{place}/more']}}\n"
            f"run_dir: {place}/run\nstart_from: {place}/best.ckpt\nbackbone: {{weights: {place}/net.pth}}\n"
            f"embedding: {{kind: published, cache: {place}/cache}}\nevaluation: {{clues_on_disk: {place}/clues}}\n"
            f"pair_phase: {{data: 'msmt17:{place}/pairs'}}\n"
        ).to_yaml()
    )
    before = yaml.safe_dump(tree)
    found = without_folders(tree)
    assert before.count(place) == 8 and place not in yaml.safe_dump(found) and yaml.safe_dump(tree) == before
    assert found["backbone"]["weights"] == "net.pth" and found["data"]["extra_train"] == ["market1501:more"]
    assert found["data"]["root"] == "data" and found["pair_phase"]["data"] == "msmt17:pairs"
    assert without_folders(tree | {"data": tree["data"] | {"root": "."}})["data"]["root"] == "data"
    from_yaml(yaml.safe_dump(found))


def test_reading_it_unpickles_nothing(bundle, monkeypatch):
    def refuse(*_, **__):
        raise AssertionError("a bundle was unpickled")

    monkeypatch.setattr(torch, "load", refuse)
    monkeypatch.setattr("pickle.load", refuse)
    assert load_checkpoint(bundle)["epoch"] > 0


@pytest.mark.parametrize("name", READ)
def test_a_file_that_is_damaged_or_missing_is_named(copied, name):
    whole = (copied / name).read_bytes()
    (copied / name).write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(ValueError, match=rf"is damaged: {name} has changed \(SHA-256 \w{{12}}… instead of"):
        load_checkpoint(copied)
    (copied / name).unlink()
    if name == "bundle.json":
        with pytest.raises(FileNotFoundError, match="is a folder but not a bundle; the checkpoint of a run is"):
            load_checkpoint(copied)
    else:
        with pytest.raises(ValueError, match=f"is not a whole bundle: {name} is missing; fetch it again"):
            load_checkpoint(copied)


@pytest.mark.parametrize("name", ["bundle.json", "config.yaml", "model.safetensors"])
def test_a_list_of_sums_that_leaves_a_file_out_is_refused(copied, name):
    sums = (copied / "SHA256SUMS").read_text().splitlines()
    (copied / "SHA256SUMS").write_text("".join(f"{line}\n" for line in sums if not line.endswith(name)))
    with pytest.raises(ValueError, match=f"SHA256SUMS does not list {name}"):
        load_checkpoint(copied)
    (copied / "SHA256SUMS").unlink()
    with pytest.raises(ValueError, match="it has no SHA256SUMS"):
        load_checkpoint(copied)


@pytest.mark.parametrize("line", ["0" * 64 + "  ../../etc/passwd", "0" * 64 + "  /etc/passwd", "nonsense", ""])
def test_sums_of_anything_outside_the_folder_are_refused(copied, line):
    with (copied / "SHA256SUMS").open("a") as file:
        file.write(f"{line}\n")
    with pytest.raises(ValueError, match="Expected a SHA-256 and a file on each line"):
        load_checkpoint(copied)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"format": 2}, "Expected a bundle of format 1"),
        ({"identities": "5"}, "identities is not what the library writes"),
        ({"identities": True}, "identities is not what the library writes"),
        ({"fusion_weight": 1.5}, "fusion_weight is not what the library writes"),
        ({"fusion_weight": float("nan")}, "fusion_weight is not what the library writes"),
        ({"environment": {"torch": 2}}, "environment is not what the library writes"),
        ({"network": {"file": "reid.onnx"}}, "network has no sha256"),
        ({"network": {"file": "../reid.onnx", "sha256": "0"}}, "it has no file network/../reid.onnx"),
    ],
)
def test_facts_that_the_library_does_not_write_are_refused(copied, values, words):
    change_json(copied / "bundle.json", **values)
    with pytest.raises(ValueError, match=words):
        load_checkpoint(copied)


@pytest.mark.parametrize("text", ["[]", "{}", "not JSON", "[" * 100_000])
def test_a_folder_of_something_else_is_refused(copied, text):
    (copied / "bundle.json").write_text(text)
    renew_sums(copied)
    with pytest.raises(ValueError, match=r"not a bundle of cace_pyg|is not JSON"):
        load_checkpoint(copied)


def test_weights_that_cannot_be_read_are_refused(copied):
    (copied / "model.safetensors").write_bytes(b"not safetensors")
    renew_sums(copied)
    with pytest.raises(ValueError, match=r"model.safetensors or config.yaml cannot be read"):
        load_checkpoint(copied)


def test_an_invalid_calibration_is_refused(copied):
    change_json(copied / "calibration.json", weight=7.0)
    with pytest.raises(ValueError, match="Expected a calibration with finite numbers"):
        load_checkpoint(copied)


def test_a_class_that_a_bundle_names_is_looked_up_among_ours_and_never_imported(copied):
    config = yaml.safe_load((copied / "config.yaml").read_text())
    (copied / "config.yaml").write_text(yaml.safe_dump(config | {"graph": {"class_path": "antigravity.Thing"}}))
    renew_sums(copied)
    with pytest.raises(ValueError, match="Expected graph as a class of cace_pyg.graph"):
        embed_pictures(["A.jpg"], copied)
    assert "antigravity" not in sys.modules


def test_people_may_write_into_the_card_and_the_sums_are_those_of_sha256sum(copied):
    with (copied / "README.md").open("a") as file:
        file.write("\nThe pictures are rendered.\n")
    load_checkpoint(copied)
    if shutil.which("sha256sum"):
        subprocess.run(["sha256sum", "--check", "--quiet", "--strict", "SHA256SUMS"], cwd=copied, check=True)


def test_the_card_has_results_data_licence_and_use(bundle, trained):
    card = (bundle / "README.md").read_text()
    front, body = card.split("---\n", 2)[1:]
    assert yaml.safe_load(front)["license_name"] == "CC BY 4.0" and "\n# people\n" in body
    metrics = json.loads((trained.folder / "metrics.json").read_text())
    for row in ("individual", "two_stage"):
        assert (
            f"| {row.replace('_', ' ')} | {100 * metrics[row]['mAP']:.1f} | {100 * metrics[row]['rank1']:.1f} |" in body
        )
    state = load_checkpoint(trained.best)
    assert fingerprint(state) in body and "Query and gallery of the data set below." in body
    assert f"{state['identities']} identities; 30% of the data set's were held out" in body
    assert f"{state['calibration']['people']} people held out of training" in body
    assert "## Licence\n\nCC BY 4.0\n" in body and "## Intended use" in body and 'from_pretrained("people")' in body


def test_a_card_without_licence_and_results_says_so(tmp_path, tiny):
    write_bundle(tmp_path / "other", make_checkpoint(tmp_path / "some.ckpt", tiny))
    card = (tmp_path / "other" / "README.md").read_text()
    assert "No licence was stated" in card and "Not measured." in card and "not calibrated" in card
    assert {path.name for path in (tmp_path / "other").iterdir()} == {
        "README.md", "SHA256SUMS", "bundle.json", "config.yaml", "model.safetensors"
    }  # fmt: skip


def test_dukemtmc_is_named_as_withdrawn(tmp_path, tiny):
    write_bundle(tmp_path / "duke", make_checkpoint(tmp_path / "some.ckpt", tiny, **{"data.name": "dukemtmc"}))
    assert "DukeMTMC was withdrawn by its authors" in (tmp_path / "duke" / "README.md").read_text()


def test_whoever_may_read_one_of_its_files_may_read_all(copied):
    assert len({path.stat().st_mode for path in copied.rglob("*") if path.is_file()}) == 1


def test_a_folder_that_holds_something_is_left_alone(copied, trained, capsys):
    before = {path: path.read_bytes() for path in copied.iterdir()}
    assert export(["--checkpoint", str(trained.best), "--bundle", str(copied)]) == 2
    assert "Expected a new or empty folder as --bundle" in capsys.readouterr().err
    assert {path: path.read_bytes() for path in copied.iterdir()} == before


def test_a_bundle_that_cannot_be_written_leaves_nothing(tmp_path, tiny, monkeypatch):
    def full(*_):
        raise OSError("No space left on device")

    checkpoint = make_checkpoint(tmp_path / "some.ckpt", tiny)
    monkeypatch.setattr(writing, "save", full)
    with pytest.raises(
        RuntimeError, match="cannot write the bundle .*: No space left on device; choose another --bundle"
    ):
        write_bundle(tmp_path / "other", checkpoint)
    assert [path.name for path in tmp_path.iterdir()] == ["some.ckpt"]


def test_options_and_results_that_mean_nothing_are_refused(tmp_path, tiny, capsys):
    checkpoint = str(make_checkpoint(tmp_path / "some.ckpt", tiny))
    bundle = ["--checkpoint", checkpoint, "--bundle", str(tmp_path / "new")]
    for said, words in (
        ([*bundle, "--evaluation.fusion=0.3"], "leave --evaluation.fusion=0.3 out"),
        ([*bundle, "--results", checkpoint], "Expected the JSON of python -m cace_pyg.evaluate --output as --results"),
        ([*bundle, "--results", str(tmp_path / "none.json")], "no results at"),
        (["--checkpoint", checkpoint, "--licence", "MIT"], "--licence and --results are for --bundle FOLDER"),
    ):
        assert export(said) == 2
        assert words in capsys.readouterr().err and not (tmp_path / "new").exists()


def test_a_file_of_it_is_answered_with_the_folder(bundle):
    for name in ("model.safetensors", "config.yaml", "bundle.json"):
        with pytest.raises(ValueError, match=rf"is a file of the bundle {bundle}; give the folder"):
            load_checkpoint(bundle / name)


def test_a_bundle_can_be_made_of_a_bundle(bundle, tmp_path):
    write_bundle(tmp_path / "again", bundle, licence="CC BY 4.0")
    for path in bundle.iterdir():
        if path.name != "README.md":  # its title is the folder's name
            assert (tmp_path / "again" / path.name).read_bytes() == path.read_bytes()
