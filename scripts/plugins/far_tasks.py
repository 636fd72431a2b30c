"""Tasks far from the family `universal`, for eval_transfer.py --plugins: other data, losses and networks.

| task | what | loss |
|---|---|---|
| far/teacher-mlp | regression with noise, perceptron | squared error |
| far/fashion-hinge | images, perceptron | multi-class hinge |
| far/pairs-siamese | same digit or not, Siamese network | cross entropy |
| far/sentences-lstm | kind of a sentence, LSTM | cross entropy |
| far/characters-gru | next character, GRU | cross entropy |
| far/capitals-transformer | which characters are capitals, transformer | cross entropy |

They are problems that ARC was trained on (`agents/arc/problems.py`), here with Adam, 250 updates of 64 examples in
fifty intervals, from initial learning rates over three decades. Needs MNIST and `tinyshakespeare.txt`.
"""

from __future__ import annotations

from lr_gym import tasks
from lr_gym.agents.arc.problems import PROBLEMS

BUDGET, INTERVALS = 250, 50

for _name in (
    "teacher-mlp",
    "fashion-hinge",
    "pairs-siamese",
    "sentences-lstm",
    "characters-gru",
    "capitals-transformer",
):
    _task = PROBLEMS[_name].task.replace(
        name=f"far/{_name}",
        budget=BUDGET,
        decision_interval=BUDGET // INTERVALS,
        initial_lrs=(1e-2, 1e-3, 1e-4, 1e-5),
    )
    tasks.register(_task, replace=True)
