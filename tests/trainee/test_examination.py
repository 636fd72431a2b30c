"""What is measured of a task before the first update: what cannot be right is refused, everything else handled."""

from __future__ import annotations

import random
from typing import Any

import own_losses
import people
import pytest
import torch
import toys
from torch import Tensor
from torch.nn import functional as F

from lr_gym import LRTrainingEnv, agents, rollout
from lr_gym.errors import InvalidArgumentError, LookAheadError
from lr_gym.tasks import Data
from lr_gym.trainee import Population, Trainee
from lr_gym.trainee.hidden import differ

LINE = toys.tiny_data(targets=1)
SIGNS = Data.from_arrays({k: (v > 0).astype(int) if k[0] == "y" else v for k, v in toys.table(targets=1).items()})
TOKENS = people.TOKENS


def make(data: Data = toys.CLASSES, seed: int = 0, lr: float = 0.05, **fields: Any) -> Trainee:
    return Trainee(toys.toy_task(**({"model": people.line, "optimizer": "SGD"} | fields)), seed, lr=lr, data=data)


# -- the loss is a mean over examples ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "fields", "words"),
    [
        (LINE, {"model": people.Flat, "loss": "torch.nn:MSELoss"}, r"\(12,\) and targets \(12, 1\) are broadcast"),
        (LINE, {"model": people.Flat, "loss": own_losses.squared}, "pairs every example with every other"),
        (SIGNS, {"model": people.one_logit, "loss": own_losses.focal}, "pairs every example with every other"),
        (LINE, {"loss": own_losses.added}, "Where it adds up, divide"),
        (LINE, {"loss": "mse_loss", "loss_options": {"reduction": "sum"}}, "Where it adds up, divide"),
        (toys.CLASSES, {"model": people.embedder, "loss": own_losses.contrastive}, "reduction='batch'"),
    ],
)
@pytest.mark.filterwarnings("ignore:Using a target size")
def test_a_loss_that_is_no_mean_over_examples_is_refused(data: Data, fields: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidArgumentError, match=rf"is no mean over examples.*{words}"):
        make(data, **fields)
    assert make(data, check=False, **fields).task.check is False  # who says so is trusted


@pytest.mark.parametrize(
    ("data", "fields"),
    [
        (LINE, {"loss": own_losses.squared}),
        (LINE, {"loss": own_losses.root}),
        (LINE, {"loss": toys.plus_one_error}),
        (toys.CLASSES, {"loss": "torch.nn:CrossEntropyLoss", "loss_options": {"label_smoothing": 0.1}}),
        (toys.CLASSES, {"loss": "multi_margin_loss"}),
    ],
)
def test_means_and_what_is_made_of_means_are_no_trouble(data: Data, fields: dict[str, Any]) -> None:
    assert bool(make(data, **fields).train(3).isfinite().all())


# -- what is kept where no state_dict knows it ------------------------------------------------------------------------


@pytest.mark.parametrize(
    "fields",
    [
        {"optimizer": people.Lookahead},
        {"optimizer": people.SAM},
        {"optimizer": people.Patient},
        {"model": people.Stateful},
        {"model": people.Noisy},
        {"model": people.Noisy, "model_options": {"python": True}},
        {"model": people.act_norm},
        {"model": toys.NoisyNet},
    ],
    ids=lambda fields: "-".join(str(getattr(part, "__name__", part)) for part in fields.values()),
)
def test_looking_leaves_no_trace(fields: dict[str, Any]) -> None:
    """Blocks that are taken back, and evaluations, change nothing of the training; evaluations agree."""
    plain, looked_at = make(seed=3, **fields), make(seed=3, **fields)
    for _ in range(4):
        with looked_at.preserved():
            looked_at.train(4)
        first, second = looked_at.evaluate(), looked_at.evaluate()
        assert toys.same(first.predictions, second.predictions)
        assert toys.same(plain.train(3), looked_at.train(3))
    assert toys.same(plain._copy_of_tensors(), looked_at._copy_of_tensors())
    held = looked_at.snapshot()
    assert toys.same(looked_at.train(5), [looked_at.restore(held), looked_at.train(5)][1])


