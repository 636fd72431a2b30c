"""A stack computes what its members compute alone, up to rounding, and refuses networks for which it cannot."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
import toys
from torch import Tensor, nn

from lr_gym.errors import InvalidArgumentError
from lr_gym.tasks import Data
from lr_gym.trainee import Measurement, Population, Trainee
from lr_gym.trainee import stack_size as stack_sizes
from lr_gym.trainee.arithmetic import Arithmetic
from lr_gym.trainee.stack import Stack
from lr_gym.trainee.stack_size import stack_size

IMAGES = Data.from_arrays(toys.images(shape=(12, 12)))
TARGETS = toys.tiny_data(targets=3)

MODELS: dict[str, tuple[Data, dict[str, Any]]] = {
    "mlp": (IMAGES, {"model_options": {"width": 8}}),
    "lenet5": (IMAGES, {}),
    # No bias before a BatchNorm in these: its gradient is zero but for rounding, which Adam makes updates of full size.
    "toys:Normed": (toys.CLASSES, {}),
    "toys:Tied": (toys.CLASSES, {}),
    "toys:PartlyFrozen": (toys.CLASSES, {}),
    "toys:Idle": (toys.CLASSES, {}),
    "toys:FixedNet": (TARGETS, {"loss": "mse_loss"}),
}
OPTIMIZERS: list[tuple[str, dict[str, Any], float]] = [
    ("SGD", {}, 0.05),
    ("SGD", {"momentum": 0.9}, 0.02),
    ("SGD", {"momentum": 0.9, "nesterov": True, "weight_decay": 0.1}, 0.02),
    ("Adam", {}, 0.005),
    ("Adam", {"amsgrad": True}, 0.005),
    ("AdamW", {"weight_decay": 0.1}, 0.005),
    ("RMSprop", {}, 0.002),
    ("RMSprop", {"momentum": 0.9, "centered": True}, 0.001),
    ("NAdam", {}, 0.005),
    ("Adagrad", {}, 0.02),
]


def make(model: str = "toys:FixedNet", count: int = 3, lr: float = 0.02, **fields: Any) -> list[Trainee]:
    """Return trainees with different seeds and learning rates."""
    data, extra = MODELS.get(model, (toys.CLASSES, {}))
    task = toys.toy_task(**({"model": model} | extra | fields))
    return [Trainee(task, seed, lr=lr * (1 + seed) / count, data=data) for seed in range(count)]


def change_lrs(trainees: Sequence[Trainee], interval: int) -> None:
    for number, trainee in enumerate(trainees):
        trainee.lr *= (1.5, 0.5, 0.8)[(interval + number) % 3]


def distance(measured: Measurement, expected: Measurement) -> float:
    """Return the largest relative deviation of a loss."""
    return float(np.max(np.abs(measured.train_losses / expected.train_losses - 1)))


def assert_close(trainee: Trainee, measured: Measurement | None, twin: Trainee, expected: Measurement | None) -> None:
    """Compare a member of a stack with a trainee of its own.

    Batched products sum in another order. A float32 rounds by 6e-8; the losses below come out within 5e-7 of each
    other, the features within 1e-5. Anything else than rounding - the batch, the learning rate, the
    momentum of another member, an update more or less - shows in the first digits.
    """
    assert measured is not None
    assert expected is not None
    np.testing.assert_allclose(measured.train_losses, expected.train_losses, rtol=1e-5)
    for name, value in vars(expected.features).items():
        assert getattr(measured.features, name) == pytest.approx(value, rel=2e-4, abs=1e-7), name
    assert (measured.val_accuracy, measured.diverged) == (expected.val_accuracy, expected.diverged)
    for mine, own in zip(trainee._tensors(), twin._tensors(), strict=True):
        # As a whole: an adaptive optimizer makes full steps of single gradients that are nothing but rounding.
        assert bool((mine - own).double().norm() <= 1e-3 * own.double().norm())
    assert trainee.updates == twin.updates
    assert trainee.best.update == twin.best.update
    assert trainee.best.val_loss == pytest.approx(twin.best.val_loss, rel=1e-5)
    (loss, accuracy), (own_loss, own_accuracy) = trainee.test_best(), twin.test_best()
    assert loss == pytest.approx(own_loss, rel=1e-5)
    assert accuracy == own_accuracy


# -- members are what they are alone -------------------------------------------------------------------------------


@pytest.mark.parametrize(("optimizer", "options", "lr"), OPTIMIZERS, ids=lambda value: str(value).replace(" ", ""))
@pytest.mark.parametrize("model", MODELS)
def test_members_train_as_alone(model: str, optimizer: str, options: dict[str, Any], lr: float) -> None:
    fields: dict[str, Any] = {"lr": lr, "optimizer": optimizer, "optimizer_options": options}
    fields |= {"decision_interval": 3, "budget": 9}
    members, twins = make(model, 2, **fields), make(model, 2, **fields)
    together = Population(members, stack=2)
    for interval in range(3):
        measured = together.train_interval()
        expected = [twin.train_interval() for twin in twins]
        for number in range(2):
            assert_close(members[number], measured[number], twins[number], expected[number])
        assert distance(expected[0], expected[1]) > 1e-3  # what the tolerance must tell apart
        change_lrs(members, interval)
        change_lrs(twins, interval)


@pytest.mark.parametrize("model", MODELS)
def test_an_evaluation_in_the_stack_is_that_of_each_member(model: str) -> None:
    """As on a GPU, where it is faster; also in chunks of few examples."""
    members = make(model, optimizer="SGD")
    stack = Stack(members)
    stack.train_interval([True] * 3)
    with pytest.MonkeyPatch.context() as patch:
        for rows in (100_000, 15, 1):
            patch.setattr("lr_gym.trainee.stack.EVALUATION_ROWS", rows)
            for mine, member in zip(stack._evaluate(), members, strict=True):
                own = member.evaluate()
                torch.testing.assert_close(mine.predictions, own.predictions, rtol=1e-4, atol=1e-5)
                torch.testing.assert_close(mine.loss, own.loss, rtol=1e-4, atol=1e-6)
                torch.testing.assert_close(mine.accuracy, own.accuracy, rtol=0, atol=0, equal_nan=True)
    assert all(module.training for module in stack._network.modules())


def test_what_takes_no_part_stays() -> None:
    """Frozen weights, and weights that the output does not depend on: no weight decay, no optimizer state."""
    for model, name in (("toys:PartlyFrozen", "first.weight"), ("toys:Idle", "idle")):
        members = make(model, optimizer="AdamW", optimizer_options={"weight_decay": 0.5})
        before = [dict(member.model.named_parameters())[name].detach().clone() for member in members]
        together = Population(members, stack=3)
        together.train_interval()
        for member, was in zip(members, before, strict=True):
            parameter = dict(member.model.named_parameters())[name]
            assert toys.same(parameter, was)
            assert parameter.grad is None
            assert parameter not in member.optimizer.state


def test_building_a_stack_changes_nothing() -> None:
    """Neither the check of the network nor the move to other memory is seen: statistics, data order, cost."""
    members, twins = make("toys:Normed"), make("toys:Normed")
    members[0].train(3)
    twins[0].train(3)
    Population(members, stack=3)
    for member, twin in zip(members, twins, strict=True):
        assert toys.same(toys.everything(member), toys.everything(twin))
        assert member.extra == twin.extra
        assert all(parameter.grad is None for parameter in member.parameters)


def test_statistics_are_each_members_own() -> None:
    members = make("toys:Normed", optimizer="SGD")
    together = Population(members, stack=3)
    together.train_interval()
    buffers = [dict(member.model.named_buffers()) for member in members]
    means = [each["norm.running_mean"] for each in buffers]
    assert not toys.same(means[0], means[2])
    assert [int(each["norm.num_batches_tracked"]) for each in buffers] == [5, 5, 5]
    means[1].fill_(7.0)
    together.train_interval()
    # A mean forgets a tenth at every update: 7 * 0.9**5 is left, beside what the batches add.
    assert [bool((mean > 3).all()) for mean in means] == [False, True, False]


# -- what cannot be stacked ------------------------------------------------------------------------------------------


class Layer(nn.Module):
    """One dense layer, for what follows."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x)


