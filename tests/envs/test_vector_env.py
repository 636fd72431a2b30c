"""The vector twin: environment i of a population is a single environment, whatever is computed at once."""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Callable, Sequence
from typing import Any

import gymnasium
import numpy as np
import numpy.typing as npt
import pytest
import tiny
import toys
from gymnasium.spaces import Box, Discrete, MultiDiscrete
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from gymnasium.vector.utils import batch_space
from gymnasium.wrappers.vector import DictInfoToList, NormalizeObservation, NormalizeReward, RecordEpisodeStatistics
from hypothesis import given, settings
from hypothesis import strategies as st

from lr_gym import LRTrainingEnv, LRTrainingVectorEnv
from lr_gym.errors import EpisodeError, InvalidArgumentError, UnknownNameError
from lr_gym.tasks import Task, TaskFamily

ENV_ID = "lr_gym/LRTraining-v0"
#: With these, action 1 makes a trainee diverge for certain, and so does this initial learning rate.
EXPLOSIVE: dict[str, Any] = {"max_multiplier": 1e12, "max_lr": 1e12}
BLOW_UP = 1e12
#: Batched matrix products round differently; what is measured of one network differs by less than this.
ROUNDING = {"rtol": 1e-4, "atol": 1e-5}

Actions = npt.NDArray[np.float32]
#: Observation, reward, terminated, truncated, info, last observation and last info of the episode that ended.
Step = tuple[Any, ...]


def short(**fields: Any) -> Task:
    """Return three decisions of two updates each."""
    return tiny.task(**({"budget": 8, "decision_interval": 2, "optimizer": "SGD", "initial_lrs": (0.1, 0.01)} | fields))


def twin(num_envs: int, task: Task, **options: Any) -> SyncVectorEnv:
    """Return Gymnasium's own vector env over single envs, with the same way to reset."""
    return SyncVectorEnv(
        [functools.partial(LRTrainingEnv, task, **options)] * num_envs, autoreset_mode=AutoresetMode.SAME_STEP
    )


def some_actions(num_envs: int, steps: int, seed: int = 0, explosions: float = 0.15) -> list[Actions]:
    """Return small actions, and now and then one that makes the trainee diverge."""
    rng = np.random.default_rng(seed)
    small = rng.uniform(-0.01, 0.01, (steps, num_envs, 1))
    return list(np.where(rng.uniform(size=small.shape) < explosions, 1.0, small).astype(np.float32))


