"""What somebody's code raises before the work begins is one line, from either command."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import pytest
import tiny
import torch
from torch import nn

import eval_transfer
import train_controller
from lr_gym import tasks

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
