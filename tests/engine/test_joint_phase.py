"""The pictures of the joint phase."""

import pytest
import torch

from cace_pyg.config import Config, JointPhaseSettings, PairPhaseSettings
from cace_pyg.data import read_market_layout
from cace_pyg.data.read_dataset import DataSettings
from cace_pyg.engine.joint_phase import JointPhase, two_thirds
from cace_pyg.engine.preflight import check_trainable
from cace_pyg.engine.ranks import Ranks
from cace_pyg.graph import FullyConnected
from cace_pyg.models import CaceNet


def configured(tiny, **joint):
    settings = JointPhaseSettings(epochs=3, batches_per_epoch=2, num_identities=4, num_instances=2, **joint)
    return Config(
        DataSettings(str(tiny), height=48, width=24), joint_phase=settings, pair_phase=PairPhaseSettings(epochs=0)
    )


def test_the_first_epochs_see_small_pictures(tiny):
    samples = read_market_layout(tiny).train
    small, whole = (JointPhase(configured(tiny, small_epochs=n), samples, Ranks()) for n in (2, 0))
    shapes = [next(small.batches(epoch))[0].shape for epoch in range(3)]
    assert shapes == [(8, 3, 32, 16), (8, 3, 32, 16), (8, 3, 48, 24)]
    for (one, labels), (other, their_labels) in zip(small.batches(0), whole.batches(0), strict=True):
        assert labels.equal(their_labels)
        torch.testing.assert_close(one, two_thirds(other))  # the same draws and augmentation
    assert next(small.batches(2))[0].equal(next(whole.batches(2))[0])


@pytest.mark.parametrize(
    ("size", "small"), [((96, 48), (64, 32)), ((256, 128), (168, 88)), ((384, 128), (256, 88)), ((8, 9), (8, 8))]
)
def test_two_thirds_are_whole_steps_of_a_network(size, small):
    assert two_thirds(torch.rand(1, 3, *size)).shape[-2:] == small


def test_a_flat_picture_stays_what_it_is():
    picture = torch.tensor([0.2, 0.5, -1.0]).view(1, 3, 1, 1).expand(1, 3, 48, 24)
    torch.testing.assert_close(two_thirds(picture), picture[..., :32, :16])


class FixedSize(torch.nn.Module):
    channels = 4

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(4, 3))

    def forward(self, images):
        if images.shape[-2:] != (48, 24):
            raise AssertionError("Input height (32) doesn't match model (48)")
        return torch.einsum("nchw,dc->ndhw", images[..., ::4, ::4], self.weight)


def test_a_network_of_one_size_is_refused_before_training(tiny):
    model = CaceNet(FixedSize(), FullyConnected, num_identities=12, embedding_channels=8)
    with pytest.raises(ValueError, match=r"two thirds the size for joint_phase.small_epochs .*doesn't match.*at 0"):
        check_trainable(model, configured(tiny, small_epochs=1), 12, torch.device("cpu"))
    check_trainable(model, configured(tiny), 12, torch.device("cpu"))
