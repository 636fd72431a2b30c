"""`LRControllerCallback` in Lightning's trainers, against the same training as a plain loop."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch.callbacks import EarlyStopping, GradientAccumulationScheduler, ModelCheckpoint
from lightning.pytorch.plugins import MixedPrecision
from loops import same_weights
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

import lr_gym
from lr_gym.errors import FileFormatError, InvalidArgumentError, UnknownNameError
from lr_gym.integrations.lightning import LRControllerCallback
from lr_gym.loop import LRControllerWarning

# What Lightning has to say about small trainings: workers, loggers, folders.
pytestmark = [
    pytest.mark.filterwarnings("ignore::lightning.fabric.utilities.warnings.PossibleUserWarning"),
    pytest.mark.filterwarnings("ignore:.*(LeafSpec|tensorboardX|Checkpoint directory|callbacks used to create the)"),
]

X = torch.randn(120, 3, generator=torch.Generator().manual_seed(0))
Y = torch.tanh(X @ torch.tensor([[1.0], [-2.0], [0.5]]))
BATCHES = 10


def loader(data: Any = None) -> DataLoader[Any]:
    return DataLoader(TensorDataset(X[40:], Y[40:]) if data is None else data, batch_size=8)


def validation(module: Module) -> Any:
    return lr_gym.validation(module.net, functional.mse_loss, X[:40], Y[:40])


class Module(pl.LightningModule):
    """A small regression."""

    def __init__(self, lr: float = 1e-4, schedule: Any = None, manual: int = 0) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.net = nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 1))
        self.lr, self.schedule, self.manual = lr, schedule, manual
        self.automatic_optimization = not manual
        self.used: list[float] = []

    def training_step(self, batch: list[Tensor], index: int) -> Tensor:
        loss = functional.mse_loss(self.net(batch[0]), batch[1])
        self.log("train_loss", loss)
        if self.manual:
            self.manual_backward(loss)
            optimizers = self.optimizers()
            for optimizer in optimizers if self.manual == 2 else [optimizers]:
                optimizer.step()
                optimizer.zero_grad()
        return loss

    def validation_step(self, batch: list[Tensor], index: int) -> None:
        self.log("val_loss", functional.mse_loss(self.net(batch[0]), batch[1]))

    def on_before_optimizer_step(self, optimizer: Any) -> None:
        self.used.append(optimizer.param_groups[0]["lr"])

    def configure_optimizers(self) -> Any:
        if self.manual == 2:
            return [torch.optim.SGD(self.net[place].parameters(), lr=self.lr * (place + 1)) for place in (0, 2)]
        optimizer = torch.optim.Adam(self.parameters(), lr=self.lr)
        return optimizer if self.schedule is None else self.schedule(optimizer)


def trainer(*callbacks: Any, **options: Any) -> pl.Trainer:
    quiet = {
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
    }
    return pl.Trainer(**(quiet | {"accelerator": "cpu", "max_epochs": 4} | options), callbacks=list(callbacks))


def fit(
    callback: LRControllerCallback, module: Module | None = None, *more: Any, path: Any = None, **options: Any
) -> Module:
    module = Module() if module is None else module
    trainer(callback, *more, **options).fit(
        module, loader(), DataLoader(TensorDataset(X[:40], Y[:40]), batch_size=40), ckpt_path=path
    )
    return module


def plain(epochs: int, accumulate: int = 1, **options: Any) -> tuple[Module, lr_gym.LRController]:
    """Train in a loop of one's own."""
    module = Module()
    optimizer = module.configure_optimizers()
    controller = lr_gym.LRController(optimizer, validate=validation(module), **options)
    for _ in range(epochs):
        for number, (x, y) in enumerate(loader(), start=1):
            loss = functional.mse_loss(module.net(x), y)
            (loss / accumulate).backward()
            if number % accumulate == 0 or number == BATCHES:
                module.used.append(controller.lr)
                optimizer.step()
                optimizer.zero_grad()
            controller.step(loss)
    return module, controller


# -- the training is that of a plain loop ------------------------------------------------------------------------------


@pytest.mark.parametrize(("accumulate", "updates"), [(1, 10), (4, 3)])
def test_lightning_and_the_loop_are_the_same(accumulate: int, updates: int) -> None:
    callback = LRControllerCallback("universal", validation=validation, decisions=6)
    module = fit(callback, accumulate_grad_batches=accumulate, max_epochs=4)
    expected, controller = plain(4, accumulate, total_updates=4 * updates, decisions=6)
    assert module.used == expected.used
    assert len(module.used) == 4 * updates
    assert callback.controller.history == controller.history
    assert same_weights(module, expected)


