"""How certain ratios of losses are, by resampling runs, yardsticks and tasks; and what one run saves over tuning."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lr_gym.checks import check_choice, check_whole
from lr_gym.errors import InvalidArgumentError
from lr_gym.evaluation.statistics import RESAMPLES

Floats = NDArray[np.float64]
#: What is drawn anew: the runs of every pair, the runs of the yardstick, the tasks.
Level = Literal["runs", "yardstick", "tasks"]
LEVELS: tuple[Level, ...] = ("runs", "yardstick", "tasks")


class Interval(NamedTuple):
    """An estimate with the ends of its 95 % interval."""

    estimate: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.estimate:.3f} [{self.low:.3f}, {self.high:.3f}]"


def ratio_interval(
    ours: Mapping[str, Sequence[Sequence[float]]],
    yardstick: Mapping[str, Sequence[float]],
    *,
    statistic: Literal["median", "geometric mean"] = "median",
    levels: Collection[Level] = LEVELS,
    seed: int = 0,
) -> Interval:
    """Return a statistic of the ratios of mean losses over pairs of a task and a start, and its 95 % interval.

    The hierarchical percentile bootstrap (Davison & Hinkley 1997, section 3.8): tasks are drawn with replacement,
    then for each that was drawn the runs of its yardstick, and the runs of each of its pairs. Leaving a level out
    answers another question: without `"tasks"`, what other seeds would give on the same tasks; without `"yardstick"`
    too, how certain our own side is if the yardstick is taken as exact. With few tasks or runs the interval is too
    narrow, as with every bootstrap.

    Args:
        ours: For every task the losses of the runs of each pair, one list per start. NaN counts as infinite; a pair
            without a run has an infinite mean. A list that is the yardstick's own, the same object, is drawn with it.
        yardstick: For every task the losses of the yardstick's runs, one at least.
        statistic: Of the ratios over all pairs.
        levels: What is drawn anew.
        seed: Of the resampling. The same arguments give the same interval.

    Returns:
        Estimate and interval; NaN without a pair, infinite where ratios are.

    Raises:
        InvalidArgumentError: A task has no yardstick, or an option has an unknown value.
    """
    if missing := [task for task in ours if not len(yardstick.get(task, ()))]:
        raise InvalidArgumentError(f"every task needs runs of the yardstick, {missing[0]!r} has none")
    pairs = {task: [(runs, yardstick[task]) for runs in of_task] for task, of_task in ours.items()}
    return pair_interval(pairs, statistic=statistic, levels=levels, seed=seed)


def pair_interval(
    pairs: Mapping[str, Sequence[tuple[Sequence[float], Sequence[float]]]],
    *,
    statistic: Literal["median", "geometric mean"] = "median",
    levels: Collection[Level] = LEVELS,
    seed: int = 0,
) -> Interval:
    """Return a statistic of the ratios of two sides' mean losses, each pair with runs of both, and its 95 % interval.

    The bootstrap of `ratio_interval`, where the other side may have runs of its own for every start.

    Args:
        pairs: For every task the losses of our runs and of theirs, one pair per start. NaN counts as infinite; no runs
            have an infinite mean. A list that stands in several places, the same object, is drawn once for all.
        statistic: Of the ratios over all pairs.
        levels: What is drawn anew; `"yardstick"` stands for their runs.
        seed: Of the resampling. The same arguments give the same interval.

    Returns:
        Estimate and interval; NaN without a pair, infinite where ratios are.

    Raises:
        InvalidArgumentError: An option has an unknown value.
    """
    check_choice("statistic", statistic, ("median", "geometric mean"))
    for level in levels:
        check_choice("levels", level, LEVELS)
    tasks = [task for task, of_task in pairs.items() if len(of_task)]
    if not tasks:
        return Interval(math.nan, math.nan, math.nan)
    rng = np.random.default_rng(seed)
    width = max(len(pairs[task]) for task in tasks)
    slots = np.tile(np.arange(len(tasks)), (RESAMPLES + 1, 1))  # the first row is what was measured
    if "tasks" in levels:
        slots[1:] = rng.integers(len(tasks), size=(RESAMPLES, len(tasks)))
    ratios = np.full((RESAMPLES + 1, len(tasks), width), np.nan)  # NaN: the task has fewer pairs
    for number, task in enumerate(tasks):
        rows, columns = np.nonzero(slots == number)
        measured = rows == 0
        means: dict[int, Floats] = {}  # what was drawn of a list, by the list itself
        for place, pair in enumerate(pairs[task]):
            for runs, drawn in ((pair[1], "yardstick" in levels), (pair[0], "runs" in levels)):
                if id(runs) not in means:
                    means[id(runs)] = _means(runs, measured, drawn, rng)
            ours, theirs = (means[id(runs)] for runs in pair)
            ratios[rows, columns, place] = _ratios(ours, theirs)
    found = _rows(ratios.reshape(RESAMPLES + 1, -1), statistic)
    ordered = np.sort(found[1:])
    outside = RESAMPLES // 40  # 2.5 % on either side; no interpolation, which fails between infinite values
    return Interval(float(found[0]), float(ordered[outside]), float(ordered[-1 - outside]))


def _means(runs: Sequence[float], measured: NDArray[np.bool_], drawn: bool, rng: np.random.Generator) -> Floats:
    """Return a mean for every entry: of the runs themselves where measured or not drawn, else of a resample."""
    values = _losses(runs)
    if not len(values):
        return np.full(len(measured), np.inf)
    means = np.full(len(measured), values.mean())
    if drawn:
        resampled = values[rng.integers(len(values), size=(len(measured), len(values)))].mean(axis=1)
        means = np.where(measured, means, resampled)
    return means


def _losses(values: Sequence[float]) -> Floats:
    array = np.asarray(values, dtype=np.float64)
    return np.where(np.isnan(array), np.inf, array)


def _ratios(means: Floats, units: Floats) -> Floats:
    """Return losses over those of the yardstick, 1 where both are the same: zero, or infinite."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(means == units, 1.0, np.where(np.isinf(means), np.inf, means / units))


