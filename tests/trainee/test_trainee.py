"""What a trainee trains, measures and sees ahead: by hand; what that costs; and optimizers that find their own step."""

from __future__ import annotations

import contextlib
import copy
import math
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import tiny
import torch
import toys
from torch import Tensor
from torch.nn import functional

from lr_gym import LRTrainingEnv, tasks
from lr_gym.errors import InvalidArgumentError
from lr_gym.tasks import Data
from lr_gym.tasks.losses import OPTIMIZERS, build_optimizer
from lr_gym.tasks.parameter_free import PARAMETER_FREE, averaging, has_direction
from lr_gym.trainee import Batch, Trainee
from lr_gym.trainee.arithmetic import Arithmetic

NESTEROV: tuple[str, dict[str, Any]] = ("SGD", {"momentum": 0.9, "nesterov": True, "weight_decay": 0.1})
CHOSEN: list[tuple[str, dict[str, Any]]] = [
    ("SGD", {}),
    ("SGD", {"momentum": 0.9}),
    NESTEROV,
    ("Adam", {}),
    ("AdamW", {"weight_decay": 0.2}),
    ("RMSprop", {"momentum": 0.5}),
    ("prodigy", {}),
    ("LBFGS", {"max_iter": 3}),
]
each_model = pytest.mark.parametrize("model", ["toys:FixedNet", "toys:NoisyNet"])


def trained(model: str = "toys:FixedNet", optimizer: str = "Adam", options: dict[str, Any] | None = None) -> Trainee:
    """Return a trainee whose optimizer has a past; all calls return equal ones."""
    trainee = toys.make_trainee(model=model, optimizer=optimizer, optimizer_options=options or {})
    trainee.train(6)
    return trainee


def weights(trainee: Trainee) -> list[Tensor]:
    return [p.detach().clone() for p in trainee.parameters]


def close(got: list[Tensor], expected: list[Tensor], tolerance: float) -> None:
    """Compare with an absolute tolerance: a direction is a difference of weights of size one, in single precision."""
    for a, b in zip(got, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=tolerance)


# -- training and measuring ------------------------------------------------------------------------------------------


def test_evaluation_on_a_split(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lr_gym.trainee.evaluated.EVALUATION_CHUNK", 7)  # 48 examples: chunks of unequal size
    trainee = trained("toys:NoisyNet")
    evaluation = trainee.evaluate("train")
    assert trainee.model.training
    trainee.model.eval()
    logits, labels = trainee.model(toys.CLASSES.x["train"]).detach(), toys.CLASSES.y["train"]
    logs = logits.double() - logits.double().logsumexp(1, keepdim=True)
    torch.testing.assert_close(evaluation.predictions, logits)
    assert float(evaluation.loss) == pytest.approx(-logs[range(len(labels)), labels].mean().item(), rel=1e-6)
    assert float(evaluation.accuracy) == pytest.approx((logits.argmax(1) == labels).double().mean().item(), rel=1e-6)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"batch_size": 49}, "batch_size=49 is more than the 48 training examples"),
        ({"batch_size": 20, "train_size": 19}, "batch_size=20 is more than the 19"),
        ({"train_size": 49}, "train_size=49 is more than the 48 train examples of 'toy'"),
        ({"validation_size": 13}, "validation_size=13 is more than the 12"),
        ({"final_layer": "nowhere"}, "final_layer='nowhere'"),
        ({"lr": 0.0}, "lr must be positive and finite, got 0.0"),
        ({"lr": math.inf}, "lr must be positive and finite, got inf"),
    ],
)
def test_parts_that_do_not_fit_together(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidArgumentError, match=message):
        toys.make_trainee(**fields).train_interval()


def test_images_may_have_their_channels_last() -> None:
    images, table = (Data.from_arrays(arrays) for arrays in (toys.images(shape=(6, 6, 3)), toys.table()))
    for data, laid_out in ((images, True), (table, False)):
        task = toys.toy_task(model="mlp", model_options={"width": 3})
        trainee = Trainee(task, 0, data=data, arithmetic=Arithmetic(channels_last=True))
        x = trainee._splits["validation"].x
        assert (x.ndim == 4 and x.is_contiguous(memory_format=torch.channels_last)) == laid_out
        plain = Trainee(task, 0, data=data)
        torch.testing.assert_close(trainee.train(3), plain.train(3))


