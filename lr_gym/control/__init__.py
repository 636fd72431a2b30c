"""The core: watch a training, and decide its learning rate. PyTorch and NumPy only.

The environment and a user's own training loop both stand on it; agents see what is watched and nothing else.

| module | what it holds |
|---|---|
| `features`, `observations` | what is measured, and how it is shown |
| `actions`, `rewards` | what an action means, and what is rewarded |
| `settings` | which of these, and the bounds of the learning rate |
| `measuring` | from an interval's tensors to numbers, with one synchronisation; the best weights so far |
| `watched` | a training as agents see it |
| `process` | one interval after another: decide, conclude |
| `agent` | the protocol of an agent |
| `precautions`, `edge`, `brake` | what keeps a training from harm: its start, an upper bound |
| `trouble`, `way_back` | what tells a broken training, and where it goes back to |
| `final_layer`, `scale` | which layer makes the outputs; losses on a logarithmic scale |
| `description`, `controller`, `networks` | a trained controller: what it is, its files, its networks' forward pass |
"""

from lr_gym.control.agent import Agent, FunctionAgent, as_agent, begin
from lr_gym.control.controller import Controller
from lr_gym.control.measuring import BestWeights, Evaluation, Measurement, Meter
from lr_gym.control.process import Conclusion, DecisionProcess
from lr_gym.control.settings import ControlSettings
from lr_gym.control.watched import Training, Watched, as_watched

__all__ = [
    "Agent",
    "BestWeights",
    "Conclusion",
    "ControlSettings",
    "Controller",
    "DecisionProcess",
    "Evaluation",
    "FunctionAgent",
    "Measurement",
    "Meter",
    "Training",
    "Watched",
    "as_agent",
    "as_watched",
    "begin",
]
