from __future__ import annotations

import math
from typing import Any

import pytest

from lr_gym.control import ControlSettings
from lr_gym.control.precautions import Precautions, split
from lr_gym.errors import InvalidArgumentError


def test_only_what_differs_is_named() -> None:
    """Records of results without precautions are hashed as they were before there were any."""
    assert Precautions().to_dict() == {}
    assert Precautions("probe", True, 3).to_dict() == {"start": "probe", "restore": True, "brake": 3.0}


def test_what_an_agent_asks_for_is_split() -> None:
    settings, care = split({"observation": "portable", "max_multiplier": 4.0, "restore": True})
    assert settings == ControlSettings(observation="portable", max_multiplier=4.0)
    assert care == Precautions(restore=True)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"start": "warm"}, "start must be one of 'given', 'probe', got 'warm'"),
        ({"brake": 0.5}, r"brake must lie in \[1, inf\), got 0.5"),
        ({"brake": math.inf}, r"brake must lie in \[1, inf\)"),
        ({"brake": True}, "brake must lie in"),
    ],
)
def test_what_makes_no_sense_is_refused(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidArgumentError, match=message):
        Precautions(**wrong)
