"""Work on the machines of a Ray cluster: function calls, and environments that answer questions.

`RayCluster` is a `lr_gym.envs.places.Place`. Ray is imported when a `RayCluster` is entered, not before.
"""

from lr_gym.cluster.connection import RayCluster
from lr_gym.cluster.needs import Needs

__all__ = ["Needs", "RayCluster"]
