"""`LRControllerTrainer` and its callback, with networks made from a configuration: nothing is loaded from anywhere."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from loops import same_weights
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    EarlyStoppingCallback,
    GPT2Config,
    GPT2LMHeadModel,
    Trainer,
    TrainerCallback,
    TrainingArguments,
)

import lr_gym
from lr_gym.errors import FileFormatError, InvalidArgumentError, UnknownNameError
from lr_gym.integrations.transformers import LRControllerCallback, LRControllerTrainer

# On machines without a GPU, of data loaders that pin memory for one.
pytestmark = pytest.mark.filterwarnings("ignore:.*pin_memory")


class Sums(Dataset[dict[str, Tensor]]):
    """Whether the first half of a row of digits sums up to more than the second."""

    def __init__(self, count: int, seed: int = 0) -> None:
        self.x = torch.randint(0, 10, (count, 6), generator=torch.Generator().manual_seed(seed))
        self.y = (self.x[:, :3].sum(1) > self.x[:, 3:].sum(1)).long()

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        return {"input_ids": self.x[index], "labels": self.y[index]}


TRAIN, VALIDATION = Sums(80), Sums(50, seed=1)


class Words(Sums):
    """The same rows, to be continued digit by digit."""

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        return {"input_ids": self.x[index], "labels": self.x[index]}


def bert() -> Any:
    torch.manual_seed(0)
    shape = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}
    return BertForSequenceClassification(BertConfig(vocab_size=10, max_position_embeddings=6, **shape))


def gpt() -> Any:
    torch.manual_seed(0)
    return GPT2LMHeadModel(GPT2Config(vocab_size=10, n_positions=6, n_embd=8, n_layer=1, n_head=2))


class Plain(nn.Module):
    """A network that is no transformer."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embed, self.head = nn.Embedding(10, 4), nn.Linear(24, 2)

    def forward(self, input_ids: Tensor, labels: Tensor) -> dict[str, Tensor]:
        logits = self.head(self.embed(input_ids).flatten(1))
        return {"loss": functional.cross_entropy(logits, labels), "logits": logits}


class Lrs(TrainerCallback):
    """Writes down the learning rate of every update; stops after so many, with a checkpoint."""

    def __init__(self, stop: int | None = None) -> None:
        self.used: list[float] = []
        self.stop = stop

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, optimizer: Any = None, **_: Any) -> None:
        self.used.append(optimizer.param_groups[0]["lr"])

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.global_step == self.stop:
            control.should_save = control.should_training_stop = True


def arguments(folder: Path, **options: Any) -> TrainingArguments:
    usual: dict[str, Any] = {
        "learning_rate": 1e-4,
        "per_device_train_batch_size": 8,
        "per_device_eval_batch_size": 50,
        "num_train_epochs": 2,
        "use_cpu": True,
        "report_to": [],
        "save_strategy": "no",
        "disable_tqdm": True,
        "logging_steps": 5,
    }
    return TrainingArguments(str(folder), **(usual | options))


def trainer(
    folder: Path,
    callback: LRControllerCallback | None,
    *more: Any,
    model: Any = None,
    kind: Any = LRControllerTrainer,
    optimizers: Any = (None, None),
    train: Any = TRAIN,
    **options: Any,
) -> Any:
    return kind(
        Plain() if model is None else model,
        arguments(folder, **options),
        train_dataset=train,
        eval_dataset=VALIDATION,
        callbacks=[each for each in (callback, *more) if each is not None],
        optimizers=optimizers,
    )


# -- the training is that of a plain loop ------------------------------------------------------------------------------


class InOrder(LRControllerTrainer):
    def get_train_dataloader(self) -> Any:
        return DataLoader(TRAIN, batch_size=8)


