from __future__ import annotations

import itertools
import json
import math
from pathlib import Path
from typing import Any

import pytest
import tiny
from hypothesis import given
from hypothesis import strategies as st

from lr_gym import LRTrainingEnv, rollout
from lr_gym.errors import InvalidArgumentError, LRGymError
from lr_gym.evaluation import Cell, Contestant, Rollout, Workers
from lr_gym.evaluation.cells import Failure
from lr_gym.evaluation.tuning import Candidate, Tuned, spread, tune
from lr_gym.files import finite


def candidate(name: str, initial_lr: float = 1e-2, agent: Any = None, **options: Any) -> Candidate:
    return Candidate(Contestant(name, {"agent": name, "options": options}, agent), initial_lr)


def tuned(losses: dict[str, list[float]]) -> Tuned:
    """Tune candidates whose runs have these best validation losses."""

    def invented(cell: Cell) -> Rollout:
        return tiny.record(best=losses[cell.contestant.name][cell.seed], seed=cell.seed)

    seeds = range(len(next(iter(losses.values()))))
    return tune(tiny.task(), [candidate(name) for name in losses], seeds, tiny.StubPool(invented))  # type: ignore[arg-type]


# -- as many as there are episodes -------------------------------------------------------------------------------------


def test_candidates_are_spread_over_the_episodes() -> None:
    """By number of candidates and of episodes, the places of those that are chosen."""
    expected = {(8, 1): [0], (8, 2): [0, 7], (9, 3): [0, 4, 8], (8, 4): [0, 2, 5, 7], (5, 4): [0, 1, 3, 4]}
    expected |= {(3, 3): [0, 1, 2], (3, 48): [0, 1, 2], (1, 1): [0], (0, 5): []}
    for (count, episodes), places in expected.items():
        every = [candidate(str(number)) for number in range(count)]
        assert spread(every, episodes) == [every[place] for place in places]


@given(st.integers(1, 60), st.integers(1, 60))
def test_steps_between_chosen_candidates_are_even(count: int, episodes: int) -> None:
    every = [candidate("a", lr) for lr in range(count)]
    places = [int(one.initial_lr) for one in spread(every, episodes)]
    assert len(places) == min(count, episodes)
    assert places == sorted(set(places))  # none twice, in order
    if episodes >= 2:
        assert (places[0], places[-1]) == (0, count - 1)
        steps = [after - before for before, after in itertools.pairwise(places)]
        assert not steps or max(steps) - min(steps) <= 1


@pytest.mark.parametrize("episodes", [0, -1, 2.5, True, None, "3"])
def test_episodes_that_make_no_sense_are_refused(episodes: Any) -> None:
    with pytest.raises(InvalidArgumentError, match="episodes must be a whole number of at least 1, got"):
        spread([candidate("a")], episodes)


# -- the choice --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("losses", "best"),
    [
        ([[0.1, 3.0, 3.0], [1.5, 1.25, 1.0], [2.0, 2.0, 2.0]], 1),  # not the luckiest run, nor the last loss: 1 for all
        ([[2.0], [1.0], [1.0]], 1),  # of equals the first
        ([[1.0, 2.0]], 0),
        ([[0.5, math.inf], [1.0, 2.0], [1.25, 1.25]], 2),  # what is not finite never wins
        ([[1.0, 2.0], [1.25, 1.25], [0.5, math.inf]], 1),
        ([[1.0, math.nan], [1.0, 1.0]], 1),
        ([[1.0, 1.0], [1.0, math.nan]], 0),
        ([[math.nan, 1.0]], 0),  # if no episode failed there is always one
    ],
)
def test_the_lowest_mean_of_the_best_validation_losses_wins(losses: list[list[float]], best: int) -> None:
    outcome = tuned({str(place): runs for place, runs in enumerate(losses)})
    assert outcome.best.contestant.name == str(best)
    assert [one.contestant.name for one, _ in outcome.tried] == [str(place) for place in range(len(losses))]
    means = [sum(runs) / len(runs) for runs in losses]
    assert [mean for _, mean in outcome.tried] == pytest.approx(means, rel=1e-15, nan_ok=True)
    assert outcome.episodes == sum(map(len, losses))
    json.dumps(finite(outcome.to_dict()), allow_nan=False)


