"""Words of a command line and keyword arguments that make no sense."""

from __future__ import annotations

import contextlib
import io
import math
import os
import random
import tempfile
from collections.abc import Callable, Iterator
from typing import Any, NoReturn
from unittest import mock

import gymnasium
import torch

import lr_gym
from lr_gym import agents, tasks
from lr_gym.commands import evaluate, train
from lr_gym.commands.main import COMMANDS
from lr_gym.errors import LRGymError
from scripts.reliability.common import Outcome

#: No message is longer.
LONGEST = 1_200
#: Words that are no number, no name of anything, and no JSON of a kind that is wanted anywhere below.
WORDS = (
    "",
    " ",
    "nan",
    "-inf",
    "-1",
    "1e400",
    "true",
    "null",
    "[1,[]]",
    "x" * 300,
    "y" * 5_000,
    "..",
    "é\t\u2028",
    "=",
)
NUMBERS = (*WORDS, "0.5", "9" * 40, "0x10", "1,5", "--")
NAMES = (*WORDS, "0", "os:system", "../../x", "fashion-mnist-mini", "a/b/c", "{}")
#: Options by command: those that take numbers, then those that take names, then the fields of assignments.
NUMERIC = {
    "train": ("episodes", "initial-lrs", "seed", "runs", "tuning-runs", "workers", "timeout"),
    "evaluate": ("initial-lrs", "runs", "tuning-runs", "workers", "timeout"),
}
NAMED = {
    "train": ("task", "validation", "actor", "profile", "resume", "data", "device", "precision", "backend", "plugins"),
    "evaluate": ("task", "agents", "controller", "tune", "optimizers", "reference", "yardstick", "data", "plugins"),
}
COUNTS = ("batch_size", "budget", "decision_interval")
SETTINGS = ("trainees", "epochs", "hidden_size", "gamma", "actor_lr", "clip_range", "max_multiplier", "seed", "log_std")


def _set(rng: random.Random) -> tuple[str, list[str]]:
    """Return a command with one bad option among good ones."""
    command = rng.choice(("train", "evaluate"))
    kind = rng.choice(("number", "name", "override", "twice", *(("settings",) if command == "train" else ())))
    good = rng.choice(([], ["--seed", "3"], ["--runs", "2"]))
    if kind == "number":
        option = rng.choice(NUMERIC[command])
        bad = [f"--{option}={rng.choice(NUMBERS if option not in ('initial-lrs', 'timeout') else WORDS)}"]
    elif kind == "name":
        option = rng.choice(NAMED[command])
        bad = [
            f"--{option}={rng.choice([word for word in NAMES if option != 'data' or word != '..'])}"
        ]  # '..' is a folder
    elif kind == "twice":
        bad = ["--override", "batch_size=8", "batch_size=16"]
    else:
        field = rng.choice(SETTINGS if kind == "settings" else (*COUNTS, "optimizer", "loss", "model", "loss_ceiling"))
        bad = [f"--{kind}", f"{field}={rng.choice(WORDS)}"]
    return command, [*bad, *(word for word in good if not bad[0].startswith(good[0]))]


def command_lines(count: int, seed: int = 0) -> Outcome:
    """Try generated command lines: one line, status 2, nothing on standard output, and nothing begins."""
    rng, outcome = random.Random(seed), Outcome()

    def begin(*_: object, **__: object) -> NoReturn:
        raise AssertionError("accepted in silence")

    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder), _environment():
        for _ in range(count):
            command, words = _set(rng)
            out, err = io.StringIO(), io.StringIO()
            failure: str | None = "it returned"
            try:
                with (
                    contextlib.redirect_stdout(out),
                    contextlib.redirect_stderr(err),
                    mock.patch.object(train, "_work", begin),
                    mock.patch.object(evaluate, "_work", begin),
                ):
                    COMMANDS[command](words, command)
            except SystemExit as end:
                text = err.getvalue()
                good = (end.code, out.getvalue(), text.count("\n")) == (2, "", 1) and len(text) <= LONGEST
                failure = None if good else f"status {end.code}, {text.count(chr(10))} lines, {len(text)} characters"
            except BaseException as error:
                failure = f"{type(error).__name__}: {error}"
            outcome.note(" ".join(word[:60] for word in (command, *words)), failure)
    return outcome


