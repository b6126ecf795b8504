"""Files in the names of several projects, made from a network of timm whose weights were drawn anew."""

import pytest
import torch

from cace_pyg.models import TimmExtractor
from cace_pyg.torchvision_operators import import_torchvision

import_torchvision("models")  # timm imports it, and one for GPUs beside a torch for CPUs has to be helped
timm = pytest.importorskip("timm")
SIZE = (64, 32)  # 4×2 patches of 16
CLASS_TOKEN = [-1.14373, -1.67229, 0.04304, -1.45207, 0.46172]
SIXTH_PATCH = [-1.60124, -0.89669, 0.50209, -1.51882, 0.41906]


@pytest.fixture(scope="module")
def original():
    torch.manual_seed(4)
    return TimmExtractor("test_vit", SIZE).eval()


@pytest.fixture
def shallow(monkeypatch):
    """Networks of two blocks instead of twelve, which have all names."""
    create = timm.create_model
    monkeypatch.setattr(timm, "create_model", lambda *names, **options: create(*names, depth=2, **options))


@pytest.fixture
def save(tmp_path):
    def save_as(content):
        torch.save(content, tmp_path / "weights.pth")
        return str(tmp_path / "weights.pth")

    return save_as


def same(loaded, original):
    images = torch.rand(2, 3, *original.size)
    with torch.no_grad():
        ours, theirs = loaded.eval()(images), original(images)
    return torch.allclose(ours.embedding, theirs.embedding, atol=1e-6) and torch.allclose(
        ours.clues.features, theirs.clues.features, atol=1e-6
    )


@pytest.mark.parametrize("prefix", ["", "module.", "base.", "model.backbone."])
def test_timms_own_names_load_under_any_prefix(original, save, prefix):
    """As TransReID keeps its own, under ``base.``, with classifier and BN neck beside it."""
    state = {prefix + key: value for key, value in original.network.state_dict().items()}
    state |= {f"{prefix}head.weight": torch.zeros(5, 64), "bottleneck.weight": torch.zeros(64)}
    loaded = TimmExtractor("test_vit", SIZE, save({"state_dict": state, "epoch": 3}))
    assert same(loaded, original) and loaded.loaded_weights.prefix == prefix
    assert set(loaded.loaded_weights.skipped) == {f"{prefix}head.weight", "bottleneck.weight", "epoch"}


def test_what_is_missing_unknown_or_of_another_network_is_refused_and_nothing_is_loaded(original, save):
    state = original.network.state_dict()
    lacking = {key: value for key, value in state.items() if key != "blocks.0.attn.qkv.bias"}
    with pytest.raises(ValueError, match=r"timm/test_vit: 1 keys missing \['blocks.0.attn.qkv.bias'\]"):
        TimmExtractor("test_vit", SIZE, save(lacking))
    sie = {f"base.{key}": value for key, value in state.items()} | {"base.sie_embed": torch.zeros(6, 1, 64)}
    with pytest.raises(ValueError, match=r"1 unknown \['sie_embed'\]"):  # of TransReID: it adds to every token
        TimmExtractor("test_vit", SIZE, save(sie))
    with pytest.raises(ValueError, match="does not contain weights of timm/resnet18"):
        TimmExtractor("resnet18", SIZE, save(state))


def clip_names(network, prefix):
    swaps = [("patch_embed.proj", "conv1"), ("blocks.", "transformer.resblocks."), ("norm_pre", "ln_pre"),
             ("mlp.fc1", "mlp.c_fc"), ("mlp.fc2", "mlp.c_proj"), ("attn.qkv.", "attn.in_proj_"),
             ("attn.proj", "attn.out_proj"), (".norm", ".ln_")]  # fmt: skip
    state = {}
    for key, value in network.state_dict().items():
        for ours, theirs in swaps:
            key = key.replace(ours, theirs)
        key = key.replace("norm.", "ln_post.") if key.startswith("norm.") else key
        if key == "cls_token":
            key, value = "class_embedding", value.flatten()
        elif key == "pos_embed":
            key, value = "positional_embedding", value[0]
        state[prefix + key] = value
    return state


