from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import gymnasium
import numpy as np
import pytest
import tiny
import toys

from lr_gym import LRTrainingEnv, LRTrainingVectorEnv, tasks
from lr_gym.errors import EpisodeError, InvalidArgumentError
from lr_gym.tasks import Task, TaskFamily
from lr_gym.tasks.data import Arrays

INFO_KEYS = {"task", "updates", "epoch", "lr", "features", "train_losses", "val_loss", "val_accuracy", "diverged"}
RESULT_KEYS = {
    *("best_val_loss", "best_update", "test_loss", "test_accuracy"),
    *("final_val_loss", "final_test_loss", "final_test_accuracy", "diverged"),
}


def test_without_test_scores_everything_else_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """And test data are not looked at."""
    task = tasks.get("fashion-mnist-mini/mlp", budget=40)
    full = toys.episode(LRTrainingEnv(task), [0.5] * 3, lr=1e-2)
    for name in ("test_best", "test_final"):
        monkeypatch.setattr(f"lr_gym.trainee.Trainee.{name}", None)
    bare = toys.episode(LRTrainingEnv(task, score_test=False), [0.5] * 3, lr=1e-2)
    scores = {"test_loss", "test_accuracy", "final_test_loss", "final_test_accuracy"}
    for one, other in zip(full, bare, strict=True):
        assert np.array_equal(one[0], other[0])
        assert one[1:4] == other[1:4]
    expected, result = full[-1][4]["result"], bare[-1][4]["result"]
    assert result == expected | dict.fromkeys(scores)
    assert None not in [expected[name] for name in scores]


@pytest.mark.parametrize("make", ["sync", "population"])
def test_vector_envs_without_test_scores(make: str) -> None:
    options: dict[str, object] = {"task": tasks.get("fashion-mnist-mini/mlp", budget=20), "score_test": False}
    if make == "sync":
        envs: gymnasium.vector.VectorEnv[Any, Any, Any] = gymnasium.make_vec(
            "lr_gym/LRTraining-v0", num_envs=2, vectorization_mode="sync", **options
        )
    else:
        envs = LRTrainingVectorEnv(2, stack=2, **options)  # type: ignore[arg-type]
    envs.reset(seed=0)
    *_, infos = envs.step(np.zeros((2, 1), np.float32))
    result = infos.get("final_info", infos)["result"]
    assert all(value is None for value in result["test_loss"])
    assert all(math.isfinite(value) for value in result["best_val_loss"])


def test_quick_profile_has_29_decisions() -> None:
    env = LRTrainingEnv("fashion-mnist-mini/mlp")
    steps = toys.episode(env, [0.0] * 29, lr=1e-2)
    assert [step[2] for step in steps] == [False] * 29 + [True]
    assert [step[4]["updates"] for step in steps] == list(range(10, 301, 10))
    result = steps[-1][4]["result"]
    assert result["test_accuracy"] > 0.75  # it does learn
    assert sum(step[1] for step in steps) == pytest.approx(
        math.log(steps[0][4]["val_loss"] / steps[-1][4]["val_loss"]), abs=1e-9
    )


def test_info_and_result(tiny_task: Task) -> None:
    steps = toys.episode(LRTrainingEnv(tiny_task), [0.5, -1.0, 0.25])
    infos = [step[4] for step in steps]
    assert [set(info) for info in infos] == [INFO_KEYS] * 3 + [INFO_KEYS | {"result"}]
    lr = 1e-3
    for info, action in zip(infos, [0.0, 0.5, -1.0, 0.25], strict=True):
        lr *= 2.0**action
        assert info["lr"] == info["features"]["lr"] == pytest.approx(lr, rel=1e-12)
        assert info["task"] == tiny_task.name
        assert info["train_losses"].shape == (10,)
        assert info["train_losses"].dtype == np.float32
        assert info["features"]["train_loss"] == pytest.approx(info["train_losses"].mean(), rel=1e-6)
        assert info["epoch"] == info["updates"] * 16 / 200
        assert info["features"]["progress"] == info["updates"] / 40
        assert info["features"]["val_loss"] == info["val_loss"]
        assert 0 <= info["val_accuracy"] <= 1
    result = infos[-1]["result"]
    assert set(result) == RESULT_KEYS
    assert result["final_val_loss"] == infos[-1]["val_loss"]
    assert result["best_val_loss"] == min(info["val_loss"] for info in infos)
    assert result["best_update"] == min(infos, key=lambda info: info["val_loss"])["updates"]
    assert not result["diverged"]


