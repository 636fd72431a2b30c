"""The vector twin: environment i of a population is a single environment, whatever is computed at once."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import gymnasium
import gymnasium.wrappers.vector
import numpy as np
import pytest
import toys
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from gymnasium.vector.utils import batch_space
from vector_toys import (
    BLOW_UP,
    EXPLOSIVE,
    assert_close,
    go_on,
    plain,
    short,
    some_actions,
    twin,
    unbatched,
    walk,
)

from lr_gym import LRTrainingEnv, LRTrainingVectorEnv
from lr_gym.errors import EpisodeError, InvalidArgumentError, UnknownNameError
from lr_gym.tasks import Task, TaskFamily

ENV_ID = "lr_gym/LRTraining-v0"
MIXED = short(initial_lrs=(BLOW_UP, 0.1, 0.01))


# -- the same as single environments ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("task", "options"),
    [
        (MIXED, EXPLOSIVE),
        (short(initial_lrs=(BLOW_UP, 0.1)), EXPLOSIVE | {"reward": "val_loss", "observe_progress": False}),
        (short(decision_interval=10, budget=40, loss_ceiling=2.0, initial_lrs=(10.0, 0.01)), {}),
        (short(optimizer="Adam", initial_lrs=(1e-3,)), {"action": "discrete", "reward": "final"}),
        (MIXED, EXPLOSIVE | {"precision": "bfloat16", "channels_last": True, "score_test": False}),
        (MIXED, EXPLOSIVE | {"observation": "portable"}),
    ],
    ids=["explosive", "val_loss", "lr 10", "discrete", "bfloat16", "portable"],
)
def test_one_after_another_equals_gymnasiums_own_bit_for_bit(task: Task, options: dict[str, Any]) -> None:
    """Everything that is returned, masks and all, over several episodes that end at different times."""
    envs = LRTrainingVectorEnv(4, task, stack=1, **options)
    actions = some_actions(4, 11, kind=options.get("action", "continuous"))
    toys.disturb_global_randomness(1)
    before = toys.global_randomness()
    seen = walk(envs, actions)
    assert toys.same(before, toys.global_randomness())
    assert toys.same(seen, walk(twin(4, task, **options), actions))
    toys.disturb_global_randomness(2)
    assert toys.same(walk(envs, actions), seen)  # whatever happened in between
    ends = np.array([step[2] for step in seen[1:]])
    assert (ends.sum(0) >= 3).all()
    if task.optimizer == "SGD":
        assert (ends != ends[:, :1]).any()  # they end at different times
        finals = [unbatched(step, k)[6] for step in seen[1:] for k in range(4) if step[2][k]]
        lengths = {info["updates"] // task.decision_interval for info in finals if info["diverged"]}
        assert lengths >= ({1} if task.decision_interval == 10 else {1, 2})  # the first interval, and another
        assert any(not info["diverged"] for info in finals)


@pytest.mark.parametrize("task", [MIXED, short(initial_lrs=(0.1,))], ids=["at different times", "at the same time"])
def test_autoreset_at_the_next_step_is_gymnasiums_own_too(task: Task) -> None:
    """The action after an end is ignored, be it none; also after a reset in between."""
    options = {"autoreset_mode": AutoresetMode.NEXT_STEP}
    envs = LRTrainingVectorEnv(3, task, stack=1, **options, **EXPLOSIVE)  # type: ignore[arg-type]
    own = SyncVectorEnv([lambda: LRTrainingEnv(task, **EXPLOSIVE)] * 3, **options)  # type: ignore[arg-type]
    assert envs.metadata["autoreset_mode"] is AutoresetMode.NEXT_STEP
    actions = some_actions(3, 11)
    for _ in range(2):
        seen = walk(envs, actions)
        assert toys.same(seen, walk(own, actions))
        assert any(step[2].any() for step in seen[1:])
    made = gymnasium.make_vec(ENV_ID, num_envs=2, task=short(), autoreset_mode="NextStep")
    wrapped = gymnasium.wrappers.vector.NormalizeObservation(made)
    wrapped.reset(seed=0)
    for action in some_actions(2, 5, explosions=0.0):
        assert np.isfinite(wrapped.step(action)[0]).all()


class NormNet(toys.NoisyNet):
    """Without the dropout, which cannot be stacked."""

    def __init__(self, input_shape: tuple[int, ...], num_outputs: int) -> None:
        super().__init__(input_shape, num_outputs)
        self.drop = toys.nn.Identity()


TIMES: dict[str, Any] = {"budget": 8, "decision_interval": 2, "optimizer": "SGD", "initial_lrs": (0.1, 0.05)}


@pytest.mark.parametrize(
    ("num_envs", "stack", "task", "observation"),
    [
        (5, 3, MIXED, "absolute"),
        (5, None, MIXED, "absolute"),
        (4, 2, MIXED, "portable"),
        (3, 3, toys.toy_task(data="test-vector-table", model=NormNet, **TIMES), "absolute"),
        (3, 2, toys.toy_task(data="test-vector-line", model=toys.Slope, loss=toys.plus_one_error, **TIMES), "absolute"),
    ],
    ids=["3", "default", "portable", "BatchNorm", "regression"],
)
def test_stacks_equal_gymnasiums_own_up_to_rounding(
    num_envs: int, stack: int | None, task: Task, observation: str, register_data: Callable[[str, Any], None]
) -> None:
    """Stacks of full and of lesser size; members that blow up do no harm to those beside them, nor to who follows."""
    register_data("test-vector-table", toys.table())
    register_data("test-vector-line", toys.table(features=1, targets=1))
    options, actions = EXPLOSIVE | {"observation": observation}, some_actions(num_envs, 10, 1)
    envs = LRTrainingVectorEnv(num_envs, task, stack=stack, **options)
    seen, expected = walk(envs, actions), walk(twin(num_envs, task, **options), actions)
    assert envs.population.stack == (stack or 5)
    for step, theirs in zip(seen, expected, strict=True):
        assert toys.same(_shapes(step), _shapes(theirs))
        for number in range(num_envs):
            assert_close(unbatched(step, number), unbatched(theirs, number), observation == "portable")
    assert not toys.same(seen, expected) or task.model == "toys:Slope"  # it was computed at once
    assert any(step[2].any() and step[4]["final_info"]["diverged"].any() for step in seen[1:])
    assert toys.same(seen, walk(envs, actions))  # whatever happened in between
    if task.data == "test-vector-line":  # there is no accuracy: its place is an array of None
        assert seen[0][1]["val_accuracy"] == [None] * 3


def _shapes(value: Any) -> Any:
    """Return the masks, and of other arrays shapes and types."""
    if isinstance(value, dict):
        return {key: entry if key.startswith("_") else _shapes(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [_shapes(entry) for entry in value]
    return (value.shape, str(value.dtype)) if isinstance(value, np.ndarray) else type(value).__name__


# -- seeds and options -----------------------------------------------------------------------------------------------


def first_losses(envs: LRTrainingVectorEnv, seed: Any, options: dict[str, Any] | None = None) -> list[float]:
    """Return a number that tells trainees apart: the loss of the first update, before it."""
    return envs.reset(seed=seed, options=options)[1]["train_losses"][:, 0].tolist()


def test_seeds() -> None:
    envs = LRTrainingVectorEnv(3, short(), stack=1)
    single = LRTrainingEnv(short())
    by_seed = {seed: single.reset(seed=seed)[1]["train_losses"][0].item() for seed in (99, 8, 7, 6, 5)}
    continued = single.reset()[1]["train_losses"][0].item()
    assert len({*by_seed.values(), continued}) == 6
    for seed, expected in (
        (5, (5, 6, 7)),
        (np.int64(6), (6, 7, 8)),
        (np.array([6, 5, 7]), (6, 5, 7)),
        ([5, 5, 5], (5, 5, 5)),
        ((99, 5, 99), (99, 5, 99)),
    ):
        assert first_losses(envs, seed) == [by_seed[number] for number in expected]
        assert envs.np_random_seed == expected
    assert first_losses(envs, [7, None, None])[:2] == [by_seed[7], continued]
    envs.reset(seed=5)
    assert len({*first_losses(envs, None), *first_losses(envs, None), *by_seed.values()}) == 11
    fresh = [first_losses(LRTrainingVectorEnv(3, short(), stack=1), None) for _ in range(2)]
    assert len({*fresh[0], *fresh[1]}) == 6
    # The same seed gives the same trainee whatever its initial learning rate, also beside others.
    paired = first_losses(LRTrainingVectorEnv(3, short(), stack=3), [4, 4, 9], {"initial_lr": [1e-4, 1.0, 0.1]})
    assert paired[0] == paired[1] != paired[2]


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


# -- what is refused -------------------------------------------------------------------------------------------------

ONE_EACH, ONE_ACTION_EACH = r"one for each of the 2 environments; got ", "one action for each of 2 environments, got "


@pytest.mark.parametrize(
    ("what", "value", "message"),
    [
        ("options", {"initial_lr": [0.1, 0.1, 0.1]}, f"initial_lr.* {ONE_EACH}"),
        ("options", {"initial_lr": []}, ONE_EACH),
        ("options", {"initial_lr": np.array(0.1)}, ONE_EACH),
        ("options", {"initial_lr": [0.1, 11.0]}, r"options\['initial_lr'\] must lie in .*got 11.0"),
        ("options", {"initial_lr": [0.1, math.nan]}, r"must lie in .*got nan"),
        ("options", {"initial_lr": 0.0}, "must lie in"),
        ("options", {"initial_lr": [0.1, "1"]}, "must be a number, got '1'"),
        ("options", {"initial_lr": True}, "must be a number, got True"),
        ("options", {"lr": 0.1}, "reset knows the option 'initial_lr', got 'lr'"),
        ("options", {"initial_lr": [0.1, 0.1], "lr": 0.1, "a": 1}, "got 'a', 'lr'"),
        ("seed", [1, 2, 3], f"seed must be one number, or .*{ONE_EACH}"),
        *(
            ("seed", seed, "a seed is a whole number of at least 0 or None")
            for seed in (-1, [5, -1], [5, 1.5], [5, "a"])
        ),
        ("continuous", [[0.5], [math.nan]], "an action is one number"),
        ("continuous", [[0.5], [0.5, 0.5]], "an action is one number"),
        ("continuous", [[0.5], None], "an action is one number"),
        *(("continuous", actions, ONE_ACTION_EACH) for actions in ([[0.5]], [[0.5]] * 3, [], 0.5, None)),
        ("discrete", [0, 3], "an action is one of 0, 1, 2"),
        ("discrete", np.array([0.0, 1.0]), "an action is one of 0, 1, 2"),
        ("discrete", [0], ONE_ACTION_EACH),
    ],
)
def test_what_is_refused_changes_nothing(what: str, value: Any, message: str) -> None:
    kind = "discrete" if what == "discrete" else "continuous"
    envs = LRTrainingVectorEnv(2, short(), stack=1, action=kind)
    actions = some_actions(2, 6, explosions=0, kind=kind)
    expected = walk(envs, actions)
    walk(envs, actions[:1])
    states, lrs = envs.get_states(), [env.trainee.lr for env in envs.envs]
    with pytest.raises(InvalidArgumentError, match=message):
        envs.step(value) if what == kind else envs.reset(**({"seed": 8} | {what: value}))
    assert (envs.get_states(), [env.trainee.lr for env in envs.envs]) == (states, lrs)
    assert all(a is b.trainee for a, b in zip(envs.population.members, envs.envs, strict=True))
    assert toys.same(go_on(envs, actions[1:]), expected[2:])


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        *(
            ({"num_envs": value}, InvalidArgumentError, f"num_envs must be a whole number of at least 1, got {value}")
            for value in (0, -2, 2.0, True, None)
        ),
        *(
            ({"stack": value}, InvalidArgumentError, f"stack must be .* at least 1 or None, got {value!r}")
            for value in (0, 1.5, True, "all")
        ),
        ({"task": "no/such"}, UnknownNameError, "no/such"),
        ({"task": 3}, InvalidArgumentError, "task must be a name"),
        ({"reward": "loss"}, UnknownNameError, "reward"),
        ({"max_lr": 1e-9}, InvalidArgumentError, "max_lr"),
        ({"autoreset_mode": AutoresetMode.DISABLED}, InvalidArgumentError, "must be one of SameStep, NextStep, got"),
        ({"autoreset_mode": "next"}, InvalidArgumentError, "must be one of SameStep, NextStep, got 'next'"),
        ({"render_mode": "human"}, InvalidArgumentError, "render_mode"),
    ],
)
def test_bad_arguments(changes: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        LRTrainingVectorEnv(**({"num_envs": 2, "task": short()} | changes))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"model": "toys:NoisyNet", "model_options": {}}, r"model 'toys:NoisyNet'\) cannot be computed at once"),
        ({"optimizer": "LBFGS", "optimizer_options": {"max_iter": 2}}, "'LBFGS' evaluates the loss itself"),
    ],
)
def test_what_cannot_be_stacked_is_refused_if_a_stack_is_asked_for(fields: dict[str, Any], message: str) -> None:
    envs = LRTrainingVectorEnv(2, short(**fields), stack=2)
    for _ in range(2):
        with pytest.raises(InvalidArgumentError, match=message):
            envs.reset(seed=0)
    with pytest.raises(EpisodeError, match=r"no population before the first reset; call reset\(\)"):
        envs.step(np.zeros((2, 1)))
    actions = some_actions(2, 4, explosions=0)
    assert toys.same(walk(LRTrainingVectorEnv(2, short(**fields)), actions), walk(twin(2, short(**fields)), actions))


def test_a_member_is_not_reset_on_its_own() -> None:
    envs = LRTrainingVectorEnv(np.int64(2), short(), stack=np.int64(2))
    with pytest.raises(EpisodeError, match=r"no population before the first reset; call reset\(\)"):
        _ = envs.population
    envs.reset(seed=3)
    assert (envs.num_envs, envs.population.stack) == (2, 2)
    envs.envs[1].reset(seed=9)
    with pytest.raises(EpisodeError, match="environment 1 was reset on its own; reset the vector environment"):
        envs.step(np.zeros((2, 1)))
    envs.reset(seed=3)
    envs.step(np.zeros((2, 1)))


# -- Gymnasium's interface -------------------------------------------------------------------------------------------
# Gymnasium 1.4 ships checkers for single envs alone (gymnasium.utils.env_checker).


@pytest.mark.parametrize("kind", ["continuous", "discrete"])
@pytest.mark.parametrize("observe_progress", [True, False])
@pytest.mark.parametrize("observation", ["absolute", "portable"])
def test_spaces_hold_what_is_returned(kind: str, observe_progress: bool, observation: str) -> None:
    options: dict[str, Any] = {"observation": observation, "observe_progress": observe_progress, "max_lr": 1e12}
    options |= {"task": short(initial_lrs=(0.1, BLOW_UP)), "action": kind}
    envs, single = gymnasium.make_vec(ENV_ID, num_envs=3, **options), LRTrainingEnv(**options)
    assert isinstance(envs, LRTrainingVectorEnv)
    assert (envs.num_envs, envs.render_mode, envs.closed) == (3, None, False)
    assert envs.metadata == single.metadata | {"autoreset_mode": AutoresetMode.SAME_STEP}
    assert "autoreset_mode" not in single.metadata
    assert (envs.single_observation_space, envs.single_action_space) == (single.observation_space, single.action_space)
    assert envs.observation_space == batch_space(single.observation_space, 3)
    assert envs.action_space == batch_space(single.action_space, 3)
    width = (8 if observation == "absolute" else 12) - (not observe_progress)
    assert single.observation_space.shape == (width,)
    envs.action_space.seed(0)
    for observations, *_, infos in walk(envs, [envs.action_space.sample() for _ in range(7)]):
        assert observations in envs.observation_space
        assert ("progress" in infos["features"]) == observe_progress


def test_ways_to_make_them() -> None:
    """From a spec, one after another in Gymnasium's own class, and of a family, which has no other way."""
    envs = gymnasium.make_vec(ENV_ID, num_envs=5, task=short(), stack=3, reward="val_loss", **EXPLOSIVE)
    assert str(envs) == f"LRTrainingVectorEnv({ENV_ID}, num_envs=5)"
    again = gymnasium.make_vec(envs.spec)  # type: ignore[arg-type]
    assert isinstance(again, LRTrainingVectorEnv)
    assert again.spec == envs.spec
    assert toys.same(walk(envs, some_actions(5, 5)), walk(again, some_actions(5, 5)))
    assert again.population.stack == 3
    assert gymnasium.make_vec(gymnasium.make_vec(ENV_ID, task=short()).spec).num_envs == 1
    family = TaskFamily(name="fam", base=short(), axes=([{"budget": 6}, {"budget": 8}],))
    with pytest.raises(InvalidArgumentError, match="vectorization_mode='sync'"):
        gymnasium.make_vec(ENV_ID, num_envs=2, task=family)
    sync = gymnasium.make_vec(ENV_ID, num_envs=2, task=family, vectorization_mode="sync")
    observations, _ = sync.reset(seed=0)
    assert observations in sync.observation_space


