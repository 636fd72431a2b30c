"""Run trainings in plain loops and write the result of each. A run whose result is there is not run again.

uv run python -m scripts.own_loops.run digits --out OUT
uv run python -m scripts.own_loops.run digits --out OUT --rules universal --controller NAME     NAME in its place
"""

from __future__ import annotations

import dataclasses
import math
import time
import warnings
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any

import torch
from torch.optim import Optimizer, lr_scheduler

import lr_gym
from lr_gym import cli
from lr_gym.checks import check_whole
from lr_gym.control import Controller
from lr_gym.files import read_json, write_json
from lr_gym.loop import LRControllerWarning
from scripts.own_loops import trainings
from scripts.own_loops.training import Training

#: Initial learning rates over four decades, by optimizer.
STARTS = {"adam": (1e-5, 1e-4, 1e-3, 1e-2, 1e-1), "sgd": (1e-4, 1e-3, 1e-2, 1e-1, 1.0)}
#: Peaks of the eight cosines, half a decade apart.
PEAKS = {
    "adam": tuple(round(10 ** (k / 2), 10) for k in range(-8, 0)),
    "sgd": tuple(round(10 ** (k / 2), 10) for k in range(-7, 1)),
}
#: The recipe: one for all trainings.
RECIPE_LR, RECIPE_WARM_UP = 1e-3, 0.05
#: Chooses the best of the cosines: not among the seeds of the comparison.
TUNING_SEED = 1000
MEASUREMENTS = 50
#: Folders of the runs of networks that are nudged, and of controllers in the place of `universal`.
NUDGED, CONTROLLERS_FOLDER = "nudged", "controllers"


@dataclasses.dataclass(frozen=True)
class Run:
    """One training.

    Attributes:
        training: Its name.
        rule: Who sets the learning rate.
        lr: Where it starts; the recipe and the tuned cosine have their own.
        seed: Seed of weights and batches.
        nudged: Whether a weight of the untrained network is moved by its last place.
        controller: Name or folder of the controller in the place of `universal`; None for itself.
    """

    training: str
    rule: str
    lr: float
    seed: int
    nudged: bool = False
    controller: str | None = None

    @property
    def file(self) -> str:
        """Name of the file of its result."""
        folder = f"{NUDGED}/{self.training}" if self.nudged else self.training
        if self.controller is not None:  # by what it is: a folder may hold another one tomorrow
            folder = f"{CONTROLLERS_FOLDER}/{Controller.load(self.controller).fingerprint[:12]}/{folder}"
        return f"{folder}/{self.rule}-{self.lr:g}-{self.seed}.json"


@dataclasses.dataclass(frozen=True)
class Way:
    """How a controller is used.

    Attributes:
        controller: Its name.
        restore: Whether it may go back.
        brake: Whether it has one.
        told: Which share of the updates it is told that there are; None if it is told nothing.
        validates: Whether it sees validation losses.
        interval: Updates between its decisions; None for a fiftieth of what it is told, or the default.
    """

    controller: str
    restore: bool = False
    brake: bool = True
    told: float | None = 1.0
    validates: bool = True
    interval: int | None = None

    @property
    def options(self) -> dict[str, Any]:
        """Arguments of `LRController`."""
        return {"restore": self.restore, "brake": self.brake, "decision_interval": self.interval}


def _cosine(optimizer: Optimizer, updates: int) -> lr_scheduler.LRScheduler:
    return lr_scheduler.CosineAnnealingLR(optimizer, T_max=updates)


def _recipe(optimizer: Optimizer, updates: int) -> lr_scheduler.LRScheduler:
    warm_up = max(1, round(RECIPE_WARM_UP * updates))

    def factor(update: int) -> float:
        if update < warm_up:
            return (update + 1) / warm_up
        return (1 + math.cos(math.pi * (update - warm_up) / (updates - warm_up))) / 2

    return lr_scheduler.LambdaLR(optimizer, factor)


def _nano(optimizer: Optimizer, updates: int) -> lr_scheduler.LRScheduler:
    """NanoGPT's schedule: 100 updates of warm-up, then a cosine to a tenth."""

    def factor(update: int) -> float:
        if update < 100:
            return (update + 1) / 101
        return 0.1 + 0.9 * (1 + math.cos(math.pi * (update - 100) / (updates - 100))) / 2

    return lr_scheduler.LambdaLR(optimizer, factor)


