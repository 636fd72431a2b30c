"""A stack computes what its members compute alone, up to rounding, and refuses networks for which it cannot."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import tiny
import torch
import toys
from torch import Tensor, nn

from lr_gym.errors import InvalidArgumentError
from lr_gym.tasks import Data
from lr_gym.tasks.models import MODELS
from lr_gym.trainee import Measurement, Population, Trainee
from lr_gym.trainee import stack_size as stack_sizes
from lr_gym.trainee.arithmetic import Arithmetic
from lr_gym.trainee.stack import Stack
from lr_gym.trainee.stack_size import stack_size

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
IMAGES = Data.from_arrays(toys.images(shape=(12, 12)))
TARGETS = toys.tiny_data(targets=3)


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


# Weights that take no part are said.
pytestmark = pytest.mark.filterwarnings("ignore:of the model .* no gradient reaches")

STACKED: dict[str, tuple[Data, dict[str, Any]]] = {
    "mlp": (IMAGES, {"model_options": {"width": 8}}),
    "lenet5": (IMAGES, {}),
    # No bias before a BatchNorm in these: its gradient is zero but for rounding, which Adam makes updates of full size.
    "toys:Normed": (toys.CLASSES, {}),
    "toys:Tied": (toys.CLASSES, {}),
    "toys:PartlyFrozen": (toys.CLASSES, {}),
    "toys:Idle": (toys.CLASSES, {}),
    "toys:FixedNet": (TARGETS, {"loss": "mse_loss"}),
    "twofold": (toys.CLASSES, {}),  # two parameters with one gradient
    "showing": (toys.CLASSES, {}),  # keeps its outputs
}
#: Optimizer, options, initial lr, and how far losses may be apart: estimates of a step size amplify rounding.
OPTIMIZERS: dict[str, tuple[Any, dict[str, Any], float, float]] = {
    "nesterov": ("SGD", {"momentum": 0.9, "nesterov": True, "weight_decay": 0.1}, 0.02, 1e-5),
    "Adam": ("Adam", {}, 0.005, 1e-5),
    "centered": ("RMSprop", {"momentum": 0.9, "centered": True}, 0.001, 1e-5),
    "clips": (Clips, {}, 0.05, 1e-5),
    "foreach": ("SGD", {"momentum": 0.9, "nesterov": True, "foreach": True}, 0.02, 1e-5),
    "SGD": ("SGD", {}, 0.05, 1e-5),
    "AMSGrad": ("Adam", {"amsgrad": True}, 0.005, 1e-5),
    "AdamW": ("AdamW", {"weight_decay": 0.1}, 0.005, 1e-5),
    "NAdam": ("NAdam", {}, 0.005, 1e-5),
    "Adagrad": ("Adagrad", {}, 0.02, 1e-5),
    "prodigy": ("prodigy", {}, 1.0, 2e-3),
    "dadapt-adam": ("dadapt-adam", {}, 0.3, 2e-3),
    "dadapt-sgd": ("dadapt-sgd", {"momentum": 0.9}, 0.3, 2e-3),
    "schedule-free-adamw": ("schedule-free-adamw", {}, 2.5e-3, 2e-3),
    "schedule-free-sgd": ("schedule-free-sgd", {"weight_decay": 1e-3}, 1.0, 2e-3),
}


class Elsewhere(Stack[Trainee]):
    """Takes the way of a GPU."""

    on_gpu = True  # type: ignore[assignment]


def make(model: Any = "toys:FixedNet", count: int = 2, lr: float = 0.05, **fields: Any) -> list[Trainee]:
    """Return trainees with different seeds and learning rates."""
    arithmetic = fields.pop("arithmetic", None)
    data, extra = STACKED.get(model, (toys.CLASSES, {}))
    task = toys.toy_task(**({"model": model, "optimizer": "SGD"} | extra | fields))
    rates = [lr * (1 + seed) / count for seed in range(count)]
    return [Trainee(task, seed, lr=rate, data=data, arithmetic=arithmetic) for seed, rate in enumerate(rates)]


def assert_close(
    trainee: Trainee, measured: Measurement | None, twin: Trainee, expected: Measurement | None, rtol: float = 1e-5
) -> None:
    """Compare a member of a stack with a trainee of its own.

    Batched products sum in another order. A float32 rounds by 6e-8; most losses below come out within 5e-7 of each
    other, the features within 1e-5. Anything else than rounding - the batch, the learning rate, the momentum of
    another member, an update more or less - shows in the first digits.
    """
    assert measured is not None
    assert expected is not None
    np.testing.assert_allclose(measured.train_losses, expected.train_losses, rtol=rtol, atol=rtol / 20)
    for name, value in vars(expected.features).items():
        assert getattr(measured.features, name) == pytest.approx(value, rel=20 * rtol, abs=1e-7), name
    assert (measured.val_accuracy, measured.diverged) == (expected.val_accuracy, expected.diverged)
    for mine, own in zip(trainee._tensors(), twin._tensors(), strict=True):
        # As a whole: an adaptive optimizer makes full steps of single gradients that are nothing but rounding.
        assert bool((mine - own).double().norm() <= 100 * rtol * own.double().norm())
    assert (trainee.updates, trainee.best.update) == (twin.updates, twin.best.update)
    assert trainee.best.val_loss == pytest.approx(twin.best.val_loss, rel=rtol)
    (loss, accuracy), (own_loss, own_accuracy) = trainee.test_best(), twin.test_best()
    assert loss == pytest.approx(own_loss, rel=rtol)
    assert accuracy == own_accuracy


# -- members are what they are alone ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "optimizer"),
    [
        *itertools.product(STACKED, ("nesterov", "Adam", "centered")),
        *itertools.product(["twofold"], ("clips", "foreach")),  # where gradients are changed in place
        *itertools.product(["toys:Normed"], list(OPTIMIZERS)[3:]),
    ],
)
def test_members_train_as_alone(model: str, optimizer: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also in the way of a GPU, where they are evaluated at once, in chunks of many examples or few."""
    name, options, lr, rtol = OPTIMIZERS[optimizer]
    fields: dict[str, Any] = {"lr": lr, "optimizer": name, "optimizer_options": options}
    members, elsewhere, twins = (make(model, decision_interval=3, budget=9, **fields) for _ in range(3))
    stacks = Stack(members), Elsewhere(elsewhere)
    for factors, rows in (((1.5, 0.5), 100_000), ((0.5, 0.8), 7), ((1.0, 1.0), 1)):
        monkeypatch.setattr("lr_gym.trainee.stack.EVALUATION_ROWS", rows)
        own = [twin.train_interval() for twin in twins]
        for stack in stacks:
            for member, got, twin, expected in zip(
                stack.members, stack.train_interval([True] * 2), twins, own, strict=True
            ):
                assert_close(member, got, twin, expected, rtol)
        assert np.abs(own[0].train_losses / own[1].train_losses - 1).max() > 1e-3  # what it must tell apart
        for trainee, factor in zip([*members, *elsewhere, *twins], factors * 3, strict=True):
            trainee.lr *= factor
    assert all(module.training for module in stacks[1]._network.modules())


