"""Networks of timm with weights drawn anew: their last map or patch tokens, literally rearranged."""

import sys

import pytest
import torch

from cace_pyg.config import from_yaml
from cace_pyg.engine.build import build_extractor
from cace_pyg.models import Backbone, TimmExtractor

CNNS = ["convnext_atto", "resnet18", "efficientnet_b0"]
TRANSFORMERS = [("vit_small_patch14_reg4_dinov2", 14, 5), ("vit_tiny_patch16_224", 16, 1), ("test_vit", 16, 1)]


@pytest.fixture(scope="module")
def images():
    return torch.rand(2, 3, 64, 32, generator=torch.Generator().manual_seed(1)) * 2 - 1


def extracted(extractor, images):
    with torch.no_grad():
        return extractor.eval()(images)


def as_given(extractor, images):
    """What the network itself sees."""
    return images * extractor.scale + extractor.shift


@pytest.mark.parametrize("name", CNNS)
def test_the_clues_of_a_cnn_are_the_pixels_of_its_last_map(name, images):
    extractor = TimmExtractor(f"timm/{name}", (64, 32)).eval()
    embedding, clues = extracted(extractor, images)
    network = extractor.network
    with torch.no_grad():
        features = network.forward_features(as_given(extractor, images))
        assert torch.equal(embedding, network(as_given(extractor, images)))
    assert clues.grid == extractor.grid == (2, 1) and features.shape == (2, extractor.channels, 2, 1)
    for row in range(2):
        assert torch.equal(clues.features[:, row], features[:, :, row, 0])


def test_the_clues_of_a_swin_are_its_last_map_whose_channels_stand_last_in_timm(images):
    extractor = TimmExtractor("swin_tiny_patch4_window7_224", (64, 32))
    embedding, clues = extracted(extractor, images)
    with torch.no_grad():
        features = extractor.network.forward_features(as_given(extractor, images))
        assert torch.equal(embedding, extractor.network(as_given(extractor, images)))
    assert features.shape == (2, 2, 1, 768) and clues.grid == (2, 1)
    for row in range(2):
        assert torch.equal(clues.features[:, row], features[:, row, 0])


@pytest.mark.parametrize(("name", "patch", "others"), TRANSFORMERS)
def test_the_clues_of_a_transformer_are_its_patch_tokens_without_class_and_registers(name, patch, others):
    extractor = TimmExtractor(name, (4 * patch, 2 * patch))
    images = torch.rand(2, 3, 4 * patch, 2 * patch)
    embedding, clues = extracted(extractor, images)
    with torch.no_grad():
        tokens = extractor.network.forward_features(as_given(extractor, images))
        assert torch.equal(embedding, extractor.network(as_given(extractor, images)))
    assert clues.grid == extractor.grid == (4, 2) and tokens.size(1) == others + 8
    for number in range(8):
        assert torch.equal(clues.features[:, number], tokens[:, others + number])


def test_a_clue_is_the_token_of_its_own_patch_row_by_row():
    """Without attention a token sees its own patch alone."""
    extractor = TimmExtractor("test_vit", (64, 48)).eval()
    extractor.network.blocks = torch.nn.Sequential()
    images = torch.rand(1, 3, 64, 48)
    changed = images.clone()
    changed[:, :, 32:48, 16:32] += 1  # third row, second column
    difference = extracted(extractor, images).clues.features - extracted(extractor, changed).clues.features
    assert difference.abs().amax(2).flatten().nonzero().flatten().tolist() == [2 * 3 + 1]


def test_without_its_embedding_it_gives_the_map_or_clues_alone(images):
    map_ = extracted(TimmExtractor("resnet18", (64, 32), own_embedding=False), images)
    clues = extracted(TimmExtractor("test_vit", (64, 32), own_embedding=False), images)
    assert map_.shape == (2, 512, 2, 1) and clues.features.shape == (2, 8, 64)