class Dropping(Layer):
    """Dropout that no list of layers shows."""

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(nn.functional.dropout(x, 0.5, self.training))


class Branching(Layer):
    """Looks at its numbers."""

    def forward(self, x: Tensor) -> Tensor:
        y = self.layer(x)
        return y if bool(y.sum() > 0) else 2 * y


class Recurrent(Layer):
    """PyTorch's own LSTM."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(4, 4, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(self.lstm(x.unsqueeze(1))[0][:, -1])


class Replacing(Layer):
    """Puts another tensor in the place of its buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(4))

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            self.mean = 0.9 * self.mean + 0.1 * x.detach().mean(0)
        return self.layer(x - self.mean)


class ReplacingLittle(Replacing):
    """Has another buffer, beside which the change of the first is small."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("constant", torch.full((1000,), 100.0))


class Counting(Layer):
    """Keeps a number that is no buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += self.training
        return self.layer(x) / self.calls if self.calls else self.layer(x)


class Remembering(Layer):
    """Keeps a tensor that is no buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.mean = torch.zeros(4)

    def forward(self, x: Tensor) -> Tensor:
        y = self.layer(x - self.mean)
        if self.training:
            self.mean = 0.9 * self.mean + 0.1 * x.detach().mean(0)
        return y


class Projecting(Layer):
    """Random features that are no buffer: other ones in every member."""

    def __init__(self) -> None:
        super().__init__()
        self.projection = torch.randn(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(torch.tanh(x @ self.projection))


class Closing(Layer):
    """A function that holds on to the network in which it was made."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("projection", torch.randn(4, 4))
        self.features = lambda x: torch.tanh(x @ self.projection)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(self.features(x))


