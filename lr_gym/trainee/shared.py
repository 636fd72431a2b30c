"""Examples are shared by all trainees of a process. A network or a loss that changes them is found out at once."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator

import torch
from torch import Tensor

from lr_gym.errors import InvalidArgumentError
from lr_gym.tasks import Data, Task
from lr_gym.tasks.data import mend

#: One of so many examples is compared number by number at every evaluation, on a CPU: a few of each chunk.
SPARSE = 125


@contextlib.contextmanager
def unchanged(examples: Iterable[Tensor], task: Task, data: Data, compared: int | None = None) -> Iterator[None]:
    """Let a block show shared examples to the network and the loss of a task.

    A tensor counts how often it was written to, and looking at that costs nothing; only what goes around PyTorch
    (`tensor.data`, NumPy) is not counted.

    Args:
        examples: What is shown, or what it is a view of, is shared.
        task: What is trained.
        data: Where the examples come from. It is put right where they were changed.
        compared: So many of the first examples are compared number by number too; by default one of `SPARSE` on a CPU,
            and none on a GPU, which would have to be waited for.

    Raises:
        InvalidArgumentError: They were changed.
    """
    on_cpu = isinstance(data, Data) and data.y["train"].device.type == "cpu"
    some = slice(compared) if compared is not None else slice(None, None, SPARSE) if on_cpu else slice(0)
    before = [tensor._version for tensor in examples]
    copies = [tensor[some].clone() for tensor in examples if tensor.ndim]
    try:
        yield
    finally:
        written = [tensor._version for tensor in examples] != before
        if written or not all(
            torch.equal(t[some], c) for t, c in zip((t for t in examples if t.ndim), copies, strict=True)
        ):
            mended = mend(task.data, data)
            raise InvalidArgumentError(
                f"the model {task.model!r} or the loss {task.loss!r} changes the examples of {task.data!r} in place, "
                "which others train on: a layer with inplace=True that is the first, or x += ... in forward; work on "
                "a copy (x = x.clone())" + ("" if mended else ". The data in this process are damaged: load them anew")
            )
