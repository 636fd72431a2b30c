"""The learned controller: Xu, Dai, Kemp, Metz, "Learning an Adaptive Learning Rate Schedule", 2019. arXiv:1909.09712.

What it sees: the environment's observation, which is the paper's seven features (and, by default, the fraction of the
budget used). What it says: a multiplier of the learning rate. How it learns: proximal policy optimization on whole
training runs,

    J(theta) = E[min(w_t A_t, clip(w_t, 1 - eps, 1 + eps) A_t)]          (the paper's equation 1)

with Stable-Baselines3's PPO, or sb3-contrib's RecurrentPPO for the LSTM actor.

Constants of the paper: one hidden layer of 32 for the actor (MLP or LSTM) and for the critic, Adam at 0.001 for the
actor and 0.005 for the critic, initial learning rates 1e-2, 1e-3, 1e-4. The paper does not say: eps, gamma, lambda,
epochs, mini-batches, exploration, and the scaling of observations and rewards; `config.py` holds our values.

Deviations:
1. The controller is updated after one episode of each of several trainees, not after every single episode.
2. The `quick` profile rewards the improvement of the log validation loss and observes the fraction of the budget
   used; the `paper` profile has the paper's reward and its seven features.
3. The controller that is kept is the one with the best deterministic evaluation on validation data during training.
"""

from lr_gym.agents.ppo.config import TrainConfig
from lr_gym.control import Controller

__all__ = ["Controller", "TrainConfig"]