@contextlib.contextmanager
def _environment() -> Iterator[None]:
    """Put back what `--data` changes."""
    before = os.environ.get("LR_GYM_DATA")
    try:
        yield
    finally:
        os.environ.pop("LR_GYM_DATA", None)
        if before is not None:
            os.environ["LR_GYM_DATA"] = before


NO_NUMBER = ("x", math.nan, -1, [], {}, object(), b"x", -math.inf)
NO_NAME = ("", "x" * 300, -1, [], object(), 2.5)
FIELDS: dict[str, tuple[Any, ...]] = {
    **dict.fromkeys(
        ("batch_size", "budget", "decision_interval", "train_size", "validation_size"), (*NO_NUMBER, 0, 2.5)
    ),
    "loss_ceiling": (*NO_NUMBER, 0, True, 1e9),
    "initial_lrs": ((), ("x",), (math.nan,), (-1,), 3, object()),
    **dict.fromkeys(("model_options", "loss_options", "optimizer_options"), ("x", 3, [1], {"a": object()})),
    **dict.fromkeys(("data", "name"), ("", 3, None, [])),
    "final_layer": (3, [], object()),
}
OPTIONS: dict[str, tuple[Any, ...]] = {
    **dict.fromkeys(("max_multiplier", "min_lr", "max_lr"), (*NO_NUMBER, 0, 1e300)),
    **dict.fromkeys(("reward", "action", "observation", "precision", "device"), NO_NAME),
}
AGENTS: dict[str, dict[str, tuple[Any, ...]]] = {
    "step": {"every": (*NO_NUMBER, 0), "factor": ("x", math.nan, -1, object())},
    "kim-yu": {"factors": (*NO_NUMBER, 0)},
    "arc": {"frequency": (*NO_NUMBER, 0), "preprocessing": NO_NAME, "weights": (3, [], "nowhere.safetensors")},
    "ppo": {"controller": (3, [], "nowhere", "")},
}
OWN_LOOP: dict[str, tuple[Any, ...]] = {
    "decisions": (*NO_NUMBER, 0),
    "total_updates": (*NO_NUMBER, 0),
    "min_lr": (*NO_NUMBER, 0),
    "max_lr": (*NO_NUMBER, 0),
    "validate": (3, "x", []),
}


def keywords(count: int, seed: int = 0) -> Outcome:
    """Try generated keyword arguments: an error of the project that names the argument."""
    rng, outcome = random.Random(seed), Outcome()
    task = tasks.get("fashion-mnist-mini/mlp", budget=20, train_size=100, validation_size=50)

    def own_loop(**options: Any) -> Any:
        optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1)
        given = {"total_updates": 100, "validate": None} | options
        return lr_gym.LRController(optimizer, "universal-training-losses", **given)

    targets: list[tuple[str, Callable[..., Any], dict[str, tuple[Any, ...]]]] = [
        ("Task.replace", task.replace, FIELDS),
        ("LRTrainingEnv", lambda **options: lr_gym.LRTrainingEnv(task, **options), OPTIONS),
        (
            "make_vec",
            lambda **options: gymnasium.make_vec("lr_gym/LRTraining-v0", num_envs=2, task=task, **options),
            OPTIONS,
        ),
        ("LRController", own_loop, OWN_LOOP),
        *((f"agents.make({name!r})", _maker(name), options) for name, options in AGENTS.items()),
    ]
    for _ in range(count):
        name, function, options = rng.choice(targets)
        keyword = rng.choice(list(options))
        value = rng.choice(options[keyword])
        try:
            function(**{keyword: value})
            failure: str | None = "accepted in silence"
        except LRGymError as error:
            told = keyword in str(error) or keyword.replace("_", " ") in str(error)
            failure = None if told else f"does not name it: {error}"
        except BaseException as error:
            failure = f"{type(error).__name__}: {error}"
        outcome.note(f"{name} {keyword}={value!r:.40}", failure)
    return outcome


def _maker(name: str) -> Callable[..., Any]:
    return lambda **options: agents.make(name, **options)