def test_pictures_come_as_the_network_was_trained_to_see_them():
    """Grey 128 of 255 is 0.5, whatever the normalisation; null is what timm says of the name."""
    images = ((torch.full((1, 3, 32, 32), 0.5) - torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1))
              / torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1))  # fmt: skip
    seen = {form: as_given(TimmExtractor("resnet18", (32, 32), normalisation=form), images)[0, :, 0, 0] for form in
            ("imagenet", "symmetric", "clip", "unit", "pixels")}  # fmt: skip
    assert torch.allclose(seen["unit"], torch.full((3,), 0.5)) and torch.allclose(
        seen["pixels"], torch.full((3,), 127.5)
    )
    assert torch.allclose(seen["imagenet"], images[0, :, 0, 0])
    assert torch.allclose(seen["symmetric"], torch.zeros(3), atol=1e-6)
    assert torch.allclose(seen["clip"], torch.tensor([0.06904, 0.16139, 0.33284]), atol=1e-4)
    vit = TimmExtractor("vit_tiny_patch16_224", (32, 32))  # trained with pictures of -1 to 1
    assert torch.allclose(as_given(vit, images), torch.zeros(1, 3, 32, 32), atol=1e-6)
    with pytest.raises(ValueError, match="Expected normalisation imagenet, symmetric, clip"):
        TimmExtractor("resnet18", normalisation="mean")


@pytest.mark.parametrize(
    ("name", "size", "words"),
    [
        ("vit_small_patch14_reg4_dinov2", (256, 128), "14×14 pixels.*give --data.height 252 --data.width 126"),
        ("nest_tiny", (256, 128), "does not take pictures of 256×128 .*square.*change --data.height"),
        ("convit_tiny", (64, 32), "made for 224×224, does not take pictures of 64×32"),
        ("vit_tiny_patch16", (64, 32), "Expected the name of a model of timm.*near names: timm/vit_tiny_patch16_"),
        ("resnet18.nowhere", (64, 32), r"weights of timm/resnet18 that timm knows \(got nowhere; known: .*a1_in1k"),
        ("hf_hub:timm/resnet18", (64, 32), "Expected the name of a model of timm"),
    ],
)
def test_a_network_that_does_not_take_the_pictures_is_refused_in_words(name, size, words):
    with pytest.raises(ValueError, match=words):
        TimmExtractor(f"timm/{name}", size)


def test_pictures_of_another_size_than_it_was_built_for_are_refused():
    with pytest.raises(ValueError, match=r"Expected images of 64×32.*\(got 32×32\).*size=\(32, 32\)"):
        TimmExtractor("test_vit", (64, 32))(torch.zeros(1, 3, 32, 32))
    assert TimmExtractor("resnet18", (64, 32)).eval()(torch.zeros(1, 3, 32, 96)).clues.grid == (1, 3)


def test_torchvisions_swin_is_no_feature_map_and_refused():
    with pytest.raises(ValueError, match="its channels come last.*choose timm/"):
        Backbone("swin_t", last_stride=2)


def test_without_timm_the_error_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(RuntimeError, match=r"needs timm: pip install 'cace-pyg\[timm\]'"):
        TimmExtractor("resnet18")


def test_weights_that_cannot_be_downloaded(monkeypatch):
    import timm

    create = timm.create_model

    def offline(name, pretrained=False, **options):
        if pretrained:
            raise OSError("cannot find the requested files. Check your connection")
        return create(name, **options)

    monkeypatch.setattr(timm, "create_model", offline)
    with pytest.raises(RuntimeError, match="cannot get timm's weights of timm/resnet18.*--backbone.weights PATH"):
        TimmExtractor("resnet18", weights="imagenet")
    with pytest.raises(ValueError, match="timm has no weights for timm/vit_small_patch16_18x2_224"):
        TimmExtractor("vit_small_patch16_18x2_224", weights="imagenet")


@pytest.mark.parametrize("option", ["--backbone.last_stride=1", "--backbone.stem=fast_reid"])
def test_what_a_network_of_timm_does_not_have_is_refused(option):
    config = from_yaml("data:\n  root: x\n", "--backbone.name=timm/resnet18", option)
    with pytest.raises(ValueError, match="timm/resnet18 cannot be changed"):
        build_extractor(config, published=False)
    other = from_yaml("data:\n  root: x\n", "--backbone.name=resnet18", "--backbone.normalisation=clip")
    with pytest.raises(
        ValueError, match="backbone.normalisation is for networks from ONNX or OpenVINO files or from timm"
    ):
        build_extractor(other, published=False)
