from __future__ import annotations

import copy
import dataclasses
import json
import math
import pickle
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import tiny
import torch
import toys
from gymnasium.wrappers import FlattenObservation, TimeLimit
from hypothesis import given, settings
from hypothesis import strategies as st
from rows import without_accuracy
from stable_baselines3 import PPO

import lr_gym
from lr_gym import LRTrainingEnv, agents, rollout
from lr_gym.errors import FileFormatError, InvalidArgumentError
from lr_gym.evaluation import Rollout


@pytest.fixture(scope="module")
def env() -> LRTrainingEnv:
    return LRTrainingEnv(tiny.task())


def halve(observation: Any) -> Any:
    return [-1.0]


class Recorder:
    """Notes what it is asked, and keeps the learning rate."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []
        self.resets: list[Any] = []

    def reset(self, env: Any) -> None:
        self.resets.append((env, env.unwrapped.trainee.updates))

    def predict(
        self, observation: Any, state: Any = None, episode_start: Any = None, deterministic: bool = False
    ) -> tuple[Any, Any]:
        self.calls.append((observation[-1], state, episode_start.tolist(), deterministic))
        return np.zeros(1, dtype=np.float32), (state or 0) + 1


# -- the episode -------------------------------------------------------------------------------------------------------


def test_a_rollout_is_the_plain_loop(env: LRTrainingEnv) -> None:
    record = rollout(env, halve, seed=5, initial_lr=1e-3)
    _, info = env.reset(seed=5, options={"initial_lr": 1e-3})
    infos, rewards, done = [info], [], False
    while not done:
        _, reward, done, _, info = env.step(np.array([-1.0]))
        infos.append(info)
        rewards.append(reward)
    assert record == Rollout(
        task=tiny.task().to_dict(),
        seed=5,
        initial_lr=1e-3,
        updates=[10, 20, 30, 40],
        lrs=[i["lr"] for i in infos],
        train_losses=[i["features"]["train_loss"] for i in infos],
        val_losses=[i["val_loss"] for i in infos],
        val_accuracies=[i["val_accuracy"] for i in infos],
        rewards=rewards,
        extra_forward=0,
        extra_backward=0,
        result=infos[-1]["result"],
    )
    assert record.lrs == pytest.approx([1e-3, 5e-4, 2.5e-4, 1.25e-4], rel=1e-12)
    assert record.train_losses == pytest.approx([i["train_losses"].mean() for i in infos], rel=1e-6)
    assert (len(record.rewards), record.cost) == (tiny.task().decisions, 1) == (3, 1)


@pytest.mark.parametrize("options", [{"deterministic": False}, {}])
def test_what_an_agent_is_asked(env: LRTrainingEnv, options: dict[str, Any]) -> None:
    recorder, wrapped = Recorder(), FlattenObservation(env)
    rollout(wrapped, recorder, seed=1, **options)
    assert recorder.resets == [(wrapped, 10)]  # after the env's reset
    flag = options.get("deterministic", True)
    assert recorder.calls == [(0.25, None, [True], flag), (0.5, 1, [False], flag), (0.75, 2, [False], flag)]


def test_agents_of_every_kind_agree(env: LRTrainingEnv) -> None:
    every = [agents.make("constant"), lambda _: np.zeros(1), Recorder()]
    first, *others = (rollout(env, agent, seed=2, initial_lr=1e-3) for agent in every)
    assert others == [first] * 2
    assert first.lrs == [1e-3] * 4


def test_a_model_of_stable_baselines(env: LRTrainingEnv) -> None:
    model = PPO("MlpPolicy", env, n_steps=8, batch_size=8, seed=0, device="cpu")
    record = rollout(env, model, seed=3, initial_lr=1e-3)
    action = model.predict(env.reset(seed=3, options={"initial_lr": 1e-3})[0], deterministic=True)[0]
    assert record.lrs[1] == pytest.approx(1e-3 * 2.0 ** float(action[0]), rel=1e-6)
    assert rollout(env, model, seed=3, initial_lr=1e-3) == record
    assert rollout(env, model, seed=3, initial_lr=1e-3, deterministic=False).lrs != record.lrs


@pytest.mark.parametrize("actor", ["mlp", "lstm"])
def test_a_saved_controller(env: LRTrainingEnv, tmp_path: Path, actor: str) -> None:
    controller = tiny.controller(actor)
    controller.save(tmp_path)
    record = rollout(env, controller, seed=3)
    assert rollout(env, agents.make("ppo", controller=tmp_path), seed=3) == record
    action = float(controller.predict(env.reset(seed=3)[0])[0][0])
    assert 0 < abs(action) < 1
    assert record.lrs[1] == pytest.approx(record.lrs[0] * 2.0**action, rel=1e-6)


@pytest.mark.parametrize("agent", [None, 3, "cosine", object(), Recorder, {"predict": 1}])
def test_what_is_no_agent_is_refused(env: LRTrainingEnv, agent: Any) -> None:
    with pytest.raises(InvalidArgumentError, match=r"an agent is an object with predict\(.*got"):
        rollout(env, agent)


def test_another_env_is_refused(env: LRTrainingEnv) -> None:
    for other in (gymnasium.make("CartPole-v1"), "no env"):
        with pytest.raises(InvalidArgumentError, match="rollout needs an LRTrainingEnv, wrapped or not, got"):
            rollout(other, halve)  # type: ignore[arg-type]
    with pytest.raises(InvalidArgumentError, match="must lie in"):
        rollout(env, halve, seed=0, initial_lr=20.0)


def test_seeds_decide_and_without_one_the_stream_goes_on(env: LRTrainingEnv) -> None:
    def four() -> list[Rollout]:
        return [rollout(env, halve, seed=seed) for seed in (4, None, None, 5)]

    runs = four()
    assert [run.seed for run in runs] == [4, None, None, 5]
    assert len({tuple(run.val_losses) for run in runs}) == 4
    assert four() == runs
    assert rollout(LRTrainingEnv(tiny.task()), halve, seed=4) == runs[0]
    drawn = {rollout(env, halve, seed=seed).initial_lr for seed in range(8)}
    assert len(drawn) > 1
    assert drawn <= set(tiny.task().initial_lrs)


def test_wrapped_envs(env: LRTrainingEnv) -> None:
    made = gymnasium.make("lr_gym/LRTraining-v0", task=tiny.task())
    assert rollout(made, halve, seed=6) == rollout(env, halve, seed=6)
    short = rollout(TimeLimit(env, 1), halve, seed=6)
    assert (short.updates, len(short.rewards), short.result["final_val_loss"]) == ([10, 20], 1, short.val_losses[1])


def test_the_network_whose_loss_is_reported() -> None:
    """A copy in evaluation mode, with dropout and running statistics; the trainee stays where it was."""
    env = LRTrainingEnv(tiny.task(model_options={"width": 4, "batch_norm": True}), max_multiplier=1e4)
    record = rollout(env, lambda _: [1.0], seed=0, initial_lr=1e-3)
    assert record.result["best_update"] == 10  # not the last weights
    trainee, last = env.trainee, [p.detach().clone() for p in env.trainee.model.parameters()]
    network = trainee.best_model()
    assert (network.training, trainee.model.training) == (False, True)
    x, y = trainee.data.x["test"], trainee.data.y["test"]
    with torch.no_grad():
        loss = torch.nn.functional.cross_entropy(network(x), y)
    assert float(loss) == pytest.approx(record.result["test_loss"], rel=1e-6)
    assert all(p.grad is None for p in network.parameters())
    with torch.no_grad():
        next(network.parameters()).zero_()
    assert all(torch.equal(p, q) for p, q in zip(trainee.model.parameters(), last, strict=True))
    assert trainee.test_best()[0] == record.result["test_loss"]
    trainee.best.tensors.clear()
    with pytest.raises(InvalidArgumentError, match="the best weights were not kept; take the network itself"):
        trainee.best_model()


def test_a_record_hands_over_its_network() -> None:
    """Of the episode that it tells of, through wrappers and after later episodes; files and comparisons hold none."""
    env = LRTrainingEnv(tiny.task(model_options={"width": 4, "batch_norm": True}), max_multiplier=1e4)
    wrapped = TimeLimit(FlattenObservation(env), 1)
    record = rollout(wrapped, lambda _: [0.8], seed=0, initial_lr=1e-3, keep_best=True)
    assert (record.result["truncated"], record.result["best_update"]) == (True, 10)
    wanted = env.trainee.best_model()
    plain = rollout(env, lambda _: [0.0], seed=1)
    network = record.best_model()
    assert network is record.best_model()
    assert not network.training
    x, y = env.trainee.data.x["test"], env.trainee.data.y["test"]
    with torch.no_grad():
        assert torch.equal(network(x), wanted(x))
        loss = float(torch.nn.functional.cross_entropy(network(x), y))
    assert loss == pytest.approx(record.result["test_loss"], rel=1e-6)
    same = rollout(wrapped, lambda _: [0.8], seed=0, initial_lr=1e-3)
    assert (same, repr(same), same.to_dict()) == (record, repr(record), record.to_dict())
    sent = pickle.dumps(record)
    assert sent == pickle.dumps(same)
    for without in (plain, same, pickle.loads(sent), copy.copy(record), in_json(record)):
        with pytest.raises(InvalidArgumentError, match=r"no network: ask for it with rollout\(\.\.\., keep_best=True"):
            without.best_model()


def test_a_network_that_cannot_be_copied() -> None:
    env = LRTrainingEnv(
        lr_gym.Task.from_torch(model=toys.Uncopied, train=(torch.randn(60, 5), torch.arange(60) % 2), batch_size=8)
    )
    with pytest.raises(InvalidArgumentError, match=r"the model 'toys:Uncopied' cannot be copied .*: .*no copies"):
        rollout(TimeLimit(env, 1), lambda _: [0.0], seed=0, keep_best=True)


def test_both_the_best_and_the_last_weights_are_tested(env: LRTrainingEnv) -> None:
    """Where the last are the best they are the same; where not, the last are those that are there at the end."""
    good = rollout(env, lambda _: [0.0], seed=0, initial_lr=1e-3).result
    assert good["best_update"] == 40
    assert (good["final_test_loss"], good["final_test_accuracy"]) == (good["test_loss"], good["test_accuracy"])
    hasty = LRTrainingEnv(tiny.task(), max_multiplier=1e4)
    worse = rollout(hasty, lambda _: [1.0], seed=0, initial_lr=1e-3).result  # to the largest, 10
    assert worse["best_update"] == 10
    assert worse["final_test_loss"] > worse["test_loss"]
    assert (worse["final_test_loss"], worse["final_test_accuracy"]) == hasty.trainee.test_final()
    assert hasty.trainee.test_final()[0] != hasty.trainee.test_best()[0]


# -- the record --------------------------------------------------------------------------------------------------------


def in_json(record: Rollout) -> Rollout:
    return Rollout.from_dict(json.loads(json.dumps(record.to_dict(), allow_nan=False)))


def as_json_numbers(values: Any) -> Any:
    """Return values with NaN for infinities: JSON tells one from the other no more."""
    if isinstance(values, dict):
        return {key: as_json_numbers(value) for key, value in values.items()}
    if isinstance(values, list):
        return [as_json_numbers(value) for value in values]
    return math.nan if isinstance(values, float) and not math.isfinite(values) else values


@pytest.mark.parametrize("initial_lr", [10.0, 1e30])
def test_a_diverged_run(initial_lr: float) -> None:
    env = LRTrainingEnv(tiny.breaking_task(), max_lr=1e30)
    record = rollout(env, lambda _: [1.0], seed=1, initial_lr=initial_lr)
    assert record.result["diverged"] is True
    assert record.updates == [10, 10]
    lists = (record.lrs, record.train_losses, record.val_losses, record.val_accuracies)
    assert [len(values) for values in lists] == [2] * 4
    (reward,) = record.rewards
    assert math.isfinite(reward)
    assert math.isnan(record.train_losses[0]) == (initial_lr == 1e30)
    assert math.isfinite(record.result["test_loss"])
    assert toys.same(dataclasses.asdict(in_json(record)), as_json_numbers(dataclasses.asdict(record)))


def test_records_come_back_from_json(env: LRTrainingEnv, register_data: Any) -> None:
    register_data("toy regression", toys.table(targets=2))
    regression = LRTrainingEnv(toys.toy_task(data="toy regression", loss="mse_loss"))
    records = [rollout(env, halve, seed=0), rollout(env, halve), rollout(regression, halve, seed=0), tiny.record()]
    assert [in_json(record) for record in records] == records
    assert without_accuracy(records[2]) == records[2]
    broken = tiny.record((2.0, math.nan, math.inf), best=math.nan)
    assert broken.to_dict()["val_losses"] == broken.to_dict()["train_losses"] == [2.0, None, None]
    assert toys.same(dataclasses.asdict(in_json(broken)), as_json_numbers(dataclasses.asdict(broken)))
    assert lr_gym.Task.from_dict(in_json(broken).task) == tiny.task()


@pytest.mark.parametrize(
    "change",
    [{"extra": 1}, {"val_losses": 3}, {"rewards": None}, {"result": None}, {"result": [1]}, {"rewards": []}],
    ids=["unknown", "number", "null", "no result", "list", "short"],
)
def test_foreign_records_are_refused(change: dict[str, Any]) -> None:
    with pytest.raises(FileFormatError, match="not a rollout of this version"):
        Rollout.from_dict(tiny.record().to_dict() | change)


@pytest.mark.parametrize("field", ["lrs", "extra_forward", "extra_backward"])
def test_a_record_without_a_field_is_refused(field: str) -> None:
    values = tiny.record().to_dict()
    del values[field]
    with pytest.raises(FileFormatError, match=field):
        Rollout.from_dict(values)


# -- what looking ahead costs ------------------------------------------------------------------------------------------

passes = st.floats(0, 1e6)


@settings(max_examples=30)
@given(passes, passes)
def test_a_backward_pass_costs_two_forward_passes(forward: float, backward: float) -> None:
    """40 updates are 40 forward passes and 40 backward passes; a diverged run is shorter."""
    record = in_json(tiny.record(extra=(forward, backward)))
    assert record.updates[-1] == 40
    assert record.cost == pytest.approx((40 + forward + 2 * (40 + backward)) / (3 * 40), rel=1e-12)
    assert (record.extra_forward, record.extra_backward) == (forward, backward)
    short = tiny.record((2.0, math.nan), extra=(forward, backward))
    assert short.cost == pytest.approx(1 + (forward + 2 * backward) / 60, rel=1e-12)


class Oracle:
    """Looks ahead at every decision: 4 + 2 + 1 passes forward, 3 backward, and the validation examples."""

    def reset(self, env: Any) -> None:
        self.env = env.unwrapped

    def predict(self, observation: Any, state: Any = None, *_: Any, **__: Any) -> tuple[Any, Any]:
        trainee = self.env.trainee
        trainee.batch_loss(trainee.peek_batches(4))
        with trainee.preserved():
            trainee.train(2)
        trainee.directions()
        trainee.evaluate()
        return [0.0], state


def test_a_rollout_records_what_its_agent_asked_for(env: LRTrainingEnv) -> None:
    looking, plain = rollout(env, Oracle(), seed=0), rollout(env, lambda _: [0.0], seed=0)
    assert looking.extra_forward == pytest.approx(3 * (4 + 2 + 1 + 100 / 16), rel=1e-12)
    assert looking.extra_backward == 3 * 3
    assert looking.cost == pytest.approx(1 + (3 * (7 + 6.25) + 18) / 120)
    assert dataclasses.replace(looking, extra_forward=0.0, extra_backward=0.0) == plain
    assert plain.cost == 1  # the next episode counts anew
