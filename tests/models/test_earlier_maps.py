"""Clues that also have the channels of earlier maps, against the literal form."""

import pytest
import torch

from cace_pyg import extract_features
from cace_pyg.config import config_of, config_parser, parse
from cace_pyg.engine.build import build_extractor
from cace_pyg.models import Backbone, PublishedEmbedding


def network(name):
    torch.manual_seed(1)
    backbone = Backbone(name)
    backbone.train()(torch.rand(8, 3, 64, 32))  # running statistics away from 0 and 1
    return backbone.eval()


@pytest.mark.parametrize(
    ("name", "earlier"),
    [
        ("osnet_x0_25", ["conv3"]),
        ("osnet_x0_25", ["conv2", "conv4"]),
        ("resnet18", ["layer3"]),
        ("mobilenet_v2", ["6"]),
    ],
)
def test_the_channels_of_earlier_maps_come_after_those_of_the_last(name, earlier):
    backbone, images = network(name), torch.rand(3, 3, 64, 32)
    plain, model = PublishedEmbedding(backbone), PublishedEmbedding(backbone, earlier=earlier)
    with torch.no_grad():
        expected, found = plain(images), model(images)
        torch.testing.assert_close(found.embedding, expected.embedding, rtol=0, atol=0)
        assert found.clues.grid == expected.clues.grid and found.clues.features.size(2) == model.channels
        last = backbone(images)
        parts, x = [last], images
        for layer, module in backbone.trunk.named_children():
            x = module(x)
            if layer in earlier:
                step = [x.size(2) // last.size(2), x.size(3) // last.size(3)]
                pooled = torch.nn.functional.avg_pool2d(x, step, step)
                scale = (last.square().mean((1, 2, 3)) / pooled.square().mean((1, 2, 3))).sqrt()
                parts.append(pooled * scale.view(-1, 1, 1, 1))
    literal = torch.cat(parts, dim=1).flatten(2).mT
    torch.testing.assert_close(found.clues.features, literal, rtol=1e-4, atol=1e-5)
    assert f"clues also of {', '.join(earlier)}" in str(model) and "also" not in str(plain)


def test_an_image_without_any_activity_has_finite_clues():
    backbone = network("osnet_x0_25")
    with torch.no_grad():
        for weight in backbone.trunk.conv3.parameters():
            weight.zero_()
        clues = PublishedEmbedding(backbone, earlier=["conv3"])(torch.zeros(2, 3, 64, 32)).clues.features
    assert clues.isfinite().all()


def test_features_have_these_channels(pictures_of_people):
    model = PublishedEmbedding(network("osnet_x0_25"), earlier=["conv3"])
    found = extract_features(model, pictures_of_people, (64, 32), device="cpu", progress=False)
    assert found.channels == model.channels == 128 + 96


@pytest.fixture
def pictures_of_people(tiny):
    return sorted((tiny / "query").glob("*.jpg"))[:3]


@pytest.mark.parametrize(
    ("name", "earlier", "told"),
    [
        (
            "osnet_x0_25",
            ["conv9"],
            r"layers of osnet_x0_25 before its last \(got conv9\); it has the layers conv1, .*conv4$",
        ),
        ("osnet_x0_25", ["conv5"], r"before its last \(got conv5\)"),
        ("small_cnn", ["stem"], r"\(got stem\); it has no layers by name"),
    ],
)
def test_other_layers_are_refused_with_those_that_there_are(name, earlier, told):
    with pytest.raises(ValueError, match=told):
        PublishedEmbedding(network(name), earlier=earlier)


def config(*options):
    parser = config_parser("train", "")
    return config_of(parse(parser, ["--data.root=.", "--backbone.earlier=[conv3]", *options]), parser)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--backbone.name=osnet_x0_25"], "networks with their own embedding .*embedding.kind trained"),
        (["--backbone.name=onnx", "--backbone.weights=x.onnx", "--embedding.kind=published"], "backbone.name onnx"),
        (["--backbone.name=timm/vit_small_patch16_224", "--embedding.kind=published"], "backbone.name timm/vit"),
    ],
)
def test_where_they_have_no_effect_they_are_refused(options, told):
    asked = config(*options)
    with pytest.raises(ValueError, match=f"backbone.earlier is for .*{told}"):
        build_extractor(asked, asked.embedding.kind == "published")
