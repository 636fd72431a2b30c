"""Train a controller: collect episodes, update, evaluate, checkpoint; then compare it with tuned step decays."""

from __future__ import annotations

import contextlib
import functools
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from rich.console import Console
from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import configure
from stable_baselines3.common.vec_env import VecNormalize

from lr_gym import LRTrainingEnv, cli
from lr_gym.agents.ppo.algorithm import (
    LstmPolicy,
    MlpPolicy,
    TwoRateA2C,
    TwoRatePPO,
    TwoRateRecurrentPPO,
    policy_kwargs,
)
from lr_gym.agents.ppo.backend import env_makers
from lr_gym.agents.ppo.checkpoint import Algorithm, Checkpoint, capture, reinstate, running_statistics
from lr_gym.agents.ppo.config import TrainConfig
from lr_gym.agents.ppo.off_policy import make_off_policy, networks
from lr_gym.agents.ppo.options import full
from lr_gym.agents.ppo.progression import Progression, load_progression, save
from lr_gym.agents.ppo.selection import mean_loss, selection_cells
from lr_gym.agents.ppo.warm_start import warm_start
from lr_gym.control.controller import Controller
from lr_gym.control.description import Description
from lr_gym.envs.places import Place
from lr_gym.envs.workers import ANSWER_LIMIT, WorkerVecEnv
from lr_gym.evaluation import Contestant, Workers
from lr_gym.progress import Bars


