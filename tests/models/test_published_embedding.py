"""Published networks: stem, pooling and neck as their authors have them, against literal forms."""

import pytest
import torch

from cace_pyg.models import Backbone, PublishedEmbedding
from cace_pyg.torchvision_operators import import_torchvision


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(2)
    network = import_torchvision("models").get_model("resnet18", weights=None, num_classes=7)
    network(torch.rand(8, 3, 64, 32))  # running statistics away from 0 and 1
    return network.eval()


@pytest.fixture
def published(network, tmp_path):
    def make(prefix, beside, stem="torchvision"):
        state = {prefix + key: value for key, value in network.state_dict().items() if not key.startswith("fc.")}
        torch.save({"model": state | beside}, tmp_path / "published.pth")
        return PublishedEmbedding(Backbone("resnet18", str(tmp_path / "published.pth"), 2, stem)).eval()

    return make


def norm(prefix, channels=512):
    generator = torch.Generator().manual_seed(3)
    fields = ("weight", "bias", "running_mean", "running_var")
    return {prefix + field: torch.rand(channels, generator=generator) + 0.5 for field in fields}


def literal_norm(x, state, prefix):
    mean, variance, weight, bias = (state[prefix + f] for f in ("running_mean", "running_var", "weight", "bias"))
    return (x - mean) / (variance + 1e-5).sqrt() * weight + bias


def feature_map(network, images, relu=True, pool=None):
    x = network.bn1(network.conv1(images))
    x = network.relu(x) if relu else x
    x = (pool or network.maxpool)(x)
    return network.layer4(network.layer3(network.layer2(network.layer1(x))))


def test_a_classification_network_is_its_pooled_features(network, published):
    images = torch.rand(3, 3, 64, 32)
    model = published("", {})
    assert torch.allclose(model(images).embedding, feature_map(network, images).mean((2, 3)), atol=1e-5)
    assert "mean, then no neck" in str(model)


def test_a_strong_baseline_has_no_first_relu_and_a_neck(network, published):
    images, neck = torch.rand(3, 3, 64, 32), norm("bottleneck.")
    model = published("base.", neck | {"classifier.weight": torch.rand(7, 512)}, "strong_baseline")
    expected = literal_norm(feature_map(network, images, relu=False).mean((2, 3)), neck, "bottleneck.")
    assert torch.allclose(model(images).embedding, expected, atol=1e-4)


def test_fast_reid_pools_unpadded_and_by_a_generalised_mean(network, published):
    images, neck = torch.rand(3, 3, 70, 36), norm("heads.bottleneck.1.", 16)
    projection = torch.rand(16, 512, 1, 1) - 0.5
    beside = neck | {"heads.bottleneck.0.weight": projection, "heads.pool_layer.p": torch.tensor([3.0])}
    model = published("backbone.", beside, "fast_reid")
    maps = feature_map(network, images, pool=torch.nn.MaxPool2d(3, 2, ceil_mode=True))
    pooled = maps.clamp_min(1e-6).pow(3).mean((2, 3)).pow(1 / 3)
    expected = literal_norm(pooled @ projection[:, :, 0, 0].T, neck, "heads.bottleneck.1.")
    assert torch.allclose(model(images).embedding, expected, atol=1e-4)
    assert "generalised mean, p = 3, then Linear and BatchNorm1d" in str(model)


@pytest.mark.parametrize("prefix", ["", "model.", "module.model."])
def test_the_neck_is_found_under_whatever_prefix_the_file_has(network, published, prefix):
    images, neck = torch.rand(3, 3, 64, 32), norm(prefix + "bottleneck.")
    model = published(prefix + "base.", neck | {prefix + "classifier.weight": torch.rand(7, 512)})
    expected = literal_norm(feature_map(network, images).mean((2, 3)), neck, prefix + "bottleneck.")
    assert torch.allclose(model(images).embedding, expected, atol=1e-4)
    assert model.loaded_weights.skipped == (prefix + "classifier.weight",)


def linear(prefix, channels=16):
    generator = torch.Generator().manual_seed(4)
    return {
        prefix + "weight": torch.rand(channels, 512, generator=generator) - 0.5,
        prefix + "bias": torch.rand(channels, generator=generator),
    }


