"""A controller, a finished training, invented episodes, and a clean slate after plugins."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

import pytest
import tiny
import torchvision
from command_toys import DATA_PLUGIN, STEADY, Called, Desk, Install

from lr_gym import cli, tasks
from lr_gym import registry as registry_module
from lr_gym.agents.base import AGENTS
from lr_gym.commands import configuration, main, plan, plugins
from lr_gym.evaluation import Cell
from lr_gym.tasks import MODELS, TASKS
from lr_gym.tasks import data as data_module


@pytest.fixture(autouse=True)
def _no_process_to_try_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(configuration, "attempt", tiny.attempt_here)
    monkeypatch.setattr(plan, "attempt", tiny.attempt_here)


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a training run; not to be changed."""
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
    registries = (AGENTS, data_module.DATA, MODELS, TASKS)
    for registry in registries:
        monkeypatch.setattr(registry, "_things", dict(registry._things))
    modules = set(sys.modules)
    yield
    data_module._load.cache_clear()
    plugins._installed.cache_clear()
    registry_module._call_once.cache_clear()
    for name in set(sys.modules) - modules:
        if "plugin" in name:
            del sys.modules[name]


@pytest.fixture
def install(tmp_path: Path, clean: None, monkeypatch: pytest.MonkeyPatch) -> Install:
    """Return a function that installs a distribution, where processes that are started find it too."""

    def install(name: str, entry: str, files: dict[str, str]) -> Path:
        site = tmp_path / "site"
        about = {"METADATA": f"Name: {name}\nVersion: 1.2\n", "entry_points.txt": f"[lr_gym.plugins]\nmine = {entry}\n"}
        for file, text in (files | {f"{name}-1.2.dist-info/{file}": text for file, text in about.items()}).items():
            (site / file).parent.mkdir(parents=True, exist_ok=True)
            (site / file).write_text(text)
        monkeypatch.syspath_prepend(str(site))
        monkeypatch.setenv("PYTHONPATH", str(site))
        return site

    return install


@pytest.fixture
def site(install: Install) -> Path:
    """Return where two plugins are installed, a function and a module."""
    install("waves", "waves_plugin", {"waves_plugin.py": DATA_PLUGIN})
    return install("steady", "steady_plugin.names:register", STEADY)


@pytest.fixture
def families(clean: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Register families, one of which has another to be validated on; and let there be no network."""

    def no_download(*_: object, **__: object) -> NoReturn:
        raise RuntimeError("no network in tests")

    monkeypatch.setattr(torchvision.datasets.CIFAR10, "download", no_download)
    for name in ("lonely", "paired", "paired-validation"):
        tasks.register(tiny.family(name=name))
    tasks.register(tiny.family(name="uneven", axes=([{"budget": 8}, {"budget": 12}], [{"decision_interval": 2}])))
    tasks.register(tiny.family(name="steep", initial_lr_range=(1e-3, 20.0), axes=()))


@pytest.fixture
def called(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Called:
    """Return a function that runs `lr-gym` in this process."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LR_GYM_DATA", os.environ["LR_GYM_DATA"])  # --data changes it

    def call(*words: str) -> tuple[int, str, str]:
        capsys.readouterr()
        with pytest.raises(SystemExit) as caught:
            cli.run(lambda: main.main(words))
        return (int(caught.value.code or 0), *capsys.readouterr())

    return call


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Desk:
    """Invent episodes, and draw figures without turning them into pictures, which takes seconds."""
    made = Desk(tmp_path / "out", capsys)
    monkeypatch.setattr(Cell, "run", lambda cell: made.run(cell))
    tiny.leave_figures_undrawn(monkeypatch)
    monkeypatch.setenv("COLUMNS", "300")
    return made
