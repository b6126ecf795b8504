"""IBN-a ResNets against those of IBN-Net, whose outputs were computed once and are kept here as numbers."""

import pytest
import torch

from cace_pyg.models import Backbone, PublishedEmbedding


def filled(name):
    """Weights that two programs can make alike: waves, and norms near one."""
    state = Backbone(name).trunk.state_dict()
    for key, value in state.items():
        if value.is_floating_point():
            wave = torch.sin(torch.arange(value.numel(), dtype=torch.float64) * 0.37 + len(key)).view(value.shape)
            scale = 1 / value[0].numel() ** 0.5 if value.dim() > 1 else 0.1
            value.copy_(wave.float() * scale + float(value.dim() == 1 and key.endswith(("weight", "running_var"))))
    return state


def picture(height, width):
    return torch.sin(torch.arange(3 * height * width, dtype=torch.float64) * 0.01).view(1, 3, height, width).float()


# github.com/XingangPan/IBN-Net at d167338: the map of the filled network on picture(64, 32), mean((2, 3))[0, :8]
POOLED = {
    "resnet18_ibn_a": [0.39879, 0.6672, 0.74042, 0.72861, 0.47633, 0.13208, 0.0, 0.00269],
    "resnet50_ibn_a": [5.41083, 4.88408, 1.30998, 1.83273, 4.52806, 0.0, 0.0, 8.43195],
}


@pytest.mark.parametrize("name", POOLED)
def test_a_file_of_ibn_net_gives_its_map(name, tmp_path):
    torch.save(filled(name) | {"fc.weight": torch.zeros(3, 9), "fc.bias": torch.zeros(3)}, tmp_path / "ibn.pth")
    backbone = Backbone(name, str(tmp_path / "ibn.pth"), last_stride=2).eval()
    with torch.no_grad():
        pooled = backbone(picture(64, 32)).mean((2, 3))[0, :8]
    assert torch.allclose(pooled, torch.tensor(POOLED[name]), atol=5e-5)
    assert backbone.loaded_weights.skipped == ("fc.bias", "fc.weight")


@pytest.fixture
def fast_reid_file(tmp_path):
    """As fast-reid saves a network with IBN, generalised mean and BN neck."""
    state = {f"backbone.{key}": value for key, value in filled("resnet50_ibn_a").items()}
    state |= {f"heads.bottleneck.0.{field}": torch.ones(2048) for field in ("weight", "running_mean", "running_var")}
    state |= {"heads.bottleneck.0.bias": torch.zeros(2048), "heads.pool_layer.p": torch.tensor([3.0])}
    state |= {"heads.weight": torch.zeros(751, 2048), "pixel_mean": torch.zeros(1, 3, 1, 1)}
    torch.save({"model": state, "iteration": 9}, tmp_path / "fast_reid.pth")
    return str(tmp_path / "fast_reid.pth")


def test_a_fast_reid_file_loads_with_its_neck(fast_reid_file):
    backbone = Backbone("resnet50_ibn_a", fast_reid_file, last_stride=1, stem="fast_reid")
    model = PublishedEmbedding(backbone).eval()
    assert model.layers == ["generalised mean", "BatchNorm1d 2048"]
    assert model.loaded_weights.skipped == ("heads.weight", "pixel_mean", "iteration")
    with torch.no_grad():
        embedding, clues = model(picture(64, 32))
    pooled = clues.features.clamp_min(1e-6).pow(3).mean(1).pow(1 / 3)
    assert torch.allclose(embedding, (pooled - 1) / (1 + 1e-5) ** 0.5, atol=1e-4)


def test_a_plain_resnet_refuses_it_and_names_the_one_that_takes_it(fast_reid_file):
    with pytest.raises(ValueError, match=r"bn1\.BN\..* or --backbone.name resnet50_ibn_a"):
        Backbone("resnet50", fast_reid_file)


def test_half_of_the_channels_of_an_image_do_not_see_its_contrast():
    """Instance normalisation takes scale and offset away, in layers 1 to 3 alone."""
    trunk = Backbone("resnet50_ibn_a").trunk
    norms = {name for name, module in trunk.named_modules() if type(module).__name__ == "InstanceBatchNorm"}
    blocks = {1: 3, 2: 4, 3: 6}
    assert norms == {f"layer{stage}.{number}.bn1" for stage in blocks for number in range(blocks[stage])}
    norm, x = trunk.layer1[0].bn1.eval(), torch.rand(2, 64, 8, 4)
    plain, changed = norm(x), norm(5 * x + 2)
    assert torch.allclose(plain[:, :32], changed[:, :32], atol=2e-3)
    assert (plain[:, 32:] - changed[:, 32:]).abs().min() > 1


def test_imagenet_weights_are_where_their_authors_keep_them():
    with pytest.raises(ValueError, match="resnet50_ibn_a has no ImageNet weights here.*github.com/XingangPan/IBN-Net"):
        Backbone("resnet50_ibn_a", "imagenet")
