"""What is measured of an own loop at its beginning: refused, said once, or put right; and no trace of it."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import own_losses
import people
import pytest
import torch
from loops import Loop, descend
from torch import Tensor, nn
from torch.nn import functional as F

import lr_gym
from lr_gym import LRController
from lr_gym.errors import InvalidArgumentError
from lr_gym.loop import LRControllerWarning

X = torch.linspace(-1, 1, 240).reshape(60, 4).sin() * 2
LABELS = (X.sum(1) * 3).long().clamp(0, 2)
REAL = X.sum(1, keepdim=True)


def controlled(
    network: nn.Module,
    loss: Callable[..., Any],
    targets: Tensor = LABELS,
    optimizer: Any = torch.optim.SGD,
    **options: Any,
) -> LRController:
    made = optimizer(network.parameters(), lr=0.05)
    validate = options.pop("validate", None) or lr_gym.validation(network, loss, X, targets)
    return LRController(made, "constant", **({"total_updates": 40, "decisions": 10, "validate": validate} | options))


def trained(controller: LRController, model: nn.Module, loss: Callable[..., Any], updates: int = 5) -> LRController:
    for update in range(updates):
        rows = slice(update * 10 % 60, update * 10 % 60 + 10)
        controller.step(descend(loss(model(X[rows]), LABELS[rows]), controller.optimizer))
    return controller


# -- refused ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "loss", "targets", "options", "words"),
    [
        (
            people.Flat,
            own_losses.squared,
            REAL,
            {},
            r"pairs every example with every other.*\(60,\) and targets \(60, 1\)",
        ),
        (people.Flat, nn.MSELoss(), REAL, {}, "pairs every example with every other"),
        (lambda *_: people.line((4,), 1), own_losses.added, REAL, {}, "is no mean over examples.*divide by the number"),
        (
            people.line,
            own_losses.contrastive,
            LABELS,
            {},
            "is no mean over examples.*a function for validate= that evaluates",
        ),
        (people.line, nn.NLLLoss(), LABELS, {}, "takes logarithms of probabilities"),
        (people.line, own_losses.a_float, LABELS, {}, "got a float, which has no gradient"),
        (people.line, own_losses.nothing, LABELS, {}, "got None"),
        (
            people.act_norm,
            F.cross_entropy,
            LABELS,
            {},
            "an evaluation of the model sets its parameters.*in training mode",
        ),
        (people.line, F.cross_entropy, LABELS, {"optimizer": people.Relative}, "has no learning rate that can be set"),
    ],
)
@pytest.mark.filterwarnings("ignore:Using a target size")
def test_what_cannot_be_right_is_refused(model: Any, loss: Any, targets: Tensor, options: Any, words: str) -> None:
    torch.manual_seed(0)
    built = model((4,)) if model is people.Flat else model((4,), 3)
    with pytest.raises(InvalidArgumentError, match=words):
        controlled(built, loss, targets, **options)


@pytest.mark.filterwarnings("ignore:Using a target size")
def test_who_says_so_is_trusted() -> None:
    assert controlled(people.Flat((4,)), own_losses.squared, REAL, check=False).findings == []
    with pytest.raises(InvalidArgumentError, match="check"):
        controlled(people.Flat((4,)), own_losses.squared, REAL, check="no")


def test_an_optimizer_of_another_network_is_not_put_back() -> None:
    model, other = people.line((4,), 3), people.line((4,), 3)
    optimizer = torch.optim.SGD(other.parameters(), lr=0.05)
    validate = lr_gym.validation(model, F.cross_entropy, X, LABELS)
    with pytest.raises(
        InvalidArgumentError, match=r"put a network back that the optimizer does not train.*Pass model="
    ):
        LRController(optimizer, "constant", total_updates=40, validate=validate, restore=True)
    with pytest.raises(InvalidArgumentError, match="maximize=True climbs"):
        LRController(torch.optim.SGD(model.parameters(), lr=0.05, maximize=True), "constant", total_updates=40)
    controller = LRController(optimizer, "constant", total_updates=40, decisions=10, validate=validate)
    with pytest.warns(LRControllerWarning, match="the network that is validated is not the one that is trained"):
        trained(controller, other, F.cross_entropy)


@pytest.mark.parametrize("optimizer", [people.Deaf, torch.optim.Rprop])
def test_a_learning_rate_that_does_not_arrive(optimizer: Any) -> None:
    """It is measured where the weights may be touched."""
    model = people.line((4,), 3)
    controller = controlled(model, F.cross_entropy, optimizer=optimizer, restore=True)
    with pytest.raises(InvalidArgumentError, match=r"the optimizer (Deaf|Rprop) does not use the learning rate"):
        trained(controller, model, F.cross_entropy)
    model = people.line((4,), 3)
    trained(controlled(model, F.cross_entropy, optimizer=optimizer), model, F.cross_entropy)


# -- without a trace --------------------------------------------------------------------------------------------------


def careful(kind: str, parameters: Any, lr: float) -> torch.optim.Optimizer:
    if kind in ("Lookahead", "Patient"):
        made: torch.optim.Optimizer = getattr(people, kind)(parameters, lr)
        return made
    name, _, option = kind.partition(" ")
    return getattr(torch.optim, name)(parameters, lr=lr, **({option: True} if option else {}))  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    "kind",
    ["SGD", "Adam", "Adam fused", "AdamW amsgrad", "Adagrad", "RMSprop centered", "NAdam", "Lookahead", "Patient"],
)
@pytest.mark.parametrize("lr", [0.05, torch.tensor(0.05)], ids=["number", "tensor"])
def test_the_examination_changes_nothing(kind: str, lr: Any) -> None:
    """The same weights, state of the optimizer and random numbers as without it, to the last bit."""
    found: list[Any] = []
    for check in (True, False):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Dropout(0.2), nn.Linear(6, 3))
        optimizer = careful(kind, model.parameters(), lr if isinstance(lr, float) else lr.clone())
        held = optimizer.param_groups[0]["lr"]
        validate = lr_gym.validation(model, F.cross_entropy, X, LABELS)
        controller = LRController(
            optimizer, "constant", total_updates=40, decisions=10, validate=validate, restore=True, check=check
        )
        trained(controller, model, F.cross_entropy, 6)
        assert isinstance(held, float) or optimizer.param_groups[0]["lr"] is held
        state = [value for entries in optimizer.state.values() for value in entries.values()]
        found.append([*model.state_dict().values(), *map(torch.as_tensor, state), torch.get_rng_state()])
        assert controller.findings == []
    assert len(found[0]) == len(found[1])
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


def test_evaluations_are_put_back_and_the_same_twice() -> None:
    """A recurrent network that keeps its state; one that draws while it is evaluated; a loss that counts."""
    stateful = people.Stateful((4,), 3)
    stateful(X[:9])
    for model in (stateful, people.Noisy((4,), 3), people.Counting((4,), 3)):
        validate = lr_gym.validation(model, F.cross_entropy, X, LABELS)
        controlled(model, F.cross_entropy, validate=validate)
        before = [
            getattr(model, "state", torch.ones(1)).clone(),
            getattr(model, "count", torch.zeros(())).clone(),
            torch.get_rng_state(),
        ]
        first, second = validate(), validate()
        assert torch.equal(first[1], second[1])
        assert torch.equal(getattr(model, "state", torch.ones(1)), before[0])
        assert torch.equal(getattr(model, "count", torch.zeros(())), before[1])
        assert torch.equal(torch.get_rng_state(), before[2])


def test_slow_weights_go_back_too() -> None:
    """Those of a Lookahead, which no state_dict knows."""
    model = people.line((4,), 3)
    controller = controlled(model, F.cross_entropy, optimizer=people.Lookahead, restore=True)
    trained(controller, model, F.cross_entropy, 4)  # an interval
    optimizer: Any = controller.optimizer
    slow, count = [s.clone() for group in optimizer.slow for s in group], optimizer.count
    for _ in range(3):
        descend(F.cross_entropy(model(X), LABELS), optimizer)
        controller.step(1.0)
    descend(F.cross_entropy(model(X), LABELS), optimizer)
    with pytest.warns(LRControllerWarning, match="back to where this interval began") as said:
        controller.step(float("nan"))
    assert said[0].filename == __file__  # a warning points to the line of the loop
    assert optimizer.count == count == 4
    assert all(torch.equal(a, b) for a, b in zip(slow, (s for g in optimizer.slow for s in g), strict=True))


# -- said once --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "loss", "words"),
    [
        (people.HalfDetached, F.cross_entropy, "no gradient reaches 'body.weight', 'body.bias'"),
        (people.InAList, F.cross_entropy, "keeps what is to be trained in 'layers', where no optimizer finds it"),
        (
            people.probabilities,
            F.cross_entropy,
            "are probabilities already, and cross_entropy takes the softmax once more",
        ),
        (people.EvalInForward, F.cross_entropy, "changes the mode of 'itself'"),
        (people.Stateful, F.cross_entropy, "keeps tensors in 'Stateful.state', which restore=True does not bring back"),
        (people.line, own_losses.not_a_number, "validation loss of the untrained network is nan"),
    ],
)
@pytest.mark.filterwarnings("ignore:after 4 updates the training has diverged")
def test_what_is_likely_not_meant_is_said_once(model: Any, loss: Any, words: str) -> None:
    built = model((4,), 3)

    def train() -> LRController:
        return trained(controlled(built, loss, restore=model is people.Stateful), built, F.cross_entropy)

    with pytest.warns(LRControllerWarning, match=words) as said:
        controller = train()
    assert controller.findings == [str(said[0].message)]


def test_functions_that_evaluate_in_the_wrong_mode() -> None:
    model = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Dropout(0.5), nn.Linear(6, 3))

    def in_training() -> tuple[Tensor, Tensor]:
        outputs = model(X)
        return F.cross_entropy(outputs, LABELS), outputs

    def leaves_evaluation() -> tuple[Tensor, Tensor]:
        model.eval()
        return in_training()

    with pytest.warns(LRControllerWarning, match=r"validate changes the network's .*buffers: call model.eval\(\)"):
        controlled(model, F.cross_entropy, validate=in_training, model=model)
    with pytest.warns(LRControllerWarning, match=r"validate leaves the network in another mode: call model.train\(\)"):
        controlled(model, F.cross_entropy, validate=leaves_evaluation, model=model)
    for wrong in (torch.ones(2), torch.tensor(1j)):
        with pytest.raises(InvalidArgumentError, match="the mean loss, one real number, and the outputs"):
            controlled(model, F.cross_entropy, validate=lambda wrong=wrong: (wrong, torch.ones(3, 1)))


def test_losses_in_other_units() -> None:
    loop = Loop()
    controller = loop.controller("constant", validate=loop.validation())
    with pytest.warns(LRControllerWarning, match="the first training loss is .*: both must be means ov") as said:
        controller.step(loop.update() * 50)
    assert said[0].filename == __file__


def test_updates_that_nobody_counts() -> None:
    """The loop steps another optimizer, or forgets the backward pass."""
    loop = Loop()
    controller = loop.controller("constant", total_updates=100)

    def call() -> None:
        for _ in range(400):
            controller.step(1.0)

    with pytest.warns(LRControllerWarning, match="step was called 300 times, and the optimizer has done no") as said:
        call()
    assert len(said) == 1
    for _ in range(49):
        loop.optimizer.step()
        controller.step(1.0)
    loop.optimizer.step()
    with pytest.warns(LRControllerWarning, match="50 updates of the optimizer had no gradient: call loss.backward"):
        controller.step(1.0)


def test_what_is_right_goes_unsaid() -> None:
    """A frozen layer, a second head with another optimizer, accumulation, an average that is validated."""
    model = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 3))
    model[0].requires_grad_(False)
    average = torch.optim.swa_utils.AveragedModel(model)
    optimizer = torch.optim.SGD(model[2].parameters(), lr=0.05)
    validate = lr_gym.validation(average, F.cross_entropy, X, LABELS)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        controller = LRController(
            optimizer, "constant", total_updates=40, decisions=10, validate=validate, model=model, restore=True
        )
        for _ in range(8):
            loss = F.cross_entropy(model(X), LABELS)
            descend(loss, optimizer)
            average.update_parameters(model)
            controller.step(loss)
    assert controller.findings == []
