"""How agents stand over all tasks and starts together: the question that a practitioner asks first."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from lr_gym.errors import UnknownNameError
from lr_gym.evaluation.groups import Group, starts
from lr_gym.evaluation.profiles import profile_score
from lr_gym.evaluation.resampling import ratio_interval
from lr_gym.evaluation.statistics import geometric_mean, interquartile_mean_interval, summarise


@dataclasses.dataclass(frozen=True)
class Standing:
    """One agent over every pair of a task and an initial lr.

    Losses of different tasks are made comparable by a yardstick: the ratio is the mean test loss of the pair's runs
    over the yardstick's mean test loss on the same task.

    Attributes:
        agent: Its name.
        ratios: The ratio of every pair, by (task, initial lr); infinity where no run has succeeded.
        iqm: Interquartile mean of the ratios of single runs, over all pairs (Agarwal et al. 2021), with the ends of its
            95 % interval.
        rank: Mean rank among all agents on the same pair; 1 is the lowest loss.
        improvement: Mean over the pairs of the probability of improvement over the reference; None for the reference
            itself and where nothing was compared.
        cost: Mean computation over that of plain training.
        runs: How many runs there are.
        failed: How many failed.
        interval: Ends of the 95 % interval of the median ratio, which counts the runs, the yardstick's own runs, and
            the choice of the tasks (`ratio_interval`).
        over_lowest: Mean test loss of every pair over the lowest that any agent has there.
    """

    agent: str
    ratios: dict[tuple[str, float], float]
    iqm: tuple[float, float, float]
    rank: float
    improvement: float | None
    cost: float
    runs: int
    failed: int
    interval: tuple[float, float] = (math.nan, math.nan)
    over_lowest: dict[tuple[str, float], float] = dataclasses.field(default_factory=dict)

    @property
    def score(self) -> float:
        """Share of the pairs on which it is within a factor tau of the lowest, mean over tau from 1 to 4.

        As in the AlgoPerf benchmark (`profile_score`); 1 for who is always the lowest.
        """
        return profile_score(list(self.over_lowest.values()))

    @property
    def geometric_mean(self) -> float:
        """The geometric mean of the ratios."""
        return geometric_mean(list(self.ratios.values()))

    def quantile(self, q: float) -> float:
        """Return a quantile of the ratios over the pairs; 1 is the worst."""
        return float(np.quantile(list(self.ratios.values()), q, method="inverted_cdf" if self._broken else "linear"))

    @property
    def _broken(self) -> bool:
        return not all(math.isfinite(ratio) for ratio in self.ratios.values())

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values."""
        dictionaries = ("ratios", "over_lowest")
        values = {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.name not in dictionaries}
        ratios = [{"task": task, "initial_lr": lr, "ratio": ratio} for (task, lr), ratio in self.ratios.items()]
        return values | {
            "median": self.quantile(0.5),
            "p90": self.quantile(0.9),
            "worst": self.quantile(1.0),
            "geometric_mean": self.geometric_mean,
            "score": self.score,
            "ratios": ratios,
        }


def yardsticks(groups: Sequence[Group], name: str | None) -> dict[str, Group]:
    """Return for every task the row whose mean test loss counts as 1.

    Args:
        groups: The rows of all tasks.
        name: The agent that sets it; of several starts the one with its lowest mean. None for the lowest mean of any
            agent, which also counts where the agent has no result. Tasks on which nobody has one are left out.

    Raises:
        UnknownNameError: There is no such agent.
    """
    agents = {group.agent for group in groups}
    if name is not None and name not in agents:
        raise UnknownNameError.of("agent of the comparison", name, agents)
    chosen: dict[str, Group] = {}
    lowest: dict[str, Group] = {}
    for group in groups:
        if math.isfinite(loss := _loss(group)):
            for found in (lowest, chosen) if group.agent == name else (lowest,):
                if group.task not in found or loss < _loss(found[group.task]):
                    found[group.task] = group
    return lowest | chosen


def standings(groups: Sequence[Group], yardstick: str | None = None) -> list[Standing]:
    """Return how every agent stands, the lowest median ratio first.

    An agent with an initial lr of its own has the same result for every start of the task.

    Args:
        groups: The rows of all tasks.
        yardstick: As for `yardsticks`.

    Raises:
        UnknownNameError: The yardstick is no agent of the comparison.
    """
    measures = yardsticks(groups, yardstick)
    unit = {task: _loss(group) for task, group in measures.items()}
    agents = list(dict.fromkeys(group.agent for group in groups))
    by_pair: dict[tuple[str, float], dict[str, Group]] = {}
    for task in unit:
        of_task = [group for group in groups if group.task == task]
        for lr in starts(of_task) or [math.nan]:
            by_pair[task, lr] = {g.agent: g for g in of_task if g.own_start or g.initial_lr == lr}
    from scipy import stats  # here: to load it takes more than a second, also where words are refused

    ranks: dict[str, list[float]] = {agent: [] for agent in agents}
    for row in by_pair.values():
        losses = [_loss(group) for group in row.values()]
        for agent, rank in zip(row, stats.rankdata(losses), strict=True):
            ranks[agent].append(float(rank))
    lowest = {pair: min(map(_loss, row.values()), default=math.inf) for pair, row in by_pair.items()}
    values = {id(group): group.values("test_loss") for group in groups}  # one list each, by which a yardstick is known
    found = []
    for agent in agents:
        pairs = {pair: row[agent] for pair, row in by_pair.items() if agent in row}
        own = {
            id(group): group for group in pairs.values()
        }.values()  # an agent with an initial lr of its own counts once
        improvements = [
            group.improvement for group in own if group.improvement is not None and not math.isnan(group.improvement)
        ]
        found.append(
            Standing(
                agent,
                {pair: _ratio(_loss(group), unit[pair[0]]) for pair, group in pairs.items()},
                interquartile_mean_interval([_ratios(group, unit[group.task]) for group in own]),
                summarise(ranks[agent]).mean,
                summarise(improvements).mean if improvements else None,
                summarise([group.cost for group in own if group.runs]).mean,
                sum(len(group.runs) for group in own),
                sum(len(group.failures) for group in own),
                ratio_interval(
                    {task: [values[id(group)] for group in own if group.task == task] for task in unit},
                    {task: values[id(group)] for task, group in measures.items()},
                )[1:],
                {pair: _ratio(_loss(group), lowest[pair]) for pair, group in pairs.items()},
            )
        )
    return sorted(found, key=lambda standing: standing.quantile(0.5))


def _ratio(loss: float, unit: float) -> float:
    """Return a loss over the yardstick's, which may be zero."""
    return loss / unit if unit > 0 else 1.0 if loss == 0 else math.inf


def _ratios(group: Group, unit: float) -> list[float]:
    """Return the ratio of every run; infinity for one that failed."""
    return [_ratio(loss, unit) for loss in group.values("test_loss")] + [math.inf] * len(group.failures)


def _loss(group: Group) -> float:
    """Return the mean test loss, infinity where there is none."""
    mean = group.summary("test_loss").mean
    return mean if math.isfinite(mean) else math.inf
