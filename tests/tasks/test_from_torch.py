"""Tasks from plain things: what they become, that nothing is confused with anything else, and what is refused."""

from __future__ import annotations

import copy
import functools
import pickle
import subprocess
import sys
import threading
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset, IterableDataset, Subset, TensorDataset

import lr_gym
from lr_gym import Task, tasks
from lr_gym.errors import DataNotFoundError, InvalidArgumentError, LRGymError, UnknownNameError
from lr_gym.processes import WorkerDiedError, start_context
from lr_gym.tasks import handed

ROOT = Path(__file__).resolve().parents[2]
X = torch.randn(120, 5, generator=torch.Generator().manual_seed(0))
Y = (X[:, 0] > 0).long() + (X[:, 1] > 1).long()
PAIRS = {"train": (X[:80], Y[:80]), "validation": (X[80:100], Y[80:100]), "test": (X[100:], Y[100:])}
NET = nn.Linear(5, 3)


class Net(nn.Module):
    def __init__(self, num_outputs: int = 3, width: int = 4) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(5, width), nn.Tanh(), nn.Linear(width, num_outputs))

    def forward(self, x: torch.Tensor) -> Any:
        return self.layers(x)


class Sum(nn.Module):
    def __init__(self, outputs: int = 3) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(5, outputs), nn.Linear(5, outputs)

    def forward(self, x: torch.Tensor, z: torch.Tensor) -> Any:
        return self.first(x) + self.second(z)


class Examples(Dataset[Any]):
    def __len__(self) -> int:
        return 120

    def __getitem__(self, index: int) -> Any:
        return X[index], Y[index]


class Endless(IterableDataset[Any]):
    def __iter__(self) -> Any:
        return iter(Examples())


class Squared(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("scale", torch.ones(()))

    def forward(self, predictions: torch.Tensor, targets: torch.Tensor) -> Any:
        return (self.scale * (predictions - targets) ** 2).mean()


def made(**given: Any) -> Task:
    return Task.from_torch(**({"model": Net, "budget": 20, "batch_size": 16} | PAIRS | given))


def losses(task: Task) -> list[float]:
    env = lr_gym.LRTrainingEnv(task)
    return lr_gym.rollout(env, lambda observation: [0.0], seed=0, initial_lr=1e-2).val_losses


def smoothing(p: Any, t: Any) -> Any:
    return nn.functional.cross_entropy(p, t, label_smoothing=0.1)


def test_what_has_a_name_gets_it() -> None:
    task = made(loss=nn.CrossEntropyLoss(), optimizer=torch.optim.AdamW)
    assert (task.model, task.loss, task.optimizer) == (f"{__name__}:Net", "cross_entropy", "AdamW")
    assert task.name.endswith("/Net")
    assert Task.from_dict(task.to_dict()) == task
    assert copy.deepcopy(task) is task


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"loss": nn.functional.cross_entropy}, ("cross_entropy", {})),
        ({"loss": nn.CrossEntropyLoss}, ("cross_entropy", {})),
        ({"loss": "crossentropyloss"}, ("cross_entropy", {})),
        ({"loss": "Cross_Entropy"}, ("cross_entropy", {})),
        ({"loss": nn.CrossEntropyLoss(label_smoothing=0.1)}, ("cross_entropy", {"label_smoothing": 0.1})),
        ({"loss": nn.CrossEntropyLoss(torch.ones(3))}, ("cross_entropy", {"weight": [1.0, 1.0, 1.0]})),
        (
            {"loss": functools.partial(nn.functional.cross_entropy, ignore_index=7)},
            ("cross_entropy", {"ignore_index": 7}),
        ),
        ({"loss": smoothing}, (f"{__name__}:smoothing", {})),
        ({"optimizer": "adamw"}, ("AdamW", {})),
        ({"optimizer": "SGD", "optimizer_options": {"momentum": 0.9}}, ("SGD", {"momentum": 0.9})),
        ({"optimizer": functools.partial(torch.optim.SGD, momentum=0.9)}, ("SGD", {"momentum": 0.9})),
        ({"model": functools.partial(Net, width=6)}, (f"{__name__}:Net", {"width": 6})),
        ({"model": "MLP"}, ("mlp", {})),
    ],
)
def test_names_and_options(given: dict[str, Any], expected: tuple[str, dict[str, Any]]) -> None:
    field = next(iter(given))
    task = made(**given)
    assert (getattr(task, field), getattr(task, f"{field}_options")) == expected


REAL = {split: (x, x.sum(1)) for split, (x, _) in PAIRS.items()}


