"""How a task is trained: one trainee, driven by its learning rate."""

from lr_gym.trainee.batches import Batch
from lr_gym.trainee.records import BestWeights, Evaluation, Measurement, Snapshot
from lr_gym.trainee.trainee import Trainee

__all__ = ["Batch", "BestWeights", "Evaluation", "Measurement", "Snapshot", "Trainee"]