def test_attributes_methods_and_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    envs = gymnasium.make_vec(ENV_ID, num_envs=2, task=short(), render_mode="rgb_array")
    assert isinstance(envs, LRTrainingVectorEnv)
    envs.reset(seed=0)
    assert envs.get_attr("task") == (short(), short())
    assert envs.call("check_lr", 0.1, "it") == (None, None)
    assert envs.population.members == tuple(env.trainee for env in envs.envs)
    frames = envs.render()
    assert isinstance(frames, tuple)
    assert [(frame.shape, frame.dtype) for frame in frames] == [((480, 640, 3), np.uint8)] * 2
    assert not np.array_equal(*frames)
    closed: list[LRTrainingEnv] = []
    monkeypatch.setattr(LRTrainingEnv, "close", lambda env: closed.append(env))
    envs.close()
    assert (closed, envs.closed) == (envs.envs, True)


@pytest.mark.parametrize("stack", [1, 3])
def test_everything_returned_is_new_and_actions_are_not_kept(stack: int) -> None:
    """Whoever keeps or overwrites what was returned keeps what it was, and changes nothing."""
    actions = some_actions(3, 7)
    envs = LRTrainingVectorEnv(3, short(), stack=stack, **EXPLOSIVE)
    expected, states = walk(envs, actions), envs.get_states()
    returned: list[Any] = [envs.reset(seed=3)]
    one = np.empty((3, 1), dtype=np.float32)
    for action in actions:
        one[:] = action
        returned.append(envs.step(one))
    one[:] = 9
    assert toys.same(plain(returned), expected)
    assert [state["actions"] for state in envs.get_states()] == [state["actions"] for state in states]
    answer: Any = envs.reset(seed=3)
    for number, action in enumerate(actions, start=1):
        answer[0][:] = 7
        for value in [*answer[-1].values(), *answer[-1]["features"].values()]:
            if isinstance(value, np.ndarray) and value.dtype != object:
                value[...] = 7
        answer = envs.step(action)
        assert toys.same(plain(answer), expected[number])
