from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import toys
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import lr_gym.agents.ppo.train as train_module
from lr_gym import LRTrainingEnv, rollout
from lr_gym.agents.ppo.checkpoint import Checkpoint
from lr_gym.agents.ppo.config import TrainConfig
from lr_gym.agents.ppo.progression import Progression
from lr_gym.agents.ppo.selection import mean_loss, selection_cells
from lr_gym.agents.ppo.train import current_controller, make_algorithm
from lr_gym.control.controller import Controller
from lr_gym.evaluation import Contestant

Train = Callable[..., Progression]


def test_progress(train_here: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also in TensorBoard; and a finished run is not run again."""
    config = tiny.config(episodes=11)  # rounded up to six iterations
    started: list[Any] = []
    progression = train_here(config, tmp_path, on_start=started.append)
    assert (config.iterations, progression.iteration) == (6, 6)
    assert [(entry["iteration"], entry["episodes"]) for entry in progression.curve] == [(0, 0), (2, 4), (4, 8), (6, 12)]
    assert len(progression.exploring) == 6
    assert np.isfinite(progression.exploring).all()
    assert progression.seconds > 0
    (model,) = started
    assert model.num_timesteps == 6 * config.trainees * config.task.decisions
    assert model._n_updates == 6 * config.epochs
    scores = [entry["val_loss"] for entry in progression.curve]
    assert progression.best_score == min(scores)
    for entry in progression.curve:
        assert list(entry["val_loss_by_initial_lr"]) == ["0.01", "0.001", "0.0001"]
        assert entry["val_loss"] == pytest.approx(np.mean(list(entry["val_loss_by_initial_lr"].values())))
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    values = {tag: [event.value for event in events.Scalars(tag)] for tag in events.Tags()["scalars"]}
    assert values["train/actor_lr"] == pytest.approx([0.001] * len(values["train/actor_lr"]))
    assert values["train/critic_lr"] == pytest.approx([0.005] * len(values["train/critic_lr"]))
    assert values["episodes/count"] == [2, 4, 6, 8, 10, 12]
    assert values["episodes/best_val_loss_median"] == pytest.approx(progression.exploring)
    assert values["evaluation/best_val_loss"] == pytest.approx(scores)
    monkeypatch.setattr(train_module, "training_envs", None)
    again = train_here(config, tmp_path, Checkpoint.read(tmp_path))
    for field in ("curve", "exploring", "seconds", "best_score"):
        assert getattr(again, field) == getattr(progression, field)
    assert again.best is not None
    assert progression.best is not None
    assert again.best.fingerprint == progression.best.fingerprint


def test_the_best_controller_scores_as_the_curve_says(train_here: Train, tmp_path: Path) -> None:
    config = tiny.config(evaluation_runs=2, seed=3, reward="val_loss", observe_progress=False)
    progression = train_here(config, tmp_path)
    controller = Controller.load(tmp_path)
    assert progression.best is not None
    assert controller.fingerprint == progression.best.fingerprint
    assert controller.description.provenance == {"command": "test"}
    env = LRTrainingEnv(config.task, **config.env_options)
    losses = [
        rollout(env, controller, seed=seed, initial_lr=lr).result["best_val_loss"]
        for lr in config.task.initial_lrs
        for seed in config.seeds("selection", 2)
    ]
    assert np.mean(losses) == pytest.approx(min(entry["val_loss"] for entry in progression.curve), rel=1e-12)


@pytest.mark.parametrize("make", [tiny.config, tiny.family_config])
def test_seeds(make: Callable[..., TrainConfig], train_here: Train, tmp_path: Path) -> None:
    """The seed alone decides, not the state of the global generators."""
    for folder, seed, noise in (("a", 0, 1), ("b", 0, 2), ("c", 1, 1)):
        toys.disturb_global_randomness(noise)
        train_here(make(seed=seed, episodes=4), tmp_path / folder)
    a, b, c = (tiny.outcome(tmp_path / folder) for folder in "abc")
    assert toys.same(a, b)
    assert not toys.same(a[1], c[1])
    for what in ("curve", "exploring"):
        assert a[0]["progression"][what] != c[0]["progression"][what] or (what, make) == ("curve", tiny.family_config)


def test_envs_are_ended_when_training_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    closed: list[int] = []

    def watched(make_envs: Any, workers: int, timeout: float, place: Any) -> Any:
        venv = tiny.envs_here(make_envs, workers)
        monkeypatch.setattr(venv, "close", functools.partial(closed.append, workers))
        return venv

    monkeypatch.setattr(train_module, "WorkerVecEnv", watched)

    def fail() -> None:
        with train_module.training_envs(tiny.config(), 3) as venv:
            assert isinstance(venv, VecNormalize)
            assert (venv.num_envs, venv.gamma, venv.clip_obs) == (2, 1.0, 10.0)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert closed == [3]


@pytest.mark.parametrize("actor", ["mlp", "lstm"])
@pytest.mark.parametrize("make", [tiny.config, tiny.family_config])
def test_a_controller_equals_the_model_in_training(actor: str, make: Any) -> None:
    """SB3's own policy behind VecNormalize's own normalisation."""
    config = make(actor=actor)
    envs = DummyVecEnv([lambda: LRTrainingEnv(config.task, **config.env_options)] * config.trainees)
    venv = VecNormalize(envs, clip_obs=config.CLIP, epsilon=config.EPSILON)
    model = make_algorithm(config, venv)
    model.learn(2 * model.n_steps * model.n_envs)
    controller = current_controller(config, model, venv, {"who": "a test"})
    seen = (4 * np.random.default_rng(0).normal(size=(40, len(controller.description.low)))).astype(np.float32)
    state, our_state, said = None, None, []
    for number, observation in enumerate(seen):
        start = np.array([number % 15 == 0])
        expected, state = model.predict(venv.normalize_obs(observation), state, start, deterministic=True)
        action, our_state = controller.predict(observation, our_state, start)
        assert action == pytest.approx(expected, rel=1e-4, abs=1e-6)
        said.append(float(action[0]))
    assert len(set(said)) > 20
    assert controller.description.provenance == {"who": "a test"}
    assert (state is None) == (our_state is None) == (actor == "mlp")


# -- families --------------------------------------------------------------------------------------------------------


def contestant() -> Contestant:
    return Contestant("by hand", {"agent": "by hand"}, tiny.Decay())


def test_what_evaluates_a_controller_of_one_task() -> None:
    """The same runs from every initial learning rate."""
    config = tiny.config(evaluation_runs=2, max_multiplier=3.0)
    cells = selection_cells(config, contestant())
    seeds = config.seeds("selection", 2)
    lrs = [0.01, 0.01, 0.001, 0.001, 0.0001, 0.0001]
    assert [(group, cell.initial_lr) for group, cell in cells] == [(f"{lr:g}", lr) for lr in lrs]
    assert [cell.seed for _, cell in cells] == seeds * 3
    assert all((cell.task, cell.env) == (config.task, config.training_options) for _, cell in cells)


def test_what_evaluates_a_controller_of_a_family() -> None:
    """Always the same draws, each with its own seed, by the decade that they start from."""
    config = tiny.family_config(evaluation_runs=20)
    cells = selection_cells(config, contestant())
    draws = tiny.family().draws(20)
    assert sorted(cell.task.name for _, cell in cells) == sorted(task.name for task in draws)
    for _, cell in cells:
        assert cell.task == draws[cell.seed]
        assert (cell.initial_lr, cell.env) == (cell.task.initial_lrs[0], config.training_options)
    assert sorted(cell.seed for _, cell in cells) == list(range(20))
    lrs = [cell.initial_lr for _, cell in cells]
    assert lrs == sorted(lrs, reverse=True)
    groups = [group for group, _ in cells]
    assert list(dict.fromkeys(groups)) == ["1e+0...", "1e-1...", "1e-2...", "1e-3..."]
    for group, lr in zip(groups, lrs, strict=True):
        low = float(group.removesuffix("..."))
        assert low <= lr < 10 * low
    for other in ({"seed": 1}, {"actor": "lstm"}):
        again = selection_cells(tiny.family_config(evaluation_runs=20, **other), contestant())
        assert [(group, cell.key) for group, cell in again] == [(group, cell.key) for group, cell in cells]


def test_other_families_evaluate() -> None:
    """The validation family; and one without a range from all its initial lrs, of which an env draws one."""
    validation = tiny.family(name="other", axes=([{"budget": 20}, {"budget": 30}],), initial_lr_range=(0.1, 0.2))
    cells = selection_cells(tiny.family_config(validation=validation), contestant())
    assert {cell.task.name for _, cell in cells} <= {"other[budget=20]", "other[budget=30]"}
    assert [cell.task for _, cell in sorted(cells, key=lambda entry: entry[1].seed)] == validation.draws(3)
    family = tiny.family(axes=(), base=tiny.task(initial_lrs=(1e-1, 1e-2)))
    cells = selection_cells(tiny.family_config(task=family, evaluation_runs=20), contestant())
    assert {cell.initial_lr for _, cell in cells} == {1e-1, 1e-2}


@pytest.mark.parametrize(
    ("losses", "arithmetic", "geometric"),
    [
        ([1.0, 4.0], 2.5, 2.0),
        ([3.0], 3.0, 3.0),
        ([100.0, 0.0], 50.0, (100 * 1e-7) ** 0.5),  # a loss of zero counts as 1e-7
        ([1.0, float("inf")], np.inf, np.inf),
        ([1.0, float("nan")], np.nan, np.nan),
    ],
)
def test_mean_loss(losses: list[float], arithmetic: float, geometric: float) -> None:
    """A family's losses are of different size: each counts by its logarithm."""
    assert mean_loss(tiny.config(), np.array(losses)) == pytest.approx(arithmetic, nan_ok=True)
    assert mean_loss(tiny.family_config(), np.array(losses)) == pytest.approx(geometric, nan_ok=True)


@pytest.mark.parametrize("actor", ["mlp", "lstm"])
def test_a_family_trains(actor: str, train_here: Train, tmp_path: Path) -> None:
    config = tiny.family_config(actor=actor, evaluation_runs=4)
    started: list[Any] = []
    progression = train_here(config, tmp_path, on_start=started.append)
    assert progression.iteration == 3
    assert [entry["iteration"] for entry in progression.curve] == [0, 2, 3]
    assert np.isfinite(progression.exploring).all()
    (model,) = started
    assert (model.replicas, model.n_steps, model.num_timesteps) == (2, 3, 3 * 4 * 3)
    rates = {group["name"]: group["lr"] for group in model.policy.optimizer.param_groups}
    assert rates == pytest.approx({"actor": 0.0005, "critic": 0.0025})  # at the end half of what they were
    controller = Controller.load(tmp_path)
    about = controller.description
    env = LRTrainingEnv(config.task, **config.env_options)
    assert tuple(about.features) == env.observed
    assert about.features[0] == "val_loss_left"
    assert about.env_options() == env.env_options()
    cells = selection_cells(config, contestant())
    logs = [
        np.log(rollout(env_of, controller, seed=cell.seed, initial_lr=cell.initial_lr).result["best_val_loss"])
        for _, cell in cells
        for env_of in [LRTrainingEnv(cell.task, **config.env_options)]
    ]
    best = min(progression.curve, key=lambda entry: entry["val_loss"])
    assert progression.best_score == best["val_loss"] == pytest.approx(np.exp(np.mean(logs)), rel=1e-12)
    by_group: dict[str, list[float]] = {}
    for (group, _), loss in zip(cells, logs, strict=True):
        by_group.setdefault(group, []).append(loss)
    assert best["val_loss_by_initial_lr"] == pytest.approx({g: np.exp(np.mean(v)) for g, v in by_group.items()})


class Beginnings:
    """How every episode of a run began: task, learning rate, and the losses of the first interval's updates."""

    def __init__(self) -> None:
        self.iterations: list[list[tuple[Any, ...]]] = []

    def __call__(self, model: Any) -> None:
        envs = model.get_env().venv
        reset, step = envs.reset, envs.step_wait

        def note() -> None:
            self.iterations.append(
                [(info["task"], info["lr"], info["train_losses"].tolist()) for info in envs.reset_infos]
            )

        def resetting() -> Any:
            observations = reset()
            note()
            return observations

        def stepping() -> Any:
            answer = step()
            if answer[2].any():
                assert answer[2].all()  # all episodes end at once
                note()
            return answer

        envs.reset, envs.step_wait = resetting, stepping


@pytest.mark.parametrize(
    ("trainees", "replicas", "task"),
    [
        *((6, 2, tiny.family()), (6, 3, tiny.family()), (4, 4, tiny.family()), (4, 2, tiny.breaking_task())),
        (
            3,
            1,
            tiny.family(axes=([{"initial_lr_range": (1e-3, 1e-2)}],)),
        ),  # nothing keeps trainees in step that diverge
    ],
)
def test_replicas_begin_alike(trainees: int, replicas: int, task: Any, train_here: Train, tmp_path: Path) -> None:
    """In every iteration: the same task, weights, data and learning rate. And those of different groups do not."""
    sizes = {"trainees": trainees, "replicas": replicas, "episodes": 3 * trainees, "evaluate_every": 9}
    beginnings = Beginnings()
    train_here(tiny.family_config(task=task, **sizes), tmp_path, on_start=beginnings)
    assert len(beginnings.iterations) == 4  # the last for an iteration that does not come
    groups = [began[k : k + replicas] for began in beginnings.iterations for k in range(0, trainees, replicas)]
    for group in groups:
        assert toys.same(group, [group[0]] * replicas)
    first_losses = [str(group[0][2]) for group in groups]
    assert len(set(first_losses)) == len(groups) == 4 * trainees // replicas