def plain(value: Any) -> Any:
    """Return arrays of objects, and all that holds some, as lists: comparable with `toys.same`."""
    if isinstance(value, dict):
        return {key: plain(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(entry) for entry in value]
    if isinstance(value, np.ndarray) and value.dtype == object:
        return plain(value.tolist())
    return value


def walk(envs: Any, actions: Sequence[Any], seed: Any = 3, options: dict[str, Any] | None = None) -> list[Any]:
    """Return all that a reset and some steps return."""
    return [plain(envs.reset(seed=seed, options=options)), *go_on(envs, actions)]


def go_on(envs: Any, actions: Sequence[Any]) -> list[Any]:
    return [plain(envs.step(action)) for action in actions]


def through_json(states: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return json.loads(json.dumps(states, allow_nan=False))


def member(infos: dict[str, Any], number: int) -> dict[str, Any]:
    """Return one environment's info, taken out of the arrays by their masks."""

    def entry(value: Any) -> Any:
        if isinstance(value, dict):
            return member(value, number)
        return value[number].item() if isinstance(value[number], np.generic) else value[number]

    present = [key for key in infos if not key.startswith("_") and infos[f"_{key}"][number]]
    return {key: entry(infos[key]) for key in present}


def unbatched(step: Sequence[Any], number: int) -> Step:
    """Return one environment's part of what the vector env's `step` returned."""
    observations, rewards, terminated, truncated, infos = step
    info = member(infos, number)
    last = info.pop("final_obs", None), info.pop("final_info", None)
    return observations[number], float(rewards[number]), bool(terminated[number]), bool(truncated[number]), info, *last


def alone(
    task: Task, seed: int | None, actions: Sequence[Any], options: dict[str, Any] | None = None, **env_options: Any
) -> list[Any]:
    """Return what a single env answers that is reset by hand where an episode ends."""
    env = LRTrainingEnv(task, **env_options)
    seen: list[Any] = [env.reset(seed=seed, options=options)]
    for action in actions:
        observation, reward, terminated, truncated, info = env.step(action)
        last: tuple[Any, Any] = (None, None)
        if terminated:
            last = observation, info
            observation, info = env.reset()
        seen.append((observation, reward, terminated, truncated, info, *last))
    return seen


def assert_close(got: Any, expected: Any) -> None:
    """Compare two steps of one environment up to rounding; what is left of a network that blew up is chaos."""
    assert got[2:4] == expected[2:4]
    assert got[1] == pytest.approx(expected[1], rel=ROUNDING["rtol"], abs=ROUNDING["atol"])
    _assert_close_infos(got[4], expected[4])
    np.testing.assert_allclose(
        *(seen[0][6:] if seen[4]["diverged"] else seen[0] for seen in (got, expected)), **ROUNDING
    )
    assert (got[6] is None) == (expected[6] is None) == (not expected[2])
    if expected[6] is not None:
        _assert_close_infos(got[6], expected[6])
        start = 6 if expected[6]["diverged"] else 0  # lr and progress alone
        np.testing.assert_allclose(got[5][start:], expected[5][start:], **ROUNDING)


def _assert_close_infos(got: dict[str, Any], expected: dict[str, Any]) -> None:
    assert got.keys() == expected.keys()
    for key, value in expected.items():
        if isinstance(value, dict):
            _assert_close_infos(got[key] | {"diverged": 0}, value | {"diverged": expected["diverged"]})
        elif isinstance(value, (str, bool)) or value is None:
            assert got[key] == value or key == "diverged"
        elif key.endswith("accuracy"):
            if key == "test_accuracy" or not expected["diverged"]:  # that of the best weights, or not lost
                assert got[key] == pytest.approx(value, abs=0.05)  # an example near the boundary
        elif not expected["diverged"] or key in ("lr", "updates", "epoch", "progress", "best_val_loss", "best_update"):
            np.testing.assert_allclose(got[key], value, **ROUNDING)


# -- the same as single environments --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("task", "options"),
    [
        (short(initial_lrs=(BLOW_UP, 0.1, 0.01)), EXPLOSIVE),
        (short(initial_lrs=(BLOW_UP, 0.1)), EXPLOSIVE | {"reward": "val_loss", "observe_progress": False}),
        (tiny.breaking_task(), {}),
        (short(optimizer="Adam", initial_lrs=(1e-3,)), {"action": "discrete", "reward": "final"}),
        (short(initial_lrs=(BLOW_UP, 0.1, 0.01)), EXPLOSIVE | {"precision": "bfloat16", "channels_last": True}),
        (short(initial_lrs=(BLOW_UP, 0.1, 0.01)), EXPLOSIVE | {"observation": "portable"}),
    ],
    ids=["explosive", "val_loss", "lr 10", "discrete", "bfloat16", "portable"],
)
def test_one_after_another_equals_gymnasiums_own_bit_for_bit(task: Task, options: dict[str, Any]) -> None:
    """Everything that is returned, masks and all, over several episodes that end at different times."""
    envs, expected = LRTrainingVectorEnv(4, task, stack=1, **options), twin(4, task, **options)
    actions: list[Any] = some_actions(4, 11)
    if "action" in options:
        actions = [np.random.default_rng(k).integers(3, size=4) for k in range(11)]
    seen = walk(envs, actions)
    assert toys.same(seen, walk(expected, actions))
    ends = np.array([step[2] for step in seen[1:]])
    assert (ends.sum(0) >= 3).all()
    if task.optimizer == "SGD":
        assert (ends != ends[:, :1]).any()  # they end at different times
        finals = [unbatched(step, k)[6] for step in seen[1:] for k in range(4) if step[2][k]]
        lengths = {info["updates"] // task.decision_interval for info in finals if info["diverged"]}
        assert lengths >= ({1} if task.decision_interval == 10 else {1, 2})  # the first interval, and another
        assert any(not info["diverged"] for info in finals)


@pytest.mark.parametrize("stack", [2, 3, 5, None])
def test_stacks_equal_gymnasiums_own_up_to_rounding(stack: int | None) -> None:
    """Stacks of full and of lesser size; members that blow up do no harm to those beside them."""
    task = short(initial_lrs=(BLOW_UP, 0.1, 0.01))
    envs, expected = LRTrainingVectorEnv(5, task, stack=stack, **EXPLOSIVE), twin(5, task, **EXPLOSIVE)
    seen, by_gymnasium = (walk(e, some_actions(5, 10)) for e in (envs, expected))
    assert envs.population.stack == (stack or 5)
    for step, theirs in zip(seen[1:], by_gymnasium[1:], strict=True):
        assert toys.same(_shapes(step), _shapes(theirs))
        for number in range(5):
            assert_close(unbatched(step, number), unbatched(theirs, number))
    assert not toys.same(seen, by_gymnasium)  # it was computed at once


def _shapes(value: Any) -> Any:
    """Return the masks, and of other arrays shapes and types."""
    if isinstance(value, dict):
        return {key: entry if key.startswith("_") else _shapes(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [_shapes(entry) for entry in value]
    return (value.shape, str(value.dtype)) if isinstance(value, np.ndarray) else type(value).__name__


@settings(max_examples=10)
@given(
    num_envs=st.integers(1, 4),
    stack=st.integers(1, 5),
    seeds=st.lists(st.integers(0, 2**40), min_size=4, max_size=4),
    lrs=st.lists(st.sampled_from([None, 0.03, 0.3, BLOW_UP]), min_size=4, max_size=4),
    explosions=st.sampled_from([0.0, 0.2, 0.6]),
    cut=st.integers(0, 7),
)
def test_every_member_is_a_single_environment(
    num_envs: int, stack: int, seeds: list[int], lrs: list[Any], explosions: float, cut: int
) -> None:
    """Seeds and initial learning rates per member; saved somewhere, and gone on with in another object."""
    task = short(initial_lrs=(0.1, BLOW_UP))
    actions = some_actions(num_envs, 7, seeds[0], explosions)
    envs = LRTrainingVectorEnv(num_envs, task, stack=stack, **EXPLOSIVE)
    seen = walk(envs, actions[:cut], seeds[:num_envs], {"initial_lr": lrs[:num_envs]})
    states = through_json(envs.get_states())
    rest = go_on(envs, actions[cut:])
    restored = LRTrainingVectorEnv(num_envs, task, stack=stack, **EXPLOSIVE)
    assert toys.same(restored.set_states(states), list(seen[-1][0]))
    assert toys.same(go_on(restored, actions[cut:]), rest)
    for number in range(num_envs):
        expected = alone(
            task, seeds[number], [action[number] for action in actions], {"initial_lr": lrs[number]}, **EXPLOSIVE
        )
        got = [unbatched(step, number) for step in [*seen[1:], *rest]]
        if min(stack, num_envs) == 1:
            assert toys.same(seen[0][0][number], expected[0][0])
            assert toys.same(member(seen[0][1], number), expected[0][1])
            assert toys.same(got, expected[1:])
        else:
            for mine, theirs in zip(got, expected[1:], strict=True):
                assert_close(mine, theirs)


@pytest.mark.parametrize("stack", [2, 4])
def test_portable_observations_of_a_stack(stack: int) -> None:
    """Each member remembers its own episode, also where others begin anew or are restored beside it."""
    task = short(initial_lrs=(BLOW_UP, 0.1, 0.01))
    make = functools.partial(LRTrainingVectorEnv, 4, task, stack=stack, observation="portable", **EXPLOSIVE)
    envs, actions, seeds = make(), some_actions(4, 10, 5), [11, 12, 13, 14]
    seen = walk(envs, actions[:5], seeds)
    states = through_json(envs.get_states())
    assert len({len(state["actions"]) for state in states}) > 1
    restored = make()
    walk(restored, actions[:2], [1, 2, 3, 4])  # a life of its own, of which nothing remains
    assert toys.same(list(restored.set_states(states)), list(seen[-1][0]))
    rest = go_on(envs, actions[5:])
    assert toys.same(go_on(restored, actions[5:]), rest)
    for number in range(4):
        expected = alone(task, seeds[number], [a[number] for a in actions], observation="portable", **EXPLOSIVE)
        for step, theirs in zip([*seen[1:], *rest], expected[1:], strict=True):
            mine = unbatched(step, number)
            assert mine[2] == theirs[2]
            if not theirs[4]["diverged"]:
                # a ratio near 1 is shown ten times as large, and with it the rounding
                np.testing.assert_allclose(mine[0], theirs[0], rtol=1e-3, atol=1e-3)
            if theirs[5] is not None and not theirs[6]["diverged"]:
                np.testing.assert_allclose(mine[5], theirs[5], rtol=1e-3, atol=1e-3)
    assert any(step[2].any() for step in rest)


def test_batch_norm_in_a_stack(register_data: Callable[[str, Any], None]) -> None:
    """Buffers of every member are its own, also those of one that blew up and was replaced."""
    register_data("test-vector-table", toys.table())
    task = toys.toy_task(
        data="test-vector-table",
        model=NormNet,
        optimizer="SGD",
        budget=8,
        decision_interval=2,
        initial_lrs=(0.1,),
    )
    actions = some_actions(3, 8, 1, 0.2)
    envs = LRTrainingVectorEnv(3, task, stack=3, **EXPLOSIVE)
    seen = walk(envs, actions, [4, 5, 6])
    for number in range(3):
        for mine, theirs in zip(
            seen[1:], alone(task, 4 + number, [a[number] for a in actions], **EXPLOSIVE)[1:], strict=True
        ):
            assert_close(unbatched(mine, number), theirs)
    assert any(step[2].any() and step[4]["final_info"]["diverged"].any() for step in seen[1:])


class NormNet(toys.NoisyNet):
    """Without the dropout, which cannot be stacked."""

    def __init__(self, input_shape: tuple[int, ...], num_outputs: int) -> None:
        super().__init__(input_shape, num_outputs)
        self.drop = toys.nn.Identity()


def test_regression(register_data: Callable[[str, Any], None]) -> None:
    """No accuracy: its place is an array of None."""
    register_data("test-vector-line", toys.table(features=1, targets=1))
    task = toys.toy_task(data="test-vector-line", model=toys.Slope, loss="mse_loss", budget=10, initial_lrs=(0.05, 0.1))
    actions = some_actions(2, 3, explosions=0)
    assert toys.same(walk(LRTrainingVectorEnv(2, task, stack=1), actions), walk(twin(2, task), actions))
    infos = walk(LRTrainingVectorEnv(2, task, stack=2), actions)[1][4]
    assert infos["final_info"]["result"]["test_accuracy"] == infos["val_accuracy"] == [None, None]


# -- autoreset -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stack", [1, 3])
def test_autoreset_by_a_table(stack: int) -> None:
    """Three decisions. b diverges at its second; c has diverged in the interval before the first.

    An env that ends shows in the same step how its episode ended and how the next begins; every action counts.
    """
    task = short(initial_lrs=(0.01,))
    envs = LRTrainingVectorEnv(3, task, stack=stack, **EXPLOSIVE)
    _, infos = envs.reset(seed=0, options={"initial_lr": [0.01, 0.01, BLOW_UP]})
    assert infos["diverged"].tolist() == [False, False, True]
    assert infos["updates"].tolist() == [2, 2, 2]
    x = 0.0
    table = [
        # actions       updates now   where one ended: updates, whether it diverged
        ((0.01, 0.02, 0.03), (4, 4, 2), (x, x, 2), (x, x, True)),
        ((0.02, 1.00, 0.01), (6, 2, 4), (x, 6, x), (x, True, x)),
        ((-0.1, 0.01, 0.02), (2, 4, 6), (8, x, x), (False, x, x)),
        ((0.01, 0.02, -0.1), (4, 6, 2), (x, x, 8), (x, x, False)),
        ((0.02, -0.1, 0.01), (6, 2, 4), (x, 8, x), (x, False, x)),
        ((1.00, 0.01, 1.00), (2, 4, 2), (8, x, 6), (True, x, True)),
    ]
    lrs = [0.01, 0.01, BLOW_UP]
    for actions, updates, last_updates, diverged in table:
        observations, rewards, terminated, truncated, infos = envs.step(np.array(actions, dtype=np.float32)[:, None])
        ended = [bool(number) for number in last_updates]
        assert terminated.tolist() == ended
        assert not truncated.any()
        assert np.isfinite(rewards).all()
        assert infos["updates"].tolist() == list(updates)
        np.testing.assert_allclose(observations[:, 7], np.array(updates) / 8)
        assert ("final_info" in infos) == ("final_obs" in infos) == any(ended)
        for number in range(3):
            lr = lrs[number] * (1e12 ** float(np.float32(actions[number])) if lrs[number] < BLOW_UP else 1)
            lrs[number] = 0.01 if ended[number] else lr
            info = member(infos, number)
            assert info["lr"] == pytest.approx(lrs[number], rel=1e-12)
            assert ("final_info" in info) == ended[number]
            if ended[number]:
                last = info["final_info"]
                assert last["lr"] == pytest.approx(lr, rel=1e-12)
                assert (last["updates"], last["diverged"]) == (last_updates[number], diverged[number])
                assert last["result"]["diverged"] == diverged[number]
                assert info["final_obs"][7] == last_updates[number] / 8
                assert info["final_obs"] in envs.single_observation_space
                assert "result" not in info


# -- seeds and options -----------------------------------------------------------------------------------------------


def first_losses(envs: LRTrainingVectorEnv, seed: Any, options: dict[str, Any] | None = None) -> list[float]:
    """Return a number that tells trainees apart: the loss of the first update, before it."""
    return envs.reset(seed=seed, options=options)[1]["train_losses"][:, 0].tolist()


def test_seeds() -> None:
    envs = LRTrainingVectorEnv(3, short(), stack=1)
    by_seed = {seed: LRTrainingEnv(short()).reset(seed=seed)[1]["train_losses"][0].item() for seed in (5, 6, 7, 8, 99)}
    assert len(set(by_seed.values())) == 5
    assert first_losses(envs, 5) == [by_seed[5], by_seed[6], by_seed[7]]
    assert first_losses(envs, np.int64(6)) == [by_seed[6], by_seed[7], by_seed[8]]
    assert envs.np_random_seed == (6, 7, 8)
    assert first_losses(envs, (99, 5, 99)) == [by_seed[99], by_seed[5], by_seed[99]]
    single = LRTrainingEnv(short())
    single.reset(seed=5)
    continued = single.reset()[1]["train_losses"][0].item()
    assert first_losses(envs, [7, None, None])[:2] == [by_seed[7], continued]
    assert len({*first_losses(envs, None), *first_losses(envs, None), *by_seed.values()}) == 11
    fresh = [first_losses(LRTrainingVectorEnv(3, short(), stack=1), None) for _ in range(2)]
    assert len({*fresh[0], *fresh[1]}) == 6


@pytest.mark.parametrize("stack", [1, 2])
def test_two_runs_are_equal_and_so_are_two_resets(stack: int) -> None:
    envs = LRTrainingVectorEnv(3, short(initial_lrs=(0.1, BLOW_UP)), stack=stack, **EXPLOSIVE)
    actions = some_actions(3, 8)
    first = walk(envs, actions)
    assert toys.same(first, walk(envs, actions))  # whatever happened in between
    assert toys.same(first, walk(LRTrainingVectorEnv(3, envs.envs[0].tasks, stack=stack, **EXPLOSIVE), actions))
    assert not toys.same(first, walk(envs, actions, seed=4))


def test_global_random_generators_are_left_alone() -> None:
    envs = LRTrainingVectorEnv(3, short(), stack=2)
    toys.disturb_global_randomness(1)
    before = toys.global_randomness()
    first = walk(envs, some_actions(3, 4))
    assert toys.same(toys.global_randomness(), before)
    toys.disturb_global_randomness(2)
    assert toys.same(first, walk(envs, some_actions(3, 4)))


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (0.03, [0.03, 0.03]),
        (1, [1.0, 1.0]),
        ([0.03, 0.5], [0.03, 0.5]),
        ((0.03, None), [0.03, 0.25]),
        (np.array([0.03, 0.5]), [0.03, 0.5]),
        (None, [0.25, 0.25]),
    ],
)
def test_initial_lr(value: Any, expected: list[float]) -> None:
    envs = LRTrainingVectorEnv(2, short(initial_lrs=(0.25,)))
    options = {"initial_lr": value}
    assert envs.reset(seed=0, options=options)[1]["lr"].tolist() == expected
    assert options == {"initial_lr": value}
    assert envs.reset(seed=0)[1]["lr"].tolist() == [0.25, 0.25]  # for that reset alone


def test_initial_lrs_pair_trainees() -> None:
    """The same seed gives the same trainee whatever its initial learning rate, also beside others."""
    envs = LRTrainingVectorEnv(2, short(), stack=2)
    losses = first_losses(envs, [4, 4], {"initial_lr": [1e-4, 1.0]})
    assert losses[0] == losses[1] == first_losses(envs, [4, 9])[0]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"initial_lr": [0.1, 0.1, 0.1]}, r"initial_lr.* one for each of the 2 environments; got "),
        ({"initial_lr": []}, r"one for each of the 2 environments; got "),
        ({"initial_lr": np.array(0.1)}, r"one for each of the 2 environments; got "),
        ({"initial_lr": [0.1, 11.0]}, r"options\['initial_lr'\] must lie in .*got 11.0"),
        ({"initial_lr": [0.1, math.nan]}, r"must lie in .*got nan"),
        ({"initial_lr": 0.0}, "must lie in"),
        ({"initial_lr": [0.1, "1"]}, "must be a number, got '1'"),
        ({"initial_lr": True}, "must be a number, got True"),
        ({"lr": 0.1}, "reset knows the option 'initial_lr', got 'lr'"),
        ({"initial_lr": [0.1, 0.1], "lr": 0.1, "a": 1}, "got 'a', 'lr'"),
    ],
)
def test_a_refused_option_changes_nothing(options: dict[str, Any], message: str) -> None:
    envs = LRTrainingVectorEnv(2, short(), stack=1)
    actions = some_actions(2, 6, explosions=0)
    expected = walk(envs, actions)
    envs.reset(seed=3)
    go_on(envs, actions[:2])
    with pytest.raises(InvalidArgumentError, match=message):
        envs.reset(seed=8, options=options)
    assert toys.same(go_on(envs, actions[2:]), expected[3:])


