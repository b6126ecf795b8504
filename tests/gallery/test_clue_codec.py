"""What a gallery keeps of a picture's clues, and how many bytes that is."""

from dataclasses import replace

import pytest
import torch

from cace_pyg.gallery import Embedder
from cace_pyg.gallery.clue_codec import ClueCodec
from cace_pyg.graph import Clues
from cace_pyg.models import PairOperand, keep_clues
from tests.random_checkpoint import make_checkpoint


@pytest.fixture(scope="module")
def embedder(tiny, tmp_path_factory):
    folder = tmp_path_factory.mktemp("between")
    return Embedder(make_checkpoint(folder / "best.ckpt", tiny, **{"conditional.edges": "inter"}), "cpu")


@pytest.fixture(scope="module")
def prepared(embedder, splits):
    return embedder([sample.path for sample in splits.gallery[:6]]).prepared


def both(operand):
    return operand.compared.features, operand.projected


@pytest.mark.parametrize("clues", [None, 1, 5])
@pytest.mark.parametrize(("precision", "step"), [("int8", 1 / 127), ("int4", 1 / 7)])
def test_every_number_is_kept_to_half_a_step_of_its_clue(embedder, prepared, precision, step, clues):
    codec = ClueCodec(embedder.example.prepared, precision, clues)
    found = codec.decode(codec.encode(prepared), embedder.model)
    kept = prepared if clues is None else keep_clues(prepared, clues)
    if clues is not None:
        assert torch.equal(found.merged.group, kept.merged.group) and found.merged.grid == kept.merged.grid
    for values, exact in zip(both(found), both(kept), strict=True):
        assert values.shape == exact.shape
        largest = exact.abs().amax(2, keepdim=True)
        assert ((values - exact).abs() <= (0.5 * step + 2e-3) * largest + 1e-7).all()
    torch.testing.assert_close(
        found.individual, prepared.individual, rtol=0, atol=float(prepared.individual.abs().max()) / 127
    )


def test_bytes_of_a_picture_are_what_is_written(embedder, prepared):
    example = embedder.example.prepared
    n, individual = example.projected.size(1), example.individual.size(1)
    channels = example.compared.features.size(2) + example.projected.size(2)
    assert ClueCodec(example, "float16").bytes_per_image == 2 * individual + n * 2 * channels
    assert ClueCodec(example, "int8").bytes_per_image == 2 * individual + n * (channels + 8)
    fewer = ClueCodec(example, "int4", 5)
    halves = -(-example.compared.features.size(2) // 2) - (-example.projected.size(2) // 2)
    assert fewer.bytes_per_image == individual + 4 + 5 * (halves + 4) + n
    assert {len(blob) for blob in fewer.encode(prepared)} == {fewer.bytes_per_image}


def test_odd_channels_are_packed_too(embedder, prepared):
    odd = replace(prepared, projected=prepared.projected[..., :7])
    codec = ClueCodec(odd, "int4")
    found = codec.decode(codec.encode(odd), embedder.model).projected
    assert ((found - odd.projected).abs() <= 0.08 * odd.projected.abs().amax(2, keepdim=True)).all()


def test_all_clues_are_kept_as_galleries_without_the_setting_keep_them(embedder, prepared):
    n = prepared.projected.size(1)
    for precision in ("int8", "float16"):
        as_before, all_clues = (ClueCodec(embedder.example.prepared, precision, clues) for clues in (None, n))
        assert all_clues.encode(prepared) == as_before.encode(prepared) and all_clues.clues is None


def test_more_clues_than_a_byte_counts_are_kept(embedder):
    drawn = torch.Generator().manual_seed(0)
    clues = Clues(torch.randn(2, 400, 4, generator=drawn), (20, 20))
    large = PairOperand(clues, torch.zeros(2, 0, 0), torch.randn(2, 400, 8, generator=drawn), torch.zeros(2, 3))
    codec = ClueCodec(large, "int8", 300)
    found = codec.decode(codec.encode(large), embedder.model)
    assert int(found.merged.group.max()) == 299
    torch.testing.assert_close(
        found.expanded().projected, keep_clues(large, 300).expanded().projected, atol=0.02, rtol=0
    )


def test_bad_numbers_are_refused(embedder, prepared):
    codec = ClueCodec(embedder.example.prepared, "int4")
    for bad, message in ((float("nan"), "finite numbers"), (1e7, "half precision")):
        broken = prepared.select(slice(0, 1))
        broken.projected[0, 0, 0] = bad
        with pytest.raises(ValueError, match=message):
            codec.encode(broken)
    with pytest.raises(ValueError, match=r"bytes of clues per image \(got 3 for 1 of 1\)"):
        codec.decode([b"abc"], embedder.model)
