from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import tiny
import torch
import toys
from sb3_contrib.common.recurrent.type_aliases import RNNStates
from stable_baselines3.common.logger import configure
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

from lr_gym import LRTrainingEnv
from lr_gym.agents.ppo.algorithm import (
    LstmPolicy,
    MlpPolicy,
    TwoRatePPO,
    TwoRateRecurrentPPO,
    policy_kwargs,
    relative_advantages,
)
from lr_gym.agents.ppo.train import make_algorithm

ACTOR_LR, CRITIC_LR = 0.001, 0.005
HEADS = {"value": ["value_net.weight", "value_net.bias"], "action": ["action_net.weight", "action_net.bias"]}
LAYER = {which: [f"mlp_extractor.{which}_net.0.{part}" for part in ("weight", "bias")] for which in ("policy", "value")}
LSTM = [f"lstm_actor.{part}_{place}_l0" for part in ("weight", "bias") for place in ("ih", "hh")]
NAMES = {
    "mlp": {"actor": {"log_std", *LAYER["policy"], *HEADS["action"]}, "critic": {*LAYER["value"], *HEADS["value"]}},
    "lstm": {
        "actor": {"log_std", *LSTM, *HEADS["action"]},
        "critic": {"critic.weight", "critic.bias", *LAYER["value"], *HEADS["value"]},
    },
}
#: By hand, for eight observations, one action, 32 units. An LSTM has four gates, each with two biases.
SIZES = {
    "mlp": {"actor": 8 * 32 + 32 + 32 + 1 + 1, "critic": 8 * 32 + 32 + 32 + 1},
    "lstm": {"actor": 4 * 32 * (8 + 32) + 2 * 4 * 32 + 32 + 1 + 1, "critic": 8 * 32 + 32 + 32 * 32 + 32 + 32 + 1},
}
ACTORS = pytest.mark.parametrize("actor", ["mlp", "lstm"])


def make(actor: str, **changes: Any) -> TwoRatePPO | TwoRateRecurrentPPO:
    """Return what a training run of the paper's networks makes, on a task of its own size."""
    config = tiny.config(**({"actor": actor, "hidden_size": 32} | changes))
    envs = DummyVecEnv([lambda: LRTrainingEnv(config.task, **config.env_options)] * config.trainees)
    return make_algorithm(config, VecNormalize(envs))


def groups_by_name(model: TwoRatePPO | TwoRateRecurrentPPO) -> dict[str, set[str]]:
    names = {id(parameter): name for name, parameter in model.policy.named_parameters()}
    return {group["name"]: {names[id(p)] for p in group["params"]} for group in model.policy.optimizer.param_groups}


def rates(model: TwoRatePPO | TwoRateRecurrentPPO) -> dict[str, float]:
    return {group["name"]: group["lr"] for group in model.policy.optimizer.param_groups}


@ACTORS
def test_groups_are_what_value_and_policy_depend_on(actor: str) -> None:
    """The value's gradient reaches the critic's parameters only, the log-probability's the actor's only."""
    model = make(actor)
    assert groups_by_name(model) == NAMES[actor]
    groups = model.policy.optimizer.param_groups
    assert {group["name"]: sum(p.numel() for p in group["params"]) for group in groups} == SIZES[actor]
    assert len([p for group in groups for p in group["params"]]) == len(list(model.policy.parameters()))
    observation, actions = torch.randn(4, 8), torch.zeros(4, 1)
    state: tuple[Any, ...] = ()
    if isinstance(model, TwoRateRecurrentPPO):
        nothing = (torch.zeros(1, 4, 32), torch.zeros(1, 4, 32))
        state = (RNNStates(nothing, nothing), torch.zeros(4))
    values, log_probability, _ = model.policy.evaluate_actions(observation, actions, *state)
    for quantity, name in ((values, "critic"), (log_probability, "actor")):
        model.policy.optimizer.zero_grad()
        quantity.sum().backward(retain_graph=True)
        reached = {n for n, p in model.policy.named_parameters() if p.grad is not None and bool(p.grad.any())}
        unused = {"lstm_actor.weight_hh_l0"}  # its input, the state, is zero
        assert reached == NAMES[actor][name] - unused


@ACTORS
def test_rates_stay(actor: str, tmp_path: Path) -> None:
    """After learning, after SB3's own saving and loading, which gives the same model, after learning on."""
    expected = {"actor": ACTOR_LR, "critic": CRITIC_LR}
    model = make(actor)
    assert rates(model) == expected
    steps = model.n_steps * model.n_envs
    model.learn(steps)
    assert rates(model) == expected
    model.save(tmp_path / "model.zip")
    again = type(model).load(tmp_path / "model.zip", env=model.get_env(), device="cpu")
    assert groups_by_name(again) == NAMES[actor]
    assert toys.same(dict(again.policy.state_dict()), dict(model.policy.state_dict()))
    assert toys.same(again.policy.optimizer.state_dict(), model.policy.optimizer.state_dict())
    before = {name: p.clone() for name, p in again.policy.named_parameters()}
    again.learn(2 * steps)
    assert rates(again) == expected
    assert again.policy.optimizer.state_dict()["param_groups"][1]["lr_scale"] == 5.0
    assert {name for name, p in again.policy.named_parameters() if not torch.equal(p, before[name])} == set(before)


