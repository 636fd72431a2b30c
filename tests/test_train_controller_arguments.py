from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

import pytest
import tiny
import torchvision

import train_controller
from lr_gym import cli, tasks
from lr_gym.agents.ppo.checkpoint import FILE, Checkpoint
from lr_gym.agents.ppo.config import PROFILES
from lr_gym.agents.ppo.train import TrainingCallback
from lr_gym.control.controller import Controller


@pytest.fixture
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.finished_run(tmp_path_factory.getbasetemp())


def configured(*arguments: str) -> Any:
    return cli.parse(train_controller.Arguments, "", arguments)[0].config()


def test_defaults_and_profiles() -> None:
    quick = configured()
    assert (quick.task.name, quick.task.budget, quick.task.batch_size) == ("fashion-mnist-mini/mlp", 300, 64)
    assert quick.task.initial_lrs == (1e-2, 1e-3, 1e-4)
    assert (quick.seed, quick.actor, quick.reward, quick.final_runs) == (0, "mlp", "log_improvement", 10)
    paper = configured("--profile", "paper", "--actor", "lstm", "--initial-lrs", "0.1", "--seed", "4")
    assert (paper.task.budget, paper.task.batch_size, paper.task.initial_lrs) == (1000, 1000, (0.1,))
    assert (paper.reward, paper.observe_progress, paper.actor, paper.seed) == ("val_loss", False, "lstm", 4)
    assert configured("--override", "optimizer=SGD", "batch_size=32").task.optimizer == "SGD"


SMALL = 'model_options={"width":32}'


@pytest.mark.parametrize(
    ("arguments", "backend"),
    [
        ((), "workers"),
        (("--backend", "auto"), "workers"),
        (("--backend", "population"), "population"),
        (("--override", SMALL), "population"),
        (("--override", SMALL, "--backend", "auto"), "population"),
        (("--override", SMALL, "--backend", "workers"), "workers"),
        (("--override", SMALL, "optimizer=LBFGS"), "workers"),
        (("--override", "model=toys:NoisyNet"), "workers"),
        (("--profile", "paper", "--override", SMALL), "workers"),
    ],
    ids=lambda value: " ".join(value) or "none" if isinstance(value, tuple) else "",
)
def test_the_backend_is_settled(arguments: tuple[str, ...], backend: str) -> None:
    """There is no "auto" in the settings of a run: they say what was done."""
    config = configured(*arguments)
    assert config.backend == config.to_dict()["backend"] == backend


def test_a_run_before_there_was_a_choice(finished: Path, tmp_path: Path) -> None:
    """Its trainees were computed one after another, and are still, whatever would be chosen today."""
    checkpoint = Checkpoint.read(finished)
    assert checkpoint.values["config"].pop("backend") == "population"
    checkpoint.write(tmp_path)
    arguments, _ = cli.parse(train_controller.Arguments, "", ("--resume", str(tmp_path)))
    config, out, read = train_controller.prepare(arguments)
    assert (config.backend, out) == ("workers", tmp_path)
    assert read is not None
    assert config.to_dict() == checkpoint.values["config"] | {"backend": "workers"}


@pytest.fixture
def _families() -> Iterator[None]:
    """Families that are gone again after the test; one has another to be validated on."""
    uneven = ([{"budget": 8}, {"budget": 12}], [{"decision_interval": 2}])
    made = [
        *(tiny.family(name=name) for name in ("lonely", "paired", "paired-validation")),
        tiny.family(name="uneven", axes=uneven),
        tiny.family(name="steep", initial_lr_range=(1e-3, 20.0), axes=()),
    ]
    for family in made:
        tasks.register(family)
    yield
    for family in made:
        del tasks.TASKS._things[family.name]


@pytest.mark.usefixtures("_families")
def test_settings_of_a_family() -> None:
    config = configured("--task", "lonely", "--seed", "4", "--runs", "7", "--actor", "lstm")
    profile = PROFILES["family"]
    assert config.task == tiny.family(name="lonely")
    assert {name: getattr(config, name) for name in profile} == profile | {"final_runs": 7}
    assert (config.seed, config.actor, config.backend) == (4, "lstm", "workers")
    assert configured("--task", "lonely", "--profile", "family", "--episodes", "64").episodes == 64


@pytest.mark.usefixtures("_families")
@pytest.mark.parametrize(
    ("arguments", "validation"),
    [
        (("--task", "lonely"), None),
        (("--task", "paired"), "paired-validation"),
        (("--task", "paired", "--validation", "lonely"), "lonely"),
        (("--task", "paired", "--validation", "paired"), "paired"),
        (("--task", "lonely", "--validation", "uneven"), "uneven"),  # it may have other numbers of decisions
        (("--task", "universal"), "universal-validation"),
        ((), None),
    ],
    ids=lambda value: " ".join(value) or "none" if isinstance(value, tuple) else "",
)
def test_the_family_that_evaluates(arguments: tuple[str, ...], validation: str | None) -> None:
    found = configured(*arguments).validation
    assert found == (None if validation is None else tasks.find(validation))


