"""Optimizers that find their own step size: their authors' classes by name, and what is special about training them.

As by hand, back and forth, and in a stack they train in `test_plain_loop`, `test_back_and_forth` and `test_stack`.
"""

from __future__ import annotations

import sys
from typing import Any

import pytest
import torch
import toys
from torch.nn import functional

from lr_gym import tasks
from lr_gym.errors import InvalidArgumentError
from lr_gym.tasks.losses import OPTIMIZERS, build_optimizer
from lr_gym.tasks.parameter_free import PARAMETER_FREE, averaging, has_direction
from lr_gym.trainee import Trainee

#: The authors' class, options that reach it, options that it refuses, and an initial lr that suits it.
CASES: dict[str, tuple[str, dict[str, Any], dict[str, Any], float]] = {
    "prodigy": ("prodigyopt.prodigy.Prodigy", {"d_coef": 2.0, "betas": [0.9, 0.99]}, {"d0": 0.0}, 1.0),
    "dadapt-adam": ("dadaptation.dadapt_adam.DAdaptAdam", {"growth_rate": 1.02, "decouple": True}, {"eps": -1.0}, 0.3),
    "dadapt-sgd": ("dadaptation.dadapt_sgd.DAdaptSGD", {"momentum": 0.9}, {"d0": -1}, 0.3),
    "schedule-free-adamw": (
        "schedulefree.adamw_schedulefree.AdamWScheduleFree",
        {"warmup_steps": 5, "betas": [0.95, 0.99]},
        {"tempo": 2},
        2.5e-3,
    ),
    "schedule-free-sgd": (
        "schedulefree.sgd_schedulefree.SGDScheduleFree",
        {"momentum": 0.95, "foreach": False},
        {"momentum": 1},
        1.0,
    ),
}
each_optimizer = pytest.mark.parametrize("name", CASES)


def build(name: str, options: dict[str, Any] | None = None) -> torch.optim.Optimizer:
    return build_optimizer(name, options or {}, toys.FixedNet().parameters(), 0.5)


def make(name: str, model: str = "toys:FixedNet", **options: Any) -> Trainee:
    return toys.make_trainee(2, CASES[name][3], model=model, optimizer=name, optimizer_options=options)


@each_optimizer
def test_a_name_stands_for_the_authors_class(name: str, capfd: pytest.CaptureFixture[str]) -> None:
    """With its options; nothing is printed."""
    kind, options, bad, _ = CASES[name]
    built = build(name)
    assert f"{type(built).__module__}.{type(built).__name__}" == kind
    assert [(group["lr"], len(group["params"])) for group in built.param_groups] == [(0.5, 4)]
    assert (name in OPTIMIZERS, CASES.keys() == PARAMETER_FREE.keys()) == (True, True)
    trainee = make(name, weight_decay=0.1, **options)
    assert (options | {"weight_decay": 0.1}).items() <= trainee.optimizer.param_groups[0].items()
    assert bool(trainee.train(10).isfinite().all())
    assert capfd.readouterr() == ("", "")
    for refused, message in ((bad, f"'{name}' refuses"), ({"tempo": 1}, "refuses .*tempo"), ({"lr": 1.0}, "not hold")):
        with pytest.raises(InvalidArgumentError, match=message):
            build(name, refused)