def test_building_a_stack_changes_nothing_and_statistics_are_each_members_own() -> None:
    """Neither the check of the network nor the move to other memory is seen: statistics, data order, cost."""
    members, twins = make("toys:Normed", 3), make("toys:Normed", 3)
    members[0].train(3)
    twins[0].train(3)
    together = Population(members, stack=3)
    for member, twin in zip(members, twins, strict=True):
        assert toys.same(toys.everything(member), toys.everything(twin))
        assert member.extra == twin.extra
        assert all(parameter.grad is None for parameter in member.parameters)
    together.train_interval()
    means = [member.model.get_buffer("norm.running_mean") for member in members]
    assert not toys.same(means[0], means[2])
    assert [int(member.model.get_buffer("norm.num_batches_tracked")) for member in members] == [8, 5, 5]
    means[1].fill_(7.0)
    together.train_interval()
    # A mean forgets a tenth at every update: 7 * 0.9**5 is left, beside what the batches add.
    assert [bool((mean > 3).all()) for mean in means] == [False, True, False]


def test_a_stack_in_bfloat16() -> None:
    """A bfloat16 rounds by 4e-3."""
    members, twins = (make(count=3, lr=0.01, arithmetic=Arithmetic(precision="bfloat16")) for _ in range(2))
    together = Population(members, stack=3)
    for member, twin in zip(members, twins, strict=True):  # the check of the network is in float32, and leaves it so
        assert toys.same(member.evaluate().predictions, twin.evaluate().predictions)
    for mine, twin in zip(together.train_interval(), twins, strict=True):
        assert mine is not None
        np.testing.assert_allclose(mine.train_losses, twin.train_interval().train_losses, rtol=0.05)


