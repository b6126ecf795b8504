"""State dicts as the libraries save them."""

import argparse
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from cace_pyg.models import Backbone, load_backbone_weights
from cace_pyg.torchvision_operators import import_torchvision


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(1)
    return import_torchvision("models").get_model("resnet18", weights=None, num_classes=7).eval()


@pytest.fixture
def save(tmp_path):
    def save_as(content):
        torch.save(content, tmp_path / "weights.pth")
        return str(tmp_path / "weights.pth")

    return save_as


def renamed(network, prefix="", head="fc."):
    state = network.state_dict()
    return {head + key[3:] if key.startswith("fc.") else prefix + key: value for key, value in state.items()}


def styles(network):
    """Name: what the file holds, the prefix, and the keys that must be listed as skipped."""
    fc, head = ("fc.bias", "fc.weight"), torch.zeros(3)
    tops = {"pixel_mean": head, "heads.bottleneck.0.weight": head}
    return {
        "torchvision": (renamed(network), "", fc),
        "timm": ({"state_dict": renamed(network), "epoch": 3}, "", (*fc, "epoch")),
        "fast-reid": (
            {"model": renamed(network, "backbone.", "heads.weight.") | tops, "iteration": 9},
            "backbone.",
            ("heads.bottleneck.0.weight", "heads.weight.bias", "heads.weight.weight", "pixel_mean", "iteration"),
        ),
        "strong baseline": (
            renamed(network, "base.", "classifier.") | {"bottleneck.weight": head},
            "base.",
            ("bottleneck.weight", "classifier.bias", "classifier.weight"),
        ),
        "torchreid": (
            {"state_dict": renamed(network, "module.", "module.classifier.")},
            "module.",
            ("module.classifier.bias", "module.classifier.weight"),
        ),
    }


@pytest.mark.parametrize("style", ["torchvision", "timm", "fast-reid", "strong baseline", "torchreid"])
def test_every_style_gives_the_networks_own_feature_map(network, save, style):
    content, prefix, skipped = styles(network)[style]
    backbone = Backbone("resnet18", save(content), last_stride=2).eval()
    found = backbone.loaded_weights
    assert (found.prefix, found.skipped, found.missing) == (prefix, skipped, ())
    assert found.loaded == len(backbone.trunk.state_dict()) == 120
    images = torch.rand(2, 3, 64, 32)
    layers = torch.nn.Sequential(*list(network.children())[:-2])
    assert torch.allclose(backbone(images), layers(images), atol=1e-5)
    assert all(key in str(found) for key in skipped)


def test_missing_counters_are_listed_and_harmless(network, save):
    state = {key: value for key, value in renamed(network).items() if not key.endswith("num_batches_tracked")}
    found = Backbone("resnet18", save(state)).loaded_weights
    assert len(found.missing) == 20 and "missing: bn1.num_batches_tracked" in str(found)


@pytest.mark.parametrize(
    ("key", "prefix"),
    [
        ("layer1.0.bn1.IN.weight", ""),  # instance normalisation inside a layer
        ("NL_2.0.g.weight", "backbone."),  # non-local blocks between the layers
        ("layer1.0.bn1.IN.weight", "module.backbone."),
    ],
)
def test_layers_that_the_trunk_does_not_have_are_refused(network, save, key, prefix):
    path = save(renamed(network, prefix) | {prefix + key: torch.zeros(3)})
    with pytest.raises(ValueError, match=rf"0 keys missing \[\], 1 unknown \['{prefix}{key}'\]"):
        Backbone("resnet18", path)


def test_nothing_is_loaded_from_a_file_that_does_not_fit(network, save):
    backbone = Backbone("resnet18")
    before = {key: value.clone() for key, value in backbone.trunk.state_dict().items()}
    state = renamed(network)
    with pytest.raises(ValueError, match=r"1 of another shape \['conv1.weight'\]"):
        load_backbone_weights(backbone.trunk, backbone.name, save(state | {"conv1.weight": torch.zeros(64, 3, 3, 3)}))
    del state["layer4.1.conv2.weight"]
    with pytest.raises(ValueError, match=r"1 keys missing \['layer4.1.conv2.weight'\]"):
        load_backbone_weights(backbone.trunk, backbone.name, save(state))
    after = backbone.trunk.state_dict()
    assert all(torch.equal(value, after[key]) for key, value in before.items())


def test_files_that_are_no_state_dict(save, network):
    with pytest.raises(ValueError, match=r"a state dict of resnet18 in .* \(got Tensor without tensors\)"):
        Backbone("resnet18", save(torch.zeros(3)))
    with pytest.raises(ValueError, match=r"got dict without tensors"):
        Backbone("resnet18", save({"model": {"epoch": 3}}))
    with pytest.raises(
        ValueError, match=r"cannot read .*objects other than tensors and numbers; .*save only its state dict"
    ):
        Backbone("resnet18", save({"state_dict": renamed(network), "options": argparse.Namespace(lr=0.1)}))


def test_a_truncated_file_is_said_to_be_one(network, save):
    path = Path(save(renamed(network)))
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(ValueError, match=r"truncated or damaged .*; fetch it again"):
        Backbone("resnet18", str(path))


@pytest.mark.parametrize("kind", [np.float64, np.float32, np.float16, np.int64, np.int32, np.bool_])
def test_numbers_of_numpy_beside_the_weights_are_skipped(network, save, kind):
    """torchreid keeps Rank-1 so."""
    found = Backbone("resnet18", save({"state_dict": renamed(network), "rank1": kind(1)})).loaded_weights
    assert found.loaded == 120 and found.skipped[-1] == "rank1"


@pytest.mark.parametrize("ending", ["safetensors", "pth"])
def test_safetensors_are_read_whatever_they_are_called(network, tmp_path, ending):
    path = tmp_path / f"model.{ending}"
    save_file(renamed(network, "base."), path)
    backbone = Backbone("resnet18", str(path))
    assert backbone.loaded_weights.loaded == 120
    assert torch.equal(backbone.trunk.state_dict()["conv1.weight"], network.state_dict()["conv1.weight"])
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(ValueError, match="truncated or damaged"):
        Backbone("resnet18", str(path))


def test_other_formats_are_called_by_their_names(network, tmp_path):
    path = tmp_path / "model.pth"
    torch.jit.trace(network, torch.rand(1, 3, 64, 32)).save(path)
    with pytest.raises(ValueError, match=r"a TorchScript program; .*torch.jit.load\(path\).state_dict\(\)"):
        Backbone("resnet18", str(path))
    for content, what in (
        (b"\n<!DOCTYPE html><html>", "a web page instead of the file"),
        (b"version https://git-lfs.github.com/spec/v1", "a pointer of Git LFS"),
        (b"\x1f\x8b\x08", "compressed by gzip"),
        (b"PK\x05\x06" + bytes(18), "a zip archive"),
    ):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=what):
            Backbone("resnet18", str(path))


def test_a_dict_that_holds_itself_ends(save, network):
    around = {"epoch": 3}
    around["model"] = around
    with pytest.raises(ValueError, match="got dict without tensors"):
        Backbone("resnet18", save(around))
