from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import matplotlib.image
import pytest
import tiny
from scipy import stats

import agents
from lr_gym.evaluation import Cell, Contestant, Rollout, Workers
from lr_gym.evaluation.groups import Group
from lr_gym.evaluation.transfer import Matrix, write_results

SEEDS = [11, 12, 13]


def contestants() -> list[Contestant]:
    made = {"reference": tiny.Decay(-1.0), "decay": tiny.Decay(0.2), "tuned": agents.make("constant")}
    return [Contestant(name, {"agent": name}, agent) for name, agent in made.items()]


def matrix(**changes: Any) -> Matrix:
    values: dict[str, Any] = {
        "tasks": [tiny.task(name="first"), tiny.task(name="second", batch_size=32)],
        "contestants": contestants(),
        "initial_lrs": [1e-2, 1e-3],
        "seeds": SEEDS,
        "env": {"max_multiplier": 4.0},
        "own_lr": {"tuned": 0.1},
    }
    return Matrix(**(values | changes))


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Group], list[Cell]]:
    out = tmp_path_factory.mktemp("transfer")
    cells: list[Cell] = []

    def advance(cell: Cell, record: Rollout) -> None:
        assert cell.task.to_dict() == record.task
        cells.append(cell)

    with Workers(1, in_process=True) as pool:
        groups = matrix().run(pool, out / "episodes", advance)
    write_results(out, matrix(), groups, {"command": "by hand", "commit": "abc"})
    return out, groups, cells


EXPECTED_ROWS = [
    (task, agent, lr)
    for task in ("first", "second")
    for agent, lrs in (("reference", (1e-2, 1e-3)), ("decay", (1e-2, 1e-3)), ("tuned", (0.1,)))
    for lr in lrs
]


def test_rows() -> None:
    assert [(task.name, contestant.name, lr) for task, contestant, lr in matrix().rows()] == EXPECTED_ROWS


def test_groups_hold_the_cells_of_their_row(done: tuple[Path, list[Group], list[Cell]]) -> None:
    _, groups, cells = done
    assert [(group.task, group.agent, group.initial_lr) for group in groups] == EXPECTED_ROWS
    assert len(cells) == len(EXPECTED_ROWS) * len(SEEDS)
    assert all(cell.env == {"max_multiplier": 4.0} for cell in cells)
    for group in groups:
        assert [run.seed for run in group.runs] == SEEDS
        assert {(run.initial_lr, run.task["name"]) for run in group.runs} == {(group.initial_lr, group.task)}
        ratio = {"reference": 0.25, "decay": 4**0.2, "tuned": 1.0}[group.agent]
        assert group.runs[0].lrs[1] == pytest.approx(group.initial_lr * ratio, rel=1e-6)


def test_each_is_tested_against_the_reference_from_the_same_start(
    done: tuple[Path, list[Group], list[Cell]],
) -> None:
    by_row = {(group.task, group.agent, group.initial_lr): group for group in done[1]}
    for (task, agent, lr), group in by_row.items():
        if agent != "decay":  # the reference itself, and one from a start that the reference never had
            assert (group.reference, group.p_value) == (None, None)
            continue
        reference = by_row[task, "reference", lr]
        assert group.reference == f"reference from {lr:g}"
        losses = [[run.result["test_loss"] for run in side.runs] for side in (group, reference)]
        assert group.p_value == pytest.approx(stats.ttest_ind(*losses, equal_var=False).pvalue, rel=1e-9)


def test_the_reference_is_the_first() -> None:
    turned = matrix(contestants=contestants()[::-1], own_lr={}, seeds=SEEDS[:2], tasks=[tiny.task()])
    stub = tiny.StubPool(lambda cell: tiny.record(seed=cell.seed, test_loss=cell.seed + 0.1 * cell.initial_lr))
    groups = turned.run(stub, Path("never written"), lambda *_: None)  # type: ignore[arg-type]
    assert {group.agent: group.reference for group in groups if group.initial_lr == 1e-2} == {
        "tuned": None,
        "decay": "tuned from 0.01",
        "reference": "tuned from 0.01",
    }


def test_results_file(done: tuple[Path, list[Group], list[Cell]]) -> None:
    out, groups, _ = done
    results = json.loads((out / "results.json").read_text())
    assert results["provenance"] == {"command": "by hand", "commit": "abc"}
    assert results["rows"] == json.loads(json.dumps([group.to_dict() for group in groups]))


def test_table_file(done: tuple[Path, list[Group], list[Cell]]) -> None:
    out, groups, _ = done
    text = (out / "table.md").read_text()
    assert "Command: `by hand`" in text
    assert re.findall(r"^## (.*)$", text, re.MULTILINE) == ["first", "second"]
    rows = [
        line for line in text.splitlines() if line.startswith("| ") and "---" not in line and "initial lr" not in line
    ]
    assert len(rows) == len(groups)
    for line, group in zip(rows, groups, strict=True):
        assert line.startswith(f"| {group.agent} | {group.initial_lr:g} | 3 | {group.summary('test_loss')}")


@pytest.mark.parametrize("name", ["schedules.png", "losses.png"])
def test_figures(done: tuple[Path, list[Group], list[Cell]], name: str) -> None:
    picture = matplotlib.image.imread(done[0] / name)
    assert picture.shape[:2] == (8 * 120, round((1 + 4.5 * 3) * 120))  # two tasks, three starts
    assert picture[..., :3].std() > 0.05


def test_a_second_time_nothing_is_run(done: tuple[Path, list[Group], list[Cell]]) -> None:
    out, groups, _ = done
    spies = contestants()[:2]
    with Workers(1, in_process=True) as pool:
        again = matrix(contestants=spies, own_lr={}).run(pool, out / "episodes", lambda *_: None)
    assert [spy.agent.episodes for spy in spies] == [0, 0]
    assert [group.runs for group in again] == [group.runs for group in groups if group.agent != "tuned"]
