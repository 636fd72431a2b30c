"""Rows of comparisons made by hand, for tests of what is done with them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import tiny
from hypothesis import strategies as st

from lr_gym.evaluation import Contestant, Rollout
from lr_gym.evaluation.cells import Failure
from lr_gym.evaluation.groups import Group
from lr_gym.evaluation.groups import tested as with_p_values  # pytest takes tested for a test
from lr_gym.evaluation.transfer import Entry, Matrix

#: Test losses, run by run, that differ from each other significantly.
LOW, MIDDLE, HIGH = [1.0, 1.1, 1.05], [1.5, 1.6, 1.4], [2.0, 2.2, 2.1]


def group(agent: str, test_losses: Sequence[float], *, failed: int = 0, **fields: Any) -> Group:
    """Return a row whose runs have these test losses and the seeds 0, 1, ...; others failed."""
    runs = [tiny.record(test_loss=loss, seed=seed) for seed, loss in enumerate(test_losses)]
    lr = fields.get("initial_lr", 1e-2)
    failures = [Failure(f"{agent} from {lr:g}, seed {len(runs) + k}", "ValueError: no luck") for k in range(failed)]
    return Group(**({"task": "toy", "agent": agent, "initial_lr": lr, "runs": runs, "failures": failures} | fields))


def without_accuracy(run: Rollout) -> Rollout:
    """Return the record as that of a regression."""
    none = {"test_accuracy": None, "final_test_accuracy": None}
    return dataclasses.replace(run, val_accuracies=[None] * len(run.updates), result=run.result | none)


def by_task(groups: Sequence[Group]) -> Mapping[str, list[Group]]:
    """Return the rows of every task."""
    return {task: [g for g in groups if g.task == task] for task in dict.fromkeys(g.task for g in groups)}


def matrix_of(groups: Sequence[Group], **changes: Any) -> Matrix:
    """Return a matrix with these rows; the first agent is the reference."""
    entries = [
        Entry(tiny.task(name=g.task), Contestant(g.agent, {"agent": g.agent}, None), g.initial_lr, g.own_start)
        for g in groups
    ]
    return Matrix(**({"entries": entries, "seeds": [0, 1, 2], "reference": groups[0].agent} | changes))


_LOSSES = st.lists(st.sampled_from([0.5, 1.0, 1.25, 3.0, float("nan"), float("inf")]), max_size=3)


@st.composite
def comparisons(draw: st.DrawFn) -> list[Group]:
    """Draw the rows of a comparison: some agents, tasks and starts, with failed runs and losses that are not finite."""
    count, tasks = draw(st.integers(1, 4)), draw(st.sampled_from([["one"], ["one", "two"]]))
    starts = draw(st.sampled_from([[], [1e-2], [1e-3, 0.1]]))
    groups = []
    for task in tasks:
        for number in range(count):
            own = not starts or draw(st.booleans())
            for lr in [0.25 + number] if own else starts:
                losses, failed = draw(_LOSSES), draw(st.integers(0, 2))
                groups.append(group(f"agent {number}", losses, failed=failed, task=task, initial_lr=lr, own_start=own))
    first = {g.task: g for g in reversed(groups)}
    return with_p_values(groups, [None if g is first[g.task] else first[g.task] for g in groups])
