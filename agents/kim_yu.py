"""The in-training scheduler of Kim & Yu ("Automated learning rate scheduling with in-training information", 2024).

Sees: losses of one mini-batch B after a step at each of N candidate learning rates. Says, for factors f_1 ... f_N:

    l_i = L(theta - f_i lr g; B)                       g: gradient on B
    z_i = (l_i - mean(l)) / std(l)                     sample standard deviation (N - 1)
    w_i = exp(-z_i)
    lr <- lr exp(sum_i w_i ln f_i / sum_i w_i)         weighted geometric mean of the factors

once per epoch, the first epoch at the initial lr. The paper's: the rule, and the factor lists of 3, 5 and 7. The
multiplier depends neither on the scale of the loss nor on a constant added to it. On a quadratic with curvature h it is
1 at h lr = 0.8, 0.575 and 0.352 with 3, 5 and 7 factors: below the best step, 1, the more so the longer the list.

Deviations. 1: by default a decision falls due once per epoch or every 30th of the budget, whichever is less;
`every="epoch"` is the paper's. 2: a candidate whose loss is not finite gets no weight; if none is finite, the smallest
factor is taken; equal losses weigh the same. The paper's formula gives NaN there. 3: the last of five factors is
0.125 on the paper's slide and 0.25 in every configuration of its code, which we follow. 4: the candidates take plain
gradient steps even if the trainee's optimizer is another, as in the authors' code; `direction="optimizer"` tries what
the optimizer would do.

`variant="as-released"` is what the authors' code ran: it recorded each candidate's loss *before* the step, and on a
different mini-batch for each. The losses do not depend on the factors then, and log lr is a random walk: a null model,
for comparison with methods that look at something.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from lr_gym.agents.base import AGENTS, PeriodicAgent
from lr_gym.agents.options import checked_factors
from lr_gym.checks import check_choice, check_whole
from lr_gym.errors import InvalidArgumentError

Floats = npt.NDArray[np.float64]
#: Weights (N,) of candidates, from their losses (N,) and the loss before the step.
Score = Callable[[Floats, float], Floats]

#: The paper's lists of factors by their length.
FACTORS: dict[int, tuple[float, ...]] = {
    3: (2, 1, 0.5),
    5: (4, 2, 1, 0.5, 0.25),
    7: (8, 4, 2, 1, 0.5, 0.25, 0.125),
}


def exponential_score(losses: Floats, loss_before: float) -> Floats:
    """Return exp(-z) of the z-scored losses: the paper's score.

    Args:
        losses: Losses of the candidates, (N,).
        loss_before: Not used.

    Returns:
        Weights (N,); zero where a loss is not finite.
    """
    weights = np.zeros_like(losses)
    finite = np.isfinite(losses)
    # Scaled first, because the squares of huge losses overflow; z does not depend on it.
    scaled = losses[finite] / max(1.0, np.abs(losses[finite]).max(initial=0.0))
    spread = scaled.std(ddof=1) if len(scaled) > 1 else 0.0
    weights[finite] = np.exp(-(scaled - scaled.mean()) / spread) if spread > 0 else 1.0
    return weights


def improvement_score(losses: Floats, loss_before: float) -> Floats:
    """Return by how much each candidate lowers the loss, and zero for those that raise it: our alternative.

    The paper's score looks at losses relative to their spread, so that one candidate that fails makes all others look
    alike. This one does not see how badly a candidate fails. Like the paper's, it depends neither on the scale of the
    loss nor on a constant. If no candidate lowers the loss, the best of them gets all the weight.

    Args:
        losses: Losses of the candidates, (N,).
        loss_before: Loss of the same mini-batches before the step.
    """
    ranked = np.where(np.isfinite(losses), losses, np.inf)
    if np.isinf(ranked).all():
        return np.zeros_like(losses)
    weights = np.maximum(0.0, loss_before - ranked) if math.isfinite(loss_before) else np.zeros_like(losses)
    if not weights.any():
        weights[np.argmin(ranked)] = 1.0
    return weights


SCORES: dict[str, Score] = {"exponential": exponential_score, "improvement": improvement_score}


def weighted_geometric_mean(factors: Sequence[float], weights: Floats) -> float:
    """Return exp(sum w ln f / sum w), or the smallest factor if all weights are zero."""
    total = float(np.sum(weights))
    if total == 0:
        return float(min(factors))
    return math.exp(float(np.dot(weights, np.log(factors))) / total)


class KimYuAgent(PeriodicAgent):
    """Multiply the learning rate by a mean of factors, each weighted by the loss after a step with it."""

    looks_ahead = "probes learning rates"

    def __init__(
        self,
        factors: int | Sequence[float] = 3,
        *,
        batches: int = 1,
        score: str | Score = "exponential",
        direction: str = "gradient",
        variant: str = "published",
        every: float | str | None = None,
    ) -> None:
        """Make the agent.

        Args:
            factors: The paper's list of 3, 5 or 7, or a list of your own.
            batches: Mini-batches over which gradient and losses are averaged (paper: 1).
            score: `"exponential"` (the paper's), `"improvement"`, or a function of the losses (N,) and the loss before
                the step that returns weights (N,) of at least 0.
            direction: What the candidates step along: `"gradient"` (the paper's) or `"optimizer"`.
            variant: `"published"`, or `"as-released"` for the random walk of the authors' code.
            every: Updates between decisions, or `"epoch"` (the paper's); by default an epoch, but at most a 30th of
                the budget.

        Raises:
            InvalidArgumentError: An option makes no sense.
        """
        super().__init__(every)
        known = FACTORS.get(factors) if isinstance(factors, int) else None
        self.factors = known or checked_factors(factors, 2, "3, 5, 7 or ")
        check_whole("batches", batches)
        check_choice("direction", direction, ("gradient", "optimizer"))
        check_choice("variant", variant, ("published", "as-released"))
        if not callable(score):
            check_choice("score", score, SCORES)
        if variant == "as-released" and (batches, direction) != (1, "gradient"):
            raise InvalidArgumentError("variant='as-released' takes no step: batches and direction have no meaning")
        if variant == "as-released" and score == "improvement":
            raise InvalidArgumentError("variant='as-released' takes no step: there is no improvement to score")
        self.batches, self.direction, self.variant = batches, direction, variant
        self.score: Score = score if callable(score) else SCORES[score]

    def decide(self) -> float:
        """Score the candidates and return the learning rate times their mean."""
        lr = self.trainee.lr
        if self.variant == "as-released":
            batches = self.trainee.peek_batches(len(self.factors))
            losses = np.array([self.trainee.batch_loss([batch]) for batch in batches])
            loss_before = math.nan
        else:
            batches = self.trainee.peek_batches(self.batches)
            here = self.trainee.directions(batches)
            direction = here.gradient if self.direction == "gradient" else here.update
            losses = self.trainee.probe(np.multiply(self.factors, lr), batches, direction)
            loss_before = here.loss
        weights = np.asarray(self.score(losses, loss_before), dtype=np.float64)
        if weights.shape != losses.shape or not (np.isfinite(weights).all() and (weights >= 0).all()):
            raise InvalidArgumentError(f"score must return {len(losses)} finite weights of at least 0, got {weights}")
        return lr * weighted_geometric_mean(self.factors, weights)


AGENTS.register("kim-yu", KimYuAgent)
