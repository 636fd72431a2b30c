from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
from rich.console import Console

from lr_gym import LRTrainingEnv, agents, rollout
from lr_gym.agents.baselines import peaks
from lr_gym.agents.ppo.config import TrainConfig
from lr_gym.agents.ppo.family_comparison import REFERENCE, SCHEDULES, Row, compare_on_family, count_cells
from lr_gym.agents.ppo.progression import Progression
from lr_gym.agents.ppo.report import family_table, write_family_report
from lr_gym.agents.ppo.selection import selection_cells
from lr_gym.evaluation import Cell, Contestant, Rollout, Workers

DRAWS = 5
AGENTS = [REFERENCE, *SCHEDULES, "controller"]


def config(**changes: Any) -> TrainConfig:
    return tiny.family_config(**({"final_runs": DRAWS} | changes))


def compared(invent: Callable[[Cell], Rollout], **changes: Any) -> tuple[list[Row], list[Cell]]:
    """Return the rows of invented records, and the cells."""
    pool: Any = tiny.StubPool(invent)
    controller = tiny.controller(observation="portable")
    rows = compare_on_family(config(**changes), controller, Path("never written"), pool, lambda *_: None)
    (cells,) = pool.calls
    return rows, cells


def is_peak(cell: Cell) -> bool:
    return cell.contestant.name == "tuned cosine"


def invented(cell: Cell) -> Rollout:
    """The test loss is 2 for every agent but the controller, the draw's number larger for that."""
    test_loss = 2.0 + (cell.seed if cell.contestant.name == "controller" else 0)
    return tiny.record(test_loss=test_loss, seed=cell.seed)


def test_every_agent_trains_the_same_draws() -> None:
    """In the env that it asks for: device and precision are the run's, what is observed is the agent's affair."""
    rows, cells = compared(invented, precision="bfloat16", reward="final")
    assert [row.agent for row in rows] == AGENTS
    assert len(cells) == count_cells(config()) == DRAWS * (8 + 3)
    for number, task in enumerate(tiny.family().draws(DRAWS, 1)):
        mine = [cell for cell in cells if cell.seed == number]
        assert all(cell.task == task for cell in mine)
        assert [cell.initial_lr for cell in mine if is_peak(cell)] == peaks(task)
        others = [(cell.contestant.name, cell.initial_lr) for cell in mine if not is_peak(cell)]
        assert others == [(agent, task.initial_lrs[0]) for agent in AGENTS[1:]]
    assert all([run.seed for run in row.runs] == list(range(DRAWS)) for row in rows)
    learned = cells[-1]
    assert learned.contestant.identity == {"controller": tiny.controller(observation="portable").fingerprint}
    assert learned.env_options["observation"] == "portable"
    for cell in cells:
        assert cell.env == {"device": "cpu", "precision": "bfloat16"}
    for cell in cells[:-DRAWS]:
        assert "observation" not in cell.env_options
        assert cell.contestant.identity == {"agent": "constant" if "constant" in str(cell) else "cosine", "options": {}}


def test_which_draws() -> None:
    """Others than those of the selection, of the validation family if there is one, whatever the run's seed is."""
    _, cells = compared(invented)
    selection = selection_cells(config(evaluation_runs=DRAWS), Contestant("x", {}, tiny.Decay()))
    chosen = {(cell.task.name, cell.initial_lr) for _, cell in selection}
    assert chosen.isdisjoint((cell.task.name, cell.task.initial_lrs[0]) for cell in cells)
    other = tiny.family(name="other")
    for changes, family in (({"seed": 1}, tiny.family()), ({"validation": other}, other)):
        _, cells = compared(invented, **changes)
        assert [cell.task for cell in cells[-DRAWS:]] == family.draws(DRAWS, 1)


def test_ratios_by_hand() -> None:
    """Each over the reference's on the same draw."""
    rows, _ = compared(invented)
    assert [row.ratios.tolist() for row in rows] == [[1.0] * 5, [1.0] * 5, [1.0] * 5, [1.0, 1.5, 2.0, 2.5, 3.0]]
    values = rows[-1].to_dict()
    assert json.loads(json.dumps(values, allow_nan=False)) == values
    assert values["test_loss_over_reference"] == pytest.approx({"median": 2.0, "p90": 2.8, "worst": 3.0})
    assert [run["ratio"] for run in values["runs"]] == [1.0, 1.5, 2.0, 2.5, 3.0]
    assert [run["seed"] for run in values["runs"]] == [0, 1, 2, 3, 4]
    assert {"task", "initial_lr", "best_val_loss", "test_loss", "diverged"} < values["runs"][0].keys()


