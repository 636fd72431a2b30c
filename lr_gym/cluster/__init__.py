"""Calls and environments on the machines of a Ray cluster, as a `lr_gym.envs.places.Place`.

Nothing here loads Ray before a `RayCluster` is entered.
"""

from lr_gym.cluster.connection import RayCluster
from lr_gym.cluster.needs import Needs

__all__ = ["Needs", "RayCluster"]
