"""How a task is trained: one trainee, driven by its learning rate."""

from lr_gym.trainee.batches import Batch
from lr_gym.trainee.trainee import BestWeights, Evaluation, Measurement, Snapshot, Trainee

__all__ = ["Batch", "BestWeights", "Evaluation", "Measurement", "Snapshot", "Trainee"]