def test_a_wrong_number_of_seeds_changes_nothing() -> None:
    envs = LRTrainingVectorEnv(2, short(), stack=1)
    actions = some_actions(2, 6, explosions=0)
    expected = walk(envs, actions)
    envs.reset(seed=3)
    with pytest.raises(InvalidArgumentError, match=r"seed must be one number, or .*one for each of the 2 "):
        envs.reset(seed=[1, 2, 3])
    assert toys.same(go_on(envs, actions), expected[1:])


@pytest.mark.parametrize("seeds", [-1, [5, -1], [5, 1.5], [5, "a"]])
def test_a_refused_seed_changes_nothing(seeds: Any) -> None:
    envs = LRTrainingVectorEnv(2, short(), stack=1)
    actions = some_actions(2, 3, explosions=0)
    expected = walk(envs, actions)
    envs.reset(seed=3)
    states = envs.get_states()
    with pytest.raises((InvalidArgumentError, gymnasium.error.Error)):
        envs.reset(seed=seeds)
    assert envs.get_states() == states
    assert all(a is b.trainee for a, b in zip(envs.population.members, envs.envs, strict=True))
    assert toys.same(go_on(envs, actions), expected[1:])


def test_an_array_of_seeds() -> None:
    envs = LRTrainingVectorEnv(2, short(), stack=1)
    assert first_losses(envs, np.array([6, 5])) == first_losses(envs, [6, 5])


