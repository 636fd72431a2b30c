"""ARC, an autonomous learning rate controller: the agent is in `agent.py`, how it is trained in `train.py`."""

from lr_gym.agents.arc.agent import ARCAgent

__all__ = ["ARCAgent"]
