"""An OpenVINO file as extractor: as an ONNX file, with the Open Model Zoo's pixels."""

from pathlib import Path

import pytest
import torch

from cace_pyg.data.transforms import IMAGENET_MEAN, IMAGENET_STD
from cace_pyg.models import OpenVinoExtractor
from cace_pyg.models.openvino_extractor import OpenVinoRuntime
from tests.frozen_networks import POOLS, SmallReid, SmallTransformer, write_onnx

WEIGHTS = Path(__file__).parents[3] / "shared" / "weights" / "openvino" / "person-reidentification-retail-0277.xml"


@pytest.fixture
def openvino():
    return pytest.importorskip("openvino")


@pytest.fixture
def convert(openvino, tmp_path):
    """``convert(network)``: the .xml that OpenVINO makes of it."""

    def converted(network, **options):
        model = openvino.convert_model(write_onnx(network, tmp_path / "reid.onnx", **options))
        openvino.save_model(model, tmp_path / "reid.xml", compress_to_fp16=False)
        return tmp_path / "reid.xml"

    return converted


def expect_near(found, expected):
    """OpenVINO may compute in bfloat16."""
    torch.testing.assert_close(found, expected, atol=0.02 * float(expected.abs().max()), rtol=0)


@pytest.fixture
def images():
    return torch.randn(5, 3, 48, 24)


@pytest.mark.parametrize(("pool", "batch"), [*((pool, None) for pool in POOLS), ("window", 1), ("tokens", 1)])
@torch.no_grad()
def test_the_clues_are_what_the_last_pooling_reads(pool, batch, images, convert):
    network = SmallReid(pool)
    extractor = OpenVinoExtractor(convert(network, batch=batch), normalisation="imagenet", channel_order="rgb")
    found = extractor(images)
    assert found.clues.grid == (6, 3) and extractor.channels == 16
    expect_near(found.embedding, network(images))
    expected = network.feature_map(images).flatten(2).mT
    expect_near(found.clues.features, expected)


@pytest.mark.parametrize("pool", ["class", "mean"])
@torch.no_grad()
def test_of_a_transformer_the_clues_are_its_patches(pool, images, convert):
    network = SmallTransformer(pool)
    found = OpenVinoExtractor(convert(network), normalisation="imagenet", channel_order="rgb")(images)
    expect_near(found.embedding, network(images))
    expect_near(found.clues.features, network.tokens(images)[:, 1:])


@torch.no_grad()
def test_a_network_for_one_image_is_never_tried_with_two(convert, images, monkeypatch):
    """After a run that failed, OpenVINO 2026.4 computes wrong numbers on two threads, or NaN."""
    network, run_with = SmallTransformer(), []
    start = OpenVinoRuntime.start

    def recorded(runtime, *args):
        run = start(runtime, *args)
        return lambda taken: [run_with.append(len(taken)), run(taken)][1]

    monkeypatch.setattr(OpenVinoRuntime, "start", recorded)
    extractor = OpenVinoExtractor(convert(network), normalisation="imagenet", channel_order="rgb")
    expect_near(extractor(images).embedding, network(images))
    assert run_with == [1] * 5


@torch.no_grad()
def test_by_default_it_gets_bgr_from_0_to_255(convert):
    network = SmallReid()
    pixels = torch.randint(256, (2, 3, 48, 24)).float()
    mean, deviation = (torch.tensor(values).view(3, 1, 1) for values in (IMAGENET_MEAN, IMAGENET_STD))
    extractor = OpenVinoExtractor(convert(network))
    expected = network(pixels[:, [2, 1, 0]])
    expect_near(extractor((pixels / 255 - mean) / deviation).embedding, expected)


def test_what_cannot_be_used_is_refused_in_words(convert, tmp_path):
    path = convert(SmallReid())
    with pytest.raises(ValueError, match="give --data.height 48 --data.width 24"):
        OpenVinoExtractor(path, size=(64, 32))
    with pytest.raises(ValueError, match=r"got 'middle', which does not exist\)\. Candidates: .* \(1, 16, 6, 3\)"):
        OpenVinoExtractor(path, map="middle")
    path.with_suffix(".bin").unlink()
    with pytest.raises(FileNotFoundError, match=r"no weights of reid.xml at .*reid.bin"):
        OpenVinoExtractor(path)
    path.with_suffix(".bin").touch()
    path.write_text("no network")
    with pytest.raises(ValueError, match=r"reid.xml cannot be read as an OpenVINO file"):
        OpenVinoExtractor(path)


@pytest.mark.skipif(not WEIGHTS.exists(), reason="a published file that is not in the project")
def test_retail_0277_gives_the_numbers_that_it_gave_once_from_the_map_before_its_depthwise_pooling(openvino):
    drawn = torch.randn(1, 3, 16, 8, generator=torch.Generator().manual_seed(0))
    extractor = OpenVinoExtractor(WEIGHTS)
    found = extractor(torch.nn.functional.interpolate(drawn, (256, 128), mode="bilinear"))
    assert extractor.map.tensor == "1126" and found.clues.grid == (16, 8) and extractor.channels == 512
    expected = torch.tensor([0.2757, 0.3413, -0.6842, -0.4132, -0.0140, -0.2430])  # in float32
    torch.testing.assert_close(found.embedding[0, :6], expected, atol=0.08, rtol=0)
    assert float(found.embedding.norm()) == pytest.approx(7.845, rel=0.01)
    assert float(found.clues.features.sum()) == pytest.approx(3137, rel=0.01)


def test_two_networks_share_one_core(convert):
    """A second one corrupts memory: torch.export crashed later in the same process."""
    path = convert(SmallReid())
    assert OpenVinoExtractor(path)._runtime._core is OpenVinoExtractor(path)._runtime._core
