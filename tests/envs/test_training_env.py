"""One environment: its episodes, what it tells and shows of them, how they end, and what it refuses."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import tiny
import toys
from gymnasium.wrappers import RecordVideo
from vector_toys import EXPLOSIVE, short

from lr_gym import LRTrainingEnv
from lr_gym.control.rewards import Transition
from lr_gym.envs import episode
from lr_gym.envs.rendering import History, draw
from lr_gym.errors import EpisodeError, InvalidArgumentError, UnknownNameError
from lr_gym.tasks import TaskFamily

#: Three decisions of ten updates; of 16 of 96 examples each.
TASK = short(budget=40, decision_interval=10, optimizer="Adam", initial_lrs=(1e-2, 1e-3, 1e-4))
#: One that diverges where its learning rate is large.
EXPLODING = short(initial_lrs=(1e-3,))
INFO_KEYS = {"task", "updates", "epoch", "lr", "features", "train_losses", "val_loss", "val_accuracy", "diverged"}
RESULT_KEYS = {
    *("best_val_loss", "best_update", "test_loss", "test_accuracy"),
    *("final_val_loss", "final_test_loss", "final_test_accuracy", "diverged"),
}
ZERO = np.zeros(1, dtype=np.float32)

# -- episodes --------------------------------------------------------------------------------------------------------


def test_quick_profile_has_29_decisions() -> None:
    """It does learn, and the rewards add up to what it has learned."""
    steps = toys.episode(LRTrainingEnv("fashion-mnist-mini/mlp"), [0.0] * 29, lr=1e-2)
    assert [step[2] for step in steps] == [False] * 29 + [True]
    assert [step[4]["updates"] for step in steps] == list(range(10, 301, 10))
    assert steps[-1][4]["result"]["test_accuracy"] > 0.75
    learned = math.log(steps[0][4]["val_loss"] / steps[-1][4]["val_loss"])
    assert sum(step[1] for step in steps) == pytest.approx(learned, abs=1e-9)


def test_info_and_result(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without test scores everything else is the same, and test data are not looked at."""
    steps = toys.episode(LRTrainingEnv(TASK), [0.5, -1.0, 0.25])
    infos = [step[4] for step in steps]
    assert [set(info) for info in infos] == [INFO_KEYS] * 3 + [INFO_KEYS | {"result"}]
    for info in infos:
        assert info["lr"] == info["features"]["lr"]
        assert (info["task"], info["epoch"]) == (TASK.name, info["updates"] * 16 / 96)
        assert (info["train_losses"].shape, info["train_losses"].dtype) == ((10,), np.float32)
        assert info["features"]["val_loss"] == info["val_loss"]
    result, best = infos[-1].pop("result"), min(infos, key=lambda info: info["val_loss"])
    assert set(result) == RESULT_KEYS
    assert (result["final_val_loss"], result["diverged"]) == (infos[-1]["val_loss"], False)
    assert (result["best_val_loss"], result["best_update"]) == (best["val_loss"], best["updates"])
    scores = {"test_loss", "test_accuracy", "final_test_loss", "final_test_accuracy"}
    assert None not in [result[name] for name in scores]
    for name in ("test_best", "test_final"):
        monkeypatch.setattr(f"lr_gym.trainee.Trainee.{name}", None)
    bare = toys.episode(LRTrainingEnv(TASK, score_test=False), [0.5, -1.0, 0.25])
    assert bare[-1][4].pop("result") == result | dict.fromkeys(scores)
    assert toys.same(bare, steps)


def test_everything_returned_is_new() -> None:
    env = LRTrainingEnv(TASK)
    expected = toys.episode(LRTrainingEnv(TASK), [0.1, 0.2, 0.3])
    observation, info = env.reset(seed=0, options={"initial_lr": 1e-3})
    for number, action in enumerate((0.1, 0.2, 0.3), 1):
        observation[:] = 7
        info["features"].clear()
        info["train_losses"][:] = -1
        info.clear()
        got = env.step(np.array([action], dtype=np.float32))
        assert toys.same(got, expected[number])
        observation, info = got[0], got[4]


