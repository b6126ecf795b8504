"""What the pair stage can be told."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from jsonargparse.typing import PositiveInt
from torch_geometric.nn import MessagePassing

from cace_pyg.models.backends import Engine
from cace_pyg.models.pair_operand import Edges
from cace_pyg.nn.degree import DegreeFloor, Mode
from cace_pyg.nn.node_wise import NodeWiseForm


@dataclass
class ConditionalSettings:
    """The graph convolution and what surrounds it."""

    mode: Mode = "discrepancy"
    """`discrepancy` (Eq. 7) or `smooth` (Eq. 6; Table 1, "Normal")."""
    residual: bool = True
    """Add the convolution, zero-initialised, to the clues. False is Eq. 7 to the letter, which collapses."""
    node_wise: NodeWiseForm = "magnitude"
    """`identity` (the paper), `relu`, `magnitude`, `square` or `mlp` (our addition) of each node before pooling."""
    width: PositiveInt | None = 64
    """Channels of the convolution, expanded again after pooling; null is the paper's square Θ."""
    degree_floor: DegreeFloor = "textbook"
    """`textbook` (Eq. 7; an isolated clue keeps itself) or `released` (the authors' code)."""
    edges: Edges = "all"
    """Which blocks of the graph stay: `all`, `intra` (Table 1, "Individual-GCN"), or `inter`."""
    compare: Literal["embeddings", "verification", "aligned_clues"] = "embeddings"
    """`embeddings`: f(a|b) with f(b|a). `verification`: the same, plus a head that sees what both images differ by (our
    addition). `aligned_clues`: no convolution, the mean similarity of the clues that inter edges join (Table 1, "+
    Visual Clue Alignment")."""
    own_encoder: bool = True
    """An encoder apart from the individual one; false shares it, as the authors' code does."""
    engine: Engine = "auto"
    """Same numbers at different cost (docs/engines.md): `auto`, `pooled`, `gram`, `fused` (CUDA), `pooled_messages`,
    `dense`, `message_passing`, `segment_csr`, `sparse_matrix`."""
    convolution: Callable[[int, int], MessagePassing] | None = None
    """A layer of torch_geometric.nn instead of the discrepancy convolution, for comparison: GCNConv, GATConv, …
    mode, degree_floor and engine then mean nothing."""
