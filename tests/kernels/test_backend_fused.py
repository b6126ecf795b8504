"""What the backend fused refuses, and where it is not."""

import importlib.util
import os

import pytest
import torch

from cace_pyg.graph import Clues, CorrespondenceAttention, FullyConnected
from cace_pyg.kernels import ReluGram, relu_gram_products, runs_on
from cace_pyg.models import ConditionalEmbedding, ConditionalSettings, EmbeddingHead
from cace_pyg.nn import pool_blocks
from cace_pyg.nn.node_wise import NodeWise

CPU = torch.device("cpu")


def make(builder=None, **settings) -> ConditionalEmbedding:
    settings = {"node_wise": "identity", **settings}
    builder = builder or CorrespondenceAttention(8)
    return ConditionalEmbedding(8, builder, EmbeddingHead(8, 4), ConditionalSettings(backend="fused", **settings))


def test_forms_that_the_kernel_does_not_have_are_refused():
    assert make().backend == "fused"
    with pytest.raises(ValueError, match="node_wise identity only.*got 'magnitude'.*choose backend auto"):
        make(node_wise="magnitude")
    with pytest.raises(ValueError, match="CorrespondenceAttention without top_edges.*got FullyConnected"):
        make(FullyConnected(8))
    with pytest.raises(ValueError, match="without top_edges"):
        make(CorrespondenceAttention(8, top_edges=2))
    with pytest.raises(ValueError, match="conditional.edges intra has none"):
        make(edges="intra")
    with pytest.raises(NotImplementedError, match="FullyConnected"):
        FullyConnected(8).relu_gram(None, None)
    gram = ReluGram(torch.rand(1, 3, 2), torch.rand(1, 3, 2))
    with pytest.raises(ValueError, match="node_wise 'relu'.*got a ReluGram"):
        pool_blocks(gram.x_a, gram.x_b, gram.block(), gram, gram.block(), node_wise=NodeWise("relu"))


def test_the_blocks_factors_are_the_block():
    clues = torch.rand(2, 2, 6, 8)
    for form in ({"form": "paper"}, {}, {"sharpness": 8.0}, {"threshold": 0.3}, {"sharpness": 2.0, "threshold": 0.4}):
        builder = CorrespondenceAttention(8, **form)
        assert builder.is_relu_gram
        a, b = (builder.prepare(Clues(features, (3, 2))) for features in clues)
        torch.testing.assert_close(builder.relu_gram(a, b).block(), builder.inter(a, b), rtol=0, atol=0)


def test_shapes_and_precisions_that_do_not_fit_are_refused():
    x, vector = torch.rand(2, 3, 4), torch.rand(2, 3)
    for gram, left, words in (
        (ReluGram(x.double(), x.double()), vector, "float32, bfloat16 and float16.*torch.float64.*backend pooled"),
        (ReluGram(x, x.half()), vector, "both clues in the same of"),
        (ReluGram(x[0], x), vector, r"x_a as \(pair, n_a, channel\)"),
        (ReluGram(x, x[..., :3]), vector, r"\(2, 3, 4\) and \(2, 3, 3\)"),
        (ReluGram(x, x), vector[:, :2], r"left as \(pair, 3\)"),
        (ReluGram(x, x.repeat(2, 1, 1)), vector, r"equal numbers of pairs, or 1, everywhere \(got 2, 4\)"),
        (ReluGram(x, x), vector.to("meta"), "on one device.*cpu, meta"),
    ):
        with pytest.raises(ValueError, match=words):
            relu_gram_products(gram, left, vector)


@pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="Triton is not installed")
@pytest.mark.skipif(os.environ.get("TRITON_INTERPRET") == "1", reason="TRITON_INTERPRET=1 runs it on the CPU")
def test_a_cpu_is_refused_and_auto_does_not_go_there():
    x = torch.rand(1, 3, 4)
    with pytest.raises(RuntimeError, match="runs on CUDA devices.*got clues on cpu.*backend pooled, or auto"):
        relu_gram_products(ReluGram(x, x), torch.ones(1, 3), torch.ones(1, 3))
    assert not runs_on(CPU)
