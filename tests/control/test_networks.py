"""A controller acts as the Stable-Baselines3 policy that it was trained as, bit for bit."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import tiny
import torch

from lr_gym.agents.ppo.policy import build_policy
from lr_gym.control.controller import Controller, Description
from lr_gym.errors import InvalidArgumentError

CASES = list(itertools.product(("mlp", "lstm"), ("continuous", "discrete"), ("absolute", "portable")))


def pair(actor: str, action: str, observation: str, hidden_size: int = 32) -> tuple[Controller, Any]:
    """Return a controller with random weights, and SB3's policy with the same."""
    about: Description = tiny.description(actor, observation=observation, action=action, hidden_size=hidden_size)
    policy = build_policy(about)
    generator = torch.Generator().manual_seed(7)
    weights = {name: torch.randn(w.shape, generator=generator) * 0.1 for name, w in policy.state_dict().items()}
    policy.load_state_dict(weights)
    policy.set_training_mode(False)
    return Controller(about, weights), policy


def observations(size: int, *shape: int) -> Any:
    return (4 * np.random.default_rng(1).normal(size=(*shape, size))).astype(np.float32)


@pytest.mark.parametrize(("actor", "action", "observation"), CASES)
def test_the_shapes_are_those_of_the_policy(actor: str, action: str, observation: str) -> None:
    about = tiny.description(actor, observation=observation, action=action)
    assert about.tensor_shapes == {name: tuple(w.shape) for name, w in build_policy(about).state_dict().items()}


@pytest.mark.parametrize("deterministic", [True, False])
@pytest.mark.parametrize("batch", [None, 1, 5])
@pytest.mark.parametrize(("actor", "action", "observation"), CASES)
def test_the_actions_are_those_of_the_policy(
    actor: str, action: str, observation: str, batch: int | None, deterministic: bool
) -> None:
    controller, policy = pair(actor, action, observation)
    size = len(controller.description.features)
    state, their_state, seen = None, None, set()
    for number, seen_now in enumerate(observations(size, 12) if batch is None else observations(size, 12, batch)):
        starts = np.array([number % 5 == k for k in range(batch or 1)])
        torch.manual_seed(number)
        theirs, their_state = policy.predict(controller.normalise(seen_now), their_state, starts, deterministic)
        torch.manual_seed(number)
        ours, state = controller.predict(seen_now, state, starts, deterministic)
        assert np.array_equal(ours, theirs)
        assert np.asarray(ours).dtype == theirs.dtype
        assert np.shape(ours) == theirs.shape
        seen.add(np.asarray(ours).tobytes())
        if actor == "lstm":
            assert state is not None
            assert their_state is not None
            assert all(np.array_equal(mine, other) for mine, other in zip(state, their_state, strict=True))
    assert len(seen) > (1 if action == "discrete" else 8)


def test_nothing_is_drawn_to_make_a_controller() -> None:
    about = tiny.description("lstm")
    weights = tiny.weights(about)
    before = torch.get_rng_state()
    Controller(about, weights)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("shape", [(7,), (9,), (), (2, 3, 8)])
def test_observations_of_another_shape(shape: tuple[int, ...]) -> None:
    with pytest.raises(InvalidArgumentError, match=r"has shape \(8,\) or \(batch, 8\), got"):
        tiny.controller().predict(np.zeros(shape))
