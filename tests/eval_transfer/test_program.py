"""A comparison from its command line to the files that it leaves; stopped, and run again."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import matplotlib.image
import pytest
import tiny
from transfer_toys import (
    ARGUMENTS,
    FIGURES,
    FILES,
    MLP,
    OVERRIDE,
    Episodes,
    failed,
    prepared,
    results,
    rows,
    run,
    valley,
)

import eval_transfer
from lr_gym import LRTrainingEnv, cli, rollout
from lr_gym.control.controller import Controller
from lr_gym.tasks import Task


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.finished_run(tmp_path_factory.getbasetemp())


@pytest.fixture(scope="module")
def here(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return what a comparison of that controller leaves, made in this process; not to be changed."""
    out = tmp_path_factory.mktemp("here")
    tiny.run_main(eval_transfer, "--controller", str(finished / "controller"), *ARGUMENTS, "--out", str(out))
    return out


def test_the_controllers_rows_are_its_rollouts(finished: Path, here: Path) -> None:
    learned = Controller.load(finished)
    task = tiny.task(**dict(cli.assignment(word) for word in OVERRIDE[1:]))
    env = LRTrainingEnv(task, **learned.description.env_options())
    for row in rows(here)[:2]:
        seeds = results(here)["seeds"]
        expected = [rollout(env, learned, seed=seed, initial_lr=row["initial_lr"]).result for seed in seeds]
        assert [result["test_loss"] for result in row["results"]] == [result["test_loss"] for result in expected]


def test_what_is_left(finished: Path, here: Path) -> None:
    assert {path.name for path in here.iterdir()} == FILES | {"episodes"}
    values = results(here)
    assert len(values["seeds"]) == len(set(values["seeds"])) == 2
    assert values["provenance"]["settings"]["seeds"] == values["seeds"]
    best = results(finished)["comparison"]["best_step_decay"]
    agents = [(row["agent"], row["initial_lr"]) for row in values["rows"]]
    assert agents[:-1] == [(name, lr) for name in ("controller", "constant", "step") for lr in (1e-2, 1e-3)]
    assert agents[-1][0].startswith(f"transferred step decay (lr {best['initial_lr']:g}, ")
    assert agents[-1][1] == best["initial_lr"]
    for row in values["rows"]:
        assert [result["seed"] for result in row["results"]] == values["seeds"]
        assert (row["reference"] is None) == (row["agent"] == "controller" or row["own_start"])
    assert [row["own_start"] for row in values["rows"]] == [False] * 6 + [True]

    count, starts = 4, 2
    tables = {"All tasks together": count, "Side by side": starts, "fashion-mnist-mini/mlp": count}
    tables["fashion-mnist-mini/mlp: every row"] = len(values["rows"])
    parts = (here / "table.md").read_text().split("\n## ")[1:]
    assert {part.splitlines()[0]: part.count("\n| ") - 2 for part in parts} == tables  # less head and rule
    for name in FIGURES:
        assert matplotlib.image.imread(here / name)[..., :3].std() > 0.05
    page = (here / "report.html").read_text()
    assert page.count('<img src="data:image/png;base64,') == len(FIGURES)
    assert page.count("<table>") == len(tables)
    assert "transferred step decay (lr" in page
    assert not any(word in page for word in ("<script", "http://", "https://", 'src="/'))


def test_as_a_process_with_a_worker(finished: Path, here: Path, tmp_path: Path) -> None:
    """It gives the same."""
    out = tmp_path / "out"
    done = tiny.run_script(
        "eval_transfer.py", "--controller", str(finished), *ARGUMENTS, "--out", str(out), folder=tmp_path
    )
    assert (done.returncode, done.stderr) == (0, "")
    message = f"Results, figures and a page that shows them (report.html) are in {out}"
    assert message in done.stdout.replace("\n", "")
    assert {path.name for path in out.iterdir()} == FILES | {"episodes"}
    assert rows(out) == rows(here)
    assert results(out)["standings"] == results(here)["standings"]
    assert (out / "losses.png").read_bytes() == (here / "losses.png").read_bytes()
    about = results(out)["provenance"]
    assert about["command"].startswith(f"eval_transfer.py --controller '{finished}' --task fashion-mnist-mini/mlp")
    assert {"commit", "python", "packages"} < about.keys()


def test_the_same_command_again_computes_nothing(
    finished: Path, here: Path, episodes: Episodes, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    shutil.copytree(here, out)
    (out / "results.json").unlink()
    run("--controller", str(finished), *ARGUMENTS, "--out", str(out))
    assert episodes.cells == []
    assert rows(out) == rows(here)


def test_seeds_are_not_those_of_the_training(finished: Path) -> None:
    plan = prepared("--controller", str(finished), "--seed", "3", "--runs", "50")
    settings = json.loads((finished / "results.json").read_text())["provenance"]["settings"]
    config = tiny.config(**{**settings, "task": Task.from_dict(settings["task"])})
    for purpose in ("training", "selection", "tuning", "final"):
        assert {*plan.seeds, *plan.tuning_seeds}.isdisjoint(config.seeds(purpose, 200))  # type: ignore[arg-type]


@pytest.mark.parametrize("done", [0, 3, 8, 11])
def test_ctrl_c_and_on(done: int, episodes: Episodes, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Stopped at the first episode, while tuning, after it, and later: the same command computes what is missing."""
    words = (*ARGUMENTS, "--tune", "constant", "--tuning-runs", "8", "--out")
    episodes.invent = valley(3e-3)
    run(*words, str(tmp_path / "at once"))
    expected = {cell.key for cell in episodes.cells}
    assert len(expected) == len(episodes.cells) == 8 + 2 * (2 * 2 + 1)

    episodes.cells, episodes.stop_after = [], done
    capsys.readouterr()
    out = tmp_path / "stopped"
    assert failed(*words, str(out)) == cli.INTERRUPTED == 130
    assert f"Stopped. The same command with --out {out} continues." in capsys.readouterr().out
    assert {path.name for path in out.iterdir()} <= {"episodes"}
    assert len(episodes.cells) == done
    episodes.stop_after = None
    run(*words, str(out))
    assert len(episodes.cells) == len(expected)  # none twice
    assert {cell.key for cell in episodes.cells} == expected
    assert rows(out) == rows(tmp_path / "at once")
    assert results(out)["tuned"] == results(tmp_path / "at once")["tuned"]


def test_the_folder_of_the_results_on_the_screen(
    episodes: Episodes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run [b]"
    run(*MLP, "--agents", "constant", "--initial-lrs", "1e-2", "--out", str(out))
    assert f"are in {out}" in capsys.readouterr().out
