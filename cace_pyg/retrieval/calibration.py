"""Turns distances into the probability that both pictures show one person, and into a threshold for unknown people."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from numbers import Real
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import isotonic_regression, minimize
from scipy.special import expit, logit

from cace_pyg.retrieval.reliability import expected_calibration_error

Form = Literal["logistic", "isotonic"]
_FEW = 20  # people
_FLAT = 1.0  # log-odds between the nearest and the farthest pair
_DRIFT, _CHANCE = 0.1, 0.6  # Kolmogorov–Smirnov distances, the second by √people; measured in docs/decision.md
_FOLDS = 5
_CERTAIN = 36.0  # log-odds; in float64 a probability becomes exactly 1 at 37
_QUANTILES = 101


@dataclass(frozen=True)
class Calibration:
    """What the distances of one model mean, learned from pairs of held-out people.

    It contains only plain numbers, so it can be stored in checkpoints and JSON. The odds are those of the people it was
    learned from: for each query, the nearest among ``gallery`` pictures of others and some pictures of its own person.

    Attributes:
        form: logistic (Platt, 1999) or isotonic.
        knots: (distance, log-odds), ascending in the distance and never rising in the log-odds, with straight lines
            between them. Beyond the knots, a logistic curve continues straight and an isotonic one is constant.
        weight: of the conditional distance in the fused distance that it is for.
        pairs: number of pairs that it was learned from.
        matches: how many of them show one person.
        people: number of people in the queries.
        gallery: pictures of other people that each query was compared with, on average.
        error: expected calibration error for people that the curve was not fitted on (five folds of people).
        unknown: (best distance, share) of each query without the pictures of its own person, ascending in the distance;
            the shares of a person's queries add up to 1.
        scores: quantiles, 0 to 100 %, of the fused distance of pairs drawn at random, see :meth:`drift`.
    """

    form: Form
    knots: tuple[tuple[float, float], ...] = field(repr=False)
    weight: float
    pairs: int
    matches: int
    people: int
    gallery: float
    error: float
    unknown: tuple[tuple[float, float], ...] = field(repr=False)
    scores: tuple[float, ...] = field(repr=False)

    def probability(self, distance: ArrayLike, gallery: float | None = None) -> np.ndarray:
        """P(both pictures show one person); never rises with the distance.

        Example: log-odds 4 at distance 0 and −4 at distance 1 give 0.982, 0.5 and 0.018 at 0, ½ and 1. In a gallery ten
        times as large as the calibration's, ten times as many other people look alike, and it is 0.85, 0.09 and 0.002.

        Args:
            distance: fused, see ``weight``; any shape.
            gallery: number of pictures that are searched. If there are more than ``self.gallery``, the odds fall in
                proportion, since each further person may look alike; if there are fewer, they do not rise. None: the
                same number.

        Returns:
            Shaped as ``distance``, always above 0 and below 1.

        Raises:
            ValueError: a distance is not finite, or the gallery is empty.
        """
        distance = np.asarray(distance, dtype=float)
        if not np.isfinite(distance).all():
            raise ValueError("Expected finite distances (got NaN or infinity); check the embeddings")
        log_odds = _log_odds(self.knots, self.form, distance) - math.log(self._times_as_large(gallery))
        return expit(np.clip(log_odds, -_CERTAIN, _CERTAIN))

    def threshold(self, false_alarms: float, gallery: float | None = None) -> float:
        """The distance below which the best hit of a search counts as a known person.

        At most the share ``false_alarms`` of people who are not in the gallery get below it (ISO/IEC 19795: the false
        positive identification rate). This holds on average over sets of people like those of the calibration: a new
        person is equally likely to have any rank among them (Lee, Barber and Willett, 2023, for several queries per
        person).

        Example: nine people have one query each, and their best hits among other people are at 0.1, 0.2, … 0.9. A rate
        of one in ten (0.1) allows none of them below the threshold, which is 0.1. A rate of 0.2 allows one, so the
        threshold is 0.2.

        Args:
            false_alarms: share of unknown people, in (0, 1).
            gallery: number of pictures that are searched; with more than ``self.gallery``, the threshold is lower.
                None: the same number.

        Raises:
            ValueError: the rate is not in (0, 1), or is too small for the number of people of the calibration; the
                message names the smallest.
        """
        if not (isinstance(false_alarms, Real) and 0 < false_alarms < 1):
            raise ValueError(f"Expected a rate of false alarms in (0, 1), such as 0.01 (got {false_alarms})")
        smallest, people = self.smallest_rate(gallery), self._unknown_people
        if smallest > _NEARLY_ALL:
            raise ValueError(
                f"no rate of false alarms is possible: the calibration rests on {people} people, and this gallery "
                f"is {self._times_as_large(gallery):.3g} times as large as theirs; calibrate on more people, with "
                "python -m cace_pyg.calibrate"
            )
        if false_alarms < smallest - 1e-12:
            needed = math.ceil(1 / -math.expm1(math.log1p(-false_alarms) / self._times_as_large(gallery))) - 1
            times = self._times_as_large(gallery)
            larger = f", and this gallery is {times:.3g} times as large as theirs" if times > 1 else ""
            raise ValueError(
                f"Expected a rate of false alarms of at least {shortly_above(smallest)} (got {false_alarms}): the "
                f"calibration rests on {people} people{larger}; for {false_alarms:g} calibrate on {needed} people or "
                "more, with python -m cace_pyg.calibrate"
            )
        allowed = -math.expm1(math.log1p(-false_alarms) / self._times_as_large(gallery)) * (people + 1) - 1
        best, share = np.array(self.unknown).T
        beyond = np.flatnonzero(share.cumsum() > allowed + 1e-9)
        return float(best[beyond[0]]) if len(beyond) else math.inf

    def smallest_rate(self, gallery: float | None = None) -> float:
        """The smallest rate of false alarms that :meth:`threshold` accepts."""
        return -math.expm1(math.log1p(-1 / (self._unknown_people + 1)) * self._times_as_large(gallery))

    def doubts(self) -> list[str]:
        """Reasons not to trust it, a sentence each."""
        doubts = []
        if self.knots[0][1] - self.knots[-1][1] < _FLAT:
            doubts.append(
                "the probability hardly depends on the distance, so it is useless, however small its error: this "
                "network does not distinguish these people"
            )
        if self.people < _FEW:
            doubts.append(f"{self.people} people are few, and others may give another curve; label a hundred")
        if self.error > 0.05:
            doubts.append("the probabilities are off by more than 0.05 on average; label more people")
        return doubts

    def drift(self, distance: ArrayLike) -> float:
        """How far the scores of other cameras are from those of the calibration, 0 to 1.

        The Kolmogorov–Smirnov distance between the fused distances of random pairs of the two sets. Nearly all of these
        pairs show two people, so no labels are needed. Above ``drift_limit`` probabilities may mean nothing.

        Args:
            distance: of a few hundred random pairs.

        Raises:
            ValueError: there is none, or one is not finite.
        """
        here = np.sort(np.asarray(distance, dtype=float).ravel())
        if not len(here) or not np.isfinite(here).all():
            raise ValueError(f"Expected finite distances of some pairs (got {len(here)}, or NaN or infinity)")
        there = np.asarray(self.scores)
        shares = np.linspace(0, 1, len(there))
        at = np.concatenate([here, there])
        below_there = np.interp(at, there, shares)
        below_here = [np.searchsorted(here, at, side) / len(here) for side in ("left", "right")]
        return float(np.abs(below_here - below_there).max())

    @property
    def drift_limit(self) -> float:
        """The limit that :meth:`drift` stays below on the same cameras: 0.1, or more if few people differ by chance."""
        return max(_DRIFT, _CHANCE / math.sqrt(self.people))

    def as_dict(self) -> dict[str, Any]:
        """For a checkpoint, or JSON."""
        return asdict(self)

    def summary(self, gallery: float | None = None) -> dict[str, Any]:
        """A summary to show to users; ``smallest_false_alarms`` is for a gallery of this many pictures."""
        names = ("form", "pairs", "matches", "people", "gallery", "error", "weight")
        return {name: getattr(self, name) for name in names} | {"smallest_false_alarms": self.smallest_rate(gallery)}

    @classmethod
    def from_dict(cls, values: Any) -> "Calibration":
        """Read the result of :meth:`as_dict`.

        Raises:
            ValueError: it is something else.
        """
        names = {field.name for field in fields(cls)}
        if not isinstance(values, Mapping) or values.keys() != names:
            raise ValueError(f"Expected a calibration with {', '.join(sorted(names))} (got something else)")
        try:
            told = dict(values)
            for name in ("knots", "unknown"):
                told[name] = tuple((float(a), float(b)) for a, b in values[name])
            told["scores"] = tuple(map(float, values["scores"]))
            told |= {name: int(values[name]) for name in ("pairs", "matches", "people")}
            told |= {name: float(values[name]) for name in ("weight", "gallery", "error")}
        except (TypeError, ValueError) as error:
            raise ValueError(f"Expected a calibration with numbers (got something else: {error})") from error
        made = cls(**told)
        made._check()
        return made

    def _check(self) -> None:
        at, log_odds = np.array(self.knots).reshape(-1, 2).T
        best, share = np.array(self.unknown).reshape(-1, 2).T
        numbers = np.concatenate([at, log_odds, best, share, self.scores, [self.weight, self.gallery, self.error]])
        fits = (
            self.form in ("logistic", "isotonic")
            and len(at) >= 2
            and (self.form == "isotonic" or len(at) == 2)
            and len(best)
            and len(self.scores) >= 2
            and np.isfinite(numbers).all()
            and (np.diff(at) > 0).all()
            and (np.diff(log_odds) <= 0).all()
            and (np.diff(best) >= 0).all()
            and (share > 0).all()
            and (np.diff(self.scores) >= 0).all()
            and self.gallery > 0
            and 0 <= self.weight <= 1
        )
        if not fits:
            raise ValueError(
                "Expected a calibration with finite numbers and a curve that never rises with the distance (got "
                "another); make it again with python -m cace_pyg.calibrate"
            )

    @property
    def _unknown_people(self) -> int:
        return round(sum(share for _, share in self.unknown))

    def _times_as_large(self, gallery: float | None) -> float:
        if gallery is not None and not gallery > 0:
            raise ValueError(f"Expected a gallery of at least one picture (got {gallery})")
        return 1.0 if gallery is None else max(1.0, gallery / self.gallery)


def fit_calibration(
    distance: ArrayLike,
    same: ArrayLike,
    query: ArrayLike,
    query_pids: ArrayLike,
    scores: ArrayLike,
    gallery: float,
    weight: float,
    form: Form = "logistic",
) -> Calibration:
    """Learn what distances mean, from pairs of people that nothing was trained on.

    Give the pairs that a search compares, with matches and confusions in their real proportions: the nearest pictures
    of each query, without those that the protocol removes. Both forms never rise with the distance.

    Args:
        distance: fused, ``(pair,)``.
        same: whether a pair shows one person, ``(pair,)``.
        query: the query of each pair, from 0, ``(pair,)``.
        query_pids: the person of each query, ``(query,)``.
        scores: fused distances of a few hundred random pairs, see :meth:`Calibration.drift`.
        gallery: pictures of other people that a query was compared with, on average.
        weight: of the conditional distance in the fused one, in [0, 1].
        form: ``"logistic"``, two numbers; ``"isotonic"``, any curve that never rises, for thousands of pairs.

    Raises:
        ValueError: there are no matches, no non-matches or fewer than two people, numbers are not finite, shapes do not
            fit, or the form is unknown.
    """
    distance, scores = (np.asarray(values, dtype=float).ravel() for values in (distance, scores))
    same, query, query_pids = np.asarray(same, dtype=bool), np.asarray(query), np.asarray(query_pids)
    _check_pairs(distance, same, query, query_pids, scores, form)
    people = np.unique(query_pids[query], return_inverse=True)[1]
    found = Calibration(
        form=form,
        knots=_fit(distance, same, form),
        weight=float(weight),
        pairs=len(distance),
        matches=int(same.sum()),
        people=int(people.max()) + 1,
        gallery=float(gallery),
        error=_error_on_others(distance, same, people, form),
        unknown=_best_of_strangers(distance[~same], query[~same], query_pids),
        scores=tuple(np.quantile(scores, np.linspace(0, 1, _QUANTILES)).tolist()),
    )
    found._check()
    return found


def _check_pairs(
    distance: np.ndarray,
    same: np.ndarray,
    query: np.ndarray,
    query_pids: np.ndarray,
    scores: np.ndarray,
    form: str,
) -> None:
    if not (distance.shape == same.shape == query.shape) or query_pids.ndim != 1:
        raise ValueError(
            f"Expected a distance, a truth and a query for each pair (got {distance.shape}, {same.shape} and "
            f"{query.shape})"
        )
    if form not in ("logistic", "isotonic"):
        raise ValueError(f"Expected the form 'logistic' or 'isotonic' (got {form!r})")
    people = len(np.unique(query_pids[query])) if len(query) else 0
    if not same.any() or same.all() or people < 2:
        raise ValueError(
            f"a calibration needs pairs of one person and pairs of two, from at least two people held out of the "
            f"training (got {int(same.sum())} of one, {int((~same).sum())} of two, from {people} people); label more "
            "people, or more pictures of each, hold out more (--data.hold_out 0.1), or compare more pictures per query "
            "(--evaluation.top_k 100)"
        )
    if not len(scores) or not (np.isfinite(distance).all() and np.isfinite(scores).all()):
        raise ValueError("Expected finite distances, also of random pairs (got none, NaN or infinity)")


def _log_odds(knots: tuple[tuple[float, float], ...], form: str, distance: np.ndarray) -> np.ndarray:
    at, log_odds = np.array(knots).T
    if form == "logistic":
        return log_odds[0] + (log_odds[1] - log_odds[0]) / (at[1] - at[0]) * (distance - at[0])
    return np.interp(distance, at, log_odds)


def _fit(distance: np.ndarray, same: np.ndarray, form: str) -> tuple[tuple[float, float], ...]:
    return _logistic(distance, same) if form == "logistic" else _isotonic(distance, same)


def _logistic(distance: np.ndarray, same: np.ndarray) -> tuple[tuple[float, float], ...]:
    """Log-odds on a falling straight line; with Platt's targets they stay finite if the classes do not overlap."""
    matches, others = same.sum(), (~same).sum()
    target = np.where(same, (matches + 1) / (matches + 2), 1 / (others + 2))
    centre, scale = distance.mean(), distance.std() or 1.0
    at = (distance - centre) / scale

    def loss(line: np.ndarray) -> tuple[float, np.ndarray]:
        log_odds = line[0] + line[1] * at
        off = expit(log_odds) - target
        return (np.logaddexp(0, log_odds) - target * log_odds).mean(), np.array([off.mean(), (off * at).mean()])

    start = np.array([logit(target.mean()), -1.0])
    line = minimize(loss, start, jac=True, bounds=[(None, None), (None, 0)], tol=1e-12).x
    slope = line[1] / scale
    at_zero = line[0] - slope * centre
    return (0.0, float(at_zero)), (1.0, float(at_zero + slope))


