"""Code that a file names is run only if somebody else has named it too: the user, a plugin, this package, PyTorch."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import tiny

import train_controller
from lr_gym import Task, trust
from lr_gym.agents.ppo.checkpoint import Checkpoint
from lr_gym.agents.ppo.config import TrainConfig
from lr_gym.errors import FileFormatError
from lr_gym.tasks import TaskFamily

#: What a hostile file may name, by the field. Some go through a module that may be trusted to one that may not.
HOSTILE = [
    ("model", "os:system"),
    ("loss", "subprocess:Popen"),
    ("optimizer", "builtins:eval"),
    ("metric", "os:system"),
    ("model", "runpy:run_path"),
    ("model", "torch.hub:load"),
    ("model", "torch.nn.modules.module:os.system"),
    ("loss", "torch.nn.functional:importlib.import_module"),
    ("loss", "torch.nn:Sequential.__init__"),
    ("optimizer", "torch.optim.lr_scheduler:LambdaLR"),
    ("model", "lr_gym.tasks.models:build_model"),
    ("model", "lr_gym.registry:resolve_reference"),
    ("model", "lr_gym.agents.arc.models:torch.hub.load"),
    ("model", "lr_gym.agents.arc.models:mlp"),
    ("model", "lr_gym.agents.arc.models:cast"),
    ("model", "agents.arc.models:vgg.__globals__"),
    ("model", "trusted_toys:os.system"),
    ("model", "trusted_toys:system"),
    ("model", "trusted_toys:Net.__init__.__globals__"),
    ("model", ":"),
    ("model", "os:"),
    ("model", "os :system"),
]
HARMLESS = [
    ("model", "mlp"),
    ("model", "agents.arc.models:AllConvolutional"),
    ("model", "lr_gym.agents.arc.models:vgg"),
    ("loss", "agents.arc.models:dice_and_cross_entropy"),
    ("loss", "torch.nn:HuberLoss"),
    ("loss", "torch.nn.modules.loss:CrossEntropyLoss"),
    ("optimizer", "torch.optim:SGD"),
    ("optimizer", "torch.optim.adamw:AdamW"),
    ("model", "trusted_toys:Net"),
    ("metric", "trusted_toys:Net"),
    ("metric", "f1"),
]


@pytest.fixture(autouse=True)
def _a_trusted_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    (tmp_path / "trusted_toys.py").write_text(
        "import os\nfrom os import system\n\nclass Net:\n    def __init__(self):\n        raise RuntimeError\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(trust, "_trusted", set(trust.OURS))
    monkeypatch.setattr(trust, "_named", set())
    trust.trust("trusted_toys")
    yield
    sys.modules.pop("trusted_toys", None)


def described(field: str, reference: str) -> dict[str, Any]:
    options = {f"{field}_options": {}} if field in trust.REFERENCES else {}
    return tiny.task().to_dict() | {field: reference} | options


def everywhere(field: str, reference: str) -> Iterator[Any]:
    """Yield functions that read a reference from each description of a task that a file may hold."""
    one, family = described(field, reference), tiny.family().to_dict()
    entry = [{field: reference}]
    yield lambda: Task.from_dict(one)
    yield lambda: TaskFamily.from_dict(family | {"base": one})
    yield lambda: TaskFamily.from_dict(family | {"axes": [*family["axes"], entry]})
    settings = tiny.config().to_dict()
    yield lambda: TrainConfig.from_dict(settings | {"task": one})
    of_family = tiny.family_config().to_dict()
    yield lambda: TrainConfig.from_dict(of_family | {"validation": family | {"axes": [*family["axes"], entry]}})


@pytest.mark.parametrize(("field", "reference"), HOSTILE, ids=lambda word: word)
def test_what_a_file_must_not_name(field: str, reference: str) -> None:
    before = set(sys.modules)
    for read in everywhere(field, reference):
        with pytest.raises(FileFormatError, match=r"which is code to be run|a name without|must be a name"):
            read()
    module = reference.partition(":")[0]
    if module not in ("trusted_toys", *trust.OURS):
        assert module in before or module not in sys.modules
    if len(reference) > 3:
        Task.from_dict(described(field, reference), only_to_look_at=True)
        with pytest.raises(FileFormatError):  # looking is no naming
            Task.from_dict(described(field, reference))


@pytest.mark.parametrize(("field", "reference"), HARMLESS, ids=lambda word: word)
def test_what_a_file_may_name(field: str, reference: str) -> None:
    for read in everywhere(field, reference):
        read()


def test_what_the_user_has_named() -> None:
    """In this process: in Python or on a command line; or by a flag: a thing, a module, a package with all in it."""
    values = described("model", "toys:NoisyNet")
    with pytest.raises(FileFormatError, match=r"add --trust toys, or --plugins FILE"):
        Task.from_dict(values)
    assert Task(**values).to_dict() == values
    assert Task.from_dict(values) == Task(**values)
    for name, reference in (
        ("toys:FixedNet", "toys:FixedNet"),
        ("toys", "toys:Slope"),
        ("json", "json.decoder:JSONDecoder"),
    ):
        trust.trust(name)
        Task.from_dict(described("model", reference))


def test_a_hostile_run_is_not_resumed(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, capsys: pytest.CaptureFixture[str]
) -> None:
    """A real run, and a command that would leave a file behind; by a real program too."""
    finished = tiny.finished_run(tmp_path_factory.getbasetemp())
    capsys.readouterr()  # what that run has printed
    bait = tmp_path / "executed"
    for changes in (
        {"model": "os:system", "model_options": {"command": f"touch {bait}"}},
        {"loss": "subprocess:Popen", "loss_options": {"args": ["touch", str(bait)]}},
    ):
        run = tmp_path / "run"
        shutil.copytree(finished / "checkpoint", run / "checkpoint", dirs_exist_ok=True)
        checkpoint = Checkpoint.read(run)
        checkpoint.values["config"]["task"] |= changes
        checkpoint.write(run)
        assert "which is code to be run" in tiny.refused(train_controller, capsys, "--resume", str(run))
        assert not bait.exists()
    done = tiny.run_script("train_controller.py", "--resume", str(run), folder=tmp_path)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1), done
    assert "which is code to be run" in done.stderr
    assert not bait.exists()


OWN = """
from torch import nn


