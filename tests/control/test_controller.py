from __future__ import annotations

import itertools
import pickle
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import tiny
import toys

from lr_gym import LRTrainingEnv, agents, rollout
from lr_gym.control import controller as controller_module
from lr_gym.control.controller import Controller, shipped
from lr_gym.control.features import NAMES
from lr_gym.control.observations import PORTABLE
from lr_gym.errors import FileFormatError, InvalidArgumentError

ACTORS = pytest.mark.parametrize("actor", ["mlp", "lstm"])


def observations(size: int) -> np.ndarray[Any, Any]:
    """Return the same observations every time, some of them beyond where clipping begins."""
    return (4 * np.random.default_rng(0).normal(size=(40, size))).astype(np.float32)


def actions(controller: Controller, size: int) -> np.ndarray[Any, Any]:
    """Return the actions of two episodes, with the LSTM's state going on within each."""
    state, taken = None, []
    for number, observation in enumerate(observations(size)):
        action, state = controller.predict(observation, state, np.array([number % 20 == 0]))
        taken.append(action)
    return np.array(taken)


@ACTORS
@pytest.mark.parametrize("observation", ["absolute", "portable"])
def test_round_trip(actor: str, observation: str, tmp_path: Path) -> None:
    """Saved, pickled and loaded, by whichever name; global randomness is left alone, but where it explores."""
    controller = tiny.controller(actor, observation=observation)
    folder = tmp_path / "new" / "folder"
    controller.save(folder)
    assert sorted(path.name for path in folder.iterdir()) == ["config.json", "model.safetensors"]
    size = len(controller.description.low)
    assert (size, controller.env_options["observation"]) == ({"absolute": 8, "portable": 12}[observation], observation)
    expected = actions(controller, size)
    assert len(np.unique(expected)) > 20
    toys.disturb_global_randomness(5)
    before = toys.global_randomness()
    loads = (folder, str(folder), folder.parent / "folder")
    for loaded in (
        *map(Controller.load, loads),
        agents.make("ppo", controller=folder),
        pickle.loads(pickle.dumps(controller)),
    ):
        assert isinstance(loaded, Controller)
        assert loaded.description == controller.description
        assert toys.same(loaded.weights, controller.weights)
        assert loaded.fingerprint == controller.fingerprint
        assert np.array_equal(actions(loaded, size), expected)
    assert toys.same(toys.global_randomness(), before)
    batch, _ = controller.predict(observations(size), episode_start=np.ones(40, dtype=bool))
    single = [controller.predict(observation, None, np.array([True]))[0] for observation in observations(size)]
    assert batch == pytest.approx(np.array(single), rel=1e-4, abs=1e-6)
    drawn = {float(controller.predict(np.zeros(size), deterministic=False)[0][0]) for _ in range(5)}
    assert len(drawn) > 1


def test_normalisation_by_hand() -> None:
    controller = tiny.controller(mean=[1.0] * 8, variance=[3.0] * 8, epsilon=1.0, clip=2.0)
    got = controller.normalise(np.array([1.0, 2.0, -1.0, 4.0, 6.0, 100.0, -100.0, 0.0], dtype=np.float32))
    assert got == pytest.approx([0.0, 0.5, -1.0, 1.5, 2.0, 2.0, -2.0, -0.5])
    assert got.dtype == np.float32


@ACTORS
def test_fingerprint(actor: str) -> None:
    controller = tiny.controller(actor)
    fingerprint = controller.fingerprint
    assert tiny.controller(actor, provenance={"command": "another"}).fingerprint == fingerprint
    assert tiny.controller(actor, seed=1).fingerprint != fingerprint
    assert tiny.controller(actor, clip=9.0).fingerprint != fingerprint
    assert tiny.controller(actor, mean=[0.0] * 8).fingerprint != fingerprint
    for name in controller.weights:
        weights = controller.weights
        weights[name].view(-1)[0] += 1e-3
        assert Controller(controller.description, weights).fingerprint != fingerprint
    assert controller.fingerprint == fingerprint  # `weights` are copies


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"observe_progress": False}, "observe_progress=True (here False)"),
        ({"action": "discrete"}, "action='continuous' (here 'discrete')"),
        ({"max_multiplier": 3.0}, "max_multiplier=2.0 (here 3.0)"),
        ({"min_lr": 1e-6}, "min_lr=1e-07 (here 1e-06)"),
        ({"max_lr": 1.0}, "max_lr=10.0 (here 1.0)"),
        ({"observation": "portable"}, "observation='absolute' (here 'portable')"),
        (
            {"observation": "portable", "observe_progress": False},
            "observation='absolute' (here 'portable'), observe_progress=True (here False)",
        ),
    ],
)
def test_another_env_is_refused(options: dict[str, Any], message: str) -> None:
    env = LRTrainingEnv(tiny.task(), **options)
    with pytest.raises(InvalidArgumentError) as caught:
        rollout(env, tiny.controller(), seed=0)
    assert str(caught.value) == f"this controller was trained in an env with {message}; make the env with these"
    with pytest.raises(InvalidArgumentError, match="needs an LRTrainingEnv"):
        tiny.controller().reset(gymnasium.make("CartPole-v1"))


