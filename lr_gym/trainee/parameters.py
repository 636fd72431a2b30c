"""The parameters that a network was built with: the optimizer knows no others."""

from __future__ import annotations

import warnings

from torch import nn

from lr_gym.errors import InvalidArgumentError, LRGymWarning
from lr_gym.trainee.flow import listed


class Parameters:
    """What a network's parameters were when it was built, and whether a training may go on with those that it has.

    Attributes:
        trainable: Those that are trained, in the network's order.
    """

    def __init__(self, model: nn.Module, name: str) -> None:
        """Look at a network.

        Args:
            model: The network.
            name: That of the task, for messages.
        """
        self._model, self._name = model, name
        self._known = [id(p) for p in model.parameters()]
        self.trainable = [p for p in model.parameters() if p.requires_grad]
        self._trained = {id(p) for p in self.trainable}
        self._warned = False

    def check(self, moving: set[int]) -> None:
        """Check that they are the same, and warn once where the network itself has frozen or freed some.

        Args:
            moving: The `id` of each that the task freezes or frees on the way.

        Raises:
            InvalidArgumentError: The network has replaced some, or made new ones.
        """
        named = list(self._model.named_parameters())
        if [id(p) for _, p in named] != self._known:
            known = set(self._known)
            new = [name for name, p in named if id(p) not in known]
            raise InvalidArgumentError(
                f"the model {self._name!r} has made {listed(new) or 'some'} of its parameters anew after it was "
                "built, and the optimizer trains the old ones: make parameters in __init__, and change them in place "
                "(with torch.no_grad(): p.copy_(...))"
            )
        if self._warned:
            return
        other = [(name, p) for name, p in named if p.requires_grad != (id(p) in self._trained) and id(p) not in moving]
        for words, freed in (("frozen", False), ("freed", True)):
            if names := [name for name, p in other if p.requires_grad == freed]:
                self._warned = True
                kept = "are not trained, because they were frozen when it was built" if freed else "stay as they are"
                warnings.warn(
                    f"the model {self._name!r} has {words} {listed(names)} itself: these {kept}; a task says what is "
                    "trained when by frozen={pattern: (from, until)}",
                    LRGymWarning,
                    stacklevel=2,
                )

    def without_gradient(self, loss: str, updates: int) -> InvalidArgumentError:
        """Return the error of a loss that has no gradient any more.

        Args:
            loss: Its name.
            updates: Done so far.
        """
        return InvalidArgumentError(
            f"after {updates} updates the loss {loss!r} of the model {self._name!r} has no gradient any more: the "
            "network has frozen all its weights, cut its outputs off (.detach(), torch.no_grad), or switched gradients "
            "off (torch.set_grad_enabled(False))"
        )