def test_everything_returned_is_new(tiny_task: Task) -> None:
    env, untouched = LRTrainingEnv(tiny_task), LRTrainingEnv(tiny_task)
    expected = toys.episode(untouched, [0.1, 0.2, 0.3])
    observation, info = env.reset(seed=0, options={"initial_lr": 1e-3})
    got: list[tuple[Any, ...]] = []
    for action in (0.1, 0.2, 0.3):
        observation[:] = 7
        info["features"].clear()
        info["train_losses"][:] = -1
        info.clear()
        got.append(env.step(np.array([action], dtype=np.float32)))
        assert toys.same(got[-1], expected[len(got)])
        observation, info = got[-1][0], got[-1][4]


@pytest.mark.parametrize("seed", [0, 12345678901234567890])
def test_two_runs_are_equal_and_so_are_two_resets(tiny_task: Task, seed: int) -> None:
    env = LRTrainingEnv(tiny_task)
    first, second = toys.episode(env, [1, 0, -1], seed, None), toys.episode(env, [1, 0, -1], seed, None)
    assert toys.same(first, second)
    assert toys.same(first, toys.episode(LRTrainingEnv(tiny_task), [1, 0, -1], seed, None))
    continued = toys.episode(env, [1, 0, -1], None, None)
    assert not toys.same(first[0][0], continued[0][0])
    toys.episode(other := LRTrainingEnv(tiny_task), [], seed, None)
    assert toys.same(continued, toys.episode(other, [1, 0, -1], None, None))


def test_same_seed_gives_the_same_trainee_at_any_initial_lr(tiny_task: Task) -> None:
    env = LRTrainingEnv(tiny_task)
    losses = [env.reset(seed=4, options={"initial_lr": lr})[1]["train_losses"] for lr in (1e-4, 1e-1)]
    assert losses[0][0] == losses[1][0]
    assert losses[0][1] != losses[1][1]
    states = [
        env.reset(seed=4, options=options) and env.np_random.bit_generator.state
        for options in (None, {"initial_lr": 1e-4})
    ]
    assert states[0] == states[1]  # so the next episode is the same too


def test_initial_lrs_are_all_drawn(tiny_task: Task) -> None:
    env = LRTrainingEnv(tiny_task.replace(budget=2, decision_interval=1))
    env.reset(seed=0)
    drawn = {env.reset()[1]["lr"] for _ in range(30)}
    assert drawn == {1e-2, 1e-3, 1e-4}


def test_global_generators_are_neither_read_nor_changed(tiny_task: Task) -> None:
    runs = []
    for seed in (1, 2):
        toys.disturb_global_randomness(seed)
        before = toys.global_randomness()
        runs.append(toys.episode(LRTrainingEnv(tiny_task), [0.3, -0.3, 0.1]))
        assert toys.same(before, toys.global_randomness())
    assert toys.same(*runs)


@pytest.mark.parametrize(("action", "expected"), [(1.0, [0.05, 0.08, 0.08, 0.08]), (-1.0, [0.05, 0.025, 0.02, 0.02])])
def test_lr_is_clamped(tiny_task: Task, action: float, expected: list[float]) -> None:
    env = LRTrainingEnv(tiny_task.replace(initial_lrs=(0.05,), optimizer="SGD"), min_lr=0.02, max_lr=0.08)
    steps = toys.episode(env, [action] * 3, lr=None)
    assert [step[4]["lr"] for step in steps] == expected
    assert all(step[0] in env.observation_space for step in steps)


def test_discrete_actions(tiny_task: Task) -> None:
    env = LRTrainingEnv(tiny_task, action="discrete")
    env.reset(seed=0, options={"initial_lr": 1e-3})
    lrs = [env.step(action)[4]["lr"] for action in (0, 1, 2)]
    assert lrs == pytest.approx([1e-3 * 1.618, 1e-3 * 1.618, 1e-3 * 1.618 * 0.618], rel=1e-12)


def explosive(task: Task) -> Task:
    return task.replace(optimizer="SGD", initial_lrs=(1e-3,))


