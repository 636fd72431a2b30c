"""The one-cycle schedule ("super-convergence", Smith & Topin 2018, arXiv:1708.07120) with its range test.

Sees: the training losses of a range test at the start of the episode; then the number of updates. Says:

    lr(u) = peak / 25 up to peak for 30 % of the budget, then down to peak / 25 / 10,000; both half a cosine

as PyTorch's `OneCycleLR` with its defaults (which follow fastai). The peak comes from the learning rate range test,
or is fixed: `peak_lr="usual"` takes one peak per kind of optimizer, whatever the initial lr, and looks at nothing.

Deviations. 1: Smith & Topin and PyTorch cycle momentum against the learning rate; a controller here sets the learning
rate only. 2: the env trains its first interval at the initial lr, before any decision.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

from torch.optim import Optimizer, lr_scheduler

from lr_gym.agents.base import AGENTS
from lr_gym.agents.range_test import lr_range_test
from lr_gym.agents.schedules import ScheduleAgent
from lr_gym.agents.usual import usual_lr
from lr_gym.checks import check_number
from lr_gym.errors import InvalidArgumentError

#: Peaks by kind of optimizer, ten times what is usual where the learning rate is constant.
USUAL_PEAKS: Mapping[str, float] = {
    "adam": 1e-2,
    "momentum": 1e-1,
    "sgd": 1.0,
    "unit": 1.0,
    "schedule-free-adam": 2.5e-3,
}


class OneCycleAgent(ScheduleAgent):
    """One cycle up to a peak and down to nothing.

    Attributes:
        peak: The peak of the running episode.
    """

    def __init__(
        self,
        peak_lr: float | str = "range-test",
        *,
        peak_factor: float = 1.0,
        rise: float = 0.3,
        start_factor: float = 25.0,
        end_factor: float = 1e4,
    ) -> None:
        """Make the agent.

        Args:
            peak_lr: The largest learning rate; `"initial"` for the initial lr; `"usual"` for one per kind of optimizer
                (`USUAL_PEAKS`); or `"range-test"`, which costs at most 100 updates at the start of an episode. The
                initial lr then matters only through the first interval, after which the test starts. Where it finds
                nothing (the loss never falls), the peak is the initial lr.
            peak_factor: The peak is multiplied by this; to see what a wrong peak costs.
            rise: Share of the budget spent going up.
            start_factor: Peak over the first learning rate.
            end_factor: First learning rate over the last.

        Raises:
            InvalidArgumentError: An option is out of range; at `reset`, no peak is usual for the optimizer.
        """
        if isinstance(peak_lr, str):
            if peak_lr not in ("range-test", "initial", "usual"):
                raise InvalidArgumentError(
                    f"peak_lr must be 'range-test', 'initial', 'usual' or a number, got {peak_lr!r}"
                )
        else:
            check_number("peak_lr", peak_lr, 0, low_open=True, high_open=True)
        check_number("peak_factor", peak_factor, 0, low_open=True, high_open=True)
        check_number("rise", rise, 0, 1, low_open=True, high_open=True)
        check_number("start_factor", start_factor, 1, high_open=True)
        check_number("end_factor", end_factor, 1, high_open=True)
        super().__init__(
            functools.partial(
                lr_scheduler.OneCycleLR, pct_start=rise, div_factor=start_factor, final_div_factor=end_factor
            )
        )
        self._peak_lr, self._peak_factor, self._rise = peak_lr, peak_factor, rise
        self.looks_ahead = "runs a range test" if peak_lr == "range-test" else ""

    def _build(self, optimizer: Optimizer) -> lr_scheduler.LRScheduler:
        budget = self.watched.budget
        if self._rise * budget <= 1:
            raise InvalidArgumentError(
                f"rise={self._rise!r} of a budget of {budget} updates is not more than one update; raise it"
            )
        self.peak = self.bounded(self._peak_factor * self._find_peak())
        return self._factory(optimizer, max_lr=self.peak, total_steps=budget)

    def _find_peak(self) -> float:
        if self._peak_lr == "range-test":
            test = lr_range_test(self.trainee, start_lr=min(1e-6, self.watched.max_lr / 10), end_lr=self.watched.max_lr)
            return self.watched.lr if test.suggestion is None else test.suggestion
        if self._peak_lr == "usual":
            return usual_lr(self.watched, USUAL_PEAKS, "peak_lr")
        return self.watched.lr if self._peak_lr == "initial" else float(self._peak_lr)

    def __getstate__(self) -> dict[str, Any]:
        return super().__getstate__() | {
            "_peak_lr": self._peak_lr,
            "_peak_factor": self._peak_factor,
            "_rise": self._rise,
            "looks_ahead": self.looks_ahead,
        }


AGENTS.register("one-cycle", OneCycleAgent)
