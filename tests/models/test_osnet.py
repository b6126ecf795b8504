"""OSNet against torchreid's, whose outputs were computed once and are kept here as numbers."""

from pathlib import Path

import pytest
import torch

from cace_pyg.models import Backbone, PublishedEmbedding
from cace_pyg.models.osnet import OSNETS, osnet_layers

GIVEN = Path(__file__).parents[3] / "shared" / "weights" / "osnet"  # on the machines of this project alone


def fill(state):
    """Weights that two programs can make alike: waves, and norms near one."""
    for name, value in state.items():
        if value.is_floating_point():
            wave = torch.sin(torch.arange(value.numel(), dtype=torch.float64) * 0.37 + len(name)).view(value.shape)
            scale = 1 / max(value[0].numel(), 1) ** 0.5 if value.dim() > 1 else 0.1
            near_one = name.endswith(("running_var", "bn.weight", "IN.weight", "fc.1.weight"))
            value.copy_(wave.float() * scale + float(near_one))
    return state


def picture(height, width):
    return torch.sin(torch.arange(3 * height * width, dtype=torch.float64) * 0.01).view(1, 3, height, width).float()


# torchreid 1.4.0: featuremaps(…).mean((2, 3))[0, :6] of the filled network on picture(64, 32)
POOLED = {
    "osnet_x0_25": [0.0, 0.47365, 0.0, 0.12581, 0.3336, 0.0],
    "osnet_x0_5": [0.0, 0.0, 0.0, 0.29936, 0.80882, 1.14984],
    "osnet_ibn_x1_0": [0.0, 0.0, 1.1259, 1.7841, 1.05312, 0.0],
    "osnet_ain_x0_25": [0.0, 0.70651, 0.0, 0.50899, 0.02648, 0.20758],
    "osnet_ain_x1_0": [0.0, 0.02192, 0.39955, 0.67673, 0.47199, 0.03473],
}


@pytest.mark.parametrize("name", POOLED)
def test_the_map_is_torchreids(name):
    layers = osnet_layers(name).eval()
    layers.load_state_dict(fill(layers.state_dict()))
    with torch.no_grad():
        pooled = layers(picture(64, 32)).mean((2, 3))[0, :6]
    assert torch.allclose(pooled, torch.tensor(POOLED[name]), atol=2e-5)


def test_a_torchreid_file_loads_unchanged_with_its_neck(tmp_path):
    """Linear, BatchNorm and ReLU; the numbers are torchreid's embedding of the filled osnet_x0_25."""
    state = osnet_layers("osnet_x0_25").state_dict()
    state |= {"fc.0.weight": torch.zeros(512, 128), "fc.0.bias": torch.zeros(512)}
    state |= {f"fc.1.{field}": torch.zeros(512) for field in ("weight", "bias", "running_mean", "running_var")}
    state |= {"classifier.weight": torch.zeros(3, 512), "classifier.bias": torch.zeros(3)}
    torch.save(fill(state), tmp_path / "osnet.pth")
    model = PublishedEmbedding(Backbone("osnet_x0_25", str(tmp_path / "osnet.pth"))).eval()
    with torch.no_grad():
        embedding = model(picture(64, 32)).embedding[0]
    expected = torch.tensor([0.28345, 0.0, 0.29778, 0.0, 0.24839, 0.0])
    assert torch.allclose(embedding[:6], expected, atol=2e-5) and embedding.norm().item() == pytest.approx(4.91389)
    assert model.loaded_weights.skipped == ("classifier.bias", "classifier.weight")


@pytest.mark.parametrize(
    ("file", "positions", "values", "norm"),
    [
        ("osnet_x0_25_market1501.pth", [0, 1, 4, 6, 7, 9, 10, 11],
         [0.93159, 0.1358, 0.00114, 1.60203, 2.27408, 0.52083, 1.56986, 0.38066], 22.693821),
        ("osnet_x0_25_msmt17.pth", [0, 3, 4, 5, 6, 9, 10, 11],
         [0.64475, 1.029, 0.80745, 0.95574, 0.72823, 0.10365, 1.62308, 2.84512], 29.947010),
    ],
)  # fmt: skip
def test_published_files_give_torchreids_embedding(file, positions, values, norm):
    path = GIVEN / file
    if not path.is_file():
        pytest.skip("the published files are not on this machine")
    model = PublishedEmbedding(Backbone("osnet_x0_25", str(path))).eval()
    with torch.no_grad():
        embedding = model(picture(256, 128)).embedding[0]
    assert torch.allclose(embedding[positions], torch.tensor(values), atol=1e-4)
    assert embedding.norm().item() == pytest.approx(norm, abs=1e-4)


@pytest.mark.parametrize("name", OSNETS)
def test_every_size_has_its_channels_and_a_sixteenth_of_the_resolution(name):
    backbone = Backbone(name).eval()
    width = float(name.rpartition("x")[2].replace("_", "."))
    with torch.no_grad():
        assert backbone(torch.zeros(1, 3, 64, 32)).shape == (1, backbone.channels, 4, 2)
    assert backbone.channels == 512 * width


def test_strides_stay_and_there_are_no_imagenet_weights():
    with pytest.raises(ValueError, match="the strides of osnet_x0_25 cannot be changed"):
        Backbone("osnet_x0_25", last_stride=1)
    with pytest.raises(ValueError, match="osnet_x1_0 has no ImageNet weights here"):
        Backbone("osnet_x1_0", "imagenet")