# -- what is refused -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"num_envs": 0}, InvalidArgumentError, "num_envs must be a whole number of at least 1, got 0"),
        ({"num_envs": -2}, InvalidArgumentError, "num_envs must be"),
        ({"num_envs": 2.0}, InvalidArgumentError, "num_envs must be.*got 2.0"),
        ({"num_envs": True}, InvalidArgumentError, "num_envs must be.*got True"),
        ({"num_envs": None}, InvalidArgumentError, "num_envs must be.*got None"),
        ({"stack": 0}, InvalidArgumentError, "stack must be a whole number of at least 1 or None, got 0"),
        ({"stack": 1.5}, InvalidArgumentError, "stack must be"),
        ({"stack": True}, InvalidArgumentError, "stack must be"),
        ({"stack": "all"}, InvalidArgumentError, "stack must be.*'all'"),
        ({"task": "no/such"}, UnknownNameError, "no/such"),
        ({"task": 3}, InvalidArgumentError, "task must be a name"),
        ({"reward": "loss"}, UnknownNameError, "reward"),
        ({"max_lr": 1e-9}, InvalidArgumentError, "max_lr"),
        ({"render_mode": "human"}, InvalidArgumentError, "render_mode"),
    ],
)
def test_bad_arguments(changes: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        LRTrainingVectorEnv(**({"num_envs": 2, "task": short()} | changes))


def test_numpys_whole_numbers_are_numbers() -> None:
    assert LRTrainingVectorEnv(np.int64(2), short()).num_envs == 2


def test_numpys_whole_numbers_are_stacks() -> None:
    envs = LRTrainingVectorEnv(2, short(), stack=np.int64(2))
    envs.reset(seed=0)
    assert envs.population.stack == 2


def test_a_family_is_refused_and_runs_one_after_another() -> None:
    family = TaskFamily(name="fam", base=short(), axes=([{"budget": 6}, {"budget": 8}],))
    with pytest.raises(InvalidArgumentError, match="vectorization_mode='sync'"):
        gymnasium.make_vec(ENV_ID, num_envs=2, task=family)
    envs = gymnasium.make_vec(ENV_ID, num_envs=2, task=family, vectorization_mode="sync")
    observations, _ = envs.reset(seed=0)
    assert observations in envs.observation_space
    envs.close()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"model": "toys:NoisyNet", "model_options": {}}, r"model 'toys:NoisyNet'\) cannot be computed at once"),
        ({"optimizer": "LBFGS"}, "the optimizer 'LBFGS' evaluates the loss itself"),
    ],
)
def test_what_cannot_be_stacked_is_refused_if_a_stack_is_asked_for(fields: dict[str, Any], message: str) -> None:
    task = short(**fields)
    envs = LRTrainingVectorEnv(2, task, stack=2)
    for _ in range(2):
        with pytest.raises(InvalidArgumentError, match=message):
            envs.reset(seed=0)
    with pytest.raises(EpisodeError):
        envs.step(np.zeros((2, 1)))
    actions = some_actions(2, 4, explosions=0)
    assert toys.same(walk(LRTrainingVectorEnv(2, task), actions), walk(twin(2, task), actions))


