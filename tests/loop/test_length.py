"""Trainings whose length is unknown, or turns out to be another one."""

from __future__ import annotations

import numpy as np
import pytest
import tiny
import torch
from loops import Loop, taken_up

from lr_gym import agents
from lr_gym.control.controller import Controller
from lr_gym.errors import InvalidArgumentError
from lr_gym.loop import LRController, LRControllerWarning
from lr_gym.loop.clock import Clock


@pytest.mark.parametrize(
    ("total", "at", "ends"),
    [
        (80, 12, [4, 8, 12, 16, 24, 32, 40, 48, 56, 64, 72, 80]),  # twice as long: from now on twice the interval
        (20, 9, [4, 8, 10, 12, 14, 16, 18, 20]),  # half as long
        (60, 40, [*range(4, 44, 4), 42, 48, 54, 60]),  # after the end
    ],
)
def test_a_length_that_turns_out_to_be_wrong(total: int, at: int, ends: list[int]) -> None:
    """The training still has as many decisions in all; the controller sees how far it is anew."""
    loop = Loop(lr=0.01)
    controller = loop.controller("universal", validate=loop.validation())
    loop.run(controller, at)
    controller.total_updates = total
    loop.run(controller, total - at)
    assert controller.total_updates == total
    assert [entry["updates"] for entry in controller.history] == ends
    state = controller.state_dict()
    progress = [entry["features"]["progress"] for entry in state["intervals"]]
    assert progress == [end / (40 if end <= at else total) for end in ends]
    with pytest.warns(LRControllerWarning, match=f"beyond total_updates={total}"):
        loop.run(controller, 1)


def test_a_changed_length_is_taken_up_again() -> None:
    def begin() -> tuple[Loop, object]:
        loop = Loop(lr=0.01)
        return loop, loop.controller("universal", validate=loop.validation())

    loop, controller = begin()
    loop.run(controller, 14)
    controller.total_updates = 80
    loop.run(controller, 5)
    again, resumed = taken_up(begin, loop, controller)
    assert resumed.total_updates == 80
    assert again.run(resumed, 61) == loop.run(controller, 61)
    assert resumed.history == controller.history


def test_a_longer_training_takes_up_a_shorter_one() -> None:
    loop = Loop(lr=0.01)
    controller = loop.controller("universal", validate=loop.validation())
    loop.run(controller, 40)
    longer = loop.controller("universal", validate=loop.validation(), total_updates=80)
    longer.load_state_dict(controller.state_dict())
    loop.run(longer, 40)
    assert [entry["updates"] for entry in longer.history] == [*range(4, 44, 4), 48, 56, 64, 72, 80]


def test_schedules_are_laid_out_once() -> None:
    controller = Loop().controller("cosine")
    with pytest.raises(InvalidArgumentError, match=r"total_updates cannot change: .* plan for the whole training"):
        controller.total_updates = 80
    with pytest.raises(InvalidArgumentError, match="total_updates must be a whole number"):
        controller.total_updates = 0


@pytest.mark.parametrize("agent", ["greedy", "arc", "plateau", "constant", lambda seen: [0.1]])
def test_agents_that_do_not_look_at_the_length(agent: object) -> None:
    loop = Loop(lr=0.01)
    options = {"total_updates": None, "decisions": None, "decision_interval": 5}
    controller = loop.controller(agent, validate=loop.validation(), **options)
    loop.run(controller, 23)
    assert [entry["updates"] for entry in controller.history] == [5, 10, 15, 20]
    assert controller.total_updates is None
    controller.plot()
    loop.run(controller, 100)
    again = Loop(lr=0.01).controller(agent, validate=loop.validation(), **options)
    again.load_state_dict(controller.state_dict())
    assert (again.lr, again.updates) == (controller.lr, 123)


