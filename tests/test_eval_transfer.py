from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any, NoReturn

import matplotlib.image
import pytest
import tiny

import eval_transfer
from agents.ppo.controller import Controller
from lr_gym import LRTrainingEnv, cli, rollout
from lr_gym.evaluation import Cell, Workers
from lr_gym.tasks import Task

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
FILES = {"results.json", "table.md", "schedules.png", "losses.png"}


@pytest.fixture
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.finished_run(tmp_path_factory.getbasetemp())


@pytest.fixture
def controller(tmp_path: Path) -> Path:
    """Return the folder of a controller without its training run."""
    folder = tmp_path / "somewhere" / "controller"
    tiny.controller().save(folder)
    return folder


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
    assert (out / "table.md").read_text().count("\n| ") == len(values["rows"]) + 2
    for name in ("schedules.png", "losses.png"):
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
    assert matrix.env.items() >= Controller.load(controller).description.env_options().items()
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
    assert prepared("--controller", str(tmp_path)).env["observe_progress"] is False


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
    ("", "the following arguments are required: --controller"),
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


@pytest.mark.parametrize(("words", "message"), REFUSED, ids=[words for words, _ in REFUSED])
def test_arguments_that_make_no_sense(
    words: str, message: str, controller: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
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