# -- what cannot be stacked ------------------------------------------------------------------------------------------


class Own(nn.Module):
    """A dense layer, whatever else it holds, and a forward pass of its own."""

    def __init__(self, way: Callable[..., Tensor], buffers: dict[str, Tensor] | None = None, **held: Any) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 3)
        self.way = way
        for name, buffer in (buffers or {}).items():
            self.register_buffer(name, buffer)
        for name, value in held.items():
            setattr(self, name, value)

    def forward(self, x: Tensor) -> Tensor:
        return self.way(self, x)


def replace(net: Any, x: Tensor) -> Tensor:
    """Put another tensor in the place of the mean: a buffer, or one that nobody knows of."""
    y = net.layer(x - net.mean)
    if net.training:
        net.mean = 0.9 * net.mean + 0.1 * x.detach().mean(0)
    return y


def count(net: Any, x: Tensor) -> Tensor:
    net.calls += net.training
    return net.layer(x) / max(net.calls, 1)


def show(net: Any, x: Tensor) -> Tensor:
    net.outputs = net.layer(x)
    return net.outputs


def look(net: Any, x: Tensor, always: bool = True) -> Tensor:
    """Look at the numbers, always or where nobody trains."""
    y = net.layer(x)
    return y if (net.training and not always) or bool(y.sum() > 0) else 2 * y


def closing() -> nn.Module:
    """A function that holds on to the network in which it was made."""
    net = Own(lambda net, x: net.layer(net.features(x)), {"projection": torch.randn(4, 4)})
    net.features = lambda x: torch.tanh(x @ net.projection)  # type: ignore[assignment, operator]
    return net


def randn() -> nn.Parameter:
    return nn.Parameter(torch.randn(4, 3))


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "dropping": lambda: Own(lambda net, x: net.layer(nn.functional.dropout(x, 0.5, net.training))),
    "jittering": lambda: Own(lambda net, x: net.layer(x * (1 + random.random() * net.training))),
    "branching": lambda: Own(look),
    "branching where nobody trains": lambda: Own(lambda net, x: look(net, x, False)),
    "recurrent": lambda: Own(lambda net, x: net.layer(net.l(x[:, None])[0][:, -1]), l=nn.LSTM(4, 4, batch_first=True)),
    "replacing": lambda: Own(replace, {"mean": torch.zeros(4)}),
    # Beside another buffer the change of the first is small.
    "replacing little": lambda: Own(replace, {"mean": torch.zeros(4), "constant": torch.full((1000,), 100.0)}),
    "remembering": lambda: Own(replace, mean=torch.zeros(4)),
    "counting": lambda: Own(count, calls=0),
    "projecting": lambda: Own(lambda net, x: net.layer(torch.tanh(x @ net.plain)), plain=torch.randn(4, 4)),
    "closing": closing,
    "showing": lambda: Own(show),
    "twofold": lambda: Own(lambda net, x: net.layer(x) + x @ (net.one + net.other), one=randn(), other=randn()),
}