def make_algorithm(config: TrainConfig, venv: VecNormalize) -> Algorithm:
    """Return SB3's algorithm with one learning rate for actor and critic each, seeded (global generators too)."""
    scale = config.critic_lr / config.actor_lr
    given: dict[str, Any] = {
        "env": venv,
        "learning_rate": functools.partial(_annealed, config.actor_lr, config.final_lr_factor),
        "gamma": config.gamma,
        "seed": config.seed,
        "device": "cpu",  # networks this small are faster there, wherever the trainees are
    }
    if config.off_policy:
        given |= {"train_freq": (config.decisions, "step"), "policy_kwargs": networks(config.hidden_size)}
        model: Algorithm = make_off_policy(config.algorithm, full(config.algorithm, config.options), scale, **given)
        return model
    given |= {
        "n_steps": config.decisions,
        "gae_lambda": config.gae_lambda,
        "ent_coef": config.entropy_coefficient,
        "policy_kwargs": policy_kwargs(config.actor, config.hidden_size)
        | {"critic_lr_scale": scale, "log_std_init": config.log_std},
        **config.options,
    }
    if config.algorithm == "a2c":
        model = TwoRateA2C(MlpPolicy, **given)
    else:
        total = config.decisions * config.trainees
        # Batches of one size, and none of a single decision: SB3 warns if sizes differ and refuses a single decision.
        minibatches = max(k for k in range(1, config.minibatches + 1) if total % k == 0 and total // k > 1)
        algorithm, policy = (TwoRateRecurrentPPO, LstmPolicy) if config.actor == "lstm" else (TwoRatePPO, MlpPolicy)
        given |= {"batch_size": total // minibatches, "n_epochs": config.epochs, "clip_range": config.clip_range}
        model = algorithm(policy, **given)  # type: ignore[arg-type]
    model.replicas = config.replicas
    return model


def _annealed(lr: float, final_factor: float, remaining: float) -> float:
    """Return the actor's learning rate: linear in the fraction of the training that remains."""
    return lr * (final_factor + (1 - final_factor) * remaining)


@contextlib.contextmanager
def training_envs(
    config: TrainConfig,
    workers: int,
    modules: Sequence[str] = (),
    timeout: float = ANSWER_LIMIT,
    place: Place | None = None,
) -> Iterator[VecNormalize]:
    """Start the worker processes with the run's environments, normalised, and end them afterwards."""
    envs = WorkerVecEnv(env_makers(config, modules), workers, timeout, place)
    venv = VecNormalize(envs, gamma=config.gamma, clip_obs=config.CLIP, clip_reward=config.CLIP, epsilon=config.EPSILON)
    try:
        yield venv
    finally:
        venv.close()


def current_controller(
    config: TrainConfig, model: Algorithm, venv: VecNormalize, provenance: dict[str, Any]
) -> Controller:
    """Return a controller with the networks and normalisation of this moment."""
    env = LRTrainingEnv(config.task, **config.env_options)
    space = env.observation_space
    statistics = running_statistics(venv)["observation"]
    description = Description(
        actor=config.networks,
        hidden_size=config.hidden_size,
        features=list(env.observed),
        low=[float(x) for x in space.low],
        high=[float(x) for x in space.high],
        **{k: v for k, v in env.env_options().items() if k not in ("observation", "observe_progress")},
        mean=statistics.mean.tolist(),
        variance=statistics.var.tolist(),
        epsilon=config.EPSILON,
        clip=config.CLIP,
        provenance=provenance,
    )
    weights = model.policy.state_dict()
    return Controller(description, {name: weights[name] for name in description.tensor_shapes})


class TrainingCallback(BaseCallback):
    """Evaluates, keeps the best controller, writes checkpoints and shows progress, between iterations."""

    def __init__(
        self,
        config: TrainConfig,
        out: Path,
        pool: Workers,
        progression: Progression,
        provenance: dict[str, Any],
        console: Console,
    ) -> None:
        super().__init__()
        self.config, self.out, self.pool, self.progression = config, out, pool, progression
        self.provenance, self.console = provenance, console
        self._finished: list[float] = []
        self._clock = time.monotonic()
        self._bar = Bars(
            TextColumn("training"),
            BarColumn(),
            TextColumn("{task.completed}/{task.total} episodes"),
            TextColumn("validation loss {task.fields[validation_loss]}"),
            TimeRemainingColumn(),
            console=console,
        )

    def _on_training_start(self) -> None:
        total = self.config.iterations * self.config.trainees
        done = self.progression.iteration * self.config.trainees
        self._bar_id = self._bar.add_task("training episodes", total=total, completed=done, validation_loss="...")
        self._bar.start()

    def _on_rollout_start(self) -> None:
        self._between_iterations()

    def _on_step(self) -> bool:
        for info in self.locals["infos"]:
            if "result" in info:
                self._finished.append(info["result"]["best_val_loss"])
            elif "worker_died" in info:
                self.progression.lost_episodes += 1
            else:
                continue
            self._bar.advance(self._bar_id)
        return True

    def _on_rollout_end(self) -> None:
        self.progression.iteration += 1
        median = float(np.median(self._finished)) if self._finished else float("nan")
        self._finished = []
        self.progression.exploring.append(median)
        self.logger.record("episodes/best_val_loss_median", median)
        self.logger.record("episodes/count", self.progression.iteration * self.config.trainees)
        self._bar.update(self._bar_id, validation_loss=f"{median:.4f}")

    def _on_training_end(self) -> None:
        self._between_iterations()
        self.logger.dump(self.num_timesteps)
        self.stop_bar()

    def stop_bar(self) -> None:
        """End the progress bar; harmless when called again."""
        self._bar.stop()

    def _between_iterations(self) -> None:
        """Evaluate if it is due, then write everything down."""
        state = self.progression
        model, venv = cast(Algorithm, self.model), cast(VecNormalize, self.training_env)
        due = state.iteration % self.config.evaluate_every == 0 or state.iteration == self.config.iterations
        if due and not (state.curve and state.curve[-1]["iteration"] == state.iteration):
            self._evaluate(current_controller(self.config, model, venv, self.provenance))
        now = time.monotonic()
        state.seconds += now - self._clock
        self._clock = now
        captured = capture(model, venv)
        # After a death that no step has reported yet, environments and observations do not fit together: the last
        # checkpoint is the one to go back to. At the end of the training nothing goes on.
        if not cast(WorkerVecEnv, venv.venv).untold_deaths or state.iteration == self.config.iterations:
            save(captured, self.config, state, self.provenance, self.out)

    def _evaluate(self, controller: Controller) -> None:
        config, state = self.config, self.progression
        contestant = Contestant("ppo", {"controller": controller.fingerprint}, controller)
        cells = selection_cells(config, contestant)
        losses = np.array([r.result["best_val_loss"] for r in self.pool.run([cell for _, cell in cells])])
        groups = [group for group, _ in cells]
        score = mean_loss(config, losses)
        by_group = {group: mean_loss(config, losses[[g == group for g in groups]]) for group in dict.fromkeys(groups)}
        entry = {
            "iteration": state.iteration,
            "episodes": state.iteration * config.trainees,
            "val_loss": score,
            "val_loss_by_initial_lr": by_group,
        }
        state.curve.append(entry)
        if score < state.best_score:
            state.best_score, state.best = score, controller
            controller.save(self.out / "controller")
        self.logger.record("evaluation/best_val_loss", score)
        for group, loss in by_group.items():
            self.logger.record(f"evaluation/best_val_loss_from/{group}", loss)
        parts = "  ".join(f"from {lr}: {loss:.4f}" for lr, loss in by_group.items())
        self.console.print(f"episode {entry['episodes']:>5}  deterministic validation loss {score:.4f}  {parts}")


def train(
    config: TrainConfig,
    out: Path,
    *,
    workers: int,
    pool: Workers,
    provenance: dict[str, Any],
    console: Console,
    checkpoint: Checkpoint | None = None,
    initial: Controller | None = None,
    modules: Sequence[str] = (),
    timeout: float = ANSWER_LIMIT,
    place: Place | None = None,
    on_start: Callable[[Algorithm], None] | None = None,
) -> Progression:
    """Train a controller, from the start or from a checkpoint.

    Args:
        config: The settings.
        out: Folder of the run.
        workers: Processes that train trainees.
        pool: Processes that evaluate.
        provenance: Written into the controller.
        console: Where progress is shown.
        checkpoint: Where to continue.
        initial: The controller whose networks a new run begins with; None for new ones.
        modules: Modules and files that register what the task needs; the workers load them
            (`lr_gym.registry.register_from`).
        timeout: Seconds that a process may take for an answer (`WorkerVecEnv`).
        place: Where the processes that train are; on this machine by default.
        on_start: Called with the algorithm before it learns.

    Returns:
        The progression; its best controller lies in `out/controller` too.
    """
    progression = Progression() if checkpoint is None else load_progression(checkpoint)
    if progression.iteration >= config.iterations:
        return progression
    torch.set_num_threads(1)  # the controller is small, and the workers have the cores
    with training_envs(config, workers, modules, timeout, place) as venv:
        model = make_algorithm(config, venv)
        if checkpoint is None:
            seed = config.seeds("training", 1)[0]
            cast(WorkerVecEnv, venv.venv).seed_each([seed + i // config.replicas for i in range(config.trainees)])
            if initial is not None:
                warm_start(initial, model, venv, config.log_std)
        else:
            reinstate(checkpoint, model, venv)
        model.set_logger(configure(str(out / "tensorboard"), ["tensorboard"]))
        if on_start is not None:
            on_start(model)
        callback = TrainingCallback(config, out, pool, progression, provenance, console)
        remaining = config.iterations * config.decisions * config.trainees - model.num_timesteps
        try:
            with cli.notices_on(console):
                every = config.trainees if config.off_policy else 1  # episodes, or iterations: once per iteration
                model.learn(remaining, callback, every, reset_num_timesteps=checkpoint is None)
                model.logger.close()  # what waits to be written is written now
        finally:
            callback.stop_bar()
    return progression
