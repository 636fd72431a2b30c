from __future__ import annotations

import math

import pytest
import torch

from lr_gym.control.trouble import Vital, trouble, variation

START = Vital(2.0, 0.5)
FINITE, WENT_UP, DEAD = "a loss is not finite or above 100", "the training loss went up from 2 to 8", "no longer depend"


@pytest.mark.parametrize(
    ("now", "losses", "wrong"),
    [
        (Vital(1.0, 0.4), {"train_loss": 1.0, "val_loss": 1.0}, None),
        (Vital(2.0, 0.4), {"train_loss": 2.0, "val_loss": 2.0}, None),  # learns slowly
        (Vital(1.9, 0.4), {"train_loss": 50.0, "val_loss": 1.9}, None),  # went up and came down
        (Vital(3.0, 0.4), {"train_loss": 0.1, "val_loss": 3.0}, None),  # learns by heart
        (Vital(1.9, 0.0), {"train_loss": 1.0, "val_loss": 1.9}, None),
        (Vital(2.0, 0.4), {"train_loss": 6.0, "val_loss": 2.0}, None),  # as high as is allowed
        (Vital(2.0, 0.4), {"train_loss": 8.0, "val_loss": 2.0}, WENT_UP),
        (Vital(8.0, math.nan), {"train_loss": 8.0}, None),  # batches differ
        (Vital(30.0, math.nan), {"train_loss": 30.0}, "went up from 2 to 30"),
        (Vital(2.3, 1e-5), {"train_loss": 2.0, "val_loss": 2.3}, DEAD),
        (Vital(2.3, math.nan), {"train_loss": 2.0, "val_loss": 2.3}, None),
        (Vital(math.nan, math.nan), {"train_loss": 2.0}, None),  # no validation data, nothing measured yet
        (Vital(1.0, 0.4), {"train_loss": math.nan, "val_loss": 1.0}, FINITE),
        (Vital(math.nan, 0.4), {"val_loss": math.nan}, FINITE),
        (Vital(101.0, 0.4), {"train_loss": 1.0, "val_loss": 101.0}, FINITE),
        (Vital(math.nan, math.nan), {}, None),  # nobody measures anything
    ],
)
def test_what_is_wrong(now: Vital, losses: dict[str, float], wrong: str | None) -> None:
    found = trouble(START, now, losses, 100.0)
    assert (found is None) if wrong is None else (found is not None and wrong in found)


def test_variation_is_over_the_examples() -> None:
    """A network that answers every input alike has none, however its outputs differ from each other."""
    assert variation(torch.tensor([[1.0, 5.0], [1.0, 5.0]])) == 0
    assert variation(torch.tensor([[1.0, 5.0], [3.0, 5.0]])) == 0.5  # variances 1 and 0
    assert variation(torch.tensor([1.0, 3.0])) == 1.0
    assert variation(torch.ones(4, 2, 3)) == 0