def test_clip_reids_own_code_gives_the_same_numbers(save):
    """github.com/Syliz517/CLIP-ReID, model/clip/model.py, its vision transformer filled alike, computed once."""
    with torch.device("meta"):
        network = timm.create_model("vit_base_patch16_clip_quickgelu_224", num_classes=0, img_size=SIZE)
    named = clip_names(network, "image_encoder.")
    state = {key: torch.empty(value.shape) for key, value in named.items()}
    for key, value in state.items():
        wave = torch.sin(torch.arange(value.numel(), dtype=torch.float32) % 1009 * 0.37 + len(key)).view(value.shape)
        norm = ".ln_" in key and key.endswith("weight")
        value.copy_(wave * (0.1 if value.dim() < 2 else 0.05) + float(norm))
    state |= {"image_encoder.proj": torch.zeros(768, 512)}
    loaded = TimmExtractor("vit_base_patch16_clip_quickgelu_224", SIZE, save(state), normalisation="symmetric").eval()
    seen = torch.sin(torch.arange(3 * 64 * 32) * 0.01).view(1, 3, 64, 32)
    with torch.no_grad():
        embedding, clues = loaded((seen - loaded.shift) / loaded.scale)
    assert torch.allclose(embedding[0, :5], torch.tensor(CLASS_TOKEN), atol=1e-4)
    assert torch.allclose(clues.features[0, 5, :5], torch.tensor(SIXTH_PATCH), atol=1e-4)
    assert loaded.loaded_weights.skipped == ("image_encoder.proj",)


@pytest.mark.parametrize("prefix", ["visual.", "image_encoder.", "module.image_encoder."])
def test_clip_reids_names_load(shallow, save, prefix):
    """``image_encoder.``, with the projection, text encoder and necks that CLIP-ReID has beside it."""
    torch.manual_seed(5)
    original = TimmExtractor("vit_base_patch32_clip_quickgelu_224", (64, 32)).eval()
    state = clip_names(original.network, prefix)
    state |= {f"{prefix}proj": torch.rand(768, 512), "text_encoder.ln_final.weight": torch.zeros(512),
              "bottleneck.weight": torch.zeros(768), "classifier.weight": torch.zeros(7, 768)}  # fmt: skip
    loaded = TimmExtractor("timm/vit_base_patch32_clip_quickgelu_224", (64, 32), save(state))
    assert same(loaded, original) and loaded.loaded_weights.prefix == prefix
    assert {"classifier.weight", "bottleneck.weight"} <= set(loaded.loaded_weights.skipped)


def test_dinov2s_names_load_with_registers(shallow, save):
    """Meta's file: the class token has a position of its own, and there is a mask token."""
    torch.manual_seed(6)
    original = TimmExtractor("vit_small_patch14_reg4_dinov2", (56, 56)).eval()
    torch.nn.init.normal_(original.network.cls_token)
    state = dict(original.network.state_dict())
    position = torch.rand(1, 1, 384)
    state["register_tokens"], state["mask_token"] = state.pop("reg_token"), torch.zeros(1, 384)
    state["cls_token"] = state["cls_token"] - position[:, 0]
    state["pos_embed"] = torch.cat([position, state["pos_embed"]], dim=1)
    loaded = TimmExtractor("vit_small_patch14_reg4_dinov2", (56, 56), save(state))
    assert same(loaded, original)
    other = TimmExtractor("vit_small_patch14_reg4_dinov2", (56, 28), save(state))  # resampled from 4×4 to 4×2
    assert other.network.pos_embed.shape == (1, 8, 384)


def test_positions_of_a_square_grid_are_resampled_as_timm_does_it(save):
    from timm.layers import resample_abs_pos_embed

    square = TimmExtractor("test_vit", (64, 64))
    loaded = TimmExtractor("test_vit", SIZE, save(square.network.state_dict()))
    expected = resample_abs_pos_embed(square.network.pos_embed, new_size=[4, 2], old_size=[4, 4], num_prefix_tokens=1)
    assert torch.allclose(loaded.network.pos_embed, expected, atol=1e-6)


def test_positions_of_an_unknown_grid_are_refused(original, save):
    with pytest.raises(ValueError, match=r"positions of 8 patches, timm/test_vit of 6·3 = 18.*--data.height"):
        TimmExtractor("test_vit", (96, 48), save(original.network.state_dict()))
