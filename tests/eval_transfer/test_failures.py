"""Episodes that fail: the others' results are there, and the failures are told everywhere."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
import tiny
from transfer_toys import FILES, MLP, TWO_TASKS, Episodes, failed, prepared, results, row_of, rows, run

from lr_gym import LRTrainingEnv, cli, rollout
from lr_gym.errors import LRGymError
from lr_gym.evaluation import Cell, Rollout

#: Fails as long as there is a file beside it.
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


@pytest.mark.parametrize("order", [("constant", "failing"), ("failing", "constant")], ids=" ".join)
def test_an_agent_that_fails_and_is_mended(
    order: tuple[str, str],
    tmp_path: Path,
    clean: None,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Real episodes and figures. The others' results are there; the same command tries again what failed, only that."""
    monkeypatch.setenv("COLUMNS", "300")
    plugin, out = tmp_path / "failing_plugin.py", tmp_path / "out"
    plugin.write_text(FAILING)
    (tmp_path / "broken").touch()
    words = (*MLP, "--initial-lrs", "1e-2", "1e-3", "--plugins", str(plugin), "--out", str(out), "--agents", *order)
    assert failed(*words) == cli.FAILED == 1
    seeds = results(out)["seeds"]
    errors = [
        f"failing on fashion-mnist-mini/mlp from {lr}, seed {seed}: RuntimeError: out of luck"
        for lr in ("0.01", "0.001")
        for seed in seeds
    ]
    text = capsys.readouterr().out
    assert f"4 episodes failed, the first: {errors[0]}" in text
    assert f"(report.html) are in {out}" in text
    assert {path.name for path in out.iterdir()} == FILES | {"episodes"}
    for lr, told in ((1e-2, errors[:2]), (1e-3, errors[2:])):
        row = row_of(out, "failing", lr)
        assert (row["failures"], row["results"], row["test_loss"]["n"]) == (told, [], 0)
        assert row_of(out, "constant", lr)["failures"] == []
        task = prepared(*words).tasks[0]
        env = LRTrainingEnv(task, max_multiplier=1e4)
        expected = [rollout(env, lambda _: [0.0], seed=seed, initial_lr=lr).result["test_loss"] for seed in seeds]
        assert [result["test_loss"] for result in row_of(out, "constant", lr)["results"]] == expected
    standing = {s["agent"]: (s["runs"], s["failed"], s["median"]) for s in results(out)["standings"]}
    assert standing["failing"] == (0, 4, None)
    assert standing["constant"][:2] == (4, 0)
    table, page = (out / "table.md").read_text(), (out / "report.html").read_text()
    assert "## Failed" in table
    assert all(error in table and error in page for error in errors)
    notes = sorted((out / "episodes").glob("*.failed.json"))
    assert sorted(json.loads(note.read_text())["cell"] for note in notes) == sorted(e.split(": ")[0] for e in errors)

    begun: list[str] = []
    real = Cell.run

    def remember(cell: Cell) -> Rollout:
        begun.append(cell.contestant.name)
        return real(cell)

    monkeypatch.setattr(Cell, "run", remember)
    assert failed(*words) == 1
    assert begun == ["failing"] * 4
    assert sorted((out / "episodes").glob("*.failed.json")) == notes
    (tmp_path / "broken").unlink()
    capsys.readouterr()
    run(*words)
    assert begun == ["failing"] * 8
    assert "failed" not in capsys.readouterr().out
    assert "Failed" not in (out / "table.md").read_text()
    assert not list((out / "episodes").glob("*.failed.json"))
    for lr in (1e-2, 1e-3):  # which keeps its learning rate, as the constant does
        mended, constant = row_of(out, "failing", lr), row_of(out, "constant", lr)
        assert (mended["results"], mended["failures"]) == (constant["results"], [])


def failing_if(condition: Callable[[Cell], bool], message: str = "no luck") -> Callable[[Cell], Rollout]:
    def invent(cell: Cell) -> Rollout:
        if condition(cell):
            raise ValueError(message)
        return tiny.record(seed=cell.seed)

    return invent


