"""What somebody's code raises before the work begins is one line, from either command."""

from __future__ import annotations

import os
import time
import warnings
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import tiny
import torch
from torch import nn

import eval_transfer
import train_controller
from lr_gym import tasks
from lr_gym.commands import plugins
from lr_gym.errors import LRGymWarning
from lr_gym.trial import attempt

COMMANDS = {
    train_controller: ("--episodes", "16"),
    eval_transfer: ("--agents", "constant", "--runs", "2"),
}


class Refusing(nn.Linear):
    def __init__(self, raised: str) -> None:
        super().__init__(784, 10)
        self.raised, self.passes = raised, 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.passes += self.training
        if self.passes > 5:
            raise {
                "KeyError": KeyError("a wish\nof its own"),
                "SystemExit": SystemExit(7),
                "OSError": OSError(28, "full"),
            }[self.raised]
        return super().forward(x.flatten(1))


@pytest.mark.parametrize(
    ("raised", "words"),
    [
        ("KeyError", r"KeyError: 'a wish\nof its own'"),
        ("SystemExit", "SystemExit: 7"),
        ("OSError", "OSError: [Errno 28] full"),
    ],
)
@pytest.mark.usefixtures("clean")
@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.__name__)
def test_in_a_line(command: ModuleType, raised: str, words: str, capsys: Any, tmp_path: Any) -> None:
    tasks.register_model("refusing", Refusing)
    tasks.register(tiny.task(model="refusing", model_options={"raised": raised}, name="refusing"), replace=True)
    said = tiny.refused(command, capsys, "--task", "refusing", *COMMANDS[command], "--out", str(tmp_path / "out"))
    assert f"the task 'refusing' cannot be trained: {words} (raised in {__file__}, line " in said
    assert not (tmp_path / "out").exists()


#: What misbehaves cannot be caught in its own process.
PLUGIN = f"""
import sys
sys.path.append({str(Path(__file__).parent)!r})
from lr_gym import tasks
from test_trial import Ending
tasks.register_model("ending", Ending)
"""


class Ending(nn.Linear):
    """Ends its process, or does not end, or takes itself for Ctrl-C."""

    def __init__(self, way: str) -> None:
        super().__init__(784, 10)
        self.way, self.passes = way, 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.passes += self.training
        if self.passes > 5:
            if self.way == "dies":
                os._exit(9)
            if self.way == "hangs":
                time.sleep(600)
            raise KeyboardInterrupt
        return super().forward(x.flatten(1))


@pytest.mark.usefixtures("clean")
@pytest.mark.parametrize(
    ("command", "way", "words"),
    [
        (train_controller, "dies", "the process that tried it ended, with exit status 9"),
        (eval_transfer, "hangs", "its first updates took longer than 15 s, and were ended; --timeout gives them"),
        (eval_transfer, "interrupts", "KeyboardInterrupt (raised in"),
    ],
)
def test_what_ends_or_hangs_does_so_alone(
    command: ModuleType, way: str, words: str, capsys: Any, tmp_path: Path
) -> None:
    (tmp_path / "ending_plugin.py").write_text(PLUGIN)
    patience = "15" if way == "hangs" else "250"  # a busy machine takes long to load PyTorch
    fields = ("model=ending", f'model_options={{"way":"{way}"}}', "budget=20", "batch_size=8", "train_size=100")
    said = tiny.refused(
        command,
        capsys,
        *("--task", "fashion-mnist-mini/mlp", *COMMANDS[command], "--out", str(tmp_path / "out")),
        *("--plugins", str(tmp_path / "ending_plugin.py"), "--override", *fields, "--timeout", patience),
        attempt=attempt,
    )
    assert f"the task 'fashion-mnist-mini/mlp' cannot be trained: {words}" in said
    assert not (tmp_path / "out").exists()


def notice() -> int:
    """Return a process, after a notice and a warning of somebody else's."""
    warnings.warn("nothing to do with it", DeprecationWarning, stacklevel=1)
    warnings.warn("it freezes its weights", LRGymWarning, stacklevel=1)
    return os.getpid()


def test_notices_of_another_process_are_given_here() -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        process = attempt(notice, "it", apart=True, modules=(), timeout=60)
    assert process != os.getpid()
    assert [(w.category, str(w.message)) for w in caught] == [(LRGymWarning, "it freezes its weights")]


def test_in_this_process() -> None:
    with pytest.warns(LRGymWarning, match="freezes"), pytest.warns(DeprecationWarning, match="nothing"):
        assert attempt(notice, "it", apart=False, modules=(), timeout=60) == os.getpid()


def test_where_code_of_somebody_else_s_takes_part() -> None:
    of_a_file = plugins.Plugins((plugins.Plugin("some_file", ""),))
    mine = plugins.InstalledPlugin("mine", "", "mine", "my_package", frozenset({("model", "my-net"), ("task", "mine")}))
    installed, none = plugins.Plugins((mine,)), plugins.NO_PLUGINS
    theirs = tiny.task(model="torch.nn:Linear")
    family = tiny.family(axes=([{"model": "torch.nn:Linear"}, {"budget": 20}],))
    assert [of.take_part_in(tiny.task()) for of in (none, installed, of_a_file)] == [False, False, True]
    assert [of.take_part_in(tiny.family()) for of in (none, installed, of_a_file)] == [False, False, True]
    assert none.take_part_in(theirs)
    assert none.take_part_in(family)
    assert installed.take_part_in(tiny.task(name="mine"))
    assert installed.take_part_in(tiny.family(name="mine"))
    assert plugins.InstalledPlugin("t", "", "t", "torch", frozenset()).concerns(theirs)
    assert not plugins.InstalledPlugin("t", "", "t", "tor", frozenset()).concerns(theirs)