@each_optimizer
def test_a_missing_package_is_named(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    package = PARAMETER_FREE[name][0]
    monkeypatch.setitem(sys.modules, package, None)
    message = rf"^the optimizer '{name}' needs the package {package}: .*pip install \"lr-gym\[parameter-free\]\""
    with pytest.raises(InvalidArgumentError, match=message):
        make(name)  # the task is data: nothing was imported for it


def test_which_ones_switch_weights_and_which_have_a_direction() -> None:
    class Odd(torch.optim.SGD):
        train, eval = True, False  # methods that are none do not count

    built = {name: build(name) for name in [*CASES, "Adam", "LBFGS", "schedulefree:RAdamScheduleFree"]}
    built["odd"] = Odd(toys.FixedNet().parameters())
    switched = {name for name, optimizer in built.items() if averaging(optimizer) is optimizer}
    assert switched == {"schedule-free-adamw", "schedule-free-sgd", "schedulefree:RAdamScheduleFree"}
    assert all(averaging(optimizer) is None for name, optimizer in built.items() if name not in switched)
    assert {name for name, optimizer in built.items() if has_direction(optimizer)} == {
        *("prodigy", "Adam", "LBFGS", "odd")
    }


@pytest.mark.parametrize("name", [name for name in CASES if name != "prodigy"])
def test_the_others_have_none_and_say_so(name: str) -> None:
    trainee, plain = make(name, "toys:NoisyNet"), make(name, "toys:NoisyNet")
    for ask in (trainee.directions, trainee.update_direction, lambda: trainee.probe([0.1])):
        with pytest.raises(InvalidArgumentError, match=f"'{name}' has no update direction"):
            ask()
    assert trainee.extra.forward == 0
    assert toys.same(toys.everything(trainee), toys.everything(plain))


@pytest.mark.parametrize("name", ["schedule-free-adamw", "schedule-free-sgd"])
def test_the_average_is_evaluated_and_kept(name: str) -> None:
    trainee = make(name)
    for _ in range(8):
        measured = trainee.train_interval()
    assert trainee.best.update == trainee.updates
    for parameter, kept in zip(trainee.parameters, trainee.best.tensors, strict=True):
        z = trainee.optimizer.state[parameter]["z"]
        torch.testing.assert_close(kept, (parameter.detach() - 0.1 * z) / 0.9, rtol=1e-4, atol=1e-5)
        assert not torch.allclose(kept, parameter.detach(), rtol=1e-4)
    assert float(trainee.evaluate().loss) == measured.features.val_loss
    x, y = (part["validation"] for part in (trainee.data.x, trainee.data.y))
    for tensors, is_it in ((trainee.parameters, False), (trainee.best.tensors, True)):
        named = dict(zip(dict(trainee.model.named_parameters()), tensors, strict=True))
        loss = functional.cross_entropy(torch.func.functional_call(trainee.model, named, (x,)), y)
        assert (loss.item() == measured.features.val_loss) == is_it


class Shifting(torch.optim.SGD):
    """Stands for weights that are one above those that it trains."""

    def train(self) -> None:
        self.shift(-1.0)

    def eval(self) -> None:
        self.shift(1.0)

    def shift(self, by: float) -> None:
        with torch.no_grad():
            for group in self.param_groups:
                if group.setdefault("shift", 0.0) != max(by, 0.0):
                    group["shift"] = max(by, 0.0)
                    for parameter in group["params"]:
                        parameter.add_(by)


def test_any_optimizer_with_train_and_eval_is_switched(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(OPTIMIZERS, "_things", dict(OPTIMIZERS._things))
    tasks.register_optimizer("test-shifting", Shifting)
    shifting, plain = (toys.slope_trainee(optimizer=name) for name in ("test-shifting", "SGD"))
    for act in (lambda t: t.train(3), lambda t: t.train_interval()):
        act(shifting)
        act(plain)
        assert toys.same(shifting.parameters[0].detach(), plain.parameters[0].detach())
    loss, weight = toys.parabola("validation")[0], plain.parameters[0].item()
    assert float(shifting.evaluate().loss) == pytest.approx(loss(weight + 1), rel=1e-6)
    assert float(plain.evaluate().loss) == pytest.approx(loss(weight), rel=1e-6)


def test_an_error_in_an_evaluation_leaves_the_weights_that_are_trained(monkeypatch: pytest.MonkeyPatch) -> None:
    trainee, plain = (make("schedule-free-sgd", "toys:NoisyNet") for _ in range(2))
    trainee.train(4)
    plain.train(4)
    with monkeypatch.context() as patch:
        patch.setattr(trainee, "_loss", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            trainee.evaluate()
    assert toys.same(toys.everything(trainee), toys.everything(plain))
    assert toys.same(trainee.train(6), plain.train(6))
