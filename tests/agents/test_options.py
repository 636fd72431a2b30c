"""Options of agents, of the range test and of PPO's training: what is allowed, and the line that says so."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Any

import pytest
import tiny
import toys

from lr_gym import agents
from lr_gym.agents.ppo.config import TrainConfig
from lr_gym.agents.range_test import lr_range_test
from lr_gym.errors import InvalidArgumentError

EVERY = "every ('epoch', or a number of updates)"
PERIODIC = {"every": "[1, inf)"}
#: Numbers and the interval that each lies in.
NUMBERS: dict[str, dict[str, str]] = {
    "adalrs": PERIODIC
    | {"up": "(1, inf)", "down": "[1, inf)", "shrink": "(0, 1]", "search": "[0, 1]", "first": "[0, inf)"},
    "alr": PERIODIC,
    "arc-raise": PERIODIC | {"first": "[0, inf)"},
    "arc-random": PERIODIC | {"first": "[0, inf)"},
    "arc": PERIODIC | {"first": "[0, inf)", "min_lr": "(0, inf)", "max_lr": "(0, inf)"},
    "autolr": PERIODIC
    | {"first": "[0, inf)", "explore": "[0, 1]", "saturation": "[1, inf)", "error": "(0, inf)", "spread": "(0, 1]"}
    | {"min_factor": "(0, 1)", "max_factor": "(1, inf]"},
    "cosine": {"end_factor": "[0, 1]"},
    "cosine-restarts": {"first_cycle": "(0, 1]", "end_factor": "[0, 1]"},
    "exponential": {"end_factor": "(0, 1]"},
    "greedy": {"factor": "(0, 1)", "threshold": "[0, inf)", "min_lr": "(0, inf)", "max_lr": "(0, inf)"},
    "kim-yu": PERIODIC,
    "knee": {"explore": "[0, 1)", "warm_up": "[0, 1)"},
    "line-search": {"initial": "(0, inf)", "c": "(0, 1)", "shrink": "(0, 1)", "growth": "[1, inf)"},
    "linear": {"end_factor": "[0, 1]"},
    "jump": {"lr": "(0, inf)"},
    "recipe": {"lr": "(0, inf)", "warm_up": "[0, 1)"},
    "wsd": {"decay": "(0, 1]", "warm_up": "[0, 1)"},
    "one-cycle": {
        "peak_lr": "(0, inf)",
        "peak_factor": "(0, inf)",
        "rise": "(0, 1)",
        "start_factor": "[1, inf)",
        "end_factor": "[1, inf)",
    },
    "plateau": {"factor": "(0, 1)", "threshold": "[0, 1)"},
    "step": {"factor": "(0, 1]"},
    "range test": {"start_lr": "(0, inf)", "end_lr": "(1e-06, inf)", "smoothing": "(0, 1]", "stop": "(1, inf]"},
    "ppo training": {"gamma": "[0, 1]", "gae_lambda": "[0, 1]", "clip_range": "[1e-06, 1e+06]", "log_std": "[-20, 5]"}
    | {"actor_lr": "[1e-12, 1000]", "critic_lr": "[1e-12, 1000]", "entropy_coefficient": "[0, 1e+06]"}
    | {"final_lr_factor": "(0, 1]"},
}
#: Whole numbers and the smallest that is allowed.
WHOLE: dict[str, dict[str, int]] = {
    "alr": {"beam": 1},
    "arc": {"frequency": 1},
    "arc-random": {"seed": 0},
    "autolr": {"superbatch": 1, "samples": 3, "direction_batches": 1, "cooldown": 0},
    "cosine-restarts": {"cycle_factor": 1},
    "greedy": {"patience": 0, "smoothing": 1, "cooldown": 0, "warm_up": 0, "reset_after": 1},
    "kim-yu": {"batches": 1},
    "line-search": {"max_tries": 1},
    "plateau": {"patience": 0},
    "step": {"every": 1},
    "range test": {"updates": 12},
    "ppo training": {"seed": 0}
    | dict.fromkeys(("episodes", "trainees", "replicas", "epochs", "minibatches", "hidden_size"), 1)
    | dict.fromkeys(("evaluate_every", "evaluation_runs", "tuning_runs", "final_runs"), 1),
}
#: Words and all that are allowed.
CHOICES: dict[str, dict[str, tuple[str, ...]]] = {
    "adalrs": {"base": ("cosine", "wsd", "constant")},
    "alr": {"score": ("after", "running")},
    "arc": {"preprocessing": ("code", "paper")},
    "autolr": {"concave": ("edge", "keep"), "rollback": ("rate", "rise", "never")},
    "greedy": {"metric": ("train_loss", "val_loss")},
    "kim-yu": {"direction": ("gradient", "optimizer"), "variant": ("published", "as-released")}
    | {"score": ("exponential", "improvement")},
    "line-search": {"direction": ("optimizer", "gradient")},
    "plateau": {"metric": ("val_loss", "train_loss")},
    "ppo training": {"backend": ("workers", "population"), "precision": ("float32", "tf32", "bfloat16")},
}
NO_STEP = "variant='as-released' takes no step: "
NO_FACTORS = [(), (2, 0), (2, -1.0), (2, math.nan), (2, math.inf), (2, True), "21", 2.5, None]
UNEVEN = tiny.family(name="uneven", axes=([{"budget": 8}, {"budget": 12}], [{"decision_interval": 2}]))
OTHERS: list[tuple[str, dict[str, Any], str]] = [
    *(("alr", {"factors": f}, f"factors must be a list of 1 or more positive numbers, got {f!r}") for f in NO_FACTORS),
    *(
        ("kim-yu", {"factors": f}, f"factors must be 3, 5, 7 or a list of 2 or more positive numbers, got {f!r}")
        for f in (*NO_FACTORS, 4, [2.0])
    ),
    ("kim-yu", {"variant": "as-released", "batches": 2}, NO_STEP + "batches and direction have no meaning"),
    ("kim-yu", {"variant": "as-released", "direction": "optimizer"}, NO_STEP + "batches and direction have no meaning"),
    ("kim-yu", {"variant": "as-released", "score": "improvement"}, NO_STEP + "there is no improvement to score"),
    ("arc", {"min_lr": 0.1, "max_lr": 0.1}, "max_lr must lie in (0.1, inf), got 0.1"),
    ("arc", {"weights": 3}, "weights must be a file, or None for those of the package, got 3"),
    ("autolr", {"replay": 1}, "replay must be True or False, got 1"),
    ("greedy", {"min_lr": 0.1, "max_lr": 0.1}, "max_lr must lie in (0.1, inf), got 0.1"),
    ("knee", {"explore": 0.25, "warm_up": 0.75}, "explore + warm_up must lie in [0, 1), got 1.0"),
    ("one-cycle", {"peak_lr": "best"}, "peak_lr must be 'range-test', 'initial', 'usual' or a number, got 'best'"),
    ("arc-raise", {"raises": -1}, "raises must be a whole number of at least 0 or None, got -1"),
    ("arc-raise", {"raises": 1.5}, "raises must be a whole number of at least 0 or None, got 1.5"),
    ("wsd", {"decay": 0.75, "warm_up": 0.5}, "decay + warm_up must lie in [0, 1], got 1.25"),
    ("one-cycle", {"peak_lr": None}, "peak_lr must lie in (0, inf), got None"),
    ("range test", {"start_lr": 0.1, "end_lr": 0.01}, "end_lr must lie in (0.1, inf), got 0.01"),
    ("ppo training", {"actor": "cnn"}, "actor must be 'mlp' or 'lstm', got 'cnn'"),
    ("ppo training", {"seed": 2**32 - 1}, "seed must not be negative, and below 4294967295, got 4294967295"),
    ("ppo training", {"trainees": 6, "replicas": 4}, "replicas=4 must divide trainees=6"),
    ("ppo training", {"trainees": 2, "replicas": 4}, "replicas=4 must divide trainees=2"),
    ("ppo training", {"replicas": 2, "backend": "population"}, "replicas need the backend 'workers'"),
    (
        "ppo training",
        {"task": tiny.family(), "backend": "population"},
        "a family's tasks differ from episode to episode and cannot be computed at once; use backend='workers'",
    ),
    (
        "ppo training",
        {"task": UNEVEN},
        "the tasks of the family 'uneven' differ in their number of decisions; make budget / decision_interval the "
        "same for all",
    ),
    (
        "ppo training",
        {"validation": tiny.family()},
        "validation is for a family of tasks; a single task is evaluated on itself",
    ),
    (
        "ppo training",
        {"task": tiny.task(budget=20), "trainees": 1},
        "PPO needs two decisions per update: use more trainees or a larger budget",
    ),
]


def make(name: str, **options: Any) -> Any:
    if name == "ppo training":
        return TrainConfig(**({"task": tiny.task()} | options))
    if name == "range test":
        return lr_range_test(toys.make_trainee(), **({"updates": 12} | options))
    return agents.make(name, **options)


def refused(name: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        make(name, **options)
    assert str(caught.value) == message


def rows(table: dict[str, dict[str, Any]]) -> Callable[[Any], Any]:
    return pytest.mark.parametrize(
        ("name", "option", "allowed"), [(name, *row) for name, options in table.items() for row in options.items()]
    )


@rows(NUMBERS)
def test_numbers(name: str, option: str, allowed: str) -> None:
    """Just outside the interval is refused, and so is what is no number; its ends are allowed if they belong to it."""
    match = re.fullmatch(r"([\[(])(.*), (.*)([\])])", allowed)
    assert match is not None
    low, high = float(match[2]), float(match[3])
    bad: list[Any] = [math.nan, True, [0.5], low if match[1] == "(" else math.nextafter(low, -math.inf), -math.inf]
    bad += [high] if match[4] == ")" else [] if high == math.inf else [math.nextafter(high, math.inf), math.inf]
    for value in bad:
        shown = EVERY if (option, allowed) == ("every", "[1, inf)") else option
        refused(name, {option: value}, f"{shown} must lie in {allowed}, got {value!r}")
    for value, bracket in ((low, match[1]), (high, match[4])):
        if bracket in "[]":
            make(name, **{option: value})


@rows(WHOLE)
def test_whole_numbers(name: str, option: str, allowed: int) -> None:
    for value in (allowed - 1, allowed + 0.5, float(allowed + 1), True, str(allowed + 1)):
        refused(name, {option: value}, f"{option} must be a whole number of at least {allowed}, got {value!r}")
    make(name, **{option: allowed})


@rows(CHOICES)
def test_choices(name: str, option: str, allowed: tuple[str, ...]) -> None:
    for value in ("other", None, True):
        refused(name, {option: value}, f"{option} must be one of {', '.join(map(repr, allowed))}, got {value!r}")
    for value in allowed:
        make(name, **{option: value})


@pytest.mark.parametrize(("name", "options", "message"), OTHERS)
def test_what_makes_no_sense(name: str, options: dict[str, Any], message: str) -> None:
    refused(name, options, message)


def test_every_word() -> None:
    """`"epoch"` and the words for a peak are allowed beside numbers, and validation of another length."""
    for name, options in NUMBERS.items():
        if options.get("every") == "[1, inf)":
            make(name, every="epoch")
            refused(name, {"every": "Epoch"}, f"{EVERY} must lie in [1, inf), got 'Epoch'")
    for word in ("range-test", "initial"):
        make("one-cycle", peak_lr=word)
    assert make("ppo training", task=tiny.family(), validation=UNEVEN, seed=2**32 - 2).validation == UNEVEN