@pytest.mark.parametrize(
    ("options", "total", "updates"),
    [
        ({"max_steps": 25, "max_epochs": -1}, 25, 25),
        ({"max_steps": 25}, 25, 25),
        ({"max_steps": 400, "max_epochs": 2}, 20, 20),
        ({"limit_train_batches": 3}, 12, 12),
        ({"stop": True}, 40, 20),
    ],
    ids=["steps", "steps first", "epochs first", "fewer batches", "early stop"],
)
def test_how_long_a_training_is(options: dict[str, Any], total: int, updates: int) -> None:
    callback = LRControllerCallback("linear", decisions=5)
    more = [EarlyStopping("val_loss", stopping_threshold=1e9)] if options.pop("stop", False) else []
    fit(callback, None, *more, **options, min_epochs=2 if more else None)
    assert callback.controller.updates == updates
    decided = max(end for end in (round(total * part / 5) for part in range(5)) if end < updates)
    assert callback.controller.lr == pytest.approx(1e-4 * (1 - decided / total), rel=1e-5)


class Watching:
    """Keeps what it is told of a training, and does nothing."""

    looks_at_validation = False

    def reset(self, watched: Any) -> None:
        self.watched = watched

    def predict(self, observation: Any, *_: Any) -> Any:
        return [0.0], None


def test_an_epoch_is_the_trainings_own() -> None:
    agent = Watching()
    fit(LRControllerCallback(agent), accumulate_grad_batches=4)
    assert agent.watched.updates_per_epoch == 3
    fit(LRControllerCallback(agent, updates_per_epoch=7))
    assert agent.watched.updates_per_epoch == 7


# -- precision ---------------------------------------------------------------------------------------------------------


def test_bfloat16() -> None:
    callback = LRControllerCallback("universal", validation=validation)
    module = fit(callback, Module(lr=1e-3), precision="bf16-mixed", max_epochs=10)
    assert callback.controller.history[-1]["val_loss"] < 0.5 * callback.controller.history[0]["val_loss"]
    assert len(set(module.used)) > 20


def test_updates_that_the_scaler_skips_are_not_counted() -> None:
    """The first scale is too large for half precision: gradients overflow until it has been halved often enough."""
    callback = LRControllerCallback("linear", decisions=10)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**40)
    fit(callback, plugins=[MixedPrecision("16-mixed", "cpu", scaler)])
    skipped = 40 - callback.controller.updates
    assert skipped > 10
    assert scaler.get_scale() == 2.0 ** (40 - skipped)
    assert len(callback.controller.history) == callback.controller.updates // 4


# -- validation --------------------------------------------------------------------------------------------------------


def test_a_metric_that_lightning_logs() -> None:
    """Validation every seven batches; a decision waits for it, and takes the latest."""
    callback = LRControllerCallback("plateau", monitor="val_loss", decisions=10)
    seen: list[tuple[int, float]] = []

    class Watch(pl.Callback):
        def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
            seen.append((trainer.global_step, float(trainer.callback_metrics["val_loss"])))

    fit(callback, None, Watch(), val_check_interval=7, check_val_every_n_epoch=None)
    told = dict(seen[1:])  # the first is Lightning's trial run
    assert list(told) == [7, 14, 21, 28, 35]
    assert [entry["updates"] for entry in callback.controller.history] == [7, 14, 21, 28, 35]
    assert [entry["val_loss"] for entry in callback.controller.history] == list(told.values())


def test_a_validation_of_ones_own() -> None:
    """What `lr_gym.validation` returns, or a function without arguments that returns two tensors."""
    module = Module()
    given = validation(module)
    histories = []
    for each in (given, lambda: given()):
        callback = LRControllerCallback("universal", validation=each, decisions=5)
        module.load_state_dict(Module().state_dict())
        fit(callback, module)
        histories.append(callback.controller.history)
    assert histories[0] == histories[1]


# -- taking up again ---------------------------------------------------------------------------------------------------


class StopAfter(pl.Callback):
    def __init__(self, epochs: int) -> None:
        self.epochs = epochs

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        trainer.should_stop = trainer.current_epoch + 1 >= self.epochs


