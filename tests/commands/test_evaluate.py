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

import command_toys as toys
import matplotlib.image
import pytest
import tiny
from command_toys import MLP, TWO_TASKS, Episodes, Install, failed, losses_of, prepared, results, row_of, rows, run

from lr_gym import LRTrainingEnv, cli, rollout
from lr_gym.agents.baselines import PEAKS
from lr_gym.control.controller import Controller
from lr_gym.errors import LRGymError
from lr_gym.evaluation import Cell, Rollout, report

ONE_START = (*MLP, "--agents", "constant", "step", "--initial-lrs", "1e-2")


@pytest.fixture(scope="module")
def here(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return what a comparison of that controller leaves, made in this process; not to be changed."""
    out = tmp_path_factory.mktemp("here")
    run("--controller", str(finished / "controller"), *toys.ARGUMENTS, "--out", str(out))
    return out


def test_what_is_left(finished: Path, here: Path) -> None:
    assert {path.name for path in here.iterdir()} == toys.FILES | {"episodes"}
    seeds, learned = results(here)["seeds"], Controller.load(finished)
    assert results(here)["provenance"]["settings"]["seeds"] == seeds
    best = results(finished)["comparison"]["best_step_decay"]["initial_lr"]
    found = [(row["agent"].partition(" (")[0], row["initial_lr"], row["own_start"]) for row in rows(here)]
    everywhere = itertools.product(("controller", "constant", "step"), (1e-2, 1e-3), (False,))
    assert found == [*everywhere, ("transferred step decay", best, True)]
    env = LRTrainingEnv(tiny.task(**dict(map(cli.assignment, toys.OVERRIDE[1:]))), **learned.env_options)
    for row in rows(here):
        assert [result["seed"] for result in row["results"]] == seeds
        assert (row["reference"] is None) == (row["agent"] == "controller" or row["own_start"])
        if row["agent"] == "controller":
            runs = [rollout(env, learned, seed=seed, initial_lr=row["initial_lr"]) for seed in seeds]
            assert losses_of(row) == [record.result["test_loss"] for record in runs]
    parts = (here / "table.md").read_text().split("\n## ")[1:]
    lines = [(part.splitlines()[0].rpartition(": ")[2], part.count("\n| ") - 2) for part in parts]  # less head, rule
    assert lines == [("All tasks together", 4), ("Side by side", 2), ("fashion-mnist-mini/mlp", 4), ("every row", 7)]
    assert all(matplotlib.image.imread(here / name)[..., :3].std() > 0.05 for name in toys.FIGURES)
    page = (here / "report.html").read_text()
    assert (page.count('<img src="data:image/png;base64,'), page.count("<table>")) == (len(toys.FIGURES), len(lines))


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
    found = {(row["task"], row["agent"], row["initial_lr"]): row for row in rows(out)}
    assert all(found[r["task"], r["agent"], r["initial_lr"]]["results"] == r["results"] for r in rows(here))
    assert len(found) == len(rows(out)) == 2 * len(rows(here)) + 2 * 2
    steady = found["plugin waves/mlp", "steady:lr=2e-6", 1e-2]["records"]
    lrs = [json.loads((out / "episodes" / name).read_text())["lrs"] for name in steady]
    assert lrs == [pytest.approx([1e-2, 2e-6], rel=1e-5)] * 2
    about = results(out)["provenance"]
    assert about["command"].startswith("eval_transfer.py --task fashion-mnist-mini/mlp 'plugin waves/mlp' --agents")
    assert about["packages"]["steady"] == "1.2"
    assert {"commit", "python"} < about.keys()


def test_the_same_command_again_runs_nothing(finished: Path, here: Path, episodes: Episodes, tmp_path: Path) -> None:
    out = Path(shutil.copytree(here, tmp_path / "out"))
    (out / "results.json").unlink()
    run("--controller", str(finished), *toys.ARGUMENTS, "--out", str(out))
    assert episodes.cells == []
    assert rows(out) == rows(here)


@pytest.mark.parametrize("done", [0, 3, 8, 11])
def test_ctrl_c_and_on(done: int, episodes: Episodes, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Stopped at the first episode, while tuning, after it, and later: the same command computes what is missing."""
    words = (*toys.ARGUMENTS, "--tune", "constant", "--tuning-runs", "8", "--out")
    episodes.invent = toys.valley(3e-3)
    run(*words, str(tmp_path / "at once"))
    expected = {cell.key for cell in episodes.cells}
    assert len(expected) == len(episodes.cells) == 8 + 2 * (2 * 2 + 1)
    episodes.cells, episodes.stop_after, out = [], done, tmp_path / "stopped"
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
STEPS = ["step from 0.01", "step from 0.001", None, None, None]


@pytest.mark.parametrize(
    ("options", "reference", "references", "yardstick"),
    [
        ((), "constant", STARTS, "tuned cosine"),
        (("--reference", "step", "--yardstick", "tuned cosine"), "step", STEPS, "tuned cosine"),
        (("--reference", "tuned cosine"), "tuned cosine", ["tuned cosine from 0.003"] * 4 + [None], "tuned cosine"),
        (("--yardstick", "step"), "constant", STARTS, "step"),
    ],
)
def test_reference_and_yardstick(
    options: tuple[str, ...],
    reference: str,
    references: list[str | None],
    yardstick: str,
    episodes: Episodes,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A tuned one has one row, with which every start is compared."""

    def invent(cell: Cell) -> Rollout:
        loss = LOSSES[cell.contestant.name] * (1 + 0.01 * (cell.seed % 7))
        return tiny.record(seed=cell.seed, test_loss=loss, best=abs(math.log10(cell.initial_lr / 3e-3)) + 1)

    episodes.invent = invent
    words = ("--initial-lrs", "1e-2", "1e-3", "--agents", "constant", "step", "--tune", "cosine", "--tuning-runs", "8")
    run(*MLP, *words, *options, "--out", str(tmp_path))
    found, text = rows(tmp_path), capsys.readouterr().out
    assert [row["agent"] for row in found] == ["constant", "constant", "step", "step", "tuned cosine"]
    assert [row["reference"] for row in found] == references
    compared = {row["agent"]: row["improvement"] for row in found if row["reference"] is not None}
    assert compared == {agent: float(LOSSES[agent] < LOSSES[reference]) for agent in compared}
    assert f"Reference: {reference}. p:" in text
    assert f"Reference: {reference}. p:" in (tmp_path / "table.md").read_text()
    ratios = {s["agent"]: s["median"] for s in results(tmp_path)["standings"]}
    assert ratios == pytest.approx({agent: loss / LOSSES[yardstick] for agent, loss in LOSSES.items()})
    assert f"All tasks: test loss over that of {yardstick}" in text


def test_the_screen(episodes: Episodes, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One agent on two tasks: how it stands over all; two on one: nothing more to say; all agents: the overview."""
    episodes.invent = lambda c: tiny.record(seed=c.seed, test_loss=1 + 30 * c.initial_lr, extra=(6.0, 3.0))
    run(*TWO_TASKS, "--agents", "constant", "--initial-lrs", "0.1", "0.01", "--out", str(tmp_path / "tasks"))
    (standing,) = results(tmp_path / "tasks")["standings"]
    assert [entry["ratio"] for entry in standing["ratios"]] == pytest.approx([4 / 1.3, 1.0] * 2)
    assert "All tasks: test loss over that of the lowest of the task" in capsys.readouterr().out
    run(*ONE_START, "--out", str(tmp_path / "two"))
    assert "All tasks" not in capsys.readouterr().out
    run(*MLP, "--agents", "all", "--initial-lrs", "1e-2", "--out", str(tmp_path / "all"))
    text = capsys.readouterr().out
    assert "from 0.01" in text
    assert not any(word in text for word in ("test accuracy", "**"))
    for part in text.split("All tasks: test loss over that of the lowest of the task"):
        lines = [line for line in part.splitlines() if " 1.10 " in line]  # 1 + (6 + 2 * 3) / (3 * 40)
        assert [line.split()[1] for line in lines] == toys.names(prepared("--agents", "all"))


def test_runs_of_other_optimizers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are the runs of a task with that optimizer, at a constant learning rate, one row on each task."""
    monkeypatch.setattr(report, "_png", lambda figure: b"picture")
    words = ("--agents", "constant", "--initial-lrs", "1e-2", "--optimizers", "prodigy", "SGD:lr=0.5")
    run(*TWO_TASKS, *words, "--out", str(tmp_path))
    each = [("constant", 1e-2, False), ("prodigy", 1.0, True), ("SGD:lr=0.5", 0.5, True)]
    assert [(row["agent"], row["initial_lr"], row["own_start"]) for row in rows(tmp_path)] == each * 2
    for row, optimizer in zip(rows(tmp_path)[1:3], ("prodigy", "SGD"), strict=True):
        env = LRTrainingEnv(prepared(*TWO_TASKS).tasks[0].replace(optimizer=optimizer))
        runs = [rollout(env, lambda _: [0.0], seed=s, initial_lr=row["initial_lr"]) for s in results(tmp_path)["seeds"]]
        assert losses_of(row) == [record.result["test_loss"] for record in runs]


# -- tuning ------------------------------------------------------------------------------------------------------------

#: Validation losses of the first and the second tuning run from each of the peaks; the lowest mean is that of 0.01.
GRID = dict(zip(PEAKS, [(5, 5), (1, 9), (4, 3), (3, 3.5), (3, 3), (2, 8), (6, 6), (7, 7)], strict=True))


def test_the_choice_is_that_of_a_grid_by_hand(episodes: Episodes, tmp_path: Path) -> None:
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

    episodes.invent = invent
    run(*words, "--tuning-runs", "16", "--out", str(tmp_path))
    tried = Counter((c.task.name, c.contestant.name, c.initial_lr) for c in episodes.cells if c.seed in seeds)
    assert tried == dict.fromkeys(itertools.product(grids, ("tuned cosine", "tuned constant"), PEAKS), 2)
    assert {cell.seed for cell in episodes.cells} == {*seeds, *plan.seeds}
    assert len(list((tmp_path / "episodes").iterdir())) == len(episodes.cells) == 2 * 2 * 16 + 2 * 3 * 2
    expected = []
    for task, lr in ((first, 1e-2), (second, 3e-3)):
        expected += [(task, "constant", 0.5), (task, "tuned cosine", lr), (task, "tuned constant", lr)]
        for name, outcome in results(tmp_path)["tuned"][task].items():
            identity = {"agent": name.removeprefix("tuned "), "options": {}}
            assert (outcome["best"], outcome["episodes"]) == ({"agent": identity, "initial_lr": lr}, 16)
            means = {entry["initial_lr"]: entry["mean_best_val_loss"] for entry in outcome["tried"]}
            assert means == {peak: sum(losses) / 2 for peak, losses in grids[task].items()}
    found = rows(tmp_path)
    assert [(row["task"], row["agent"], row["initial_lr"]) for row in found] == expected
    assert [row["own_start"] for row in found] == [False, True, True] * 2
    table = (tmp_path / "table.md").read_text()
    assert "| agent | from 0.5 | from its own lr | cost |" in table
    assert "| fashion-mnist-mini/lenet5 | tuned cosine | defaults | 0.003 | 8 | 16 |" in table


def test_a_tuned_constant_is_the_constant_from_that_lr(episodes: Episodes, tmp_path: Path) -> None:
    """The episodes are the same, so none is run twice."""
    episodes.invent = toys.valley(1e-2)
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
    seed = prepared(*words).tuning_seeds[0]
    failure = f"tuned cosine on fashion-mnist-mini/mlp from 0.1, seed {seed}: ValueError: no luck"
    assert tuned["failures"] == [failure]
    assert failure in (tmp_path / "table.md").read_text()
    assert tuned["best"]["initial_lr"] != 0.1
    assert [entry["initial_lr"] for entry in tuned["tried"] if entry["mean_best_val_loss"] is None] == [0.1]
    assert len(episodes.cells) == 8 + 2 * 2
    episodes.invent = failing_if(lambda cell: False)
    run(*words, "--out", str(tmp_path))
    assert len(episodes.cells) == 8 + 2 * 2 + 1
    assert not list((tmp_path / "episodes").glob("*.failed.json"))


@pytest.mark.parametrize("order", [("constant", "step"), ("step", "constant")], ids=" ".join)
def test_an_agent_that_fails_and_is_mended(
    order: tuple[str, str], episodes: Episodes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The same command tries again what failed, only that."""
    words = (*ONE_START, "--agents", *order, "--out", str(tmp_path))
    cells = [f"step on fashion-mnist-mini/mlp from 0.01, seed {seed}" for seed in prepared(*words).seeds]
    told = [f"{cell}: ValueError: no luck" for cell in cells]
    episodes.invent = failing_if(lambda cell: cell.contestant.name == "step")
    for begun in (4, 6):
        assert failed(*words) == cli.FAILED == 1
        text, bad, good = capsys.readouterr().out, row_of(tmp_path, "step"), row_of(tmp_path, "constant")
        assert f"2 episodes failed, the first: {told[0]}" in text
        assert f"(report.html) are in {tmp_path}" in text
        assert (bad["failures"], bad["results"], bad["test_loss"]["n"]) == (told, [], 0)
        assert (good["failures"], len(good["results"])) == ([], 2)
        standing = {s["agent"]: (s["runs"], s["failed"], s["median"] is None) for s in results(tmp_path)["standings"]}
        assert standing == {"step": (0, 2, True), "constant": (2, 0, False)}
        table, page = (tmp_path / "table.md").read_text(), (tmp_path / "report.html").read_text()
        assert all(error in table.partition("## Failed")[2] and error in page for error in told)
        notes = [json.loads(note.read_text())["cell"] for note in (tmp_path / "episodes").glob("*.failed.json")]
        assert (sorted(notes), len(episodes.cells)) == (sorted(cells), begun)
    episodes.invent = failing_if(lambda cell: False)
    run(*words)
    assert len(episodes.cells) == 8
    assert "failed" not in capsys.readouterr().out
    assert "Failed" not in (tmp_path / "table.md").read_text()
    assert not list((tmp_path / "episodes").glob("*.failed.json"))
    assert (row_of(tmp_path, "step")["results"], row_of(tmp_path, "step")["failures"]) == (good["results"], [])


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
    condition: Callable[[Cell], bool], words: tuple[str, ...], runs: list[int], episodes: Episodes, tmp_path: Path
) -> None:
    """The others' results and all figures are there."""
    episodes.invent = failing_if(condition)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert failed(*words, "--out", str(tmp_path)) == 1
    assert {path.name for path in tmp_path.iterdir()} == toys.FILES | {"episodes"}
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