class Showing(Layer):
    """Keeps its last outputs for whoever wants to see them."""

    def forward(self, x: Tensor) -> Tensor:
        self.outputs = self.layer(x)
        return self.outputs


class Jittering(Layer):
    """Noise from Python's generator."""

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x * (1 + random.random() * self.training))


class Twofold(Layer):
    """The sum of two weights: they have the same gradient."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.other = nn.Parameter(torch.randn(4, 3)), nn.Parameter(torch.randn(4, 3))

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x) + x @ (self.one + self.other)


class BranchingLater(Layer):
    """Looks at its numbers, but not while it trains."""

    def forward(self, x: Tensor) -> Tensor:
        y = self.layer(x)
        return y if self.training or bool(y.isfinite().all()) else torch.zeros_like(y)


class Replaces(torch.optim.Optimizer):
    """SGD as in many a tutorial: the parameter's memory is another after every update."""

    def __init__(self, parameters: Any, lr: float) -> None:
        super().__init__(parameters, {"lr": lr})

    def step(self, closure: Any = None) -> None:
        for group in self.param_groups:
            for parameter in group["params"]:
                parameter.data = parameter.data - group["lr"] * parameter.grad


class Clips(torch.optim.SGD):
    """SGD that scales the gradients in place, as `clip_grad_norm_` does."""

    def step(self, closure: Any = None) -> Any:
        nn.utils.clip_grad_norm_([p for group in self.param_groups for p in group["params"]], 0.1)
        return super().step(closure)


