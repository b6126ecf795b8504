"""Clues left out at random."""

from dataclasses import replace

from torch import Tensor

from cace_pyg.graph import Clues


def clue_dropout(clues: Clues, probability: float, drawn: Tensor) -> Clues:
    """Set whole clues to zero, and scale the others so that their mean is expected to stay (Srivastava et al., 2014).

    The pair branch sees a few thousand confusions of the training pictures again and again, and learns them by heart;
    with half of the clues gone no pair looks the same twice (docs/results.md). A clue of zeros has no edge in a graph
    of cosines.

    Args:
        clues: of some images.
        probability: of a clue to go, in [0, 1); 0 returns the clues as they are.
        drawn: a number for each clue, ``(image, n)``, uniform in [0, 1).
    """
    if probability == 0:
        return clues
    kept = (drawn >= probability).to(clues.features).unsqueeze(-1) / (1 - probability)
    return replace(clues, features=clues.features * kept)
