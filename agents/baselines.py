"""Schedules to tune on a task, as an honest opponent: what a practitioner with some runs to spare would do.

| name | candidates |
|---|---|
| step | the 48 step decays of Xu et al. (2019), section 3.2 |
| cosine | from 8 peaks, half a decade apart |
| linear | from the same 8 peaks to zero |
| one-cycle | to the same 8 peaks |
| constant | the same 8 |

The peaks span the optimizer's usual range: 1e-4 to 0.3 for Adam and its kin, 10 times that for SGD with momentum, and
30 times for plain SGD and for optimizers whose authors advise 1 (up to the env's largest learning rate, 10).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from lr_gym.agents.base import make
from lr_gym.agents.schedules import STEP_DECAY_GRID
from lr_gym.errors import UnknownNameError
from lr_gym.evaluation import Contestant
from lr_gym.evaluation.tuning import Candidate
from lr_gym.tasks import Task

#: Learning rates of optimizers that find their step size themselves, as their authors advise.
USUAL_LR: Mapping[str, float] = {
    "prodigy": 1.0,
    "dadapt-adam": 1.0,
    "dadapt-sgd": 1.0,
    "schedule-free-adamw": 2.5e-3,
    "schedule-free-sgd": 1.0,
    "schedule-free-plus": 1.0,
    "Adadelta": 1.0,
}

#: Peaks for Adam and its kin.
PEAKS = (1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1, 3e-1)
LARGEST_LR = 10.0


def peaks(task: Task) -> list[float]:
    """Return eight learning rates, half a decade apart, around what is usual for the task's optimizer."""
    scale = 1.0
    name = str(task.optimizer).rpartition(":")[2]
    if USUAL_LR.get(name) == 1.0:
        scale = 30.0
    elif name == "SGD":
        scale = 10.0 if task.optimizer_options.get("momentum", 0) > 0 else 30.0
    return [float(f"{min(LARGEST_LR, scale * peak):.3g}") for peak in PEAKS]


def _candidate(name: str, agent: str, initial_lr: float, **options: float) -> Candidate:
    return Candidate(Contestant(name, {"agent": agent, "options": options}, make(agent, **options)), initial_lr)


def _steps(task: Task) -> list[Candidate]:
    return [
        _candidate("tuned step", "step", decay.initial_lr, every=decay.every, factor=decay.factor)
        for decay in STEP_DECAY_GRID
    ]


def _cosines(task: Task) -> list[Candidate]:
    return [_candidate("tuned cosine", "cosine", peak) for peak in peaks(task)]


def _linears(task: Task) -> list[Candidate]:
    return [_candidate("tuned linear", "linear", peak) for peak in peaks(task)]


def _one_cycles(task: Task) -> list[Candidate]:
    return [_candidate("tuned one-cycle", "one-cycle", peak / 25, peak_lr=peak) for peak in peaks(task)]


def _constants(task: Task) -> list[Candidate]:
    return [_candidate("tuned constant", "constant", peak) for peak in peaks(task)]


TUNABLE: Mapping[str, Callable[[Task], list[Candidate]]] = {
    "step": _steps,
    "cosine": _cosines,
    "linear": _linears,
    "one-cycle": _one_cycles,
    "constant": _constants,
}


def candidates(name: str, task: Task) -> list[Candidate]:
    """Return what is tried when a schedule is tuned on a task.

    Args:
        name: One of `TUNABLE`.
        task: The task.

    Raises:
        UnknownNameError: There is no such schedule.
    """
    if name not in TUNABLE:
        raise UnknownNameError.of("tunable schedule", name, TUNABLE)
    return TUNABLE[name](task)