def test_before_the_first_reset() -> None:
    envs = LRTrainingVectorEnv(2, short())
    for use in (lambda: envs.step(np.zeros((2, 1), dtype=np.float32)), lambda: envs.population):
        with pytest.raises(EpisodeError, match=r"no population before the first reset; call reset\(\)"):
            use()


@pytest.mark.parametrize(
    ("kind", "actions", "message"),
    [
        ("continuous", [[0.5], [math.nan]], "an action is one number"),
        ("continuous", [[0.5], [0.5, 0.5]], "an action is one number"),
        ("continuous", [[0.5], None], "an action is one number"),
        ("continuous", [[0.5]], "one action for each of 2 environments, got "),
        ("continuous", [[0.5]] * 3, "one action for each of 2 environments, got "),
        ("continuous", [], "one action for each of 2 environments, got "),
        ("continuous", 0.5, "one action for each of 2 environments, got 0.5"),
        ("continuous", None, "one action for each of 2 environments, got None"),
        ("discrete", [0, 3], "an action is one of 0, 1, 2"),
        ("discrete", np.array([0.0, 1.0]), "an action is one of 0, 1, 2"),
        ("discrete", [0], "one action for each of 2 environments, got "),
    ],
)
def test_refused_actions_change_nothing(kind: str, actions: Any, message: str) -> None:
    envs = LRTrainingVectorEnv(2, short(), stack=1, action=kind)
    fine = np.ones(2, dtype=np.int64) if kind == "discrete" else np.full((2, 1), 0.5, dtype=np.float32)
    expected = walk(envs, [fine] * 4)
    envs.reset(seed=3)
    states = envs.get_states()
    with pytest.raises(InvalidArgumentError, match=message):
        envs.step(actions)
    assert [env.trainee.lr for env in envs.envs] == expected[0][1]["lr"].tolist()
    assert envs.get_states() == states
    assert toys.same(go_on(envs, [fine] * 4), expected[1:])


