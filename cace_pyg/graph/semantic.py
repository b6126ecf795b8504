"""Alignment by body part."""

from torch import Tensor

from cace_pyg.graph.builder import GraphBuilder
from cace_pyg.graph.clues import Clues


class Semantic(GraphBuilder):
    """Clues of the same body part are connected with weight 1 (Table 2, "Semantic Alignment"), itself included.

    Needs ``Clues.parts``, from label maps next to the pictures, ``ROOT/parts/<folder>/<stem>.png``.

    Args:
        channels: size of a clue; the graph does not depend on it.
        background: also connect clues of part 0, the background; otherwise they are isolated.

    Raises:
        ValueError: the clues have no parts.
    """

    compares_features = False
    needs_parts = True

    def __init__(self, channels: int, background: bool = False):
        super().__init__()
        self.background = background

    def prepare(self, clues: Clues) -> Clues:
        """The parts; no edge depends on the features."""
        _parts_of(clues)
        return super().prepare(clues)

    def intra(self, prepared: Clues) -> Tensor:
        return self.inter(prepared, prepared)

    def inter(self, prepared_a: Clues, prepared_b: Clues) -> Tensor:
        part_a, part_b = _parts_of(prepared_a).unsqueeze(-1), _parts_of(prepared_b).unsqueeze(-2)
        same = part_a == part_b
        if not self.background:
            same = same & (part_a > 0)
        return same.to(prepared_b.features.dtype)


def _parts_of(clues: Clues) -> Tensor:
    if clues.parts is None:
        raise ValueError(
            "Expected clues with body parts for the Semantic builder (got parts=None); give label maps under "
            "ROOT/parts, or choose a builder that needs none, such as CorrespondenceAttention"
        )
    return clues.parts