@pytest.mark.parametrize(
    ("options", "first", "ends"),
    [
        # A decision per 20 updates of 40, per 40 of 80, per 80 of 160: told twice as many whenever they are done.
        ({"decisions": 2}, 40, [20, 40, 80]),
        ({"decision_interval": 1, "decisions": None}, 50, list(range(1, 101))),  # 50 intervals, 100, 200
    ],
)
def test_a_length_that_nobody_knows(options: dict[str, int | None], first: int, ends: list[int]) -> None:
    """A saved controller is told of a small number of updates, and of twice as many whenever they are done."""

    def told(updates: int) -> int:
        return first if updates < first else 2 * told(updates // 2)

    def begin() -> tuple[Loop, LRController]:
        loop = Loop(lr=0.01)
        return loop, loop.controller(
            "universal", total_updates=None, validate=loop.validation(), restore=True, **options
        )

    loop, controller = begin()
    loop.run(controller, 30)
    again, resumed = taken_up(begin, loop, controller)
    assert loop.run(controller, 70) == again.run(resumed, 70)
    assert resumed.history == controller.history
    assert [entry["updates"] for entry in controller.history] == ends
    assert controller.total_updates is None
    progress = [entry["features"]["progress"] for entry in controller.state_dict()["intervals"]]
    assert progress == [end / told(end) for end in ends]


def test_where_a_training_was_expected_to_end_it_goes_back_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """To the learning rate of just after the middle; a training that was left before that does the same."""

    def begin() -> tuple[Loop, LRController]:
        loop = Loop(lr=0.01)
        return loop, loop.controller(
            "universal", total_updates=None, validate=loop.validation(), decisions=None, decision_interval=1
        )

    monkeypatch.setattr(Controller, "predict", lambda *_: (np.array([-0.05]), None))
    loop, controller = begin()
    loop.run(controller, 60)
    again, resumed = taken_up(begin, loop, controller)
    assert loop.run(controller, 50) == again.run(resumed, 50)
    lrs = [entry["lr"] for entry in controller.history]
    falls = [lrs[k] < lrs[k - 1] for k in range(1, 110)]
    assert [k for k in range(1, 110) if not falls[k - 1]] == [50, 100]
    assert lrs[50] == lrs[25]
    assert lrs[100] == lrs[50]


def test_it_does_not_go_back_up_to_what_has_broken_the_training(monkeypatch: pytest.MonkeyPatch) -> None:
    loop = Loop(lr=0.01)
    options = {"validate": loop.validation(), "restore": True, "start": "given", "brake": False, "decisions": None}
    controller = loop.controller("universal", total_updates=None, decision_interval=2, **options)
    monkeypatch.setattr(Controller, "predict", lambda *_: (np.array([-0.05]), None))
    loop.run(controller, 50)
    controller.lr = 1e5  # the 26th interval, the first after the middle of a hundred updates
    with pytest.warns(LRControllerWarning, match="back to where this interval began"):
        loop.run(controller, 52)
    history = controller.history
    restored = [entry["restored"] for entry in history]
    broken = [entry["lr"] for entry in history if entry["restored"]]
    assert restored.index(True) == 25
    # It had 1.0 there, an update after it was brought back to that; and 0.93 has broken the training in its turn.
    assert history[restored.index(False, 25)]["lr"] > min(broken) > history[50]["lr"] > history[49]["lr"]
    assert history[50]["lr"] == pytest.approx(min(broken) / 3)


def test_a_length_that_is_known_after_all() -> None:
    loop = Loop(lr=0.01)
    controller = loop.controller("universal", total_updates=None, validate=loop.validation(), decisions=10)
    loop.run(controller, 25)
    controller.total_updates = 60
    loop.run(controller, 35)
    assert controller.total_updates == 60
    with pytest.warns(LRControllerWarning, match="beyond total_updates=60"):
        loop.run(controller, 1)


@pytest.mark.parametrize("agent", ["cosine", "linear", "exponential"])
def test_agents_that_do(agent: str) -> None:
    loop = Loop()
    with pytest.raises(InvalidArgumentError, match=r"pass total_updates|total_updates is needed"):
        loop.controller(agent, total_updates=None, decisions=None, decision_interval=5, validate=loop.validation())


def test_a_controller_that_does_not_observe_progress_needs_no_length() -> None:
    loop = Loop(lr=0.01)
    about = tiny.description()
    names = ("features", "low", "high", "mean", "variance")
    controller = tiny.controller(**{name: getattr(about, name)[:-1] for name in names})
    found = loop.controller(
        controller, total_updates=None, decisions=None, decision_interval=5, validate=loop.validation()
    )
    lrs = loop.run(found, 30)
    assert [entry["updates"] for entry in found.history] == [5, 10, 15, 20, 25, 30]
    assert len(set(lrs)) > 1


def test_an_interval_in_updates() -> None:
    loop = Loop()
    controller = loop.controller("linear", decisions=None, decision_interval=12)
    loop.run(controller, 40)
    assert [entry["updates"] for entry in controller.history] == [12, 24, 36, 40]
    with pytest.raises(InvalidArgumentError, match="decisions and decision_interval say the same thing"):
        Loop().controller("linear", decisions=3, decision_interval=12)


def test_a_late_decision_does_not_bring_the_next_ones_forward() -> None:
    """Validation losses come when they come: every 7 updates."""
    loop = Loop()
    controller = loop.controller(agents.make("plateau"), decisions=10)
    for update in range(1, 41):
        controller.step(loop.update(), val_loss=1.0 if update % 7 == 0 else None)
    assert [entry["updates"] for entry in controller.history] == [7, 14, 21, 28, 35]


def test_updates_that_an_optimizer_left_out_are_not_counted() -> None:
    """What a fused optimizer leaves out under a GradScaler is known on the device only; it is asked when it matters."""
    clock = Clock(Loop().optimizer, 3.0, 9)
    for skipped in (0.0, 1.0, 0.0, 1.0):
        clock.count(torch.tensor(skipped))
    assert clock.updates == 4
    assert not clock.due()
    assert clock.updates == 2
    clock.count()
    assert clock.due()