@pytest.mark.parametrize(
    "options",
    [
        {"agent": "universal", "validation": validation, "decisions": 6},
        {"agent": "arc", "validation": validation, "decisions": 40},
        {"agent": "plateau", "monitor": "val_loss", "decisions": 3},
    ],
    ids=["universal", "arc", "monitor"],
)
def test_a_training_is_taken_up_again_bit_for_bit(options: dict[str, Any], tmp_path: Path) -> None:
    whole = LRControllerCallback(**options)
    expected = fit(whole, max_epochs=8)
    save = ModelCheckpoint(tmp_path, filename="half", save_last=False)
    first = fit(LRControllerCallback(**options), None, StopAfter(4), save, max_epochs=8, enable_checkpointing=True)
    again = LRControllerCallback(**options)
    second = fit(again, path=tmp_path / "half.ckpt", max_epochs=8)
    assert first.used + second.used == expected.used
    assert len(expected.used) == 80
    assert same_weights(second, expected)
    assert again.controller.history == whole.controller.history
    assert torch.load(tmp_path / "half.ckpt", weights_only=True)["callbacks"]  # no code in it

    fit(again, max_epochs=8)  # from the beginning: what was loaded before is forgotten
    assert again.controller.history == whole.controller.history


def test_a_training_is_made_longer(tmp_path: Path) -> None:
    for agent in ("universal", "cosine"):
        path = tmp_path / f"{agent}.ckpt"
        save = ModelCheckpoint(tmp_path, filename=agent, save_last=False)
        first = LRControllerCallback(agent, validation=validation)
        fit(first, None, StopAfter(4), save, max_epochs=8, enable_checkpointing=True)
        longer = LRControllerCallback(agent, validation=validation)
        if agent == "cosine":  # laid out for the whole training
            with pytest.raises(FileFormatError, match="the state is of a training with total_updates=80 and intervals"):
                fit(longer, path=path, max_epochs=12)
        else:
            fit(longer, path=path, max_epochs=12)
            assert longer.controller.total_updates == longer.controller.updates == 120


@pytest.mark.filterwarnings("ignore:.*back to where this interval began")
def test_a_training_that_breaks_is_mended() -> None:
    """The module is what goes back, and of what the best weights are kept."""
    callback = LRControllerCallback("constant", validation=validation, decisions=10, restore=True, keep_best=True)
    with pytest.warns(LRControllerWarning, match="back to where this interval began, with 1"):
        module = fit(callback, Module(lr=10.0))
    assert callback.controller.history[0]["restored"]
    assert module.used[-1] < 10.0
    best = Module()
    best.load_state_dict(callback.controller.best_state_dict())
    assert float(validation(best)()[0]) == callback.controller.best.val_loss


# -- a scheduler of the module's ---------------------------------------------------------------------------------------


def warm_up(optimizer: Any) -> Any:
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: min(1.0, step / 10))
    return [optimizer], [{"scheduler": schedule, "interval": "step"}]


def test_a_scheduler_is_refused_or_put_aside() -> None:
    with pytest.raises(InvalidArgumentError, match="configures a LambdaLR, which sets the same learning rate: return"):
        fit(LRControllerCallback("constant"), Module(schedule=warm_up))
    callback = LRControllerCallback("linear", replace_scheduler=True, decisions=4)
    module = fit(callback, Module(lr=0.01, schedule=warm_up))
    assert module.used == pytest.approx([0.01 * (1 - start / 40) for start in (0, 10, 20, 30) for _ in range(10)])


def test_without_the_callback_as_a_scheduler_of_lightnings() -> None:
    """The plain dictionary: Lightning calls `step` with the metric after every update."""
    made: list[lr_gym.LRController] = []

    class Plain(Module):
        def configure_optimizers(self) -> Any:
            optimizer = super().configure_optimizers()
            total = int(self.trainer.estimated_stepping_batches)
            controller = lr_gym.LRController(optimizer, total_updates=total, decisions=6, validate=validation(self))
            made.append(controller)
            entry = {"scheduler": controller, "interval": "step", "monitor": "train_loss", "reduce_on_plateau": True}
            return {"optimizer": optimizer, "lr_scheduler": entry}

    module = Plain()
    trainer().fit(module, loader())
    expected, controller = plain(4, total_updates=40, decisions=6)
    assert made[0].history == controller.history
    assert module.used == expected.used
    assert same_weights(module, expected)


# -- several ways to go wrong ------------------------------------------------------------------------------------------


class StopAtUpdate(pl.Callback):
    def __init__(self, update: int) -> None:
        self.update = update

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        trainer.should_stop = trainer.global_step >= self.update


class Endless(IterableDataset[Any]):
    def __iter__(self) -> Iterator[Any]:
        while True:
            yield from zip(X[40:], Y[40:], strict=True)