@pytest.mark.parametrize("seed", [0, 12345678901234567890])
def test_two_runs_are_equal_and_so_are_two_resets(seed: int) -> None:
    """Whatever the state of the global generators, which is left alone."""
    env, other, actions = LRTrainingEnv(TASK), LRTrainingEnv(TASK), [1, 0, -1]
    first = toys.episode(env, actions, seed, None)
    toys.disturb_global_randomness(1)
    before = toys.global_randomness()
    assert toys.same(first, toys.episode(env, actions, seed, None))
    assert toys.same(before, toys.global_randomness())
    assert toys.same(first, toys.episode(other, actions, seed, None))
    continued = toys.episode(env, actions, None, None)
    assert not toys.same(first[0][0], continued[0][0])
    other.reset(seed=seed)
    assert toys.same(continued, toys.episode(other, actions, None, None))


def test_initial_lrs_are_all_drawn_and_change_nothing_else() -> None:
    env = LRTrainingEnv(TASK.replace(budget=2, decision_interval=1))
    env.reset(seed=0)
    assert {env.reset()[1]["lr"] for _ in range(30)} == {1e-2, 1e-3, 1e-4}
    losses, states = [], []
    for options in (None, {"initial_lr": 1e-4}, {"initial_lr": 1e-1}):
        losses.append(env.reset(seed=4, options=options)[1]["train_losses"][0])
        states.append(env.np_random.bit_generator.state)
    assert losses[0] == losses[1] == losses[2]
    assert states[0] == states[1] == states[2]  # so the next episode is the same too


@pytest.mark.parametrize(
    ("options", "actions", "expected"),
    [
        ({"min_lr": 0.02, "max_lr": 0.08}, [[1.0]] * 3, [0.05, 0.08, 0.08, 0.08]),
        ({"min_lr": 0.02, "max_lr": 0.08}, [[-1.0]] * 3, [0.05, 0.025, 0.02, 0.02]),
        ({"action": "discrete"}, [0, 1, 2], [0.05, 0.05 * 1.618, 0.05 * 1.618, 0.05 * 1.618 * 0.618]),
        ({"max_multiplier": 4.0}, [[0.5], [-1.0], [9.0]], [0.05, 0.1, 0.025, 0.1]),
    ],
)
def test_what_actions_do(options: dict[str, Any], actions: list[Any], expected: list[float]) -> None:
    env = LRTrainingEnv(TASK.replace(initial_lrs=(0.05,)), **options)
    lrs = [env.reset(seed=0)[1]["lr"], *(env.step(np.array(action))[4]["lr"] for action in actions)]
    assert lrs == pytest.approx(expected, rel=1e-12)


# -- divergence ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("reward", "expected"),
    [
        ("log_improvement", lambda previous: math.log(previous / 100)),
        ("val_loss", lambda previous: -100.0 * 3),
        ("final", lambda previous: -100.0),
    ],
)
@pytest.mark.parametrize("initial_lr", [1e-3, 1e12])
def test_divergence(reward: str, expected: Callable[[float], float], initial_lr: float) -> None:
    """At the first decision, or in the interval before, which has no way to say so."""
    at_once = initial_lr > 1
    env = LRTrainingEnv(EXPLODING, reward=reward, **EXPLOSIVE)
    first, (observation, got, terminated, truncated, info) = toys.episode(env, [1.0], lr=initial_lr)
    assert first[4]["diverged"] == at_once
    assert (terminated, truncated, info["diverged"], info["updates"]) == (True, False, True, 2 if at_once else 4)
    assert observation in env.observation_space
    assert got == pytest.approx(expected(100.0 if at_once else first[4]["val_loss"]))
    assert set(info) == INFO_KEYS | {"result"}
    result = info["result"]
    assert (result["diverged"], result["best_update"]) == (True, 0 if at_once else 2)
    assert at_once or result["best_val_loss"] == first[4]["val_loss"]
    assert math.isfinite(result["best_val_loss"])
    assert math.isfinite(result["test_loss"])
    with pytest.raises(EpisodeError):
        env.step(ZERO)
    assert not env.reset(seed=1)[1]["diverged"]


def test_loss_above_the_ceiling_is_a_divergence() -> None:
    env = LRTrainingEnv(TASK.replace(loss_ceiling=0.5), reward="val_loss")
    first, step = toys.episode(env, [0.0])
    assert first[4]["val_loss"] > 0.5
    assert (step[1], step[2], step[4]["diverged"]) == (-1.5, True, True)


# -- the two halves of a step, and rewards ---------------------------------------------------------------------------


