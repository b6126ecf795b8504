"""What a published network made of pictures is kept for other runs, and is the same as made anew."""

import json
import os
import shutil

import pytest
import torch

from cace_pyg.config import config_of, config_parser, parse
from cace_pyg.data import read_market_layout
from cace_pyg.engine.build import build_model
from cace_pyg.engine.extraction import extract_clues
from cace_pyg.evaluate import main as evaluate
from cace_pyg.graph import NoAlignment
from cace_pyg.models import Backbone, CaceNet, PublishedEmbedding
from tests.frozen_networks import SmallReid, write_onnx


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    torch.manual_seed(3)
    return write_onnx(SmallReid("adaptive").eval(), tmp_path_factory.mktemp("network") / "reid.onnx")


@pytest.fixture
def pictures(tiny, tmp_path):
    """A copy to be done with as one likes."""
    return shutil.copytree(tiny, tmp_path / "pictures")


@pytest.fixture
def config(pictures, network, tmp_path):
    parser = config_parser("train", "")

    def make(*options):
        arguments = [
            f"--data.root={pictures}", "--data.height=48", "--data.width=24", "--data.workers=0",
            "--backbone.name=onnx", f"--backbone.weights={network}", "--embedding.kind=published",
            "--joint_phase.epochs=0", f"--embedding.cache={tmp_path / 'cache'}", *options,
        ]  # fmt: skip
        return config_of(parse(parser, arguments), parser)

    return make


class Counted(torch.nn.Module):
    """An extractor, and how many images went through it."""

    def __init__(self, extractor):
        super().__init__()
        self.extractor, self.channels, self.sha256, self.images = extractor, extractor.channels, extractor.sha256, 0

    def forward(self, images):
        self.images += len(images)
        return self.extractor(images)


def counted(config):
    model = build_model(config, None)
    model.extractor = Counted(model.extractor)
    return model


def test_each_picture_goes_through_the_network_once_and_stays_as_it_was(config, pictures):
    samples = read_market_layout(pictures).train
    without, embedding_and_clues = counted(config("--embedding.cache=null")), []
    expected = extract_clues(without, samples, config("--embedding.cache=null"), "cpu")
    for part in (samples[:5], samples[2:9], samples, samples[::-1]):
        model = counted(config())
        embedding_and_clues.append((model.extractor.images, *extract_clues(model, part, config(), "cpu")))
        embedding_and_clues[-1] = (model.extractor.images, *embedding_and_clues[-1][1:])
    assert [images for images, *_ in embedding_and_clues] == [5, 4, len(samples) - 9, 0]
    _, embedding, clues = embedding_and_clues[2]
    torch.testing.assert_close(embedding, expected[0])  # other batches, so other roundings
    torch.testing.assert_close(clues.features, expected[1].features)
    assert clues.grid == expected[1].grid and clues.features.dtype == torch.float16
    _, backwards, clues_backwards = embedding_and_clues[3]
    assert torch.equal(backwards.flip(0), embedding) and torch.equal(clues_backwards.features.flip(0), clues.features)


def test_a_run_from_the_cache_has_the_numbers_of_one_without(config, tiny, network, tmp_path, capsys):
    arguments = [
        f"--data.root={tiny}", "--data.height=48", "--data.width=24", "--data.workers=0", "--backbone.name=onnx",
        f"--backbone.weights={network}", "--embedding.kind=published", "--device=cpu",
    ]  # fmt: skip
    (tmp_path / "base.yaml").write_text("{}")
    printed, lots = [], []
    for cache in ("null", tmp_path / "kept", tmp_path / "kept"):
        assert evaluate(["--config", str(tmp_path / "base.yaml"), *arguments, f"--embedding.cache={cache}"]) == 0
        printed.append(capsys.readouterr().out)
        lots.append(sorted((tmp_path / "kept").glob("*/*")))
    told = [line for line in printed[1].splitlines() if line.startswith("embedding.cache")]
    assert len(told) == 2 and "12 of 12 pictures (embeddings) were new to " in told[0]  # query and gallery
    assert printed[0] == printed[2] == printed[1].replace("\n".join(told) + "\n", "")
    assert lots[0] == [] and len(lots[1]) == 2 and lots[2] == lots[1]  # query and gallery, extracted once


def test_other_pixels_flip_or_a_changed_picture_are_extracted_anew(config, pictures):
    samples = read_market_layout(pictures).train[:4]
    for options, images in (((), 4), ((), 0), (("--backbone.channel_order=bgr",), 4), (("--evaluation.flip=true",), 8)):
        model = counted(config(*options))
        extract_clues(model, samples, config(*options), "cpu")
        assert model.extractor.images == images
    os.utime(samples[1].path, ns=(1, 1))
    model = counted(config())
    extract_clues(model, samples, config(), "cpu")
    assert model.extractor.images == 1


def test_other_layers_of_a_network_from_python_are_extracted_anew(config, pictures, tmp_path):
    """The configuration does not say which layers, and both have 24 channels."""
    samples = read_market_layout(pictures).train[:2]
    for layer in ("2", "3", "2"):
        torch.manual_seed(0)
        network = PublishedEmbedding(Backbone("mobilenet_v2", earlier=[layer]))
        model = CaceNet(network, NoAlignment, published=True).eval()
        extract_clues(model, samples, config("--backbone.name=small_cnn"), "cpu")
    assert len(list((tmp_path / "cache").iterdir())) == 2


def test_what_a_killed_run_left_is_not_read_and_a_broken_picture_leaves_nothing(config, pictures, tmp_path):
    samples = read_market_layout(pictures).train[:4]
    samples[3].path.write_bytes(b"no picture")
    with pytest.raises(ValueError, match=samples[3].path.name):
        extract_clues(counted(config()), samples, config(), "cpu")
    (network_folder,) = (tmp_path / "cache").iterdir()
    assert not list(network_folder.iterdir())
    (network_folder / ".half").mkdir()
    (network_folder / ".half" / "clues.npy").write_bytes(b"half")
    model = counted(config())
    extract_clues(model, samples[:3], config(), "cpu")
    assert model.extractor.images == 3
    (lot,) = (path for path in network_folder.iterdir() if not path.name.startswith("."))
    assert len(json.loads((lot / "pictures.json").read_text())["pictures"]) == 3


def test_a_network_that_is_trained_has_no_cache(config):
    with pytest.raises(ValueError, match="Expected embedding.kind published with embedding.cache"):
        config("--embedding.kind=trained")
