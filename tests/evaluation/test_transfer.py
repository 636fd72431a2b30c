from __future__ import annotations

import dataclasses
import json
import math
import re
from pathlib import Path
from typing import Any

import matplotlib.image
import numpy as np
import pytest
import tiny
from scipy import stats

import agents
from lr_gym.evaluation import Cell, Contestant, Rollout, Workers
from lr_gym.evaluation.groups import Group, markdown_overview, markdown_table
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
    assert "Reference: reference from the same initial lr." in text
    assert "bold: the lowest mean" in text
    overviews, tables = [], []
    for part in text.split("\n## ")[1:]:
        overview, table = part.partition("\n\n")[2].split("\n\n")
        overviews.append(overview.splitlines())
        tables.append(table.splitlines())
    assert [len(lines) for lines in overviews] == [2 + 3, 2 + 3]  # three agents
    assert {lines[0] for lines in overviews} == {"| agent | from 0.1 | from 0.01 | from 0.001 | cost |"}
    for name, overview, table in zip(("first", "second"), overviews, tables, strict=True):
        of_task = [group for group in groups if group.task == name]
        assert overview == markdown_overview(of_task).splitlines()
        assert table == markdown_table(of_task).splitlines()
        assert "\n".join(overview).count("**") == 2 * 3  # one agent in bold from each start
    rows = [line for lines in tables for line in lines[2:]]
    assert len(rows) == len(groups)
    for line, group in zip(rows, groups, strict=True):
        assert line.startswith(f"| {group.agent} | {group.initial_lr:g} | 3 | {group.summary('test_loss')}")


FIGURES = ("starts.png", "schedules.png", "losses.png")


def picture_of(file: Path) -> Any:
    """Return a picture after checking that it is not blank."""
    picture = matplotlib.image.imread(file)
    assert np.isfinite(picture).all()
    assert picture[..., :3].std() > 0.05
    colours = np.rint(255 * picture[::2, ::2, :3]).astype(int) @ (65536, 256, 1)
    assert len(np.unique(colours)) > 20  # lines, areas, letters
    return picture


@pytest.mark.parametrize("name", ["schedules.png", "losses.png"])
def test_figures(done: tuple[Path, list[Group], list[Cell]], name: str) -> None:
    picture = picture_of(done[0] / name)
    assert picture.shape[:2] == (8 * 120, round((1 + 4.5 * 3) * 120))  # two tasks, three starts


def test_figure_of_the_starts(done: tuple[Path, list[Group], list[Cell]]) -> None:
    picture = picture_of(done[0] / "starts.png")
    assert picture.shape[:2] == (round((1.2 + 0.3 * 3) * 120), round((2 + (1 + 0.8 * 3) * 2) * 120))


def test_files(done: tuple[Path, list[Group], list[Cell]]) -> None:
    assert {path.name for path in done[0].iterdir()} == {*FIGURES, "results.json", "table.md", "episodes"}


def invented(cell: Cell) -> Rollout:
    """Return a record for a cell; agents called lost diverge at once, agents called late later."""
    loss = 1.0 + 0.1 * len(cell.contestant.name) + 100 * cell.initial_lr + 1e-3 * (cell.seed % 7)
    losses = {"lost": (math.nan, math.nan), "late": (2 * loss, 1.5 * loss, math.inf)}.get(
        cell.contestant.name.split()[0], (2 * loss, 1.5 * loss, 1.2 * loss, loss)
    )
    return tiny.record(losses, test_loss=loss, best=loss, seed=cell.seed, extra=(3.0, 1.0))


def written(out: Path, names: list[str], **changes: Any) -> list[Group]:
    """Write the results of contestants with invented records, and return the rows."""
    made = [Contestant(name, {"agent": name}, None) for name in names]
    chosen = matrix(**({"contestants": made, "own_lr": {}} | changes))
    groups = chosen.run(tiny.StubPool(invented), out / "episodes", lambda *_: None)  # type: ignore[arg-type]
    write_results(out, chosen, groups, {"command": "by hand"})
    assert {path.name for path in out.iterdir()} == {*FIGURES, "results.json", "table.md"}
    return groups


