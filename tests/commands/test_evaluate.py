"""Comparisons from the command line to the files that they leave; stopped, failing, and run again."""

from __future__ import annotations

import itertools
import json
import math
import shutil
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib.image
import pytest
import tiny
from command_toys import (
    AGENT_PLUGIN,
    ARGUMENTS,
    DATA_PLUGIN,
    FIGURES,
    FILES,
    MLP,
    OVERRIDE,
    TWO_TASKS,
    Episodes,
    failed,
    names,
    prepared,
    results,
    row_of,
    rows,
    run,
    valley,
)

import eval_transfer
from lr_gym import LRTrainingEnv, agents, cli, rollout
from lr_gym.agents.baselines import PEAKS
from lr_gym.agents.schedules import STEP_DECAY_GRID
from lr_gym.commands.evaluate import run_tuning
from lr_gym.control.controller import Controller
from lr_gym.errors import LRGymError
from lr_gym.evaluation import Cell, Rollout, Workers, report

ONE_START = (*MLP, "--agents", "constant", "step", "--initial-lrs", "1e-2")


@pytest.fixture(scope="module")
def here(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return what a comparison of that controller leaves, made in this process; not to be changed."""
    out = tmp_path_factory.mktemp("here")
    tiny.run_main(eval_transfer, "--controller", str(finished / "controller"), *ARGUMENTS, "--out", str(out))
    return out


def losses_of(row: dict[str, Any]) -> list[float]:
    return [result["test_loss"] for result in row["results"]]


def test_what_is_left(finished: Path, here: Path) -> None:
    assert {path.name for path in here.iterdir()} == FILES | {"episodes"}
    values, learned = results(here), Controller.load(finished)
    seeds = values["provenance"]["settings"]["seeds"]
    assert values["seeds"] == seeds == sorted(set(seeds), key=seeds.index)
    best = results(finished)["comparison"]["best_step_decay"]["initial_lr"]
    found = [(row["agent"].partition(" (")[0], row["initial_lr"], row["own_start"]) for row in values["rows"]]
    everywhere = itertools.product(("controller", "constant", "step"), (1e-2, 1e-3), (False,))
    assert found == [*everywhere, ("transferred step decay", best, True)]
    env = LRTrainingEnv(tiny.task(**dict(cli.assignment(w) for w in OVERRIDE[1:])), **learned.description.env_options())
    for row in values["rows"]:
        assert [result["seed"] for result in row["results"]] == seeds
        assert (row["reference"] is None) == (row["agent"] == "controller" or row["own_start"])
        if row["agent"] == "controller":
            expected = [rollout(env, learned, seed=seed, initial_lr=row["initial_lr"]).result for seed in seeds]
            assert losses_of(row) == [result["test_loss"] for result in expected]
    tables = {
        "All tasks together": 4,
        "Side by side": 2,
        "fashion-mnist-mini/mlp": 4,
        "fashion-mnist-mini/mlp: every row": 7,
    }
    parts = (here / "table.md").read_text().split("\n## ")[1:]
    assert {part.splitlines()[0]: part.count("\n| ") - 2 for part in parts} == tables  # less head and rule
    assert all(matplotlib.image.imread(here / name)[..., :3].std() > 0.05 for name in FIGURES)
    page = (here / "report.html").read_text()
    assert (page.count('<img src="data:image/png;base64,'), page.count("<table>")) == (len(FIGURES), len(tables))
    assert not any(word in page for word in ("<script", "http://", "https://", 'src="/'))


def test_as_a_process_with_plugins_in_workers(finished: Path, here: Path, tmp_path: Path) -> None:
    """The rows of before are the same; others are of agents and data that each worker must register."""
    plugins = {tmp_path / "steady_plugin.py": AGENT_PLUGIN, tmp_path / "data_plugin.py": DATA_PLUGIN}
    for file, text in plugins.items():
        file.write_text(text)
    words = [
        "--controller",
        str(finished),
        *ARGUMENTS,
        "--plugins",
        *map(str, plugins),
        "--out",
        str(tmp_path / "a [b]"),
    ]
    words.insert(words.index("step") + 1, "steady:lr=2e-6")
    words.insert(words.index("fashion-mnist-mini/mlp") + 1, "plugin waves/mlp")
    done = tiny.run_script("eval_transfer.py", *words, folder=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    out = tmp_path / "a [b]"
    assert f"Results, figures and a page that shows them (report.html) are in {out}" in done.stdout.replace("\n", "")
    assert {path.name for path in out.iterdir()} == FILES | {"episodes"}
    found = {(row["task"], row["agent"], row["initial_lr"]): row["results"] for row in rows(out)}
    assert all(found[row["task"], row["agent"], row["initial_lr"]] == row["results"] for row in rows(here))
    assert len(found) == 2 * len(rows(here)) + 2 * 2
    records = [
        json.loads((out / "episodes" / name).read_text()) for name in row_of(out, "steady:lr=2e-6", 1e-2)["records"]
    ]
    assert [record["lrs"] for record in records] == [pytest.approx([1e-2, 2e-6], rel=1e-5)] * 2
    about = results(out)["provenance"]
    assert about["command"].startswith(f"eval_transfer.py --controller '{finished}' --task fashion-mnist-mini/mlp")
    assert {"commit", "python", "packages"} < about.keys()


def test_the_same_command_again_computes_nothing(
    finished: Path, here: Path, episodes: Episodes, tmp_path: Path
) -> None:
    shutil.copytree(here, tmp_path / "out")
    (tmp_path / "out" / "results.json").unlink()
    run("--controller", str(finished), *ARGUMENTS, "--out", str(tmp_path / "out"))
    assert episodes.cells == []
    assert rows(tmp_path / "out") == rows(here)


@pytest.mark.parametrize("done", [0, 3, 8, 11])
def test_ctrl_c_and_on(done: int, episodes: Episodes, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Stopped at the first episode, while tuning, after it, and later: the same command computes what is missing."""
    words = (*ARGUMENTS, "--tune", "constant", "--tuning-runs", "8", "--out")
    episodes.invent = valley(3e-3)
    run(*words, str(tmp_path / "at once"))
    expected = {cell.key for cell in episodes.cells}
    assert len(expected) == len(episodes.cells) == 8 + 2 * (2 * 2 + 1)
    episodes.cells, episodes.stop_after = [], done
    out = tmp_path / "stopped"
    assert failed(*words, str(out)) == cli.INTERRUPTED == 130
    assert f"Stopped. The same command with --out {out} continues." in capsys.readouterr().out
    assert {path.name for path in out.iterdir()} <= {"episodes"}
    episodes.stop_after = None
    run(*words, str(out))
    assert len(episodes.cells) == len(expected)  # none twice
    assert {cell.key for cell in episodes.cells} == expected
    assert {**results(out), "provenance": 0} == {**results(tmp_path / "at once"), "provenance": 0}


# -- what is compared with what ----------------------------------------------------------------------------------------

LOSSES = {"constant": 2.0, "step": 1.0, "tuned cosine": 4.0}
STARTS = [None, None, "constant from 0.01", "constant from 0.001", None]


@pytest.mark.parametrize(
    ("options", "reference", "references", "yardstick"),
    [
        ("", "constant", STARTS, "tuned cosine"),
        ("--reference step", "step", ["step from 0.01", "step from 0.001", None, None, None], "tuned cosine"),
        ("--reference tuned_cosine", "tuned cosine", ["tuned cosine from 0.003"] * 4 + [None], "tuned cosine"),
        ("--yardstick tuned_cosine", "constant", STARTS, "tuned cosine"),
        ("--yardstick step", "constant", STARTS, "step"),
    ],
)
def test_reference_and_yardstick(
    options: str,
    reference: str,
    references: list[str | None],
    yardstick: str,
    episodes: Episodes,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A tuned one has one row, with which every start is compared."""
    episodes.invent = lambda cell: tiny.record(
        seed=cell.seed,
        test_loss=LOSSES[cell.contestant.name] * (1 + 0.01 * (cell.seed % 7)),
        best=abs(math.log10(cell.initial_lr / 3e-3)) + 1,
    )
    words = (
        *MLP,
        "--initial-lrs",
        "1e-2",
        "1e-3",
        "--agents",
        "constant",
        "step",
        "--tune",
        "cosine",
        "--tuning-runs",
        "8",
    )
    run(*words, *(word.replace("_", " ") for word in options.split()), "--out", str(tmp_path))
    found, text = rows(tmp_path), capsys.readouterr().out
    assert [row["agent"] for row in found] == ["constant", "constant", "step", "step", "tuned cosine"]
    assert [row["reference"] for row in found] == references
    compared = {row["agent"]: row["improvement"] for row in found if row["reference"] is not None}
    assert compared == {agent: float(LOSSES[agent] < LOSSES[reference]) for agent in compared}
    assert f"Reference: {reference}. p:" in text
    assert f"Reference: {reference}. p:" in (tmp_path / "table.md").read_text()
    assert results(tmp_path)["yardstick"] == yardstick
    ratios = {s["agent"]: s["median"] for s in results(tmp_path)["standings"]}
    assert ratios == pytest.approx({agent: loss / LOSSES[yardstick] for agent, loss in LOSSES.items()})
    assert list(ratios) == ["step", "constant", "tuned cosine"]
    assert f"All tasks: test loss over that of {yardstick}" in text


def test_the_screen(episodes: Episodes, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One agent on two tasks: how it stands over all; two on one: nothing more to say; all agents: the overview."""
    episodes.invent = lambda c: tiny.record(seed=c.seed, test_loss=1 + 30 * c.initial_lr, extra=(6.0, 3.0))
    run(*TWO_TASKS, "--agents", "constant", "--initial-lrs", "0.1", "0.01", "--out", str(tmp_path / "tasks"))
    (standing,) = results(tmp_path / "tasks")["standings"]
    assert [entry["ratio"] for entry in standing["ratios"]] == pytest.approx([4 / 1.3, 1.0] * 2)
    assert results(tmp_path / "tasks")["yardstick"] is None
    assert "All tasks: test loss over that of the lowest of the task" in capsys.readouterr().out
    run(*ONE_START, "--out", str(tmp_path / "two"))
    assert "All tasks" not in capsys.readouterr().out
    run(*MLP, "--agents", "all", "--initial-lrs", "1e-2", "--out", str(tmp_path / "all"))
    text = capsys.readouterr().out
    assert "from 0.01" in text
    assert not any(word in text for word in ("test accuracy", "**"))
    for part in text.split("All tasks: test loss over that of the lowest of the task"):
        lines = [line for line in part.splitlines() if " 1.10 " in line]  # 1 + (6 + 2 * 3) / (3 * 40)
        assert [line.split()[1] for line in lines] == names(prepared("--agents", "all"))


def test_runs_of_other_optimizers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are the runs of a task with that optimizer, at a constant learning rate, one row on each task."""
    monkeypatch.setattr(report, "_png", lambda figure: b"picture")
    words = ("--agents", "constant", "--initial-lrs", "1e-2", "--optimizers", "prodigy", "SGD:lr=0.5")
    run(*TWO_TASKS, *words, "--out", str(tmp_path))
    each = [("constant", 1e-2, False), ("prodigy", 1.0, True), ("SGD:lr=0.5", 0.5, True)]
    assert [(row["agent"], row["initial_lr"], row["own_start"]) for row in rows(tmp_path)] == each * 2
    for row, optimizer in zip(rows(tmp_path)[1:3], ("prodigy", "SGD"), strict=True):
        env = LRTrainingEnv(prepared(*TWO_TASKS).tasks[0].replace(optimizer=optimizer))
        lr, seeds = row["initial_lr"], results(tmp_path)["seeds"]
        expected = [rollout(env, lambda _: [0.0], seed=seed, initial_lr=lr).result["test_loss"] for seed in seeds]
        assert losses_of(row) == expected
    records = [json.loads(file.read_text()) for file in (tmp_path / "episodes").iterdir()]
    assert Counter(record["task"]["optimizer"] for record in records) == {"Adam": 4, "prodigy": 4, "SGD": 4}
    assert all(set(record["lrs"]) == {record["initial_lr"]} for record in records)


# -- tuning ------------------------------------------------------------------------------------------------------------

#: Validation losses of the first and the second tuning run from each of the peaks; the lowest mean is that of 0.01.
GRID = dict(zip(PEAKS, [(5, 5), (1, 9), (4, 3), (3, 3.5), (3, 3), (2, 8), (6, 6), (7, 7)], strict=True))


def test_the_choice_is_that_of_a_grid_by_hand(episodes: Episodes, tmp_path: Path) -> None:
    """By the mean of validation losses; one lucky run, or the test loss, would choose others. Each task its own."""
    words = (*TWO_TASKS, "--agents", "constant", "--initial-lrs", "0.5", "--tune", "cosine", "constant")
    plan = prepared(*words, "--tuning-runs", "16")
    tasks = [task.name for task in plan.tasks]
    grids = {tasks[0]: GRID, tasks[1]: dict(zip(PEAKS, reversed(GRID.values()), strict=True))}
    seeds = plan.tuning_seeds[:2]

    def invent(cell: Cell) -> Rollout:
        if cell.seed in plan.seeds:
            return tiny.record(seed=cell.seed)
        loss = grids[cell.task.name][cell.initial_lr][seeds.index(cell.seed)]
        return tiny.record(seed=cell.seed, best=loss, test_loss=10 - loss)

    episodes.invent = invent
    run(*words, "--tuning-runs", "16", "--out", str(tmp_path))
    tried = Counter((c.task.name, c.contestant.name, c.initial_lr) for c in episodes.cells if c.seed in seeds)
    assert tried == dict.fromkeys(itertools.product(grids, ("tuned cosine", "tuned constant"), PEAKS), 2)
    assert {cell.seed for cell in episodes.cells} == {*seeds, *plan.seeds}
    assert len(list((tmp_path / "episodes").iterdir())) == len(episodes.cells) == 2 * 2 * 16 + 2 * 3 * 2
    chosen = dict(zip(tasks, (1e-2, 3e-3), strict=True))
    for task, lr in chosen.items():
        tuned = results(tmp_path)["tuned"][task]
        assert list(tuned) == ["tuned cosine", "tuned constant"]
        for name, outcome in tuned.items():
            identity = {"agent": name.removeprefix("tuned "), "options": {}}
            assert (outcome["best"], outcome["episodes"]) == ({"agent": identity, "initial_lr": lr}, 16)
            means = {entry["initial_lr"]: entry["mean_best_val_loss"] for entry in outcome["tried"]}
            assert means == {peak: sum(losses) / 2 for peak, losses in grids[task].items()}
    assert [(row["task"], row["agent"], row["initial_lr"], row["own_start"]) for row in rows(tmp_path)] == [
        (task, *row)
        for task, lr in chosen.items()
        for row in (("constant", 0.5, False), ("tuned cosine", lr, True), ("tuned constant", lr, True))
    ]
    table = (tmp_path / "table.md").read_text()
    assert "| agent | from 0.5 | from its own lr | cost |" in table
    assert "| fashion-mnist-mini/lenet5 | tuned cosine | defaults | 0.003 | 8 | 16 |" in table


def test_tuning_runs_real_episodes(tmp_path: Path) -> None:
    plan = prepared(*MLP, "--tune", "constant", "--tuning-runs", "9")
    advanced: list[Cell] = []
    with Workers(1, in_process=True) as pool:
        tuned = run_tuning(plan, pool, tmp_path, lambda cell, _: advanced.append(cell))
    outcome, env = tuned["fashion-mnist-mini/mlp"]["tuned constant"], LRTrainingEnv(plan.tasks[0], max_multiplier=1e4)
    runs = [rollout(env, agents.make("constant"), seed=plan.tuning_seeds[0], initial_lr=peak) for peak in PEAKS]
    losses = [record.result["best_val_loss"] for record in runs]
    assert [loss for _, loss in outcome.tried] == losses
    assert outcome.best.initial_lr == PEAKS[losses.index(min(losses))]
    assert len(set(losses)) == len(advanced) == outcome.episodes == 8


def test_fewer_tuning_runs_than_candidates(episodes: Episodes, tmp_path: Path) -> None:
    """Of 48 step decays those at 0, 11.75, 23.5, 35.25 and 47, rounded."""
    words = (*MLP, "--agents", "constant", "--initial-lrs", "0.5", "--tune", "step", "--tuning-runs", "5")
    episodes.invent = valley(1e-3)
    run(*words, "--out", str(tmp_path))
    tried = [cell for cell in episodes.cells if cell.contestant.name == "tuned step"][:5]
    assert {cell.seed for cell in tried} == {prepared(*words).tuning_seeds[0]}
    got = [(cell.initial_lr, cell.contestant.identity["options"]) for cell in tried]
    decays = [STEP_DECAY_GRID[place] for place in (0, 12, 24, 35, 47)]
    assert got == [(decay.initial_lr, {"every": decay.every, "factor": decay.factor}) for decay in decays]
    row = row_of(tmp_path, "tuned step")
    assert (row["initial_lr"], row["own_start"], row["reference"]) == (1e-3, True, None)


def test_a_tuned_constant_is_the_constant_from_that_lr(episodes: Episodes, tmp_path: Path) -> None:
    """The episodes are the same, so none is run twice."""
    episodes.invent = valley(1e-2)
    words = ("--agents", "constant", "--initial-lrs", "1e-2", "--tune", "constant", "--tuning-runs", "8")
    run(*MLP, *words, "--out", str(tmp_path))
    assert len(episodes.cells) == 8 + 2
    first, second = rows(tmp_path)
    assert (second["agent"], second["initial_lr"], second["own_start"]) == ("tuned constant", 1e-2, True)
    assert (second["results"], second["records"], second["reference"]) == (first["results"], first["records"], None)


# -- failures ----------------------------------------------------------------------------------------------------------


def failing_if(condition: Callable[[Cell], bool], message: str = "no luck") -> Callable[[Cell], Rollout]:
    def invent(cell: Cell) -> Rollout:
        if condition(cell):
            raise ValueError(message)
        return tiny.record(seed=cell.seed)

    return invent


def test_tuning_that_fails(episodes: Episodes, tmp_path: Path) -> None:
    """A candidate that fails is not chosen, and said; the next run tries it again, and nothing else."""
    episodes.invent = failing_if(lambda cell: cell.initial_lr == 0.1)
    words = (*MLP, "--agents", "constant", "--initial-lrs", "1e-2", "--tune", "cosine", "--tuning-runs", "8")
    assert failed(*words, "--out", str(tmp_path)) == 1
    tuned = results(tmp_path)["tuned"]["fashion-mnist-mini/mlp"]["tuned cosine"]
    (failure,) = tuned["failures"]
    assert failure.startswith("tuned cosine on fashion-mnist-mini/mlp from 0.1, seed ")
    assert failure.endswith(": ValueError: no luck")
    assert tuned["best"]["initial_lr"] != 0.1
    assert [entry["initial_lr"] for entry in tuned["tried"] if entry["mean_best_val_loss"] is None] == [0.1]
    assert failure in (tmp_path / "table.md").read_text()
    assert len(episodes.cells) == 8 + 2 * 2
    episodes.invent = lambda cell: tiny.record(seed=cell.seed)
    run(*words, "--out", str(tmp_path))
    assert len(episodes.cells) == 8 + 2 * 2 + 1
    assert not list((tmp_path / "episodes").glob("*.failed.json"))


FAILING = """
from pathlib import Path
from lr_gym import agents

class Failing(agents.FixedAgent):
    def next_lr(self):
        if Path(__file__).with_name("broken").exists():
            raise RuntimeError("out of luck")
        return self.trainee.lr

agents.register("failing", Failing)
"""


@pytest.mark.parametrize("order", ["constant failing", "failing constant"])
def test_an_agent_that_fails_and_is_mended(
    order: str, tmp_path: Path, clean: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Real episodes. The others' results are there; the same command tries again what failed, only that."""
    begun: list[str] = []
    real = Cell.run
    monkeypatch.setattr(Cell, "run", lambda cell: begun.append(cell.contestant.name) or real(cell))
    monkeypatch.setattr(report, "_png", lambda figure: b"picture")
    monkeypatch.setenv("COLUMNS", "300")
    plugin, out = tmp_path / "failing_plugin.py", tmp_path / "out"
    plugin.write_text(FAILING)
    (tmp_path / "broken").touch()
    words = (*MLP, "--initial-lrs", "1e-2", "--plugins", str(plugin), "--out", str(out), "--agents", *order.split())
    assert failed(*words) == cli.FAILED == 1
    seeds, text, told = results(out)["seeds"], capsys.readouterr().out, row_of(out, "failing")["failures"]
    cells = [f"failing on fashion-mnist-mini/mlp from 0.01, seed {seed}" for seed in seeds]
    assert told == [f"{cell}: RuntimeError: out of luck" for cell in cells]
    assert f"2 episodes failed, the first: {told[0]}" in text
    assert f"(report.html) are in {out}" in text
    assert {path.name for path in out.iterdir()} == FILES | {"episodes"}
    assert (row_of(out, "failing")["results"], row_of(out, "failing")["test_loss"]["n"]) == ([], 0)
    constant = row_of(out, "constant")
    env = LRTrainingEnv(prepared(*MLP).tasks[0], max_multiplier=1e4)
    expected = [rollout(env, lambda _: [0.0], seed=seed, initial_lr=1e-2).result["test_loss"] for seed in seeds]
    assert (losses_of(constant), constant["failures"]) == (expected, [])
    standing = {s["agent"]: (s["runs"], s["failed"], s["median"] is None) for s in results(out)["standings"]}
    assert standing == {"failing": (0, 2, True), "constant": (2, 0, False)}
    table, page = (out / "table.md").read_text(), (out / "report.html").read_text()
    assert all(error in table.partition("## Failed")[2] and error in page for error in told)
    notes = [json.loads(note.read_text())["cell"] for note in (out / "episodes").glob("*.failed.json")]
    assert sorted(notes) == sorted(cells)
    begun.clear()
    assert failed(*words) == 1
    assert begun == ["failing"] * 2
    (tmp_path / "broken").unlink()
    capsys.readouterr()
    run(*words)
    assert begun == ["failing"] * 4
    assert "failed" not in capsys.readouterr().out.replace("failing", "")
    assert "Failed" not in (out / "table.md").read_text()
    assert not list((out / "episodes").glob("*.failed.json"))
    mended = row_of(out, "failing")  # which keeps its learning rate, as the constant does
    assert (mended["results"], mended["failures"]) == (constant["results"], [])


@pytest.mark.parametrize(
    ("condition", "words", "runs"),
    [
        (lambda c: c.seed == prepared(*MLP).seeds[1], (*ONE_START,), [1, 1]),
        (lambda c: "lenet5" in c.task.name, (*TWO_TASKS, "--agents", "constant", "--initial-lrs", "0.1"), [2, 0]),
        (lambda c: c.contestant.name == "step", (*ONE_START, "--yardstick", "step"), [2, 0]),
        (lambda c: c.initial_lr == 0.1, (*MLP, "--agents", "constant", "--initial-lrs", "0.1", "0.01"), [0, 2]),
        (lambda c: c.contestant.name == "constant", (*MLP, "--agents", "all", "--initial-lrs", "0.1"), [0, 2]),
    ],
    ids=["a seed", "a task", "the yardstick", "a start", "one of many agents"],
)
def test_some_episodes_fail(
    condition: Callable[[Cell], bool], words: tuple[str, ...], runs: list[int], episodes: Episodes, tmp_path: Path
) -> None:
    """The others' results and all figures are there."""
    episodes.invent = failing_if(condition)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert failed(*words, "--out", str(tmp_path)) == 1
    assert {path.name for path in tmp_path.iterdir()} == FILES | {"episodes"}
    found = [(len(row["results"]), len(row["failures"]), row["test_loss"]["n"]) for row in rows(tmp_path)]
    assert found[:2] == [(count, 2 - count, count) for count in runs]
    assert all(row["p_value"] is None for row in rows(tmp_path) if len(row["results"]) < 2)


def test_every_episode_fails(episodes: Episodes, tmp_path: Path) -> None:
    """There is nothing to report on: one line, and the exit status is 1 as well."""
    episodes.invent = failing_if(lambda cell: True)
    message = r"^every episode failed; the first with constant on fashion-mnist-mini/mlp from 0.01, seed \d+: ValueErro"
    with pytest.raises(LRGymError, match=message):
        run(*ONE_START, "--out", str(tmp_path))
    assert {path.name for path in tmp_path.iterdir()} == {"episodes"}


@pytest.mark.parametrize("message", ["expected [batch, 4], got (2, 2)", "in [/tmp/x]", "first\nsecond", "a | b"])
def test_errors_are_told_as_they_are(
    message: str, episodes: Episodes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    episodes.invent = failing_if(lambda cell: cell.contestant.name == "step", message)
    assert failed(*ONE_START, "--out", str(tmp_path)) == 1
    assert f"ValueError: {message}" in capsys.readouterr().out
    lines = (tmp_path / "table.md").read_text().partition("## Failed")[2].strip().splitlines()
    assert len(lines) == 2 + 2
    assert all(line.replace("\\|", "").count("|") == 2 for line in lines)