@pytest.mark.parametrize(
    ("reward", "expected"),
    [
        ("log_improvement", lambda previous: math.log(previous / 100)),
        ("val_loss", lambda previous: -100.0 * 3),
        ("final", lambda previous: -100.0),
    ],
)
def test_divergence(tiny_task: Task, reward: str, expected: Callable[[float], float]) -> None:
    env = LRTrainingEnv(explosive(tiny_task), reward=reward, max_multiplier=1e12, max_lr=1e9)
    first, (observation, got, terminated, truncated, info) = toys.episode(env, [1.0])
    assert (terminated, truncated, info["diverged"], info["updates"]) == (True, False, True, 20)
    assert observation in env.observation_space
    assert np.isfinite(observation).all()
    assert got == pytest.approx(expected(first[4]["val_loss"]))
    assert set(info) == INFO_KEYS | {"result"}
    result = info["result"]
    assert result["diverged"]
    assert result["best_val_loss"] == first[4]["val_loss"]
    assert result["best_update"] == 10
    assert math.isfinite(result["test_loss"])
    with pytest.raises(EpisodeError):
        env.step(np.zeros(1, dtype=np.float32))
    assert not env.reset(seed=1)[1]["diverged"]


@pytest.mark.parametrize(("reward", "expected"), [("log_improvement", 0.0), ("val_loss", -300.0), ("final", -100.0)])
def test_divergence_in_the_first_interval(tiny_task: Task, reward: str, expected: float) -> None:
    env = LRTrainingEnv(explosive(tiny_task), reward=reward, max_lr=1e12)
    steps = toys.episode(env, [0.0], lr=1e12)
    assert steps[0][4]["diverged"]
    observation, got, terminated, _, info = steps[1]
    assert (got, terminated, info["diverged"], info["updates"]) == (expected, True, True, 10)
    assert observation in env.observation_space
    assert info["result"]["best_update"] == 0
    assert math.isfinite(info["result"]["best_val_loss"])
    assert math.isfinite(info["result"]["test_loss"])


def test_loss_above_the_ceiling_is_a_divergence(tiny_task: Task) -> None:
    env = LRTrainingEnv(tiny_task.replace(loss_ceiling=0.5), reward="val_loss")
    first, step = toys.episode(env, [0.0])
    assert first[4]["val_loss"] > 0.5
    assert (step[1], step[2], step[4]["diverged"]) == (-1.5, True, True)


def test_episode_errors(tiny_task: Task) -> None:
    env = LRTrainingEnv(tiny_task)
    for use in (lambda: env.step(np.zeros(1)), lambda: env.trainee, lambda: env.task):
        with pytest.raises(EpisodeError, match="reset"):
            use()
    toys.episode(env, [0.0] * 3)
    with pytest.raises(gymnasium.error.ResetNeeded):
        env.step(np.zeros(1))
    assert env.trainee.updates == 40  # the trainee stays, to be looked at


def test_family(tiny_task: Task) -> None:
    family = TaskFamily(
        name="fam",
        base=tiny_task,
        axes=([{"budget": 20}, {"budget": 40}], [{"optimizer": "Adam"}, {"optimizer": "SGD"}]),
        initial_lr_range=(1e-4, 1e-2),
    )
    env = LRTrainingEnv(family)
    seen = set()
    for seed in range(12):
        observation, info = env.reset(seed=seed)
        assert observation in env.observation_space
        assert info["task"] == env.task.name == family.sample(gymnasium.utils.seeding.np_random(seed)[0]).name
        assert info["lr"] == env.task.initial_lrs[0]
        seen.add((env.task.budget, env.task.optimizer))
        steps = 0
        while not env.step(np.zeros(1, dtype=np.float32))[2]:
            steps += 1
        assert steps + 1 == env.task.decisions
    assert len(seen) == 4
    with pytest.raises(InvalidArgumentError, match="'fam'"):
        LRTrainingEnv(family, max_lr=1e-3)


def test_regression_with_a_users_own_parts(register_data: Callable[[str, Arrays], None]) -> None:
    register_data("test-env-line", toys.table(features=1, targets=1))
    task = toys.toy_task(data="test-env-line", model=toys.Slope, loss=toys.plus_one_error, initial_lrs=(0.05,))
    env = LRTrainingEnv(task)
    steps = toys.episode(env, [0.0] * task.decisions, lr=None)
    assert steps[-1][2]
    assert steps[-1][4]["val_accuracy"] is None
    assert 1 <= steps[-1][4]["val_loss"] < steps[0][4]["val_loss"]
    assert all(np.isfinite(step[0]).all() and step[0] in env.observation_space for step in steps)


