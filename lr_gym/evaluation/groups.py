"""Repeated runs of one agent as a row of a table, tested against another."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from lr_gym.evaluation.cells import Failure
from lr_gym.evaluation.rollout import Rollout
from lr_gym.evaluation.statistics import (
    Summary,
    bootstrap_interval,
    holm,
    paired_p_value,
    probability_of_improvement,
    summarise,
    welch_p_value,
)

#: Differences with a p-value below this are marked, as in Xu et al. (2019).
SIGNIFICANCE = 0.05
LEGEND = (
    "p: Welch's t-test of the test losses against the reference of the row, and the same after Holm's correction for "
    "all rows; paired: t-test run by run, of sides that share initial weights and mini-batches. * lower than the "
    f"reference, + higher, with p < {SIGNIFICANCE} (Welch). Cost: passes over mini-batches relative to plain training, "
    "a backward pass counted as two forward passes."
)


@dataclasses.dataclass(frozen=True)
class Group:
    """Runs that differ only in their seed.

    Attributes:
        task: Name of the task.
        agent: Name of the agent.
        initial_lr: Learning rate of the first interval.
        runs: The records.
        failures: The runs that ended with an error.
        own_start: Whether the initial lr belongs to the agent (a tuned one, for example), not to the comparison.
        records: Names of the files that keep the runs, in the same order; empty where none are kept.
        reference: Label of the group that this one is tested against; None if it is tested against none.
        p_value: Of Welch's t-test on the test losses.
        p_value_holm: The same, corrected for all tests of the table.
        p_value_paired: Of the paired t-test on the runs whose seeds both have.
        improvement: Probability that a run has a lower test loss than one of the reference's.
        lower: Whether the mean test loss is below the reference's.
    """

    task: str
    agent: str
    initial_lr: float
    runs: list[Rollout]
    failures: list[Failure] = dataclasses.field(default_factory=list)
    own_start: bool = False
    records: list[str] = dataclasses.field(default_factory=list)
    reference: str | None = None
    p_value: float | None = None
    p_value_holm: float | None = None
    p_value_paired: float | None = None
    improvement: float | None = None
    lower: bool | None = None

    @property
    def label(self) -> str:
        """Agent and initial lr."""
        return f"{self.agent} from {self.initial_lr:g}"

    @property
    def mark(self) -> str:
        """`*` if significantly lower than the reference, `+` if significantly higher, else nothing."""
        if self.p_value is None or not self.p_value < SIGNIFICANCE:
            return ""
        return "*" if self.lower else "+"

    @property
    def cost(self) -> float:
        """Mean computation of a run over that of plain training."""
        return summarise([run.cost for run in self.runs]).mean

    @property
    def diverged(self) -> int:
        """How many runs diverged."""
        return sum(bool(run.result["diverged"]) for run in self.runs)

    def values(self, key: str) -> list[float]:
        """Return one entry of the results, run by run; NaN where a run has none (accuracy in regression)."""
        return [float("nan") if run.result[key] is None else run.result[key] for run in self.runs]

    def summary(self, key: str) -> Summary:
        """Return mean, deviation and n of one entry of the results."""
        return summarise(self.values(key))

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values: the statistics, and every run's result."""
        fields = ("task", "agent", "initial_lr", "own_start", "reference", "p_value", "p_value_holm", "p_value_paired")
        keys = ("test_loss", "test_accuracy", "best_val_loss", "final_test_loss", "final_test_accuracy")
        return {
            **{name: getattr(self, name) for name in fields},
            "improvement": self.improvement,
            **{key: dataclasses.asdict(self.summary(key)) for key in keys},
            "final_train_loss": dataclasses.asdict(summarise([run.train_losses[-1] for run in self.runs])),
            "test_loss_interval": bootstrap_interval(self.values("test_loss")),
            "failures": [str(failure) for failure in self.failures],
            "diverged": self.diverged,
            "cost": self.cost,
            "records": self.records,
            "results": [
                {
                    "seed": run.seed,
                    **run.result,
                    "final_train_loss": run.train_losses[-1],
                    "extra_forward": run.extra_forward,
                    "extra_backward": run.extra_backward,
                }
                for run in self.runs
            ],
        }


def starts(groups: Sequence[Group]) -> list[float]:
    """Return the initial lrs of a comparison, the largest first; those that belong to an agent do not count."""
    return sorted({group.initial_lr for group in groups if not group.own_start}, reverse=True)


def references(groups: Sequence[Group], agent: str) -> list[Group | None]:
    """Return what each row is tested against: an agent's row on the same task, from the same initial lr or its own.

    Args:
        groups: The rows of a table.
        agent: Name of the agent; its own rows are tested against none.
    """

    def fits(group: Group, other: Group) -> bool:
        same_start = other.own_start or (not group.own_start and other.initial_lr == group.initial_lr)
        return other.agent == agent != group.agent and other.task == group.task and same_start

    return [next((other for other in groups if fits(group, other)), None) for group in groups]


def tested(groups: Sequence[Group], references: Sequence[Group | None]) -> list[Group]:
    """Return the groups with p-values against their references, corrected for all of them together.

    Args:
        groups: The rows of a table.
        references: For each what it is tested against, or None.
    """
    p_values = [
        float("nan") if reference is None else welch_p_value(group.values("test_loss"), reference.values("test_loss"))
        for group, reference in zip(groups, references, strict=True)
    ]
    rows = []
    for group, reference, p, corrected in zip(groups, references, p_values, holm(p_values), strict=True):
        if reference is not None:
            group = dataclasses.replace(
                group,
                reference=reference.label,
                p_value=p,
                p_value_holm=corrected,
                p_value_paired=_paired(group, reference),
                improvement=probability_of_improvement(group.values("test_loss"), reference.values("test_loss")),
                lower=group.summary("test_loss").mean < reference.summary("test_loss").mean,
            )
        rows.append(group)
    return rows


def _paired(group: Group, reference: Group) -> float:
    """Return the p-value of the paired test on the runs whose seeds both have."""
    ours, theirs = ({run.seed: run.result["test_loss"] for run in side.runs} for side in (group, reference))
    seeds = [seed for seed in ours if seed in theirs]
    return paired_p_value([ours[seed] for seed in seeds], [theirs[seed] for seed in seeds])
