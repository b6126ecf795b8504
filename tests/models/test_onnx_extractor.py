"""An ONNX file as extractor: its own embedding, and the map before its last pooling, with torch's numbers."""

import hashlib
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper

from cace_pyg.data.transforms import IMAGENET_MEAN, IMAGENET_STD
from cace_pyg.models import OnnxExtractor
from tests.frozen_networks import POOLS, SmallReid, SmallTransformer, write_nodes, write_onnx

WEIGHTS = Path(__file__).parents[3] / "shared" / "weights" / "osnet" / "osnet_x0_25_msmt17_combineall.onnx"


@pytest.fixture
def images():
    return torch.randn(5, 3, 48, 24)


def as_rows(feature_map):
    return feature_map.flatten(2).mT


@torch.no_grad()
def expect_same(extractor, images, embedding, clues):
    found = extractor(images)
    torch.testing.assert_close(found.embedding, embedding, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(found.clues.features, clues, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("pool", POOLS)
@torch.no_grad()
def test_the_clues_are_what_the_last_pooling_reads_however_it_is_written(pool, images, tmp_path):
    network = SmallReid(pool)
    extractor = OnnxExtractor(write_onnx(network, tmp_path / "reid.onnx"))
    assert extractor.channels == 16 and extractor.map.grid == (6, 3) and not list(extractor.parameters())
    expect_same(extractor, images, network(images), as_rows(network.feature_map(images)))


@pytest.mark.parametrize("pool", ["class", "mean"])
@torch.no_grad()
def test_of_a_transformer_the_clues_are_its_patches_without_the_class_token(pool, images, tmp_path):
    network = SmallTransformer(pool)
    extractor = OnnxExtractor(write_onnx(network, tmp_path / "reid.onnx"))
    assert extractor.map.extra == 1
    expect_same(extractor, images, network(images), network.tokens(images)[:, 1:])


@torch.no_grad()
def test_of_torchs_newer_exporter_with_weights_in_a_file_of_their_own(images, tmp_path):
    network = SmallReid("adaptive")
    path = write_onnx(network, tmp_path / "reid.onnx", dynamo=True, external=True)
    extractor = OnnxExtractor(path)
    assert [file.name for file in extractor.files] == ["reid.onnx", "reid.onnx.data"]
    expect_same(extractor, images, network(images), as_rows(network.feature_map(images)))
    whole = b"".join(file.read_bytes() for file in extractor.files)
    assert extractor.sha256 == hashlib.sha256(whole).hexdigest()
    (tmp_path / "reid.onnx.data").unlink()
    with pytest.raises(FileNotFoundError, match=r"no file .*reid\.onnx\.data, where reid\.onnx has its weights"):
        OnnxExtractor(path)


@pytest.mark.parametrize("batch", [1, 4])
@torch.no_grad()
def test_a_file_that_takes_a_fixed_number_of_images_is_run_several_times(batch, images, tmp_path):
    network = SmallReid()
    extractor = OnnxExtractor(write_onnx(network, tmp_path / "reid.onnx", batch=batch))
    expect_same(extractor, images, network(images), as_rows(network.feature_map(images)))


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@torch.no_grad()
def test_the_layout_of_the_input_is_read_from_the_file(layout, images, tmp_path):
    weight = np.random.default_rng(0).random((16, 3, 8, 8), np.float32)
    first = [helper.make_node("Transpose", ["images"], ["turned"], perm=[0, 3, 1, 2])] if layout == "NHWC" else []
    nodes = [
        *first,
        helper.make_node("Conv", ["turned" if first else "images", "weight"], ["map"], strides=[8, 8]),
        helper.make_node("GlobalMaxPool", ["map"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["embedding"]),
    ]
    taken = ["n", 48, 24, 3] if first else ["n", 3, 48, 24]
    path = write_nodes(tmp_path / "reid.onnx", nodes, {"weight": weight}, taken, {"embedding": ["n", 16]})
    found = torch.nn.functional.conv2d(images, torch.from_numpy(weight), stride=8)
    extractor = OnnxExtractor(path)
    torch.testing.assert_close(extractor(images).clues.features, as_rows(found), atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(extractor(images).embedding, found.amax((2, 3)), atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_a_file_that_takes_whole_numbers_gets_the_pictures_own_pixels(tmp_path):
    nodes = [
        helper.make_node("Cast", ["images"], ["real"], to=TensorProto.FLOAT),
        helper.make_node("AveragePool", ["real"], ["map"], kernel_shape=[8, 8], strides=[8, 8]),
        helper.make_node("GlobalMaxPool", ["map"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["embedding"]),
    ]
    path = write_nodes(
        tmp_path / "reid.onnx", nodes, {}, ["n", 3, 48, 24], {"embedding": ["n", 3]}, TensorProto.UINT8
    )  # fmt: skip
    pixels = torch.randint(256, (3, 3, 48, 24)).float()
    mean, deviation = (torch.tensor(values).view(3, 1, 1) for values in (IMAGENET_MEAN, IMAGENET_STD))
    found = OnnxExtractor(path)((pixels / 255 - mean) / deviation).embedding
    torch.testing.assert_close(found, torch.nn.functional.avg_pool2d(pixels, 8).amax((2, 3)))


@pytest.mark.parametrize("normalisation", ["imagenet", "unit", "pixels"])
@pytest.mark.parametrize("order", ["rgb", "bgr"])
@torch.no_grad()
def test_images_are_given_as_the_file_takes_them(normalisation, order, tmp_path):
    network = SmallReid()
    path = write_onnx(network, tmp_path / "reid.onnx")
    pixels = torch.randint(256, (3, 3, 48, 24)).float()
    mean, deviation = (torch.tensor(values).view(3, 1, 1) for values in (IMAGENET_MEAN, IMAGENET_STD))
    images = (pixels / 255 - mean) / deviation
    taken = {"imagenet": images, "unit": pixels / 255, "pixels": pixels}[normalisation]
    taken = taken if order == "rgb" else taken[:, [2, 1, 0]]
    extractor = OnnxExtractor(path, normalisation=normalisation, channel_order=order)
    torch.testing.assert_close(extractor(images).embedding, network(taken), atol=1e-3, rtol=1e-4)


def test_what_the_file_says_of_its_pixels_is_the_default(tmp_path):
    model = onnx.load(write_onnx(SmallReid(), tmp_path / "plain.onnx"))
    plain = OnnxExtractor(tmp_path / "plain.onnx")
    assert (plain.normalisation, plain.channel_order) == ("imagenet", "rgb")
    for key, value in (("NominalPixelRange", "NominalRange_0_255"), ("BitmapPixelFormat", "Bgr8")):
        model.metadata_props.add(key=f"Image.{key}", value=value)
    onnx.save(model, tmp_path / "told.onnx")
    told = OnnxExtractor(tmp_path / "told.onnx")
    assert (told.normalisation, told.channel_order) == ("pixels", "bgr")
    assert OnnxExtractor(tmp_path / "told.onnx", normalisation="unit").normalisation == "unit"


def branches(tmp_path, **further):
    """Two maps, each pooled into a half of the embedding."""
    rng = np.random.default_rng(0)
    weights = {"one": rng.random((16, 3, 8, 8), np.float32), "two": rng.random((16, 3, 4, 4), np.float32)}
    nodes = [
        helper.make_node("Conv", ["images", "one"], ["coarse"], name="of eights", strides=[8, 8]),
        helper.make_node("Conv", ["images", "two"], ["fine"], name="of fours", strides=[4, 4]),
        helper.make_node("GlobalAveragePool", ["coarse"], ["a"]),
        helper.make_node("GlobalAveragePool", ["fine"], ["b"]),
        helper.make_node("Concat", ["a", "b"], ["both"], axis=1),
        helper.make_node("Flatten", ["both"], ["embedding"]),
        helper.make_node("Flatten", ["a"], ["half"]),
    ]
    given = {"embedding": ["n", 32]} | further
    return write_nodes(tmp_path / "branches.onnx", nodes, weights, ["n", 3, 48, 24], given), weights


@torch.no_grad()
def test_with_two_maps_it_has_to_be_named_by_tensor_or_by_node(images, tmp_path):
    path, weights = branches(tmp_path)
    with pytest.raises(ValueError) as error:
        OnnxExtractor(path)
    assert "2 poolings of different maps" in str(error.value) and "--backbone.map NAME" in str(error.value)
    assert "coarse (1, 16, 6, 3), fine (1, 16, 12, 6)" in str(error.value)
    found = torch.nn.functional.conv2d(images, torch.from_numpy(weights["two"]), stride=4)
    for name in ("fine", "of fours"):
        clues = OnnxExtractor(path, map=name)(images).clues
        torch.testing.assert_close(clues.features, as_rows(found), atol=1e-4, rtol=1e-4)
    with pytest.raises(ValueError, match=r"got 'middle', which does not exist\)\. Candidates: "):
        OnnxExtractor(path, map="middle")
    with pytest.raises(ValueError, match=r"got 'half', of shape \(1, 16\)\)"):
        OnnxExtractor(path, map="half")


def test_with_two_embeddings_it_has_to_be_named(images, tmp_path):
    path, _ = branches(tmp_path, half=["n", 16])
    with pytest.raises(
        ValueError, match=r"got 2 of them\).*--backbone\.output NAME.*embedding \(1, 32\), half \(1, 16\)"
    ):
        OnnxExtractor(path)
    extractor = OnnxExtractor(path, output="half")
    assert extractor(images).embedding.shape == (5, 16) and extractor.map.tensor == "coarse"
    with pytest.raises(ValueError, match=r"to name an embedding .*got 'fine'"):
        OnnxExtractor(path, output="fine")


def test_without_pooling_the_candidates_are_listed_and_one_can_be_named(images, tmp_path):
    network = SmallReid("mean")
    network.neck, network.pool = torch.nn.Linear(16 * 18, 12), "none"
    network.forward = lambda images: network.neck(network.feature_map(images).flatten(1))
    path = write_onnx(network, tmp_path / "reid.onnx")
    with pytest.raises(ValueError) as error:
        OnnxExtractor(path)
    assert "(no global pooling)" in str(error.value) and "/Relu_1_output_0 (1, 16, 6, 3)" in str(error.value)
    extractor = OnnxExtractor(path, map="/Relu_1_output_0")
    with torch.no_grad():
        expect_same(extractor, images, network(images), as_rows(network.feature_map(images)))


def test_what_cannot_be_used_is_refused_in_words(images, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no ONNX file at .*gone\.onnx"):
        OnnxExtractor(tmp_path / "gone.onnx")
    (tmp_path / "text.onnx").write_text("no network")
    with pytest.raises(ValueError, match=r"text\.onnx cannot be read as an ONNX file"):
        OnnxExtractor(tmp_path / "text.onnx")
    (tmp_path / "empty.onnx").touch()
    with pytest.raises(ValueError, match=r"empty\.onnx cannot be read as an ONNX file"):
        OnnxExtractor(tmp_path / "empty.onnx")
    path = write_onnx(SmallReid(), tmp_path / "reid.onnx")
    with pytest.raises(ValueError, match="give --data.height 48 --data.width 24"):
        OnnxExtractor(path, size=(64, 32))
    with pytest.raises(
        ValueError, match=r"Expected images \(image, 3, 48, 24\) for reid.onnx \(got \(5, 3, 24, 48\)\)"
    ):
        OnnxExtractor(path)(images.mT)


def test_the_users_file_stays_as_it_is_and_torchs_threads_are_kept_to(images, tmp_path):
    path = write_onnx(SmallReid(), tmp_path / "reid.onnx")
    before = path.read_bytes()
    extractor = OnnxExtractor(path)
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        first = extractor(images).embedding
        assert extractor._threads == 2
    finally:
        torch.set_num_threads(threads)
    torch.testing.assert_close(first, extractor(images).embedding)
    assert path.read_bytes() == before and [file.name for file in tmp_path.iterdir()] == ["reid.onnx"]


@pytest.mark.skipif(not WEIGHTS.exists(), reason="a published file that is not in the project")
def test_a_published_osnet_gives_the_numbers_that_it_gave_once():
    images = torch.linspace(-2, 2, 3 * 256 * 128).view(1, 3, 256, 128)
    found = OnnxExtractor(WEIGHTS)(images)
    assert found.clues.grid == (16, 8) and found.clues.features.shape == (1, 128, 128)
    torch.testing.assert_close(found.embedding[0, :4], torch.tensor([1.0240, 0.0, 0.1350, 2.1002]), atol=2e-4, rtol=0)
    assert float(found.embedding.norm()) == pytest.approx(52.1972, abs=1e-2)
    assert float(found.clues.features.sum()) == pytest.approx(853.4615, abs=0.2)
