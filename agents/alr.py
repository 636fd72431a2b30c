"""The adaptive learning rate tree, ALR (Takase, Oyama & Kurihara 2018; Algorithm 1 as in Kim & Yu 2024).

Sees: training losses of whole branches. A beam holds up to M pairs (lr_m, theta_m). Each window (in the paper: epoch)

    for every pair m and every scale factor r_n, n = 1 ... N: train one window from theta_m at lr_m r_n, and score it;
    the best branch becomes the trainee's, the M best are the next beam.

Says: the learning rate of the best branch. That branch is then trained by the env from its parent's state, to the same
result bit for bit on the CPU, so that the env's record is that of a plain training (up to rounding where the branches
are computed at once, which `Trainee.grow` does for very small networks and on a GPU).

Cost of a decision: M N branches, that is M N windows of updates on top of the plain one, and as many forward passes
again with `score="after"`. Memory: at most 2 M states of network and optimizer beside the trainee's own.

Deviations, and what the paper leaves open. 1: by default a window is an epoch or a 30th of the budget, whichever is
less; `every="epoch"` is the paper's. 2: the score is the mean loss on the window's mini-batches after training on them,
for a window of an epoch the paper's training loss over all examples; `score="running"` takes the losses met on the
way. 3: M and r are not given in the sources at hand: ours are 2 and (2, 1, 0.5). 4: the beam starts with one pair, the
trainee at its initial lr: M equal pairs would grow equal branches. 5: branches are grown at learning rates that the
env's next action can reach; where that makes two children of a pair equal, one is grown. 6: a branch whose loss is not
finite or above the task's ceiling is worse than any other; if all are, the smallest learning rate is taken. Of equal
scores the first wins, in the order of beam and factors.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

from torch import Tensor

from lr_gym.agents.base import AGENTS, PeriodicAgent
from lr_gym.agents.options import checked_factors
from lr_gym.checks import check_choice, check_whole
from lr_gym.control.watched import Watched
from lr_gym.trainee import Batch, Snapshot, Trainee


@dataclasses.dataclass(frozen=True)
class Leaf:
    """A branch that was grown.

    Attributes:
        loss: Its score; infinite if it diverged.
        lr: Its learning rate.
        parent: State that it grew from.
        state: State at its end.
    """

    loss: float
    lr: float
    parent: Snapshot
    state: Snapshot


class ALRAgent(PeriodicAgent):
    """Grow branches at several learning rates, follow the best, remember the runners-up."""

    looks_ahead = "grows branches"

    def __init__(
        self,
        beam: int = 2,
        factors: Sequence[float] = (2.0, 1.0, 0.5),
        *,
        score: str = "after",
        every: float | str | None = None,
    ) -> None:
        """Make the agent.

        Args:
            beam: M, pairs that are kept.
            factors: r_1 ... r_N.
            score: `"after"`: mean loss on the window's mini-batches at the branch's end; `"running"`: mean of the
                losses before each update.
            every: Updates in a window, or `"epoch"` (the paper's); by default an epoch, but at most a 30th of the
                budget.

        Raises:
            InvalidArgumentError: An option makes no sense.
        """
        super().__init__(every, first=0)
        check_whole("beam", beam)
        check_choice("score", score, ("after", "running"))
        self.beam, self.factors, self.score = beam, checked_factors(factors, 1), score

    def reset(self, watched: Watched) -> None:
        """Begin an episode with a beam of one: the trainee."""
        super().reset(watched)
        self._runners_up: list[tuple[float, Snapshot]] = []

    def decide(self) -> float:
        """Grow all branches, move the trainee to the parent of the best one, and return the best one's lr."""
        trainee, updates = self.trainee, self.updates_ahead()
        here = trainee.snapshot()
        pairs = [(trainee.lr, here), *self._runners_up]
        children = {  # a dictionary, so that equal ones are grown once, and in this order
            (number, self.reachable(lr * r)): None for number, (lr, _) in enumerate(pairs) for r in self.factors
        }
        starts = [(self._here_with(here, pairs[number][1]), lr) for number, lr in children]
        batches = trainee.peek_batches(updates)
        best: list[Leaf] = []
        grown = trainee.grow(starts, updates)
        for (number, lr), (losses, branch) in zip(children, grown, strict=True):
            loss = self._score(branch, losses, batches)
            if len(best) < self.beam or _rank(loss, lr) < _rank(best[-1].loss, best[-1].lr):
                del best[self.beam - 1 :]  # makes room before another state is kept
                best.append(Leaf(loss, lr, pairs[number][1], branch.snapshot()))
                best.sort(key=lambda leaf: _rank(leaf.loss, leaf.lr))  # stable: of equal leaves the first wins
        trainee.restore(here)
        trainee.revert(best[0].parent)
        self._runners_up = [(leaf.lr, leaf.state) for leaf in best[1:] if math.isfinite(leaf.loss)]
        return best[0].lr

    def _score(self, branch: Trainee, losses: Tensor, batches: Sequence[Batch]) -> float:
        """Return the loss of a branch, given the trainee at its end, the losses on its way, and its mini-batches."""
        loss = branch.batch_loss(batches) if self.score == "after" else float(losses.double().mean())
        return loss if loss <= branch.task.loss_ceiling else math.inf

    def _here_with(self, here: Snapshot, network: Snapshot) -> Snapshot:
        """Return clock, data and noise of one state with network and optimizer of another."""
        return dataclasses.replace(here, tensors=network.tensors, optimizer=network.optimizer)

    def __getstate__(self) -> dict[str, Any]:
        return super().__getstate__() | {"_runners_up": []}


def _rank(loss: float, lr: float) -> tuple[float, float]:
    """Return what branches are sorted by: the loss, and among the diverged the learning rate."""
    return loss, lr if math.isinf(loss) else 0.0


AGENTS.register("alr", ALRAgent)
