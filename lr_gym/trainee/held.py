"""Validation and test examples that come in batches: several tensors each, or of different lengths."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from lr_gym.control.measuring import Evaluation
from lr_gym.errors import InvalidArgumentError
from lr_gym.tasks.losses import Loss
from lr_gym.tasks.trees import count, joinable, joined, leaves, part
from lr_gym.trainee.batches import Batch
from lr_gym.trainee.scoring import Scoring


class Held:
    """Examples in batches.

    Attributes:
        batches: Inputs and targets.
        y: Something as long as there are examples.
    """

    def __init__(self, batches: Sequence[tuple[Any, Any]], size: int | None) -> None:
        """Keep batches.

        Args:
            batches: Inputs and targets.
            size: At most so many of the first examples; None for all.
        """
        self.batches: list[Batch] = []
        left = size
        for x, y in batches:
            examples = count(x)
            if left is not None and examples >= left:
                self.batches.append(Batch(part(x, slice(left)), part(y, slice(left))))
                break
            self.batches.append(Batch(x, y))
            left = None if left is None else left - examples
        self.y = range(sum(count(batch.x) for batch in self.batches))

    def __iter__(self) -> Iterator[Tensor]:
        """Yield every tensor."""
        for batch in self.batches:
            yield from leaves(batch)

    def evaluate(self, forward: Callable[[Any], Any], loss: Loss, scoring: Scoring) -> Evaluation:
        """Return the evaluation: of all examples at once where batches can be joined, else the mean over them.

        Predictions are the first tensor of the outputs, flat where batches cannot be joined.

        Args:
            forward: Returns the outputs for inputs.
            loss: Of outputs and targets.
            scoring: What outputs are worth.
        """
        outputs = [forward(batch.x) for batch in self.batches]
        return evaluated(outputs, [batch.y for batch in self.batches], loss, scoring)


def evaluated(outputs: Sequence[Any], targets: Sequence[Any], loss: Loss, scoring: Scoring) -> Evaluation:
    """Return the evaluation of outputs that came in batches, as `Held.evaluate` does.

    Args:
        outputs: What the network returned for each batch.
        targets: Those of each batch.
        loss: Of outputs and targets.
        scoring: What outputs are worth.

    Raises:
        InvalidArgumentError: The outputs are no tensors, or none with examples.
    """
    firsts = [_first(output) for output in outputs]
    if joinable(outputs) and joinable(targets):
        value, metric = scoring(loss, joined(outputs), joined(targets))
        return Evaluation(value, metric, torch.cat(firsts))
    sizes = torch.tensor([float(count(target)) for target in targets], device=firsts[0].device)
    scores = [scoring(loss, output, target) for output, target in zip(outputs, targets, strict=True)]
    value, metric = (_mean(torch.stack(column), sizes) for column in zip(*scores, strict=True))
    return Evaluation(value, metric, torch.cat([first.flatten() for first in firsts]))


def _first(output: Any) -> Tensor:
    """Return the first tensor of the outputs that has one entry per example."""
    first = next((leaf for leaf in leaves(output) if leaf.ndim), None)
    if first is None:
        kind = "a single number" if isinstance(output, Tensor) else f"a {type(output).__name__} without such a tensor"
        raise InvalidArgumentError(
            f"the model returns {kind}: it must return its outputs for every example, a tensor or a tuple, dictionary "
            "or dataclass with one, of which the loss computes the mean"
        )
    return first


def _mean(values: Tensor, sizes: Tensor) -> Tensor:
    return (values * sizes).sum() / sizes.sum()