@pytest.mark.parametrize("prefix", ["", "module."])
def test_torchreids_neck_is_linear_norm_and_relu(network, published, prefix):
    images, state = torch.rand(3, 3, 64, 32), linear(prefix + "fc.0.") | norm(prefix + "fc.1.", 16)
    model = published(prefix, state | {prefix + "classifier.weight": torch.rand(7, 16)})
    pooled = feature_map(network, images).mean((2, 3))
    projected = pooled @ state[prefix + "fc.0.weight"].T + state[prefix + "fc.0.bias"]
    expected = literal_norm(projected, state, prefix + "fc.1.").relu()
    assert torch.allclose(model(images).embedding, expected, atol=1e-4)


def test_layumis_neck_is_linear_and_norm(network, published):
    images = torch.rand(3, 3, 64, 32)
    state = linear("classifier.add_block.0.") | norm("classifier.add_block.1.", 16)
    others = {"model.fc.weight": torch.rand(1000, 512), "classifier.classifier.0.weight": torch.rand(7, 16)}
    model = published("model.", state | others)
    pooled = feature_map(network, images).mean((2, 3))
    projected = pooled @ state["classifier.add_block.0.weight"].T + state["classifier.add_block.0.bias"]
    expected = literal_norm(projected, state, "classifier.add_block.1.")
    assert torch.allclose(model(images).embedding, expected, atol=1e-4)


def test_a_neck_without_a_norm_is_read_too(network, published):
    images, projection = torch.rand(3, 3, 64, 32), torch.rand(16, 512, 1, 1) - 0.5
    model = published("backbone.", {"heads.bottleneck.0.weight": projection, "heads.weight": torch.rand(7, 16)})
    expected = feature_map(network, images).mean((2, 3)) @ projection[:, :, 0, 0].T
    assert torch.allclose(model(images).embedding, expected, atol=1e-4)


@pytest.mark.parametrize(
    "beside",
    [
        norm("feat_bn."),
        linear("embedding."),
        linear("classifier0.add_block.0.") | norm("classifier0.add_block.1.", 16),
        linear("head.0.") | norm("head.1.", 16),
        {"gem.p": torch.tensor([3.0])},
        {"b1.reduction.0.weight": torch.rand(16, 512, 1, 1)},
    ],
    ids=lambda beside: next(iter(beside)),
)
def test_layers_that_look_like_a_neck_and_are_not_known_are_refused(published, beside):
    name = next(iter(beside)).split(".")[0]
    with pytest.raises(ValueError, match=rf"unknown layers .*: {name}\..*Remove them from the file"):
        published("base.", beside)


def test_two_necks_are_refused(published):
    with pytest.raises(ValueError, match=r"Expected one neck in .* \(got bottleneck\., heads\.bottleneck\.\)"):
        published("base.", norm("bottleneck.") | norm("heads.bottleneck."))


def test_another_stem_is_another_embedding(published):
    images = torch.rand(3, 3, 64, 32)
    found = [published("base.", {}, stem)(images).embedding for stem in ("torchvision", "strong_baseline", "fast_reid")]
    assert not torch.allclose(found[0], found[1], atol=1e-3) and not torch.allclose(found[0], found[2], atol=1e-3)


def test_necks_that_do_not_fit_are_refused(published):
    with pytest.raises(ValueError, match=r"over 512 channels \(got layer bottleneck with .*weight \(9,\)\)"):
        published("base.", norm("bottleneck.", 9))
    with pytest.raises(ValueError, match=r"Expected \['running_var'\] of the neck"):
        state = norm("bottleneck.")
        del state["bottleneck.running_var"]
        published("base.", state)


def test_a_stem_is_a_resnets():
    with pytest.raises(ValueError, match="Expected a ResNet for the stem fast_reid"):
        Backbone("small_cnn", stem="fast_reid")
    with pytest.raises(ValueError, match="Expected stem torchvision, strong_baseline, fast_reid"):
        Backbone("resnet18", stem="caffe")
