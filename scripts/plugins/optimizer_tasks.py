"""The same training with ten optimizers of PyTorch, in fourteen settings, for eval_transfer.py --plugins.

`optimizers/NAME` is `fashion-mnist-mini/mlp`, and `optimizers/NAME-regression` a perceptron on a random network's
answers, each with 300 updates in fifty intervals and another optimizer. `universal` was trained with Adam, AdamW and
SGD, with momentum 0.9 and without; the others are new to it. The initial learning rate is PyTorch's default.
"""

from __future__ import annotations

from typing import Any

from wide_family import smooth  # the folder of a plugin is on the path

from lr_gym import tasks

BUDGET, INTERVALS = 300, 50
#: By name the class, its options, and the learning rate that PyTorch gives it if nobody says one.
OPTIMIZERS: dict[str, tuple[str, dict[str, Any], float]] = {
    "adam": ("Adam", {}, 1e-3),
    "adamw": ("AdamW", {"weight_decay": 0.01}, 1e-3),
    "nadam": ("NAdam", {}, 2e-3),
    "radam": ("RAdam", {}, 1e-3),
    "adamax": ("Adamax", {}, 2e-3),
    "adagrad": ("Adagrad", {}, 1e-2),
    "adadelta": ("Adadelta", {}, 1.0),
    "adafactor": ("Adafactor", {}, 1e-2),
    "rmsprop": ("RMSprop", {}, 1e-2),
    "rmsprop-momentum": ("RMSprop", {"momentum": 0.9}, 1e-2),
    "sgd": ("SGD", {}, 1e-3),
    "momentum": ("SGD", {"momentum": 0.9}, 1e-3),
    "nesterov": ("SGD", {"momentum": 0.9, "nesterov": True}, 1e-3),
    "momentum-0.99": ("SGD", {"momentum": 0.99}, 1e-3),
}

tasks.register_data("optimizers-smooth", smooth)
for _name, (_optimizer, _options, _lr) in OPTIMIZERS.items():
    _task = tasks.get("fashion-mnist-mini/mlp").replace(
        name=f"optimizers/{_name}",
        budget=BUDGET,
        decision_interval=BUDGET // INTERVALS,
        optimizer=_optimizer,
        optimizer_options=_options,
        initial_lrs=(_lr,),
    )
    tasks.register(_task, replace=True)
    tasks.register(
        _task.replace(name=f"optimizers/{_name}-regression", data="optimizers-smooth", loss="mse_loss"), replace=True
    )