def test_the_seed_decides_all_and_global_generators_are_neither_read_nor_changed() -> None:
    lives = []
    for disturbance in (1, 2):
        toys.disturb_global_randomness(disturbance)
        before = toys.global_randomness()
        trainee = toys.make_trainee(model="toys:NoisyNet", seed=8)
        losses = [trainee.train_interval().train_losses for _ in range(3)]
        lives.append([losses, trainee.probe([0.1], trainee.peek_batches(2)), toys.everything(trainee)])
        assert toys.same(before, toys.global_randomness())
    assert toys.same(*lives)
    first, second, other = (toys.make_trainee(seed, lr=lr) for seed, lr in ((1, 0.1), (1, 0.9), (2, 0.1)))
    for part in (lambda t: t.parameters, lambda t: list(t.peek_batches(1)[0])):
        assert toys.same(part(first), part(second))  # whatever the lr
        assert not toys.same(part(first), part(other))


# -- directions ------------------------------------------------------------------------------------------------------


@each_model
@pytest.mark.parametrize(("optimizer", "options"), CHOSEN)
def test_directions_are_those_of_the_next_update(model: str, optimizer: str, options: dict[str, Any]) -> None:
    """Loss and gradient are autograd's, the update is what the optimizer subtracts at lr 1; nothing else changes."""
    trainee, twin, stepping = (trained(model, optimizer, options) for _ in range(3))
    before = toys.everything(trainee), toys.global_randomness()
    here = trainee.directions()
    kept = copy.deepcopy(here)
    assert toys.same(trainee.directions(trainee.peek_batches(1)), here)
    assert toys.same(trainee.update_direction(), here.update)
    later = trainee.peek_batches(2)[1]
    assert toys.same(trainee.update_direction(later), trainee.directions([later]).update)
    trainee.directions(trainee.peek_batches(3))
    trainee.batch_loss(trainee.peek_batches(2))
    assert all(p.grad is None for p in trainee.parameters)
    assert toys.same((toys.everything(trainee), toys.global_randomness()), before)
    for lr in (1e-6, 7.0, 0.01):
        trainee.lr = lr
        assert toys.same(trainee.directions(), here)
        assert trainee.lr == trainee.optimizer.param_groups[0]["lr"] == lr
    (batch,) = twin.peek_batches(1)
    with twin._noise.active():
        loss = functional.cross_entropy(twin.model(batch.x), batch.y)
    assert here.loss == pytest.approx(loss.item(), rel=1e-6)
    close(here.gradient, list(torch.autograd.grad(loss, twin.parameters)), 1e-7)
    origin, stepping.lr = weights(stepping), 1.0
    assert here.loss == stepping.train(1).item()
    assert toys.same(here.update, [old - new for old, new in zip(origin, weights(stepping), strict=True)])
    trainee.train(1)
    if optimizer != "LBFGS":  # an update at another lr is the same times lr
        close(weights(trainee), [p - 0.01 * d for p, d in zip(origin, here.update, strict=True)], 2e-7)
    assert toys.same(here, kept)  # they are copies
    assert not any(tensor.requires_grad for tensor in [*here.gradient, *here.update])


def test_nesterov_with_weight_decay_in_closed_form() -> None:
    trainee = trained("toys:FixedNet", *NESTEROV)
    velocities = [trainee.optimizer.state[p]["momentum_buffer"].clone() for p in trainee.parameters]
    here = trainee.directions()
    decayed = [g + 0.1 * p.detach() for g, p in zip(here.gradient, trainee.parameters, strict=True)]
    close(here.update, [g + 0.9 * (0.9 * v + g) for g, v in zip(decayed, velocities, strict=True)], 2e-6)


@pytest.mark.parametrize(("optimizer", "options"), [("SGD", {}), NESTEROV, ("AdamW", {"eps": 1e-2})])
def test_several_batches_count_as_one_big_batch(optimizer: str, options: dict[str, Any]) -> None:
    trainee = trained("toys:FixedNet", optimizer, options)
    batches = trainee.peek_batches(4)
    big = Batch(torch.cat([b.x for b in batches]), torch.cat([b.y for b in batches]))
    several, one = trainee.directions(batches), trainee.directions([big])
    assert several.loss == pytest.approx(one.loss, rel=1e-6)
    close(several.gradient, one.gradient, 1e-7)
    close(several.update, one.update, 1e-6)
    assert several.loss != trainee.directions(batches[:1]).loss
    x, y = batches[0]  # each of them weighs the same, whatever its size
    parts = [Batch(x[:2], y[:2]), Batch(x[2:], y[2:])]
    both, alone = trainee.directions(parts), [trainee.directions([part]) for part in parts]
    close(both.gradient, [(a + b) / 2 for a, b in zip(alone[0].gradient, alone[1].gradient, strict=True)], 1e-7)
    assert trainee.batch_loss(parts) == pytest.approx((alone[0].loss + alone[1].loss) / 2, rel=1e-6)
    assert trainee.batch_loss(parts) != pytest.approx(trainee.batch_loss([batches[0]]), rel=1e-6)