SCHEDULES: dict[str, Callable[[Optimizer, int], lr_scheduler.LRScheduler]] = {
    "constant": lambda optimizer, _: lr_scheduler.ConstantLR(optimizer, factor=1.0),
    "cosine": _cosine,
    "tuned-cosine": _cosine,
    "recipe": _recipe,
    "nanogpt": _nano,
}
#: `universal` looks for its start: it is the same training from any.
CONTROLLERS = {
    "universal": Way("universal", restore=True),
    "universal-alone": Way("universal-v1", brake=False),
    "told-half": Way("universal", restore=True, told=0.5),
    "told-double": Way("universal", restore=True, told=2.0),
    "unknown": Way("universal", restore=True, told=None),
    # Told of 700 updates first, of 1,400, 2,800, ...: no training here ends where it expects an end.
    "unknown-700": Way("universal", restore=True, told=None, interval=14),
    "training-losses": Way("universal-training-losses", restore=True, validates=False),
}
#: Rules of `universal`, in whose place another controller may stand.
OF_UNIVERSAL = tuple(name for name, way in CONTROLLERS.items() if way.controller == "universal")
#: Rules of plain loops alone, about the length and about validation data.
PLAIN = ("told-half", "told-double", "unknown", "unknown-700", "training-losses")
#: Rules that are tried from every start.
FROM_EVERY_START = ("cosine", "constant", "universal-alone")
#: Every rule.
RULES = (*CONTROLLERS, *SCHEDULES)


class Measured:
    """Takes a training's validation loss at fifty moments, and keeps the best weights."""

    def __init__(self, training: Training) -> None:
        self._model, self.validate = (
            training.model,
            lr_gym.validation(training.model, training.loss, *training.validation),
        )
        self._ends = {round((k + 1) * training.updates / MEASUREMENTS) for k in range(MEASUREMENTS)}
        self.lrs: list[float] = []
        self.val_losses: list[float] = []
        self.smooth = math.nan
        self.best = float(self.validate()[0]), 0, self._copy()

    def _copy(self) -> dict[str, Any]:
        return {name: value.clone() for name, value in self._model.state_dict().items()}

    def __call__(self, update: int, loss: float, lr: float) -> None:
        """Take note of an update.

        Args:
            update: Its number, from 1.
            loss: Of its batch, before it.
            lr: Its learning rate.
        """
        self.smooth = loss if math.isnan(self.smooth) else 0.95 * self.smooth + 0.05 * loss
        if update in self._ends:
            self.lrs.append(lr)
            self.val_losses.append(float(self.validate()[0]))
            if self.val_losses[-1] < self.best[0]:
                self.best = self.val_losses[-1], update, self._copy()


def train(training: Training, rule: str, lr: float, controller: str | None = None) -> dict[str, Any]:
    """Train, and return losses and learning rates; test data is looked at once, after the training."""
    if rule == "recipe":
        training.optimizer, lr = trainings.adamw, RECIPE_LR
    optimizer = training.optimizer(training.model.parameters(), lr)
    measured = Measured(training)
    agent = CONTROLLERS.get(rule)
    if agent is not None and controller is not None:
        agent = dataclasses.replace(agent, controller=controller)
    schedule = None if agent is not None else SCHEDULES[rule](optimizer, training.updates)
    if training.framework == "plain":
        _plain(training, optimizer, schedule, agent, measured)
    else:
        from scripts.own_loops import frameworks  # needs the extras of the frameworks

        frameworks.FIT[training.framework](training, optimizer, schedule, agent, measured)
    found = {"train_loss": measured.smooth, "lrs": measured.lrs, "val_losses": measured.val_losses}
    return found | _tested(training, measured.best)


def _plain(
    training: Training,
    optimizer: Optimizer,
    schedule: lr_scheduler.LRScheduler | None,
    agent: Way | None,
    measured: Measured,
) -> None:
    """Train in a loop of PyTorch's."""
    if agent is not None:
        schedule = lr_gym.LRController(
            optimizer,
            agent.controller,
            total_updates=None if agent.told is None else round(agent.told * training.updates),
            validate=measured.validate if agent.validates else None,
            model=training.model,
            **agent.options,
        )
    assert schedule is not None
    for update in range(1, training.updates + 1):
        inputs, targets = next(training.batches)
        loss = training.loss(training.model(inputs), targets)
        optimizer.zero_grad()
        loss.backward()
        if training.clip is not None:
            torch.nn.utils.clip_grad_norm_(training.model.parameters(), training.clip)
        lr = float(optimizer.param_groups[0]["lr"])
        optimizer.step()
        if agent is None:
            schedule.step()
        else:
            schedule.step(loss)
        measured(update, loss.item(), lr)