def test_negative_loss_is_refused(tiny_task: Task) -> None:
    with pytest.raises(InvalidArgumentError, match="'toys:negative_loss' is negative"):
        LRTrainingEnv(tiny_task.replace(loss="toys:negative_loss")).reset(seed=0)


@pytest.mark.parametrize("name", ["lr_gym/LRTraining-v0", "lr_gym:lr_gym/LRTraining-v0"])
def test_gymnasium_make(name: str, tiny_task: Task) -> None:
    env = gymnasium.make(name, task=tiny_task, reward="val_loss")
    assert isinstance(env.unwrapped, LRTrainingEnv)
    assert toys.same(
        toys.episode(env, [0.5, 0.5, 0.5]), toys.episode(LRTrainingEnv(tiny_task, reward="val_loss"), [0.5, 0.5, 0.5])
    )
    assert gymnasium.make(name, task="fashion-mnist-mini/lenet5").unwrapped.tasks == tasks.get(
        "fashion-mnist-mini/lenet5"
    )


def test_make_vec(tiny_task: Task) -> None:
    """The native vector env; more of it in test_vector_env.py."""
    envs = gymnasium.make_vec("lr_gym/LRTraining-v0", num_envs=2, task=tiny_task, stack=1)
    assert isinstance(envs, LRTrainingVectorEnv)
    observations, infos = envs.reset(seed=[5, 6], options={"initial_lr": 1e-3})
    singles = [toys.episode(LRTrainingEnv(tiny_task), [0.5, 0.5, 0.5], seed) for seed in (5, 6)]
    for number in range(4):
        last = number == 3
        for k in range(2):
            np.testing.assert_array_equal(infos["final_obs"][k] if last else observations[k], singles[k][number][0])
            seen = infos["final_info"] if last else infos
            assert seen["val_loss"][k] == singles[k][number][4]["val_loss"]
        if not last:
            observations, rewards, terminated, _, infos = envs.step(np.full((2, 1), 0.5, dtype=np.float32))
            np.testing.assert_array_equal(rewards, [single[number + 1][1] for single in singles])
            assert terminated.tolist() == [number == 2] * 2
    assert infos["final_info"]["result"]["test_loss"][0] == singles[0][3][4]["result"]["test_loss"]
    assert infos["updates"].tolist() == [10, 10]  # the next episode has begun
    envs.close()


@pytest.mark.parametrize("first_lr", [1e-3, 1e12])
def test_a_step_is_its_two_halves(tiny_task: Task, first_lr: float) -> None:
    """Deciding changes the learning rate alone, and whoever trains in between, the outcome is that of `step`."""
    options: dict[str, Any] = {"max_lr": 1e12, "max_multiplier": 1e12}
    task = explosive(tiny_task)
    actions = [0.01, -0.02, 1.0]
    by_step = LRTrainingEnv(task, **options)
    first, *expected = toys.episode(by_step, actions[: 3 if first_lr < 1 else 1], lr=first_lr)
    env = LRTrainingEnv(task, **options)
    assert toys.same(env.reset(seed=0, options={"initial_lr": first_lr}), (first[0], first[4]))
    for action, step in zip(actions, expected, strict=False):
        lr, updates, measured = env.trainee.lr, env.trainee.updates, env.measurement
        trains = env.decide(np.array([action], dtype=np.float32))
        assert trains == (not measured.diverged) == (first_lr < 1)
        assert env.trainee.lr == min(1e12, lr * 1e12 ** float(np.float32(action)))
        assert (env.trainee.updates, env.measurement) == (updates, measured)
        assert toys.same(env.conclude(env.trainee.train_interval() if trains else measured), step)
    assert expected[-1][2]
    for half in (lambda: env.decide(0.0), lambda: env.conclude(measured), lambda: env.measurement):
        with pytest.raises(EpisodeError, match="reset"):
            half()


def test_a_refused_decision_changes_nothing(tiny_task: Task) -> None:
    env = LRTrainingEnv(tiny_task)
    with pytest.raises(EpisodeError, match="reset"):
        env.decide(0.0)
    env.reset(seed=0, options={"initial_lr": 1e-3})
    with pytest.raises(InvalidArgumentError, match="an action is one number"):
        env.decide(math.nan)
    assert env.trainee.lr == 1e-3