# -- Gymnasium's interface -------------------------------------------------------------------------------------------
# Gymnasium 1.4 ships checkers for single envs alone (gymnasium.utils.env_checker).


@pytest.mark.parametrize("kind", ["continuous", "discrete"])
@pytest.mark.parametrize("observe_progress", [True, False])
@pytest.mark.parametrize("observation", ["absolute", "portable"])
def test_spaces_hold_what_is_returned(kind: str, observe_progress: bool, observation: str) -> None:
    task = short(initial_lrs=(0.1, BLOW_UP))
    envs = gymnasium.make_vec(
        ENV_ID,
        num_envs=3,
        task=task,
        action=kind,
        observation=observation,
        observe_progress=observe_progress,
        max_lr=1e12,
    )
    single = LRTrainingEnv(task, action=kind, observation=observation, observe_progress=observe_progress, max_lr=1e12)
    assert isinstance(envs, LRTrainingVectorEnv)
    assert (envs.num_envs, envs.render_mode, envs.closed) == (3, None, False)
    assert envs.metadata == single.metadata | {"autoreset_mode": AutoresetMode.SAME_STEP}
    assert "autoreset_mode" not in single.metadata
    assert (envs.single_observation_space, envs.single_action_space) == (single.observation_space, single.action_space)
    assert envs.observation_space == batch_space(single.observation_space, 3)
    assert envs.action_space == batch_space(single.action_space, 3)
    assert isinstance(envs.action_space, MultiDiscrete if kind == "discrete" else Box)
    assert isinstance(envs.single_action_space, Discrete if kind == "discrete" else Box)
    observations, infos = envs.reset(seed=1)
    envs.action_space.seed(0)
    width = (8 if observation == "absolute" else 12) - (not observe_progress)
    for _ in range(9):
        assert observations.dtype == np.float32
        assert observations.shape == (3, width)
        assert observations in envs.observation_space
        assert all(row in envs.single_observation_space for row in observations)
        assert infos["features"]["lr"].shape == infos["lr"].shape == (3,)
        assert infos["train_losses"].shape == (3, 2)
        assert ("progress" in infos["features"]) == observe_progress
        observations, rewards, terminated, truncated, infos = envs.step(envs.action_space.sample())
        assert [array.shape for array in (rewards, terminated, truncated)] == [(3,)] * 3
        assert [array.dtype for array in (rewards, terminated, truncated)] == [np.float64, np.bool_, np.bool_]
    envs.close()


def test_make_vec_again_from_the_spec() -> None:
    options = {"task": short(initial_lrs=(0.1,)), "stack": 3, "reward": "val_loss", **EXPLOSIVE}
    envs = gymnasium.make_vec(ENV_ID, num_envs=5, **options)
    assert str(envs) == f"LRTrainingVectorEnv({ENV_ID}, num_envs=5)"
    assert envs.spec is not None
    again = gymnasium.make_vec(envs.spec)
    assert isinstance(again, LRTrainingVectorEnv)
    assert again.spec == envs.spec
    actions = some_actions(5, 5)
    assert toys.same(walk(envs, actions), walk(again, actions))
    assert again.population.stack == 3
    one = gymnasium.make_vec(gymnasium.make_vec(ENV_ID, task=short()).spec)
    assert one.num_envs == 1


def test_other_ways_of_vectorizing_still_work() -> None:
    task = short(initial_lrs=(0.1,))
    sync = gymnasium.make_vec(
        ENV_ID,
        num_envs=2,
        task=task,
        vectorization_mode="sync",
        vector_kwargs={"autoreset_mode": "SameStep"},
    )
    assert not isinstance(sync, LRTrainingVectorEnv)
    actions = some_actions(2, 5, explosions=0)
    assert toys.same(walk(sync, actions), walk(LRTrainingVectorEnv(2, task, stack=1), actions))
    sync.close()