def test_further_settings() -> None:
    """Read as JSON, or else as text; of a task as of a family."""
    config = configured("--settings", "gamma=0.9", "reward=final", "observe_progress=false", "observation=portable")
    assert (config.gamma, config.reward, config.observe_progress) == (0.9, "final", False)
    assert config.observation == "portable"
    config = configured("--profile", "paper", "--settings", "trainees=2", "reward=final", "--seed", "3")
    assert (config.trainees, config.reward, config.episodes, config.seed) == (2, "final", 1000, 3)  # before the profile
    config = configured("--task", "universal", "--settings", "replicas=8", "final_lr_factor=1", "--episodes", "99")
    assert (config.replicas, config.final_lr_factor, config.episodes) == (8, 1, 99)


def test_replicas_of_one_task_settle_the_backend() -> None:
    assert configured("--override", SMALL, "--settings", "replicas=4").backend == "workers"


def no_download(*_: Any, **__: Any) -> NoReturn:
    raise RuntimeError("no network in tests")


@pytest.fixture
def _no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torchvision.datasets.CIFAR10, "download", no_download)


REFUSED: list[tuple[str, str]] = [
    (
        "--task fashion-mnist-mini/lp",
        "no task is named 'fashion-mnist-mini/lp'. Did you mean 'fashion-mnist-mini/mlp'?",
    ),
    ("--task nonsense", "no task is named 'nonsense'. Known: "),
    ("--task absent/mlp", "the data set 'absent' is in none of these places: "),
    ("--task cifar10/lenet5", "download, which failed: no network in tests. Set LR_GYM_DATA (or --data)"),
    ("--episodes 0", "argument --episodes: must be a whole number of at least 1, got '0'"),
    ("--episodes 2.5", "argument --episodes: must be a whole number of at least 1, got '2.5'"),
    ("--initial-lrs abc", "argument --initial-lrs: must be a positive number such as 1e-3, got 'abc'"),
    ("--initial-lrs 1e-3 -1", "argument --initial-lrs: must be a positive number such as 1e-3, got '-1'"),
    ("--initial-lrs nan", "argument --initial-lrs: must be a positive number such as 1e-3, got 'nan'"),
    ("--initial-lrs 20", "must lie in [min_lr, max_lr] = [1e-07, 10], got 20.0"),
    ("--initial-lrs 1e-9", "must lie in [min_lr, max_lr] = [1e-07, 10], got 1e-09"),
    ("--initial-lrs 1e-2 0.01", "--initial-lrs must differ from each other, got [0.01, 0.01]"),
    ("--actor cnn", "argument --actor: invalid choice: 'cnn' (choose from 'mlp', 'lstm')"),
    ("--profile fast", "argument --profile: invalid choice: 'fast' (choose from 'quick', 'paper', 'family')"),
    ("--seed -1", "argument --seed: must be a whole number of at least 0, got '-1'"),
    ("--runs 1", "argument --runs: must be a whole number of at least 2, got '1'"),
    ("--tuning-runs 0", "argument --tuning-runs: must be a whole number of at least 1, got '0'"),
    ("--workers 0", "argument --workers: must be a whole number of at least 1, got '0'"),
    ("--override batchsize=3", "a task has no field 'batchsize'; it has name, data, model"),
    ("--override batch_size", "argument --override: must read field=value, such as batch_size=128, got 'batch_size'"),
    (
        "--override budget=25",
        "budget must be a multiple of decision_interval and at least twice as large: got budget=25",
    ),
    ("--override budget=some", "budget must be a whole number of at least 1, got 'some'"),
    ("--override batch_size=100000", "batch_size=100000 is more than the "),
    ("--override validation_size=1000000", "validation_size=1000000 is more than the "),
    ("--override initial_lrs=[1]", "--override cannot set name or initial_lrs; use --task or --initial-lrs"),
    ("--override optimizer=Adm", "'Adm'"),
    ("--override model=null", "model"),
    ('--override model_options={"widht":3}', "the model 'mlp' refuses model_options={'widht': 3}"),
    ('--override optimizer_options={"lr":3}', "lr"),
    ("--override final_layer=9", "final_layer"),
    ("--device nonsense", "device must be 'cpu' or a GPU that is there, got 'nonsense'"),
    ("--device meta", "device must be 'cpu' or a GPU that is there, got 'meta'"),
    (
        "--backend gpu",
        "argument --backend: invalid choice: 'gpu' (choose from 'auto', 'workers', 'population')",
    ),
    (
        "--out {tmp}/new --backend population --override model=toys:NoisyNet",
        "trainees of the task 'fashion-mnist-mini/mlp' (model 'toys:NoisyNet') cannot be computed at once: vmap: "
        "called random operation",
    ),
    (
        "--out {tmp}/new --backend population --override model=toys:NoisyNet",
        "train them one after another (stack=1) or in processes of their own (vectorization_mode='async', "
        "--backend workers)",
    ),
    (
        "--out {tmp}/new --backend population --override optimizer=LBFGS",
        "cannot be computed at once: the optimizer 'LBFGS' evaluates the loss itself; train them one after another ",
    ),
    ("--data {tmp}/none", "--data must be a folder, got '{tmp}/none'"),
    ("--out {tmp}/file", "--out must be a folder, {tmp}/file is a file"),
    ("--out {tmp}/file/below", "{tmp}/file"),
    ("--out {run}", "{run} holds a run already; continue it with --resume {run}, or choose another --out"),
    ("--resume {tmp}", "nothing to resume in {tmp}: there is no checkpoint/state.safetensors"),
    ("--resume {tmp}/none", "nothing to resume in {tmp}/none"),
    ("--resume {run} --seed 3 --initial-lrs 1", "continues a run with its own settings; drop --initial-lrs, --seed"),
    ("--resume {run} --backend auto", "continues a run with its own settings; drop --backend"),
    ("--resume {run} --backend population", "continues a run with its own settings; drop --backend"),
    ("--resume {damaged}", "state.safetensors cannot be read as a checkpoint"),
    ("--resume {foreign}", "state.safetensors"),
    # -- families
    ("--task lonly", "no task is named 'lonly'. Did you mean 'lonely'?"),
    *(
        (
            f"--task lonely {option} {value}",
            f"{option} is for single tasks; the tasks of 'lonely' are what the family says (docs/tasks.md shows how",
        )
        for option, value in (("--override", "budget=40"), ("--initial-lrs", "0.1 1"), ("--tuning-runs", "2"))
    ),
    *(
        (f"--task lonely --profile {profile}", f"--profile {profile} is for single tasks; 'lonely' is a family")
        for profile in ("quick", "paper")
    ),
    ("--profile family", "--profile family is for families of tasks; 'fashion-mnist-mini/mlp' is one task"),
    ("--validation lonely", "--validation is for families; a single task is evaluated on itself"),
    (
        "--task lonely --validation fashion-mnist-mini/mlp",
        "--validation must name a family, got the task 'fashion-mnist-mini/mlp'",
    ),
    ("--task paired --validation nonsense", "no task is named 'nonsense'"),
    ("--task uneven", "the tasks of the family 'uneven' differ in their number of decisions; make budget / decision_"),
    ("--task steep", "the initial lr of the task 'steep' must lie in [min_lr, max_lr] = [1e-07, 10], got 20.0"),
    ("--task lonely --backend population", "replicas need the backend 'workers'"),
    (
        "--task lonely --backend population --settings replicas=1",
        "a family's tasks differ from episode to episode and cannot be computed at once",
    ),
    ("--resume {run} --validation lonely", "continues a run with its own settings; drop --validation"),
    # -- further settings
    ("--settings gama=0.9 gamma=1", "--settings has no gama; it has episodes, seed, actor, reward, observation"),
    *(
        (f"--settings {name}={value}", f"--settings has no {name}; it has episodes, seed, ")
        for name, value in (("task", "lonely"), ("validation", "lonely"), ("backend", "workers"), ("max_lr", "1"))
    ),
    ("--settings gamma", "argument --settings: must read field=value, such as batch_size=128, got 'gamma'"),
    ("--settings seed=1 gamma=1 --seed 1", "--settings repeats another option: seed"),
    (
        "--settings final_runs=3 tuning_runs=3 device=cpu --runs 3 --tuning-runs 3 --device cpu",
        "--settings repeats another option: device, final_runs, tuning_runs",
    ),
    ("--settings reward=nonsense", "no reward is named 'nonsense'"),
    ("--settings observation=paper", "observation must be 'absolute', 'portable' or 'training', got 'paper'"),
    ("--settings max_multiplier=1", "max_multiplier must be a finite number above 1, got 1"),
    ("--settings trainees=6 replicas=4", "replicas=4 must divide trainees=6"),
    ("--task lonely --settings trainees=6", "replicas=4 must divide trainees=6"),
    ("--resume {run} --settings gamma=1", "continues a run with its own settings; drop --settings"),
    # -- files of the user's
    ("--plugins {tmp}/none.py", "--plugins must be Python files (name.py), got '{tmp}/none.py'"),
    ("--plugins {tmp}/file", "--plugins must be Python files (name.py), got '{tmp}/file'"),
]


