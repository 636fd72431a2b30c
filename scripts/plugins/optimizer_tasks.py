"""One training with every kind of optimizer that PyTorch has, for eval_transfer.py --plugins.

`optimizers/NAME` is `fashion-mnist-mini/mlp`, and `optimizers/NAME-regression` a perceptron on a random network's
answers, each with 300 updates in fifty intervals and another optimizer. `universal` was trained with Adam, AdamW and
SGD, with momentum 0.9 and without; the others are new to it. Five initial learning rates, over four decades.
"""

from __future__ import annotations

from typing import Any

from wide_family import smooth  # the folder of a plugin is on the path

from lr_gym import tasks

BUDGET, INTERVALS = 300, 50
OPTIMIZERS: dict[str, tuple[str, dict[str, Any]]] = {
    "adam": ("Adam", {}),
    "adamw": ("AdamW", {"weight_decay": 0.01}),
    "nadam": ("NAdam", {}),
    "radam": ("RAdam", {}),
    "adamax": ("Adamax", {}),
    "adagrad": ("Adagrad", {}),
    "adadelta": ("Adadelta", {}),
    "adafactor": ("Adafactor", {}),
    "rmsprop": ("RMSprop", {}),
    "rmsprop-momentum": ("RMSprop", {"momentum": 0.9}),
    "sgd": ("SGD", {}),
    "momentum": ("SGD", {"momentum": 0.9}),
    "nesterov": ("SGD", {"momentum": 0.9, "nesterov": True}),
    "momentum-0.99": ("SGD", {"momentum": 0.99}),
}

tasks.register_data("optimizers-smooth", smooth)
for _name, (_optimizer, _options) in OPTIMIZERS.items():
    _task = tasks.get("fashion-mnist-mini/mlp").replace(
        name=f"optimizers/{_name}",
        budget=BUDGET,
        decision_interval=BUDGET // INTERVALS,
        optimizer=_optimizer,
        optimizer_options=_options,
        initial_lrs=(1e-1, 1e-2, 1e-3, 1e-4, 1e-5),
    )
    tasks.register(_task, replace=True)
    tasks.register(
        _task.replace(name=f"optimizers/{_name}-regression", data="optimizers-smooth", loss="mse_loss"),
        replace=True,
    )