@pytest.mark.parametrize(
    ("count", "tasks", "width", "height"),
    [
        (1, 2, 1 + 4.5 * 2, 1 + 3.5 * 2),
        (8, 1, 1 + 4.5 * 2, 1 + 3.5),  # a row per task, a column per start
        (9, 1, 2.6 * 6, 0.5 + 2.2 * 2),  # six agents in a row
    ],
    ids=["one", "few", "many"],
)
def test_figures_of_few_and_many_agents(tmp_path: Path, count: int, tasks: int, width: float, height: float) -> None:
    names = [f"agent {number}" for number in range(count)]
    groups = written(tmp_path, names, tasks=matrix().tasks[:tasks])
    assert len(groups) == count * tasks * 2
    for name in ("schedules.png", "losses.png"):
        shape = picture_of(tmp_path / name).shape
        assert shape[:2] == pytest.approx((height * 120, width * 120), abs=1)
    assert picture_of(tmp_path / "starts.png").shape[0] == pytest.approx((1.2 + 0.3 * count) * 120, abs=1)
    table = (tmp_path / "table.md").read_text()
    assert all(table.count(f"| {name} |") == tasks * 3 for name in names)  # overview, and a row from each start
    rows = json.loads((tmp_path / "results.json").read_text())["rows"]
    assert [(row["agent"], row["cost"]) for row in rows] == [(g.agent, 1 + 5 / (3 * 40)) for g in groups]


@pytest.mark.parametrize("more", [0, 6], ids=["few", "many"])
def test_diverged_agents(tmp_path: Path, more: int) -> None:
    """Warnings are errors here. The reference is among the lost, and so is all that a panel would show."""
    names = ["lost", "late", "well", *[f"agent {number}" for number in range(more)]]
    groups = written(tmp_path, names, tasks=matrix().tasks[:1])
    assert [group.diverged for group in groups[:6]] == [3, 3, 3, 3, 0, 0]
    for name in FIGURES:
        picture_of(tmp_path / name)
    rows = [line.split(" | ") for line in (tmp_path / "table.md").read_text().splitlines() if line.startswith("| l")]
    assert [row[-2] for row in rows if len(row) == 9] == ["3"] * 4
    json.loads((tmp_path / "results.json").read_text())


def test_nothing_but_diverged_agents(tmp_path: Path) -> None:
    groups = written(tmp_path, ["lost 1", "lost 2"], tasks=matrix().tasks[:1])
    assert all(group.diverged == 3 for group in groups)
    assert all(matplotlib.image.imread(tmp_path / name).std() > 0.01 for name in FIGURES)


@pytest.mark.parametrize("loss", [math.nan, 0.0])
def test_extreme_test_losses(tmp_path: Path, loss: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """A loss of zero, and one that a record has lost on its way through JSON."""
    plain = invented

    def extreme(cell: Cell) -> Rollout:
        record = plain(cell)
        hit = cell.contestant.name == "hit"
        return dataclasses.replace(record, result=record.result | {"test_loss": loss}) if hit else record

    monkeypatch.setitem(globals(), "invented", extreme)
    written(tmp_path, ["agent", "hit"], tasks=matrix().tasks[:1])
    for name in FIGURES:
        picture_of(tmp_path / name)


def test_one_colour_means_one_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The legend of the first panel stands for all: no other panel may use its colours for another start."""
    figures: dict[str, Any] = {}
    monkeypatch.setattr(
        "lr_gym.evaluation.transfer.save_figure", lambda figure, path: figures.update({path.name: figure})
    )
    names = [*[f"agent {number}" for number in range(9)], "tuned"]
    made = [Contestant(name, {"agent": name}, None) for name in names]
    chosen = matrix(contestants=made, own_lr={"tuned": 0.1})
    groups = chosen.run(tiny.StubPool(invented), tmp_path, lambda *_: None)  # type: ignore[arg-type]
    write_results(tmp_path, chosen, groups, {})
    figure = figures["schedules.png"]
    panels = [axes for axes in figure.axes if axes.get_visible()]
    assert [axes.get_title() for axes in panels] == names * 2
    assert sum(axes.get_legend() is not None for axes in panels) == 2  # one per task
    colours: dict[str, set[str]] = {}
    for axes in panels:
        for line in axes.get_lines():
            colours.setdefault(str(line.get_color()), set()).add(str(line.get_label()))
    assert all(len(labels) == 1 for labels in colours.values()), colours


def test_a_second_time_nothing_is_run(done: tuple[Path, list[Group], list[Cell]]) -> None:
    out, groups, _ = done
    spies = contestants()[:2]
    with Workers(1, in_process=True) as pool:
        again = matrix(contestants=spies, own_lr={}).run(pool, out / "episodes", lambda *_: None)
    assert [spy.agent.episodes for spy in spies] == [0, 0]
    assert [group.runs for group in again] == [group.runs for group in groups if group.agent != "tuned"]
