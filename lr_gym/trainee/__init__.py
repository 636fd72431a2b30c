"""How a task is trained: one trainee, or a population of them, driven by learning rates."""

from lr_gym.control.measuring import BestWeights, Evaluation, Measurement
from lr_gym.trainee.batches import Batch
from lr_gym.trainee.population import Population
from lr_gym.trainee.records import Directions, Passes, Snapshot
from lr_gym.trainee.run import TrainingRun
from lr_gym.trainee.trainee import Trainee

__all__ = [
    "Batch",
    "BestWeights",
    "Directions",
    "Evaluation",
    "Measurement",
    "Passes",
    "Population",
    "Snapshot",
    "Trainee",
    "TrainingRun",
]
