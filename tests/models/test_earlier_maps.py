"""Clues that also have the channels of earlier maps, of every kind of network, against the literal form."""

import pytest
import torch

from cace_pyg import CaceNet, extract_features
from cace_pyg.config import config_of, config_parser, parse
from cace_pyg.engine.build import build_extractor
from cace_pyg.graph import NoAlignment
from cace_pyg.models import Backbone, OnnxExtractor, OpenVinoExtractor, PublishedEmbedding, TimmExtractor
from tests.frozen_networks import SmallReid, SmallTransformer, write_onnx


def drawn(name, earlier=()):
    torch.manual_seed(1)
    backbone = Backbone(name, last_stride=2 if name.startswith("vgg") else None, earlier=earlier)
    backbone.train()(torch.rand(8, 3, 64, 32))  # running statistics away from 0 and 1
    return backbone.eval()


def joined(last, *earlier):
    """The clues in literal form."""
    parts = [last]
    for found in earlier:
        step = [found.size(2) // last.size(2), found.size(3) // last.size(3)]
        pooled = torch.nn.functional.avg_pool2d(found, step, step)
        scale = (last.square().mean((1, 2, 3)) / pooled.square().mean((1, 2, 3))).sqrt()
        parts.append(pooled * scale.view(-1, 1, 1, 1))
    return torch.cat(parts, dim=1).flatten(2).mT


def expect_clues(found, literal, extractor, atol=1e-5):
    torch.testing.assert_close(found.clues.features, literal, rtol=1e-4, atol=atol)
    assert found.clues.features.size(2) == extractor.channels


@pytest.mark.parametrize(
    ("name", "earlier"),
    [
        ("osnet_x0_25", ["conv3"]),
        ("osnet_x0_25", ["conv4", "conv2"]),
        ("resnet18", ["layer3"]),
        ("mobilenet_v2", ["6"]),
        ("vgg11", ["3"]),  # a convolution whose result the next layer changes in place
    ],
)
@torch.no_grad()
def test_the_channels_of_earlier_maps_come_after_those_of_the_last(name, earlier):
    plain, backbone, images = drawn(name), drawn(name, earlier), torch.rand(3, 3, 64, 32)
    expected, found = (PublishedEmbedding(network)(images) for network in (plain, backbone))
    torch.testing.assert_close(found.embedding, expected.embedding, rtol=0, atol=0)
    assert found.clues.grid == expected.clues.grid
    maps, x = [], images
    for layer, module in plain.trunk.named_children():
        x = module(x)
        if layer in earlier:
            maps.append(x.clone())
    expect_clues(found, joined(x, *maps), backbone)
    told = "".join(f" and {channels} of {layer}" for layer, channels in backbone.earlier.items())
    assert f"clues of {x.size(1)} channels{told}" in str(PublishedEmbedding(backbone))
    assert "clues" not in str(PublishedEmbedding(plain))


def test_a_trained_embedding_sees_them_and_trains_the_layers_that_make_them():
    backbone = drawn("osnet_x0_25", ["conv3"])
    model = CaceNet(backbone, NoAlignment, 5, embedding_channels=8)
    assert model.encoder.convolution.in_features == 128 + 96
    embedding = model(torch.rand(4, 3, 64, 32)).embedding
    before = backbone.trunk.conv5[0].weight
    alone = torch.autograd.grad(embedding.square().sum(), [before, backbone.trunk.conv3[0].conv1[0].weight])
    assert all(gradient.abs().sum() > 0 for gradient in alone)


def test_an_image_without_any_activity_has_finite_clues():
    backbone = drawn("osnet_x0_25", ["conv3"])
    with torch.no_grad():
        for weight in backbone.trunk.conv3.parameters():
            weight.zero_()
        assert backbone(torch.zeros(2, 3, 64, 32)).isfinite().all()


@pytest.mark.parametrize("name", ["resnet18", "swin_tiny_patch4_window7_224", "test_vit"])
@torch.no_grad()
def test_layers_of_timms_networks(name):
    layer = {"resnet18": "layer3", "swin_tiny_patch4_window7_224": "layers.1", "test_vit": "blocks.2"}[name]
    torch.manual_seed(0)
    extractor = TimmExtractor(name, (64, 32), earlier=[layer]).eval()
    images = torch.rand(2, 3, 64, 32)
    found, made = extractor(images), []
    network, given = extractor.network, images * extractor.scale + extractor.shift
    hook = network.get_submodule(layer).register_forward_hook(lambda _, __, output: made.append(output.clone()))
    last = network.forward_features(given)
    hook.remove()
    assert torch.equal(found.embedding, network(given))
    (earlier,) = made
    if name == "test_vit":
        last, earlier = (tokens[:, 1:].mT.unflatten(2, (4, 2)) for tokens in (last, earlier))
    elif name.startswith("swin"):
        last, earlier = last.permute(0, 3, 1, 2), earlier.permute(0, 3, 1, 2)
    expect_clues(found, joined(last, earlier), extractor)
    assert f"channels, with those of {layer}" in str(extractor)


@pytest.mark.parametrize("batch", [None, 4])
@pytest.mark.parametrize("kind", ["onnx", "openvino"])
@torch.no_grad()
def test_tensors_of_onnx_and_openvino_files(kind, batch, tmp_path):
    network, images = SmallReid("window").eval(), torch.randn(5, 3, 48, 24)
    path = write_onnx(network, tmp_path / "reid.onnx", batch=batch)
    kept = []
    network.last.register_forward_pre_hook(lambda _, given: kept.append(given[0]))
    last = network.feature_map(images)
    (earlier,) = kept
    taken = {"normalisation": "imagenet", "channel_order": "rgb"}
    if kind == "onnx":
        plain = OnnxExtractor(path)
        extractor = OnnxExtractor(path, earlier=[before_last(plain, (8, 12, 6))])
        expect_clues(extractor(images), joined(last, earlier), extractor)
    else:
        openvino = pytest.importorskip("openvino")
        openvino.save_model(openvino.convert_model(path), tmp_path / "reid.xml", compress_to_fp16=False)
        plain = OpenVinoExtractor(tmp_path / "reid.xml", **taken)
        extractor = OpenVinoExtractor(tmp_path / "reid.xml", earlier=[before_last(plain, (8, 12, 6))], **taken)
        literal = joined(last, earlier)
        expect_clues(extractor(images), literal, extractor, atol=0.02 * float(literal.abs().max()))  # bfloat16
    torch.testing.assert_close(extractor(images).embedding, plain(images).embedding, rtol=0, atol=1e-3)
    assert f"clues {extractor.map.tensor} (6×3 of 16 channels and 8 of " in str(extractor)


def before_last(extractor, shape, size=(48, 24)):
    """The tensor of this shape that is computed last."""
    graph = extractor._runtime.graph((extractor._batch or 1, 3, *size))
    return [name for step in graph.steps for name in step.outputs if graph.shapes.get(name, ())[1:] == shape][-1]


@torch.no_grad()
def test_tokens_of_an_earlier_layer_of_a_transformer_in_an_onnx_file(tmp_path):
    network, images = SmallTransformer("mean").eval(), torch.randn(3, 3, 48, 24)
    plain = OnnxExtractor(write_onnx(network, tmp_path / "reid.onnx"))
    graph = plain._runtime.graph((1, 3, 48, 24))
    first = next(name for step in graph.steps for name in step.outputs if graph.shapes.get(name) == (1, 19, 16))
    extractor = OnnxExtractor(tmp_path / "reid.onnx", earlier=[first])
    patches = network.patches(images)
    last = network.tokens(images)[:, 1:].mT.unflatten(2, (6, 3))
    expect_clues(extractor(images), joined(last, patches), extractor)


def test_features_have_these_channels(pictures_of_people):
    model = PublishedEmbedding(drawn("osnet_x0_25", ["conv3"]))
    found = extract_features(model, pictures_of_people, (64, 32), device="cpu", progress=False)
    assert found.channels == model.channels == 128 + 96


@pytest.fixture
def pictures_of_people(tiny):
    return sorted((tiny / "query").glob("*.jpg"))[:3]


@pytest.mark.parametrize(
    ("name", "earlier", "told"),
    [
        ("osnet_x0_25", ["conv9"], r"before its last \(got conv9\); it has the layers conv1, .*conv4$"),
        ("osnet_x0_25", ["conv5"], r"before its last \(got conv5\)"),
        ("small_cnn", ["stem"], r"\(got stem\); it has none by name, so leave them out"),
    ],
)
def test_other_layers_are_refused_with_those_that_there_are(name, earlier, told):
    with pytest.raises(ValueError, match=told):
        Backbone(name, earlier=earlier)


@pytest.mark.parametrize(
    ("name", "earlier", "told"),
    [
        ("test_vit", "blocks.90", r"that make maps \(got blocks.90\); some that do: .*blocks.0, .*blocks.4"),
        ("test_vit", "norm_pre.nothing", r"that make maps \(got norm_pre.nothing\)"),
        ("test_vit", "fc_norm", r"that make maps \(got fc_norm\)"),
        ("test_vit", "blocks.0.attn.q_norm", r"to make maps .* of 4×2 pixels .*q_norm\); choose others"),
        ("test_vit", "norm", r"before its last \(got norm\); leave it out"),
        ("resnet18", "stages.2", r"\(got stages.2\); some that do: conv1, .*layer2"),
        ("resnet18", "layer4", r"before its last \(got layer4\); leave it out"),
    ],
)
def test_other_modules_of_timm_are_refused(name, earlier, told):
    with pytest.raises(ValueError, match=told):
        TimmExtractor(name, (64, 32), earlier=[earlier])


@pytest.mark.parametrize(
    "make",
    [
        lambda earlier: Backbone("osnet_x0_25", earlier=earlier),
        lambda earlier: TimmExtractor("test_vit", (64, 32), earlier=earlier),
    ],
)
def test_names_are_in_a_list_each_once(make):
    with pytest.raises(ValueError, match=r"in a list, such as \['conv3'\] \(got 'conv3'\)"):
        make("conv3")
    with pytest.raises(ValueError, match=r"each earlier layer once, by its name \(got 'conv3' twice\); leave it out"):
        make(["conv3", "conv3"])
    with pytest.raises(ValueError, match=r"by its name \(got ''\)"):
        make([""])


def test_a_number_is_a_name():
    assert Backbone("mobilenet_v2", earlier=[13]).earlier == {"13": 96}


def test_other_tensors_of_a_file_are_refused(tmp_path):
    path = write_onnx(SmallReid("window").eval(), tmp_path / "reid.onnx")
    plain = OnnxExtractor(path)
    earlier = before_last(plain, (8, 12, 6))
    graph = plain._runtime.graph((1, 3, 48, 24))
    node = next(step.name for step in graph.steps if earlier in step.outputs)
    for given, told in (
        (
            ["middle"],
            r"backbone.earlier to name a map .*\(got 'middle', which does not exist\)\. Some of them.*8 channels",
        ),
        ([plain.output], r"backbone.earlier to name a map .*of shape \(1, 12\)"),
        (["images"], r"\(got 'images', from which the embedding is not computed"),
        ([plain.map.tensor], "of backbone.earlier is the last map of reid.onnx itself; leave it out"),
        ([earlier, earlier], "each earlier layer once"),
        ([earlier, node], "each earlier layer once"),
    ):
        with pytest.raises(ValueError, match=told) as error:
            OnnxExtractor(path, earlier=given)
        assert f"{plain.map.tensor} (" not in str(error.value)  # not among the proposals


def test_of_a_transformers_file_only_tokens_of_the_same_grid_are_taken(tmp_path):
    plain = OnnxExtractor(write_onnx(SmallTransformer("mean").eval(), tmp_path / "reid.onnx"))
    graph = plain._runtime.graph((1, 3, 48, 24))
    inside = [name for step in graph.steps for name in step.outputs if graph.shapes.get(name, ())[-2:] == (19, 19)]
    assert inside  # the attention of all tokens, which looks like a map of 19×19 pixels
    with pytest.raises(ValueError, match="6×3 pixels|grid of patches"):
        OnnxExtractor(tmp_path / "reid.onnx", earlier=inside[:1])
    with pytest.raises(ValueError, match=r"got 'x', .*in the order of the network: .*\(16 channels of 6×3\)"):
        OnnxExtractor(tmp_path / "reid.onnx", earlier=["x"])


def test_a_layer_of_openvino_has_the_names_of_its_output_too(tmp_path):
    openvino = pytest.importorskip("openvino")
    path = write_onnx(SmallReid("window").eval(), tmp_path / "reid.onnx")
    earlier = before_last(OnnxExtractor(path), (8, 12, 6))
    openvino.save_model(openvino.convert_model(path), tmp_path / "reid.xml", compress_to_fp16=False)
    assert OpenVinoExtractor(tmp_path / "reid.xml", earlier=[earlier]).channels == 16 + 8


@pytest.mark.parametrize(
    ("name", "layer", "published"),
    [
        ("osnet_x0_25", "conv3", False),
        ("osnet_x0_25", "conv3", True),
        ("mobilenet_v2", "13", False),
        ("timm/test_vit", "blocks.2", False),
        ("timm/test_vit", "blocks.2", True),
        ("onnx", "earlier", True),
    ],
)
def test_the_setting_reaches_every_network(name, layer, published, tmp_path):
    torch.manual_seed(0)
    weights = tmp_path / "weights.pth"
    if name == "onnx":
        path = write_onnx(SmallReid("window").eval(), tmp_path / "reid.onnx", size=(64, 32))
        layer, weights = before_last(OnnxExtractor(path, size=(64, 32)), (8, 16, 8), (64, 32)), path
    elif name.startswith("timm"):
        torch.save(TimmExtractor(name, (64, 32)).network.state_dict(), weights)
    else:
        torch.save(Backbone(name).trunk.state_dict(), weights)
    parser = config_parser("train", "")
    options = [
        "--data.root=.", "--data.height=64", "--data.width=32", f"--backbone.name={name}",
        f"--backbone.weights={weights}", f"--embedding.kind={'published' if published else 'trained'}",
    ]  # fmt: skip
    plain, joint = (
        build_extractor(config_of(parse(parser, [*options, *further]), parser), published)
        for further in ([], [f"--backbone.earlier=[{layer}]"])
    )
    counts = {"mobilenet_v2": (1280, 96), "osnet_x0_25": (128, 96), "timm/test_vit": (64, 64), "onnx": (16, 8)}
    last, earlier = counts[name]
    assert (plain.channels, joint.channels) == (last, last + earlier)