def test_render() -> None:
    envs = gymnasium.make_vec(ENV_ID, num_envs=2, task=short(), render_mode="rgb_array")
    assert envs.render_mode == "rgb_array"
    envs.reset(seed=0)
    envs.step(np.zeros((2, 1), dtype=np.float32))
    frames = envs.render()
    assert isinstance(frames, tuple)
    assert [(frame.shape, frame.dtype) for frame in frames] == [((480, 640, 3), np.uint8)] * 2
    assert not np.array_equal(*frames)
    envs.close()


def test_close(monkeypatch: pytest.MonkeyPatch) -> None:
    closed: list[LRTrainingEnv] = []
    monkeypatch.setattr(LRTrainingEnv, "close", lambda env: closed.append(env))
    envs = LRTrainingVectorEnv(2, short())
    envs.close()
    envs.close()
    assert envs.closed
    assert closed == envs.envs


def test_attributes_and_methods() -> None:
    envs = LRTrainingVectorEnv(2, short())
    envs.reset(seed=0)
    assert envs.get_attr("task") == (short(), short())
    assert envs.call("check_lr", 0.1, "it") == (None, None)
    envs.set_attr("note", ["a", "b"])
    assert [env.note for env in envs.envs] == ["a", "b"]  # type: ignore[attr-defined]
    assert envs.unwrapped is envs
    assert envs.population.members == tuple(env.trainee for env in envs.envs)


def test_record_episode_statistics() -> None:
    envs = RecordEpisodeStatistics(LRTrainingVectorEnv(2, short(initial_lrs=(0.1,)), **EXPLOSIVE))
    zero, boom = np.zeros((2, 1), dtype=np.float32), np.array([[0], [1]], dtype=np.float32)
    rewards = [step[1] for step in walk(envs, [zero, boom, zero, zero, zero])[1:]]
    assert list(envs.length_queue) == [2, 3, 3]
    expected = [rewards[0][1] + rewards[1][1], sum(r[0] for r in rewards[:3]), sum(r[1] for r in rewards[2:])]
    np.testing.assert_allclose(list(envs.return_queue), expected)


def test_dict_info_to_list() -> None:
    task, actions = short(initial_lrs=(0.1,)), some_actions(3, 7)
    steps = walk(LRTrainingVectorEnv(3, task, stack=1, **EXPLOSIVE), actions)
    listed = walk(DictInfoToList(LRTrainingVectorEnv(3, task, stack=1, **EXPLOSIVE)), actions)
    for step, theirs in zip(steps, listed, strict=True):
        for number in range(3):
            assert toys.same(_unboxed(theirs[-1][number]), member(step[-1], number))


def _unboxed(value: Any) -> Any:
    """Return NumPy's numbers as Python's."""
    if isinstance(value, dict):
        return {key: _unboxed(entry) for key, entry in value.items()}
    return value.item() if isinstance(value, np.generic) else value


def test_normalize_reward() -> None:
    actions = some_actions(3, 9)
    envs = NormalizeReward(LRTrainingVectorEnv(3, short(), stack=1, **EXPLOSIVE), gamma=0.9)
    expected = NormalizeReward(twin(3, short(), **EXPLOSIVE), gamma=0.9)
    assert toys.same(walk(envs, actions), walk(expected, actions))


def test_wrappers_of_observations_want_another_autoreset() -> None:
    """Gymnasium's rule for all of them: they would leave `final_obs` as it was."""
    with pytest.raises(ValueError, match="Expected autoreset_mode to be NEXT_STEP or DISABLED"):
        NormalizeObservation(LRTrainingVectorEnv(2, short()))
    envs = NormalizeObservation(gymnasium.make_vec(ENV_ID, num_envs=2, task=short(), vectorization_mode="sync"))
    assert np.isfinite(envs.reset(seed=0)[0]).all()
    envs.close()


@pytest.mark.parametrize("stack", [1, 3])
def test_everything_returned_is_new(stack: int) -> None:
    """Whoever keeps or overwrites what was returned keeps what it was, and changes nothing."""
    task, actions = short(initial_lrs=(0.1,)), some_actions(3, 7)
    expected = walk(LRTrainingVectorEnv(3, task, stack=stack, **EXPLOSIVE), actions)
    envs = LRTrainingVectorEnv(3, task, stack=stack, **EXPLOSIVE)
    returned = [envs.reset(seed=3), *(envs.step(action) for action in actions)]
    assert toys.same(plain(returned), expected)
    answer: Any = envs.reset(seed=3)
    got = [plain(answer)]
    assert toys.same(got, expected[:1])
    for number, action in enumerate(actions, start=1):
        _ruin(answer)
        answer = envs.step(action)
        assert toys.same(plain(answer), expected[number])


def _ruin(value: Any) -> None:
    if isinstance(value, np.ndarray):
        if value.dtype == object:
            _ruin(value.tolist())
        value[...] = 7 if value.dtype != object else None
    elif isinstance(value, dict):
        _ruin(list(value.values()))
        value.clear()
    elif isinstance(value, (list, tuple)):
        for entry in value:
            _ruin(entry)


def test_actions_are_not_kept() -> None:
    """A caller may use one array for all its actions."""
    envs = LRTrainingVectorEnv(2, short(), stack=1)
    actions = some_actions(2, 2, explosions=0)
    expected = walk(envs, actions)
    states = envs.get_states()
    envs.reset(seed=3)
    one = np.empty((2, 1), dtype=np.float32)
    for action, step in zip(actions, expected[1:], strict=True):
        one[:] = action
        assert toys.same(plain(envs.step(one)), step)
    one[:] = 9
    assert envs.get_states() == states