def test_other_controllers_fit_their_envs() -> None:
    """Reward and task are free; what is observed and driven comes from the description. No other env will do."""
    seven = tiny.description()
    short = {key: getattr(seven, key)[:7] for key in ("features", "low", "high", "mean", "variance")}
    made = [tiny.controller(**changes) for changes in (short, {"action": "discrete", "actor": "lstm"})]  # type: ignore[arg-type]
    made += [tiny.controller(max_multiplier=4.0), tiny.controller(observation="portable")]
    for controller, task in itertools.product(made, (tiny.breaking_task(), tiny.task())):
        env = LRTrainingEnv(task, reward="final", **controller.description.env_options())
        record = rollout(env, controller, seed=3, initial_lr=1e-2)
        assert record.updates == [10, 20, 30, 40]
        assert len(set(record.lrs)) > 1 or controller.description.action == "discrete"
        with pytest.raises(InvalidArgumentError, match="this controller was trained in an env with "):
            rollout(LRTrainingEnv(task), controller, seed=0)


@pytest.mark.parametrize(
    ("features", "observation", "progress"),
    [
        (NAMES, "absolute", True),
        (NAMES[:-1], "absolute", False),
        (tuple(PORTABLE), "portable", True),
        (tuple(PORTABLE)[:-1], "portable", False),
    ],
)
def test_features_say_what_is_observed(features: tuple[str, ...], observation: str, progress: bool) -> None:
    env = LRTrainingEnv(tiny.task(), observation=observation, observe_progress=progress)
    assert env.observed == features
    whole = tiny.description(observation=observation)
    size = len(features)
    fields = {key: getattr(whole, key)[:size] for key in ("features", "low", "high", "mean", "variance")}
    about = tiny.description(**fields)
    assert about.env_options() == env.env_options()
    assert (about.low, about.high) == (env.observation_space.low.tolist(), env.observation_space.high.tolist())


@pytest.mark.parametrize(
    "features",
    [
        NAMES[:-2],
        tuple(PORTABLE)[1:],
        tuple(PORTABLE)[:-2],
        (*tuple(PORTABLE)[1:], "val_loss_left"),
        (*tuple(PORTABLE)[:7], "progress"),
        (*PORTABLE, "more"),
        (),
    ],
)
def test_other_features_are_refused(features: tuple[str, ...]) -> None:
    numbers = {key: [0.5] * len(features) for key in ("low", "high", "mean", "variance")}
    with pytest.raises(
        FileFormatError, match=r"unknown observation .*; this version has .*'train_loss', .*val_loss_left"
    ):
        tiny.description(features=list(features), **numbers)


# -- controllers that are there already ------------------------------------------------------------------------------

OLD = Path(__file__).parent / "old_controller"


def test_a_controller_of_before_there_was_a_choice_of_observations() -> None:
    """It is what it was: the hash and the numbers are those of the version that trained it."""
    controller = Controller.load(OLD)
    assert controller.fingerprint == "589d5025269827556ab9764b5b0fdc2aadde813036e1eec0616f6e47ebb074f5"
    assert controller.env_options["observation"] == "absolute"
    assert len(controller.description.features) == 8
    middle = np.array([-0.5, 0.0, 0.5, -2.0, 0.0, -2.0, -2.5, 0.515], dtype=np.float32)
    action, _ = controller.predict(middle)
    assert float(action[0]) == pytest.approx(-0.69592, abs=1e-3)
    run = rollout(LRTrainingEnv(tiny.task()), controller, seed=3, initial_lr=1e-3)
    assert run.lrs == pytest.approx([0.001, 0.00100807, 0.00062177, 0.00031360], rel=1e-2)
    assert run.val_losses == pytest.approx([2.23964, 2.18075, 2.14937, 2.12489], rel=1e-3)


def test_controllers_of_the_package_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in shipped():
        assert Controller.load(name).env_options["observation"] in ("absolute", "portable", "training")
    monkeypatch.setattr(controller_module, "SHIPPED", tmp_path / "shipped")
    assert shipped() == []
    with pytest.raises(FileFormatError, match=r"no controller in second: .* Controllers of the package: none$"):
        Controller.load("second")
    for seed, name in enumerate(("first", "second")):
        tiny.controller(seed=seed).save(tmp_path / "shipped" / name)
    (tmp_path / "shipped" / "no controller").mkdir()
    assert shipped() == ["first", "second"]
    for seed, name in enumerate(("first", "second")):
        made: Any = agents.make("ppo", controller=name)
        assert made.fingerprint == tiny.controller(seed=seed).fingerprint
    tiny.controller(seed=2).save(tmp_path / "second")
    assert Controller.load("second").fingerprint == tiny.controller(seed=2).fingerprint  # a folder here comes first
    with pytest.raises(FileFormatError, match=r"Controllers of the package: first, second$"):
        Controller.load("third")