def test_some_runs_of_every_agent_fail(episodes: Episodes, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plan = prepared(*MLP)
    episodes.invent = failing_if(lambda cell: cell.seed == plan.seeds[1])
    assert failed(*MLP, "--agents", "constant", "step", "--initial-lrs", "1e-2", "--out", str(tmp_path)) == 1
    for row in rows(tmp_path):
        assert [result["seed"] for result in row["results"]] == plan.seeds[:1]
        assert (len(row["failures"]), row["test_loss"]["n"], row["p_value"]) == (1, 1, None)
    assert "2 episodes failed, the first: constant on" in capsys.readouterr().out


def test_every_episode_fails(episodes: Episodes, tmp_path: Path) -> None:
    """There is nothing to report on: one line, and the exit status is 1 as well."""
    episodes.invent = failing_if(lambda cell: True)
    message = r"^every episode failed; the first with constant on fashion-mnist-mini/mlp from 0.01, seed \d+: ValueErro"
    with pytest.raises(LRGymError, match=message):
        run(*MLP, "--agents", "constant", "--initial-lrs", "1e-2", "--out", str(tmp_path))
    assert {path.name for path in tmp_path.iterdir()} == {"episodes"}


def test_every_episode_of_a_task_fails(episodes: Episodes, tmp_path: Path) -> None:
    episodes.invent = failing_if(lambda cell: "lenet5" in cell.task.name)
    assert failed(*TWO_TASKS, "--agents", "constant", "cosine", "--out", str(tmp_path)) == 1
    assert {len(row["results"]) for row in rows(tmp_path) if row["task"] == "fashion-mnist-mini/mlp"} == {2}


def test_every_episode_of_the_yardstick_fails(episodes: Episodes, tmp_path: Path) -> None:
    episodes.invent = failing_if(lambda cell: cell.contestant.name == "step")
    words = ("--agents", "constant", "step", "--initial-lrs", "1e-2", "--yardstick", "step")
    assert failed(*MLP, *words, "--out", str(tmp_path)) == 1
    assert len(row_of(tmp_path, "constant")["results"]) == 2


@pytest.mark.parametrize("count", [1, 9], ids=["a start", "an agent of many"])
def test_figures_without_some_runs(count: int, episodes: Episodes, tmp_path: Path) -> None:
    """One agent that fails from one start; the first of nine, that fails from every start."""
    words = ["constant", *(f"step:every={number}" for number in range(1, count))]
    missing = (lambda cell: cell.initial_lr == 0.1) if count == 1 else (lambda cell: cell.contestant.name == "constant")
    episodes.invent = failing_if(missing)
    arguments = (*MLP, "--agents", *words, "--initial-lrs", "0.1", "0.01", "--out", str(tmp_path))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert failed(*arguments) == 1
    assert {path.name for path in tmp_path.iterdir()} == FILES | {"episodes"}


@pytest.mark.parametrize(
    "message",
    [
        "expected [3, 4], got (2, 2)",
        pytest.param("expected [batch, 4]"),
        pytest.param("in [/tmp/x]"),
    ],
)
def test_errors_reach_the_screen_as_they_are(
    message: str, episodes: Episodes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    episodes.invent = failing_if(lambda cell: cell.contestant.name == "step", message)
    assert failed(*MLP, "--agents", "constant", "step", "--initial-lrs", "0.01", "--out", str(tmp_path)) == 1
    assert f"ValueError: {message}" in capsys.readouterr().out


@pytest.mark.parametrize("message", ["first\nsecond", "a | b"])
def test_errors_in_table_md(message: str, episodes: Episodes, tmp_path: Path) -> None:
    episodes.invent = failing_if(lambda cell: cell.contestant.name == "step", message)
    assert failed(*MLP, "--agents", "constant", "step", "--initial-lrs", "0.01", "--out", str(tmp_path)) == 1
    lines = (tmp_path / "table.md").read_text().partition("## Failed")[2].strip().splitlines()
    assert len(lines) == 2 + 2
    assert all(line.replace("\\|", "").count("|") == 2 for line in lines)