def net(input_shape, num_outputs):
    return nn.Sequential(nn.Flatten(), nn.Linear(784, 4), nn.Tanh(), nn.Linear(4, num_outputs))
"""


@pytest.mark.slow
def test_a_run_with_a_model_of_its_own_goes_on_where_its_module_is_trusted(tmp_path: Path) -> None:
    """Real programs: begun with --override model=..., refused by another one without --trust, and finished with it."""
    (tmp_path / "my_models.py").write_text(OWN)
    out = tmp_path / "run"

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            tiny.script("train_controller.py", *words),
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=280,
            env=os.environ | {"COLUMNS": "200", "PYTHONPATH": str(tmp_path)},
        )

    sizes = ("budget=20", "batch_size=8", "train_size=100", "validation_size=50", "model=my_models:net")
    small = ("--episodes", "32", "--runs", "2", "--tuning-runs", "1", "--workers", "1", "--override", *sizes)
    begun = run("--out", str(out), *small)
    assert begun.returncode == 0, begun.stderr
    (out / "results.json").unlink()
    refused = run("--resume", str(out))
    assert (refused.returncode, refused.stderr.count("\n")) == (2, 1)
    assert "add --trust my_models" in refused.stderr
    assert not (out / "results.json").exists()
    other = run("--resume", str(out), "--trust", "json")
    assert (other.returncode, other.stderr.count("\n")) == (2, 1)
    done = run("--resume", str(out), "--trust", "my_models")
    assert done.returncode == 0, done.stderr
    assert (out / "results.json").exists()
