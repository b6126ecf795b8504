"""Averaging with the mirrored picture: the same in evaluation, galleries and files of vectors."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps

from cace_pyg import Gallery, embed_pictures
from cace_pyg.data.transforms import evaluation_transform
from cace_pyg.engine.extraction import extract_clues, extract_embeddings
from cace_pyg.export import main as export
from cace_pyg.gallery import Embedder
from tests.random_checkpoint import make_checkpoint


@pytest.fixture(scope="module")
def flipping(tiny, tmp_path_factory):
    """The same weights as ``checkpoint``, trained with evaluation.flip."""
    return make_checkpoint(tmp_path_factory.mktemp("flip") / "best.ckpt", tiny, **{"evaluation.flip": "true"})


def test_evaluation_compares_the_mean_with_the_mirrored_picture_and_keeps_the_clues(flipping, checkpoint, splits):
    embedder, plain = Embedder(flipping), Embedder(checkpoint)
    samples = splits.gallery[:3]
    embedding, clues = extract_clues(embedder.model, samples, embedder.config, embedder.device)
    images = torch.stack([evaluation_transform()(plain.resize(Image.open(sample.path))) for sample in samples])
    images = images.to(plain.device)
    with torch.no_grad():
        mean = (plain.model(images).embedding + plain.model(images.flip(3)).embedding) / 2
        assert torch.allclose(clues.features, plain.model(images).clues.features.cpu(), atol=1e-5)
    expected = (mean / mean.norm(dim=1, keepdim=True)).cpu()
    assert torch.allclose(embedding, expected, atol=1e-5)
    assert (embedding - extract_embeddings(plain.model, samples, plain.config, plain.device)).abs().max() > 1e-3


def test_galleries_and_vectors_have_what_evaluation_has(flipping, splits):
    embedder, samples = Embedder(flipping), splits.gallery[:3]
    expected = extract_embeddings(embedder.model, samples, embedder.config, embedder.device)
    pictures = [sample.path for sample in samples]
    assert torch.allclose(embedder(pictures).embedding, expected, atol=1e-5)
    assert torch.allclose(embed_pictures(pictures, flipping), expected, atol=1e-5)


def test_a_mirrored_picture_is_the_same_to_it(flipping, checkpoint, pictures):
    picture = Image.open(pictures[0]).convert("RGB").resize((24, 48))
    both = [np.asarray(picture), np.asarray(ImageOps.mirror(picture))]
    upright, mirrored = embed_pictures(both, flipping)
    assert torch.allclose(upright, mirrored, atol=1e-5)
    upright, mirrored = embed_pictures(both, checkpoint)
    assert (upright - mirrored).abs().max() > 1e-3


def test_a_gallery_refuses_queries_embedded_otherwise(checkpoint, flipping, pictures, tmp_path):
    made = {}
    for name, model in (("plain", checkpoint), ("flipped", flipping)):
        Gallery.create(tmp_path / name, model).add(pictures[:4])
        made[name] = Gallery.open(tmp_path / name).search(pictures[1], top_k=2)
        assert made[name].first_stage[0].path == Path(pictures[1])
    for name, override in (("plain", "true"), ("flipped", "false")):
        with pytest.raises(ValueError, match="their embeddings cannot be compared"):
            Gallery.open(tmp_path / name, overrides=[f"--evaluation.flip={override}"])


def test_export_says_that_it_has_no_mirror_image(flipping, tmp_path, capsys):
    assert export(["--checkpoint", str(flipping), "--output", str(tmp_path / "onnx")]) == 2
    assert "Expected evaluation.flip false (got true)" in capsys.readouterr().err
    assert not (tmp_path / "onnx").exists()
