"""Evaluates decisions instead of rankings: same person or not, known or unknown (ISO/IEC 19795)."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike
from torch import Tensor

from cace_pyg.retrieval.metrics import all_rows, as_numpy, check_labels, own_positions
from cace_pyg.retrieval.reliability import Estimate, Reliability, percentiles, resampled_people

_JUNK, _DISTRACTOR = -1, 0
FPR = (1e-2, 1e-3, 1e-4)
FAR = (1e-1, 1e-2, 1e-3)
_KEPT = 2**20  # minimum number of nearest pairs of two people to keep; no useful threshold is beyond them
_CELLS = 2048  # thresholds that a resample chooses from
_POINTS = 200  # of the curve


@dataclass(frozen=True, eq=False)
class OpenSet:
    """Results with one threshold for all queries; every measure is a fraction, 0 to 1, with its interval over people.

    Attributes:
        tpr: for each false positive rate over pairs, the share of pairs of one person that are accepted.
        dir: for each false alarm rate (FPIR: share of queries of unknown people that get a name), the detection and
            identification rate (TPIR at rank 1; 1 − FNIR): the share of queries of known people whose nearest picture
            is accepted and correct. Rates that the counts below cannot show (one in a thousand of 400) are left out.
        roc: ``(point, 2)``, false and true positive rates, ascending, as far as they were computed.
        matches: number of pairs of one person.
        others: number of pairs of two people.
        known: number of queries with a match in the gallery.
        unknown: number of queries of people without a picture in the gallery.
        reliability: of the probabilities of the compared pairs; None without a calibration.
        nearest: the same for each query's nearest picture only, since most other pairs are easy.
    """

    tpr: Mapping[float, Estimate]
    dir: Mapping[float, Estimate]
    roc: np.ndarray
    matches: int
    others: int
    known: int
    unknown: int
    reliability: Reliability | None = None
    nearest: Reliability | None = None

    def as_dict(self) -> dict[str, Any]:
        """For ``metrics.json``; each measure as [value, low, high]."""
        return {
            "tpr_at_fpr": {f"{rate:g}": list(found) for rate, found in self.tpr.items()},
            "dir_at_far": {f"{rate:g}": list(found) for rate, found in self.dir.items()},
            **{name: getattr(self, name) for name in ("matches", "others", "known", "unknown")},
            **(self.reliability.as_dict() if self.reliability else {}),
            **({"nearest": self.nearest.as_dict()} if self.nearest else {}),
        }


def evaluate_open_set(
    distance: Tensor | ArrayLike,
    query_pids: Tensor | ArrayLike,
    gallery_pids: Tensor | ArrayLike,
    query_camids: Tensor | ArrayLike,
    gallery_camids: Tensor | ArrayLike,
    same_camera: Literal["remove", "keep"] = "remove",
    own_position: Tensor | ArrayLike | None = None,
    confidence: float = 0.95,
    resamples: int = 1000,
    seed: int = 0,
) -> OpenSet:
    """Verification (ROC) over all pairs, and identification with people who are not in the gallery.

    Pairs are those that the protocol keeps, see :func:`cace_pyg.retrieval.evaluate`: junk (pid −1) is ignored, and so
    are pictures with the query's own pid *and* camera; pid 0 never matches. A pair is accepted if its distance is
    *below* the threshold, which is the largest one that accepts at most the given rate of pairs of two people, or of
    unknown people. A query whose nearest match is equally near as its nearest non-match is not identified. The order of
    the gallery does not matter. A query whose matches are all removed only counts for the pairs.

    Example: matches at distances [0.1, 0.4] and 100 others, the nearest at 0.3 and 0.5. At FPR 0.01 one other may pass,
    so the threshold is 0.5 and both matches are accepted, TPR 1. For a rate of 0.001, 100 pairs are too few.

    Intervals are bootstrapped over the people of the queries, each with all their queries; the gallery is fixed.

    Args:
        distance: ``(query, gallery)``, smaller is nearer, and comparable between queries.
        query_pids: ``(query,)``.
        gallery_pids: ``(gallery,)``.
        query_camids: ``(query,)``.
        gallery_camids: ``(gallery,)``.
        same_camera: ``"remove"`` is the protocol; ``"keep"`` is for data without cameras.
        own_position: the position of each query itself in the gallery, see :func:`cace_pyg.retrieval.evaluate`.
        confidence: of the intervals, in (0, 1).
        resamples: bootstrap samples.
        seed: of the resampling.

    Raises:
        ValueError: there is no pair of one person, or no pair of two; see also :func:`cace_pyg.retrieval.evaluate`.
    """
    labels = query_pids, gallery_pids, query_camids, gallery_camids
    return evaluate_open_set_blocks([distance], *labels, same_camera, own_position, confidence, resamples, seed)


def evaluate_open_set_blocks(
    blocks: Iterable[Tensor | ArrayLike],
    query_pids: Tensor | ArrayLike,
    gallery_pids: Tensor | ArrayLike,
    query_camids: Tensor | ArrayLike,
    gallery_camids: Tensor | ArrayLike,
    same_camera: Literal["remove", "keep"] = "remove",
    own_position: Tensor | ArrayLike | None = None,
    confidence: float = 0.95,
    resamples: int = 1000,
    seed: int = 0,
) -> OpenSet:
    """:func:`evaluate_open_set` for a distance matrix that comes in blocks of rows, and is never in memory as a whole.

    Args:
        blocks: the rows of all queries in order, ``(some queries, gallery)`` each.
        query_pids: see :func:`evaluate_open_set`, as for all others.
        gallery_pids: see there.
        query_camids: see there.
        gallery_camids: see there.
        same_camera: see there.
        own_position: see there.
        confidence: see there.
        resamples: see there.
        seed: see there.
    """
    labels = [as_numpy(given) for given in (query_pids, gallery_pids, query_camids, gallery_camids)]
    check_labels(labels, same_camera=same_camera)
    query_pids, gallery_pids, query_camids, gallery_camids = labels
    known_pictures = np.flatnonzero(gallery_pids != _JUNK)
    pids, camids = gallery_pids[known_pictures], gallery_camids[known_pictures]
    own = own_positions(own_position, len(query_pids), len(gallery_pids), known_pictures)
    person = np.unique(query_pids, return_inverse=True)[1].reshape(-1)
    kept = max(_KEPT, int(1.5 * FPR[0] * len(query_pids) * len(pids)))
    scores = _Scores(int(person.max(initial=-1)) + 1, kept)
    absent = ~np.isin(query_pids, pids[pids != _DISTRACTOR])
    for query, row in enumerate(all_rows(blocks, known_pictures, labels)):
        match = (pids == query_pids[query]) & (pids != _DISTRACTOR)
        stays = ~(match & (camids == query_camids[query]) & (same_camera == "remove"))
        if own[query] >= 0:
            stays[own[query]] = False
        scores.add(int(person[query]), row[match & stays], row[~match & stays], bool(absent[query]))
    return scores.measured(resamples, seed, confidence)


class _Scores:
    """The distances that matter for decisions: rows of (distance, person of the query)."""

    def __init__(self, people: int, kept: int):
        self.people, self.kept = people, kept
        self.others = np.zeros(people)  # number of pairs of two people, by the query's person
        self.pairs: dict[str, list[np.ndarray]] = {"same": [], "other": []}
        self.searches: dict[str, list[tuple[float, int]]] = {"known": [], "unknown": []}
        self.waiting = 0

    def add(self, person: int, match: np.ndarray, other: np.ndarray, absent: bool) -> None:
        """Add the distances of one query."""
        self.others[person] += len(other)
        for name, values in (("same", match), ("other", other)):
            self.pairs[name].append(np.stack([values, np.full(len(values), person)], 1))
        self.waiting += len(other)
        if self.waiting > self.kept:
            self._forget_far_ones()
        nearest, stranger = match.min(initial=np.inf), other.min(initial=np.inf)
        if len(match):
            self.searches["known"].append((nearest if nearest < stranger else np.inf, person))
        elif absent:
            self.searches["unknown"].append((stranger, person))

    def measured(self, resamples: int, seed: int, confidence: float) -> OpenSet:
        """The results of all queries."""
        self._forget_far_ones()
        same, other = (_ascending(np.concatenate(pairs or [np.empty((0, 2))])) for pairs in self.pairs.values())
        if not len(same) or not len(other):
            raise ValueError(
                f"Expected pairs of one person and of two (got {len(same)} and {len(other)}): decisions need "
                "both; check pids and camids, or give same_camera keep for data without cameras"
            )
        known, unknown = (
            _ascending(np.array(searches, dtype=float).reshape(-1, 2)) for searches in self.searches.values()
        )
        unknown_of = np.bincount(unknown[:, 1].astype(int), minlength=self.people).astype(float)
        weights = resampled_people(self.people, resamples, seed)
        verification, identification = (same, other, self.others), (known, unknown, unknown_of)
        return OpenSet(
            tpr=_accepted(*verification, weights, FPR, confidence),
            dir=_accepted(*identification, weights, FAR, confidence) if len(known) else {},
            roc=_curve(same[:, 0], other[:, 0], float(self.others.sum())),
            matches=len(same),
            others=int(self.others.sum()),
            known=len(known),
            unknown=len(unknown),
        )

    def _forget_far_ones(self) -> None:
        rows = np.concatenate(self.pairs["other"] or [np.empty((0, 2))])
        if len(rows) > self.kept:
            rows = rows[np.argpartition(rows[:, 0], self.kept - 1)[: self.kept]]
        self.pairs["other"], self.waiting = [rows], 0


def _accepted(
    right: np.ndarray,
    wrong: np.ndarray,
    wrong_of: np.ndarray,
    weights: np.ndarray,
    rates: Sequence[float],
    confidence: float,
) -> dict[float, Estimate]:
    """For each rate of accepted wrong ones, the share of accepted right ones; rates that need more are left out."""
    shown = [rate for rate in rates if rate * wrong_of.sum() >= 1 - 1e-9]
    trade = _Trade(right, wrong, wrong_of, weights) if shown else None
    return {rate: trade.accepted(rate, confidence) for rate in shown if trade}


class _Trade:
    """The trade-off between accepted right ones and accepted wrong ones.

    Args:
        right: rows of (distance, person), ascending; all of them.
        wrong: the same, only the nearest.
        wrong_of: total number of wrong ones of each person.
        weights: how often each resample contains each person, ``(resample, person)``.
    """

    def __init__(self, right: np.ndarray, wrong: np.ndarray, wrong_of: np.ndarray, weights: np.ndarray):
        self.right, self.wrong, self.wrong_of, self.weights = right, wrong, wrong_of, weights
        people = len(wrong_of)
        # Resamples choose among thresholds whose ranks grow by some thousandths; among all if there are few.
        ranks = np.unique(np.geomspace(1, len(wrong), _CELLS).round().astype(int)) - 1
        self.thresholds = wrong[ranks, 0]
        self.wrong_by_person = _below(wrong, wrong[np.append(ranks[1:], len(wrong)) - 1, 0], people, "right")
        self.right_by_person = _below(right, self.thresholds, people, "left")

    def accepted(self, rate: float, confidence: float) -> Estimate:
        allowed = int(np.floor(rate * self.wrong_of.sum() + 1e-9))
        right = self.right[:, 0]
        threshold = self.wrong[allowed, 0] if allowed < len(self.wrong) else np.inf
        value = float((right < threshold).mean())
        passed = self.weights @ self.wrong_by_person  # (resample, threshold): how many wrong ones pass
        cell = (passed <= rate * (self.weights @ self.wrong_of)[:, None] + 1e-9).sum(1).clip(max=passed.shape[1] - 1)
        right_of = np.bincount(self.right[:, 1].astype(int), minlength=len(self.wrong_of))
        with np.errstate(invalid="ignore"):
            drawn = (self.weights * self.right_by_person[:, cell].T).sum(1) / (self.weights @ right_of)
        return Estimate(value, *percentiles(drawn, confidence))


def _below(rows: np.ndarray, thresholds: np.ndarray, people: int, side: Literal["left", "right"]) -> np.ndarray:
    """The number of each person's distances below each of the ascending thresholds, ``(person, threshold)``."""
    first = np.searchsorted(thresholds, rows[:, 0], "right" if side == "left" else "left")
    counts = np.bincount(
        rows[:, 1].astype(int) * (len(thresholds) + 1) + first, minlength=people * (len(thresholds) + 1)
    )
    return counts.reshape(people, -1)[:, :-1].cumsum(1).astype(float)


def _ascending(rows: np.ndarray) -> np.ndarray:
    return rows[np.argsort(rows[:, 0])]


def _curve(same: np.ndarray, others: np.ndarray, all_others: float) -> np.ndarray:
    """Some points of the ROC, including those of ``FPR``; the last is at the farthest pair of two that was kept."""
    named = np.array([allowed for rate in FPR if (allowed := int(rate * all_others + 1e-9)) < len(others)], dtype=int)
    spaced = np.geomspace(1, len(others), _POINTS).round().astype(int) - 1
    ranks = np.union1d(spaced, named)
    true = np.searchsorted(same, others[ranks], "left") / len(same)
    last = [] if len(others) < all_others else [[1.0, 1.0]]
    return np.array([*np.stack([ranks / all_others, true], 1).tolist(), *last])