ALIKE = "it gives another loss, gradient or running statistic in a stack than alone"


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"model": "toys:NoisyNet"}, "random operation"),
        ({"model": Dropping}, "random operation"),
        ({"model": Branching}, "data-dependent control flow"),
        ({"model": Recurrent}, "lstm"),
        ({"model": Replacing}, ALIKE),
        ({"model": Jittering}, "computes something else when asked again"),
        (
            {"optimizer": "LBFGS", "optimizer_options": {"max_iter": 3}},
            "optimizer 'LBFGS' evaluates the loss itself",
        ),
    ],
    ids=lambda value: str(next(iter(value.values()))).removeprefix("<class ") if isinstance(value, dict) else "",
)
def test_what_cannot_be_stacked_is_refused_and_trains_on_alone(fields: dict[str, Any], why: str) -> None:
    fields = {"model": "toys:FixedNet", "name": "mine"} | fields
    task = toys.toy_task(**fields)
    members, twins = ([Trainee(task, seed, lr=0.05, data=toys.CLASSES) for seed in range(2)] for _ in range(2))
    with pytest.raises(InvalidArgumentError) as caught:
        Population(members, stack=2)
    message = str(caught.value)
    assert f"trainees of the task 'mine' (model {task.model!r}) cannot be computed at once: " in message
    assert why in message
    assert message.endswith(
        "; train them one after another (stack=1) or in processes of their own (vectorization_mode='async', "
        "--backend workers)"
    )
    assert "\n" not in message
    if fields["model"] is Jittering:
        return  # draws from a global generator: no two runs of it are alike
    alone = Population(members, stack=1)
    for _ in range(2):
        measured = alone.train_interval()
        for got, twin in zip(measured, twins, strict=True):
            assert got is not None
            assert toys.same(got.train_losses, twin.train_interval().train_losses)


@pytest.mark.parametrize(
    ("model", "why"),
    [
        (Projecting, ALIKE),
        (Closing, ALIKE),
        (ReplacingLittle, ALIKE),
        (Counting, "it remembers outside its buffers"),
        (Remembering, "it remembers outside its buffers"),
    ],
)
def test_what_would_be_trained_wrongly_is_refused(model: type[nn.Module], why: str) -> None:
    """One pass of the first member alone would show none of these."""
    task = toys.toy_task(model=model, optimizer="SGD")
    with pytest.raises(InvalidArgumentError, match=why):
        Population([Trainee(task, seed, lr=0.05, data=toys.CLASSES) for seed in range(2)], stack=2)


def test_an_optimizer_that_moves_its_parameters_is_refused_when_it_does() -> None:
    task = toys.toy_task(model="toys:FixedNet", optimizer=Replaces)
    population = Population([Trainee(task, seed, lr=0.05, data=toys.CLASSES) for seed in range(2)], stack=2)
    with pytest.raises(InvalidArgumentError, match=r"puts its parameters elsewhere \(p\.data = \.\.\.\)"):
        population.train_interval()


NESTEROV: dict[str, Any] = {"momentum": 0.9, "nesterov": True, "foreach": True}


@pytest.mark.parametrize(
    "fields",
    [
        {"model": Twofold, "optimizer": Clips},
        {"model": Twofold, "optimizer": "SGD", "optimizer_options": NESTEROV},
        {"model": Twofold},
        {"model": Showing},
        {"optimizer": Clips},
    ],
    ids=lambda fields: "-".join(getattr(value, "__name__", "") or str(value) for value in fields.values()),
)
def test_what_is_unusual_trains_as_alone(fields: dict[str, Any]) -> None:
    """Two parameters with one gradient, gradients that are changed in place, outputs that are kept."""
    task = toys.toy_task(**({"model": "toys:FixedNet", "optimizer": "SGD"} | fields))
    members, twins = ([Trainee(task, seed, lr=0.05, data=toys.CLASSES) for seed in range(2)] for _ in range(2))
    together = Population(members, stack=2)
    for _ in range(2):
        for member, measured, twin in zip(members, together.train_interval(), twins, strict=True):
            assert_close(member, measured, twin, twin.train_interval())


