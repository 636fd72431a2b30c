"""Learning rates that set themselves: the training of a neural network as a Gymnasium environment."""

from lr_gym import tasks
from lr_gym.envs import LRTrainingEnv, LRTrainingVectorEnv, make_sb3_vec_env, register_envs
from lr_gym.errors import LRGymError
from lr_gym.evaluation import FunctionAgent, rollout
from lr_gym.tasks import Task, TaskFamily

__version__ = "0.1.0"
__all__ = [
    "FunctionAgent",
    "LRGymError",
    "LRTrainingEnv",
    "LRTrainingVectorEnv",
    "Task",
    "TaskFamily",
    "make_sb3_vec_env",
    "rollout",
    "tasks",
]

register_envs()