@pytest.mark.parametrize(("accumulate", "updates"), [(1, 10), (4, 3)])
def test_the_trainer_and_the_loop_are_the_same(accumulate: int, updates: int, tmp_path: Path) -> None:
    model, lrs = Plain(), Lrs()
    callback = LRControllerCallback("universal", validation=VALIDATION, decisions=6)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
    options = {"gradient_accumulation_steps": accumulate, "max_grad_norm": 0.0, "num_train_epochs": 4}
    trainer(tmp_path, callback, lrs, model=model, kind=InOrder, optimizers=(optimizer, None), **options).train()

    expected = Plain()
    optimizer = torch.optim.AdamW(expected.parameters(), lr=1e-4)
    controller = lr_gym.LRController(
        optimizer, total_updates=4 * updates, decisions=6, validate=lambda: evaluate(expected)
    )
    used = []
    for _ in range(4):
        batches = list(DataLoader(TRAIN, batch_size=8))
        for first in range(0, len(batches), accumulate):
            part = batches[first : first + accumulate]
            for batch in part:
                loss = expected(**batch)["loss"]
                (loss / len(part)).backward()
                if batch is part[-1]:
                    used.append(controller.lr)
                    optimizer.step()
                    optimizer.zero_grad()
                controller.step(loss)
    assert lrs.used == used
    assert len(used) == 4 * updates
    assert callback.controller.history == controller.history
    assert same_weights(model, expected)


def evaluate(model: nn.Module) -> tuple[Tensor, Tensor]:
    with torch.no_grad():
        returned = model(VALIDATION.x, VALIDATION.y)
    return returned["loss"], returned["logits"].flatten()


def test_the_loss_of_tokens_that_are_accumulated(tmp_path: Path) -> None:
    """A language model divides by the tokens of the whole update; what is evaluated is what the Trainer evaluates."""
    words = Words(40, seed=1)
    callback = LRControllerCallback("constant", validation=words, decisions=1)
    run = trainer(tmp_path, callback, model=gpt(), train=Words(80), gradient_accumulation_steps=4, logging_steps=6)
    run.train()
    assert callback.controller.updates == 6
    (entry,) = callback.controller.history
    assert entry["train_loss"] == pytest.approx(run.state.log_history[0]["loss"], rel=1e-5)
    assert entry["val_loss"] == pytest.approx(run.evaluate(words)["eval_loss"], rel=1e-6)


@pytest.mark.parametrize(
    ("options", "total", "updates"),
    [({"max_steps": 15}, 15, 15), ({"num_train_epochs": 1.5}, 15, 15), ({"stop": True, "num_train_epochs": 4}, 40, 20)],
    ids=["steps", "epochs", "early stop"],
)
def test_how_long_a_training_is(options: dict[str, Any], total: int, updates: int, tmp_path: Path) -> None:
    callback = LRControllerCallback("linear", decisions=5)
    if options.pop("stop", False):
        stop = [EarlyStoppingCallback(1, early_stopping_threshold=9.0)]
        options |= {"eval_strategy": "epoch", "metric_for_best_model": "loss", "greater_is_better": False}
        options |= {"load_best_model_at_end": True, "save_strategy": "epoch"}
    else:
        stop = []
    trainer(tmp_path, callback, *stop, **options).train()
    assert callback.controller.updates == updates
    decided = max(end for end in (round(total * part / 5) for part in range(5)) if end < updates)
    assert callback.controller.lr == pytest.approx(1e-4 * (1 - decided / total), rel=1e-5)


def test_bfloat16(tmp_path: Path) -> None:
    callback = LRControllerCallback("universal", validation=VALIDATION, decisions=10)
    trainer(tmp_path, callback, model=bert(), bf16=True).train()
    assert len({entry["lr"] for entry in callback.controller.history}) > 5


def test_a_second_training_begins_from_the_same_learning_rate(tmp_path: Path) -> None:
    callback, lrs = LRControllerCallback("linear", decisions=5), Lrs()
    run = trainer(tmp_path, callback, lrs)
    run.train()
    run.train()
    assert lrs.used[:20] == lrs.used[20:]


# -- validation --------------------------------------------------------------------------------------------------------


def test_a_metric_of_the_trainers_evaluations(tmp_path: Path) -> None:
    callback = LRControllerCallback("plateau", monitor="eval_loss", decisions=5)
    run = trainer(tmp_path, callback, eval_strategy="steps", eval_steps=5)
    run.train()
    losses = [entry["eval_loss"] for entry in run.state.log_history if "eval_loss" in entry]
    # An interval of four updates ends where its validation loss is there.
    assert [entry["updates"] for entry in callback.controller.history] == [5, 10, 15, 20]
    assert [entry["val_loss"] for entry in callback.controller.history] == losses
    run.evaluate()
    assert len(callback.controller.history) == 4