@pytest.mark.parametrize("wrap", [lambda one: one, lambda one: [2, one], lambda one: {"a": (one,)}])
def test_what_differs(wrap: Any) -> None:
    """Of what is kept, before and after: NaN is NaN."""
    nan, zeros = float("nan"), torch.zeros(2)
    for a, b in ((1, 1), ("a", "a"), (nan, -nan), (zeros, torch.zeros(2)), (torch.tensor(nan), torch.tensor(nan))):
        assert not differ(wrap(a), wrap(b))
    for a, b in ((1, 2), (1, 1.0), (nan, 1.0), (1.0, nan), (zeros, torch.zeros(3)), (zeros, torch.ones(2)), ("a", "b")):
        assert differ(wrap(a), wrap(b))


def test_a_tensor_of_two_attributes_stays_one() -> None:
    trainee: Any = make(model=people.Counting)
    with trainee.preserved():
        trainee.train(4)
    trainee.train(3)
    assert trainee.model.seen["batches"] is trainee.model.count
    assert trainee.model.count == 3


def test_lookahead_is_zhangs() -> None:
    """Whatever is tried before each decision: the values are those of the algorithm, computed here."""
    trainee = make(seed=1, optimizer=people.Lookahead)
    weights = [p.detach().clone().requires_grad_() for p in trainee.parameters]
    sgd, slow = torch.optim.SGD(weights, lr=0.05, momentum=0.9), [w.detach().clone() for w in weights]
    for update, (x, y) in enumerate(trainee.peek_batches(9), 1):
        F.cross_entropy(F.linear(x, *weights), y).backward()
        sgd.step()
        sgd.zero_grad()
        if update % 3 == 0:
            for w, s in zip(weights, slow, strict=True):
                s += 0.5 * (w.detach() - s)
                w.data.copy_(s)
    for _ in range(9):
        with trainee.preserved():
            trainee.train(2)
        trainee.train(1)
    torch.testing.assert_close(trainee.parameters, weights)
    assert any("snapshots hold it too" in line for line in trainee.findings.lines)


def test_global_generators_are_neither_read_nor_changed() -> None:
    fields: dict[str, Any] = {"model": people.Noisy, "model_options": {"python": True}}
    random.seed(1)
    before = random.getstate()
    one = make(**fields).train(3)
    assert random.getstate() == before
    random.seed(2)
    assert toys.same(one, make(**fields).train(3))


class Slippery(torch.nn.Module):
    """A memory that nobody can put back."""

    count = 0

    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        Slippery.count += 1
        return self.layer(x) * (1 + Slippery.count % 7)


def test_where_nothing_can_be_taken_back_nobody_looks_ahead(register_data: Any) -> None:
    register_data("slippery", toys.table())
    env = LRTrainingEnv(toys.toy_task(data="slippery", model=Slippery))
    assert len(rollout(env, agents.make("cosine"), seed=0).lrs) == 8
    with pytest.raises(LookAheadError):
        rollout(env, agents.make("line-search"), seed=0)


# -- how a network begins ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", [0, 5])
def test_a_network_initialises_itself_on_the_first_training_batch(seed: int) -> None:
    trainee = make(seed=seed, model=people.act_norm)
    x = trainee.peek_batches(1)[0].x
    torch.testing.assert_close(trainee.parameters[0], -x.mean(0))
    torch.testing.assert_close(trainee.parameters[1], 1 / (x.std(0) + 1e-6))
    assert trainee.findings.initialises
    again = make(seed=seed, model=people.act_norm)
    assert toys.same(trainee._copy_of_tensors(), again._copy_of_tensors())


def test_lazy_layers() -> None:
    one, other, third = (make(seed=seed, model=people.lazy) for seed in (1, 1, 2))
    assert [tuple(p.shape) for p in one.parameters] == [(6, 4), (6,), (3, 6), (3,)]
    assert toys.same(one.train(3), other.train(3))
    assert not toys.same(one.parameters, third.parameters)
    assert Population([make(seed=s, model=people.lazy) for s in range(3)], stack=3).train_interval()[0] is not None