def _rows(ratios: Floats, statistic: str) -> Floats:
    """Return the statistic of every row, of the entries that are not NaN."""
    counts = (~np.isnan(ratios)).sum(axis=1)
    if statistic == "median":
        ordered, rows = np.sort(ratios, axis=1), np.arange(len(ratios))  # NaN last
        low, high = ordered[rows, (counts - 1) // 2], ordered[rows, counts // 2]
        return np.asarray(np.where(low == high, low, (low + high) / 2))
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(np.exp(np.nansum(np.log(ratios), axis=1) / counts))


class Saving(NamedTuple):
    """One run of ours against the best of k tuned runs.

    Attributes:
        k: How many runs the other side had.
        ratio: Our mean score over the expected score of its best.
        lower: Probability that a run of ours has the lower score; ties count one half.
    """

    k: int
    ratio: float
    lower: float


def against_best_of(
    ours: Sequence[float], selection: Sequence[float], scores: Sequence[float] | None = None
) -> list[Saving]:
    """Compare one run of ours with the best of k runs of somebody who tunes, for every k.

    To tune is to pick k of the candidates by chance, none twice, and to keep the one with the lowest selection loss.
    The probabilities are exact: with the candidates in order of their selection loss, 1 the lowest of N, the i-th is
    the best of k with probability C(N - i, k - 1) / C(N, k) (Dodge et al. 2019, arXiv:1909.03004, for picks without
    replacement). At equal cost, k is the cost of one run of ours in trainings.

    Args:
        ours: Scores of our runs.
        selection: What the candidates are chosen by, validation losses, one run each. NaN counts as infinite.
        scores: What they are judged by, in the same order; the selection losses themselves by default.

    Returns:
        One entry for every k from 1 to the number of candidates.

    Raises:
        InvalidArgumentError: A list is empty, or `scores` has another length than `selection`.
    """
    judged = selection if scores is None else scores
    if not len(ours) or not len(selection) or len(judged) != len(selection):
        raise InvalidArgumentError(
            f"ours and selection need a run each, and scores one per candidate; got {len(ours)}, {len(selection)} and "
            f"{len(judged)}"
        )
    mine, choice, theirs = (_losses(values) for values in (ours, selection, judged))
    theirs = theirs[np.argsort(choice, kind="stable")]
    lower = (mine[:, None] < theirs).mean(axis=0) + (mine[:, None] == theirs).mean(axis=0) / 2
    curve = []
    for k in range(1, len(theirs) + 1):
        chances = best_of_chances(len(theirs), k)
        used = chances > 0
        expected = float(chances[used] @ theirs[used])
        curve.append(Saving(k, float(mine.mean()) / expected if expected else math.inf, float(chances @ lower)))
    return curve


def best_of_chances(candidates: int, k: int) -> Floats:
    """Return for every candidate, the best first, the probability that it is the best of k picked by chance.

    Args:
        candidates: How many there are.
        k: How many are picked, none twice.

    Raises:
        InvalidArgumentError: k is not a whole number from 1 to the number of candidates.
    """
    check_whole("candidates", candidates)
    check_whole("k", k)
    if k > candidates:
        raise InvalidArgumentError(f"k must be at most the number of candidates, {candidates}, got {k}")
    ways = [math.comb(candidates - place, k - 1) for place in range(1, candidates + 1)]
    return np.array(ways, dtype=np.float64) / math.comb(candidates, k)
