"""Random streams of a trainee: everything derives from one seed, and the global generators are left as they were."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch


def derived_seeds(seed: int, count: int) -> list[int]:
    """Return `count` independent seeds below 2**63.

    Args:
        seed: Non-negative.
        count: How many.
    """
    words = np.random.SeedSequence(seed).generate_state(count, np.uint64)
    return [int(word >> np.uint64(1)) for word in words]


@contextlib.contextmanager
def isolated(seed: int) -> Iterator[None]:
    """Run a block with Python's, NumPy's and PyTorch's (CPU) global generators seeded, then put them back.

    For code that can only draw from global generators, as `nn.Module` constructors do.
    """
    python, numpy_state, torch_state = random.getstate(), np.random.get_state(), torch.get_rng_state()
    try:
        random.seed(seed)
        np.random.seed(seed % 2**32)
        torch.default_generator.manual_seed(seed)
        yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy_state)
        torch.set_rng_state(torch_state)


def global_generators() -> str:
    """Return the state of Python's and NumPy's global generators, to see whether they were drawn from."""
    return repr((random.getstate(), np.random.get_state(legacy=True)))


class TorchStream:
    """A stream for layers that draw from PyTorch's global generator while training, as dropout does.

    `active()` exchanges the global state for the stream's own and puts it back; nested uses continue the stream.
    """

    def __init__(self, seed: int, device: torch.device, *, others: bool = False) -> None:
        """Start the stream.

        Args:
            seed: Below 2**63.
            device: The device whose generator is exchanged, beside the CPU's.
            others: Exchange Python's and NumPy's global generators too, for networks that draw from them.
        """
        self._device, self._others = device, others
        self._active = False
        self._states: list[Any] = [torch.Generator().manual_seed(seed).get_state()]
        if device.type == "cuda":
            self._states.append(torch.Generator(device).manual_seed(seed).get_state())
        if others:
            numpys = np.random.RandomState(seed % 2**32).get_state()
            self._states += [random.Random(seed).getstate(), numpys]

    def _read_global(self) -> list[Any]:
        states: list[Any] = [torch.get_rng_state()]
        if self._device.type == "cuda":
            states.append(torch.cuda.get_rng_state(self._device))
        return [*states, random.getstate(), np.random.get_state()] if self._others else states

    def _write_global(self, states: list[Any]) -> None:
        torch.set_rng_state(states[0])
        if self._device.type == "cuda":
            torch.cuda.set_rng_state(states[1], self._device)
        if self._others:
            random.setstate(states[-2])
            np.random.set_state(states[-1])

    @contextlib.contextmanager
    def active(self) -> Iterator[None]:
        """Let the block draw from this stream in place of the global generator."""
        if self._active:
            yield
            return
        outer = self._read_global()
        self._write_global(self._states)
        self._active = True
        try:
            yield
        finally:
            self._active = False
            self._states = self._read_global()
            self._write_global(outer)

    def get_state(self) -> list[Any]:
        """Return the stream's state."""
        return self._read_global() if self._active else list(self._states)

    def set_state(self, states: list[Any]) -> None:
        """Continue from a state that `get_state` returned."""
        if self._active:
            self._write_global(states)
        else:
            self._states = list(states)