@pytest.mark.parametrize("first_lr", [1e-3, 1e12])
def test_a_step_is_its_two_halves(first_lr: float) -> None:
    """Deciding changes the learning rate alone, and whoever trains in between, the outcome is that of `step`."""
    actions = [0.01, -0.02, 1.0]
    by_step, env = LRTrainingEnv(EXPLODING, **EXPLOSIVE), LRTrainingEnv(EXPLODING, **EXPLOSIVE)
    first, *expected = toys.episode(by_step, actions[: 3 if first_lr < 1 else 1], lr=first_lr)
    assert toys.same(env.reset(seed=0, options={"initial_lr": first_lr}), (first[0], first[4]))
    for action, step in zip(actions, expected, strict=False):
        lr, updates, measured = env.trainee.lr, env.trainee.updates, env.measurement
        with pytest.raises(InvalidArgumentError, match="an action is one number"):
            env.decide(math.nan)
        assert env.trainee.lr == lr
        trains = env.decide(np.array([action], dtype=np.float32))
        assert trains == (not measured.diverged) == (first_lr < 1)
        assert env.trainee.lr == min(1e12, lr * 1e12 ** float(np.float32(action)))
        assert (env.trainee.updates, env.measurement) == (updates, measured)
        assert toys.same(env.conclude(env.trainee.train_interval() if trains else measured), step)
    assert expected[-1][2]
    for half in (lambda: env.decide(0.0), lambda: env.conclude(measured), lambda: env.measurement):
        with pytest.raises(EpisodeError, match="reset"):
            half()


def test_reward_functions_see_transitions() -> None:
    seen: list[Transition] = []
    env = LRTrainingEnv(TASK, reward=lambda transition: seen.append(transition) or 0.125 * len(seen))
    steps = toys.episode(env, [1.0, 0.0, -1.0])
    assert [step[1] for step in steps[1:]] == [0.125, 0.25, 0.375]
    for number, (before, after) in enumerate(itertools.pairwise(step[4] for step in steps)):
        losses = before["val_loss"], after["val_loss"], after["features"]["train_loss"]
        assert seen[number] == Transition(*losses, after["lr"], 2 - number, number == 2, False, 100.0)


# -- tasks -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("observation", ["absolute", "portable"])
def test_a_family(observation: str) -> None:
    """Another task in every episode; from upper ends of the ranges some diverge."""
    env = LRTrainingEnv(tiny.family(), observation=observation)
    seen, diverged = set(), 0
    for seed in range(16):
        observed, info = env.reset(seed=seed)
        assert info["task"] == env.task.name == tiny.family().sample(gymnasium.utils.seeding.np_random(seed)[0]).name
        assert info["lr"] == env.task.initial_lrs[0]
        steps, terminated = 0, False
        while not terminated:
            assert observed in env.observation_space
            observed, _, terminated, _, info = env.step(np.ones(1, dtype=np.float32))
            steps += 1
        assert observed in env.observation_space
        assert steps == env.task.decisions or info["diverged"]
        seen.add((env.task.budget, env.task.optimizer))
        diverged += info["diverged"]
    assert len(seen) == 4
    assert 0 < diverged < 16


# -- what is refused -------------------------------------------------------------------------------------------------

