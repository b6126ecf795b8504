"""The model of a gallery, lent to what computes on the CPU while others search with it."""

import threading

import pytest
import torch

from cace_pyg import Gallery, OnnxExtractor
from cace_pyg.gallery import Embedder
from tests.frozen_networks import SmallReid, write_onnx

needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")


def lent_as_on_a_gpu(embedder, monkeypatch):
    """What a model on a GPU is lent as; its weights are really on the CPU, and nothing may move them."""
    moved = []
    for name in ("cpu", "to"):
        monkeypatch.setattr(torch.nn.Module, name, lambda module, *_: moved.append(module) or module)
    monkeypatch.setattr(embedder, "device", torch.device("cuda"))
    context = embedder.on_cpu()
    lent = context.__enter__()
    monkeypatch.undo()
    assert moved == [lent]
    return context, lent


def test_a_search_meets_its_own_model_while_a_copy_is_lent(checkpoint, pictures, monkeypatch):
    embedder = Embedder(checkpoint, "cpu")
    before = embedder(pictures[:4])
    a, b = before.prepared.select(slice(0, 1)), before.prepared
    with torch.no_grad():
        distance = embedder.model.pair_stage.distance(a, b)
        context, lent = lent_as_on_a_gpu(embedder, monkeypatch)
        assert torch.equal(lent.pair_stage.distance(a, b), distance)
        for weight in lent.parameters():  # whatever happens to the copy
            weight.fill_(torch.nan)
        during = embedder(pictures[:4])
        assert torch.equal(during.embedding, before.embedding)
        assert torch.equal(embedder.model.pair_stage.distance(a, during.prepared), distance)
    context.__exit__(None, None, None)
    assert torch.equal(embedder(pictures[:4]).embedding, before.embedding)


def test_a_network_in_a_file_is_shared_with_the_copy(checkpoint, tmp_path, monkeypatch):
    embedder = Embedder(checkpoint, "cpu")
    network = write_onnx(SmallReid("adaptive").eval(), tmp_path / "reid.onnx")
    embedder.model.extractor = OnnxExtractor(network, size=(48, 24))
    _, lent = lent_as_on_a_gpu(embedder, monkeypatch)
    assert lent.extractor is embedder.model.extractor and lent.pair_stage is not embedder.model.pair_stage


def test_on_the_cpu_the_model_itself_is_lent(checkpoint):
    embedder = Embedder(checkpoint, "cpu")
    with embedder.on_cpu() as lent:
        assert lent is embedder.model


@needs_cuda
def test_another_thread_searches_on_the_gpu_while_a_figure_is_made(checkpoint, pictures, tmp_path):
    gallery = Gallery.create(tmp_path / "people.lance", checkpoint, device="cuda")
    gallery.add(pictures)
    expected = [hit.distance for hit in gallery.search(pictures[0])]
    found = []
    with gallery.embedder.on_cpu() as lent:
        assert {weight.device.type for weight in lent.parameters()} == {"cpu"}
        thread = threading.Thread(target=lambda: found.extend(hit.distance for hit in gallery.search(pictures[0])))
        thread.start()
        thread.join()
    assert found == pytest.approx(expected, abs=1e-6) and len(found) == 10