@pytest.fixture(autouse=True, scope="module")
def _networks() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(MODELS, "_things", MODELS._things | NETWORKS)
        yield


ALIKE = "it gives another loss, gradient or running statistic in a stack than alone"
REMEMBERS = "it computes something else the second time: it keeps a memory outside its buffers"


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"model": "toys:NoisyNet"}, "random operation"),
        ({"model": "dropping"}, "random operation"),
        ({"model": "branching"}, "data-dependent control flow"),
        ({"model": "recurrent"}, "lstm"),
        ({"model": "replacing"}, ALIKE),
        ({"model": "replacing little"}, ALIKE),
        ({"model": "projecting"}, ALIKE),
        ({"model": "closing"}, ALIKE),
        ({"model": "jittering"}, REMEMBERS),
        ({"model": "counting"}, REMEMBERS),
        ({"model": "remembering"}, REMEMBERS),
        ({"optimizer": "LBFGS", "optimizer_options": {"max_iter": 3}}, "optimizer 'LBFGS' evaluates the loss itself"),
        ({"arithmetic": Arithmetic(channels_last=True)}, "stacked images have their channels first"),
    ],
    ids=lambda value: str(next(iter(value.values()))) if isinstance(value, dict) else "",
)
def test_what_cannot_be_stacked_is_refused_and_trains_on_alone(fields: dict[str, Any], why: str) -> None:
    """Also what one pass of the first member alone would not show."""
    members, twins = (make(name="mine", **fields) for _ in range(2))
    with pytest.raises(InvalidArgumentError) as caught:
        Population(members, stack=2)
    message = str(caught.value)
    model = members[0].task.model
    assert message.startswith(f"trainees of the task 'mine' (model {model!r}) cannot be computed at once: ")
    assert why in message
    assert message.endswith(
        "; train them one after another (stack=1) or in processes of their own (vectorization_mode='async', "
        "--backend workers)"
    )
    assert "\n" not in message
    if model in ("jittering", "counting", "remembering"):
        return  # no two runs of them are alike, or the check has left its traces in them
    unasked = Population(members)  # nobody asked for a stack: on a CPU little is lost
    assert unasked.stack == 1
    for got, twin in zip(unasked.train_interval(), twins, strict=True):
        assert got is not None
        assert toys.same(got.train_losses, twin.train_interval().train_losses)


def test_what_shows_later_is_refused_then() -> None:
    members = make("showing")
    members[0].train(1)  # it now holds outputs that are part of a graph
    with pytest.raises(InvalidArgumentError, match="cannot be computed at once: the network cannot be copied"):
        Population(members, stack=2)
    with pytest.raises(InvalidArgumentError, match=r"cannot be computed at once: .*data-dependent control flow"):
        Elsewhere(make("branching where nobody trains"))  # on a GPU members are evaluated at once
    population = Population(make(optimizer=Replaces), stack=2)
    with pytest.raises(InvalidArgumentError, match=r"puts its parameters elsewhere \(p\.data = \.\.\.\)"):
        population.train_interval()


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
    assert [stack_size(trainee, count) for count in (100, 3, 1)] == [size, min(3, size), 1]
    assert Population([trainee, Trainee(trainee.task, 1, data=data)]).stack == min(2, size)


def test_a_network_is_small_up_to_a_number_of_multiplications(monkeypatch: pytest.MonkeyPatch) -> None:
    (trainee,) = make(count=1)
    work = trainee.task.batch_size * sum(p.numel() for p in trainee.model.parameters())
    for most, size in ((work, 16), (work - 1, 1)):
        monkeypatch.setattr(stack_sizes, "CPU_WORK", most)
        assert stack_size(trainee, 100) == size
    monkeypatch.undo()
    for most, clearly in ((work, True), (work - 1, False)):
        monkeypatch.setattr(stack_sizes, "CPU_WORK_CLEARLY", most)
        assert stack_sizes.clearly_faster(trainee, 2) == clearly


# -- on a GPU, as far as a CPU can tell; and on a GPU, where there is one ---------------------------------------------


