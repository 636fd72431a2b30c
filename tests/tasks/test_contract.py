"""What a loss must be: found out, however alike the outputs of an untrained network are."""

from __future__ import annotations

from collections.abc import Callable

import own_losses
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from lr_gym.errors import InvalidArgumentError
from lr_gym.tasks.contract import check_mean

Loss = Callable[[Tensor, Tensor], Tensor]


def examples(seed: int, scale: float, column: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Return outputs, real and binary targets: outputs (64, 1) and targets (64,), or the other way round."""
    generator = torch.Generator().manual_seed(seed)
    outputs, real = scale * torch.randn(64, generator=generator), torch.randn(64, generator=generator)
    bits = (torch.rand(64, generator=generator) > 0.5).float()
    return (outputs[:, None], real, bits) if column else (outputs, real[:, None], bits[:, None])


@pytest.mark.parametrize("scale", [0.0, 1e-3, 1.0, 30.0])
@pytest.mark.parametrize("column", [True, False])
def test_pairs_are_found_out(scale: float, column: bool) -> None:
    for seed in range(20):
        outputs, real, bits = examples(seed, scale, column)
        wrong: list[tuple[Loss, Tensor]] = [
            (own_losses.squared, real),
            (lambda p, t: (p - t).abs().mean(), real),
            (own_losses.focal, bits),
        ]
        for loss, targets in wrong:
            with pytest.raises(InvalidArgumentError, match="pairs every example with every other"):
                check_mean("own", loss, outputs, targets)


@pytest.mark.parametrize("scale", [0.0, 1e-3, 1.0, 30.0])
@pytest.mark.parametrize("column", [True, False])
def test_losses_that_reshape_are_means(scale: float, column: bool) -> None:
    def of_probabilities(p: Tensor, t: Tensor) -> Tensor:
        assert bool((p >= 0).all())
        return F.binary_cross_entropy(p.reshape(-1), t.reshape(-1))

    for seed in range(20):
        outputs, real, bits = examples(seed, scale, column)
        check_mean("own", lambda p, t: (p.reshape(-1) - t.reshape(-1)).pow(2).mean(), outputs, real)
        check_mean("own", lambda p, t: (p.reshape(-1) - t.reshape(-1)).pow(2).mean().sqrt(), outputs, real)
        check_mean("own", of_probabilities, outputs.sigmoid(), bits)
