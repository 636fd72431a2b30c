from __future__ import annotations

import dataclasses
import json
import math
import pickle
import re
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import tiny
import toys
from gymnasium.wrappers import FlattenObservation, TimeLimit
from hypothesis import given
from hypothesis import strategies as st
from stable_baselines3 import PPO

import lr_gym
from lr_gym import LRTrainingEnv, agents, rollout
from lr_gym.control.agent import as_agent
from lr_gym.errors import EpisodeError, FileFormatError, InvalidArgumentError
from lr_gym.evaluation import FunctionAgent, Rollout


@pytest.fixture
def env() -> LRTrainingEnv:
    return LRTrainingEnv(tiny.task())


def halve(observation: Any) -> Any:
    return [-1.0]


class Recorder:
    """Notes what it is asked."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []
        self.resets: list[Any] = []

    def reset(self, env: Any) -> None:
        self.resets.append((env, env.unwrapped.trainee.updates))

    def predict(
        self, observation: Any, state: Any = None, episode_start: Any = None, deterministic: bool = False
    ) -> tuple[Any, Any]:
        self.calls.append((observation, state, episode_start.copy(), deterministic))
        return np.zeros(1, dtype=np.float32), (state or 0) + 1


def test_is_the_plain_loop(env: LRTrainingEnv) -> None:
    record = rollout(env, halve, seed=5, initial_lr=1e-3)
    _, info = env.reset(seed=5, options={"initial_lr": 1e-3})
    infos, rewards, done = [info], [], False
    while not done:
        _, reward, done, _, info = env.step(np.array([-1.0]))
        infos.append(info)
        rewards.append(reward)
    assert (record.seed, record.initial_lr, record.task) == (5, 1e-3, tiny.task().to_dict())
    assert record.updates == [10, 20, 30, 40]
    assert record.lrs == pytest.approx([1e-3, 5e-4, 2.5e-4, 1.25e-4], rel=1e-12)
    assert record.lrs == [i["lr"] for i in infos]
    assert record.train_losses == pytest.approx([i["train_losses"].mean() for i in infos], rel=1e-6)
    assert record.val_losses == [i["val_loss"] for i in infos]
    assert record.val_accuracies == [i["val_accuracy"] for i in infos]
    assert record.rewards == rewards
    assert record.result == infos[-1]["result"]
    assert len(record.rewards) == tiny.task().decisions == 3


def test_what_an_agent_is_asked(env: LRTrainingEnv) -> None:
    recorder = Recorder()
    wrapped = FlattenObservation(env)
    rollout(wrapped, recorder, seed=1, deterministic=False)
    assert recorder.resets == [(wrapped, 10)]  # after the env's reset
    assert [state for _, state, _, _ in recorder.calls] == [None, 1, 2]
    assert [start.tolist() for _, _, start, _ in recorder.calls] == [[True], [False], [False]]
    assert [flag for *_, flag in recorder.calls] == [False] * 3
    assert [observation[-1] for observation, *_ in recorder.calls] == [0.25, 0.5, 0.75]
    recorder.calls.clear()
    rollout(env, recorder, seed=1)
    assert [flag for *_, flag in recorder.calls] == [True] * 3


def test_agents_of_every_kind_agree(env: LRTrainingEnv) -> None:
    constant = rollout(env, agents.make("constant"), seed=2, initial_lr=1e-3)
    by_function = rollout(env, lambda _: np.zeros(1), seed=2, initial_lr=1e-3)
    by_object = rollout(env, Recorder(), seed=2, initial_lr=1e-3)
    assert constant == by_function == by_object
    assert constant.lrs == [1e-3] * 4


def test_stable_baselines_model(env: LRTrainingEnv) -> None:
    model = PPO("MlpPolicy", env, n_steps=8, batch_size=8, seed=0, device="cpu")
    record = rollout(env, model, seed=3, initial_lr=1e-3)
    action = model.predict(env.reset(seed=3, options={"initial_lr": 1e-3})[0], deterministic=True)[0]
    assert record.lrs[1] == pytest.approx(1e-3 * 2.0 ** float(action[0]), rel=1e-6)
    assert rollout(env, model, seed=3, initial_lr=1e-3) == record
    assert rollout(env, model, seed=3, initial_lr=1e-3, deterministic=False).lrs != record.lrs


@pytest.mark.parametrize("actor", ["mlp", "lstm"])
def test_saved_controller(env: LRTrainingEnv, tmp_path: Path, actor: str) -> None:
    controller = tiny.controller(actor)
    controller.save(tmp_path)
    record = rollout(env, controller, seed=3)
    assert rollout(env, agents.make("ppo", controller=tmp_path), seed=3) == record
    action = float(controller.predict(env.reset(seed=3)[0])[0][0])
    assert 0 < abs(action) < 1
    assert record.lrs[1] == pytest.approx(record.lrs[0] * 2.0**action, rel=1e-6)


@pytest.mark.parametrize("agent", [None, 3, "cosine", object(), Recorder, {"predict": 1}])
def test_what_is_no_agent(env: LRTrainingEnv, agent: Any) -> None:
    with pytest.raises(InvalidArgumentError, match=r"an agent is an object with predict\(.*got"):
        rollout(env, agent)


def test_an_agent_stays_the_object_it_is() -> None:
    recorder = Recorder()
    assert as_agent(recorder) is recorder
    assert as_agent(halve).predict(np.zeros(8), "state") == ([-1.0], "state")


def test_another_env_is_refused() -> None:
    with pytest.raises(InvalidArgumentError, match="rollout needs an LRTrainingEnv, wrapped or not, got"):
        rollout(gymnasium.make("CartPole-v1"), halve)


def test_seeds(env: LRTrainingEnv) -> None:
    first, again, other = (rollout(env, halve, seed=seed) for seed in (7, 7, 8))
    assert first == again
    assert first.val_losses != other.val_losses
    assert rollout(LRTrainingEnv(tiny.task()), halve, seed=7) == first


def test_without_a_seed_the_stream_goes_on(env: LRTrainingEnv) -> None:
    def three() -> list[Rollout]:
        return [rollout(env, halve, seed=4), rollout(env, halve), rollout(env, halve)]

    runs = three()
    assert [run.seed for run in runs] == [4, None, None]
    assert len({tuple(run.val_losses) for run in runs}) == 3
    assert three() == runs


def test_initial_lr_is_drawn_where_none_is_given(env: LRTrainingEnv) -> None:
    drawn = {rollout(env, halve, seed=seed).initial_lr for seed in range(8)}
    assert len(drawn) > 1
    assert drawn <= set(tiny.task().initial_lrs)
    with pytest.raises(InvalidArgumentError, match="must lie in"):
        rollout(env, halve, seed=0, initial_lr=20.0)


def test_wrapped(env: LRTrainingEnv) -> None:
    made = gymnasium.make("lr_gym/LRTraining-v0", task=tiny.task())
    assert rollout(made, halve, seed=6) == rollout(env, halve, seed=6)
    short = rollout(TimeLimit(env, 1), halve, seed=6)
    assert (short.updates, len(short.rewards), short.result) == ([10, 20], 1, {})


@pytest.mark.parametrize("initial_lr", [10.0, 1e30])
def test_a_diverged_run(initial_lr: float) -> None:
    env = LRTrainingEnv(tiny.breaking_task(), max_lr=1e30)
    record = rollout(env, lambda _: [1.0], seed=1, initial_lr=initial_lr)
    assert record.result["diverged"] is True
    assert record.updates == [10, 10]
    lists = (record.lrs, record.train_losses, record.val_losses, record.val_accuracies)
    assert [len(values) for values in lists] == [2] * 4
    assert len(record.rewards) == 1
    assert math.isfinite(record.rewards[0])
    assert math.isnan(record.train_losses[0]) == (initial_lr == 1e30)
    assert math.isfinite(record.result["test_loss"])
    text = json.dumps(record.to_dict(), allow_nan=False)
    assert toys.same(dataclasses.asdict(Rollout.from_dict(json.loads(text))), as_json_numbers(record))


def test_both_the_best_and_the_last_weights_are_tested() -> None:
    """Where the last are the best they are the same; where not, the last are those that are there at the end."""
    env = LRTrainingEnv(tiny.task())
    good = rollout(env, lambda _: [0.0], seed=0, initial_lr=1e-3).result
    assert good["best_update"] == 40
    assert (good["final_test_loss"], good["final_test_accuracy"]) == (good["test_loss"], good["test_accuracy"])
    hasty = LRTrainingEnv(tiny.task(), max_multiplier=1e4)
    worse = rollout(hasty, lambda _: [1.0], seed=0, initial_lr=1e-3).result  # to the largest, 10
    assert worse["best_update"] == 10
    assert worse["final_test_loss"] > worse["test_loss"]
    assert worse["final_test_loss"] == hasty.trainee.test_final()[0] != hasty.trainee.test_best()[0]
    assert worse["final_test_accuracy"] == hasty.trainee.test_final()[1]


def as_json_numbers(record: Rollout) -> dict[str, Any]:
    """Return the record with NaN for infinities: JSON tells one from the other no more."""

    def number(value: Any) -> Any:
        return math.nan if isinstance(value, float) and not math.isfinite(value) else value

    values = dataclasses.asdict(record)
    return (
        values
        | {key: [number(v) for v in value] if isinstance(value, list) else value for key, value in values.items()}
        | {"result": {key: number(value) for key, value in record.result.items()}}
    )


def test_round_trip(env: LRTrainingEnv) -> None:
    for record in (rollout(env, halve, seed=0), rollout(env, halve), tiny.record()):
        assert Rollout.from_dict(json.loads(json.dumps(record.to_dict(), allow_nan=False))) == record
    broken = tiny.record((2.0, math.nan, math.inf), best=math.nan)
    assert broken.to_dict()["val_losses"] == [2.0, None, None]
    back = Rollout.from_dict(broken.to_dict())
    assert toys.same(dataclasses.asdict(back), as_json_numbers(broken))
    assert lr_gym.Task.from_dict(back.task) == tiny.task()


def test_regression(register_data: Any) -> None:
    register_data("toy regression", toys.table(targets=2))
    task = toys.toy_task(data="toy regression", loss="mse_loss")
    record = rollout(LRTrainingEnv(task), halve, seed=0)
    assert record.val_accuracies == [None] * 8
    assert record.result["test_accuracy"] is None
    assert record.result["final_test_accuracy"] is None
    assert Rollout.from_dict(json.loads(json.dumps(record.to_dict(), allow_nan=False))) == record


@pytest.mark.parametrize(
    "change",
    [{"extra": 1}, {"val_losses": 3}, {"rewards": None}, {"result": None}, {"result": [1]}],
    ids=["unknown", "number", "null", "no result", "list"],
)
def test_foreign_records(change: dict[str, Any]) -> None:
    with pytest.raises(FileFormatError, match="not a rollout of this version"):
        Rollout.from_dict(tiny.record().to_dict() | change)
    values = tiny.record().to_dict()
    del values["lrs"]
    with pytest.raises(FileFormatError, match="lrs"):
        Rollout.from_dict(values)


# -- what looking ahead costs ------------------------------------------------------------------------------------------

passes = st.floats(0, 1e6)


@given(passes, passes)
def test_cost(forward: float, backward: float) -> None:
    """40 updates are 40 forward passes and 40 backward passes, which count twice."""
    record = tiny.record(extra=(forward, backward))
    assert record.updates[-1] == 40
    assert record.cost == pytest.approx((40 + forward + 2 * (40 + backward)) / (3 * 40), rel=1e-12)
    back = Rollout.from_dict(json.loads(json.dumps(record.to_dict(), allow_nan=False)))
    assert back == record
    assert (back.extra_forward, back.extra_backward, back.cost) == (forward, backward, record.cost)


def test_plain_training_costs_one(env: LRTrainingEnv) -> None:
    record = rollout(env, halve, seed=0)
    assert (record.extra_forward, record.extra_backward, record.cost) == (0, 0, 1)
    assert tiny.record((2.0, math.nan), extra=(3, 3)).cost == 1 + 9 / 60  # of the updates that were done


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
    assert rollout(env, halve, seed=0).cost == 1  # the next episode counts anew


@pytest.mark.parametrize("field", ["extra_forward", "extra_backward"])
def test_records_from_before_costs_were_counted(field: str) -> None:
    values = tiny.record().to_dict()
    del values[field]
    with pytest.raises(FileFormatError, match=field):
        Rollout.from_dict(values)


# -- functions as agents -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("multiplier", [2.0, 1.0, 0.5, 0.7, 1.9, np.float32(1.25), np.float64(0.8), 1])
def test_a_function_that_returns_multipliers(env: LRTrainingEnv, multiplier: Any) -> None:
    record = rollout(env, FunctionAgent(lambda _: multiplier, returns="multiplier"), seed=0, initial_lr=1e-3)
    assert record.lrs == pytest.approx([1e-3 * float(multiplier) ** k for k in range(4)], rel=1e-6)


def test_multipliers_beyond_the_actions(env: LRTrainingEnv) -> None:
    for multiplier, reached in ((1e3, 2.0), (1e-3, 0.5)):
        record = rollout(env, FunctionAgent(lambda _, m=multiplier: m, returns="multiplier"), seed=0, initial_lr=1e-3)
        assert record.lrs[1] == pytest.approx(1e-3 * reached, rel=1e-6)
    far = LRTrainingEnv(tiny.task(), max_multiplier=1e4)
    record = rollout(far, FunctionAgent(lambda _: 1e3, returns="multiplier"), seed=0, initial_lr=1e-4)
    assert record.lrs[1] == pytest.approx(0.1, rel=1e-5)


@pytest.mark.parametrize(
    ("multiplier", "taken"),
    [(100.0, 1.618), (1.3, 1.618), (1.25, 1.0), (1.0, 1.0), (0.8, 1.0), (0.75, 0.618), (1e-9, 0.618)],
)
def test_multipliers_and_discrete_actions(multiplier: float, taken: float) -> None:
    env = LRTrainingEnv(tiny.task(), action="discrete")
    record = rollout(env, FunctionAgent(lambda _: multiplier, returns="multiplier"), seed=0, initial_lr=1e-3)
    assert record.lrs == pytest.approx([1e-3 * taken**k for k in range(4)], rel=1e-9)


def test_a_function_that_returns_actions(env: LRTrainingEnv) -> None:
    expected = rollout(env, halve, seed=0)
    assert rollout(env, FunctionAgent(halve), seed=0) == rollout(env, FunctionAgent(halve, returns="action"), seed=0)
    assert rollout(env, FunctionAgent(halve), seed=0) == expected
    discrete = LRTrainingEnv(tiny.task(), action="discrete")
    assert rollout(discrete, FunctionAgent(lambda _: 2), seed=0, initial_lr=1e-2).lrs[1] == pytest.approx(6.18e-3)


def test_a_function_sees_the_observation_of_each_decision(env: LRTrainingEnv) -> None:
    seen: list[Any] = []

    def function(observation: Any) -> float:
        seen.append(observation)
        return 1.0

    rollout(env, FunctionAgent(function, returns="multiplier"), seed=0)
    assert [observation[-1] for observation in seen] == [0.25, 0.5, 0.75]


def double(observation: Any) -> float:
    return 2.0


def test_a_function_agent_elsewhere(env: LRTrainingEnv) -> None:
    agent = FunctionAgent(double, returns="multiplier")
    with pytest.raises(EpisodeError, match=r"FunctionAgent needs reset\(watched\)"):
        agent.predict(np.zeros(8))
    assert FunctionAgent(halve).predict(np.zeros(8), "state") == ([-1.0], "state")  # needs none
    record = rollout(env, agent, seed=0)
    assert rollout(env, pickle.loads(pickle.dumps(agent)), seed=0) == record
    assert rollout(FlattenObservation(env), agent, seed=0) == record
    with pytest.raises(InvalidArgumentError, match="an agent needs an LRTrainingEnv"):
        agent.reset(gymnasium.make("CartPole-v1"))


@pytest.mark.parametrize("multiplier", [0.0, -1.0, math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("action", ["continuous", "discrete"])
def test_numbers_that_are_no_multipliers(multiplier: float, action: str) -> None:
    env = LRTrainingEnv(tiny.task(), action=action)
    with pytest.raises(InvalidArgumentError, match=f"a multiplier is a positive finite number, got {multiplier!r}"):
        rollout(env, FunctionAgent(lambda _: multiplier, returns="multiplier"), seed=0)


@pytest.mark.parametrize("multiplier", [None, "2", [2.0, 3.0], np.ones(2)], ids=["none", "text", "list", "array"])
def test_things_that_are_no_multipliers(env: LRTrainingEnv, multiplier: Any) -> None:
    with pytest.raises(InvalidArgumentError, match="a multiplier is a positive finite number, got"):
        rollout(env, FunctionAgent(lambda _: multiplier, returns="multiplier"), seed=0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"function": 3}, "function must be a function of the observation, got 3"),
        ({"function": None}, "function must be a function of the observation, got None"),
        ({"returns": "factor"}, "returns must be 'action' or 'multiplier', got 'factor'"),
        ({"returns": None}, "returns must be 'action' or 'multiplier', got None"),
    ],
)
def test_function_agents_that_make_no_sense(arguments: dict[str, Any], message: str) -> None:
    values = {"function": halve, "returns": "action"} | arguments
    with pytest.raises(InvalidArgumentError, match=re.escape(message)):
        FunctionAgent(values["function"], returns=values["returns"])