# -- the learning rate reaches the update -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"optimizer": people.Deaf}, "does not use the learning rate"),
        ({"optimizer": "Rprop"}, "does not use the learning rate"),
        ({"optimizer": people.Rateless}, "has no learning rate that can be set.*lr=None"),
        ({"optimizer": people.Relative}, "has no learning rate that can be set.*lr=None"),
        ({"optimizer": "SGD", "model": people.normed, "batch_size": 1}, "takes no batch in training mode of 1 example"),
        ({"optimizer": "Adam", "model": people.Lookup, "data": TOKENS}, "Adam does not support sparse gradients"),
    ],
)
def test_an_optimizer_that_cannot_be_controlled_is_refused(fields: dict[str, Any], words: str) -> None:
    data = fields.pop("data", toys.CLASSES)
    with pytest.raises(InvalidArgumentError, match=words):
        make(data, **fields)


@pytest.mark.parametrize("optimizer", ["SGD", "Adagrad", "SparseAdam"])
def test_sparse_gradients(optimizer: str) -> None:
    model: Any = people.Lookup if optimizer != "SparseAdam" else people.Table
    assert bool(make(TOKENS, model=model, optimizer=optimizer).train(4).isfinite().all())


def test_sharpness_aware_minimization_is_foret_et_als() -> None:
    trainee = make(seed=2, optimizer=people.SAM)
    weights = [p.detach().clone().requires_grad_() for p in trainee.parameters]
    sgd = torch.optim.SGD(weights, lr=0.05, momentum=0.9)
    for x, y in trainee.peek_batches(3):
        F.cross_entropy(F.linear(x, *weights), y).backward()
        grads = [w.grad.clone() for w in weights if w.grad is not None]
        scale = 0.05 / torch.stack([g.norm() for g in grads]).norm()
        near = [(w + g * scale).detach().requires_grad_() for w, g in zip(weights, grads, strict=True)]
        F.cross_entropy(F.linear(x, *near), y).backward()
        for w, n in zip(weights, near, strict=True):
            w.grad = n.grad
        sgd.step()
        sgd.zero_grad()
    trainee.train(3)
    torch.testing.assert_close(trainee.parameters, weights)
    assert trainee.findings.needs_closure


# -- the final layer --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["weight_norm", "spectral_norm", "orthogonal", "old weight_norm", "old spectral_norm"])
@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_weights_that_are_computed_are_observed_as_they_are_used(kind: str) -> None:
    trainee = make(model=people.heads, model_options={"kind": kind}, lr=0.5)
    first = trainee.train_interval().features
    features = trainee.train_interval().features
    assert features.final_weight_variance != first.final_weight_variance
    eye = torch.eye(6)
    trainee.model.eval()
    with torch.no_grad():
        used = (trainee.model[2](eye) - trainee.model[2](torch.zeros(1, 6))).T  # type: ignore[index, operator]
    assert features.final_weight_mean == pytest.approx(float(used.mean()), abs=1e-6)
    assert features.final_weight_variance == pytest.approx(float(used.var(correction=0)), rel=1e-4)


@pytest.mark.filterwarnings("ignore:of the model .* no gradient reaches")
@pytest.mark.parametrize(
    ("data", "model", "name"),
    [
        (toys.CLASSES, people.ConvolutionalHead, "head.weight"),
        (TOKENS, people.Tied, "table.weight"),
        (toys.CLASSES, toys.Tied, "last.weight"),
        (toys.CLASSES, people.lazy, "2.weight"),
        (toys.CLASSES, people.line, "weight"),
    ],
)
def test_the_final_layer_is_the_one_that_makes_the_outputs(data: Data, model: Any, name: str) -> None:
    trainee = make(data, model=model)
    assert trainee.findings.final_layer == name
    assert trainee.final_weight is dict(trainee.model.named_parameters())[name]
