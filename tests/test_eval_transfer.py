from __future__ import annotations

import dataclasses
import itertools
import json
import math
import re
import shutil
import sys
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import matplotlib.image
import pytest
import tiny

import agents
import eval_transfer
from agents.base import AGENTS
from agents.baselines import PEAKS, TUNABLE
from agents.ppo import controller as controller_module
from agents.ppo.controller import Controller
from agents.schedules import STEP_DECAY_GRID
from lr_gym import LRTrainingEnv, cli, rollout
from lr_gym.errors import InvalidArgumentError, LRGymError
from lr_gym.evaluation import Cell, Rollout, Workers, report
from lr_gym.files import read_json
from lr_gym.tasks import TASKS, Task
from lr_gym.tasks.data import DATA

OVERRIDE = (
    "--override",
    "budget=20",
    "batch_size=8",
    "train_size=100",
    "validation_size=50",
    'model_options={"width":4}',
)
ARGUMENTS = (
    *("--task", "fashion-mnist-mini/mlp", "--agents", "constant", "step", "--initial-lrs", "1e-2", "1e-3"),
    *("--runs", "2", "--seed", "5", "--workers", "1", *OVERRIDE),
)
FIGURES = ("standings.png", "starts.png", "schedules.png", "losses.png")
FILES = {"results.json", "table.md", "report.html", *FIGURES}
#: One task, small; with the width for `mlp` alone.
MLP = ("--task", "fashion-mnist-mini/mlp", "--runs", "2", "--workers", "1", *OVERRIDE)
TWO_TASKS = ("--task", "fashion-mnist-mini/mlp", "fashion-mnist-mini/lenet5", "--runs", "2", *OVERRIDE[:-1])


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.finished_run(tmp_path_factory.getbasetemp())


