"""Distances of chosen pairs, one image at a time on a CPU and several at once on a GPU."""

import pytest
import torch

from cace_pyg.engine import measure_pairs
from cace_pyg.engine.clue_store import keep_where_it_fits
from cace_pyg.engine.extraction import Extraction
from cace_pyg.graph import Clues, CorrespondenceAttention
from cace_pyg.models import ConditionalEmbedding, ConditionalSettings, EmbeddingHead, PairOperand

LISTS = [torch.tensor([4, 0, 2]), torch.tensor([], dtype=torch.long), torch.tensor([1]), torch.tensor([0, 1, 2, 3, 4])]
needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")


@pytest.fixture
def stage():
    settings = ConditionalSettings(node_wise="mlp", width=4, edges="inter", compare="verification")
    made = ConditionalEmbedding(6, CorrespondenceAttention(6, width=4, sharpness=16.0), EmbeddingHead(6, 8), settings)
    torch.nn.init.normal_(made.expansion.weight)
    return made.eval()


def extraction(stage, images):
    prepared = stage.prepare(Clues(torch.rand(images, 6, 6), (3, 2)))
    return Extraction((), torch.rand(images, 8), PairOperand.concatenate([prepared]))


def by_hand(stage, first, second):
    pairs = [(i, int(j)) for i, near in enumerate(LISTS) for j in near]
    image = lambda images, i: images.prepared.select(slice(i, i + 1))  # noqa: E731
    return torch.cat([stage.distance(image(first, i), image(second, j)) for i, j in pairs])


@pytest.mark.parametrize("pairs_per_batch", [None, 1, 2, 4, 100])
@pytest.mark.parametrize(
    ("device", "one_by_one"), [("cpu", ("cpu",)), ("cpu", ()), pytest.param("cuda", ("cpu",), marks=needs_cuda)]
)
@torch.no_grad()
def test_every_pair_has_its_own_distance(stage, monkeypatch, device, one_by_one, pairs_per_batch):
    monkeypatch.setattr(measure_pairs, "_CPU", one_by_one)
    first, second = extraction(stage, 4), extraction(stage, 5)
    expected = by_hand(stage, first, second)
    found = measure_pairs.measure_lists(stage.to(device), first, second, LISTS, pairs_per_batch, device, progress=False)
    assert found.device.type == "cpu"
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_several_images_share_a_forward_pass_on_a_gpu(stage, monkeypatch):
    monkeypatch.setattr(measure_pairs, "_CPU", ())
    monkeypatch.setattr(measure_pairs, "_TOGETHER_ON_A_GPU", 3)
    first, second, seen = extraction(stage, 4), extraction(stage, 5), []
    distance = stage.distance
    monkeypatch.setattr(stage, "distance", lambda a, b: seen.append((len(a), len(b))) or distance(a, b))
    measure_pairs.measure_lists(stage, first, second, LISTS, 4, "cpu", progress=False)
    assert seen == [(4, 4), (1, 4), (1, 1)]  # of three images, and of the last alone, which is not copied


@needs_cuda
def test_clues_stay_on_the_host_where_the_card_is_too_small(stage, monkeypatch):
    prepared = extraction(stage, 5).prepared
    device = torch.device("cuda")
    assert keep_where_it_fits(prepared, device).individual.is_cuda
    assert keep_where_it_fits(prepared.compared, device).features.is_cuda
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (100, 1000))
    assert keep_where_it_fits(prepared, device) is prepared