def test_several_batches_of_lbfgs() -> None:
    trainee = trained(optimizer="LBFGS", options={"max_iter": 1})
    here = trainee.directions(trainee.peek_batches(3))
    assert all(bool(d.isfinite().all()) for d in here.update)
    assert sum(float((g * d).sum()) for g, d in zip(here.gradient, here.update, strict=True)) > 0  # downhill


@pytest.mark.filterwarnings("ignore:of the model .* no gradient reaches")
def test_weights_that_take_no_part_have_neither_gradient_nor_update() -> None:
    here = trained("toys:Idle", "SGD", {"momentum": 0.9}).directions()
    for tensors in (here.gradient, here.update):
        assert [bool(tensor.any()) for tensor in tensors] == [False, True, True]
        assert tensors[0].shape == (2,)


# -- losses and probes -----------------------------------------------------------------------------------------------


@each_model
def test_batch_loss_is_the_mean_in_training_mode_and_what_the_next_update_sees(model: str) -> None:
    trainee, twin = trained(model), trained(model)
    batches = trainee.peek_batches(3)
    with twin._noise.active(), torch.no_grad():
        losses = [functional.cross_entropy(twin.model(b.x), b.y).item() for b in batches]
    mean = trainee.batch_loss(batches)
    assert mean == pytest.approx(sum(losses) / 3, rel=1e-6)
    trainee.model.eval()
    with torch.no_grad():
        quiet = sum(functional.cross_entropy(trainee.model(b.x), b.y).item() for b in batches) / 3
    trainee.model.train()
    assert (quiet == pytest.approx(mean, rel=1e-3)) == (model == "toys:FixedNet")
    loss = trainee.batch_loss(list(batches[:1]))
    assert isinstance(loss, float)
    assert loss == trainee.probe([0.0])[0] == trainee.train(1).item()
    with pytest.raises(InvalidArgumentError, match="batches must be one or more mini-batches, got none"):
        trainee.batch_loss([])


@pytest.mark.parametrize("value", [math.inf, math.nan])
def test_losses_that_are_not_finite(value: float) -> None:
    trainee, twin = (toys.slope_trainee(optimizer="SGD") for _ in range(2))
    with trainee.preserved():
        with torch.no_grad():
            trainee.parameters[0].fill_(value)
        assert trainee.batch_loss(trainee.peek_batches(2)) == pytest.approx(value, nan_ok=True)
        assert trainee.directions().loss == pytest.approx(value, nan_ok=True)
    assert toys.same(toys.everything(trainee), toys.everything(twin))


@pytest.mark.parametrize("at_once", [None, True])
def test_probe_on_a_parabola_in_closed_form(at_once: bool | None) -> None:
    trainee, (loss, derivative) = toys.slope_trainee(optimizer="SGD"), toys.parabola()
    lrs = [0.0, 1e-3, 0.1, 0.4, 1.0, 7.0]
    expected = [loss(0.25 - lr * derivative(0.25)) for lr in lrs]
    np.testing.assert_allclose(trainee.probe(lrs, at_once=at_once), expected, rtol=1e-5)


@pytest.mark.parametrize("at_once", [None, True])
@pytest.mark.parametrize(("optimizer", "options"), [("SGD", {"momentum": 0.9}), ("AdamW", {"weight_decay": 0.1})])
def test_probe_equals_taking_the_update(optimizer: str, options: dict[str, Any], at_once: bool | None) -> None:
    trainee = toys.make_trainee(optimizer=optimizer, optimizer_options=options)
    trainee.train(9)
    batches = trainee.peek_batches(3)

    def mean_loss() -> Any:
        return pytest.approx(np.mean([functional.cross_entropy(trainee.model(b.x), b.y).item() for b in batches]), 1e-5)

    lrs = np.geomspace(1e-4, 0.3, 4)
    probed = trainee.probe(lrs, batches, at_once=at_once)
    assert probed.dtype == np.float64
    for lr, value in zip(lrs, probed, strict=True):
        with trainee.preserved():
            trainee.lr = lr
            trainee.train(1)
            assert value == mean_loss()
    assert trainee.probe([0.05], at_once=at_once) == trainee.probe([0.05], batches[:1], at_once=at_once)
    given = trainee.probe([0.5], batches, [torch.ones_like(p) for p in trainee.parameters], at_once=at_once)[0]
    with trainee.preserved(), torch.no_grad():
        for parameter in trainee.parameters:
            parameter -= 0.5
        assert given == mean_loss()


