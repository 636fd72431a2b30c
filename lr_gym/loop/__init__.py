"""The controller in a training loop of your own: no environment, no Gymnasium."""

from lr_gym.loop.controller import LRController, LRControllerWarning
from lr_gym.loop.validation import Validation, validation

__all__ = ["LRController", "LRControllerWarning", "Validation", "validation"]