@pytest.mark.usefixtures("_no_network", "_families")
@pytest.mark.parametrize(("words", "message"), REFUSED, ids=[words for words, _ in REFUSED])
def test_arguments_that_make_no_sense(
    words: str, message: str, finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    places = {name: str(tmp_path / name) for name in ("damaged", "foreign")} | {
        "run": str(finished),
        "tmp": str(tmp_path),
    }
    (tmp_path / "file").write_text("")
    (tmp_path / "damaged" / FILE).parent.mkdir(parents=True)
    (tmp_path / "damaged" / FILE).write_bytes((finished / FILE).read_bytes()[:-10])
    Checkpoint({"something": "else"}, {}).write(tmp_path / "foreign")

    def filled(text: str) -> str:
        for name, place in places.items():
            text = text.replace(f"{{{name}}}", place)
        return text

    assert filled(message) in tiny.refused(train_controller, capsys, *map(filled, words.split()))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["damaged", "file", "foreign"]


@pytest.mark.parametrize("setting", ["trainees=many", "seed=x", "observation=[1]"])
def test_settings_of_another_type(setting: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert setting.partition("=")[0] in tiny.refused(train_controller, capsys, "--settings", setting)


# -- a family of the user's, from beginning to end ---------------------------------------------------------------------

PLUGIN = """
import numpy as np
import tiny
from lr_gym import tasks

rng = np.random.default_rng(0)
arrays = {f"x_{split}": rng.normal(size=(60, 5)) for split in ("train", "val", "test")}
arrays |= {f"y_{split}": (arrays[f"x_{split}"][:, 0] > 0).astype(int) for split in ("train", "val", "test")}
tasks.register_data("plugged-data", lambda: arrays)
base = tiny.task(data="plugged-data", batch_size=8, train_size=None, validation_size=None)
tasks.register(tiny.family(name="plugged", base=base))
"""


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A file that registers a family, whose data set nobody else knows; forgotten after the test."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    file = tmp_path / "plugin_of_these_tests.py"
    file.write_text(PLUGIN)
    yield file
    sys.modules.pop(file.stem, None)
    for things, name in ((tasks.TASKS, "plugged"), (tasks.data.DATA, "plugged-data")):
        things._things.pop(name, None)
    tasks.data._load.cache_clear()


def test_a_family_of_a_plugin(
    plugin: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Trained, stopped with Ctrl-C, resumed and compared; against a run that was never stopped."""
    monkeypatch.setenv("COLUMNS", "200")
    settings = ("trainees=4", "replicas=2", "evaluation_runs=3", "evaluate_every=1", "hidden_size=4", "minibatches=2")
    words = ("--plugins", str(plugin), "--task", "plugged", "--episodes", "8", "--runs", "2", "--workers", "1")
    words += ("--settings", *settings)
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    tiny.run_main(train_controller, *words, "--out", str(whole))
    text = capsys.readouterr().out
    assert "Task plugged: 8 training episodes of 3 decisions, 1 workers. Results go to" in text
    assert "Comparison with cosines, tuned and untuned" in text
    left = {"checkpoint", "controller", "episodes", "learning_curve.png", "results.json", "schedules.png"}
    assert {path.name for path in whole.iterdir()} == left | {"tensorboard"}
    assert Controller.load(whole).env_options["observation"] == "portable"
    results = json.loads((whole / "results.json").read_text())
    assert results["provenance"]["settings"]["task"]["name"] == "plugged"
    rows = results["family_comparison"]
    assert [row["agent"] for row in rows] == ["best of 8 cosines", "cosine", "constant", "controller"]
    assert all(len(row["runs"]) == 2 for row in rows)

    on_step, steps = TrainingCallback._on_step, iter(range(100))

    def impatient(callback: TrainingCallback) -> bool:
        if next(steps) == 4:  # in the second iteration
            raise KeyboardInterrupt
        return on_step(callback)

    with monkeypatch.context() as patch:
        patch.setattr(TrainingCallback, "_on_step", impatient)
        with pytest.raises(SystemExit) as caught:
            tiny.run_main(train_controller, *words, "--out", str(cut))
    assert caught.value.code == cli.INTERRUPTED
    assert Checkpoint.read(cut).values["progression"]["iteration"] == 1
    tiny.run_main(train_controller, "--plugins", str(plugin), "--resume", str(cut))
    resumed = json.loads((cut / "results.json").read_text())
    for name in results.keys() - {"provenance", "training_seconds"}:
        assert resumed[name] == results[name]
    assert Controller.load(cut).fingerprint == Controller.load(whole).fingerprint