@pytest.mark.parametrize(
    ("options", "expected"), [({}, None), ({"initial_lr": None}, None), ({"initial_lr": np.float32(0.5)}, 0.5)]
)
def test_checking_options_changes_nothing(tiny_task: Task, options: dict[str, Any], expected: float | None) -> None:
    env = LRTrainingEnv(tiny_task)
    lr = env.check_options(options)
    assert (lr, type(lr)) == (expected, type(expected))
    with pytest.raises(InvalidArgumentError, match="reset knows the option 'initial_lr', got 'seed'"):
        env.check_options({"seed": 1})
    with pytest.raises(EpisodeError):
        _ = env.trainee


# -- the portable observation (more of it in tests/control/test_observations.py) ---------------------------------------


def test_the_kind_of_observation(tiny_task: Task) -> None:
    for progress, size in ((True, 12), (False, 11)):
        env = LRTrainingEnv(tiny_task, observation="portable", observe_progress=progress)
        assert env.observation_space.shape == (size,)
        assert len(env.observed) == size
        assert (env.observed[0], "progress" in env.observed) == ("val_loss_left", progress)
        assert env.env_options()["observation"] == "portable"
    usual = LRTrainingEnv(tiny_task)
    assert (usual.env_options()["observation"], usual.observed[0]) == ("absolute", "train_loss")
    again = LRTrainingEnv(tiny_task, **env.env_options())
    assert (again.observed, again.observation_space) == (env.observed, env.observation_space)
    with pytest.raises(
        InvalidArgumentError, match="observation must be 'absolute', 'portable' or 'training', got 'paper'"
    ):
        LRTrainingEnv(tiny_task, observation="paper")


@pytest.mark.parametrize("initial_lr", [1e-3, 1e12])
def test_what_is_observed_changes_nothing_else(tiny_task: Task, initial_lr: float) -> None:
    options: dict[str, Any] = {"max_lr": 1e12}
    seen = [
        toys.episode(LRTrainingEnv(explosive(tiny_task), observation=kind, **options), [0.5], lr=initial_lr)
        for kind in ("absolute", "portable")
    ]
    assert toys.same(*([step[1:] for step in steps] for steps in seen))


def ratio(a: float, b: float) -> float:
    return math.asinh(10 * math.log(a / b))


def test_portable_observation_of_a_parabola(register_data: Callable[[str, Arrays], None]) -> None:
    """Every entry from closed forms: w * x against y, two whole-batch steps of gradient descent per interval."""
    register_data("test-env-line", toys.table(features=1, targets=1))
    task = toys.toy_task(
        data="test-env-line",
        model=toys.Slope,
        loss="mse_loss",
        optimizer="SGD",
        batch_size=len(toys.LINE.y["train"]),
        budget=6,
        decision_interval=2,
        initial_lrs=(0.05,),
    )
    env = LRTrainingEnv(task, observation="portable")
    steps = toys.episode(env, [1.0, -0.5], lr=None)
    (train, slope), (validate, _) = toys.parabola("train"), toys.parabola("validation")
    spread = float(toys.LINE.x["validation"].double().numpy().var())  # predictions are w * x
    w, lr, last_lr = 0.25, 0.05, 0.05
    last_val, last_train, best = validate(w), None, validate(w)
    for interval, (step, action) in enumerate(zip(steps, (0.0, 1.0, -0.5), strict=True)):
        before, lr = w, lr * 2.0**action
        losses = []
        for _ in range(2):
            losses.append(train(w))
            w -= lr * slope(w)
        train_loss, val_loss = sum(losses) / 2, validate(w)
        best = min(best, val_loss)
        expected = [
            ratio(val_loss, validate(0.25)),
            ratio(val_loss, best),
            ratio(train_loss, val_loss),
            ratio(val_loss, last_val),
            ratio(train_loss, train_loss if last_train is None else last_train),
            ratio(losses[1], losses[0]),
            math.log10(float(np.std(losses) / np.mean(losses))),
            math.log10(w * w * spread),
            math.log10((w - before) ** 2 * spread),
            math.log10(lr),
            math.log(lr / last_lr),
            (2 + 2 * interval) / 6,
        ]
        np.testing.assert_allclose(step[0], expected, rtol=1e-3, atol=1e-4)
        last_val, last_train, last_lr = val_loss, train_loss, lr


