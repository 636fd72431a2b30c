"""The sentence at the top of a report: who won, by how much, and how sure that is."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from lr_gym.evaluation.groups import Group, starts
from lr_gym.evaluation.resampling import Interval, pair_interval
from lr_gym.evaluation.results import Results

#: With fewer runs than this a report warns: at 95 % a bootstrap interval of five holds the mean in 83 of 100 samples.
ENOUGH = 5


class Verdict(NamedTuple):
    """Who won in a few words, and the rest of the sentence."""

    head: str
    rest: str

    def __str__(self) -> str:
        return f"{self.head}: {self.rest}"


Losses = Sequence[float]
#: For every task the test losses of the runs of two sides, one pair per start.
Pairs = Mapping[str, Sequence[tuple[Losses, Losses]]]


def verdict(results: Results) -> Verdict:
    """Return who stands first of a comparison, and how it did against the next.

    The order is that of the standings. By how much: the median over all pairs of a task and an initial lr of the ratio
    of the two mean test losses, with the interval of the hierarchical bootstrap (`pair_interval`).
    """
    order = [standing.agent for standing in results.standings() if math.isfinite(standing.quantile(0.5))]
    if not order:
        return Verdict("No result", "no agent has a finite test loss on most tasks and initial learning rates.")
    if len(results.agents) == 1:
        return Verdict("One agent", f"{order[0]} ran alone, so that there is nobody to compare it with.")
    if len(order) == 1:
        return Verdict(f"{order[0]} wins", "no other has a finite test loss on most tasks and initial learning rates.")
    first, second = order[:2]
    pairs = _pairs(results.by_task, first, second)
    return compared(first, f"{second}, the next of {len(results.agents)}", pairs)


def compared(ours: str, theirs: str, pairs: Pairs) -> Verdict:
    """Return who has the lower test losses, of two sides.

    Args:
        ours: Name of the first.
        theirs: Name of the second.
        pairs: Their losses.
    """
    interval = pair_interval(pairs)
    count, tasks = sum(map(len, pairs.values())), len(pairs)
    if math.isnan(interval.estimate):
        return Verdict("No winner", f"{ours} and {theirs} were never run on the same task.")
    over = (
        f"in the median over {count} pairs of a task and an initial learning rate" if count > 1 else "on the one task"
    )
    runs = f"{_span([len(side) for of_task in pairs.values() for pair in of_task for side in pair])} runs of each"
    drawn = f"{runs}, {tasks} tasks drawn anew" if tasks > 1 else f"{runs}, of one task: others may differ"
    return told(ours, theirs, interval, over, drawn)


def told(ours: str, theirs: str, interval: Interval, over: str, drawn: str) -> Verdict:
    """Return an interval of our losses over theirs in words.

    Args:
        ours: Name of the first.
        theirs: Name of the second.
        interval: Ratio and its 95 % interval.
        over: Of what it is the median.
        drawn: What the interval counts.
    """
    low, high = how_far(interval.low), how_far(interval.high)
    ends = f"95\N{NO-BREAK SPACE}% interval: from {low} to {high}; {drawn}"
    rest = f"the test loss of {ours} is {how_far(interval.estimate)} that of {theirs}, {over} ({ends})."
    name = ours.replace("the ", "The ", 1) if ours.startswith("the ") else ours
    if interval.high < 1:
        return Verdict(f"{name} wins", rest)
    if interval.low > 1:
        return Verdict(f"{name} loses", rest)
    return Verdict("No sure winner", rest)


def how_far(ratio: float) -> str:
    """Return a ratio of losses in words that go before "that of": "3.1 % below", "2.4 times"."""
    if not math.isfinite(ratio):
        return "without bound above"
    if not 0.5 < ratio < 2:
        return f"{ratio:.2g} times"
    percent = 100 * abs(ratio - 1)
    return "level with" if percent < 0.05 else f"{percent:.1f}\N{NO-BREAK SPACE}% {'below' if ratio < 1 else 'above'}"


def cautions(groups: Sequence[Group]) -> list[str]:
    """Return what a reader should know before the numbers: few runs, failed ones."""
    lines = []
    counts = [len(group.runs) for group in groups if group.runs]
    few = [count for count in counts if count < ENOUGH]
    if few:
        rows = "every row has" if len(few) == len(counts) else "some rows have"
        lines.append(
            f"Few runs: {rows} {_span(few)}. With fewer than {ENOUGH} runs intervals are too narrow, standard "
            "deviations mean little, and p-values next to nothing."
        )
    if failed := sum(len(group.failures) for group in groups):
        lines.append(f"{failed} runs failed and are in no mean; the errors are at the end of this page.")
    return lines


def _span(counts: Sequence[int]) -> str:
    return f"{min(counts)}" if min(counts) == max(counts) else f"{min(counts)} to {max(counts)}"


def _pairs(by_task: Mapping[str, Sequence[Group]], ours: str, theirs: str) -> Pairs:
    """Return the test losses of two agents, start by start; one with an initial lr of its own is there for each."""
    values = {id(group): group.values("test_loss") for groups in by_task.values() for group in groups}
    pairs: dict[str, list[tuple[Losses, Losses]]] = {}
    for task, groups in by_task.items():
        for lr in starts(groups) or [math.nan]:
            here = {group.agent: group for group in groups if group.own_start or group.initial_lr == lr}
            if ours in here and theirs in here:
                pairs.setdefault(task, []).append((values[id(here[ours])], values[id(here[theirs])]))
    return pairs