def test_validations_of_every_kind(tmp_path: Path) -> None:
    def of(model: Any) -> Any:
        return lambda: evaluate(model)

    histories = []
    for kind in ("data set", "function of the network", "function"):
        model = Plain()
        validation = {"data set": VALIDATION, "function of the network": of, "function": of(model)}[kind]
        callback = LRControllerCallback("universal", validation=validation, decisions=5)
        trainer(tmp_path, callback, model=model).train()
        histories.append(callback.controller.history)
    assert histories[0] == histories[1] == histories[2]


def test_long_predictions_are_thinned_out(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("lr_gym.integrations.transformers.NUMBERS", 12)
    callback = LRControllerCallback("universal", validation=Words(40), decisions=5)
    trainer(tmp_path, callback, model=gpt(), train=Words(80)).train()
    # 40 rows of 6 digits with 10 logits each: every fifth of 60.
    assert callback.controller.state_dict()["gauge"]["predictions"].shape == (40, 12)


# -- taking up again ---------------------------------------------------------------------------------------------------

RESUMED: dict[str, dict[str, Any]] = {
    "universal": {"agent": "universal", "validation": VALIDATION, "decisions": 8},
    "arc": {"agent": "arc", "validation": VALIDATION, "decisions": 30},
    "monitor": {"agent": "plateau", "monitor": "eval_loss", "decisions": 4},
}


@pytest.mark.parametrize("name", RESUMED)
def test_a_training_is_taken_up_again_bit_for_bit(name: str, tmp_path: Path) -> None:
    """With dropout and examples in random order, in the middle of an epoch and of an interval."""
    options: dict[str, Any] = {"num_train_epochs": 4, "eval_strategy": "steps", "eval_steps": 5}
    models, lrs, callbacks = [], [], []
    for stop, resume in ((None, None), (17, None), (None, "checkpoint-17")):
        callback, writer, model = LRControllerCallback(**RESUMED[name]), Lrs(stop), bert()
        folder = tmp_path / ("whole" if (stop, resume) == (None, None) else "parts")
        run = trainer(folder, callback, writer, model=model, **options)
        run.train(resume_from_checkpoint=None if resume is None else str(folder / resume))
        models.append(model)
        lrs.append(writer.used)
        callbacks.append(callback)
    whole, _, again = (callback.controller for callback in callbacks)
    assert lrs[1] + lrs[2] == lrs[0]
    assert (len(lrs[0]), len(lrs[1])) == (40, 17)
    assert again.history == whole.history
    assert same_weights(models[2], models[0])
    assert not same_weights(models[2], models[1])


def test_a_training_is_made_longer(tmp_path: Path) -> None:
    for agent in ("universal", "cosine"):
        callbacks = [LRControllerCallback(agent, validation=VALIDATION) for _ in range(2)]
        trainer(tmp_path, callbacks[0], Lrs(stop=17), num_train_epochs=4).train()
        longer = trainer(tmp_path, callbacks[1], max_steps=50)
        if agent == "cosine":  # laid out for the whole training
            with pytest.raises(FileFormatError, match="the state is of a training with total_updates=40 and intervals"):
                longer.train(resume_from_checkpoint=True)
        else:
            longer.train(resume_from_checkpoint=True)
            assert callbacks[1].controller.total_updates == callbacks[1].controller.updates == 50


# -- nobody else sets the learning rate --------------------------------------------------------------------------------


def test_a_controller_in_the_place_of_a_scheduler(tmp_path: Path) -> None:
    """`optimizers=(optimizer, controller)`, without the callback."""
    model, lrs = Plain(), Lrs()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
    controller = lr_gym.LRController(optimizer, "linear", total_updates=20, decisions=5)
    run = trainer(tmp_path, None, lrs, model=model, optimizers=(optimizer, controller))
    run.train()
    assert lrs.used == pytest.approx([1e-4 * (1 - start / 20) for start in (0, 4, 8, 12, 16) for _ in range(4)])
    assert controller.history[-1]["train_loss"] > 0
    # In a plain Trainer too, for agents that look at no training loss.
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
    controller = lr_gym.LRController(optimizer, "linear", total_updates=20, decisions=5)
    plain = Lrs()
    trainer(tmp_path, None, plain, model=model, kind=Trainer, optimizers=(optimizer, controller)).train()
    assert plain.used == lrs.used


@pytest.mark.parametrize(
    ("agent", "options", "message"),
    [
        ({"agent": "constant"}, {"kind": Trainer}, "a LambdaLR sets the learning rate here: with LRControllerCallback"),
        (None, {}, "LRControllerTrainer needs one LRControllerCallback among its callbacks, got 0"),
        (
            {"agent": "constant"},
            {"lr_scheduler_type": "cosine"},
            "lr_scheduler_type='cosine' with 0 updates of warm-up",
        ),
        (
            {"agent": "constant"},
            {"warmup_steps": 3},
            "lr_scheduler_type='linear' with 3 updates of warm-up would be ign",
        ),
        ({"agent": "constant"}, {"scheduler": True}, r"optimizers=\(\.\.\., StepLR\) sets the same learning rate as"),
        ({}, {}, r"pass validation=lr_gym\.validation"),
        ({"validation": []}, {}, "validation needs at least one example, and the data set has none"),
        ({"validation": 3}, {}, "a function of the network that returns such, or a data set; got int"),
        ({"validation": VALIDATION}, {"pair": True}, "the model returns a str where its predictions should be: pass"),
        (
            {"validation": [{"input_ids": VALIDATION.x[0]}]},
            {"bert": True},
            "validation needs a data set with labels: the Trainer",
        ),
        ({"agent": "plateau", "monitor": "eval_loss"}, {}, "monitor='eval_loss' needs evaluations: pass eval_strategy"),
        (
            {"agent": "plateau", "monitor": "loss"},
            {"eval_strategy": "steps", "eval_steps": 5},
            "monitor='loss' is no metric; there are: epoch, eval_loss, ",
        ),
        ({"agent": "constant"}, {"learning_rate": 0.0}, "the optimizer's learning rate"),
        ({"agent": "constant", "decisions": 0}, {}, "decisions must be a whole number of at least 1"),
    ],
)
def test_what_is_refused(agent: Any, options: dict[str, Any], message: str, tmp_path: Path) -> None:
    model = bert() if options.pop("bert", False) else Plain()
    if options.pop("scheduler", False):
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        options["optimizers"] = (optimizer, torch.optim.lr_scheduler.StepLR(optimizer, 1))
    if options.pop("pair", False):
        model.forward = lambda input_ids, labels: {"loss": torch.tensor(1.0), "logits": "none"}  # type: ignore[method-assign, assignment]
    callback = None if agent is None else LRControllerCallback(**agent)
    with pytest.raises(InvalidArgumentError, match=message) as caught:
        trainer(tmp_path, callback, model=model, **options).train()
    assert "\n" not in str(caught.value)


def test_arguments_are_checked_when_the_callback_is_made() -> None:
    with pytest.raises(UnknownNameError, match="no option of LRControllerCallback is named 'total_updates'"):
        LRControllerCallback(total_updates=3)


# -- loggers -----------------------------------------------------------------------------------------------------------


def test_what_was_measured_is_logged_beside_the_training_loss(tmp_path: Path) -> None:
    callback = LRControllerCallback("linear", decisions=5)
    run = trainer(tmp_path, callback, save_strategy="steps", save_steps=20, num_train_epochs=2)
    run.train()
    logged = [entry for entry in run.state.log_history if "loss" in entry]
    assert [entry["lr_controller/updates"] for entry in logged] == [4, 8, 12, 20]
    assert [entry["lr_controller/lr"] for entry in logged] == pytest.approx([1e-4, 8e-5, 6e-5, 2e-5])
    assert "lr_controller/val_loss" not in logged[0]
    saved = json.loads((tmp_path / "checkpoint-20" / "trainer_state.json").read_text())
    assert saved["log_history"][0]["lr_controller/lr"] == logged[0]["lr_controller/lr"]