@pytest.fixture(scope="module")
def here(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return what a comparison of that controller leaves, made in this process; not to be changed."""
    out = tmp_path_factory.mktemp("here")
    tiny.run_main(eval_transfer, "--controller", str(finished / "controller"), *ARGUMENTS, "--out", str(out))
    return out


@pytest.fixture
def controller(tmp_path: Path) -> Path:
    """Return the folder of a controller without its training run."""
    folder = tmp_path / "somewhere" / "controller"
    tiny.controller().save(folder)
    return folder


@pytest.fixture
def clean(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Forget after the test what plugins did: their place on the path, their modules and what they registered."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)  # beside a plugin
    registries = (AGENTS, DATA, TASKS)
    before, modules = [dict(registry._things) for registry in registries], set(sys.modules)
    yield
    for registry, things in zip(registries, before, strict=True):
        registry._things.clear()
        registry._things.update(things)
    for name in set(sys.modules) - modules:
        if "plugin" in name:
            del sys.modules[name]


class Episodes:
    """Stands in for `Cell.run`, where what an agent does does not matter: invents records and remembers the cells.

    Attributes:
        cells: Those that were run, or begun.
        invent: Makes the record of a cell, or raises an error.
        stop_after: How many are run before a Ctrl-C, or None.
    """

    def __init__(self) -> None:
        self.cells: list[Cell] = []
        self.invent: Callable[[Cell], Rollout] = lambda cell: tiny.record(seed=cell.seed)
        self.stop_after: int | None = None

    def run(self, cell: Cell) -> Rollout:
        if len(self.cells) == self.stop_after:
            raise KeyboardInterrupt
        self.cells.append(cell)
        return self.invent(cell)


@pytest.fixture
def episodes(monkeypatch: pytest.MonkeyPatch) -> Episodes:
    """Invent episodes, and draw figures without turning them into pictures, which takes seconds."""
    made = Episodes()
    monkeypatch.setattr(Cell, "run", lambda cell: made.run(cell))
    monkeypatch.setattr(report, "_png", lambda figure: b"picture")
    monkeypatch.setenv("COLUMNS", "300")
    return made


def results(out: Path) -> dict[str, Any]:
    values: dict[str, Any] = json.loads((out / "results.json").read_text())
    return values


def rows(out: Path) -> list[dict[str, Any]]:
    return list(results(out)["rows"])


def row_of(out: Path, agent: str, lr: float | None = None) -> dict[str, Any]:
    (found,) = (row for row in rows(out) if row["agent"] == agent and lr in (None, row["initial_lr"]))
    return found


def run(*words: str) -> None:
    tiny.run_main(eval_transfer, *words)


def failed(*words: str) -> int:
    """Run a command that is to end with an exit status."""
    with pytest.raises(SystemExit) as caught:
        run(*words)
    assert isinstance(caught.value.code, int)
    return caught.value.code


def trained(folder: Path, seed: int = 0, decay: tuple[float, int, float] | None = None, **changes: Any) -> Path:
    """Write what a training run leaves: a controller, and beside it the step decay that was tuned on its task."""
    tiny.controller(seed=seed, **changes).save(folder / "controller")
    if decay is not None:
        best = dict(zip(("initial_lr", "every", "factor"), decay, strict=True))
        (folder / "results.json").write_text(json.dumps({"comparison": {"best_step_decay": best}}))
    return folder


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


def prepared(*arguments: str) -> Any:
    return eval_transfer.prepare(cli.parse(eval_transfer.Arguments, "", arguments)[0])


def test_defaults(controller: Path) -> None:
    plan = prepared("--controller", str(controller))
    assert [task.name for task in plan.tasks] == ["fashion-mnist-mini/mlp", "fashion-mnist-mini/lenet5"]
    assert [contestant.name for contestant in plan.contestants] == ["controller", "constant", "cosine"]
    assert plan.initial_lrs == {task.name: task.initial_lrs for task in plan.tasks}
    assert len(set(plan.seeds)) == 10
    assert plan.env == {"device": "cpu"}
    assert plan.contestants[0].env_options == Controller.load(controller).description.env_options()
    assert [contestant.env_options for contestant in plan.contestants[1:]] == [{"max_multiplier": 1e4}] * 2
    assert plan.own_start == []
    assert plan.tune == {task.name: {} for task in plan.tasks}
    assert plan.tuning_episodes == 0
    assert plan.seeds == prepared("--controller", str(controller), "--seed", "0").seeds
    assert set(plan.seeds).isdisjoint(prepared("--controller", str(controller), "--seed", "1").seeds)


def test_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert failed("--help") == 0
    text = capsys.readouterr().out
    for field in dataclasses.fields(eval_transfer.Arguments):
        assert f"--{field.name.replace('_', '-')} " in text


def test_overrides_reach_every_task(controller: Path) -> None:
    plan = prepared("--controller", str(controller), "--override", "budget=40", "optimizer=SGD")
    assert [(task.budget, task.optimizer) for task in plan.tasks] == [(40, "SGD")] * 2


def test_a_controller_trained_with_the_papers_features(tmp_path: Path) -> None:
    about = tiny.description()
    short = {key: getattr(about, key)[:7] for key in ("features", "low", "high", "mean", "variance")}
    tiny.controller(**short).save(tmp_path)
    plan = prepared("--controller", str(tmp_path))
    assert plan.contestants[0].env_options["observe_progress"] is False
    cell = Cell(plan.tasks[0], plan.contestants[0], 1e-3, 0, plan.env)
    assert cell.env_options == plan.contestants[0].env_options | {"device": "cpu"}


def test_seeds_are_not_those_of_the_training(finished: Path) -> None:
    plan = prepared("--controller", str(finished), "--seed", "3", "--runs", "50")
    settings = json.loads((finished / "results.json").read_text())["provenance"]["settings"]
    config = tiny.config(**{**settings, "task": Task.from_dict(settings["task"])})
    for purpose in ("training", "selection", "tuning", "final"):
        assert {*plan.seeds, *plan.tuning_seeds}.isdisjoint(config.seeds(purpose, 200))  # type: ignore[arg-type]


def valley(best: float) -> Callable[[Cell], Rollout]:
    """Return a maker of records whose validation loss is lowest from one initial lr; of the test loss the opposite."""

    def invent(cell: Cell) -> Rollout:
        distance = abs(math.log10(cell.initial_lr / best))
        return tiny.record(seed=cell.seed, best=1 + distance, test_loss=9 - distance)

    return invent


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


REFUSED: list[tuple[str, str]] = [
    ("--controller {tmp}/none", "no controller in {tmp}/none: it must hold config.json and model.safetensors"),
    ("--controller {tmp}", "no controller in {tmp}: it must hold config.json and model.safetensors"),
    ("--controller {damaged}", "model.safetensors is not the file that config.json was written for"),
    ("--controller {beside}", "results.json is not the result of a training run"),
    (
        "{c} --task fashion-mnist-mini/mpl",
        "no task is named 'fashion-mnist-mini/mpl'. Did you mean 'fashion-mnist-mini/mlp'",
    ),
    ("{c} --task universal", "'universal' is a family of tasks, not one task"),
    ("{c} --task absent/mlp", "the data set 'absent' is in none of these places"),
    ("{c} --task fashion-mnist-mini/mlp fashion-mnist-mini/mlp", "--task must differ from each other"),
    ("{c} --agents cosin", "no agent is named 'cosin'. Did you mean 'cosine'?"),
    ("{c} --agents ppo", "the agent 'ppo' refuses the options {}"),
    ("{c} --agents cosine cosine", "--agents must differ from each other, got ['cosine', 'cosine']"),
    ("--agents cosin", "no agent is named 'cosin'. Did you mean 'cosine'?"),
    ("--agents all all", "--agents must differ from each other, got ['all', 'all']"),
    ("--agents constant all cosin", "no agent is named 'cosin'"),
    ("--agents step:every", "must read field=value, such as batch_size=128, got 'every'"),
    ("--agents step:=3", "must read field=value"),
    ("--agents step:every=2.5", "every must be a whole number of at least 1, got 2.5"),
    ("--agents step:evry=2", "the agent 'step' refuses the options {'evry': 2}"),
    ("--agents step:every=5,fact=2", "the agent 'step' refuses the options {'every': 5, 'fact': 2}"),
    ("--agents step:name=3", "the agent 'step' refuses the options {'name': 3}"),
    ("--agents kim-yu:score=[1]", "score"),
    ("--agents kim-yu:factors=[2,-1]", "factors must be 3, 5, 7 or a list of 2 or more positive numbers, got [2, -1]"),
    ("--agents kim-yu:every=never", "every ('epoch', or a number of updates) must lie in [1, inf), got 'never'"),
    ("--agents ppo:controller={tmp}/none", "no controller in {tmp}/none"),
    ("--agents ppo:controller={damaged}", "model.safetensors is not the file that config.json was written for"),
    ("--agents all --initial-lrs 20", "must lie in [min_lr, max_lr] = [1e-07, 10], got 20.0"),
    ("--plugins {tmp}/none.py", "--plugins must be Python files (name.py), got '{tmp}/none.py'"),
    ("--plugins {tmp}", "--plugins must be Python files (name.py), got '{tmp}'"),
    ("--plugins {tmp}/file", "--plugins must be Python files (name.py), got '{tmp}/file'"),
    ("--plugins {tmp}/two-words.py", "--plugins must be Python files (name.py), got '{tmp}/two-words.py'"),
    ("--plugins {tmp}/raising.py", "--plugins {tmp}/raising.py cannot be imported: no luck"),
    ("--plugins {tmp}/unreadable.py", "--plugins {tmp}/unreadable.py cannot be imported: "),
    ("--plugins {tmp}/json.py", "--plugins {tmp}/json.py has the name of another module; rename it"),
    ("--plugins {tmp}/taking.py", "the agent 'cosine' is registered already"),
    ("--plugins", "argument --plugins: expected at least one argument"),
    ("{c} --initial-lrs abc", "argument --initial-lrs: must be a positive number such as 1e-3, got 'abc'"),
    ("{c} --initial-lrs -1", "argument --initial-lrs: must be a positive number such as 1e-3, got '-1'"),
    ("{c} --initial-lrs nan", "argument --initial-lrs: must be a positive number such as 1e-3, got 'nan'"),
    ("{c} --initial-lrs 0.1 1e-1", "--initial-lrs must differ from each other, got [0.1, 0.1]"),
    ("{c} --initial-lrs 20", "the initial lr of controller on fashion-mnist-mini/mlp must lie in [min_lr, "),
    (
        "--controller {tight} --initial-lrs 2",
        "the initial lr of controller on fashion-mnist-mini/mlp must lie in [min_",
    ),
    ("{c} --runs 1", "argument --runs: must be a whole number of at least 2, got '1'"),
    ("{c} --seed -1", "argument --seed: must be a whole number of at least 0, got '-1'"),
    ("{c} --workers none", "argument --workers: must be a whole number of at least 1, got 'none'"),
    ("{c} --override batchsize=3", "a task has no field 'batchsize'; it has name, data, model"),
    ("{c} --override batch_size", "argument --override: must read field=value"),
    ("{c} --override budget=25", "budget must be a multiple of decision_interval"),
    ("{c} --override batch_size=100000", "batch_size=100000 is more than the "),
    ("{c} --override name=other", "--override cannot set name or initial_lrs; use --task or --initial-lrs"),
    ("{c} --override initial_lrs=[0.1]", "--override cannot set name or initial_lrs; use --task or --initial-lrs"),
    ("--controller {ctl} {ctl}", "--controller must differ from each other"),
    ("--controller {ctl} {ctl}/", "two contestants are called controller somewhere; rename a folder or plugin"),
    ("--controller {ctl} {above}", "two contestants are called controller somewhere; rename a folder or plugin"),
    ("--controller {ctl} {same}", "two contestants are called controller somewhere; rename a folder or plugin"),
    ("--controller {ctl} {damaged}", "model.safetensors is not the file that config.json was written for"),
    ("--controller", "argument --controller: expected at least one argument"),
    ("--tune cosin", "no tunable schedule is named 'cosin'. Did you mean 'cosine'? Known: constant, cosine, one-cycle"),
    ("--tune all", "no tunable schedule is named 'all'"),
    ("--tune step:every=5", "no tunable schedule is named 'step:every=5'"),
    ("--tune step step", "--tune must differ from each other, got ['step', 'step']"),
    ("--tune", "argument --tune: expected at least one argument"),
    ("--tune step --tuning-runs 0", "argument --tuning-runs: must be a whole number of at least 1, got '0'"),
    ("--tune step --tuning-runs 2.5", "argument --tuning-runs: must be a whole number of at least 1, got '2.5'"),
    ("--optimizers prodigy prodigy", "--optimizers must differ from each other, got ['prodigy', 'prodigy']"),
    ("--optimizers AdamW", "--optimizers AdamW needs a learning rate, as AdamW:lr=1e-3; known without: prodigy, "),
    ("--optimizers AdamW:weight_decay=0.1", "--optimizers AdamW:weight_decay=0.1 needs a learning rate"),
    ("--optimizers prodgy", "--optimizers prodgy needs a learning rate, as prodgy:lr=1e-3; known without: prodigy, "),
    ("--optimizers AdmW:lr=1e-3", "no optimizer is named 'AdmW'. Did you mean 'AdamW'?"),
    ("--optimizers AdamW:lr", "must read field=value, such as batch_size=128, got 'lr'"),
    ("--optimizers AdamW:lr=fast", "must be a positive number such as 1e-3, got 'fast'"),
    ("--optimizers AdamW:lr=0", "must be a positive number such as 1e-3, got '0'"),
    ("--optimizers AdamW:lr=-1e-3", "must be a positive number such as 1e-3, got '-0.001'"),
    ("--optimizers AdamW:lr=NaN", "must be a positive number such as 1e-3, got 'nan'"),
    ("--optimizers AdamW:lr=[1]", "must be a positive number such as 1e-3, got '[1]'"),
    ("--optimizers AdamW:lr=true", "must be a positive number such as 1e-3, got 'True'"),
    (
        "--optimizers prodigy:lr=20",
        "the initial lr of prodigy:lr=20 on fashion-mnist-mini/mlp must lie in [min_lr, max_",
    ),
    ("--optimizers AdamW:lr=1e-3,decay=0.1", "the optimizer 'AdamW' refuses {'decay': 0.1"),
    ("--optimizers prodigy:tempo=1", "the optimizer 'prodigy' refuses {'tempo': 1}"),
    ("--optimizers SGD:lr=1,momentum=-1", "the optimizer 'SGD' refuses {'momentum': -1"),
    ("--optimizers", "argument --optimizers: expected at least one argument"),
    ("--reference cosin", "no --reference is named 'cosin'. Did you mean 'cosine'? Known: constant, cosine."),
    ("{c} --reference step", "no --reference is named 'step'. Known: constant, controller, cosine."),
    ("--tune step --reference step", "no --reference is named 'step'. Known: constant, cosine, tuned step."),
    ("--yardstick cosin", "no --yardstick is named 'cosin'. Did you mean 'cosine'? Known: constant, cosine."),
    ("--optimizers prodigy --yardstick prodgy", "no --yardstick is named 'prodgy'. Did you mean 'prodigy'?"),
    ("--reference constant cosine", "unrecognized arguments: cosine"),
    ("{c} --out {tmp}/file", "--out must be a folder, {tmp}/file is a file"),
    ("{c} --out {tmp}/file/below", "{tmp}/file"),
    ("{c} --device nonsense", "device must be 'cpu' or a GPU that is there, got 'nonsense'"),
    ("{c} --data {tmp}/none", "--data must be a folder, got '{tmp}/none'"),
    ("{c} --actor mlp", "unrecognized arguments: --actor mlp"),
]


PLUGINS = {
    "two-words.py": "",
    "json.py": "",
    "raising.py": "raise ValueError('no luck')",
    "unreadable.py": "def",
    "taking.py": "import agents; agents.register('cosine', list)",
}


@pytest.mark.parametrize(("words", "message"), REFUSED, ids=[words for words, _ in REFUSED])
def test_arguments_that_make_no_sense(
    words: str, message: str, controller: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], clean: None
) -> None:
    (tmp_path / "file").write_text("")
    for file, text in PLUGINS.items():
        (tmp_path / file).write_text(text)
    for name in ("damaged", "beside", "other/somewhere"):
        shutil.copytree(controller, tmp_path / name)
    tiny.controller(max_lr=1.0).save(tmp_path / "tight")
    (tmp_path / "damaged" / "model.safetensors").write_bytes(b"\x00")
    (tmp_path / "beside" / "results.json").write_text('{"comparison": null}')
    before = sorted(tmp_path.rglob("*"))
    places = {name: tmp_path / name for name in ("damaged", "beside", "tight")} | {"tmp": tmp_path}
    places |= {"ctl": controller, "above": controller.parent, "same": tmp_path / "other" / "somewhere"}

    def filled(text: str) -> str:
        for name, place in places.items():
            text = text.replace(f"{{{name}}}", str(place))
        return text

    arguments = filled(words).replace("{c}", f"--controller {controller}").split()
    assert filled(message) in tiny.refused(eval_transfer, capsys, *arguments)
    assert sorted(tmp_path.rglob("*")) == before


# -- agents without a controller, and those of the user's own ----------------------------------------------------------


def names(plan: Any) -> list[str]:
    return [contestant.name for contestant in plan.contestants]


def test_without_a_controller_the_first_agent_is_the_reference(
    episodes: Episodes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plan = prepared()
    assert names(plan) == ["constant", "cosine"]
    assert (plan.env, plan.own_start) == ({"device": "cpu"}, [])
    run(*ARGUMENTS, "--out", str(tmp_path))
    assert [(row["agent"], row["reference"]) for row in rows(tmp_path)] == [
        ("constant", None),
        ("constant", None),
        ("step", "constant from 0.01"),
        ("step", "constant from 0.001"),
    ]
    assert {row["cost"] for row in rows(tmp_path)} == {1.0}
    assert "Reference: constant. p: Welch's" in (tmp_path / "table.md").read_text()
    text = capsys.readouterr().out
    assert "Reference: constant. p: Welch's" in text
    assert "All tasks" not in text  # of one task and two agents there is nothing more to say


def test_all_agents() -> None:
    fixed = set(agents.names()) - {"ppo"}
    every = names(prepared("--agents", "all"))
    assert every == ["constant", *sorted(fixed - {"constant"})]
    assert len(every) > 8
    ahead = names(prepared("--agents", "cosine", "all"))
    assert (ahead[0], set(ahead), len(ahead)) == ("cosine", fixed, len(fixed))  # none twice
    more = names(prepared("--agents", "all", "step:every=7"))
    assert more == [*every, "step:every=7"]


def test_all_agents_are_run(tmp_path: Path, capsys: Any, monkeypatch: Any) -> None:
    """With records that are invented: agents have tests of their own. The screen shows the overview."""
    monkeypatch.setattr(Cell, "run", lambda cell: tiny.record(seed=cell.seed, extra=(6.0, 3.0)))
    monkeypatch.setattr(eval_transfer, "write_results", lambda *_, **__: None)
    monkeypatch.setenv("COLUMNS", "300")
    words = ("--task", "fashion-mnist-mini/mlp", "--agents", "all", *ARGUMENTS[ARGUMENTS.index("--initial-lrs") :])
    tiny.run_main(eval_transfer, *words, "--out", str(tmp_path))
    text = capsys.readouterr().out
    assert "from 0.01" in text
    assert "test accuracy" not in text
    assert "**" not in text
    by_task, over_all = text.split("All tasks: test loss over that of the lowest of the task")
    for part in (by_task, over_all):
        lines = [line for line in part.splitlines() if " 1.10 " in line]  # 1 + (6 + 2 * 3) / (3 * 40)
        assert [line.split()[1] for line in lines] == names(prepared("--agents", "all"))


@pytest.mark.parametrize(
    ("word", "name", "options"),
    [
        ("cosine", "cosine", {}),
        ("step:every=5", "step", {"every": 5}),
        ("step:every=5,factor=0.5", "step", {"every": 5, "factor": 0.5}),
        ("kim-yu:factors=[2,1,0.5],every=epoch", "kim-yu", {"factors": [2, 1, 0.5], "every": "epoch"}),
        ("kim-yu:every=epoch,factors=[4, 1, 0.25]", "kim-yu", {"every": "epoch", "factors": [4, 1, 0.25]}),
        ("kim-yu:every=1e2", "kim-yu", {"every": 100.0}),
        ("autolr:rollback=never,replay=true,every=20", "autolr", {"rollback": "never", "replay": True, "every": 20}),
        ("line-search:initial=null", "line-search", {"initial": None}),
        ("alr:factors=[3,1],beam=3", "alr", {"factors": [3, 1], "beam": 3}),
    ],
)
def test_options_in_names(word: str, name: str, options: dict[str, Any]) -> None:
    (contestant,) = prepared("--task", "fashion-mnist-mini/mlp", "--agents", word).contestants
    assert (contestant.name, contestant.identity) == (word, {"agent": name, "options": options})
    assert type(contestant.agent) is type(agents.make(name))
    for option, value in options.items():
        if hasattr(contestant.agent, option):
            got = getattr(contestant.agent, option)
            assert (list(got) if isinstance(got, tuple) else got) == value
    json.dumps(contestant.identity, allow_nan=False)


def test_an_agent_with_other_options_is_another() -> None:
    words = ("step", "step:every=5", "step:every=6", "step:every=5,factor=0.5")
    plan = prepared("--task", "fashion-mnist-mini/mlp", "--agents", *words)
    assert names(plan) == list(words)
    assert len({Cell(plan.tasks[0], one, 1e-3, 0).key for one in plan.contestants}) == 4


def test_a_controller_as_an_agent(controller: Path) -> None:
    word = f"ppo:controller={controller}"
    plan = prepared("--controller", str(controller), "--agents", "constant", word, f"ppo:controller={controller}/")
    assert names(plan) == ["controller", "constant", word, f"{word}/"]
    first, constant, *others = plan.contestants
    for other in others:
        assert other.identity == first.identity == {"controller": Controller.load(controller).fingerprint}
        assert other.env_options == first.env_options == Controller.load(controller).env_options
    assert constant.env_options != first.env_options
    assert names(prepared("--agents", word, "cosine")) == [word, "cosine"]


PLUGIN = """
import agents

class Steady(agents.FixedAgent):
    def __init__(self, lr=0.5):
        super().__init__()
        self.lr = lr

    def next_lr(self):
        return self.lr

agents.register("steady", Steady)
"""
DATA_PLUGIN = """
import numpy as np
from lr_gym import tasks

def waves():
    x = np.random.default_rng(0).normal(size=(60, 4))
    return {"x_train": x[:48], "y_train": (x[:48, 0] > 0).astype("int64"),
            "x_test": x[48:], "y_test": (x[48:, 0] > 0).astype("int64")}

tasks.register_data("plugin waves", waves)
tasks.register(tasks.Task(name="plugin waves/mlp", data="plugin waves", model_options={"width": 4},
                          batch_size=8, budget=20, decision_interval=10))
"""


@pytest.fixture
def plugin(tmp_path: Path, clean: None) -> Path:
    file = tmp_path / "a folder" / "steady_plugin.py"
    file.parent.mkdir()
    file.write_text(PLUGIN)
    return file


def test_an_agent_of_a_plugin_in_worker_processes(plugin: Path, tmp_path: Path) -> None:
    words = ("--task", "fashion-mnist-mini/mlp", "--agents", "steady", "steady:lr=2e-6", "--initial-lrs", "1e-2")
    words += ("--runs", "2", "--workers", "2", *OVERRIDE, "--plugins", str(plugin), "--out", str(tmp_path / "out"))
    tiny.run_main(eval_transfer, *words, workers=Workers)
    assert [row["agent"] for row in rows(tmp_path / "out")] == ["steady", "steady:lr=2e-6"]
    assert [row["reference"] for row in rows(tmp_path / "out")] == [None, "steady from 0.01"]
    episodes = [json.loads(file.read_text()) for file in (tmp_path / "out" / "episodes").iterdir()]
    assert sorted(episode["lrs"][1] for episode in episodes) == pytest.approx([2e-6, 2e-6, 0.5, 0.5], rel=1e-5)
    assert "steady" in prepared_names("--agents", "all")


def prepared_names(*arguments: str) -> list[str]:
    return names(prepared("--task", "fashion-mnist-mini/mlp", *arguments))


def test_data_of_a_plugin_in_worker_processes(tmp_path: Path, clean: None) -> None:
    file = tmp_path / "data_plugin.py"
    file.write_text(DATA_PLUGIN)
    words = ("--task", "plugin waves/mlp", "--agents", "constant", "--initial-lrs", "1e-2", "--runs", "2")
    words += ("--workers", "1", "--plugins", str(file), "--out", str(tmp_path / "out"))
    tiny.run_main(eval_transfer, *words, workers=Workers)
    assert [(row["task"], row["agent"]) for row in rows(tmp_path / "out")] == [("plugin waves/mlp", "constant")]


def test_a_plugin_given_twice(plugin: Path) -> None:
    words = ("--plugins", str(plugin), str(plugin), "--agents", "steady", "constant")
    assert prepared_names(*words) == ["steady", "constant"]
    assert prepared_names(*words) == ["steady", "constant"]
    assert sys.path.count(str(plugin.parent)) == 1


def test_plugins_come_from_anywhere(plugin: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(plugin.parent)
    other = plugin.with_name("second_plugin.py")
    other.write_text(PLUGIN.replace("steady", "second"))
    assert prepared_names("--plugins", plugin.name, "./second_plugin.py", "--agents", "steady", "second:lr=0.25") == [
        "steady",
        "second:lr=0.25",
    ]


def test_two_plugins_of_one_name(plugin: Path, tmp_path: Path) -> None:
    other = tmp_path / plugin.name
    other.write_text(PLUGIN.replace("steady", "other"))
    with pytest.raises(InvalidArgumentError, match="has the name of another module; rename it"):
        prepared("--plugins", str(plugin), str(other))


def edited(plugin: Path, *words: str) -> tuple[set[str], set[str]]:
    """Return the hashes of all episodes from 0.25, before and after a comment is added to a plugin."""

    def keys() -> set[str]:
        plan = prepared(*MLP, "--plugins", str(plugin), "--initial-lrs", "0.25", *words)
        pairs = [(c, 0.25) for c in plan.contestants] + plan.own_start
        pairs += [(c.contestant, c.initial_lr) for of in plan.tune.values() for tried in of.values() for c in tried]
        return {Cell(task, c, lr, 0, plan.env).key for task in plan.tasks for c, lr in pairs}

    before = keys()
    plugin.write_text(plugin.read_text() + "# edited\n")
    return before, keys()


@pytest.mark.parametrize(
    "words",
    [
        "--agents steady constant",
        pytest.param(
            "--agents steady --tune constant --tuning-runs 8",
        ),
        pytest.param(
            "--agents steady --optimizers SGD:lr=0.5",
        ),
    ],
)
def test_records_of_an_edited_plugin_are_not_taken_for_new(words: str, plugin: Path) -> None:
    before, after = edited(plugin, *words.split())
    assert before.isdisjoint(after)


# -- several controllers -----------------------------------------------------------------------------------------------


def test_several_controllers_are_named_after_their_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = trained(tmp_path / "first", 1), trained(tmp_path / "second", 2, max_multiplier=4.0)
    tiny.controller(seed=3).save(tmp_path / "bare")
    monkeypatch.chdir(second)
    folders = (str(first / "controller"), ".", "../bare")
    plan = prepared(*MLP, "--controller", *folders, "--agents", "cosine")
    assert names(plan) == ["controller first", "controller second", "controller bare", "cosine"]
    loaded = [Controller.load(folder) for folder in folders]
    assert [c.identity for c in plan.contestants[:3]] == [{"controller": one.fingerprint} for one in loaded]
    assert [c.env_options["max_multiplier"] for c in plan.contestants[:3]] == [2.0, 4.0, 2.0]
    assert len({Cell(plan.tasks[0], c, 1e-3, 0).key for c in plan.contestants}) == 4
    assert names(prepared(*MLP, "--controller", "../bare"))[0] == "controller"  # the only one needs no other name


def test_a_controller_that_is_renamed_is_told_apart(tmp_path: Path) -> None:
    """The message about two of one name says what to do, and that helps."""
    folders = [str(trained(tmp_path / place / "run")) for place in ("a", "b")]
    with pytest.raises(InvalidArgumentError, match="two contestants are called controller run; rename a folder"):
        prepared(*MLP, "--controller", *folders)
    (tmp_path / "b" / "run").rename(tmp_path / "b" / "other")
    folders[1] = str(tmp_path / "b" / "other")
    assert names(prepared(*MLP, "--controller", *folders))[:2] == ["controller run", "controller other"]


def test_a_controller_of_the_package_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(controller_module, "SHIPPED", tmp_path / "package")
    monkeypatch.chdir(tmp_path)
    tiny.controller(seed=1).save(tmp_path / "package" / "general")
    run_folder = trained(tmp_path / "special", seed=2, decay=(0.1, 10, 0.9))
    plan = prepared(*MLP, "--controller", "general", str(run_folder))
    assert names(plan)[:2] == ["controller general", "controller special"]
    learned = Controller.load(tmp_path / "package" / "general")
    assert plan.contestants[0].identity == {"controller": learned.fingerprint}
    assert len(plan.own_start) == 1


def test_each_controllers_step_decay_is_transferred(tmp_path: Path) -> None:
    decays = {"a": (0.1, 10, 0.9), "b": (0.01, 50, 0.88), "c": (0.1, 10, 0.9), "d": None}
    folders = [str(trained(tmp_path / name, seed, decay)) for seed, (name, decay) in enumerate(decays.items())]
    (tmp_path / "d" / "results.json").write_text('{"family_comparison": {}}')  # which has no step decay of its own
    folders[1] += "/controller"
    plan = prepared(*MLP, "--controller", *folders)
    assert [(contestant.name, lr) for contestant, lr in plan.own_start] == [
        ("transferred step decay (lr 0.1, x0.9 every 10 updates)", 0.1),
        ("transferred step decay (lr 0.01, x0.88 every 50 updates)", 0.01),
    ]
    options = [contestant.identity for contestant, _ in plan.own_start]
    assert options == [{"agent": "step", "options": {"every": n, "factor": x}} for n, x in ((10, 0.9), (50, 0.88))]


def test_two_controllers_and_their_step_decays_in_the_results(episodes: Episodes, tmp_path: Path) -> None:
    folders = [
        str(trained(tmp_path / "a", 1, (0.1, 10, 0.9))),
        str(trained(tmp_path / "b", 2, (0.01, 50, 0.88))),
    ]
    out = tmp_path / "out"
    run(*MLP, "--controller", *folders, "--agents", "constant", "--initial-lrs", "0.02", "--out", str(out))
    learned = ["controller a", "controller b"]
    decays = [f"transferred step decay (lr {text} updates)" for text in ("0.1, x0.9 every 10", "0.01, x0.88 every 50")]
    assert [(row["agent"], row["initial_lr"], row["own_start"], row["reference"]) for row in rows(out)] == [
        (learned[0], 0.02, False, None),
        (learned[1], 0.02, False, "controller a from 0.02"),
        ("constant", 0.02, False, "controller a from 0.02"),
        (decays[0], 0.1, True, None),
        (decays[1], 0.01, True, None),
    ]
    assert len({cell.key for cell in episodes.cells}) == len(episodes.cells) == 5 * 2


@pytest.mark.parametrize("shipped", [False, True])
def test_results_beside_a_controller_that_are_not_those_of_its_training(
    shipped: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The current folder holds what another comparison left."""
    (tmp_path / "results.json").write_text('{"rows": []}')
    monkeypatch.setattr(controller_module, "SHIPPED", tmp_path / "package")
    monkeypatch.chdir(tmp_path)
    tiny.controller().save(tmp_path / "package" / "mine" if shipped else tmp_path / "mine")
    assert prepared(*MLP, "--controller", "mine").own_start == []


# -- schedules that are tuned on each task -----------------------------------------------------------------------------

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


# -- optimizers in place of the task's ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("word", "optimizer", "options", "lr"),
    [
        ("prodigy", "prodigy", {}, 1.0),
        ("dadapt-adam", "dadapt-adam", {}, 1.0),
        ("schedule-free-adamw", "schedule-free-adamw", {}, 2.5e-3),
        ("schedule-free-sgd:lr=3", "schedule-free-sgd", {}, 3.0),
        ("prodigy:weight_decay=0.1", "prodigy", {"weight_decay": 0.1}, 1.0),
        ("AdamW:lr=1e-3", "AdamW", {}, 1e-3),
        ("AdamW:weight_decay=0.1,lr=1e-3,betas=[0.8, 0.9]", "AdamW", {"weight_decay": 0.1, "betas": [0.8, 0.9]}, 1e-3),
        ("SGD:lr=0.5,momentum=0.9,nesterov=true", "SGD", {"momentum": 0.9, "nesterov": True}, 0.5),
    ],
)
def test_optimizers(word: str, optimizer: str, options: dict[str, Any], lr: float) -> None:
    plan = prepared(*MLP, "--override", "optimizer=SGD", 'optimizer_options={"momentum":0.5}', "--optimizers", word)
    ((contestant, initial_lr),) = plan.own_start
    assert (contestant.name, initial_lr) == (word, lr)
    trained = Cell(plan.tasks[0], contestant, initial_lr, 0).trained
    assert (trained.optimizer, dict(trained.optimizer_options)) == (optimizer, options)  # none of the task's
    assert trained.replace(optimizer="SGD", optimizer_options={"momentum": 0.5}) == plan.tasks[0]
    json.dumps(contestant.identity, allow_nan=False)


