"""Comparisons from the command line to the files that they leave; stopped, failing, and run again."""

from __future__ import annotations

import itertools
import json
import shutil
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import command_toys as toys
import pytest
import tiny
from command_toys import MLP, TWO_TASKS, Desk, Install, failing_if, losses_of, prepared

import eval_transfer
from lr_gym import LRTrainingEnv, cli, rollout
from lr_gym.agents.baselines import PEAKS
from lr_gym.control.controller import Controller
from lr_gym.errors import LRGymError
from lr_gym.evaluation import Cell, Rollout

REAL = Cell.run
ONE_START = (*MLP, "--agents", "constant", "step", "--initial-lrs", "1e-2")


def read(out: Path) -> dict[str, Any]:
    values: dict[str, Any] = json.loads((out / "results.json").read_text())
    return values


@pytest.fixture(scope="module")
def here(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return what a comparison of that controller leaves, made in this process; not to be changed."""
    out = tmp_path_factory.mktemp("here")
    tiny.run_main(eval_transfer, "--controller", str(finished / "controller"), *toys.ARGUMENTS, "--out", str(out))
    return out


def test_what_is_left(finished: Path, here: Path) -> None:
    assert {path.name for path in here.iterdir()} == toys.FILES
    values, learned = read(here), Controller.load(finished)
    seeds = values["seeds"]
    assert values["provenance"]["settings"]["seeds"] == seeds
    best = read(finished)["comparison"]["best_step_decay"]["initial_lr"]
    found = [(row["agent"].partition(" (")[0], row["initial_lr"], row["own_start"]) for row in values["rows"]]
    everywhere = itertools.product(("controller", "constant", "step"), (1e-2, 1e-3), (False,))
    assert found == [*everywhere, ("transferred step decay", best, True)]
    env = LRTrainingEnv(tiny.task(**dict(map(cli.assignment, toys.OVERRIDE[1:]))), **learned.env_options)
    for row in values["rows"]:
        assert [result["seed"] for result in row["results"]] == seeds
        assert (row["reference"] is None) == (row["agent"] == "controller" or row["own_start"])
        if row["agent"] == "controller":
            runs = [rollout(env, learned, seed=seed, initial_lr=row["initial_lr"]) for seed in seeds]
            assert losses_of(row) == [record.result["test_loss"] for record in runs]
    assert all((here / name).stat().st_size > 10_000 for name in toys.FIGURES)
    assert (here / "report.html").read_text().count("<svg") == len(toys.FIGURES)


def test_as_a_process_with_plugins_in_workers(finished: Path, here: Path, install: Install, tmp_path: Path) -> None:
    """The rows of before are the same; others are of an agent and of data that each worker must register."""
    install("steady", "steady_plugin.names:register", toys.STEADY)
    (tmp_path / "data_plugin.py").write_text(toys.DATA_PLUGIN)
    words, out = [*toys.ARGUMENTS, "--controller", str(finished), "--plugins", "data_plugin.py"], tmp_path / "a [b]"
    words.insert(words.index("step") + 1, "steady:lr=2e-6")
    words.insert(words.index("fashion-mnist-mini/mlp") + 1, "plugin waves/mlp")
    done = tiny.run_script("eval_transfer.py", *words, "--out", str(out), folder=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert f"Results, figures and a page that shows them (report.html) are in {out}" in done.stdout.replace("\n", "")
    rows, about = read(out)["rows"], read(out)["provenance"]
    found = {(row["task"], row["agent"], row["initial_lr"]): row for row in rows}
    before = read(here)["rows"]
    assert all(found[r["task"], r["agent"], r["initial_lr"]]["results"] == r["results"] for r in before)
    assert len(found) == len(rows) == 2 * len(before) + 2 * 2
    steady = found["plugin waves/mlp", "steady:lr=2e-6", 1e-2]["records"]
    lrs = [json.loads((out / "episodes" / name).read_text())["lrs"] for name in steady]
    assert lrs == [pytest.approx([1e-2, 2e-6], rel=1e-5)] * 2
    assert about["command"].startswith("eval_transfer.py --task fashion-mnist-mini/mlp 'plugin waves/mlp' --agents")
    assert about["packages"]["steady"] == "1.2"
    assert {"commit", "python"} < about.keys()


def test_the_same_command_again_runs_nothing(finished: Path, here: Path, desk: Desk) -> None:
    shutil.copytree(here, desk.out)
    (desk.out / "results.json").unlink()
    assert desk("--controller", str(finished), *toys.ARGUMENTS) == 0
    assert (desk.cells, desk.rows) == ([], read(here)["rows"])


@pytest.mark.parametrize("done", [0, 3, 8, 11])
def test_ctrl_c_and_on(done: int, desk: Desk, tmp_path: Path) -> None:
    """Stopped at the first episode, while tuning, after it, and later: the same command computes what is missing."""
    words = (*toys.ARGUMENTS, "--tune", "constant", "--tuning-runs", "8")
    assert desk(*words) == 0
    at_once, expected = desk.results, {cell.key for cell in desk.cells}
    assert len(expected) == len(desk.cells) == 8 + 2 * (2 * 2 + 1)
    desk.cells, desk.stop_after, desk.out = [], done, tmp_path / "stopped"
    assert desk(*words) == cli.INTERRUPTED == 130
    assert f"Stopped. The same command with --out {desk.out} continues." in desk.text
    assert desk.left <= {".lock", "episodes", "run.toml"}
    desk.stop_after = None
    assert desk(*words) == 0
    assert len(desk.cells) == len(expected)  # none twice
    assert {cell.key for cell in desk.cells} == expected
    assert {**desk.results, "provenance": 0} == {**at_once, "provenance": 0}


def test_reference_and_yardstick(desk: Desk) -> None:
    """A tuned one has one row, with which every start is compared."""
    losses = {"constant": 2.0, "step": 1.0, "tuned cosine": 4.0}
    desk.invent = lambda c: tiny.record(seed=c.seed, test_loss=losses[c.contestant.name] * (1 + 0.01 * (c.seed % 7)))
    words = ("--agents", "constant", "step", "--initial-lrs", "1e-2", "1e-3", "--tune", "cosine", "--tuning-runs", "8")
    assert desk(*MLP, *words, "--reference", "tuned cosine", "--yardstick", "step") == 0
    assert [row["reference"] for row in desk.rows] == ["tuned cosine from 0.0001"] * 4 + [None]
    assert [row["improvement"] for row in desk.rows] == [1, 1, 1, 1, None]
    for text in (desk.text, (desk.out / "table.md").read_text()):
        assert "Reference: tuned cosine. p:" in text
    assert {s["agent"]: s["median"] for s in desk.results["standings"]} == pytest.approx(losses)
    assert "All tasks: test loss over that of step" in desk.text


def test_the_screen(desk: Desk) -> None:
    """One agent on two tasks: how it stands over all; two on one: nothing more to say; all agents: the overview."""
    desk.invent = lambda c: tiny.record(seed=c.seed, test_loss=1 + 30 * c.initial_lr, extra=(6.0, 3.0))
    assert desk(*TWO_TASKS, "--agents", "constant", "--initial-lrs", "0.1", "0.01") == 0
    (standing,) = desk.results["standings"]
    assert [entry["ratio"] for entry in standing["ratios"]] == pytest.approx([4 / 1.3, 1.0] * 2)
    assert "All tasks: test loss over that of the lowest of the task" in desk.text
    assert desk(*ONE_START) == 0
    assert "All tasks" not in desk.text
    assert desk(*MLP, "--agents", "all", "--initial-lrs", "1e-2") == 0
    assert "from 0.01" in desk.text
    assert not any(word in desk.text for word in ("test accuracy", "**"))
    for part in desk.text.split("All tasks: test loss over that of the lowest of the task"):
        lines = [line for line in part.splitlines() if " 1.10 " in line]  # 1 + (6 + 2 * 3) / (3 * 40)
        assert [line.split()[1] for line in lines] == toys.names(prepared("--agents", "all"))


def test_runs_of_other_optimizers(desk: Desk) -> None:
    """They are the runs of a task with that optimizer, at a constant learning rate, one row on each task."""
    desk.invent = REAL
    words = ("--agents", "constant", "--initial-lrs", "1e-2", "--optimizers", "prodigy", "SGD:lr=0.5")
    assert desk(*TWO_TASKS, *words) == 0
    each = [("constant", 1e-2, False), ("prodigy", 1.0, True), ("SGD:lr=0.5", 0.5, True)]
    assert [(row["agent"], row["initial_lr"], row["own_start"]) for row in desk.rows] == each * 2
    for row, optimizer in zip(desk.rows[1:3], ("prodigy", "SGD"), strict=True):
        env, lr = LRTrainingEnv(prepared(*TWO_TASKS).tasks[0].replace(optimizer=optimizer)), row["initial_lr"]
        runs = [rollout(env, lambda _: [0.0], seed=seed, initial_lr=lr) for seed in desk.results["seeds"]]
        assert losses_of(row) == [record.result["test_loss"] for record in runs]


#: Validation losses of the first and the second tuning run from each of the peaks; the lowest mean is that of 0.01.
GRID = dict(zip(PEAKS, [(5, 5), (1, 9), (4, 3), (3, 3.5), (3, 3), (2, 8), (6, 6), (7, 7)], strict=True))


def test_the_choice_is_that_of_a_grid_by_hand(desk: Desk) -> None:
    """By the mean of validation losses; one lucky run, or the test loss, would choose others. Each task its own."""
    words = (*TWO_TASKS, "--agents", "constant", "--initial-lrs", "0.5", "--tune", "cosine", "constant")
    plan = prepared(*words, "--tuning-runs", "16")
    first, second = (task.name for task in plan.tasks)
    grids = {first: GRID, second: dict(zip(PEAKS, reversed(GRID.values()), strict=True))}
    seeds = plan.tuning_seeds[:2]

    def invent(cell: Cell) -> Rollout:
        if cell.seed in plan.seeds:
            return tiny.record(seed=cell.seed)
        loss = grids[cell.task.name][cell.initial_lr][seeds.index(cell.seed)]
        return tiny.record(seed=cell.seed, best=loss, test_loss=10 - loss)

    desk.invent = invent
    assert desk(*words, "--tuning-runs", "16") == 0
    tried = Counter((c.task.name, c.contestant.name, c.initial_lr) for c in desk.cells if c.seed in seeds)
    assert tried == dict.fromkeys(itertools.product(grids, ("tuned cosine", "tuned constant"), PEAKS), 2)
    assert len(list((desk.out / "episodes").iterdir())) == len(desk.cells) == 2 * 2 * 16 + 2 * 3 * 2
    expected = []
    for task, lr in ((first, 1e-2), (second, 3e-3)):
        expected += [(task, "constant", 0.5), (task, "tuned cosine", lr), (task, "tuned constant", lr)]
        for name, outcome in desk.results["tuned"][task].items():
            identity = {"agent": name.removeprefix("tuned "), "options": {}}
            assert (outcome["best"], outcome["episodes"]) == ({"agent": identity, "initial_lr": lr}, 16)
            means = {entry["initial_lr"]: entry["mean_best_val_loss"] for entry in outcome["tried"]}
            assert means == {peak: sum(losses) / 2 for peak, losses in grids[task].items()}
    assert [(row["task"], row["agent"], row["initial_lr"]) for row in desk.rows] == expected
    assert [row["own_start"] for row in desk.rows] == [False, True, True] * 2
    assert desk.results["yardstick"] == "tuned cosine"


def test_a_tuned_constant_is_the_constant_from_that_lr(desk: Desk) -> None:
    """The episodes are the same, so none is run twice."""
    desk.invent = lambda cell: tiny.record(seed=cell.seed, best=abs(cell.initial_lr - 1e-2))
    words = ("--agents", "constant", "--initial-lrs", "1e-2", "--tune", "constant", "--tuning-runs", "8")
    assert desk(*MLP, *words) == 0
    assert len(desk.cells) == 8 + 2
    first, second = desk.rows
    assert (second["agent"], second["initial_lr"], second["own_start"]) == ("tuned constant", 1e-2, True)
    assert (second["results"], second["records"], second["reference"]) == (first["results"], first["records"], None)


# -- failures ----------------------------------------------------------------------------------------------------------


def test_tuning_that_fails(desk: Desk) -> None:
    """A candidate that fails is not chosen, and said; the next run tries it again, and nothing else."""
    desk.invent = failing_if(lambda cell: cell.initial_lr == 0.1)
    words = (*MLP, "--agents", "constant", "--initial-lrs", "1e-2", "--tune", "cosine", "--tuning-runs", "8")
    assert desk(*words) == 1
    tuned, seed = desk.results["tuned"]["fashion-mnist-mini/mlp"]["tuned cosine"], prepared(*words).tuning_seeds[0]
    failure = f"tuned cosine on fashion-mnist-mini/mlp from 0.1, seed {seed}: ValueError: no luck"
    assert (tuned["failures"], failure in (desk.out / "table.md").read_text()) == ([failure], True)
    assert tuned["best"]["initial_lr"] != 0.1
    assert [entry["initial_lr"] for entry in tuned["tried"] if entry["mean_best_val_loss"] is None] == [0.1]
    assert f"1 episode failed, the first: {failure}" in desk.text
    desk.cells, desk.invent = [], failing_if(lambda cell: False)
    assert (desk(*words), len(desk.cells)) == (0, 1)
    assert not list((desk.out / "episodes").glob("*.failed.json"))


@pytest.mark.parametrize("order", [("constant", "step"), ("step", "constant")], ids=" ".join)
def test_an_agent_that_fails_and_is_mended(order: tuple[str, str], desk: Desk) -> None:
    """The same command tries again what failed, only that."""
    words = (*MLP, "--agents", *order, "--initial-lrs", "1e-2")
    told = [f"step on fashion-mnist-mini/mlp from 0.01, seed {s}: ValueError: no luck" for s in prepared(*words).seeds]
    desk.invent = failing_if(lambda cell: cell.contestant.name == "step")
    for begun in (4, 6):
        assert (desk(*words), len(desk.cells), cli.FAILED) == (1, begun, 1)
        assert f"2 episodes failed, the first: {told[0]}" in desk.text
        assert f"(report.html) are in {desk.out}" in desk.text
        assert f"The same command with --out {desk.out} tries again what failed" in desk.text
        found = {row["agent"]: (row["failures"], len(row["results"]), row["test_loss"]["n"]) for row in desk.rows}
        assert found == {"constant": ([], 2, 2), "step": (told, 0, 0)}
        page = (desk.out / "report.html").read_text().replace("<wbr>", "")  # where lines may be broken
        assert all(error in page for error in told)
        assert len(list((desk.out / "episodes").glob("*.failed.json"))) == 2
    desk.invent = failing_if(lambda cell: False)
    assert (desk(*words), len(desk.cells), "failed" in desk.text) == (0, 8, False)
    assert "Failed" not in (desk.out / "table.md").read_text()
    assert not list((desk.out / "episodes").glob("*.failed.json"))
    assert [(len(row["results"]), row["failures"]) for row in desk.rows] == [(2, [])] * 2


@pytest.mark.parametrize(
    ("condition", "words", "runs"),
    [
        (lambda c: c.seed == prepared(*MLP).seeds[1], ONE_START, [1, 1]),
        (lambda c: "lenet5" in c.task.name, (*TWO_TASKS, "--agents", "constant", "--initial-lrs", "0.1"), [2, 0]),
        (lambda c: c.contestant.name == "step", (*ONE_START, "--yardstick", "step"), [2, 0]),
        (lambda c: c.initial_lr == 0.1, (*MLP, "--agents", "constant", "--initial-lrs", "0.1", "0.01"), [0, 2]),
        (lambda c: c.contestant.name == "constant", (*MLP, "--agents", "all", "--initial-lrs", "0.1"), [0, 2]),
    ],
    ids=["a seed", "a task", "the yardstick", "a start", "one of many agents"],
)
def test_some_episodes_fail(
    condition: Callable[[Cell], bool], words: tuple[str, ...], runs: list[int], desk: Desk
) -> None:
    """The others' results and all figures are there."""
    desk.invent = failing_if(condition)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert desk(*words) == 1
    assert desk.left == toys.FILES
    found = [(len(row["results"]), len(row["failures"]), row["test_loss"]["n"]) for row in desk.rows]
    assert found[:2] == [(count, 2 - count, count) for count in runs]
    assert all(row["p_value"] is None for row in desk.rows if len(row["results"]) < 2)


def test_every_episode_fails(desk: Desk) -> None:
    """There is nothing to report on: one line, and the exit status is 1 as well."""
    desk.invent = failing_if(lambda cell: True)
    message = r"^every episode failed; the first with constant on fashion-mnist-mini/mlp from 0.01, seed \d+: ValueErro"
    with pytest.raises(LRGymError, match=message):
        desk(*ONE_START)
    assert desk.left == {".lock", "episodes", "run.toml"}


@pytest.mark.parametrize("message", ["expected [batch, 4], got (2, 2)", "in [/tmp/x]", "first\nsecond", "a | b"])
def test_errors_are_told_as_they_are(message: str, desk: Desk) -> None:
    desk.invent = failing_if(lambda cell: cell.contestant.name == "step", message)
    assert desk(*ONE_START) == 1
    assert f"ValueError: {message}" in desk.text
    lines = (desk.out / "table.md").read_text().partition("## Failed")[2].strip().splitlines()
    assert len(lines) == 2 + 2
    assert all(line.replace("\\|", "").count("|") == 2 for line in lines)