def test_both_rates_are_logged_and_scheduled(tmp_path: Path) -> None:
    env = DummyVecEnv([lambda: gymnasium.make("Pendulum-v1")])
    kwargs = policy_kwargs("mlp", 8) | {"critic_lr_scale": 5.0}
    sizes: Any = {"n_steps": 8, "batch_size": 8, "device": "cpu"}
    model = TwoRatePPO(MlpPolicy, env, learning_rate=lambda left: 0.001 * left, policy_kwargs=kwargs, **sizes)
    model.set_logger(configure(str(tmp_path), ["json"]))
    model.learn(4 * 8)
    model.logger.dump(99)
    model.logger.close()
    lines = [json.loads(line) for line in (tmp_path / "progress.json").read_text().splitlines()]
    logged = [(line["train/actor_lr"], line["train/critic_lr"]) for line in lines if "train/actor_lr" in line]
    expected = [0.001 * left for left in (0.75, 0.5, 0.25, 0.0)]  # SB3: progress after the rollout
    assert [actor for actor, _ in logged] == pytest.approx(expected, rel=1e-6, abs=1e-12)
    assert [critic for _, critic in logged] == pytest.approx([5 * lr for lr in expected], rel=1e-6, abs=1e-12)
    assert rates(model) == {"actor": 0.0, "critic": 0.0}


@pytest.mark.parametrize("policy", [MlpPolicy, LstmPolicy])
def test_policies_are_rebuilt_with_their_scale(policy: Any, tmp_path: Path) -> None:
    space, action = gymnasium.spaces.Box(-1, 1, (8,)), gymnasium.spaces.Box(-1, 1, (1,))
    made = policy(space, action, lambda _: 0.01, critic_lr_scale=7.0, **policy_kwargs("mlp", 4))
    made.save(tmp_path / "policy.pth")
    again = policy.load(tmp_path / "policy.pth", device="cpu")
    assert [group["lr_scale"] for group in again.optimizer.param_groups] == [1.0, 7.0]
    assert [group["lr"] for group in made.optimizer.param_groups] == pytest.approx([0.01, 0.07])


@pytest.mark.parametrize(
    ("trainees", "minibatches", "expected"), [(2, 2, 3), (2, 4, 2), (3, 2, 9), (1, 100, 3), (5, 4, 5), (16, 4, 12)]
)
def test_mini_batches_divide_the_decisions(trainees: int, minibatches: int, expected: int) -> None:
    """At most as many as wanted, all of the same size (SB3 warns of others), none of one decision (SB3 refuses it)."""
    model = make("mlp", trainees=trainees, minibatches=minibatches)
    total = 3 * trainees
    assert model.batch_size == expected
    assert total % model.batch_size == 0
    assert total // model.batch_size <= minibatches


@ACTORS
def test_rates_go_down_over_the_training(actor: str) -> None:
    """Both, linearly, and from where they are after half of it when the rest follows in another `learn`."""
    model = make(actor, final_lr_factor=0.2)
    steps = model.n_steps * model.n_envs
    assert rates(model) == {"actor": ACTOR_LR, "critic": CRITIC_LR}
    model._setup_learn(4 * steps)
    for done, factor in ((0, 1.0), (1, 0.8), (2, 0.6), (4, 0.2)):
        model._update_current_progress_remaining(done * steps, 4 * steps)
        model._update_learning_rate(model.policy.optimizer)
        assert rates(model) == pytest.approx({"actor": ACTOR_LR * factor, "critic": CRITIC_LR * factor})


# -- replicas --------------------------------------------------------------------------------------------------------


def test_advantages_among_replicas_by_hand() -> None:
    """Two decisions of two pairs."""
    raw = np.array([[10, 12, -5, -9], [0, -4, 3, 3]], dtype=np.float32)
    got = relative_advantages(raw, 2)
    assert got.dtype == np.float32
    assert got.tolist() == [[-1, 1, 2, -2], [2, -2, 0, 0]]
    assert raw.tolist() == [[10, 12, -5, -9], [0, -4, 3, 3]]
    assert relative_advantages(raw, 4).tolist() == [[8, 10, -7, -11], [-0.5, -4.5, 2.5, 2.5]]


@ACTORS
@pytest.mark.parametrize("replicas", [1, 2, 4])
def test_a_rollout_compares_replicas(actor: str, replicas: int) -> None:
    """What the actor learns from; the critic still learns the whole return."""
    model = make(actor, trainees=4, replicas=replicas)
    assert model.replicas == replicas
    _, callback = model._setup_learn(model.n_steps * model.n_envs)
    buffer: Any = model.rollout_buffer
    assert model.collect_rollouts(model.env, callback, buffer, model.n_steps)  # type: ignore[arg-type]
    raw = buffer.returns - buffer.values
    assert np.ptp(raw) > 0.1
    if replicas == 1:
        assert buffer.advantages == pytest.approx(raw, abs=1e-5)
    else:
        assert buffer.advantages == pytest.approx(relative_advantages(raw, replicas), rel=1e-3, abs=1e-3)
    rewards = buffer.rewards.sum(0)  # gamma and lambda are 1, and an episode is over with the rollout
    assert buffer.returns[0] == pytest.approx(rewards, abs=1e-4)