def test_optimizers_are_told_apart() -> None:
    words = ("prodigy", "prodigy:weight_decay=0.1", "SGD:lr=1", "SGD:lr=0.5", "SGD:lr=1,momentum=0.9")
    plan = prepared(*MLP, "--optimizers", *words)
    assert [contestant.name for contestant, _ in plan.own_start] == list(words)
    assert len({Cell(plan.tasks[0], contestant, lr, 0).key for contestant, lr in plan.own_start}) == 5


def test_runs_of_other_optimizers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are the runs of a task with that optimizer, at a constant learning rate, one row on each task."""
    monkeypatch.setattr(report, "_png", lambda figure: b"picture")
    words = ("--agents", "constant", "--initial-lrs", "1e-2", "1e-3", "--optimizers", "prodigy", "SGD:lr=0.5")
    run(*TWO_TASKS, *words, "--out", str(tmp_path))
    of_task = {task: [row for row in rows(tmp_path) if row["task"] == task] for task in TWO_TASKS[1:3]}
    for found in of_task.values():
        assert [(row["agent"], row["initial_lr"], row["own_start"]) for row in found] == [
            ("constant", 1e-2, False),
            ("constant", 1e-3, False),
            ("prodigy", 1.0, True),
            ("SGD:lr=0.5", 0.5, True),
        ]
    task = prepared(*TWO_TASKS).tasks[0]
    for row, optimizer in zip(of_task[task.name][2:], ("prodigy", "SGD"), strict=True):
        env = LRTrainingEnv(task.replace(optimizer=optimizer))
        for result in row["results"]:
            expected = rollout(env, lambda _: [0.0], seed=result["seed"], initial_lr=row["initial_lr"])
            assert result["test_loss"] == expected.result["test_loss"]
    records = [json.loads(file.read_text()) for file in (tmp_path / "episodes").iterdir()]
    optimizers = Counter(record["task"]["optimizer"] for record in records)
    assert optimizers == {"Adam": 8, "prodigy": 4, "SGD": 4}
    assert all(set(record["lrs"]) == {record["initial_lr"]} for record in records)


def test_an_optimizer_whose_package_is_missing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "prodigyopt", None)
    line = tiny.refused(eval_transfer, capsys, *MLP, "--optimizers", "SGD:lr=1", "prodigy")
    assert "the optimizer 'prodigy' needs the package prodigyopt: install it with pip install" in line
    assert "lr-gym[parameter-free]" in line
    prepared(*MLP, "--optimizers", "schedule-free-sgd", "SGD:lr=1")  # the others do not need it


@pytest.mark.parametrize("options", ["lr=0.1", "lr=0.1,momentum=0.9"])
def test_an_optimizer_by_reference(options: str) -> None:
    ((contestant, lr),) = prepared(*MLP, "--optimizers", f"torch.optim:SGD:{options}").own_start
    assert (contestant.task_fields["optimizer"], lr) == ("torch.optim:SGD", 0.1)


@pytest.mark.parametrize("lr", ["fast", "0"])
def test_a_bad_lr_of_an_optimizer_is_told_with_its_name(lr: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert "AdamW" in tiny.refused(eval_transfer, capsys, *MLP, "--optimizers", f"AdamW:lr={lr}")


# -- what the others are compared with ---------------------------------------------------------------------------------


def by_agent(losses: dict[str, float]) -> Callable[[Cell], Rollout]:
    """Return a maker of records with a test loss for each agent, a little different from seed to seed."""

    def invent(cell: Cell) -> Rollout:
        loss = losses[cell.contestant.name] * (1 + 0.01 * (cell.seed % 7))
        return tiny.record(seed=cell.seed, test_loss=loss, best=abs(math.log10(cell.initial_lr / 3e-3)) + 1)

    return invent


LOSSES = {"constant": 2.0, "step": 1.0, "tuned cosine": 4.0}
TUNED = (
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


@pytest.mark.parametrize("yardstick", [None, "tuned cosine", "step", "constant"])
def test_yardstick(
    yardstick: str | None, episodes: Episodes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    episodes.invent = by_agent(LOSSES)
    run(*TUNED, *(() if yardstick is None else ("--yardstick", yardstick)), "--out", str(tmp_path))
    name = yardstick or "tuned cosine"
    assert results(tmp_path)["yardstick"] == name
    ratios = {s["agent"]: s["median"] for s in results(tmp_path)["standings"]}
    assert ratios == pytest.approx({agent: loss / LOSSES[name] for agent, loss in LOSSES.items()})
    assert list(ratios) == ["step", "constant", "tuned cosine"]
    assert f"All tasks: test loss over that of {name}" in capsys.readouterr().out


def test_without_a_tuned_cosine_the_lowest_of_each_task_is_the_yardstick(
    episodes: Episodes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As for three agents on one task, so for one on two: the screen says how they stand over all."""
    episodes.invent = lambda cell: tiny.record(seed=cell.seed, test_loss=1.0 + 30 * cell.initial_lr)
    run(*TWO_TASKS, "--agents", "constant", "--initial-lrs", "0.1", "0.01", "--out", str(tmp_path))
    assert results(tmp_path)["yardstick"] is None
    (standing,) = results(tmp_path)["standings"]
    assert [entry["ratio"] for entry in standing["ratios"]] == pytest.approx([4 / 1.3, 1.0] * 2)
    assert "All tasks: test loss over that of the lowest of the task" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("reference", "references"),
    [
        (None, [None, None, "constant from 0.01", "constant from 0.001", None]),
        ("step", ["step from 0.01", "step from 0.001", None, None, None]),
        ("tuned cosine", ["tuned cosine from 0.003"] * 4 + [None]),
    ],
)
def test_reference(
    reference: str | None,
    references: list[str | None],
    episodes: Episodes,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A tuned one has one row, with which every start is compared."""
    episodes.invent = by_agent(LOSSES)
    run(*TUNED, *(() if reference is None else ("--reference", reference)), "--out", str(tmp_path))
    found = rows(tmp_path)
    assert [row["agent"] for row in found] == ["constant", "constant", "step", "step", "tuned cosine"]
    assert [row["reference"] for row in found] == references
    compared = {row["agent"]: row["improvement"] for row in found if row["reference"] is not None}
    mine = LOSSES[reference or "constant"]
    assert compared == {agent: float(LOSSES[agent] < mine) for agent in compared}
    assert f"Reference: {reference or 'constant'}. p:" in capsys.readouterr().out
    assert f"Reference: {reference or 'constant'}. p:" in (tmp_path / "table.md").read_text()


@pytest.mark.parametrize("option", ["--reference", "--yardstick"])
def test_a_tuned_name_that_is_not_tuned(option: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Refused before anything is run or made."""
    out = tmp_path / "out"
    line = tiny.refused(eval_transfer, capsys, *TUNED, option, "tuned step", "--out", str(out))
    known = "Did you mean 'tuned cosine'? Known: constant, step, tuned cosine."
    assert f"no {option} is named 'tuned step'. {known}" in line
    assert not out.exists()


def test_a_contestant_called_as_a_tuned_schedule(clean: None) -> None:
    agents.register("tuned cosine", lambda: agents.make("cosine"))
    with pytest.raises(InvalidArgumentError, match="two contestants are called tuned cosine"):
        prepared(*MLP, "--agents", "tuned cosine", "--tune", "cosine", "--tuning-runs", "8")


# -- where agents start ------------------------------------------------------------------------------------------------


@pytest.fixture
def waves(tmp_path: Path, clean: None) -> tuple[str, ...]:
    """Return the words for two tasks, the first from a plugin and with starts of its own."""
    file = tmp_path / "data_plugin.py"
    file.write_text(DATA_PLUGIN.replace("budget=20", "budget=20, initial_lrs=(0.5, 0.025)"))
    two = ("plugin waves/mlp", "fashion-mnist-mini/mlp")
    return (
        "--task",
        *two,
        "--agents",
        "constant",
        "--runs",
        "2",
        "--plugins",
        str(file),
        "--out",
        str(tmp_path / "out"),
    )


def test_each_task_starts_from_its_own_lrs(
    waves: tuple[str, ...], episodes: Episodes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(report, "draw_curves", lambda *_: None)
    starts = {"plugin waves/mlp": (0.5, 0.025), "fashion-mnist-mini/mlp": prepared(*MLP).tasks[0].initial_lrs}
    assert prepared(*waves).initial_lrs == starts
    run(*waves)
    pairs = [(task, lr) for task, lrs in starts.items() for lr in lrs]
    assert [(row["task"], row["initial_lr"]) for row in rows(tmp_path / "out")] == pairs
    assert len(episodes.cells) == 2 * len(pairs)
    given = prepared(*waves, "--initial-lrs", "0.25", "0.125").initial_lrs
    assert {task: list(lrs) for task, lrs in given.items()} == {task: [0.25, 0.125] for task in starts}


def test_an_lr_of_a_tasks_own_that_no_env_allows(
    waves: tuple[str, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "data_plugin.py"
    file.write_text(file.read_text().replace("0.025", "20"))
    line = tiny.refused(eval_transfer, capsys, *waves)
    assert "the initial lr of the task 'plugin waves/mlp' must lie in [min_lr, max_lr] = [1e-07, 10], got 20.0" in line


def test_figures_of_tasks_with_different_starts(waves: tuple[str, ...], episodes: Episodes, tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        run(*waves)
    assert {path.name for path in (tmp_path / "out").iterdir()} == FILES | {"episodes"}


# -- episodes that fail ------------------------------------------------------------------------------------------------

#: Fails as long as there is a file beside it.
FAILING = """
from pathlib import Path
import agents

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


def test_the_folder_of_the_results_on_the_screen(
    episodes: Episodes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run [b]"
    run(*MLP, "--agents", "constant", "--initial-lrs", "1e-2", "--out", str(out))
    assert f"are in {out}" in capsys.readouterr().out


@pytest.mark.parametrize("message", ["first\nsecond", "a | b"])
def test_errors_in_table_md(message: str, episodes: Episodes, tmp_path: Path) -> None:
    episodes.invent = failing_if(lambda cell: cell.contestant.name == "step", message)
    assert failed(*MLP, "--agents", "constant", "step", "--initial-lrs", "0.01", "--out", str(tmp_path)) == 1
    lines = (tmp_path / "table.md").read_text().partition("## Failed")[2].strip().splitlines()
    assert len(lines) == 2 + 2
    assert all(line.replace("\\|", "").count("|") == 2 for line in lines)