@pytest.mark.parametrize(
    ("options", "module", "more", "message"),
    [
        ({}, {}, {}, r"pass validation=lr_gym\.validation"),
        ({"validation": lr_gym.validation}, {}, {}, "a function of the network that returns such; got validation"),
        ({"validation": lambda module: None}, {}, {}, "a function of the network that returns such; got <lambda>"),
        ({"validation": lambda: 1.0}, {}, {}, "validate must return the mean loss and the outputs, two tensors"),
        ({"agent": "plateau", "monitor": "loss"}, {}, {}, "monitor='loss' is no metric .* logged are: train_loss, val"),
        ({"agent": "plateau", "monitor": "x"}, {}, {"limit_val_batches": 0}, "monitor='x' needs a validation: "),
        ({"agent": "constant"}, {"manual": 1}, {}, "with manual optimization Lightning does not know how many"),
        ({"agent": "constant"}, {}, {"max_epochs": -1}, "without max_steps= Lightning does not know how many"),
        ({"agent": "constant"}, {}, {"more": True}, "with an accumulation that changes Lightning does not know"),
        ({"agent": "constant", "decisions": 0}, {}, {}, "decisions must be a whole number of at least 1"),
        ({"agent": "constant", "min_lr": 1e-3}, {}, {}, r"0\.0001 must lie in \[min_lr, max_lr\]"),
    ],
)
def test_what_is_refused(options: Any, module: Any, more: Any, message: str) -> None:
    callbacks = [GradientAccumulationScheduler({1: 2})] if more.pop("more", False) else []
    with pytest.raises(InvalidArgumentError, match=message) as caught:
        fit(LRControllerCallback(**options), Module(**module), *callbacks, **more)
    assert "\n" not in str(caught.value)


def test_data_without_a_length() -> None:
    with pytest.raises(InvalidArgumentError, match="without max_steps= Lightning does not know"):
        trainer(LRControllerCallback("constant")).fit(Module(), loader(Endless()))
    for options, total in (({"max_steps": 20}, 20), ({"max_epochs": 1, "limit_train_batches": 20}, 20)):
        callback = LRControllerCallback("linear", decisions=5)
        trainer(callback, **options).fit(Module(), loader(Endless()))
        assert callback.controller.updates == total
    callback = LRControllerCallback("plateau", decision_interval=7, validation=validation)
    trainer(callback, StopAtUpdate(20)).fit(Module(), loader(Endless()))
    assert callback.controller.total_updates is None
    assert [entry["updates"] for entry in callback.controller.history] == [7, 14]


def test_arguments_are_checked_when_the_callback_is_made() -> None:
    with pytest.raises(UnknownNameError, match=r"no option of LRControllerCallback is named 'decission'. Did you mean"):
        LRControllerCallback(decission=3)
    with pytest.raises(InvalidArgumentError, match="validation and monitor both say what the validation loss is"):
        LRControllerCallback(validation=validation, monitor="val_loss")
    with pytest.raises(InvalidArgumentError, match=r"validation must be what .* got Tensor"):
        LRControllerCallback(validation=X)
    with pytest.raises(InvalidArgumentError, match="monitor must be the name of a logged metric, got int"):
        LRControllerCallback(monitor=3)  # type: ignore[arg-type]
    with pytest.raises(InvalidArgumentError, match="total_updates must be a whole number of at least 1 or None, got 0"):
        LRControllerCallback(total_updates=0)


@pytest.mark.parametrize("count", [1, 2])
def test_manual_optimization(count: int) -> None:
    """Two optimizers that are stepped together keep the ratio of their learning rates."""
    callback = LRControllerCallback("linear", total_updates=40, decisions=5)
    module = fit(callback, Module(manual=count))
    assert callback.controller.updates == 40
    assert len(module.used) == 40 * count
    assert callback.controller.lrs == pytest.approx([2e-5, 6e-5][:count], rel=1e-5)
    assert module.used[::count] == pytest.approx([1e-4 * (1 - done / 5) for done in range(5) for _ in range(8)])
    assert callback.controller.history[-1]["train_loss"] > 0


# -- loggers -----------------------------------------------------------------------------------------------------------


def test_every_decision_is_logged(tmp_path: Path) -> None:
    callback = LRControllerCallback("linear", decisions=5)
    logger = pl.loggers.CSVLogger(tmp_path)
    fit(callback, logger=logger, log_every_n_steps=10)
    with open(logger.experiment.metrics_file_path) as file:
        rows = [row for row in csv.DictReader(file) if row["lr_controller/lr"]]
    assert [int(row["step"]) for row in rows] == [8, 16, 24, 32, 40]
    assert [float(row["lr_controller/lr"]) for row in rows] == [entry["lr"] for entry in callback.controller.history]
    assert "lr_controller/val_loss" not in rows[0]  # nobody has measured it
