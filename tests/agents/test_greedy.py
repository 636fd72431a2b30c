"""Greedy, on tasks whose losses the test prescribes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import tiny
import torch
from torch import Tensor

from lr_gym import LRTrainingEnv, agents, rollout
from lr_gym.agents.greedy import GreedyAgent

LR = 1e-2
EXACT = 1e-6  # actions are float32
TRAIN_LOSSES: list[float] = []
VALIDATION_LOSSES: list[float] = []


def prescribed(predictions: Tensor, targets: Tensor) -> Tensor:
    """Return the losses of two lists, one after another; the first validation loss is the untrained network's."""
    losses = VALIDATION_LOSSES if torch.is_inference_mode_enabled() else TRAIN_LOSSES
    return predictions.sum() * 0 + (losses.pop(0) if losses else 1.0)


def multiples(
    agent: Any,
    losses: Sequence[float] = (),
    interval: int = 1,
    validation: Sequence[float] = (),
    initial_lr: float = LR,
    **env_options: Any,
) -> list[float]:
    """Return the learning rates after each interval of losses, over the initial one."""
    intervals = len(losses) // interval or len(validation)
    TRAIN_LOSSES[:], VALIDATION_LOSSES[:] = losses, [50.0, *validation] if validation else []
    task = tiny.task(
        budget=(intervals + 1) * interval,
        decision_interval=interval,
        loss=prescribed,
        initial_lrs=(initial_lr,),
        batch_size=4,
        train_size=8,
        validation_size=4,
        model_options={"width": 1},
        check=False,  # which would take losses from the lists
    )
    record = rollout(
        LRTrainingEnv(task, **(dict(GreedyAgent.env_options) | env_options)), agent, seed=0, initial_lr=initial_lr
    )
    return [lr / initial_lr for lr in record.lrs[1:]]


AGAIN = {"patience": 0, "min_lr": LR, "reset_after": 1}
#: Options beyond a factor of a half; training losses; the learning rate after each.
TABLE: dict[str, tuple[dict[str, Any], list[float], list[float]]] = {
    "good streaks": ({"patience": 2}, [9, 8, 7, 6, 5, 4, 3], [1, 1, 2, 2, 2, 4, 4]),
    "bad streaks": ({"patience": 2}, [5, 5, 5, 5, 6, 7, 8, 8], [1, 1, 1, 0.5, 0.5, 0.5, 0.25, 0.25]),
    "one bad ends a good streak": ({"patience": 2}, [9, 8, 8.5, 7, 6, 5], [1, 1, 1, 1, 1, 2]),
    "one good ends a bad streak": ({"patience": 2}, [5, 6, 7, 4, 5, 6, 7], [1, 1, 1, 1, 1, 1, 0.5]),
    "the best so far, not the last": ({"patience": 2}, [9, 5, 8, 7, 6], [1, 1, 1, 1, 0.5]),
    "no patience": ({"patience": 0}, [5, 4, 6, 3, 3], [2, 4, 2, 4, 2]),
    "patience of one": ({"patience": 1}, [5, 4, 3, 2, 2, 2, 1, 0.5], [1, 2, 2, 4, 4, 2, 2, 4]),
    "after a decision both streaks are empty": ({"patience": 1}, [5, 6, 6, 4, 3], [1, 1, 0.5, 0.5, 1]),
    "threshold": ({"patience": 0, "threshold": 0.5}, [9, 8.5, 8, 7.25, 7], [2, 1, 2, 4, 2]),
    "no threshold": ({"patience": 0, "threshold": 0}, [9, 9, 8.9999], [2, 1, 2]),
    "upper bound": ({"patience": 0, "max_lr": 3 * LR}, [9, 8, 7, 8, 6, 5], [2, 3, 3, 1.5, 3, 3]),
    "lower bound": ({"patience": 0, "min_lr": 0.4 * LR}, [5, 6, 6, 6, 6, 4], [2, 1, 0.5, 0.4, 0.4, 0.8]),
    "starts above the bounds": ({"patience": 0, "max_lr": 0.6 * LR}, [5, 4, 6, 3, 2], [1, 1, 0.5, 0.6, 0.6]),
    "starts far above the bounds": ({"patience": 0, "max_lr": 0.1 * LR}, [5, 6, 4, 6, 6], [1, 0.5, 0.5, 0.25, 0.125]),
    "starts below the bounds": ({"patience": 0, "min_lr": 1.5 * LR}, [5, 6, 6, 4, 6], [2, 1.5, 1.5, 3, 1.5]),
    "starts far below the bounds": ({"patience": 1, "min_lr": 5 * LR}, [5, 6, 6, 6, 6, 4, 3], [1] * 6 + [2]),
    "cooldown": ({"patience": 0, "cooldown": 2}, [5, 6, 1, 1, 4, 5, 9, 9, 5], [2, 1, 1, 1, 2, 1, 1, 1, 0.5]),
    "no cooldown after a rise": ({"patience": 0, "cooldown": 2}, [5, 4, 3], [2, 4, 8]),
    "warm-up": ({"patience": 0, "warm_up": 1}, [9, 1, 8, 7, 9, 6], [2, 2, 4, 4, 2, 4]),
    "no warm-up after a fall": ({"patience": 0, "warm_up": 1}, [5, 6, 7, 8], [2, 2, 1, 0.5]),
    "streaks after cooldown": ({"patience": 1, "cooldown": 1}, [5, 6, 6, 7, 6, 6], [1, 1, 0.5, 0.5, 0.5, 0.25]),
    "smoothing": ({"patience": 0, "smoothing": 2}, [8, 4, 6, 1, 6], [2, 4, 8, 16, 16 / 2]),
    "ignored losses are smoothed": ({"patience": 0, "smoothing": 2, "warm_up": 1}, [8, 90, 4, 4], [2, 2, 1, 2]),
    "starts again": (AGAIN | {"min_lr": 0.5 * LR, "reset_after": 2}, [5, 6, 7, 8, 9, 9.5], [2, 1, 0.5, 1, 2, 1]),
    "a rise forgets": (
        AGAIN | {"min_lr": 0.5 * LR, "reset_after": 2},
        [5, 6, 7, 4, 9, 9, 9],
        [2, 1, 0.5, 1, 0.5, 1, 2],
    ),
    "starts again with an empty mean": (AGAIN | {"smoothing": 3}, [5, 20, 50, 40], [2, 1, 2, 4]),
    "starts again without a cooldown": (AGAIN | {"cooldown": 3}, [5, 20, 50, 40], [2, 1, 2, 4]),
}