class Rated(Elsewhere):
    """Learning rates are tensors, as they are on a GPU."""

    def put(self, number: int, trainee: Trainee) -> None:
        for group in trainee.optimizer.param_groups:
            group["lr"] = torch.as_tensor(group["lr"], dtype=torch.float64)
            group["capturable"] = True  # a lie that nobody but the stack reads: fused kernels have no such check
        super().put(number, trainee)

    def _optimize(self, gradients: dict[str, Tensor]) -> None:
        """Let the optimizers believe that this is no GPU."""
        groups = [group for member in self.members for group in member.optimizer.param_groups]
        for believed in (False, True):
            for group in groups:
                group["capturable"] = believed
            if not believed:
                super()._optimize(gradients)


def places(stack: Stack[Trainee]) -> dict[tuple[int, int, str], int]:
    """Return where every tensor of an optimizer's state is, by member, parameter and name."""
    return {
        (number, index, key): value.data_ptr()
        for number, member in enumerate(stack.members)
        for index, parameter in enumerate(member.parameters)
        for key, value in member.optimizer.state[parameter].items()
        if isinstance(value, Tensor)
    }


@pytest.mark.parametrize("optimizer", ["nesterov", "AMSGrad"])
def test_states_of_optimizers_live_in_the_stack(optimizer: str) -> None:
    """A captured update works on fixed memory: all that it reads and writes must stay there."""
    name, options, lr, _ = OPTIMIZERS[optimizer]
    members = make("mlp", 4, lr, optimizer=name, optimizer_options=options)
    for member in members:
        member.train_interval()
    stack = Rated(members[:3])
    assert stack._settle()
    before = places(stack)
    assert before
    stack.put(1, members[3])
    stack.members[0].lr = 3.0
    stack.members[2].optimizer.load_state_dict(stack.members[2].optimizer.state_dict())
    assert stack._settle()
    assert places(stack) == before
    for member in stack.members:
        assert member.lr == float(member.optimizer.param_groups[0]["lr"])


def test_what_is_not_on_a_gpu_is_not_captured() -> None:
    """The learning rate is a number here: a captured update would not see it change."""
    members = make("mlp", optimizer="Adam")
    for member in members:
        member.train(1)
    assert not Elsewhere(members)._settle()
    assert not Rated(make("mlp", optimizer="Adam"))._settle()  # no state yet


def on_gpu(optimizer: str) -> list[Trainee]:
    name, options, *_ = OPTIMIZERS[optimizer]
    task = tiny.task(optimizer=name, optimizer_options=options)
    made = [Trainee(task, 5 + number, lr=10 ** -(1 + number), device="cuda") for number in range(3)]
    for trainee in made:
        trainee.train_interval()
    return made


@needs_gpu
@pytest.mark.parametrize("optimizer", ["nesterov", "Adam", "AMSGrad", "centered"])
def test_on_a_gpu(optimizer: str) -> None:
    def close(mine: Measurement | None, theirs: Measurement) -> None:
        assert mine is not None
        np.testing.assert_allclose(mine.train_losses, theirs.train_losses, rtol=1e-4)
        np.testing.assert_allclose([*vars(mine.features).values()], [*vars(theirs.features).values()], 1e-3, 1e-6)
        assert mine.val_accuracy == pytest.approx(theirs.val_accuracy, abs=0.011)  # one of a hundred examples

    members, alone = on_gpu(optimizer), on_gpu(optimizer)
    population = Population(members)
    assert population.stack == 3
    for number in range(5):  # the second is captured, the others replayed
        for trainee in [*members, *alone]:
            trainee.lr *= (0.5, 1.5)[number % 2]
        for mine, trainee in zip(population.train_interval(), alone, strict=True):
            close(mine, trainee.train_interval())
    graph = population._stacks[0]._graph
    assert graph is not None
    assert graph._graph is not None
    population.put(2, on_gpu(optimizer)[0])
    close(population.train_interval()[2], on_gpu(optimizer)[0].train_interval())
