"""Backbones: resolution, weights from a file, and what is refused."""

import pytest
import torch

from cace_pyg.models import Backbone
from cace_pyg.torchvision_operators import import_torchvision


@pytest.mark.parametrize(
    ("name", "channels", "stride"),
    [("small_cnn", 256, 8), ("resnet18", 512, 16), ("resnet50", 2048, 16), ("mobilenet_v2", 1280, 16)],
)
def test_last_stride_one_doubles_the_resolution(name, channels, stride):
    backbone = Backbone(name).eval()
    assert backbone.channels == channels
    assert backbone(torch.zeros(1, 3, 96, 64)).shape == (1, channels, 96 // stride, 64 // stride)


def test_last_stride_two_leaves_the_network_as_it_is():
    assert Backbone("resnet18", last_stride=2).eval()(torch.zeros(1, 3, 96, 64)).shape == (1, 512, 3, 2)


def test_features_are_torchvisions(tmp_path):
    network = import_torchvision("models").get_model("mobilenet_v2", weights=None).eval()
    file = tmp_path / "weights.pth"
    torch.save({k: v for k, v in network.state_dict().items() if not k.startswith("classifier")}, file)
    backbone = Backbone("mobilenet_v2", str(file), last_stride=2).eval()
    images = torch.rand(2, 3, 64, 32)
    torch.testing.assert_close(backbone(images), network.features(images))


def test_weights_of_another_network_are_refused(tmp_path):
    file = tmp_path / "weights.pth"
    torch.save(Backbone("small_cnn").trunk.state_dict(), file)
    with pytest.raises(ValueError, match=r"does not contain weights of resnet18: \d+ keys missing.*--backbone.name"):
        Backbone("resnet18", str(file))


def test_missing_and_broken_weight_files(tmp_path):
    with pytest.raises(FileNotFoundError, match="no weights file at .*backbone.weights"):
        Backbone("resnet18", str(tmp_path / "none.pth"))
    broken = tmp_path / "broken.pth"
    broken.write_bytes(b"not a checkpoint")
    with pytest.raises(ValueError, match="cannot read .*broken.pth"):
        Backbone("resnet18", str(broken))


def test_unknown_names_show_the_near_ones():
    with pytest.raises(ValueError, match="got 'resnet5'.*resnet50"):
        Backbone("resnet5")
    with pytest.raises(ValueError, match="vit_b_16 has no convolutional"):
        Backbone("vit_b_16")
    with pytest.raises(ValueError, match="last stride of vgg11 cannot be removed"):
        Backbone("vgg11")
    with pytest.raises(ValueError, match="small_cnn has no ImageNet weights"):
        Backbone("small_cnn", "imagenet")
