"""The embedding of one network, and the clues of another."""

import pytest
import torch
from torch.nn.functional import interpolate

from cace_pyg.graph import Clues
from cace_pyg.models import Backbone, Individual, OnnxExtractor, TwoNetworks


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
    vectors = TwoNetworks(lambda pictures: first(pictures).embedding, second, size)(images)
    torch.testing.assert_close(vectors.embedding, found.embedding)


def test_it_says_in_a_line_what_comes_from_where():
    said = str(TwoNetworks(Small(), Backbone("small_cnn"), (24, 12)))
    assert said == "embedding of Small of pictures of 24×12, clues of Backbone (256 channels)"


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda: TwoNetworks(Backbone("small_cnn"), Small()), r"got \(2, 256, 6, 3\) of Backbone\); .* comes second"),
        (lambda: TwoNetworks("best.ckpt", Small()), r"a network as embedding \(got str\); .*from_pretrained"),
        (lambda: TwoNetworks(Small(), "best.ckpt"), "a network as clues .got str"),
        (lambda: TwoNetworks(Small(), torch.nn.Identity()), "with `channels` as clues .got Identity without"),
        (lambda: TwoNetworks(Small(), Small(), 24), r"such as \(128, 64\) \(got 24\)"),
        (lambda: TwoNetworks(Small(), Small(), (0, 12)), r"in pixels, .* \(got \(0, 12\)\)"),
        (lambda: TwoNetworks(Small(), Small(), (12, 24)), r"that reduce to 12×24 .* \(got 48×24\)"),
        (lambda: TwoNetworks(Small(), Small(), (96, 48)), "96×48 for the first network .got 48×24.; give larger ones"),
    ],
)
def test_wrong_networks_and_sizes_are_refused_in_words(make, told):
    with pytest.raises(ValueError, match=told):
        make()(torch.randn(2, 3, 48, 24))


@torch.no_grad()
def test_the_map_of_a_file_with_both_is_found(tmp_path):
    """It is not that of the network that makes the embedding."""
    first, second = Small().eval(), Small().eval()

    class Both(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.both = TwoNetworks(first, second)

        def forward(self, images):
            embedding, clues = self.both(images)
            return embedding, clues.features.mT.unflatten(2, clues.grid)

    path, images = tmp_path / "both.onnx", torch.randn(2, 3, 48, 24)
    names = {"input_names": ["images"], "output_names": ["embedding", "clues"]}
    torch.onnx.export(Both(), (images,), path, dynamo=True, external_data=False, verbose=False, **names)
    found = OnnxExtractor(path)(images)
    torch.testing.assert_close(found.embedding, first(images).embedding, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(found.clues.features, second(images).clues.features, rtol=1e-4, atol=1e-5)