@pytest.mark.parametrize(
    "given",
    [
        {"model": lambda: nn.Linear(5, 3)},
        {"model": lambda input_shape, num_outputs: nn.Linear(*input_shape, num_outputs)},
        {"train": (X.numpy(), Y.numpy()), "validation": None, "test": None},
        {"train": TensorDataset(X, Y), "validation": Subset(TensorDataset(X, Y), range(20)), "test": (X, Y)},
        {"train": Examples(), "validation": None, "test": (X, Y), "hold_out": "last"},
        {"train": DataLoader(Examples(), 16, shuffle=True)},
        {"train": Endless()},
        {"train": ((X, X), Y), "validation": None, "test": None, "model": Sum},
        {"train": ({"x": X, "z": X}, Y), "validation": ({"x": X, "z": X}, Y), "test": None, "model": Sum},
        dict.fromkeys(PAIRS, X) | {"model": lambda: nn.Linear(5, 5), "loss": lambda p, t: (p - t).pow(2).mean()},
        REAL | {"model": lambda: nn.Sequential(nn.Linear(5, 1), nn.Flatten(0)), "loss": nn.MSELoss()},
        REAL | {"model": lambda: nn.Sequential(nn.Linear(5, 1), nn.Flatten(0)), "loss": Squared()},
        {"optimizer": lambda parameters, lr: torch.optim.SGD(parameters, lr=lr, momentum=0.5)},
    ],
)
def test_everything_trains(given: dict[str, Any]) -> None:
    first, *_, last = losses(made(**given))
    assert 0 < last < 3 * first


def test_data_are_trained_on_as_they_are_given_and_in_their_own_copy() -> None:
    x = 100 + 5 * X.clone()
    task = made(train=(x, Y))
    x.zero_()
    data = tasks.load(task.data, reading=task.reading)
    assert torch.equal(data.x["train"], 100 + 5 * X)
    assert torch.equal(data.y["test"], PAIRS["test"][1])
    assert data.y["test"].shape == (20,)


def test_series_need_no_axis_for_channels() -> None:
    seen = []

    def network() -> nn.Module:
        net = nn.Sequential(nn.Conv1d(2, 4, 3), nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(4, 3))
        net.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].shape[1:]))
        return net

    losses(made(model=network, train=(torch.randn(80, 2, 9), Y[:80]), validation=None, test=None))
    assert set(seen) == {(2, 9)}


def test_arrays_and_names_give_the_same_numbers_as_registered_ones() -> None:
    arrays = {f"{axis}_{name}": PAIRS[split][at].numpy() for split, name in (("train", "train"), ("validation", "val"),
              ("test", "test")) for at, axis in enumerate("xy")}  # fmt: skip
    tasks.register_data("from-torch-twin", lambda: arrays, replace=True)
    tasks.register_model("from-torch-net", Net, replace=True)
    twin = Task(name="t", data="from-torch-twin", model="from-torch-net", inputs="raw", budget=20, batch_size=16)
    assert losses(made()) == losses(made(model=lambda num_outputs: Net(num_outputs))) == losses(twin)


def test_same_content_same_name_other_content_other_name() -> None:
    assert made().data == made(train=(X[:80].numpy().copy(), Y[:80].numpy())).data
    other = X[:80].clone()
    other[3, 3] += 1e-6
    assert made().data != made(train=(other, Y[:80])).data
    assert made(train=(X[:80].double(), Y[:80])).data != made().data
    assert made(train=Examples()).data != made(train=Examples()).data  # nobody knows what they give


def test_code_is_never_confused() -> None:
    def network(width: int) -> Callable[[], nn.Module]:
        return lambda: nn.Sequential(nn.Linear(5, width), nn.Linear(width, 3))

    small, large = network(2), network(3)
    assert made(model=small) != made(model=large)
    assert made(model=small) == made(model=small)
    assert made(loss=Squared()).loss != made(loss=Squared()).loss


def test_handed_over_things_are_in_no_list() -> None:
    task = made(model=lambda: nn.Linear(5, 3))
    assert not [name for name in tasks.names() if "@" in name]
    with pytest.raises(UnknownNameError) as caught:
        lr_gym.LRTrainingEnv(task.replace(model="nothing")).reset()
    assert "@" not in str(caught.value).partition("Known:")[2]