@pytest.mark.parametrize("sign", [1, -1])
def test_the_reference_is_chosen_on_validation_data_for_each_draw(sign: int) -> None:
    """Whatever the test losses say: they decide nothing."""

    def best_peak(cell: Cell) -> bool:
        return is_peak(cell) and cell.initial_lr == peaks(cell.task)[(3 * cell.seed) % 8]

    def invent(cell: Cell) -> Rollout:
        best = 0.5 if best_peak(cell) else 1.0
        test_loss = 3.0 + sign * (best_peak(cell) + cell.initial_lr / 100) if is_peak(cell) else 4.0
        return tiny.record(best=best, test_loss=test_loss, seed=cell.seed)

    rows, cells = compared(invent)
    for number, run in enumerate(rows[0].runs):
        (chosen,) = [cell for cell in cells if cell.seed == number and best_peak(cell)]
        assert run.result["best_val_loss"] == 0.5
        assert run.result["test_loss"] == 3.0 + sign * (1 + chosen.initial_lr / 100)
        assert [row.ratios[number] for row in rows] == pytest.approx([1.0, *[4.0 / run.result["test_loss"]] * 3])


Real = tuple[TrainConfig, list[Row], Path]


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Real:
    folder, done, settings = tmp_path_factory.mktemp("comparison"), list[Any](), config(final_runs=2)
    with Workers(1, in_process=True) as pool:
        note = lambda cell, _: done.append(cell)  # noqa: E731
        rows = compare_on_family(settings, tiny.controller(observation="portable"), folder, pool, note)
    assert len(done) == count_cells(settings) == 2 * 11
    return settings, rows, folder


def test_real_episodes(real: Real, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every number again, by plain rollouts; and from the records that were kept."""
    settings, rows, folder = real
    controller = tiny.controller(observation="portable")
    by_name: dict[str, Any] = {name: agents.make(name) for name in SCHEDULES} | {"controller": controller}
    for number, task in enumerate(tiny.family().draws(2, 1)):
        cosine = by_name["cosine"]
        env = LRTrainingEnv(task, **cosine.env_options)
        cosines = [rollout(env, cosine, seed=number, initial_lr=lr) for lr in peaks(task)]
        reference = min(cosines, key=lambda run: run.result["best_val_loss"])
        assert rows[0].runs[number] == reference
        for row in rows[1:]:
            env = LRTrainingEnv(task, **getattr(by_name[row.agent], "env_options", {}))
            run = rollout(env, by_name[row.agent], seed=number, initial_lr=task.initial_lrs[0])
            assert row.runs[number].result["test_loss"] == run.result["test_loss"]
            assert row.runs[number].lrs == run.lrs
            assert row.ratios[number] == run.result["test_loss"] / reference.result["test_loss"]
    assert 2 * 3 < len(list(folder.iterdir())) <= 2 * 11  # a draw may start at a peak
    monkeypatch.setattr(Cell, "run", None)
    with Workers(1, in_process=True) as pool:
        again = compare_on_family(settings, controller, folder, pool, lambda *_: None)
    assert [row.ratios.tolist() for row in again] == [row.ratios.tolist() for row in rows]


def test_report(real: Real, tmp_path: Path) -> None:
    settings, rows, _ = real
    curve = [{"iteration": 0, "episodes": 0, "val_loss": 2.0, "val_loss_by_initial_lr": {"1e-2...": 2.0}}]
    progression = Progression(iteration=3, curve=curve, exploring=[1.0] * 3, best_score=2.0, seconds=3.5)
    write_family_report(tmp_path, settings, progression, rows, {"command": "by hand"})
    files = {"results.json", "report.html", "learning_curve.png", "schedules.png"}
    assert {path.name for path in tmp_path.iterdir()} == files
    page = (tmp_path / "report.html").read_text()
    assert page.count("<svg") == 2
    assert "the test loss of the controller is" in page
    assert f"that of the {REFERENCE}, in the median over 2 draws of" in page
    assert "command: by hand" in page
    results = json.loads((tmp_path / "results.json").read_text())
    assert results["provenance"] == {"command": "by hand"}
    assert (results["training_episodes"], results["learning_curve"]) == (12, curve)
    assert results["selected"] == {"mean_best_val_loss": 2.0}
    assert results["family_comparison"] == json.loads(json.dumps([row.to_dict() for row in rows]))
    assert all(path.stat().st_size > 5000 for path in tmp_path.glob("*.png"))


def test_table() -> None:
    """One line for every agent but the reference, which is 1 by definition."""
    rows, _ = compared(invented)
    better = Row("better", rows[-1].runs, np.array([0.5, 0.9, 1.0, 1.1, 0.99]))
    console = Console(width=200)
    with console.capture() as captured:
        console.print(family_table(config(), [*rows, better]))
    lines = [" ".join(line.replace("│", " ").replace("┃", " ").split()) for line in captured.get().splitlines()]
    assert " ".join(lines).startswith(f"tiny-family: test loss over that of the {REFERENCE}, {DRAWS} draws ")
    assert "agent median 90th percentile worst lower in" in lines
    for line in ("cosine 1.000 1.000 1.000 0%", "controller 2.000 2.800 3.000 0%", "better 0.990 1.060 1.100 60%"):
        assert line in lines
    assert not any(line.startswith(REFERENCE) for line in lines)
