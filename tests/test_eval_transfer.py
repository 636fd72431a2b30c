from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

import matplotlib.image
import pytest
import tiny

import agents
import eval_transfer
from agents.base import AGENTS
from agents.ppo.controller import Controller
from lr_gym import LRTrainingEnv, cli, rollout
from lr_gym.errors import InvalidArgumentError
from lr_gym.evaluation import Cell, Workers
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
FIGURES = ("starts.png", "schedules.png", "losses.png")
FILES = {"results.json", "table.md", *FIGURES}


@pytest.fixture
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.finished_run(tmp_path_factory.getbasetemp())


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


def rows(out: Path) -> list[dict[str, Any]]:
    return list(json.loads((out / "results.json").read_text())["rows"])


def test_end_to_end(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a process with a worker; then here without one, which gives the same; then again, which computes nothing."""
    out, here = tmp_path / "out", tmp_path / "here"
    done = tiny.run_script(
        "eval_transfer.py", "--controller", str(finished), *ARGUMENTS, "--out", str(out), folder=tmp_path
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert f"Results and figures are in {out}" in done.stdout.replace("\n", "")
    assert {path.name for path in out.iterdir()} == FILES | {"episodes"}
    tiny.run_main(eval_transfer, "--controller", str(finished / "controller"), *ARGUMENTS, "--out", str(here))
    assert rows(here) == rows(out)
    assert (here / "losses.png").read_bytes() == (out / "losses.png").read_bytes()
    monkeypatch.setattr(Cell, "run", None)
    (here / "results.json").unlink()
    tiny.run_main(eval_transfer, "--controller", str(finished), *ARGUMENTS, "--out", str(here))
    assert rows(here) == rows(out)

    values = json.loads((out / "results.json").read_text())
    about = values["provenance"]
    assert about["command"].startswith(f"eval_transfer.py --controller '{finished}' --task fashion-mnist-mini/mlp")
    assert {"commit", "python", "packages"} < about.keys()
    assert len(about["settings"]["seeds"]) == len(set(about["settings"]["seeds"])) == 2
    best = json.loads((finished / "results.json").read_text())["comparison"]["best_step_decay"]
    agents = [(row["agent"], row["initial_lr"]) for row in values["rows"]]
    assert agents[:-1] == [(name, lr) for name in ("controller", "constant", "step") for lr in (1e-2, 1e-3)]
    assert agents[-1][0].startswith(f"transferred step decay (lr {best['initial_lr']:g}, ")
    assert agents[-1][1] == best["initial_lr"]
    for row in values["rows"]:
        assert [result["seed"] for result in row["results"]] == about["settings"]["seeds"]
        assert (row["reference"] is None) == (row["agent"] == "controller" or row["initial_lr"] not in (1e-2, 1e-3))
    agents_of_the_task = 4
    assert (out / "table.md").read_text().count("\n| ") == 2 + agents_of_the_task + 2 + len(values["rows"])
    for name in FIGURES:
        assert matplotlib.image.imread(out / name)[..., :3].std() > 0.05


def test_the_controllers_rows_are_its_rollouts(finished: Path, tmp_path: Path) -> None:
    tiny.run_main(eval_transfer, "--controller", str(finished), *ARGUMENTS, "--out", str(tmp_path / "out"))
    learned = Controller.load(finished)
    values = json.loads((tmp_path / "out" / "results.json").read_text())
    task = tiny.task(**dict(cli.assignment(word) for word in OVERRIDE[1:]))
    env = LRTrainingEnv(task, **learned.description.env_options())
    for row in values["rows"][:2]:
        seeds = values["provenance"]["settings"]["seeds"]
        expected = [rollout(env, learned, seed=seed, initial_lr=row["initial_lr"]).result for seed in seeds]
        assert [result["test_loss"] for result in row["results"]] == [result["test_loss"] for result in expected]


def prepared(*arguments: str) -> Any:
    return eval_transfer.prepare(cli.parse(eval_transfer.Arguments, "", arguments)[0])


def test_defaults(controller: Path) -> None:
    matrix = prepared("--controller", str(controller))
    assert [task.name for task in matrix.tasks] == ["fashion-mnist-mini/mlp", "fashion-mnist-mini/lenet5"]
    assert [contestant.name for contestant in matrix.contestants] == ["controller", "constant", "cosine"]
    assert list(matrix.initial_lrs) == [1e-2, 1e-3, 1e-4]
    assert len(set(matrix.seeds)) == 10
    assert matrix.env == {"device": "cpu"}
    assert matrix.contestants[0].env_options == Controller.load(controller).description.env_options()
    assert [contestant.env_options for contestant in matrix.contestants[1:]] == [{"max_multiplier": 1e4}] * 2
    assert matrix.own_lr == {}
    assert matrix.seeds == prepared("--controller", str(controller), "--seed", "0").seeds
    assert set(matrix.seeds).isdisjoint(prepared("--controller", str(controller), "--seed", "1").seeds)


def test_overrides_reach_every_task(controller: Path) -> None:
    matrix = prepared("--controller", str(controller), "--override", "budget=40", "optimizer=SGD")
    assert [(task.budget, task.optimizer) for task in matrix.tasks] == [(40, "SGD")] * 2


def test_a_controller_trained_with_the_papers_features(tmp_path: Path) -> None:
    about = tiny.description()
    short = {key: getattr(about, key)[:7] for key in ("features", "low", "high", "mean", "variance")}
    tiny.controller(**short).save(tmp_path)
    matrix = prepared("--controller", str(tmp_path))
    assert matrix.contestants[0].env_options["observe_progress"] is False
    cell = Cell(matrix.tasks[0], matrix.contestants[0], 1e-3, 0, matrix.env)
    assert cell.env_options == matrix.contestants[0].env_options | {"device": "cpu"}


def test_seeds_are_not_those_of_the_training(finished: Path) -> None:
    matrix = prepared("--controller", str(finished), "--seed", "3", "--runs", "50")
    settings = json.loads((finished / "results.json").read_text())["provenance"]["settings"]
    config = tiny.config(**{**settings, "task": Task.from_dict(settings["task"])})
    for purpose in ("training", "selection", "tuning", "final"):
        assert set(matrix.seeds).isdisjoint(config.seeds(purpose, 200))  # type: ignore[arg-type]


def test_ctrl_c(controller: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    def interrupt(*_: Any, **__: Any) -> NoReturn:
        raise KeyboardInterrupt

    monkeypatch.setattr(Workers, "run", interrupt)
    monkeypatch.setenv("COLUMNS", "300")
    with pytest.raises(SystemExit) as caught:
        tiny.run_main(eval_transfer, "--controller", str(controller), *ARGUMENTS, "--out", str(tmp_path / "out"))
    assert caught.value.code == 130
    assert f"Stopped. The same command with --out {tmp_path / 'out'} continues." in capsys.readouterr().out


REFUSED: list[tuple[str, str]] = [
    ("--controller {tmp}/none", "no controller in {tmp}/none: it must hold config.json and model.safetensors"),
    ("--controller {tmp}", "no controller in {tmp}: it must hold config.json and model.safetensors"),
    ("--controller {damaged}", "model.safetensors is not the file that config.json was written for"),
    ("--controller {beside}", "results.json is not the result of a training run"),
    (
        "{c} --task fashion-mnist-mini/mpl",
        "no task is named 'fashion-mnist-mini/mpl'. Did you mean 'fashion-mnist-mini/mlp'",
    ),
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
    ("{c} --initial-lrs 20", "must lie in [min_lr, max_lr] = [1e-07, 10], got 20.0"),
    ("{c} --runs 1", "argument --runs: must be a whole number of at least 2, got '1'"),
    ("{c} --seed -1", "argument --seed: must be a whole number of at least 0, got '-1'"),
    ("{c} --workers none", "argument --workers: must be a whole number of at least 1, got 'none'"),
    ("{c} --override batchsize=3", "a task has no field 'batchsize'; it has name, data, model"),
    ("{c} --override batch_size", "argument --override: must read field=value"),
    ("{c} --override budget=25", "budget must be a multiple of decision_interval"),
    ("{c} --override batch_size=100000", "batch_size=100000 is more than the "),
    ("{c} --override name=other", "name"),
    ("{c} --override initial_lrs=[20]", "must lie in [min_lr, max_lr] = [1e-07, 10], got 20.0"),
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
    for name in ("damaged", "beside"):
        shutil.copytree(controller, tmp_path / name)
    (tmp_path / "damaged" / "model.safetensors").write_bytes(b"\x00")
    (tmp_path / "beside" / "results.json").write_text('{"comparison": null}')
    before = sorted(tmp_path.rglob("*"))
    places = {name: tmp_path / name for name in ("damaged", "beside")} | {"tmp": tmp_path}

    def filled(text: str) -> str:
        for name, place in places.items():
            text = text.replace(f"{{{name}}}", str(place))
        return text

    arguments = filled(words).replace("{c}", f"--controller {controller}").split()
    assert filled(message) in tiny.refused(eval_transfer, capsys, *arguments)
    assert sorted(tmp_path.rglob("*")) == before


# -- agents without a controller, and those of the user's own ----------------------------------------------------------


def names(matrix: Any) -> list[str]:
    return [contestant.name for contestant in matrix.contestants]


def test_without_a_controller_the_first_agent_is_the_reference(tmp_path: Path, capsys: Any, monkeypatch: Any) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    matrix = prepared()
    assert names(matrix) == ["constant", "cosine"]
    assert (matrix.env, matrix.own_lr) == ({"device": "cpu"}, {})
    tiny.run_main(eval_transfer, *ARGUMENTS, "--out", str(tmp_path))
    values = rows(tmp_path)
    assert [(row["agent"], row["reference"]) for row in values] == [
        ("constant", None),
        ("constant", None),
        ("step", "constant from 0.01"),
        ("step", "constant from 0.001"),
    ]
    assert {row["cost"] for row in values} == {1.0}
    assert "Reference: constant from the same initial lr." in (tmp_path / "table.md").read_text()
    assert "Reference: constant from the same initial lr." in capsys.readouterr().out


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
    monkeypatch.setattr(eval_transfer, "write_results", lambda *_: None)
    monkeypatch.setenv("COLUMNS", "300")
    words = ("--task", "fashion-mnist-mini/mlp", "--agents", "all", *ARGUMENTS[ARGUMENTS.index("--initial-lrs") :])
    tiny.run_main(eval_transfer, *words, "--out", str(tmp_path))
    text = capsys.readouterr().out
    assert "from 0.01" in text
    assert "test accuracy" not in text
    assert "**" not in text
    lines = [line for line in text.splitlines() if " 1.10 " in line]  # 1 + (6 + 2 * 3) / (3 * 40)
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
    matrix = prepared("--task", "fashion-mnist-mini/mlp", "--agents", *words)
    assert names(matrix) == list(words)
    assert len({Cell(matrix.tasks[0], one, 1e-3, 0).key for one in matrix.contestants}) == 4


def test_a_controller_as_an_agent(controller: Path) -> None:
    word = f"ppo:controller={controller}"
    matrix = prepared("--controller", str(controller), "--agents", "constant", word, f"ppo:controller={controller}/")
    assert names(matrix) == ["controller", "constant", word, f"{word}/"]
    first, constant, *others = matrix.contestants
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