BAD: list[tuple[dict[str, Any], str]] = [
    ({"model": NET}, "model must be what makes a network.*got a network, a Linear"),
    ({"model": 3}, "model must be a class or function .* got 3"),
    ({"model": lambda: NET}, "returns a network that it has returned before"),
    ({"model": lambda: 3}, "must return a torch.nn.Module, got int"),
    ({"loss": 3}, "loss must be a function"),
    ({"optimizer": torch.optim.SGD(NET.parameters(), lr=1.0)}, "pass torch.optim.SGD and optimizer_options"),
    ({"optimizer": 3}, "optimizer must be a class"),
    ({"optimizer": functools.partial(torch.optim.SGD, lr=1.0)}, "must not hold 'lr'"),
    ({"optimizer": functools.partial(torch.optim.SGD, momentum=0.9), "optimizer_options": {"momentum": 0}}, "twice"),
    ({"train": 5}, "train must be a pair .* got a int"),
    ({"train": (X, Y, Y)}, "train must be a pair .* got 3 things"),
    ({"train": (X, Y[:5]), "test": None}, "differ in length"),
    ({"train": (X[:3], Y[:3]), "test": None}, "at least 5 are needed"),
    ({"train": (np.array(["a"] * 80), Y[:80])}, "must hold numbers"),
    ({"train": ([[1], [1, 2]], Y)}, "must hold arrays of numbers"),
    ({"train": DataLoader(Examples(), 16), "test": None}, "nothing can be held out of train, a DataLoader: give test"),
    ({"train": Endless(), "validation": None}, "nothing can be held out of train, a Endless: give validation"),
    ({"data": "mnist"}, "takes no field 'data'"),
    ({"momentum": 1}, "takes no field 'momentum'"),
]


@pytest.mark.parametrize(("given", "words"), BAD, ids=[words for _, words in BAD])
def test_bad_input_is_refused_in_a_line(given: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidArgumentError, match=words) as caught:
        losses(made(**given))
    assert "\n" not in str(caught.value)


def test_names_compare_without_case_where_somebody_types_them() -> None:
    assert tasks.get("fashion-mnist-mini/mlp", optimizer="adamw").optimizer == "AdamW"
    with pytest.raises(UnknownNameError, match="Did you mean 'AdamW'"):
        lr_gym.LRTrainingEnv(tasks.get("fashion-mnist-mini/mlp").replace(optimizer="adamw")).reset(seed=0)


def test_torchvisions_networks_can_be_given() -> None:
    def factory(**kwargs: Any) -> nn.Module:
        return Net(**kwargs)  # it refuses input_shape, as torchvision's do

    assert losses(made(model=factory))


# -- other processes ---------------------------------------------------------------------------------------------------


def test_a_task_takes_what_was_handed_over_to_another_process(monkeypatch: pytest.MonkeyPatch) -> None:
    task = made(model=lambda: nn.Linear(5, 3), loss=Squared(), train=REAL["train"], validation=None, test=None)
    sent = pickle.dumps(task)
    for known in handed.REGISTRIES.values():
        monkeypatch.setattr(known, "_things", {n: t for n, t in known._things.items() if "@" not in n})
        monkeypatch.setattr(known, "hidden", set())
    assert task.model not in handed.MODELS
    assert pickle.loads(sent) == task
    assert task.model in handed.MODELS
    assert task.data in handed.DATA


def test_what_cannot_be_sent_is_refused_where_it_is_sent() -> None:
    lock = threading.Lock()
    task = made(model=lambda: nn.Linear(5, 3) if lock else None)
    assert losses(task)
    with pytest.raises(InvalidArgumentError, match=r"cannot be sent to a worker process: .*register_model"):
        pickle.dumps(task)


def test_the_description_of_another_process_is_refused_in_a_line() -> None:
    task = Task.from_dict(made(model=lambda: nn.Linear(5, 3)).to_dict() | {"model": "lambda@000000000000"})
    with pytest.raises(UnknownNameError, match="looks like what another process was handed"):
        lr_gym.LRTrainingEnv(task).reset(seed=0)
    with pytest.raises(DataNotFoundError, match="looks like what another process was handed"):
        lr_gym.LRTrainingEnv(task.replace(model="mlp", data="given@000000000000")).reset(seed=0)


PROGRAM = """
import torch
from torch import nn
import lr_gym
from lr_gym import agents
from lr_gym.evaluation import Cell, Contestant, Workers

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(5, 3)

    def forward(self, x):
        return self.layer(x)

def main():
    x, y = torch.ones(60, 5).cumsum(0), torch.arange(60) % 3
    task = lr_gym.Task.from_torch(model=Net, train=(x, y), loss=lambda p, t: nn.functional.cross_entropy(p, t),
                                  budget=20, batch_size=16)
    cells = [Cell(task, Contestant("cosine", {"agent": "cosine"}, agents.make("cosine")), 1e-2, 0)]
    for in_process in (True, False):
        with Workers(1, in_process=in_process) as workers:
            print(workers.attempt(cells)[0].val_losses)
"""


