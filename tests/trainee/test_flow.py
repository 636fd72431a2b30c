"""Gradients that reach nothing, parameters that are replaced, and what people write without meaning it."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import own_losses
import people
import pytest
import torch
import toys
from gymnasium.vector import AutoresetMode

from lr_gym import LRTrainingEnv, agents, make_sb3_vec_env, rollout
from lr_gym.envs import LRTrainingVectorEnv
from lr_gym.errors import InvalidArgumentError, LRGymWarning
from lr_gym.tasks import Data
from lr_gym.trainee import Trainee

LINE = toys.tiny_data(targets=1)


def make(data: Data = toys.CLASSES, **fields: Any) -> Trainee:
    return Trainee(toys.toy_task(**({"model": people.line, "optimizer": "SGD"} | fields)), 0, lr=0.05, data=data)


CUT_OFF: list[tuple[dict[str, Any], str]] = [
    ({"loss": own_losses.a_float}, "got a float, which has no gradient: leave out .item"),
    ({"loss": own_losses.nothing}, "got None: is there a return"),
    ({"loss": own_losses.complex_loss}, "got a complex number: return its real part"),
    ({"loss": own_losses.with_parts}, "got a tuple: return the loss alone"),
    ({"loss": own_losses.count_of_errors}, "got torch.int64: counting has no gradient"),
    ({"loss": own_losses.error_rate}, "has no gradient: the outputs are cut off in it"),
    ({"loss": own_losses.made_anew}, "reaches no parameter of the model"),
    ({"model": people.Detached}, "the outputs of the model 'people:Detached' have no gradient: they are cut off"),
    ({"model": people.TakesNoPart}, "or forward uses no parameter that is trained"),
    ({"model": people.Replacing}, "has made 'layer.weight' of its parameters anew"),
    ({"model": people.returns_a_number}, "returns a single number: it must return its outputs for every example"),
]


@pytest.mark.parametrize(("fields", "words"), CUT_OFF)
@pytest.mark.filterwarnings("ignore:Converting a tensor with requires_grad")
def test_what_cannot_learn_is_refused(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidArgumentError, match=words):
        make(**fields)


@pytest.mark.parametrize("kind", ["env", "stack", "workers"])
def test_everywhere_in_a_line(kind: str) -> None:
    """One env, a stack of them, processes: the same words."""
    small = {"batch_size": 10, "train_size": 100, "validation_size": 50}
    task = toys.toy_task(data="fashion-mnist-mini", model=people.detached_images, **small)
    ways: dict[str, Any] = {
        "env": lambda: LRTrainingEnv(task).reset(seed=0),
        "stack": lambda: LRTrainingVectorEnv(2, task, autoreset_mode=AutoresetMode.SAME_STEP).reset(seed=0),
        "workers": lambda: make_sb3_vec_env(2, task, workers=2).reset(),
    }
    with pytest.raises(InvalidArgumentError, match="have no gradient: they are cut off"):
        ways[kind]()


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (people.Replacing, r"has made 'layer.weight' of its parameters anew.*the old ones"),
        (people.SwitchingOff, r"after 1\d\d updates the loss .* of the model .* has no gradient any more.*switched"),
    ],
)
def test_what_cannot_learn_any_more_is_refused(model: type[people.Replacing], words: str) -> None:
    """Later than anybody examines."""
    trainee = make(model=model, model_options={"at": 200})

    def train() -> None:
        for _ in range(60):
            trainee.train_interval()

    with pytest.raises(InvalidArgumentError, match=words):
        train()
    assert torch.is_grad_enabled()


def test_a_network_that_freezes_itself_is_said_once() -> None:
    trainee = make(model=people.FreezingItself, model_options={"at": 200})
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        for _ in range(60):
            trainee.train_interval()
    assert [str(warning.message).partition(": ")[0] for warning in said] == [
        "the model 'people:FreezingItself' has frozen 'layer.weight' itself"
    ]


@pytest.mark.parametrize("around", [torch.no_grad, torch.inference_mode])
@pytest.mark.parametrize("agent", ["constant", "kim-yu", "autolr"])
def test_code_around_it_may_have_switched_gradients_off(agent: str, around: Any) -> None:
    """People evaluate policies under `torch.no_grad()`: the networks are trained all the same."""
    task = toys.toy_task(data="fashion-mnist-mini", batch_size=10, train_size=100, validation_size=50)

    def played() -> Any:
        return rollout(LRTrainingEnv(task), agents.make(agent), seed=0, initial_lr=0.05).val_losses

    expected = played()
    with around():
        assert played() == expected
        envs = LRTrainingVectorEnv(2, task, stack=2)
        envs.reset(seed=0)
        envs.step(np.zeros((2, 1), np.float32))
    envs.step(np.zeros((2, 1), np.float32))


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        (
            {"model": people.HalfDetached},
            "no gradient reaches 'body.weight', 'body.bias': they take no part, or are cut",
        ),
        ({"model": people.InAList}, "keeps what is to be trained in 'layers', where no optimizer finds it"),
        ({"model": people.NoParameter}, "keeps what is to be trained in 'scale', where no optimizer finds it"),
        ({"loss": own_losses.Weighted}, "has parameters of its own, which nobody trains"),
        ({"model": people.probabilities}, "are probabilities already, and cross_entropy takes the softmax once more"),
        ({"model": people.EvalInForward}, "changes the mode of 'itself'"),
        ({"loss": own_losses.not_a_number}, "of the untrained model 'people:line' is not finite"),
    ],
)
def test_what_is_likely_not_meant_is_said_once(fields: dict[str, Any], words: str) -> None:
    with pytest.warns(LRGymWarning, match=words) as said:
        trainee = make(**fields)
    assert len(said) == 1
    assert any(str(said[0].message) == line for line in trainee.findings.lines)
    make(**fields)  # the second time nothing is said


@pytest.mark.parametrize("loss", ["nll_loss", "torch.nn:NLLLoss"])
def test_logarithms_of_probabilities_are_not_above_zero(loss: str) -> None:
    with pytest.raises(InvalidArgumentError, match=r"takes logarithms of probabilities.*end it with log_softmax"):
        make(loss=loss)
    assert make(loss=loss, model=people.log_probabilities).findings.decision == "argmax"


def test_an_optimizer_that_climbs_is_refused() -> None:
    with pytest.raises(InvalidArgumentError, match=r"maximize=True climbs.*the other sign"):
        make(optimizer_options={"maximize": True})


# -- outputs of every kind --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["tuple", "named", "dictionary", "dataclass", "transformers"])
@pytest.mark.parametrize("chunk", [500, 5])
def test_outputs_that_are_more_than_a_tensor(kind: str, chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The loss is given what the model returned; everything else is that of the plain model."""
    monkeypatch.setattr("lr_gym.trainee.evaluated.EVALUATION_CHUNK", chunk)
    plain = make(model=people.line)
    rich = make(model=people.Rich, model_options={"kind": kind}, loss=own_losses.of_rich)
    with torch.no_grad():
        for mine, other in zip(rich.parameters, plain.parameters, strict=True):
            mine.copy_(other)
    for _ in range(2):
        one, two = plain.train_interval(), rich.train_interval()
        assert two.features.val_loss == pytest.approx(one.features.val_loss, rel=1e-5)
        assert two.features.prediction_variance == pytest.approx(one.features.prediction_variance, rel=1e-5)
    assert (two.val_accuracy, rich.test_best()[1]) == (None, None)  # nobody knows which of them names a class
    with pytest.raises(InvalidArgumentError, match="let the loss take the predictions out"):
        make(model=people.Rich, model_options={"kind": kind})


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64, torch.complex64])
def test_networks_in_other_precisions(dtype: torch.dtype) -> None:
    trainee = make(LINE, model=people.Precise, model_options={"dtype": str(dtype)}, loss="mse_loss")
    first, second = (trainee.train_interval().features for _ in range(2))
    assert second.val_loss < first.val_loss
    weight = trainee.final_weight.detach()
    numbers = torch.view_as_real(weight) if dtype.is_complex else weight.float()
    assert second.final_weight_variance == pytest.approx(float(numbers.var(correction=0)), rel=1e-2)


