"""Whether the parts of a task fit together: errors that name the parts, in place of a traceback from inside them."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

import torch

from lr_gym.control.measuring import Evaluation
from lr_gym.errors import InvalidArgumentError, reason
from lr_gym.tasks import Data, Task
from lr_gym.tasks.reading import pytorchs
from lr_gym.tasks.streams import Streams
from lr_gym.trainee.batches import Batch
from lr_gym.trainee.held import Held

MISFITS = (RuntimeError, TypeError, ValueError, IndexError)


@contextlib.contextmanager
def fitting(task: Task, data: Data, returns_tensor: Callable[[], bool] = lambda: True) -> Iterator[None]:
    """Turn an error of a model, a loss or data in a block into one that names them.

    Args:
        task: What is trained.
        data: Its data.
        returns_tensor: Whether the network has returned a tensor.

    Raises:
        InvalidArgumentError: There was one.
    """
    try:
        yield
    except MISFITS as error:
        if isinstance(error, (torch.OutOfMemoryError, InvalidArgumentError)):
            raise
        kind = "classes" if data.classification else "targets"
        raise InvalidArgumentError(
            f"the model {task.model!r} or the loss {task.loss!r} does not take examples of shape "
            f"{data.input_shape} with {data.num_outputs} {kind} of {task.data!r}: {reason(error)}"
            f"{_hint(task, data, returns_tensor())}"
        ) from error


def _hint(task: Task, data: Data, returns_tensor: bool) -> str:
    """Return how the outputs and the data were read, where that may be the reason for an error."""
    loss, reading = str(task.loss), data.reading
    hints = {
        "the model returns more than a tensor: let the loss take the predictions out": not returns_tensor,
        "whole numbers were read as classes; else say targets='labels', 'probability', 'real' or 'count'": (
            task.targets == "auto" and reading.targets == "class" and ":" in loss and pytorchs(loss) is None
        ),
        "whole numbers were read as tokens; else say inputs='table', 'series' or 'image'": (
            task.inputs == "auto" and reading.inputs == "tokens"
        ),
    }
    return "".join(f" ({hint})" for hint, applies in hints.items() if applies)


def check_shapes(task: Task, data: Data, examples: Batch | Held, evaluation: Evaluation) -> None:
    """Check that the loss is a scalar, and predictions have the shape of the targets where the loss compares them.

    Raises:
        InvalidArgumentError: They are not.
    """
    fits = evaluation.loss.ndim == 0
    plain = not (data.classification or isinstance(data, Streams))
    if plain and hasattr(torch.nn.functional, str(task.loss)):
        # Otherwise a loss like mse_loss broadcasts (n, 1) against (n,) without an error.
        fits = fits and evaluation.predictions.shape == examples.y.shape  # type: ignore[union-attr]
    if fits:
        return
    shape = tuple(evaluation.loss.shape)
    if isinstance(examples, Held):
        raise InvalidArgumentError(
            f"the loss {task.loss!r} must return the mean over the batch, a scalar; got shape {shape}"
        )
    raise InvalidArgumentError(
        f"the loss {task.loss!r} must return the mean over the batch (a scalar) and the model "
        f"{task.model!r} predictions of the targets' shape; got a loss of shape {shape}, predictions "
        f"{tuple(evaluation.predictions.shape)}, targets {tuple(examples.y.shape)}"
    )