def test_a_metric_may_be_a_lambda_or_have_a_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """It chooses the best weights, and goes along to another process; one that cannot is refused in a line."""

    def share(predictions: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        return (predictions.argmax(1) == targets).float().mean()

    def results(**fields: Any) -> dict[str, Any]:
        env = lr_gym.LRTrainingEnv(made(best_by="metric", **fields))
        return lr_gym.rollout(env, lambda observation: [0.0], seed=0, initial_lr=1e-2).result

    monkeypatch.setattr(handed.REGISTRIES["metric"], "_things", {})
    tasks.register_metric("share-of-hits", share)
    wanted = results(metric="accuracy")
    none = {name: None for name in wanted if name.endswith("_accuracy")}
    wanted = none | {name.replace("accuracy", "metric"): value for name, value in wanted.items()}
    assert results(metric="Share-of-Hits") == results(metric=share) == wanted
    task = made(metric=lambda p, t: share(p, t), train=PAIRS["train"])
    assert task.metric.startswith("lambda@")
    assert Task.from_dict(task.to_dict()) == task
    sent = pickle.dumps(task)
    for known in handed.REGISTRIES.values():
        monkeypatch.setattr(known, "_things", {n: t for n, t in known._things.items() if "@" not in n})
        monkeypatch.setattr(known, "hidden", set())
    assert task.metric not in handed.REGISTRIES["metric"]
    again = pickle.loads(sent)
    assert again == task
    assert lr_gym.LRTrainingEnv(again).reset(seed=0)[1]["val_metric"] >= 0
    lock = threading.Lock()
    task = made(metric=lambda p, t: share(p, t) if lock else 0.0)
    with pytest.raises(InvalidArgumentError, match=r"the metric 'lambda@.* sent to a worker .*register_metric\(name"):
        pickle.dumps(task)
    task = Task.from_dict(made().to_dict() | {"metric": "lambda@000000000000"})
    with pytest.raises(UnknownNameError, match="looks like what another process was handed"):
        lr_gym.LRTrainingEnv(task).reset(seed=0)


def test_metrics_that_are_none() -> None:
    with pytest.raises(InvalidArgumentError, match="must be a function of predictions and targets or a name, got 3"):
        made(metric=3)
    with pytest.raises(InvalidArgumentError, match=r"metric must be one of 'auto', .*register_metric; got 'acuracy'"):
        made(metric="acuracy")
    with pytest.raises(InvalidArgumentError, match=r"cannot be imported by name; .*register_metric.*from_torch"):
        Task(name="a", data="b", metric=lambda p, t: 0.0)
    with pytest.raises(InvalidArgumentError, match="the metric 'f1' is the package's own"):
        tasks.register_metric("f1", lambda p, t: p.mean())
    task = Task.from_dict(made().to_dict() | {"metric": "of-a-plugin"})  # which is not loaded
    with pytest.raises(InvalidArgumentError, match="register_metric; got 'of-a-plugin'"):
        lr_gym.LRTrainingEnv(task).reset(seed=0)


@pytest.mark.slow
def test_classes_of_a_notebook_work_in_workers() -> None:
    words = [sys.executable, "-c", PROGRAM + "main()"]  # as in a notebook, no file has the class
    here, there = subprocess.run(words, capture_output=True, text=True, cwd=ROOT).stdout.splitlines()
    assert here == there


@pytest.fixture
def main_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file of a program that is this process's main one; it has the class `Net`."""
    module = types.ModuleType("__main__")
    module.__file__ = str(tmp_path / "program.py")
    monkeypatch.setattr(Net, "__module__", "__main__")
    module.Net = Net  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "__main__", module)
    (tmp_path / "program.py").write_text("first")
    return tmp_path / "program.py"


def test_a_class_of_the_main_file_has_its_name_until_the_file_changes(
    main_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def name() -> str:
        monkeypatch.setattr(handed.MODELS, "hidden", set())  # as in another process
        return made().model

    first = name()
    assert first == name() != "__main__:Net"
    main_file.write_text("second")
    assert name() != first


def test_a_program_that_workers_cannot_load_is_not_said_to_lack_memory(main_file: Path) -> None:
    assert str(WorkerDiedError()).startswith(
        f"a worker process died ({main_file} has no line `if __name__ == '__main__':`, so each worker process starts"
    )
    main_file.write_text("if __name__ == '__main__':\n    pass\n")
    assert str(WorkerDiedError()).startswith("a worker process died (out of memory, or killed)")
    start_context()
    main_file.unlink()
    with pytest.raises(LRGymError, match=r"there is no file '.*program.py': save the program as a file"):
        start_context()