@pytest.mark.parametrize("stack", [1, 2])
def test_looking_ahead_leaves_no_trace(stack: int) -> None:
    """Agents are handed one environment; its trainee is a whole one, though its weights lie in a stack."""
    task, actions = short(optimizer="Adam", initial_lrs=(1e-3,)), some_actions(3, 7, explosions=0)
    expected = walk(LRTrainingVectorEnv(3, task, stack=stack), actions)
    envs = LRTrainingVectorEnv(3, task, stack=stack)
    envs.reset(seed=3)
    for number, action in enumerate(actions):
        trainee = envs.envs[number % 3].trainee
        assert trainee is envs.population.members[number % 3]
        snapshot = trainee.snapshot()
        with trainee.preserved():
            trainee.lr = 0.5
            trainee.train(3)
        losses = trainee.probe([0.0, 1e-3])
        assert losses[0] == trainee.batch_loss(trainee.peek_batches(1))
        trainee.train(1)
        trainee.restore(snapshot)
        assert toys.same(plain(envs.step(action)), expected[number + 1])


# -- saving and restoring --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "num_envs", "stack"),
    [("continuous", 4, 1), ("continuous", 4, 4), ("continuous", 5, 2), ("discrete", 3, 2)],
)
def test_a_restored_vector_env_goes_on_like_the_uninterrupted(kind: str, num_envs: int, stack: int) -> None:
    """Bit for bit, wherever members are in their episodes: all actions are taken again side by side."""
    task = short(budget=10, initial_lrs=(0.1, 0.01, BLOW_UP) if kind == "continuous" else (0.1, 0.01))
    options = EXPLOSIVE if kind == "continuous" else {"action": kind}
    make = functools.partial(LRTrainingVectorEnv, num_envs, task, stack=stack, **options)
    actions: list[Any] = some_actions(num_envs, 12, explosions=0.2)
    if kind == "discrete":
        actions = list(np.random.default_rng(0).integers(3, size=(12, num_envs)))
    envs, fresh = make(), make()
    seen = walk(envs, [], options={"initial_lr": [0.05] * (num_envs - 1) + [None]})
    clocks = set()
    for cut in (0, 3, 7):
        seen += go_on(envs, actions[len(seen) - 1 : cut])
        states = through_json(envs.get_states())
        clocks.add(tuple(len(state["actions"]) for state in states))
        rest = go_on(envs, actions[cut:])
        for restored in (fresh, envs):  # one of another life, and the same
            observations = restored.set_states(states)
            assert toys.same(list(observations), list(seen[-1][0]))
            assert restored.get_states() == states
            assert [env.trainee.updates for env in restored.envs] == [2 + 2 * len(s["actions"]) for s in states]
            assert toys.same(go_on(restored, actions[cut:]), rest)
        envs.set_states(states)
    assert any(len(set(lengths)) > 1 for lengths in clocks) == (kind == "continuous")


def test_a_state_is_a_copy() -> None:
    envs = LRTrainingVectorEnv(2, short(), stack=1)
    actions = some_actions(2, 4, explosions=0)
    envs.reset(seed=3, options={"initial_lr": 0.02})
    envs.step(actions[0])
    states, kept = envs.get_states(), through_json(envs.get_states())
    envs.step(actions[1])
    assert states == kept
    states[0]["actions"].append([0.5])
    envs.set_states(kept)
    assert envs.get_states() == kept


def test_states_may_be_restored_elsewhere_and_in_another_order() -> None:
    """One after another nothing depends on the neighbours."""
    task, actions = short(initial_lrs=(0.1,)), some_actions(3, 9, explosions=0.3)
    envs = LRTrainingVectorEnv(3, task, stack=1, **EXPLOSIVE)
    walk(envs, actions[:5])
    order = [2, 0, 1]
    other = LRTrainingVectorEnv(3, task, stack=1, **EXPLOSIVE)
    other.set_states([envs.get_states()[number] for number in order])
    for action in actions[5:]:
        expected, got = plain(envs.step(action)), plain(other.step(action[order]))
        for number, place in enumerate(order):
            assert toys.same(unbatched(got, number), unbatched(expected, place))


def test_actions_in_double_precision_are_restored_exactly() -> None:
    envs, fresh = (LRTrainingVectorEnv(2, short(), stack=1) for _ in range(2))
    envs.reset(seed=3)
    envs.step(np.full((2, 1), 0.3))  # NumPy's default type
    fresh.set_states(through_json(envs.get_states()))
    assert [env.trainee.lr for env in fresh.envs] == [env.trainee.lr for env in envs.envs]


def test_states_are_json_whatever_the_type_of_the_initial_lr() -> None:
    envs = LRTrainingVectorEnv(2, short(), stack=1)
    envs.reset(seed=3, options={"initial_lr": np.array([0.1, 0.01], dtype=np.float32)})
    through_json(envs.get_states())


def test_a_wrong_number_of_states_is_refused() -> None:
    envs = LRTrainingVectorEnv(2, short(), stack=1)
    envs.reset(seed=3)
    with pytest.raises(ValueError, match="2"):
        envs.set_states(envs.get_states()[:1])


def test_a_member_is_not_reset_on_its_own() -> None:
    envs = LRTrainingVectorEnv(2, short(), stack=1)
    envs.reset(seed=3)
    envs.envs[1].reset(seed=9)
    with pytest.raises(EpisodeError, match="environment 1 was reset on its own; reset the vector environment"):
        envs.step(np.zeros((2, 1)))
    envs.reset(seed=3)
    envs.step(np.zeros((2, 1)))
