"""What inputs, targets, losses and metrics mean: decided where that cannot be wrong, else asked."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import own_losses
import people
import pytest
import torch
import toys
from torch.nn import functional as F

from lr_gym import LRTrainingEnv, rollout, tasks
from lr_gym.errors import InvalidArgumentError, LRGymWarning
from lr_gym.tasks import Task
from lr_gym.tasks.reading import pytorchs
from lr_gym.trainee import Trainee

Arrays = dict[str, npt.NDArray[Any]]
RNG = np.random.default_rng(0)
ONE_HOT = np.eye(3, dtype=np.float32)


def targets(make: Callable[[npt.NDArray[Any]], npt.NDArray[Any]]) -> Arrays:
    """Return a table whose targets are made of its classes, 0 to 2."""
    return {name: make(array) if name[0] == "y" else array for name, array in toys.table().items()}


KINDS = {
    "classes": targets(lambda y: y),
    "ignored": targets(lambda y: np.where(np.arange(len(y)) % 4 == 0, -100, y)),
    "one-hot": targets(lambda y: ONE_HOT[y]),
    "smoothed": targets(lambda y: 0.9 * ONE_HOT[y] + 0.1 / 3),
    "float classes": targets(lambda y: y.astype(np.float32)),
    "labels": targets(lambda y: (ONE_HOT[y] + ONE_HOT[(y + 1) % 3]).clip(0, 1)),
    "bits": targets(lambda y: (y > 0).astype(np.int64)),
    "float bits": targets(lambda y: (y > 0).astype(np.float32)),
    "counts": targets(lambda y: 3 * y),
    "signs": targets(lambda y: np.where(y > 0, 1.0, -1.0)),
    "real": targets(lambda y: y + RNG.normal(size=len(y))),
}


@pytest.fixture(autouse=True)
def _registered(register_data: Any) -> None:
    for name, arrays in KINDS.items():
        register_data(name, arrays)


def make(data: str, loss: Any, seed: int = 0, **fields: Any) -> Trainee:
    defaults: dict[str, Any] = {"model": people.line, "optimizer": "SGD", "loss": loss}
    return Trainee(toys.toy_task(**(defaults | fields | {"data": data})), seed, lr=0.1)


# -- what targets are -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "loss", "kind", "outputs"),
    [
        ("classes", "cross_entropy", "class", 3),
        ("classes", own_losses.own_cross_entropy, "class", 3),
        ("ignored", "cross_entropy", "class", 3),
        ("one-hot", "cross_entropy", "probability", 3),
        ("smoothed", "torch.nn:CrossEntropyLoss", "probability", 3),
        ("labels", "binary_cross_entropy_with_logits", "labels", 3),
        ("bits", "torch.nn:BCEWithLogitsLoss", "labels", 1),
        ("float bits", "binary_cross_entropy_with_logits", "labels", 1),
        ("counts", "poisson_nll_loss", "count", 1),
        ("signs", "soft_margin_loss", "sign", 1),
        ("real", "mse_loss", "real", 1),
        ("real", toys.plus_one_error, "real", 1),
    ],
)
def test_the_kind_of_targets_is_decided_by_numbers_and_loss(data: str, loss: Any, kind: str, outputs: int) -> None:
    trainee = make(data, loss)
    reading, y = trainee.data.reading, trainee.data.y["train"]
    assert (reading.targets, trainee.data.num_outputs, reading.standardise) == (kind, outputs, kind == "real")
    assert y.dtype == (torch.int64 if kind == "class" else torch.float32)
    if kind == "real":
        assert (float(y.mean()), float(y.std(correction=0))) == pytest.approx((0, 1), abs=1e-5)
    else:  # the numbers are what they were
        assert set(y.unique().tolist()) <= set(np.unique(KINDS[data]["y_train"]).astype(np.float32).tolist())
    assert any(f"targets of '{data}' are" in line for line in trainee.findings.lines)
    assert bool(trainee.train(5).isfinite().all())


@pytest.mark.parametrize(
    ("data", "loss", "words"),
    [
        ("float classes", "cross_entropy", "can be read in several ways.*targets='class'"),
        ("counts", "mse_loss", "can be read in several ways.*'real', 'count' or 'class'"),
        ("one-hot", own_losses.squared, "look like probabilities.*targets='probability'"),
        ("labels", own_losses.squared, "look like several labels.*targets='labels'"),
        ("signs", own_losses.squared, "look like signs.*targets='sign'"),
        ("float classes", own_losses.squared, "look like counts.*targets='count'"),
        ("bits", "soft_margin_loss", "holds 0; signs.*soft_margin_loss.*are -1 or 1"),
        ("real", "poisson_nll_loss", "counts.*are numbers of at least 0"),
        ("real", "binary_cross_entropy_with_logits", "are numbers from 0 to 1"),
    ],
)
def test_what_could_be_wrong_is_asked(data: str, loss: Any, words: str) -> None:
    with pytest.raises(InvalidArgumentError, match=words):
        make(data, loss)


@pytest.mark.parametrize(
    ("data", "loss", "fields", "first"),
    [
        ("float classes", "cross_entropy", {"targets": "class"}, None),
        ("counts", "mse_loss", {"targets": "real"}, None),
        ("counts", "mse_loss", {"targets": "count"}, None),
        ("counts", "mse_loss", {"targets": "real", "standardise": False}, None),
        ("one-hot", own_losses.squared, {"targets": "probability"}, None),
    ],
)
def test_the_answer_is_taken(data: str, loss: Any, fields: dict[str, Any], first: Any) -> None:
    trainee = make(data, loss, **fields)
    y = trainee.data.y["train"]
    raw = set(np.unique(KINDS[data]["y_train"]).astype(np.float32).tolist())
    assert (set(y.float().unique().tolist()) == raw) == (fields != {"targets": "real"})
    assert trainee.data.reading.targets == fields["targets"]


def test_smoothed_labels_are_learned_as_pytorch_does() -> None:
    trainee = make("smoothed", "cross_entropy")
    weights = [p.detach().clone().requires_grad_() for p in trainee.parameters]
    batch = trainee.peek_batches(1)[0]
    assert torch.allclose(batch.y.sum(1), torch.ones(7))
    loss = F.cross_entropy(F.linear(batch.x, *weights), batch.y)
    assert float(trainee.train(1)[0]) == pytest.approx(loss.item(), rel=1e-6)


def test_without_targets_the_loss_is_given_the_inputs(register_data: Any) -> None:
    register_data("alone", {name: array for name, array in toys.table().items() if name[0] == "x"})
    trainee = make("alone", "mse_loss", model=people.autoencoder, targets="none")
    first, last = (trainee.train_interval() for _ in range(2))
    assert last.features.val_loss < first.features.val_loss
    assert (trainee.data.num_outputs, last.val_accuracy) == (4, None)


def test_fields_that_make_no_sense() -> None:
    for wrong in ({"targets": "int"}, {"reduction": "sum"}, {"hold_out": "first"}, {"metric": "auc"}, {"check": 1}):
        with pytest.raises(InvalidArgumentError, match=next(iter(wrong))):
            toys.toy_task(**wrong)
    with pytest.raises(InvalidArgumentError, match="best_by='metric' needs a metric"):
        toys.toy_task(best_by="metric", metric="none")
    with pytest.raises(InvalidArgumentError, match="standardise=True is for real targets"):
        make("counts", "poisson_nll_loss", standardise=True)


def test_records_of_tasks_without_the_new_fields_keep_their_hash() -> None:
    """Golden: what `to_dict` gave before they came."""
    names = "name data model model_options loss loss_options optimizer optimizer_options batch_size budget "
    names += "decision_interval initial_lrs train_size validation_size final_layer loss_ceiling"
    assert list(toys.toy_task().to_dict()) == names.split()
    task = toys.toy_task(metric=own_losses.mean_metric, targets="real")
    assert task.to_dict()["metric"] == "own_losses:mean_metric"
    assert Task.from_dict(task.to_dict()) == task


@pytest.mark.parametrize(
    ("name", "known"),
    [
        ("mse_loss", "mse_loss"),
        ("torch.nn:MSELoss", "mse_loss"),
        ("torch.nn.modules.loss:PoissonNLLLoss", "poisson_nll_loss"),
        ("torch.nn.functional:cross_entropy", "cross_entropy"),
        ("own_losses:squared", None),
        ("mine:MSELoss", None),
        ("gaussian_nll_loss", None),
    ],
)
def test_losses_of_pytorch_by_any_name(name: str, known: str | None) -> None:
    assert pytorchs(name) == known


# -- inputs -----------------------------------------------------------------------------------------------------------


def series(scale: tuple[float, ...]) -> Arrays:
    rng = np.random.default_rng(1)
    arrays: Arrays = {}
    for split, count in (("train", 60), ("test", 12)):
        arrays[f"x_{split}"] = rng.normal(size=(count, 5, 3)) * scale + 7
        arrays[f"y_{split}"] = rng.integers(0, 2, count)
    return arrays


def test_features_of_series_have_scales_of_their_own(register_data: Any) -> None:
    register_data("series", series((1.0, 100.0, 0.01)))
    with pytest.raises(InvalidArgumentError, match=r"x_train \(60, 5, 3\).*differ .* times.*inputs='series'"):
        make("series", "cross_entropy", model=people.SeriesNet)
    trainee = make("series", "cross_entropy", model=people.SeriesNet, inputs="series")
    x = trainee.data.x["train"]
    assert x.shape == (48, 5, 3)
    torch.testing.assert_close(x.mean((0, 1)), torch.zeros(3), atol=1e-4, rtol=0)
    torch.testing.assert_close(x.std((0, 1), correction=0), torch.ones(3), atol=1e-4, rtol=0)
    signal = make("series", "cross_entropy", model="mlp", inputs="signal").data.x["train"]
    torch.testing.assert_close(signal.std((0, 2), correction=0), torch.ones(5), atol=1e-4, rtol=0)
    raw = make("series", "cross_entropy", model="mlp", inputs="raw").data.x["train"]
    assert float(raw[:, :, 0].mean()) == pytest.approx(7, abs=0.5)
    register_data("alike", series((1.0, 2.0, 0.5)))
    assert make("alike", "cross_entropy", model="mlp").data.input_shape == (1, 5, 3)  # as an image, as ever


def test_ragged_arrays_are_refused_in_a_line(register_data: Any) -> None:
    register_data("ragged", toys.table() | {"x_train": [[1.0, 2.0], [3.0]] * 30})
    with pytest.raises(InvalidArgumentError, match="x_train must be an array, and its examples differ in shape: pad"):
        make("ragged", "cross_entropy")


# -- metrics ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "loss", "model", "decision"),
    [
        ("classes", "cross_entropy", people.line, "argmax"),
        ("classes", own_losses.own_cross_entropy, people.line, "argmax"),
        ("classes", own_losses.own_nll_of_probabilities, people.probabilities, "argmax"),
        ("smoothed", "cross_entropy", people.line, "argmax"),
        ("bits", own_losses.shaped_focal, people.one_logit, "above 0"),
        ("bits", "binary_cross_entropy_with_logits", people.line, "above 0"),
        ("float bits", "binary_cross_entropy", people.one_probability, "above 0.5"),
        ("signs", "soft_margin_loss", people.line, "above 0"),
        ("classes", own_losses.ordinal, people.line, "none"),
        ("classes", own_losses.ordinal, people.two_outputs, "none"),
        ("counts", "poisson_nll_loss", people.line, "none"),
        ("real", "mse_loss", people.line, "none"),
    ],
)
def test_accuracy_is_shown_where_predictions_name_a_class(data: str, loss: Any, model: Any, decision: str) -> None:
    trainee = make(data, loss, model=model)
    assert trainee.findings.decision == decision
    measured = trainee.train_interval()
    outputs, y = trainee.evaluate().predictions, trainee.data.y["validation"]
    if decision == "none":
        assert measured.val_accuracy is None
        return
    named = outputs.argmax(1) if decision == "argmax" else (outputs > (0 if decision == "above 0" else 0.5))
    wanted = y.argmax(1) if data == "smoothed" else y > 0 if data == "signs" else y
    expected = (named.reshape(-1).long() == wanted.reshape(-1).long()).float().mean()
    assert measured.val_accuracy == pytest.approx(float(expected))


def test_a_contrastive_loss_has_no_accuracy_and_is_evaluated_in_batches(register_data: Any) -> None:
    """Also where it has as many outputs as there are classes."""
    register_data("many", toys.table(train=200, test=40))
    trainee = make("many", own_losses.contrastive, model=people.embedder, reduction="batch", batch_size=8)
    measured = trainee.train_interval()
    assert (trainee.findings.decision, measured.val_accuracy) == ("none", None)
    outputs, y = trainee.evaluate().predictions, trainee.data.y["validation"]
    batches = [float(own_losses.contrastive(outputs[at : at + 8], y[at : at + 8])) for at in range(0, 40, 8)]
    assert measured.features.val_loss == pytest.approx(np.mean(batches), rel=1e-5)
    assert measured.features.val_loss == pytest.approx(measured.features.train_loss, rel=0.3)


def test_ignored_targets_do_not_count() -> None:
    trainee = make("ignored", "cross_entropy")
    measured = trainee.train_interval()
    outputs, y = trainee.evaluate().predictions, trainee.data.y["validation"]
    kept = y != -100
    assert 0 < int(kept.sum()) < len(y)
    assert measured.val_accuracy == pytest.approx(float((outputs.argmax(1) == y)[kept].float().mean()))
    with pytest.raises(InvalidArgumentError, match="labels go from -100"):
        make("ignored", own_losses.own_cross_entropy)


def test_f1_is_the_mean_over_the_classes() -> None:
    sklearn = pytest.importorskip("sklearn.metrics")
    for data, loss, average in (
        ("classes", "cross_entropy", "macro"),
        ("bits", "torch.nn:BCEWithLogitsLoss", "binary"),
    ):
        trainee = make(data, loss, metric="f1")
        measured = trainee.train_interval()
        outputs, y = trainee.evaluate().predictions, trainee.data.y["validation"]
        named = outputs.argmax(1) if average == "macro" else (outputs > 0).int()
        assert measured.val_accuracy == pytest.approx(sklearn.f1_score(y.int(), named, average=average), rel=1e-5)


def test_a_metric_of_ones_own_is_shown_under_its_own_name_and_may_choose_the_best_weights() -> None:
    task = toys.toy_task(
        data="real", model=people.line, loss="mse_loss", metric=own_losses.mean_metric, best_by="metric"
    )
    env = LRTrainingEnv(task)
    record = rollout(env, lambda _: [0.5], seed=0, initial_lr=0.01)
    assert record.val_accuracies == [None] * 8
    _, info = env.reset(seed=0, options={"initial_lr": 0.01})
    metrics = [info["val_metric"]]
    while "result" not in info:
        *_, info = env.step([0.5])
        metrics.append(info["val_metric"])
    best = env.trainee.best
    assert best.metric == max(metrics) == metrics[best.update // 5 - 1]
    assert {"test_metric", "final_test_metric"} <= info["result"].keys()
    assert info["result"]["test_accuracy"] is None


@pytest.mark.parametrize("loss", ["cross_entropy", "torch.nn:CrossEntropyLoss"])
def test_weights_of_classes(loss: str) -> None:
    trainee = make("classes", loss, loss_options={"weight": [1.0, 5.0, 0.5]})
    measured = trainee.train_interval()
    outputs, y = trainee.evaluate().predictions, trainee.data.y["validation"]
    expected = F.cross_entropy(outputs, y, weight=torch.tensor([1.0, 5.0, 0.5]))
    assert measured.features.val_loss == pytest.approx(float(expected), rel=1e-6)
    with pytest.raises(InvalidArgumentError, match=r"weight of the loss .* must be numbers"):
        make("classes", loss, loss_options={"weight": ["a"]})


def test_a_metric_that_means_nothing_is_refused() -> None:
    with pytest.raises(InvalidArgumentError, match="metric='accuracy' needs predictions that name a class"):
        make("real", "mse_loss", metric="accuracy")
    assert make("classes", "cross_entropy", metric="none").train_interval().val_accuracy is None


# -- the order of examples --------------------------------------------------------------------------------------------


def test_a_sorted_file_is_seen(register_data: Any) -> None:
    arrays = toys.table(train=90)
    order = np.argsort(arrays["y_train"], kind="stable")
    arrays |= {name: arrays[name][order] for name in ("x_train", "y_train")}
    arrays |= {"x_val": arrays["x_test"], "y_val": arrays["y_test"]}
    register_data("sorted", arrays)
    with pytest.warns(LRGymWarning, match=r"first 20 examples of 'sorted' \(train_size=20\) have 1 of the 3 classes"):
        make("sorted", "cross_entropy", train_size=20)


def test_windows_of_a_series_are_seen(register_data: Any) -> None:
    rng = np.random.default_rng(0)
    line = np.cumsum(rng.normal(size=300))
    windows = np.stack([line[at : at + 12] for at in range(250)])
    arrays = {"x_train": windows[:200], "y_train": line[12:212], "x_test": windows[200:], "y_test": line[212:262]}
    register_data("windows", arrays)
    with pytest.warns(LRGymWarning, match="neighbours in x_train are alike.*hold_out='last'"):
        make("windows", "mse_loss")
    trainee = make("windows", "mse_loss", hold_out="last")
    raw = tasks.Data.from_arrays(arrays | {"x_val": windows[160:200], "y_val": line[172:212]})
    assert len(trainee.data.y["validation"]) == 40
    lasts = (trainee.data.y["validation"] - trainee.data.y["validation"].mean()) / trainee.data.y["validation"].std()
    expected = (raw.y["validation"] - raw.y["validation"].mean()) / raw.y["validation"].std()
    torch.testing.assert_close(lasts, expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("levels", [1.0, 1 / 16], ids=["0 to 16", "0 to 1"])
def test_levels_of_grey_are_images(register_data: Any, levels: float) -> None:
    """As scikit-learn's digits are: some pixels vary fifty times less than others."""
    data = series((1.0, 1.0, 1.0))
    for name in [name for name in data if name[0] == "x"]:
        data[name] = (np.abs(data[name] * [1, 100, 16]).clip(0, 16).round() * levels).astype(np.float32)
    register_data("levels", data)
    assert make("levels", "cross_entropy", model="mlp").data.input_shape == (1, 5, 3)
