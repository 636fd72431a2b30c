"""Schedules that are tuned on each task: what is tried, with how many episodes, and what is chosen."""

from __future__ import annotations

import itertools
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import tiny
from transfer_toys import MLP, TWO_TASKS, Episodes, prepared, results, row_of, rows, run, valley

import eval_transfer
from lr_gym import LRTrainingEnv, agents, rollout
from lr_gym.agents.baselines import PEAKS, TUNABLE
from lr_gym.agents.schedules import STEP_DECAY_GRID
from lr_gym.evaluation import Cell, Rollout, Workers
from lr_gym.files import read_json

#: Validation losses of the first and the second tuning run from each of the peaks; the lowest mean is that of 0.01.
GRID = dict(zip(PEAKS, [(5, 5), (1, 9), (4, 3), (3, 3.5), (3, 3), (2, 8), (6, 6), (7, 7)], strict=True))


def test_the_choice_is_that_of_a_grid_by_hand(episodes: Episodes, tmp_path: Path) -> None:
    """By the mean of validation losses; one lucky run, or the test loss, would choose others. Each task its own."""
    plan = prepared(*TWO_TASKS, "--tuning-runs", "16")
    mirrored = dict(zip(PEAKS, reversed(GRID.values()), strict=True))
    grids = dict(zip(("fashion-mnist-mini/mlp", "fashion-mnist-mini/lenet5"), (GRID, mirrored), strict=True))
    tuning_seeds = plan.tuning_seeds[:2]

    def invent(cell: Cell) -> Rollout:
        if cell.seed in plan.seeds:
            return tiny.record(seed=cell.seed)
        loss = grids[cell.task.name][cell.initial_lr][tuning_seeds.index(cell.seed)]
        return tiny.record(seed=cell.seed, best=loss, test_loss=10 - loss)

    episodes.invent = invent
    words = ("--agents", "constant", "--initial-lrs", "0.5", "--tune", "cosine", "constant", "--tuning-runs", "16")
    run(*TWO_TASKS, *words, "--out", str(tmp_path))

    spent = Counter((cell.task.name, cell.contestant.name) for cell in episodes.cells if cell.seed in tuning_seeds)
    assert spent == dict.fromkeys(itertools.product(grids, ("tuned cosine", "tuned constant")), 16)
    each = Counter((c.task.name, c.contestant.name, c.initial_lr) for c in episodes.cells if c.seed in tuning_seeds)
    assert each == dict.fromkeys(itertools.product(grids, ("tuned cosine", "tuned constant"), PEAKS), 2)
    final = [cell for cell in episodes.cells if cell.seed not in tuning_seeds]
    assert {cell.seed for cell in final} == set(plan.seeds)
    assert len(list((tmp_path / "episodes").iterdir())) == len(episodes.cells) == 2 * 2 * 16 + 2 * 3 * 2

    values = results(tmp_path)
    chosen = {"fashion-mnist-mini/mlp": 1e-2, "fashion-mnist-mini/lenet5": 3e-3}
    for task, lr in chosen.items():
        assert list(values["tuned"][task]) == ["tuned cosine", "tuned constant"]
        for name, outcome in values["tuned"][task].items():
            identity = {"agent": name.removeprefix("tuned "), "options": {}}
            assert (outcome["best"], outcome["episodes"]) == ({"agent": identity, "initial_lr": lr}, 16)
            means = {tried["initial_lr"]: tried["mean_best_val_loss"] for tried in outcome["tried"]}
            assert means == {peak: sum(losses) / 2 for peak, losses in grids[task].items()}
    assert [(row["task"], row["agent"], row["initial_lr"], row["own_start"]) for row in values["rows"]] == [
        row
        for task, lr in chosen.items()
        for row in (
            (task, "constant", 0.5, False),
            (task, "tuned cosine", lr, True),
            (task, "tuned constant", lr, True),
        )
    ]
    assert values["yardstick"] == "tuned cosine"
    table = (tmp_path / "table.md").read_text()
    assert "| agent | from 0.5 | from its own lr | cost |" in table
    assert "| fashion-mnist-mini/lenet5 | tuned cosine | defaults | 0.003 | 8 | 16 |" in table


def test_tuning_runs_real_episodes(tmp_path: Path) -> None:
    plan = prepared(*MLP, "--tune", "constant", "--tuning-runs", "9")
    advanced: list[Cell] = []
    with Workers(1, in_process=True) as pool:
        tuned = eval_transfer.run_tuning(plan, pool, tmp_path, lambda cell, _: advanced.append(cell))
    outcome = tuned["fashion-mnist-mini/mlp"]["tuned constant"]
    env = LRTrainingEnv(plan.tasks[0], max_multiplier=1e4)
    seed = plan.tuning_seeds[0]
    losses = [
        rollout(env, agents.make("constant"), seed=seed, initial_lr=peak).result["best_val_loss"] for peak in PEAKS
    ]
    assert [loss for _, loss in outcome.tried] == losses
    assert outcome.best.initial_lr == PEAKS[losses.index(min(losses))]
    assert len(set(losses)) == 8
    assert len(advanced) == outcome.episodes == 8


def spent_on(plan: Any) -> dict[str, int]:
    """Return how many episodes each schedule gets on the first task."""
    of = plan.tune[plan.tasks[0].name]
    return {name: len(tried) * len(plan.tuning_seeds_for(tried)) for name, tried in of.items()}