def test_a_network_that_cannot_be_copied_is_refused() -> None:
    task = toys.toy_task(model=Showing)
    members = [Trainee(task, seed, lr=0.05, data=toys.CLASSES) for seed in range(2)]
    members[0].train(1)  # it now holds outputs that are part of a graph
    with pytest.raises(InvalidArgumentError, match="cannot be computed at once"):
        Population(members, stack=2)


def test_a_network_that_cannot_be_evaluated_in_a_stack_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a GPU members are evaluated at once."""
    task = toys.toy_task(model=BranchingLater)
    members = [Trainee(task, seed, lr=0.05, data=toys.CLASSES) for seed in range(2)]
    monkeypatch.setattr(Stack, "on_gpu", True)
    with pytest.raises(InvalidArgumentError, match="cannot be computed at once"):
        Stack(members)


@pytest.mark.parametrize("model", ["toys:FixedNet", Projecting])
def test_branches_in_a_stack_are_those_of_the_trainee(model: Any) -> None:
    """It is made of other trainees, which have nothing but the snapshot of this one."""
    task = toys.toy_task(model=model, optimizer="SGD")
    trainee, twin = (Trainee(task, 3, lr=0.05, data=toys.CLASSES) for _ in range(2))
    start = trainee.snapshot()
    for number, (losses, branch) in enumerate(trainee.grow([(start, 0.01 * k) for k in range(1, 17)], 3), 1):
        assert (branch is trainee) == (model is Projecting)  # which is refused, and grown one after another
        twin.restore(start)
        twin.lr = 0.01 * number
        torch.testing.assert_close(losses, twin.train(3), rtol=1e-5, atol=0)


def test_a_stack_in_bfloat16() -> None:
    """A bfloat16 rounds by 4e-3."""
    task = toys.toy_task(model="toys:FixedNet", optimizer="SGD")
    members, twins = (
        [
            Trainee(task, seed, lr=0.01, data=toys.CLASSES, arithmetic=Arithmetic(precision="bfloat16"))
            for seed in range(3)
        ]
        for _ in range(2)
    )
    for mine, twin in zip(Population(members, stack=3).train_interval(), twins, strict=True):
        assert mine is not None
        np.testing.assert_allclose(mine.train_losses, twin.train_interval().train_losses, rtol=0.05)


# -- how many at once ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "size"),
    [
        ({"model": "mlp", "model_options": {"width": 8}}, 16),
        ({"model": "toys:FixedNet", "data": "classes"}, 16),
        ({"model": "toys:Normed"}, 16),
        ({"model": "lenet5"}, 1),
        ({"model": "toys:Convolutional"}, 1),
        ({"model": "mlp", "model_options": {"width": 2048}}, 1),  # 144 * 2048 + 2048**2 + ... weights
        ({"model": "toys:NoisyNet"}, 1),
        ({"model": "mlp", "model_options": {"width": 8}, "optimizer": "LBFGS"}, 1),
    ],
    ids=lambda value: "-".join(map(str, value.values())) if isinstance(value, dict) else str(value),
)
def test_stack_size(fields: dict[str, Any], size: int) -> None:
    data = toys.CLASSES if fields.get("data") else IMAGES
    trainee = Trainee(toys.toy_task(**fields), 0, data=data)
    assert stack_size(trainee, 100) == size
    assert stack_size(trainee, 3) == min(3, size)
    assert stack_size(trainee, 1) == 1
    two = Population([trainee, Trainee(trainee.task, 1, data=data)])
    assert two.stack == min(2, size)


def test_a_network_is_small_up_to_a_number_of_multiplications(monkeypatch: pytest.MonkeyPatch) -> None:
    trainee = toys.make_trainee()
    work = trainee.task.batch_size * sum(p.numel() for p in trainee.model.parameters())
    monkeypatch.setattr(stack_sizes, "CPU_WORK", work)
    assert stack_size(trainee, 100) == 16
    monkeypatch.setattr(stack_sizes, "CPU_WORK", work - 1)
    assert stack_size(trainee, 100) == 1
