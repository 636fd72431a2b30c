"""Gradients where a network is trained, whatever the code around it has switched off."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch


@contextlib.contextmanager
def gradients() -> Iterator[None]:
    """Let a block record gradients, and put the switch back after it.

    A training may be called from a block without gradients: an evaluation of a policy under `torch.no_grad()`, say.
    And a network may leave the switch where the code after it does not expect it.
    """
    with torch.inference_mode(False), torch.enable_grad():
        yield
