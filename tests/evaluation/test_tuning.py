from __future__ import annotations

import itertools
import json
import math
import re
from pathlib import Path
from typing import Any

import pytest
import tiny
from hypothesis import given
from hypothesis import strategies as st

from lr_gym import LRTrainingEnv, agents, rollout
from lr_gym.errors import InvalidArgumentError, LRGymError
from lr_gym.evaluation import Cell, Contestant, Rollout, Workers
from lr_gym.evaluation.matrix import Failure
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


@pytest.mark.parametrize(
    ("count", "episodes", "places"),
    [
        (8, 1, [0]),
        (8, 2, [0, 7]),
        (9, 3, [0, 4, 8]),
        (8, 4, [0, 2, 5, 7]),
        (5, 4, [0, 1, 3, 4]),
        (3, 3, [0, 1, 2]),
        (3, 48, [0, 1, 2]),
        (1, 1, [0]),
        (0, 5, []),
    ],
)
def test_spread(count: int, episodes: int, places: list[int]) -> None:
    every = [candidate(str(number)) for number in range(count)]
    assert spread(every, episodes) == [every[place] for place in places]


@given(st.integers(1, 60), st.integers(1, 60))
def test_spread_properties(count: int, episodes: int) -> None:
    every = [candidate("a", lr) for lr in range(count)]
    places = [int(one.initial_lr) for one in spread(every, episodes)]
    assert len(places) == min(count, episodes)
    assert places == sorted(set(places))  # none twice, in order
    if episodes >= 2:
        assert (places[0], places[-1]) == (0, count - 1)
        steps = [after - before for before, after in itertools.pairwise(places)]
        assert not steps or max(steps) - min(steps) <= 1


@pytest.mark.parametrize("episodes", [0, -1, 2.5, True, None, "3"])
def test_episodes_that_make_no_sense(episodes: Any) -> None:
    with pytest.raises(InvalidArgumentError, match="episodes must be a whole number of at least 1, got"):
        spread([candidate("a")], episodes)


# -- the choice --------------------------------------------------------------------------------------------------------


def test_the_lowest_mean_of_the_best_validation_losses_wins() -> None:
    """Not the luckiest run, and not the last validation loss, which is 1 for all."""
    outcome = tuned({"lucky": [0.1, 3.0, 3.0], "steady": [1.5, 1.25, 1.0], "bad": [2.0, 2.0, 2.0]})
    assert outcome.best.contestant.name == "steady"
    assert [(one.contestant.name, loss) for one, loss in outcome.tried] == [
        ("lucky", pytest.approx(6.1 / 3)),
        ("steady", 1.25),
        ("bad", 2.0),
    ]
    assert outcome.episodes == 9


def test_of_equals_the_first() -> None:
    assert tuned({"a": [2.0], "b": [1.0], "c": [1.0]}).best.contestant.name == "b"


def test_one_candidate() -> None:
    outcome = tuned({"a": [1.0, 2.0]})
    assert (outcome.best.contestant.name, outcome.tried[0][1], outcome.episodes) == ("a", 1.5, 2)


@pytest.mark.parametrize("place", [0, 1, 2])
def test_an_infinite_loss_never_wins(place: int) -> None:
    losses = [[1.0, 2.0], [1.25, 1.25]]
    losses.insert(place, [0.5, math.inf])
    outcome = tuned(dict(zip("abc", losses, strict=True)))
    assert outcome.best.contestant.name == "abc"[losses.index([1.25, 1.25])]
    json.dumps(finite(outcome.to_dict()), allow_nan=False)


def test_a_loss_that_is_no_number_never_wins() -> None:
    assert tuned({"a": [1.0, math.nan], "b": [1.0, 1.0]}).best.contestant.name == "b"


@given(st.lists(st.lists(st.integers(1, 50), min_size=2, max_size=2), min_size=1, max_size=6))
def test_the_choice_has_the_lowest_mean(losses: list[list[int]]) -> None:
    outcome = tuned({str(place): [float(loss) for loss in runs] for place, runs in enumerate(losses)})
    means = [sum(runs) / 2 for runs in losses]
    assert [mean for _, mean in outcome.tried] == means
    assert int(outcome.best.contestant.name) == means.index(min(means))
    assert outcome.episodes == 2 * len(losses)