def test_portable_observation_of_a_network(tiny_task: Task) -> None:
    """Against the raw numbers in the infos."""
    steps = toys.episode(LRTrainingEnv(tiny_task, observation="portable"), [1.0, -0.25, 0.5], lr=1e-2)
    infos = [step[4] for step in steps]
    val_losses = [info["val_loss"] for info in infos]
    untrained = val_losses[0] / math.exp(math.sinh(float(steps[0][0][0])) / 10)
    assert untrained == pytest.approx(math.log(10), rel=0.1)  # it knows nothing of the ten classes
    for k, (step, info) in enumerate(zip(steps, infos, strict=True)):
        raw, last = info["features"], infos[max(k - 1, 0)]
        half = info["train_losses"].reshape(2, 5).mean(1)
        expected = [
            ratio(val_losses[k], untrained),
            ratio(val_losses[k], min([untrained, *val_losses[: k + 1]])),
            ratio(raw["train_loss"], val_losses[k]),
            ratio(val_losses[k], val_losses[k - 1] if k else untrained),
            ratio(raw["train_loss"], last["features"]["train_loss"]),
            ratio(float(half[1]), float(half[0])),
            math.log10(info["train_losses"].std() / info["train_losses"].mean()),
            math.log10(raw["prediction_variance"]),
            math.log10(raw["prediction_change_variance"]),
            math.log10(info["lr"]),
            math.log(info["lr"] / last["lr"]),
            raw["progress"],
        ]
        np.testing.assert_allclose(step[0], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("initial_lr", [1e-3, 1.0, 1e5, 1e12])
@pytest.mark.parametrize("ceiling", [0.5, 1e6])
@pytest.mark.parametrize("observe_progress", [True, False])
def test_portable_observation_of_a_training_that_blows_up(
    tiny_task: Task, initial_lr: float, ceiling: float, observe_progress: bool
) -> None:
    """At once, in the middle, or never: what is observed stays within the space."""
    env = LRTrainingEnv(
        explosive(tiny_task).replace(loss_ceiling=ceiling),
        observation="portable",
        observe_progress=observe_progress,
        max_multiplier=1e4,
        max_lr=1e12,
    )
    observation, info = env.reset(seed=1, options={"initial_lr": initial_lr})
    terminated = False
    while not terminated:
        assert observation in env.observation_space
        observation, _, terminated, _, info = env.step(np.ones(1, dtype=np.float32))
    assert observation in env.observation_space
    assert np.isfinite(observation).all()
    assert info["diverged"]


def test_portable_observations_remember_nothing_of_the_episode_before(tiny_task: Task) -> None:
    """Neither of one that ended, nor of one that was left, nor of one that blew up."""
    task, options = explosive(tiny_task), {"observation": "portable", "max_lr": 1e12, "max_multiplier": 1e12}
    expected = toys.episode(LRTrainingEnv(task, **options), [0.01, -0.01, 0.0])
    env = LRTrainingEnv(task, **options)
    for seed, actions in ((1, [0.01] * 3), (2, [0.01]), (3, [0.02, 1.0]), (4, [])):
        toys.episode(env, actions, seed, 1e-2)
        assert toys.same(toys.episode(env, [0.01, -0.01, 0.0]), expected)


def test_portable_observation_of_a_family() -> None:
    """Tasks of different data and losses behind one env; from upper ends of the ranges some diverge."""
    env = LRTrainingEnv(tiny.family(), observation="portable")
    diverged, optimizers = 0, set()
    for seed in range(20):
        observation, info = env.reset(seed=seed)
        assert env.task.name == info["task"]
        steps, terminated = 0, False
        while not terminated:
            assert observation in env.observation_space
            observation, _, terminated, _, info = env.step(np.ones(1, dtype=np.float32))
            steps += 1
        assert observation in env.observation_space
        assert steps == env.task.decisions or info["diverged"]
        diverged += info["diverged"]
        optimizers.add(env.task.optimizer)
    assert 0 < diverged < 20
    assert optimizers == {"Adam", "SGD"}


def test_initial_lrs_of_entries_are_checked_against_the_envs_bounds() -> None:
    family = tiny.family()
    LRTrainingEnv(family, min_lr=1e-3)
    for options, lr in (({"min_lr": 2e-3}, "0.001"), ({"max_lr": 5.0}, "10.0")):
        with pytest.raises(InvalidArgumentError, match=rf"initial lr of the task 'tiny-family' must .* got {lr}"):
            LRTrainingEnv(family, **options)  # type: ignore[arg-type]
