from __future__ import annotations

import math

import numpy as np
import pytest

from lr_gym.control.features import Features
from lr_gym.control.measuring import Measurement
from lr_gym.control.trouble import Vital
from lr_gym.control.way_back import WayBack, began_broken, doubtful

START = Vital(2.0, 0.5)
BOTH = {"train_loss": 1.0, "val_loss": 1.0}


def test_back_to_where_the_interval_began() -> None:
    way = WayBack("untrained")
    assert way.go_back(began_broken=True) == ("untrained", False)  # there is nothing before it
    way.go_on("after 1", doubtful=False)
    assert way.go_back(began_broken=True) == ("after 1", False)
    way.go_on("after 2", doubtful=True)
    assert way.go_back(began_broken=False) == ("after 2", False)


def test_one_further_where_it_was_broken_then() -> None:
    way = WayBack("untrained")
    way.go_on("after 1", doubtful=True)
    assert way.go_back(began_broken=True) == ("untrained", True)
    assert way.go_back(began_broken=True) == ("untrained", False)
    way.go_on("after 2", doubtful=True)
    way.go_on("after 3", doubtful=True)
    assert way.go_back(began_broken=True) == ("after 2", True)


def test_no_more_copies_than_needed() -> None:
    way = WayBack("untrained")
    way.go_on("after 1", doubtful=True)
    assert way.before == "untrained"
    way.go_on("after 2", doubtful=False)
    assert way.before is None


@pytest.mark.parametrize(
    ("losses", "doubt"),
    [
        (BOTH, False),
        ({"val_loss": 1.0}, False),
        ({"train_loss": 1.0, "val_loss": 6.0}, False),  # three times the untrained network's, as high as is allowed
        ({"train_loss": 1.0, "val_loss": 6.1}, True),
        ({"train_loss": 1.0}, True),  # nothing says how it ended
    ],
)
def test_doubt(losses: dict[str, float], doubt: bool) -> None:
    assert doubtful(START, losses) == doubt


@pytest.mark.parametrize(
    ("first", "losses", "broken"),
    [
        (2.3, BOTH, False),
        (6.1, BOTH, True),
        (6.1, {"train_loss": 1.0}, False),  # batches differ
        (20.1, {"train_loss": 1.0}, True),
        (math.nan, BOTH, True),
        (math.inf, BOTH, True),
        (math.nan, {"val_loss": 1.0}, False),  # no training losses were measured
    ],
)
def test_an_interval_that_began_broken(first: float, losses: dict[str, float], broken: bool) -> None:
    features = Features(**dict.fromkeys(Features.__dataclass_fields__, 0.0))
    measured = Measurement(features, np.array([first, 1.0]), None, False)
    assert began_broken(START, measured, losses) == broken
