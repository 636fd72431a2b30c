"""The controller in a training loop of your own: no environment, no Gymnasium."""

from lr_gym.loop.ahead import LookAhead, look_ahead
from lr_gym.loop.controller import LRController
from lr_gym.loop.notices import LRControllerWarning
from lr_gym.loop.validate import Validation, validation

__all__ = ["LRController", "LRControllerWarning", "LookAhead", "Validation", "look_ahead", "validation"]
