"""ScheduleFree+: schedule-free AdamW whose step size comes from the training loss.

Defazio 2026, "ScheduleFree+: Scaling Learning-Rate-Free & Schedule-Free Learning to Large Language Models",
https://arxiv.org/abs/2605.19095, Algorithm 1. No package has it, so it is written here from its formulas.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

from lr_gym.checks import check_number, check_whole
from lr_gym.errors import InvalidArgumentError


class ScheduleFreePlus(torch.optim.Optimizer):
    """AdamW at z, an average x of where it has been, gradients between them at y, and a step size of Polyak's.

    With the loss f and its gradient g, both at y, of the mini-batch at hand::

        alpha = lr max(0, f + b <g, z - x>) / e          e: moving average of sqrt(pi / 2) |g|_1
        z <- z - alpha^2 lambda y - alpha m / (sqrt(v) + eps)
        x <- (1 - c) x + c z                             c = w / (sum of all w), w = t^r (largest alpha so far)^p
        y <- b x + (1 - b) z

    m and v are Adam's moments, without their bias. The loss is taken to be zero at best: one that ends far above it
    makes the steps too large, and one below zero stops the training. Weight decay is scaled by the square of the step
    size, so that its values are larger than AdamW's: 5 to 50.

    The network holds y while it trains. Call `eval()` before it is evaluated, `train()` before it goes on; `Trainee`
    does so by itself.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1.0,
        betas: tuple[float, float] = (0.9, 0.95),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        interpolation: float = 0.9,
        interpolation_max: float = 0.965,
        anneal_updates: int = 0,
        polyak_beta: float = 0.0,
        average_from: int = 0,
        r: float = 0.0,
        weight_power: float = 2.0,
    ) -> None:
        """Make the optimizer; the defaults are the author's.

        Args:
            params: Parameters or groups of them. All groups take the same step size, each times its own `lr`.
            lr: Multiplies the step size. Positive.
            betas: Decay of Adam's moments, in [0, 1).
            eps: Added to the root of the second moment.
            weight_decay: lambda; at least 0.
            interpolation: b, in [0, 1): how near the place of the gradients is to the average.
            interpolation_max: What b becomes after `anneal_updates`; 1 - b changes geometrically.
            anneal_updates: Updates until then; 0 leaves b where it is.
            polyak_beta: Decay of the average of the gradient's norm, in [0, 1); 0 takes that of the update alone.
            average_from: Updates before the average begins; until then x is z.
            r: Power of the update's number in the weights of the average.
            weight_power: Power p of the largest step size in them.

        Raises:
            InvalidArgumentError: A value is out of range.
        """
        check_number("lr", lr, 0, low_open=True)
        shares = {"betas[0]": betas[0], "betas[1]": betas[1], "polyak_beta": polyak_beta}
        shares |= {"interpolation": interpolation, "interpolation_max": interpolation_max}
        for name, value in shares.items():
            check_number(name, value, 0, 1, high_open=True)
        check_number("eps", eps, 0)
        check_number("weight_decay", weight_decay, 0)
        check_whole("anneal_updates", anneal_updates, 0)
        check_whole("average_from", average_from, 0)
        self._anneal = interpolation, interpolation_max, anneal_updates
        self._polyak_beta, self._average_from, self._r, self._power = polyak_beta, average_from, r, weight_power
        # What changes is in the groups: so it is part of a state_dict.
        counts = {"updates": 0, "norm": 0.0, "largest": 0.0, "weights": 0.0, "interpolation": interpolation}
        super().__init__(
            params,
            {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay, "training": True, **counts},
        )

    @torch.no_grad()
    def eval(self) -> None:
        """Put the average x into the parameters."""
        self._switch(False, lambda p, group: p.copy_(self.state[p]["x"]))

    @torch.no_grad()
    def train(self) -> None:
        """Put the weights y into the parameters, at which gradients are taken."""
        self._switch(True, lambda p, group: p.copy_(_between(self.state[p], group["interpolation"])))

    def _switch(self, training: bool, put: Callable[[Tensor, dict[str, Any]], object]) -> None:
        for group in self.param_groups:
            if group["training"] != training:
                for p in group["params"]:
                    if p in self.state:
                        put(p, group)
                group["training"] = training

    @torch.no_grad()
    def step(self, closure: Callable[[], Any]) -> Any:  # type: ignore[override]
        """Do an update.

        Args:
            closure: Computes the loss at the parameters and its gradients, and returns the loss.

        Returns:
            The loss.

        Raises:
            InvalidArgumentError: The network holds the average: `train()` was not called.
        """
        if not all(group["training"] for group in self.param_groups):
            raise InvalidArgumentError("the parameters hold the average: call train() before the next update")
        with torch.enable_grad():
            loss = closure()
        step_size = self._step_size(float(loss))
        for group in self.param_groups:
            alpha = float(group["lr"]) * step_size
            group["largest"] = max(group["largest"], alpha)
            group["updates"] += 1
            share = 1.0
            if group["updates"] > self._average_from:
                weight = group["updates"] ** self._r * group["largest"] ** self._power
                group["weights"] += weight
                share = weight / group["weights"] if group["weights"] else 1.0
            for p in group["params"]:
                if p.grad is not None:
                    self._move(p, group, alpha, share)
        return loss

    def _step_size(self, loss: float) -> float:
        """Return the step size for lr = 1: max(0, f + b <g, z - x>) / e."""
        first = self.param_groups[0]
        start, end, updates = self._anneal
        gradients = [p for group in self.param_groups for p in group["params"] if p.grad is not None]
        norm = sum(float(p.grad.abs().sum(dtype=torch.float64)) for p in gradients) * math.sqrt(math.pi / 2)
        far = sum(
            float((p.grad * (self.state[p]["z"] - self.state[p]["x"])).sum(dtype=torch.float64))
            for p in gradients
            if p in self.state
        )
        done = min(first["updates"] / updates, 1.0) if updates else 0.0
        between = 1 - (1 - start) ** (1 - done) * (1 - end) ** done if updates else start
        beta = self._polyak_beta
        average = beta * first["norm"] + (1 - beta) * norm
        for group in self.param_groups:
            group["norm"], group["interpolation"] = average, between
        unbiased = average / (1 - beta ** (first["updates"] + 1))
        return max(0.0, loss + between * far) / unbiased if unbiased else 0.0

    def _move(self, p: Tensor, group: dict[str, Any], alpha: float, share: float) -> None:
        """Move z by AdamW, the average x after it, and the parameter to y."""
        assert p.grad is not None
        state = self.state[p]  # made by the first look
        if not state:
            state["z"], state["x"] = p.detach().clone(), p.detach().clone()
            state["exp_avg"], state["exp_avg_sq"] = torch.zeros_like(p), torch.zeros_like(p)
        z, m, v = state["z"], state["exp_avg"], state["exp_avg_sq"]
        beta1, beta2 = group["betas"]
        m.lerp_(p.grad, 1 - beta1)
        v.mul_(beta2).addcmul_(p.grad, p.grad, value=1 - beta2)
        z.sub_(p, alpha=alpha**2 * group["weight_decay"])
        root = (v / (1 - beta2 ** group["updates"])).sqrt_().add_(group["eps"])
        z.addcdiv_(m, root, value=-alpha / (1 - beta1 ** group["updates"]))
        state["x"].lerp_(z, share)
        p.copy_(_between(state, group["interpolation"]))


def _between(state: dict[str, Tensor], b: float) -> Tensor:
    """Return y, between x and z."""
    return state["z"].lerp(state["x"], b)
