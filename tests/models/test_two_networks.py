"""The embedding of one network, and the clues of another."""

import pytest
import torch
from torch.nn.functional import interpolate

from cace_pyg.graph import Clues
from cace_pyg.models import Backbone, Individual, TwoNetworks


class Small(torch.nn.Module):
    channels = 8

    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Conv2d(3, 8, 4, stride=4)

    def forward(self, images):
        feature_map = self.layer(images)
        return Individual(feature_map.mean((2, 3)), Clues.from_map(feature_map))


@pytest.mark.parametrize("size", [None, (24, 12)])
@torch.no_grad()
def test_each_part_comes_from_its_network(size):
    first, second, images = Small(), Small(), torch.randn(2, 3, 48, 24)
    both = TwoNetworks(first, second, size)
    smaller = images if size is None else interpolate(images, size, mode="bilinear", antialias=True)
    found = both(images)
    torch.testing.assert_close(found.embedding, first(smaller).embedding)
    torch.testing.assert_close(found.clues.features, second(images).clues.features)
    assert both.channels == 8 and found.clues.grid == (12, 6)


def test_a_first_network_without_an_embedding_is_refused():
    with pytest.raises(ValueError, match=r"an embedding of its own in first place \(got Backbone, which has none\)"):
        TwoNetworks(Backbone("small_cnn"), Small())(torch.randn(2, 3, 48, 24))
