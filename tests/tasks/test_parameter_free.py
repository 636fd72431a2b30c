"""Optimizers that find their own step size, by name: their authors' classes, or a word on what is missing."""

from __future__ import annotations

import sys
from typing import Any

import pytest
import torch
import toys

from lr_gym.errors import InvalidArgumentError
from lr_gym.tasks.losses import OPTIMIZERS, build_optimizer
from lr_gym.tasks.parameter_free import PARAMETER_FREE, averaging, has_direction
from lr_gym.trainee import Trainee

each_optimizer = pytest.mark.parametrize("name", PARAMETER_FREE)


def build(name: str, options: dict[str, Any] | None = None, lr: float = 0.5) -> torch.optim.Optimizer:
    return build_optimizer(name, options or {}, toys.FixedNet().parameters(), lr)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("prodigy", "prodigyopt.prodigy.Prodigy"),
        ("dadapt-adam", "dadaptation.dadapt_adam.DAdaptAdam"),
        ("dadapt-sgd", "dadaptation.dadapt_sgd.DAdaptSGD"),
        ("schedule-free-adamw", "schedulefree.adamw_schedulefree.AdamWScheduleFree"),
        ("schedule-free-sgd", "schedulefree.sgd_schedulefree.SGDScheduleFree"),
    ],
)
def test_a_name_stands_for_the_authors_class(name: str, kind: str) -> None:
    built = build(name)
    assert f"{type(built).__module__}.{type(built).__name__}" == kind
    assert [(group["lr"], len(group["params"])) for group in built.param_groups] == [(0.5, 4)]
    assert name in OPTIMIZERS


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("prodigy", {"d_coef": 2.0, "betas": [0.9, 0.99], "weight_decay": 0.1}),
        ("dadapt-adam", {"growth_rate": 1.02, "decouple": True, "weight_decay": 0.1}),
        ("dadapt-sgd", {"momentum": 0.9, "weight_decay": 0.1}),
        ("schedule-free-adamw", {"warmup_steps": 5, "betas": [0.95, 0.99], "weight_decay": 0.1}),
        ("schedule-free-sgd", {"momentum": 0.95, "foreach": False, "weight_decay": 0.1}),
    ],
)
def test_options_reach_it_and_nothing_is_printed(
    name: str, options: dict[str, Any], capfd: pytest.CaptureFixture[str]
) -> None:
    task = toys.toy_task(model="toys:FixedNet", optimizer=name, optimizer_options=options)
    trainee = Trainee(task, 0, lr=0.1, data=toys.CLASSES)
    assert options.items() <= trainee.optimizer.param_groups[0].items()
    assert bool(trainee.train(10).isfinite().all())
    assert capfd.readouterr() == ("", "")


@each_optimizer
def test_unknown_options_are_refused(name: str) -> None:
    with pytest.raises(InvalidArgumentError, match=f"'{name}' refuses .*tempo"):
        build(name, {"tempo": 1})
    with pytest.raises(InvalidArgumentError, match="must not hold 'lr'"):
        build(name, {"lr": 1.0})


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("prodigy", {"d0": 0.0}),
        ("dadapt-adam", {"eps": -1.0}),
        ("dadapt-sgd", {"d0": -1}),
        ("schedule-free-sgd", {"momentum": 1}),
    ],
)
def test_bad_values_are_refused(name: str, options: dict[str, Any]) -> None:
    with pytest.raises(InvalidArgumentError, match=f"'{name}' refuses"):
        build(name, options)


@each_optimizer
def test_a_missing_package_is_named(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    package = PARAMETER_FREE[name][0]
    monkeypatch.setitem(sys.modules, package, None)
    task = toys.toy_task(model="toys:FixedNet", optimizer=name)  # a task is data: nothing is imported yet
    message = rf"^the optimizer '{name}' needs the package {package}: .*pip install \"lr-gym\[parameter-free\]\""
    with pytest.raises(InvalidArgumentError, match=message):
        Trainee(task, 0, lr=1.0, data=toys.CLASSES)


def test_which_ones_switch_weights_and_which_have_a_direction() -> None:
    built = {name: build(name) for name in [*PARAMETER_FREE, "Adam", "LBFGS", "schedulefree:RAdamScheduleFree"]}
    switched = {name for name, optimizer in built.items() if averaging(optimizer) is optimizer}
    assert switched == {"schedule-free-adamw", "schedule-free-sgd", "schedulefree:RAdamScheduleFree"}
    assert all(averaging(optimizer) is None for name, optimizer in built.items() if name not in switched)
    assert {name for name, optimizer in built.items() if has_direction(optimizer)} == {"prodigy", "Adam", "LBFGS"}


def test_methods_that_are_none_do_not_count() -> None:
    class Odd(torch.optim.SGD):
        train, eval = True, False

    assert averaging(Odd(toys.FixedNet().parameters())) is None