def test_the_outcome_in_json() -> None:
    first, second = candidate("step", 0.1, every=10, factor=0.5), candidate("step", 0.01, every=20, factor=0.5)
    identities = [{"agent": "step", "options": {"every": every, "factor": 0.5}} for every in (10, 20)]
    assert Tuned(second, [(first, 2.0), (second, 1.0)], 6, ["no luck"]).to_dict() == {
        "best": {"agent": identities[1], "initial_lr": 0.01},
        "episodes": 6,
        "failures": ["no luck"],
        "tried": [
            {"agent": identities[0], "initial_lr": 0.1, "mean_best_val_loss": 2.0},
            {"agent": identities[1], "initial_lr": 0.01, "mean_best_val_loss": 1.0},
        ],
    }


# -- the runs ----------------------------------------------------------------------------------------------------------


def test_every_candidate_runs_with_every_seed() -> None:
    pool: Any = tiny.StubPool(lambda cell: tiny.record(seed=cell.seed))
    calls: list[Cell] = []
    candidates = [candidate("a", 0.1), candidate("b", 0.2)]
    env = {"max_multiplier": 3.0}
    tune(tiny.task(), candidates, [5, 7], pool, env=env, advance=lambda cell, _: calls.append(cell))
    (cells,) = pool.calls
    found = [(cell.contestant.name, cell.initial_lr, cell.seed) for cell in cells]
    assert found == [("a", 0.1, 5), ("a", 0.1, 7), ("b", 0.2, 5), ("b", 0.2, 7)]
    assert all((cell.task, cell.env) == (tiny.task(), env | {"score_test": False}) for cell in cells)
    assert calls == cells


class Faulty:
    def predict(self, *_: Any, **__: Any) -> Any:
        raise ZeroDivisionError("no luck")


def test_by_training_a_candidate_that_fails_is_named_and_not_chosen(tmp_path: Path) -> None:
    """Means are those of the rollouts, and what was run is kept: a second time only what failed is tried."""
    with Workers(1, in_process=True) as pool:
        for episodes in (2, 0):
            good = [candidate("decay", lr, tiny.Decay()) for lr in (1e-5, 1e-2)]
            candidates = [candidate("faulty", 0.1, Faulty()), *good]
            outcome = tune(tiny.task(), candidates, [1, 2], pool, folder=tmp_path)
            assert (outcome.best, outcome.episodes) == (good[1], 6)
            words = [f"faulty on fashion-mnist-mini/mlp from 0.1, seed {k}: ZeroDivisionError: no luck" for k in (1, 2)]
            assert outcome.failures == words
            assert math.isnan(outcome.tried[0][1])
            assert [one.contestant.agent.episodes for one in good] == [episodes] * 2
    env = LRTrainingEnv(tiny.task())
    for one, mean in outcome.tried[1:]:
        runs = [rollout(env, tiny.Decay(), seed=seed, initial_lr=one.initial_lr) for seed in (1, 2)]
        assert mean == pytest.approx(sum(run.result["best_val_loss"] for run in runs) / 2, rel=1e-12)
    assert len(list(tmp_path.iterdir())) == 6
    failure = Failure(**json.loads(next(tmp_path.glob("*.failed.json")).read_text()))
    assert failure.error == "ZeroDivisionError: no luck"


def test_no_candidate_that_works_is_an_error(tmp_path: Path) -> None:
    with Workers(1, in_process=True) as pool, pytest.raises(LRGymError, match=r"no candidate .*ZeroDivisionError: no"):
        tune(tiny.task(), [candidate("faulty", 0.1, Faulty())], [1, 2], pool, folder=tmp_path)