def test_dictionary() -> None:
    first, second = candidate("step", 0.1, every=10, factor=0.5), candidate("step", 0.01, every=20, factor=0.5)
    values = Tuned(second, [(first, 2.0), (second, 1.0)], 6).to_dict()
    identities = [{"agent": "step", "options": {"every": every, "factor": 0.5}} for every in (10, 20)]
    assert values == {
        "best": {"agent": identities[1], "initial_lr": 0.01},
        "episodes": 6,
        "failures": [],
        "tried": [
            {"agent": identities[0], "initial_lr": 0.1, "mean_best_val_loss": 2.0},
            {"agent": identities[1], "initial_lr": 0.01, "mean_best_val_loss": 1.0},
        ],
    }


# -- the runs ----------------------------------------------------------------------------------------------------------


def test_every_candidate_runs_with_every_seed() -> None:
    pool = tiny.StubPool(lambda cell: tiny.record(seed=cell.seed))
    candidates = [candidate("a", 0.1), candidate("b", 0.2)]
    calls: list[tuple[Cell, Rollout]] = []
    tune(
        tiny.task(),
        candidates,
        [5, 7],
        pool,  # type: ignore[arg-type]
        env={"max_multiplier": 3.0},
        advance=lambda *pair: calls.append(pair),
    )
    (cells,) = pool.calls
    assert [(cell.contestant.name, cell.initial_lr, cell.seed) for cell in cells] == [
        *[("a", 0.1, 5), ("a", 0.1, 7)],
        *[("b", 0.2, 5), ("b", 0.2, 7)],
    ]
    assert all((cell.task, cell.env) == (tiny.task(), {"max_multiplier": 3.0, "score_test": False}) for cell in cells)
    assert [cell for cell, _ in calls] == cells


def test_by_training(tmp_path: Path) -> None:
    """Real training: the mean of the best validation losses of the rollouts; a second time nothing is run."""
    candidates = [candidate("decay", lr, tiny.Decay()) for lr in (1e-5, 1e-2)]
    with Workers(1, in_process=True) as pool:
        outcome = tune(tiny.task(), candidates, [1, 2], pool, folder=tmp_path)
        env = LRTrainingEnv(tiny.task())
        for one, mean in outcome.tried:
            runs = [rollout(env, tiny.Decay(), seed=seed, initial_lr=one.initial_lr) for seed in (1, 2)]
            assert mean == pytest.approx(sum(run.result["best_val_loss"] for run in runs) / 2, rel=1e-12)
        assert outcome.best == candidates[1]
        assert len(list(tmp_path.iterdir())) == outcome.episodes == 4
        again = [candidate("decay", lr, tiny.Decay()) for lr in (1e-5, 1e-2)]
        repeated = tune(tiny.task(), again, [1, 2], pool, folder=tmp_path)
    assert repeated.to_dict() == outcome.to_dict()
    assert [one.contestant.agent.episodes for one in again] == [0, 0]


class Faulty:
    def predict(self, *_: Any, **__: Any) -> Any:
        raise ZeroDivisionError("no luck")


def test_no_candidate_that_works(tmp_path: Path) -> None:
    with Workers(1, in_process=True) as pool, pytest.raises(LRGymError, match=r"no candidate .*ZeroDivisionError: no"):
        tune(tiny.task(), [candidate("faulty", 0.1, Faulty())], [1, 2], pool, folder=tmp_path)


def test_a_candidate_that_fails_is_named_and_not_chosen(tmp_path: Path) -> None:
    """The others are kept."""
    good = candidate("constant", 0.01, agents.make("constant"))
    with Workers(1, in_process=True) as pool:
        outcome = tune(tiny.task(), [candidate("faulty", 0.1, Faulty()), good], [1], pool, folder=tmp_path)
    assert outcome.best is good
    assert math.isnan(outcome.tried[0][1])
    assert math.isfinite(outcome.tried[1][1])
    assert len(outcome.failures) == 1
    assert re.search("faulty on .*: ZeroDivisionError: no luck", outcome.failures[0])
    assert outcome.to_dict()["failures"] == outcome.failures
    records = [file for file in tmp_path.iterdir() if not file.name.endswith(".failed.json")]
    assert [file.stem for file in records] == [Cell(tiny.task(), good.contestant, 0.01, 1, {"score_test": False}).key]
    assert Failure(**json.loads(next(tmp_path.glob("*.failed.json")).read_text())).error == "ZeroDivisionError: no luck"