def _tested(training: Training, best: tuple[float, int, dict[str, Any]]) -> dict[str, Any]:
    """Return test losses of the last and of the best weights, and accuracies if the targets are classes."""
    found: dict[str, Any] = {"best_val_loss": best[0], "best_update": best[1]}
    for which in ("last", "best"):
        if which == "best":
            training.model.load_state_dict(best[2])
        loss, outputs = lr_gym.validation(training.model, training.loss, *training.test, examples=10_000)()
        found[f"{which}_test_loss"] = float(loss)
        targets = training.test[1]
        if not targets.is_floating_point():
            found[f"{which}_test_accuracy"] = float((outputs.argmax(1) == targets).float().mean())
    return found


def one(run: Run, out: Path) -> dict[str, Any]:
    """Return the result of a run: read it if it is there, else run it."""
    file = out / run.file
    if file.exists():
        result: dict[str, Any] = read_json(file)
        return result
    began = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", LRControllerWarning)
        result = train(trainings.make(run.training, run.seed, nudged=run.nudged), run.rule, run.lr, run.controller)
    result = dataclasses.asdict(run) | result | {"seconds": time.perf_counter() - began}
    write_json(file, result)
    return result


def kind(name: str) -> str:
    """Return "adam" or "sgd": of which kind the learning rates of a training are."""
    training = trainings.make(name, 0)
    optimizer = training.optimizer(training.model.parameters(), 1.0)
    return "sgd" if isinstance(optimizer, torch.optim.SGD) else "adam"


def best_peak(name: str, out: Path, nudged: bool) -> float:
    """Return the peak of the best of eight cosines, by the validation loss of one run each."""
    losses = {}
    for peak in PEAKS[kind(name)]:
        losses[peak] = one(Run(name, "tuned-cosine", peak, TUNING_SEED, nudged), out)["best_val_loss"]
    return min(losses, key=lambda peak: losses[peak])


def runs(name: str, seeds: int, out: Path, rules: Collection[str], nudged: bool) -> Iterator[Run]:
    """Return the runs of a training with some rules; the most important come first."""
    middle = STARTS[kind(name)][2]
    own = [("universal", middle), ("recipe", RECIPE_LR), *([("nanogpt", 1e-3)] if name == "shakespeare" else [])]
    plain = PLAIN if trainings.make(name, 0).framework == "plain" else ()
    for seed in range(seeds):
        yield from (Run(name, rule, lr, seed, nudged) for rule, lr in own if rule in rules)
        if "tuned-cosine" in rules:
            yield Run(name, "tuned-cosine", best_peak(name, out, nudged), seed, nudged)
    for seed in range(seeds):
        yield from (Run(name, rule, middle, seed, nudged) for rule in plain if rule in rules)
    for seed in range(seeds):
        for rule in (rule for rule in FROM_EVERY_START if rule in rules):
            yield from (Run(name, rule, lr, seed, nudged) for lr in STARTS[kind(name)])


def main() -> None:
    """Run trainings with every rule that is wanted, from every start, with every seed."""
    parser = cli.Parser(prog="python -m scripts.own_loops.run", description=__doc__.split("\n\n")[0])
    parser.add_argument("training", choices=list(trainings.TRAININGS), nargs="+")
    parser.add_argument("--seeds", type=int, default=5, help="runs of each, with the seeds 0, 1, ... (default: 5)")
    parser.add_argument("--rules", choices=RULES, nargs="+", help="who sets the learning rate (default: all)")
    parser.add_argument(
        "--controller",
        help=f"name or folder of a controller in the place of universal (rules: {', '.join(OF_UNIVERSAL)})",
    )
    parser.add_argument("--nudged", action="store_true", help="move a weight of every network by its last place")
    parser.add_argument("--out", type=Path, required=True, help="folder of the results")
    arguments = parser.parse_args()
    check_whole("--seeds", arguments.seeds)
    possible = RULES if arguments.controller is None else OF_UNIVERSAL
    rules = arguments.rules or possible
    if others := [rule for rule in rules if rule not in possible]:
        parser.error(f"--controller goes with the rules {', '.join(possible)}; drop {', '.join(others)} from --rules")
    torch.set_num_threads(1)
    for name in arguments.training:
        wanted = None
        for plan in runs(name, arguments.seeds, arguments.out, rules, arguments.nudged):
            wanted = dataclasses.replace(plan, controller=arguments.controller)
            result = one(wanted, arguments.out)
            losses = f"{result['best_test_loss']:.4f} best, {result['last_test_loss']:.4f} last weights"
            print(f"{wanted.file:<50} test loss {losses}", flush=True)
        if wanted is None:
            print(f"{name} has no run with {', '.join(rules)}")


if __name__ == "__main__":
    cli.run(main)
