"""Trainings that are left and taken up again."""

from __future__ import annotations

import pytest
from loops import AGENTS, Loop, same_weights, taken_up

from lr_gym import LRController
from lr_gym.errors import FileFormatError
from lr_gym.loop import LRControllerWarning

# -- resume ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stop", [3, 4, 17, 39])
@pytest.mark.parametrize("name", AGENTS)
def test_a_training_is_taken_up_again_bit_for_bit(name: str, stop: int) -> None:
    def begin() -> tuple[Loop, LRController]:
        loop = Loop(lr=0.01, optimizer="Adam")
        return loop, loop.controller(AGENTS[name](), validate=loop.validation())

    whole, controller = begin()
    expected = whole.run(controller, 40)
    first, stopped = begin()
    before = first.run(stopped, stop)
    again, resumed = taken_up(begin, first, stopped)
    assert resumed.lr == stopped.lr
    assert before + again.run(resumed, 40 - stop) == expected
    assert resumed.history == controller.history
    assert resumed.best.val_loss == controller.best.val_loss
    assert same_weights(whole.model, again.model)


def test_states_that_do_not_fit() -> None:
    controller = Loop().controller("cosine")
    state = Loop().controller("cosine", total_updates=50).state_dict()
    with pytest.raises(
        FileFormatError,
        match="with total_updates=50 and intervals of 5 updates, this controller was made with 40 and 4",
    ):
        controller.load_state_dict(state)
    damaged = (state | {"intervals": [{}]}, state | {"gauge": {}}, {"base_lrs": [0.1]})
    for other in ({}, {"format": "other", "version": 1}, *damaged):
        with pytest.raises(FileFormatError, match="this is not a state of an LRController"):
            controller.load_state_dict(other)


def test_another_agent_than_the_one_that_was_saved() -> None:
    loop = Loop(lr=0.1)
    saved = loop.controller("exponential")
    loop.run(saved, 20)
    other = Loop(lr=0.1).controller("linear")
    with pytest.warns(LRControllerWarning, match="the agent decides differently than when the state was saved"):
        other.load_state_dict(saved.state_dict())
    assert other.lr == saved.lr
