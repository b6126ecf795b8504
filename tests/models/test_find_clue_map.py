"""The map before the last pooling, in graphs written step by step."""

import pytest

from cace_pyg.models.find_clue_map import NetworkGraph, Step, find_clue_map

SIZE = (256, 128)


def graph(*steps, **shapes):
    """Steps as (kind, inputs, output, axes), each called as what it makes."""
    made = [Step(kind, f"make {output}", tuple(given.split()), (output,), axes) for kind, given, output, axes in steps]
    return NetworkGraph(tuple(made), shapes)


def find(network, named=None, size=SIZE, outputs=()):
    return find_clue_map(network, "embedding", size, named, "reid.onnx", outputs)


@pytest.mark.parametrize(
    ("outputs", "expected"),
    [
        (["embedding", "own"], "own"),
        (["embedding", "own", "mask", "attention"], "own"),
        (["embedding", "mask"], "map"),
        (["embedding", "attention"], "map"),
        (["embedding", "map"], "map"),
        (["embedding", "own", "second"], "map"),
    ],
)
def test_an_output_beside_the_embedding_that_could_be_clues_is_taken(outputs, expected):
    network = graph(
        ("Conv", "images w", "map", None), ("Conv", "images v", "own", None), ("Conv", "images u", "second", None),
        ("Conv", "images t", "mask", None), ("MatMul", "own own", "attention", None),
        ("ReduceMean", "map axes", "embedding", (2, 3)),
        images=(1, 3, *SIZE), map=(1, 32, 8, 4), own=(1, 16, 16, 8), second=(1, 16, 16, 8), mask=(1, 1, 16, 8),
        attention=(1, 8, 128, 128), embedding=(1, 32),
    )  # fmt: skip
    assert find(network, outputs=outputs).tensor == expected


def test_a_gate_after_which_no_pooling_comes_is_not_taken_for_it():
    network = graph(
        ("Conv", "images w", "features", None),
        ("GlobalAveragePool", "features", "gate", None),
        ("Mul", "features gate", "gated", None),
        ("Flatten", "gated", "flat", None),
        ("Gemm", "flat w2", "embedding", None),
        features=(1, 32, 16, 8), gate=(1, 32, 1, 1), gated=(1, 32, 16, 8), flat=(1, 4096), embedding=(1, 64),
    )  # fmt: skip
    with pytest.raises(ValueError, match=r"\(no global pooling\).*Candidates: gated \(1, 32, 16, 8\)$"):
        find(network)
    assert find(network, "gated")[:4] == ("gated", "NCHW", (16, 8), 32)


def test_what_is_not_on_the_way_to_the_embedding_says_nothing():
    network = graph(
        ("Conv", "images w", "features", None),
        ("ReduceMean", "features axes", "embedding", (-1, -2)),
        ("Conv", "features w2", "heads", None),
        ("GlobalMaxPool", "heads", "attribute", None),
        features=(1, 32, 16, 8), embedding=(1, 32), heads=(1, 7, 16, 8), attribute=(1, 7, 1, 1),
    )  # fmt: skip
    assert find(network).tensor == "features"


def test_a_mean_along_one_side_after_the_other_is_not_read_as_tokens():
    """16 columns of means would be taken for a grid of 4×4 otherwise."""
    network = graph(
        ("Conv", "images w", "features", None),
        ("ReduceMean", "features", "rows", (3,)),
        ("ReduceMean", "rows", "embedding", (2,)),
        features=(1, 32, 18, 8), rows=(1, 32, 18), embedding=(1, 32),
    )  # fmt: skip
    with pytest.raises(ValueError, match=r"no global pooling.*features \(1, 32, 18, 8\)"):
        find(network)


def test_tokens_of_a_hierarchical_transformer_have_the_pictures_proportions():
    """The patch embedding has another grid."""
    network = graph(
        ("Conv", "images w", "patches", None),
        ("LayerNormalization", "merged", "tokens", None),
        ("Transpose", "tokens", "turned", (0, 2, 1)),
        ("GlobalAveragePool", "turned", "embedding", None),
        patches=(1, 96, 64, 32), tokens=(1, 32, 768), turned=(1, 768, 32), embedding=(1, 768, 1),
    )  # fmt: skip
    assert find(network)[:4] == ("tokens", "NTC", (8, 4), 768)


def test_overlapping_patches_have_the_grid_of_their_convolution():
    network = graph(
        ("Conv", "images w", "patches", None),
        ("LayerNormalization", "x", "tokens", None),
        ("Gather", "tokens zero", "embedding", None),
        patches=(1, 768, 21, 10), tokens=(1, 211, 768), embedding=(1, 768),
    )  # fmt: skip
    assert find(network) == ("tokens", "NTC", (21, 10), 768, 1)


def test_class_token_and_mean_of_the_patches_together_are_of_the_same_tokens():
    network = graph(
        ("Conv", "images w", "patches", None),
        ("LayerNormalization", "x", "tokens", None),
        ("Slice", "tokens a b c", "of patches", None),
        ("ReduceMean", "of patches", "mean", (1,)),
        ("Gather", "tokens zero", "class", None),
        ("Concat", "class mean", "embedding", None),
        patches=(1, 384, 18, 9), tokens=(1, 167, 384), **{"of patches": (1, 162, 384)}, mean=(1, 384),
        embedding=(1, 768), **{"class": (1, 384)},
    )  # fmt: skip
    assert find(network, size=(252, 126)) == ("tokens", "NTC", (18, 9), 384, 5)


def test_tokens_that_fit_no_grid_are_refused():
    network = graph(
        ("Gather", "tokens zero", "embedding", None), tokens=(1, 150, 768), embedding=(1, 768),
    )  # fmt: skip
    with pytest.raises(ValueError, match=r"tokens of tokens .* a grid of patches of 256×128 pixels.*got 150"):
        find(network)


@pytest.mark.parametrize(("shape", "expected"), [((1, 16, 8, 32), "NHWC"), ((1, 32, 16, 8), "NCHW")])
def test_the_axes_of_a_named_map_are_told_by_the_pictures_proportions(shape, expected):
    network = graph(("Conv", "images w", "features", None), ("Gemm", "features", "embedding", None), features=shape)
    assert find(network, "make features")[:4] == ("features", expected, (16, 8), 32)
