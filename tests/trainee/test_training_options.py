"""Clipping, accumulation, averages, groups and frozen parameters: each as a plain loop of PyTorch's does it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import toys
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from lr_gym.errors import InvalidArgumentError
from lr_gym.tasks.models import build_model
from lr_gym.trainee import Population, Trainee

Update = Callable[[nn.Module, torch.optim.Optimizer, int], None]


def make(seed: int = 0, **fields: Any) -> Trainee:
    defaults: dict[str, Any] = {"model": toys.FixedNet, "optimizer": "SGD", "optimizer_options": {"momentum": 0.9}}
    return Trainee(toys.toy_task(**(defaults | fields)), seed, lr=0.1, data=toys.CLASSES)


def by_hand(trainee: Trainee, optimizer: torch.optim.Optimizer, model: nn.Module, updates: int, k: int, before: Update,
            after: Update) -> list[float]:  # fmt: skip
    losses = []
    batches = list(trainee.peek_batches(updates * k))
    for update in range(updates):
        optimizer.zero_grad()
        parts = [F.cross_entropy(model(b.x), b.y) / k for b in batches[update * k : (update + 1) * k]]
        for part in parts:
            part.backward()
        before(model, optimizer, update)
        optimizer.step()
        after(model, optimizer, update)
        losses.append(sum(part.item() for part in parts))
    return losses


def copy_of(trainee: Trainee) -> nn.Module:
    model = build_model("toys:FixedNet", {}, (4,), 3)
    model.load_state_dict(trainee.model.state_dict())
    return model


def nothing(model: nn.Module, optimizer: torch.optim.Optimizer, update: int) -> None:
    pass


def clip_norm(model: nn.Module, optimizer: torch.optim.Optimizer, update: int) -> None:
    nn.utils.clip_grad_norm_(model.parameters(), 0.1)


def clip_value(model: nn.Module, optimizer: torch.optim.Optimizer, update: int) -> None:
    nn.utils.clip_grad_value_(model.parameters(), 0.01)


def plain(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)


def grouped(model: nn.Module) -> torch.optim.Optimizer:
    weights = [p for name, p in model.named_parameters() if "bias" not in name and "layers.2" not in name]
    biases = [p for name, p in model.named_parameters() if "bias" in name]
    head = [p for name, p in model.named_parameters() if "layers.2.weight" in name]
    groups: list[dict[str, Any]] = [
        {"params": weights},
        {"params": biases, "weight_decay": 0.0},
        {"params": head, "lr": 1.0},
    ]
    return torch.optim.SGD(groups, lr=0.1, momentum=0.9, weight_decay=0.1)


def body_until_three(model: nn.Module, optimizer: torch.optim.Optimizer, update: int) -> None:
    if update < 3:
        for name, parameter in model.named_parameters():
            if name.startswith("layers.0"):
                parameter.grad = None


def head_from_two(model: nn.Module, optimizer: torch.optim.Optimizer, update: int) -> None:
    if update >= 2:
        for name, parameter in model.named_parameters():
            if name.startswith("layers.2"):
                parameter.grad = None


CASES: dict[str, tuple[dict[str, Any], Callable[[nn.Module], torch.optim.Optimizer], Update]] = {
    "clip_norm": ({"clip_norm": 0.1}, plain, clip_norm),
    "clip_value": ({"clip_value": 0.01}, plain, clip_value),
    "accumulate": ({"accumulate": 3}, plain, nothing),
    "groups": (
        {
            "optimizer_options": {"momentum": 0.9, "weight_decay": 0.1},
            "groups": {"*.bias": {"weight_decay": 0.0}, "layers.2.*": {"lr_ratio": 10}},
        },
        grouped,
        nothing,
    ),
    "freed": ({"frozen": {"layers.0.*": [0, 3]}}, plain, body_until_three),
    "frozen": ({"frozen": {"layers.2.*": [2, None]}}, plain, head_from_two),
}


@pytest.mark.parametrize("name", CASES)
def test_options_do_what_a_plain_loop_does(name: str) -> None:
    """Alone and, where they can be stacked, in a stack; and a way back is a way back."""
    fields, optimizer_of, before = CASES[name]
    trainee, members = make(1, **fields), [make(seed, **fields) for seed in (1, 2)]
    model = copy_of(trainee)
    expected = by_hand(trainee, optimizer_of(model), model, 6, trainee.task.accumulate, before, nothing)
    start = trainee.snapshot()
    assert trainee.train(6).tolist() == pytest.approx(expected, rel=1e-5)
    torch.testing.assert_close(list(trainee.model.parameters()), list(model.parameters()), rtol=1e-4, atol=1e-6)
    trained = trainee._copy_of_tensors()
    trainee.restore(start)
    trainee.train(6)
    assert toys.same(trainee._copy_of_tensors(), trained)
    if name in ("freed", "frozen"):
        with pytest.raises(InvalidArgumentError, match="frozen or freed on the way"):
            Population(members, stack=2)
        assert Population(members).stack == 1
        return
    Population(members, stack=2)._stacks[0].train(6)
    torch.testing.assert_close(list(members[0].model.parameters()), list(model.parameters()), rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("optimizer", ["SGD", "Adam"])
@pytest.mark.parametrize("stacked", [False, True])
def test_an_average_of_the_weights_is_evaluated_and_kept(optimizer: str, stacked: bool) -> None:
    fields = {"ema": 0.8, "optimizer": optimizer, "optimizer_options": {}}
    trainee, other, bare = make(3, **fields), make(4, **fields), make(3, **(fields | {"ema": None}))
    averaged = AveragedModel(bare.model, multi_avg_fn=get_ema_multi_avg_fn(0.8))
    population = Population([trainee, other], stack=2) if stacked else None
    for _ in range(2):
        for _ in range(5):
            bare.train(1)
            averaged.update_parameters(bare.model)
        measured = trainee.train_interval() if population is None else population.train_interval()[0]
        x, y = bare.data.x["validation"], bare.data.y["validation"]
        assert measured is not None
        assert measured.features.val_loss == pytest.approx(F.cross_entropy(averaged(x), y).item(), rel=1e-4)
        weights = next(m for m in averaged.modules() if isinstance(m, toys.FixedNet)).layers[2].weight
        assert measured.features.final_weight_mean == pytest.approx(weights.mean().item(), rel=1e-3, abs=1e-6)
        torch.testing.assert_close(trainee.parameters, bare.parameters, rtol=1e-4, atol=1e-6)  # training goes on
    with trainee.preserved():
        trainee.train(3)
    with trainee._evaluated_weights():
        torch.testing.assert_close(trainee.parameters, list(averaged.module.parameters()), rtol=1e-4, atol=1e-6)


def test_what_is_never_trained_is_no_parameter_of_the_optimizer() -> None:
    trainee = make(frozen={"layers.0.*": [0, None]})
    assert [tuple(p.shape) for p in trainee.parameters] == [(3, 3), (3,)]
    before = trainee.model.state_dict()["layers.0.weight"].clone()
    trainee.train(4)
    assert torch.equal(trainee.model.state_dict()["layers.0.weight"], before)
    assert Population([make(s, frozen={"layers.0.*": [0, None]}) for s in (0, 1)], stack=2).train_interval()[0]


def test_a_directions_gradient_is_raw_and_its_update_clipped() -> None:
    trainee = make(clip_norm=0.01, optimizer_options={})
    found = trainee.directions()
    sizes = [torch.cat([t.flatten() for t in part]).norm().item() for part in (found.gradient, found.update)]
    assert sizes[0] > 0.1
    assert sizes[1] == pytest.approx(0.01, rel=1e-3)
    small = make(accumulate=2, optimizer_options={})
    both: list[Tensor] = [F.cross_entropy(small.model(b.x), b.y) for b in small.peek_batches(2)]
    assert small.directions().loss == pytest.approx(sum(loss.item() for loss in both) / 2, rel=1e-6)
    assert (small.extra.forward, small.updates_per_epoch) == (1, pytest.approx(48 / 14))


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"clip_norm": 0}, "clip_norm must lie in"),
        ({"accumulate": 0}, "accumulate must be a whole number"),
        ({"ema": 1.0}, "ema must lie in"),
        ({"ema": 0.9, "optimizer": "schedule-free-sgd", "optimizer_options": {}}, "averages weights itself"),
        ({"groups": {"head.*": {"lr_ratio": 2}}}, r"groups\['head.\*'\] is the name of no .*layers.0.weight"),
        ({"groups": {"*": {"lr": 2}}}, "in place of 'lr'"),
        ({"groups": {"*": {"lr_ratio": 0}}}, "must be a positive number, got 0"),
        ({"groups": {"*": {"tempo": 1}}, "optimizer": "SGD"}, None),
        ({"frozen": {"*": [0, None]}}, "leaves no parameter to train"),
        ({"frozen": {"*": [5, 2]}}, "two counts of updates"),
        ({"frozen": {"nothing": [0, 2]}}, r"frozen\['nothing'\] is the name of no"),
        ({"frozen": ["*"]}, "frozen must be a mapping"),
    ],
)
def test_what_makes_no_sense_is_refused(fields: dict[str, Any], words: str | None) -> None:
    if words is None:
        assert make(**fields).train(1).isfinite().all()  # an optimizer keeps what it does not know
        return
    with pytest.raises(InvalidArgumentError, match=words):
        make(**fields)