def _isotonic(distance: np.ndarray, same: np.ndarray) -> tuple[tuple[float, float], ...]:
    """The ends of the pooled blocks; no block gets a probability of 0 or 1, however many pairs agree."""
    at, inverse, count = np.unique(distance, return_inverse=True, return_counts=True)
    share = np.bincount(inverse, same) / count
    found = isotonic_regression(share, weights=count, increasing=False)
    edge = 1 / (len(distance) + 2)
    log_odds = logit(np.clip(found.x, edge, 1 - edge))
    ends = np.unique(np.concatenate([found.blocks[:-1], found.blocks[1:] - 1]))
    if len(ends) == 1:  # a single distance
        return (float(at[0]), float(log_odds[0])), (float(at[0]) + 1.0, float(log_odds[0]))
    return tuple((float(at[end]), float(log_odds[end])) for end in ends)


def _error_on_others(distance: np.ndarray, same: np.ndarray, people: np.ndarray, form: str) -> float:
    fold = np.random.default_rng(0).permutation(people.max() + 1)[people] % _FOLDS
    probability = np.empty(len(distance))
    for number in np.unique(fold):
        here = fold == number
        probability[here] = expit(_log_odds(_fit(distance[~here], same[~here], form), form, distance[here]))
    return expected_calibration_error(probability, same)


def _best_of_strangers(
    distance: np.ndarray, query: np.ndarray, query_pids: np.ndarray
) -> tuple[tuple[float, float], ...]:
    """The best distance to another person for each query that has one; all queries of a person together count once."""
    best = np.full(len(query_pids), np.inf)
    np.minimum.at(best, query, distance)
    seen = np.isfinite(best)
    _, person, queries = np.unique(query_pids[seen], return_inverse=True, return_counts=True)
    rows = sorted(zip(best[seen].tolist(), (1 / queries[person]).tolist(), strict=True))
    return tuple(rows)


_NEARLY_ALL = 0.995


def shortly_above(rate: float) -> str:
    """Two digits, rounded up, so that the shown rate is allowed."""
    digits = 1 - math.floor(math.log10(rate))
    return f"{math.ceil(rate * 10**digits) / 10**digits:.{max(digits, 0)}f}"
