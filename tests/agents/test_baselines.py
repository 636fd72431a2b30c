"""Schedules to tune: what is tried for each, and that each candidate is the schedule that it says."""

from __future__ import annotations

import itertools
import json
import math
from typing import Any

import pytest
import tiny

from lr_gym import LRTrainingEnv
from lr_gym.agents.baselines import LARGEST_LR, PEAKS, TUNABLE, USUAL_LR, candidates, peaks
from lr_gym.agents.schedules import StepDecay
from lr_gym.errors import UnknownNameError
from lr_gym.evaluation import Cell, Rollout
from lr_gym.evaluation.tuning import Candidate
from lr_gym.tasks.parameter_free import PARAMETER_FREE

EXACT = 1e-6  # actions are float32
PEAKED = ("cosine", "one-cycle", "constant")
MOMENTUM = {"optimizer": "SGD", "optimizer_options": {"momentum": 0.9}}


def episode(candidate: Candidate, **fields: Any) -> Rollout:
    """Run a candidate as a comparison does, with a decision after each update."""
    task = tiny.task(**({"decision_interval": 1, "validation_size": 20} | fields))
    return Cell(task, candidate.contestant, candidate.initial_lr, 0).run()


def test_constants() -> None:
    """The paper's grid, half a decade between peaks, and a word on every parameter-free optimizer."""
    assert list(TUNABLE) == ["step", "cosine", "linear", "one-cycle", "constant"]
    assert str(StepDecay(0.001, 20, 0.88)) == "lr 0.001, x0.88 every 20 updates"
    env = LRTrainingEnv(tiny.task())
    assert env.max_lr == LARGEST_LR
    assert (len(PEAKS), PEAKS[0], PEAKS[-1]) == (8, 1e-4, 0.3)
    assert all(2.99 < after / before < 3.34 for before, after in itertools.pairwise(PEAKS))
    names = [*PARAMETER_FREE, "schedule-free-plus", "Adadelta"]
    assert dict(USUAL_LR) == dict.fromkeys(names, 1.0) | {"schedule-free-adamw": 2.5e-3}


@pytest.mark.parametrize(
    ("fields", "scale"),
    [
        ({}, 1),
        ({"optimizer": "AdamW", "optimizer_options": {"weight_decay": 0.1}}, 1),
        ({"optimizer": "RMSprop", "optimizer_options": {"momentum": 0.9}}, 1),
        (MOMENTUM, 10),
        ({"optimizer": "SGD", "optimizer_options": {"momentum": 0.5, "nesterov": True}}, 10),
        ({"optimizer": "SGD"}, 30),
        ({"optimizer": "SGD", "optimizer_options": {"momentum": 0, "weight_decay": 0.1}}, 30),
        ({"optimizer": "torch.optim:SGD"}, 30),
        ({"optimizer": "schedule-free-adamw"}, 1),
        ({"optimizer": "Adadelta"}, 30),
        ({"optimizer": "torch.optim:Adadelta"}, 30),
        *(({"optimizer": name}, 30) for name in PARAMETER_FREE if name != "schedule-free-adamw"),
    ],
)
def test_peaks(fields: dict[str, Any], scale: float) -> None:
    found = peaks(tiny.task(**fields))
    assert found == pytest.approx([scale * peak for peak in PEAKS], rel=1e-9)
    assert all(float(f"{peak:.3g}") == peak for peak in found)  # none reads 0.30000000000000004
    assert min(found) < USUAL_LR.get(fields.get("optimizer", ""), found[4]) < max(found) <= LARGEST_LR


@pytest.mark.parametrize("fields", [{}, {"optimizer": "SGD"}, MOMENTUM], ids=["Adam", "SGD", "momentum"])
@pytest.mark.parametrize("name", TUNABLE)
def test_candidates(name: str, fields: dict[str, Any]) -> None:
    """As many as the table says, called alike, told apart by what they do, and startable in the env."""
    task = tiny.task(**fields)
    tried = candidates(name, task)
    assert {candidate.contestant.name for candidate in tried} == {f"tuned {name}"}
    assert {candidate.contestant.identity["agent"] for candidate in tried} == {name}
    assert len({id(candidate.contestant.agent) for candidate in tried}) == len(tried)
    options = [candidate.contestant.identity["options"] for candidate in tried]
    starts = [candidate.initial_lr for candidate in tried]
    json.dumps([candidate.contestant.identity for candidate in tried], allow_nan=False)
    assert len({Cell(task, c.contestant, c.initial_lr, 0).key for c in tried}) == len(tried)
    for candidate in tried:
        env = LRTrainingEnv(task, **candidate.contestant.env_options)
        env.check_lr(candidate.initial_lr, "the initial lr")
    if name == "step":  # Xu et al. (2019), section 3.2: the same for every optimizer
        expected = set(itertools.product((0.1, 0.01, 0.001, 0.0001), (10, 20, 50, 100), (0.99, 0.9, 0.88)))
        assert list(options[0]) == ["every", "factor"]
        assert {(lr, *o.values()) for lr, o in zip(starts, options, strict=True)} == expected
        assert len(tried) == 48
    elif name == "one-cycle":
        assert options == [{"peak_lr": peak} for peak in peaks(task)]
        assert starts == pytest.approx([peak / 25 for peak in peaks(task)])
    else:
        assert (options, starts) == ([{}] * 8, peaks(task))


def test_cosines_and_constants_start_at_their_peak() -> None:
    task = tiny.task()
    cosine, constant = (episode(candidates(name, task)[3]).lrs for name in ("cosine", "constant"))
    assert cosine == pytest.approx([3e-3 * (1 + math.cos(math.pi * u / 40)) / 2 for u in range(40)], rel=1e-5)
    assert constant == [3e-3] * 40
    record = episode(candidates("one-cycle", tiny.task(**MOMENTUM))[5], **MOMENTUM)
    assert max(record.lrs) == pytest.approx(0.3, rel=EXACT)


def test_step_decays_decay() -> None:
    tried = candidates("step", tiny.task())
    (chosen,) = (
        c for c in tried if c.initial_lr == 1e-3 and c.contestant.identity["options"] == {"every": 10, "factor": 0.88}
    )
    assert episode(chosen).lrs == pytest.approx([1e-3 * 0.88 ** (u // 10) for u in range(40)], rel=1e-5)


def test_unknown_names() -> None:
    for name, guess in (("cosin", " Did you mean 'cosine'?"), ("", ""), ("kim-yu", "")):
        with pytest.raises(UnknownNameError) as caught:
            candidates(name, tiny.task())
        known = "Known: constant, cosine, linear, one-cycle, step."
        assert str(caught.value) == f"no tunable schedule is named {name!r}.{guess} {known}"