@pytest.mark.parametrize("at_once", [None, True])
def test_probe_uses_the_same_noise_for_every_candidate(at_once: bool | None) -> None:
    trainee = trained("toys:NoisyNet", "SGD")
    before = toys.everything(trainee)
    probed = trainee.probe([0.01, 0.01, 0.02, 0.01], at_once=at_once)
    assert probed[0] == probed[1] == probed[3] != probed[2]
    assert toys.same(toys.everything(trainee), before)


# -- what it costs ---------------------------------------------------------------------------------------------------

#: What an agent may ask for, and what it costs: forward and backward passes over mini-batches of 7 examples, of which
#: there are 48 for training and 12 for validation.
ASKED: dict[str, tuple[Callable[[Trainee], object], float, float]] = {
    "train": (lambda t: t.train(5), 5, 5),
    "directions": (lambda t: t.directions(), 1, 1),
    "directions of 4": (lambda t: t.directions(t.peek_batches(4)), 4, 4),
    "update direction of a batch": (lambda t: t.update_direction(t.peek_batches(3)[2]), 1, 1),
    "batch loss of 6": (lambda t: t.batch_loss(t.peek_batches(6)), 6, 0),
    "probe": (lambda t: t.probe([0.1, 0.2, 0.3]), 3 + 1, 1),  # the direction is one pass
    "probe on 4": (lambda t: t.probe(np.geomspace(1e-3, 1, 5), t.peek_batches(4)), 5 * 4 + 1, 1),
    "probe at once": (lambda t: t.probe([0.1, 0.2, 0.3], t.peek_batches(2), at_once=True), 3 * 2 + 1, 1),
    "probe along": (lambda t: t.probe([0.1, 0.2], t.peek_batches(4), list(t.parameters)), 2 * 4, 0),
    "branches": (lambda t: [b.evaluate() for _, b in t.grow([(t.snapshot(), 0.1)] * 2, 3)], 2 * 3 + 24 / 7, 2 * 3),
    "validation": (lambda t: t.evaluate(), 12 / 7, 0),
    "training examples": (lambda t: t.evaluate("train"), 48 / 7, 0),
    "an interval": (lambda t: t.train_interval(), 0, 0),
    "test": (lambda t: t.test_best(), 0, 0),
    "peek": (lambda t: list(t.peek_batches(3)), 0, 0),
    "restore": (lambda t: t.restore(t.snapshot()), 0, 0),
    "revert": (lambda t: t.revert(t.snapshot(), replay=True), 0, 0),
    "lr": (lambda t: setattr(t, "lr", 0.2), 0, 0),
}


def passes(trainee: Trainee) -> tuple[float, float]:
    return trainee.extra.forward, trainee.extra.backward


@pytest.mark.parametrize("what", ASKED)
def test_what_is_asked_for_is_counted_and_not_taken_back(what: str) -> None:
    """By no way back from what was asked, also not where it failed; and it moves with no snapshot."""
    trainee, (ask, forward, backward) = toys.make_trainee(), ASKED[what]
    assert passes(trainee) == (0, 0)
    before = trainee.snapshot()
    ask(trainee)
    assert passes(trainee) == pytest.approx((forward, backward), rel=1e-12)
    with contextlib.suppress(KeyError), trainee.preserved():
        ask(trainee)
        raise KeyError
    trainee.restore(before)
    trainee.revert(before)
    assert passes(trainee) == pytest.approx((2 * forward, 2 * backward), rel=1e-12)
    other = toys.make_trainee(1)
    other.restore(trainee.snapshot())
    assert passes(other) == (0, 0)


def test_an_episode_costs_nothing_extra_and_every_episode_counts_anew() -> None:
    env = LRTrainingEnv(tiny.task(train_size=30, validation_size=9, batch_size=4))
    toys.episode(env, [0.5, -0.5, 0.0])
    assert (env.trainee.updates, passes(env.trainee)) == (40, (0, 0))
    env.trainee.evaluate()  # of the examples that are used
    env.trainee.evaluate("train")
    assert passes(env.trainee) == (9 / 4 + 30 / 4, 0)
    env.reset()
    assert passes(env.trainee) == (0, 0)


# -- optimizers that find their own step size: also in test_plain_loop, test_back_and_forth, test_stack ---------------

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
