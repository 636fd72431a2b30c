from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
from rich.console import Console
from scipy import stats

import lr_gym.agents.ppo.comparison as comparison_module
from lr_gym.agents.ppo.comparison import Comparison, compare, count_cells, step_decay
from lr_gym.agents.ppo.config import TrainConfig
from lr_gym.agents.ppo.progression import Progression
from lr_gym.agents.ppo.report import comparison_table, write_report
from lr_gym.agents.schedules import StepDecay
from lr_gym.errors import LRGymError
from lr_gym.evaluation import Cell, Rollout, Workers
from lr_gym.evaluation.matrix import Failure

GRID = (StepDecay(0.1, 10, 0.99), StepDecay(0.01, 20, 0.9), StepDecay(0.001, 20, 0.9), StepDecay(0.01, 50, 0.88))


@pytest.fixture(autouse=True)
def _small_grid(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(comparison_module, "STEP_DECAY_GRID", GRID)


def loss_of(cell: Cell) -> float:
    """Return an invented loss: lowest on average for the third of the grid, at its worst seed not."""
    if cell.contestant.name == "controller":
        return 0.5
    place = [step_decay(decay, "").identity for decay in GRID].index(cell.contestant.identity)
    place = 2 if place == 1 and cell.initial_lr == 0.001 else place
    return [2.0, 1.5, 1.0, 1.2][place] + (cell.seed % 7) / 100


def noisy(cell: Cell) -> float:
    return 1 + (cell.seed % 5) / 100


def invented(test_loss: Callable[[Cell], float]) -> Callable[[Cell], Rollout]:
    return lambda cell: tiny.record(best=loss_of(cell), test_loss=test_loss(cell), seed=cell.seed)


def run(pool: Any, config: TrainConfig | None = None, **changes: Any) -> Comparison:
    config = config or tiny.config(**({"tuning_runs": 3, "final_runs": 4} | changes))
    return compare(config, tiny.controller(), Path("never written"), pool, lambda *_: None)


def test_the_lowest_mean_validation_loss_is_the_best() -> None:
    """Not the luckiest run; and test data decides nothing, whatever the test losses say."""
    seeds = tiny.config().seeds("tuning", 3)
    noise = np.mean([seed % 7 for seed in seeds]) / 100

    def lucky(cell: Cell) -> Rollout:
        best = 0.01 if cell.seed == seeds[0] and cell.initial_lr == 0.1 else loss_of(cell)
        return tiny.record(best=best, test_loss=noisy(cell), seed=cell.seed)

    opposite = (invented(lambda cell, sign=sign: sign * loss_of(cell) + noisy(cell)) for sign in (1, -1))
    for invent in (invented(noisy), lucky, *opposite):
        pool = tiny.StubPool(invent)
        comparison = run(pool)
        assert comparison.best == GRID[2]
        assert [decay for decay, _ in comparison.grid] == list(GRID)
        if invent is not lucky:
            means = [loss for _, loss in comparison.grid]
            assert means == pytest.approx([2 + noise, 1.5 + noise, 1 + noise, 1.2 + noise])
        assert comparison.tuning_episodes == 12
        assert [(c.contestant.name, c.initial_lr) for c in pool.calls[1][:4]] == [("best step decay", 0.001)] * 4


def test_precautions_are_the_controllers_alone() -> None:
    """A step decay that began elsewhere, or was bounded, would be another rival."""
    pool = tiny.StubPool(invented(noisy))
    config = tiny.config(start="probe", restore=True, brake=5.0, observe_progress=False, tuning_runs=1, final_runs=2)
    careful = tiny.controller(start="probe", restore=True, brake=5.0)
    compare(config, careful, Path("never written"), pool, lambda *_: None)
    cells = [cell for call in pool.calls for cell in call]
    schedules = [cell for cell in cells if cell.contestant.name != "controller"]
    assert len(schedules) == len(GRID) + 2
    for cell in schedules:
        assert cell.env_options.keys().isdisjoint({"start", "restore", "brake"})
        assert cell.env_options["observe_progress"] is False
    for cell in cells[-6:]:
        assert cell.contestant.name == "controller"
        assert [cell.env_options[name] for name in ("start", "restore", "brake")] == ["probe", True, 5.0]


def test_seeds_have_nothing_in_common() -> None:
    config = tiny.config()
    purposes = [set(config.seeds(purpose, 200)) for purpose in ("training", "selection", "tuning", "final")]  # type: ignore[arg-type]
    assert len(set().union(*purposes)) == 800
    assert set(tiny.config(seed=1).seeds("final", 200)).isdisjoint(purposes[3])
    assert config.seeds("final", 200)[:4] == config.seeds("final", 4)
    assert all(0 <= seed < 2**31 for purpose in purposes for seed in purpose)


def test_a_grid_with_a_hole_is_no_grid() -> None:
    """A step decay whose episode failed might have been the best."""

    def faulty(cell: Cell) -> Any:
        return Failure(str(cell), "no luck") if cell.initial_lr == 0.1 else tiny.record(seed=cell.seed)

    with pytest.raises(LRGymError, match=r"an episode failed: .* from 0\.1, seed \d+: no luck\. .*--resume goes on"):
        run(tiny.StubPool(faulty))


def test_both_sides_run_in_the_same_way() -> None:
    pool = tiny.StubPool(invented(noisy))
    config = tiny.config(reward="val_loss", max_multiplier=3.0, tuning_runs=3, final_runs=4)
    comparison = run(pool, config)
    tuning, final = pool.calls
    sides = [("best step decay", 0.001), *[("controller", lr) for lr in config.task.initial_lrs]]
    assert [(cell.contestant.name, cell.initial_lr) for cell in final[::4]] == sides
    assert [cell.seed for cell in final] == config.seeds("final", 4) * 4
    assert {cell.seed for cell in tuning} == set(config.seeds("tuning", 3))
    assert {cell.task for cell in [*tuning, *final]} == {config.task}
    assert all(cell.env == config.env_options | {"score_test": False} for cell in tuning)
    assert all(cell.env == config.env_options for cell in final)
    assert final[-1].contestant.identity == {"controller": tiny.controller().fingerprint}
    assert [group.label for group in comparison.groups] == [f"{name} from {lr}" for name, lr in sides]
    assert len(tuning) + len(final) == count_cells(config) == 4 * 3 + 4 * 4


def test_p_values_are_scipys() -> None:
    rng = np.random.default_rng(0)
    comparison = run(tiny.StubPool(invented(lambda cell: float(rng.normal(1.0, 0.1)))))
    values = comparison.to_dict()
    losses = [[result["test_loss"] for result in row["results"]] for row in values["rows"]]
    expected = [float(stats.ttest_ind(row, losses[0], equal_var=False).pvalue) for row in losses[1:]]
    assert values["rows"][0]["p_value"] is None
    assert [row["p_value"] for row in values["rows"][1:]] == pytest.approx(expected, rel=1e-9)
    assert {row["reference"] for row in values["rows"][1:]} == {"best step decay from 0.001"}


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> tuple[TrainConfig, Comparison, Path]:
    folder = tmp_path_factory.mktemp("comparison")
    config = tiny.config(tuning_runs=2)
    with pytest.MonkeyPatch.context() as patch, Workers(1, in_process=True) as pool:
        patch.setattr(comparison_module, "STEP_DECAY_GRID", GRID)
        return config, compare(config, tiny.controller(), folder, pool, lambda *_: None), folder


def test_report(real: tuple[TrainConfig, Comparison, Path], tmp_path: Path) -> None:
    config, comparison, folder = real
    assert len(list(folder.iterdir())) == len(GRID) * 2 + 4 * 2
    curve = [{"iteration": 0, "episodes": 0, "val_loss": 2.0, "val_loss_by_initial_lr": {"0.01": 2.0}}]
    progression = Progression(iteration=6, curve=curve, exploring=[1.0] * 6, best_score=2.0, seconds=3.5)
    write_report(tmp_path, config, progression, comparison, {"command": "by hand"})
    results = json.loads((tmp_path / "results.json").read_text())
    assert results["provenance"] == {"command": "by hand"}
    assert (results["training_episodes"], results["training_seconds"]) == (12, 3.5)
    assert (results["learning_curve"], results["exploring"]) == (curve, [1.0] * 6)
    assert results["selected"] == {"mean_best_val_loss": 2.0}
    assert results["comparison"] == json.loads(json.dumps(comparison.to_dict()))
    assert len(results["comparison"]["grid"]) == len(GRID)
    page = (tmp_path / "report.html").read_text()
    assert page.count("<svg") == 2
    assert f"that of the best of {len(GRID)} tuned step decays, in the median over 3 pairs of a task" in page
    assert "Few runs: every row has 2." in page
    assert page.count("<tr>") == 2 + 4 + len(GRID)
    assert (tmp_path / "learning_curve.png").stat().st_size > 5000
    assert (tmp_path / "schedules.png").stat().st_size > 5000
    console = Console(width=200, record=True, quiet=False)
    with console.capture() as captured:
        console.print(comparison_table(config, comparison))
    text = " ".join(captured.get().split())
    assert f"Best of 4 step decays: {comparison.best}; chosen on validation loss over 8 episodes (2 each)" in text
    assert all(str(group.summary("test_loss")) in text for group in comparison.groups)
