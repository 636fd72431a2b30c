"""An interval's updates as a CUDA graph: recorded once, then launched as a whole.

A small network's update is a hundred kernels of a few microseconds each; launching them one by one from Python takes
longer than they do.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable

import torch
from torch import Tensor


class IntervalGraph:
    """A function that always works on the same memory: called, then captured, then replayed."""

    def __init__(self, updates: Callable[[Tensor], Tensor], settle: Callable[[], bool]) -> None:
        """Wrap a function.

        Args:
            updates: Takes the examples of every update, and returns the losses.
            settle: Moves everything that `updates` works on to its fixed place. Returns whether that is possible and
                the work happens on the device alone.
        """
        self._updates, self._settle = updates, settle
        self._graph: torch.cuda.CUDAGraph | None = None
        self._indices = self._losses = torch.empty(0)
        self._warm = self._failed = False

    def __call__(self, indices: Tensor) -> Tensor:
        """Do the updates."""
        if self._failed or not self._settle():
            return self._updates(indices)
        if not self._warm:
            self._warm = True
            return self._on_side_stream(indices)
        if self._graph is None and not self._capture(indices):
            return self._updates(indices)
        if self._graph is None or self._indices.shape != indices.shape:  # another number of updates
            return self._updates(indices)
        self._indices.copy_(indices)
        self._graph.replay()
        return self._losses.clone()

    def _on_side_stream(self, indices: Tensor) -> Tensor:
        """Run once, as PyTorch requires before a capture: it sets up libraries and leaves nothing on the stream."""
        current, side = torch.cuda.current_stream(), torch.cuda.Stream()  # type: ignore[no-untyped-call]
        side.wait_stream(current)
        with torch.cuda.stream(side):
            losses = self._updates(indices)
        current.wait_stream(side)
        return losses

    def _capture(self, indices: Tensor) -> bool:
        """Record the updates without doing them; return whether that worked."""
        self._indices = indices.clone()
        graph = torch.cuda.CUDAGraph()
        try:
            with torch.cuda.graph(graph):
                self._losses = self._updates(self._indices)
        except RuntimeError as error:
            self._failed = True
            warnings.warn(
                f"the updates cannot be captured in a CUDA graph and are launched one by one: {error}",
                RuntimeWarning,
                stacklevel=2,
            )
            return False
        self._graph = graph
        return True