SMALL = TaskFamily(name="fam", base=TASK, initial_lr_range=(1e-4, 1e-2))
BOUND = "the initial lr of the task 'fam' must lie in .* got 0.01"


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"min_lr": 0.0}, InvalidArgumentError, "min_lr=0.0"),
        ({"min_lr": -1.0}, InvalidArgumentError, "min_lr=-1.0"),
        ({"min_lr": 1.0, "max_lr": 0.1}, InvalidArgumentError, "min_lr=1.0, max_lr=0.1"),
        ({"max_lr": math.inf}, InvalidArgumentError, "max_lr=inf"),
        ({"max_lr": math.nan}, InvalidArgumentError, "max_lr=nan"),
        ({"max_lr": 1e-3}, InvalidArgumentError, "the initial lr of the task .* must lie in .*max_lr.*, got 0.01"),
        ({"max_lr": 1e-3, "task": SMALL}, InvalidArgumentError, BOUND),
        ({"max_lr": 5.0, "task": tiny.family()}, InvalidArgumentError, "'tiny-family' must .* got 10.0"),
        ({"min_lr": 2e-3, "task": tiny.family()}, InvalidArgumentError, "'tiny-family' must .* got 0.001"),
        ({"max_multiplier": 1.0}, InvalidArgumentError, "max_multiplier"),
        ({"max_multiplier": 3.0, "action": "discrete"}, InvalidArgumentError, "max_multiplier=3.0 has no meaning"),
        ({"action": "both"}, InvalidArgumentError, "action"),
        ({"observation": "paper"}, InvalidArgumentError, "must be 'absolute', 'portable' or 'training', got 'paper'"),
        ({"render_mode": "human"}, InvalidArgumentError, "render_mode"),
        ({"render_mode": "ansi"}, InvalidArgumentError, "render_mode"),
        ({"reward": 3}, InvalidArgumentError, "reward"),
        ({"reward": "loss"}, UnknownNameError, "reward"),
        ({"task": 3}, InvalidArgumentError, "task"),
        ({"task": "no/such"}, UnknownNameError, "task"),
        ({"device": "nonsense"}, InvalidArgumentError, "device must be 'cpu' or a GPU that is there, got 'nonsense'"),
        ({"device": "meta"}, InvalidArgumentError, "device must be 'cpu' or a GPU that is there, got 'meta'"),
        ({"precision": "float16"}, InvalidArgumentError, "precision must be one of 'float32', 'tf32', 'bfloat16'"),
        ({"precision": "tf32"}, InvalidArgumentError, "precision='tf32' needs an NVIDIA GPU, got device 'cpu'"),
        ({"channels_last": 1}, InvalidArgumentError, "channels_last must be True or False, got 1"),
    ],
)
def test_bad_options(options: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        LRTrainingEnv(**({"task": TASK} | options))


@pytest.mark.parametrize(
    ("use", "message"),
    [
        (lambda env: env.reset(options={"lr": 0.1}), "reset knows the option 'initial_lr', got 'lr'"),
        *((lambda env, lr=lr: env.reset(options={"initial_lr": lr}), r"must lie in") for lr in (0.0, 11.0, math.nan)),
        *((lambda env, lr=lr: env.reset(options={"initial_lr": lr}), "must be a number, got") for lr in ("1", True)),
        *(
            (lambda env, action=action: env.step(action), "an action is one number")
            for action in (math.nan, [math.nan], [0.1, 0.2], [], None, "up")
        ),
    ],
)
def test_what_is_refused_changes_nothing(use: Callable[[LRTrainingEnv], Any], message: str) -> None:
    env, expected = LRTrainingEnv(TASK), toys.episode(LRTrainingEnv(TASK), [0.25, 0.5])
    env.reset(seed=0, options={"initial_lr": 1e-3})
    env.step(np.array([0.25], dtype=np.float32))
    lr = env.trainee.lr
    with pytest.raises(InvalidArgumentError, match=message):
        use(env)
    assert env.trainee.lr == lr
    if "action" in message:
        assert toys.same(env.step(np.array([0.5], dtype=np.float32)), expected[2])


def test_what_needs_a_running_episode() -> None:
    env = LRTrainingEnv(TASK)
    uses = [lambda: env.step(ZERO), lambda: env.trainee, lambda: env.task, lambda: env.watched, lambda: env.measurement]
    for options, lr in (({}, None), ({"initial_lr": None}, None), ({"initial_lr": np.float32(0.5)}, 0.5)):
        checked = episode.initial_lr(options, env.settings)  # which begins none
        assert (checked, type(checked)) == (lr, type(lr))
    for use in uses:
        with pytest.raises(EpisodeError, match="reset"):
            use()
    toys.episode(env, [0.0] * 3)
    with pytest.raises(gymnasium.error.ResetNeeded):
        env.step(ZERO)
    assert env.trainee.updates == 40  # the trainee stays, to be looked at


@pytest.mark.parametrize(
    ("options", "message"),
    [
        *(
            ({"reward": lambda _, value=value: value}, f"reward function returned {value!r}")
            for value in (math.nan, None)
        ),
    ],
)
def test_what_shows_while_it_trains(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidArgumentError, match=message):
        toys.episode(LRTrainingEnv(**({"task": TASK} | options)), [0.0])


@pytest.mark.parametrize("initial_lr", [1e-3, 1.0, 1e5, 1e12])
@pytest.mark.parametrize("ceiling", [0.5, 1e6])
@pytest.mark.parametrize("observe_progress", [True, False])
def test_what_is_observed_of_one_that_blows_up(initial_lr: float, ceiling: float, observe_progress: bool) -> None:
    """It stays within the space, nothing else depends on it, and nothing is remembered of the episode before."""
    options: dict[str, Any] = {"max_multiplier": 1e4, "max_lr": 1e12, "observe_progress": observe_progress}
    task = EXPLODING.replace(loss_ceiling=ceiling)
    env, absolute = (LRTrainingEnv(task, observation=kind, **options) for kind in ("portable", "absolute"))
    assert (env.observed[0], absolute.observed[0], len(env.observed)) == (
        "val_loss_left",
        "train_loss",
        11 + observe_progress,
    )
    assert LRTrainingEnv(task, **env.env_options()).observed == env.observed
    seen: list[list[Any]] = []
    for each in (env, absolute, env):
        observation, info = each.reset(seed=1, options={"initial_lr": initial_lr})
        steps: list[Any] = [(observation, 0.0, False, False, info)]
        while not steps[-1][2]:
            steps.append(each.step(np.ones(1, dtype=np.float32)))
        assert steps[-1][4]["diverged"]
        assert all(step[0] in each.observation_space and np.isfinite(step[0]).all() for step in steps)
        assert ("progress" in info["features"]) == observe_progress
        seen.append(steps)
        toys.episode(each, [0.02], 2, 1e-2)
    assert toys.same(*([step[1:] for step in steps] for steps in seen[:2]))
    assert toys.same(seen[0], seen[2])


# -- pictures, videos and a window ------------------------------------------------------------------------------------


def drawing(**options: Any) -> LRTrainingEnv:
    return LRTrainingEnv(**({"task": short(), "render_mode": "rgb_array", **EXPLOSIVE} | options))


def picture(env: LRTrainingEnv) -> Any:
    drawn = env.render()
    assert isinstance(drawn, np.ndarray)
    assert (drawn.dtype, drawn.shape) == (np.uint8, (480, 640, 3))
    assert drawn.max() == 255  # paper
    assert drawn.min() < 50  # ink
    return drawn


def test_pictures_change_with_the_episode() -> None:
    """Before it, through it, where it blows up, and where it begins anew."""
    env = drawing()
    pictures = [picture(env)]
    np.testing.assert_array_equal(draw(History()), pictures[0])
    env.reset(seed=0, options={"initial_lr": 1e-3})
    pictures.append(picture(env))
    for action in (0.02, -0.02, 1.0):
        *_, info = env.step(np.array([action], dtype=np.float32))
        pictures.append(picture(env))
    assert info["diverged"]
    env.reset(seed=0, options={"initial_lr": 1e12})  # nothing but NaN
    pictures.append(picture(env))
    assert len({drawn.tobytes() for drawn in pictures}) == 6
    env.reset(seed=0, options={"initial_lr": 1e-3})
    np.testing.assert_array_equal(picture(env), pictures[1])
    assert not np.shares_memory(env.render(), env.render())  # type: ignore[arg-type]


def test_task_is_named() -> None:
    pictures = []
    for name in ("one", "two"):
        env = drawing(task=short().replace(name=name))
        env.reset(seed=0)
        pictures.append(picture(env))
    rows = np.flatnonzero((pictures[0] != pictures[1]).any((1, 2)))
    assert rows.size > 0
    assert rows.max() < 60  # in the title alone


def test_without_a_render_mode_nothing_is_drawn() -> None:
    env = drawing(render_mode=None)
    env.reset(seed=0)
    with pytest.warns(UserWarning, match="render_mode='rgb_array'"):
        assert env.render() is None


def test_record_video(tmp_path: Path) -> None:
    pytest.importorskip("moviepy")
    env: Any = gymnasium.make("lr_gym/LRTraining-v0", task=short(), render_mode="rgb_array")
    env = RecordVideo(env, str(tmp_path / "videos"), episode_trigger=lambda episode: True, disable_logger=True)
    env.reset(seed=0)
    while not env.step(ZERO)[2]:
        pass
    env.close()
    (file,) = (tmp_path / "videos").glob("*.mp4")
    assert file.stat().st_size > 1000
    assert file.read_bytes()[4:8] == b"ftyp"


def test_human_mode_shows_a_window(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("pygame")
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    with pytest.warns(UserWarning, match="HumanRendering"):
        env = gymnasium.make("lr_gym/LRTraining-v0", task=short(), render_mode="human")
    assert env.render_mode == "human"
    env.reset(seed=0)
    env.step(ZERO)
    env.close()