@pytest.mark.parametrize(
    "runs",
    [
        1,
        7,
        24,
        48,
        96,
    ],
)
def test_each_schedule_is_tuned_with_as_many_episodes(runs: int) -> None:
    plan = prepared(*MLP, "--tune", *TUNABLE, "--tuning-runs", str(runs))
    assert spent_on(plan) == {f"tuned {name}": runs for name in TUNABLE}
    assert plan.tuning_episodes == runs * len(TUNABLE)
    assert {len(set(plan.tuning_seeds_for(tried))) for tried in plan.tune[plan.tasks[0].name].values()} <= {
        max(1, runs // 48),
        max(1, runs // 8),
    }


@pytest.mark.parametrize("runs", [1, 20, 48, 60, 100])
def test_no_schedule_is_tuned_with_more_episodes_than_there_are(runs: int) -> None:
    spent = spent_on(prepared(*MLP, "--tune", *TUNABLE, "--tuning-runs", str(runs)))
    assert all(0 < episodes <= runs for episodes in spent.values())


def test_fewer_tuning_runs_than_candidates(episodes: Episodes, tmp_path: Path) -> None:
    """Of 48 step decays those at 0, 11.75, 23.5, 35.25 and 47, rounded."""
    words = (*MLP, "--agents", "constant", "--initial-lrs", "0.5", "--tune", "step", "--tuning-runs", "5")
    episodes.invent = valley(1e-3)
    run(*words, "--out", str(tmp_path))
    plan = prepared(*words)
    expected = [STEP_DECAY_GRID[place] for place in (0, 12, 24, 35, 47)]
    tried = [cell for cell in episodes.cells if cell.seed not in plan.seeds]
    assert {cell.seed for cell in tried} == {plan.tuning_seeds[0]}
    assert [cell.initial_lr for cell in tried] == [decay.initial_lr for decay in expected]
    got = [cell.contestant.identity["options"] for cell in tried]
    assert got == [{"every": decay.every, "factor": decay.factor} for decay in expected]
    row = row_of(tmp_path, "tuned step")
    assert (row["initial_lr"], row["own_start"], row["reference"]) == (1e-3, True, None)
    assert results(tmp_path)["tuned"]["fashion-mnist-mini/mlp"]["tuned step"]["episodes"] == 5


def test_seeds_of_the_tuning_are_not_those_of_the_runs() -> None:
    for seed in ("0", "1", "17"):
        plan = prepared(*MLP, "--runs", "200", "--tune", "cosine", "--tuning-runs", "1600", "--seed", seed)
        assert len(plan.tuning_seeds_for(plan.tune[plan.tasks[0].name]["tuned cosine"])) == 200
        assert len({*plan.seeds, *plan.tuning_seeds}) == 200 + 1600
    first, second = (prepared(*MLP, "--seed", seed, "--tune", "cosine").tuning_seeds for seed in ("0", "1"))
    assert set(first).isdisjoint(second)


def test_candidates_are_those_of_each_tasks_optimizer() -> None:
    plan = prepared(*MLP, "--tune", "constant", "--override", "optimizer=SGD", 'optimizer_options={"momentum":0.9}')
    (candidates,) = plan.tune["fashion-mnist-mini/mlp"].values()
    assert [candidate.initial_lr for candidate in candidates] == pytest.approx([10 * peak for peak in PEAKS])


def test_a_tuned_constant_is_the_constant_from_that_lr(episodes: Episodes, tmp_path: Path) -> None:
    """The episodes are the same, so none is run twice."""
    episodes.invent = valley(1e-2)
    words = ("--agents", "constant", "--initial-lrs", "1e-2", "--tune", "constant", "--tuning-runs", "8")
    run(*MLP, *words, "--out", str(tmp_path))
    assert len(episodes.cells) == 8 + 2
    first, second = rows(tmp_path)
    assert (second["agent"], second["initial_lr"], second["own_start"]) == ("tuned constant", 1e-2, True)
    assert first["results"] == second["results"]
    assert second["reference"] is None  # the constant has no start of its own


def test_tuning_that_fails(episodes: Episodes, tmp_path: Path) -> None:
    """A candidate that fails is not chosen, and said; the next run tries it again."""

    def invent(cell: Cell) -> Rollout:
        if cell.initial_lr == 0.1:
            raise ArithmeticError("no luck")
        return tiny.record(seed=cell.seed)

    episodes.invent = invent
    words = (*MLP, "--agents", "constant", "--initial-lrs", "1e-2", "--tune", "cosine", "--tuning-runs", "8")
    with pytest.raises(SystemExit, match="1"):
        run(*words, "--out", str(tmp_path))
    tuned = read_json(tmp_path / "results.json")["tuned"]["fashion-mnist-mini/mlp"]["tuned cosine"]
    assert len(tuned["failures"]) == 1
    assert re.fullmatch(
        r"tuned cosine on fashion-mnist-mini/mlp from 0\.1, seed \d+: ArithmeticError: no luck", tuned["failures"][0]
    )
    assert tuned["best"]["initial_lr"] != 0.1
    assert [entry["initial_lr"] for entry in tuned["tried"] if entry["mean_best_val_loss"] is None] == [0.1]
    assert tuned["failures"][0] in (tmp_path / "table.md").read_text()
    assert len(episodes.cells) == 8 + 2 * 2
    episodes.invent = lambda cell: tiny.record(seed=cell.seed)
    run(*words, "--out", str(tmp_path))
    assert len(episodes.cells) == 8 + 2 * 2 + 1
    assert not list((tmp_path / "episodes").glob("*.failed.json"))
