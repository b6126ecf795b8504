"""The library from Python: what it exports, what that loads, and a network of one's own in both phases."""

from dataclasses import replace

import pytest
import torch

import cace_pyg
from cace_pyg import (
    CaceNet,
    ConditionalSettings,
    Config,
    Trainer,
    evaluate_model,
    fit,
    load_weights,
    read_dataset,
)
from cace_pyg.config import config_of, config_parser, from_yaml, parse
from cace_pyg.data import hold_out_identities
from cace_pyg.engine.checkpoint import load_checkpoint, load_model
from cace_pyg.graph import TopKSimilarity


class OwnNetwork(torch.nn.Module):
    """Neither registered nor derived from anything of ours."""

    def __init__(self):
        super().__init__()
        self.layers = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 5, 8, 2), torch.nn.ReLU())
        self.channels = 8

    def forward(self, images):
        return self.layers(images)


@pytest.fixture
def config(options) -> Config:
    parser = config_parser("train", "")
    return config_of(parse(parser, options), parser)


def test_everything_that_is_exported_is_there():
    for name in cace_pyg.__all__:
        assert callable(getattr(cace_pyg, name)), name
    assert set(cace_pyg.__all__) <= set(dir(cace_pyg))
    with pytest.raises(AttributeError, match="no attribute 'Galery'"):
        _ = cace_pyg.Galery


def test_a_network_of_ones_own_is_trained_and_evaluated(config):
    splits = read_dataset("market_layout", config.data.root)
    held_out = hold_out_identities(splits.train, config.data.hold_out, config.seed)
    identities = len({sample.pid for sample in held_out.train})
    model = CaceNet(OwnNetwork(), TopKSimilarity, identities, 16)
    before = model.extractor.layers[0].weight.clone()
    fitted = fit(model, config, splits)
    assert fitted.folder.best.exists() and fitted.calibration.weight == fitted.fusion_weight is not None
    assert not torch.equal(before, model.extractor.layers[0].weight) and not model.training
    saved = load_checkpoint(fitted.folder.best)["model"]
    assert all(torch.equal(saved[name], values) for name, values in model.state_dict().items())
    found = evaluate_model(model, splits.query, splits.gallery, config, fitted.fusion_weight)
    assert 0 < found.two_stage.mAP <= 1 and found.fusion_weight == fitted.fusion_weight


def test_a_model_for_other_people_is_refused_before_anything_is_made(config, tmp_path):
    splits = read_dataset("market_layout", config.data.root)
    with pytest.raises(ValueError, match=r"the 12 training identities \(got num_identities 5\)"):
        Trainer(CaceNet(OwnNetwork(), TopKSimilarity, 5, 16), config, replace(splits, query=(), gallery=()))
    assert not (tmp_path / "run").exists()


def test_the_file_of_a_run_tells_what_the_model_is(config, tmp_path):
    splits = read_dataset("market_layout", config.data.root)
    held_out = hold_out_identities(splits.train, config.data.hold_out, config.seed)
    model = CaceNet(
        OwnNetwork(), TopKSimilarity, held_out.num_identities, 24, conditional=ConditionalSettings("smooth")
    )
    with pytest.raises(ValueError, match="the configuration's conditional settings"):
        fit(model, replace(config, conditional=ConditionalSettings(width=8)), splits)
    fitted = fit(model, config, splits)
    written = from_yaml(fitted.folder.config.read_text())
    assert written.conditional.mode == "smooth" and written.embedding.channels == 24
    with pytest.raises(ValueError, match="with a network of your own, OwnNetwork, .*load_weights"):
        load_model(fitted.folder.best, written)
    again = CaceNet(
        OwnNetwork(), TopKSimilarity, held_out.num_identities, 24, conditional=ConditionalSettings("smooth")
    )
    assert load_weights(again, fitted.folder.best) == fitted.fusion_weight
    assert torch.equal(again.encoder.convolution.weight, model.encoder.convolution.weight)


def test_an_extractor_without_channels_or_with_channels_last_is_refused():
    with pytest.raises(ValueError, match="`channels`, a whole number .got Conv2d with None.*channels = 2048"):
        CaceNet(torch.nn.Conv2d(3, 8, 3), TopKSimilarity, 2)
    network = OwnNetwork()
    network.forward = lambda images: network.layers(images).permute(0, 2, 3, 1)
    with pytest.raises(ValueError, match=r"return a map \(image, 8, H, W\) \(got \(2, 6, 3, 8\)\)"):
        CaceNet(network, TopKSimilarity, 2)(torch.zeros(2, 3, 48, 24))