def test_the_examples_are_the_first_dimension(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lr_gym.trainee.evaluated.EVALUATION_CHUNK", 5)
    with pytest.raises(InvalidArgumentError, match=r"returns outputs of shape \(2, 5, 3\) for 5 examples"):
        make(model=people.Members, loss=own_losses.of_members)


# -- how people number and write their data ---------------------------------------------------------------------------


def labelled(function: Any) -> dict[str, Any]:
    return {name: function(array) if name[0] == "y" else array for name, array in toys.table().items()}


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (lambda y: np.array(["cat", "dog", "cow"])[y], "y_train holds words, such as .*return_inverse=True"),
        (lambda y: np.array(["cat", "dog", "cow"], dtype=object)[y], "y_train holds words, such as 'c"),
        (
            lambda y: np.eye(3, dtype=np.int64)[y],
            "one-hot rows, or classes of several places; say targets='probability'",
        ),
        (lambda y: 2 * y - 1, "go from -1 to 3.*if these are no classes, say what they are"),
    ],
)
def test_targets_that_are_no_numbers_of_classes(function: Any, words: str) -> None:
    from lr_gym.tasks.reading import Reading

    with pytest.raises(InvalidArgumentError, match=words):
        Data.from_arrays(labelled(function), Reading(loss="cross_entropy"))


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (lambda y: y + 1, "go from 1 to 3: subtract 1.*has 4 outputs"),
        (lambda y: np.where(np.arange(len(y)) % 4 == 0, 255, y), "0 to 2, and 255: .*'ignore_index': 255.*256 outputs"),
    ],
)
def test_numbers_that_are_likely_no_classes(function: Any, words: str) -> None:
    with pytest.warns(LRGymWarning, match=words):
        Data.from_arrays(labelled(function))


@pytest.mark.parametrize("dtype", [np.int8, np.int32, np.uint8, bool])
def test_labels_of_any_whole_type(dtype: Any) -> None:
    y = Data.from_arrays(labelled(lambda y: (y > 0).astype(dtype))).y["train"]
    assert (y.dtype, int(y.max())) == (torch.int64, 1)


def test_tensors_in_place_of_arrays() -> None:
    tensors = {name: torch.as_tensor(array) for name, array in toys.table().items()}
    tensors["x_train"], tensors["x_test"] = tensors["x_train"].bfloat16(), tensors["x_test"].float().requires_grad_()
    data = Data.from_arrays(tensors)
    torch.testing.assert_close(data.x["train"], toys.CLASSES.x["train"], atol=0.02, rtol=0)
    torch.testing.assert_close(data.x["test"], toys.CLASSES.x["test"], atol=0.02, rtol=0)
    assert not data.x["test"].requires_grad