@pytest.mark.parametrize("case", TABLE)
def test_by_hand(case: str) -> None:
    options, losses, expected = TABLE[case]
    assert multiples(agents.make("greedy", factor=0.5, **options), losses) == pytest.approx(expected, rel=EXACT)


@pytest.mark.parametrize("case", [name for name, (_, losses, _) in TABLE.items() if len(losses) % 6 == 0])
def test_an_interval_is_gone_through_loss_by_loss(case: str) -> None:
    """Or, where validation losses are watched, once per interval, whatever the training losses do: they fall."""
    options, losses, expected = TABLE[case]
    for interval in (2, 6):
        got = multiples(GreedyAgent(0.5, **options), losses, interval)
        assert got == pytest.approx(expected[interval - 1 :: interval], rel=EXACT)
    falling = [10 - 0.1 * k for k in range(3 * len(losses))]
    got = multiples(GreedyAgent(0.5, metric="val_loss", **options), falling, interval=3, validation=losses)
    assert got == pytest.approx(expected, rel=EXACT)


def test_defaults() -> None:
    """More than ten of a kind in a row, and a factor of 0.95."""
    falling = [20 - 0.5 * k for k in range(23)]
    assert multiples(GreedyAgent(), falling) == pytest.approx([1] * 10 + [1 / 0.95] * 11 + [0.95**-2] * 2, rel=EXACT)
    flat = [1.0] * 24  # the first is good
    assert multiples(GreedyAgent(), flat) == pytest.approx([1] * 11 + [0.95] * 11 + [0.95**2] * 2, rel=EXACT)
    barely = [1 - 2.0**-21 * k for k in range(12)]  # falls by less than a millionth; by more every third time
    assert multiples(GreedyAgent(), barely) == [1] * 12


def test_the_bounds_of_the_env() -> None:
    """Whichever is narrower, the env's or the agent's; and each episode begins with a clean memory."""
    agent = GreedyAgent(0.5, 0)
    got = multiples(agent, [9, 8, 7, 6, 7], initial_lr=2.0, max_lr=7.0)
    assert got == pytest.approx([2, 3.5, 3.5, 3.5, 1.75], rel=EXACT)
    got = multiples(agent, [9, 9, 9, 9, 9], initial_lr=1e-3, min_lr=4e-4, max_lr=10.0)
    assert got == pytest.approx([2, 1, 0.5, 0.4, 0.4], rel=EXACT)
    agent = GreedyAgent(0.5, 0, min_lr=1e-9, max_lr=100.0)
    assert multiples(agent, [9, 8, 7], initial_lr=4.0) == pytest.approx([2, 2.5, 2.5], rel=EXACT)
    assert multiples(agent, [9, 9, 9], initial_lr=3e-7) == pytest.approx([2, 1, 0.5], rel=EXACT)
