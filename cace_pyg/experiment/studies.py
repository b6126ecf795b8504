"""The rows of the paper's ablations (Tables 1–3), and one of ours, as options of a run."""

from dataclasses import dataclass
from typing import Literal

StudyName = Literal["components", "alignment", "mixup", "pooling"]


@dataclass(frozen=True)
class StudyRow:
    """One row.

    Attributes:
        name: as in the paper, if it is there.
        options: the differences from the given configuration.
        paper: the paper's mAP and Rank-1 in percent; on DukeMTMC-reID, in the mixup study on Market-1501.
        control: the row that has everything except what this one tests.
        explanation: what the row does.
        joint: trains both branches further, in joint training with 4×4 batches as in the paper, for as many epochs as
            the pair phase and at a tenth of the learning rate.
    """

    name: str
    options: tuple[str, ...] = ()
    paper: tuple[float, float] | None = None
    control: str | None = None
    explanation: str = ""
    joint: bool = False


_NO_GRAPH = "the same pair branch without a graph"
_FROZEN = ("--joint_phase.epochs=0",)
_LETTER = ("--conditional.node_wise=identity", "--conditional.compare=embeddings", "--conditional.edges=all")
_COLLAPSED = (*_LETTER, "--conditional.residual=false", "--conditional.width=null")
_EMBEDDINGS = "--conditional.compare=embeddings"


PAPER_BASELINES: dict[StudyName, tuple[float, float]] = {
    "components": (77.03, 87.84),
    "alignment": (77.03, 87.84),
    "mixup": (88.57, 94.74),
}


STUDIES: dict[StudyName, tuple[StudyRow, ...]] = {
    "components": (
        StudyRow(
            _NO_GRAPH, (*_FROZEN, "--graph=NoAlignment"), None, None, "same training and pairs, no edges"
        ),
        StudyRow(
            f"{_NO_GRAPH}, square",
            (*_FROZEN, "--graph=NoAlignment", "--conditional.node_wise=square"),
            None,
            None,
            "a second control: without edges, squares do better than a small network",
        ),
        StudyRow(
            "+ visual clue alignment",
            (*_FROZEN, "--conditional.compare=aligned_clues"),
            (78.29, 89.68),
            _NO_GRAPH,
            "mean distance of the clues that the attention connects, no convolution",
        ),
        StudyRow(
            "+ individual GCN",
            (*_FROZEN, "--conditional.edges=intra"),
            (79.19, 89.77),
            _NO_GRAPH,
            "edges within images only",
        ),
        StudyRow(
            "+ pairwise GCN (normal)",
            (*_FROZEN, "--conditional.mode=smooth"),
            (78.58, 89.77),
            _NO_GRAPH,
            "neighbours are added (Eq. 6)",
        ),
        StudyRow(
            "+ pairwise GCN (discrepancy)", _FROZEN, (81.29, 90.89), _NO_GRAPH, "neighbours are subtracted (Eq. 7)"
        ),
    ),
    "alignment": (
        StudyRow("no alignment", (*_FROZEN, "--graph=NoAlignment"), (77.03, 87.84), None, "no edges"),
        StudyRow("part alignment", (*_FROZEN, "--graph=Part"), (78.39, 89.45), "no alignment", "equal locations"),
        StudyRow(
            "top-K similarity",
            (*_FROZEN, "--graph=TopKSimilarity"),
            (79.30, 89.72),
            "no alignment",
            "the most similar clue",
        ),
        StudyRow("fully connected", (*_FROZEN, "--graph=FullyConnected"), (80.19, 89.90), "no alignment", "all clues"),
        StudyRow(
            "semantic alignment", (*_FROZEN, "--graph=Semantic"), (80.64, 90.08), "no alignment", "equal body parts"
        ),
        StudyRow(
            "correspondence attention, as released",
            (*_FROZEN, "--graph=CorrespondenceAttention", "--graph.sharpness=1", "--graph.threshold=0"),
            None,
            "no alignment",
            "ReLU'd cosines, nearly all clues connected",
        ),
        StudyRow(
            "correspondence attention, as configured",
            (*_FROZEN, "--graph=CorrespondenceAttention"),
            (81.29, 90.89),
            "no alignment",
            "see the configuration",
        ),
    ),
    "mixup": (
        StudyRow(
            "no pairwise loss",
            ("--loss.pairwise_weight=0", "--pair_phase.epochs=0", "--evaluation.fusion=0"),
            None,
            None,
            "the individual branch trained equally long",
            joint=True,
        ),
        *(
            StudyRow(
                "cross-entropy" if alpha == "1" else f"mix-up, α = {alpha}",
                (f"--loss.alpha={alpha}", "--loss.pairwise_weight=1", "--pair_phase.epochs=0"),
                paper,
                "no pairwise loss",
                "joint training",
                joint=True,
            )
            for alpha, paper in (
                ("1", (88.57, 94.74)), ("0.95", (89.44, 95.75)), ("0.9", (90.30, 95.96)), ("0.8", (89.56, 95.84)),
                ("0.7", (88.72, 95.43)), ("0.6", (85.67, 94.83)),
            )
        ),
    ),
    "pooling": tuple(
        row
        for name, options, explanation in (
            ("Eq. 7 to the letter", _COLLAPSED, "no residual: pictures of one person pool to nearly opposite vectors"),
            ("residual, linear", _LETTER, "differences of opposite sign cancel in the mean"),
            (
                "residual, magnitude",
                (_EMBEDDINGS, "--conditional.node_wise=magnitude"),
                "differences that both pictures share cancel in f(a|b) − f(b|a)",
            ),
            (
                "verification, linear",
                ("--conditional.compare=verification", "--conditional.node_wise=identity"),
                "the head sees the sum of both discrepancies, whose signs cancel",
            ),
            (
                "verification, magnitude",
                ("--conditional.compare=verification", "--conditional.node_wise=magnitude"),
                "nothing cancels",
            ),
            (
                "verification, square",
                ("--conditional.compare=verification", "--conditional.node_wise=square"),
                "nothing cancels, and few large differences count most",
            ),
            (
                "verification, small network",
                ("--conditional.compare=verification", "--conditional.node_wise=mlp"),
                "a separate layer decides which part of each difference counts",
            ),
        )
        for row in (
            StudyRow(f"{name}, no graph", (*_FROZEN, *options, "--graph=NoAlignment"), None, None, "the control"),
            StudyRow(name, (*_FROZEN, *options), None, f"{name}, no graph", explanation),
        )
    ),
}  # fmt: skip
