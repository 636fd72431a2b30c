from __future__ import annotations

from pathlib import Path
from typing import Any, NoReturn

import pytest
import tiny
import torchvision

import train_controller
from agents.ppo.checkpoint import FILE, Checkpoint
from lr_gym import cli


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
    ("--profile fast", "argument --profile: invalid choice: 'fast' (choose from 'quick', 'paper')"),
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
]


@pytest.mark.usefixtures("_no_network")
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
