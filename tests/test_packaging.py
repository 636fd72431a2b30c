"""The wheel: built, installed beside another package called `agents`, run away from the repository, uninstalled."""

from __future__ import annotations

import base64
import hashlib
import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
UV = os.environ.get("UV") or shutil.which("uv") or "uv"
EPISODE = """
import json, sys, lr_gym
from pathlib import Path
from lr_gym import agents
controller = agents.make("ppo", controller="universal")
task = lr_gym.tasks.get("fashion-mnist-mini/mlp", budget=20, train_size=200, validation_size=100)
record = lr_gym.rollout(lr_gym.LRTrainingEnv(task, **controller.env_options), controller, seed=0)
assert len(record.lrs) == 2 and agents.make("arc") and "cosine" in agents.names()
print(Path(lr_gym.__file__).parent)
"""


def uv(*arguments: str, cwd: Path = ROOT) -> str:
    # Of the process above: the environment that uv runs the tests in is not the one to install into.
    environment = {k: v for k, v in os.environ.items() if k != "VIRTUAL_ENV"}
    done = subprocess.run([UV, *arguments], capture_output=True, text=True, cwd=cwd, env=environment, timeout=280)
    assert done.returncode == 0, done.stderr
    return done.stdout


def python(folder: Path) -> Path:
    return folder / "venv" / "bin" / "python"


def run(folder: Path, code: str) -> str:
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHONPATH", "VIRTUAL_ENV"))}
    done = subprocess.run(
        [python(folder), "-c", code], capture_output=True, text=True, cwd=folder, env=environment, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the wheel, built from the sdist as `uv build` does."""
    folder = tmp_path_factory.mktemp("dist")
    uv("build", "--quiet", "--no-build-isolation", "--python", sys.executable, "--out-dir", str(folder))
    return next(folder.glob("*.whl"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder with a virtual environment that finds our dependencies, after its own packages."""
    uv("venv", "--quiet", "--python", sys.executable, str(tmp_path / "venv"))
    own = run(tmp_path, "import sysconfig; print(sysconfig.get_path('purelib'))")
    (Path(own) / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return tmp_path


def other_agents(folder: Path) -> Path:
    """Return a wheel that holds a package `agents`, as that of openai-agents does."""
    name, files = "other_agents-1.0", {"agents/__init__.py": "class Agent:\n    pass\n"}
    about = f"{name}.dist-info"
    files[f"{about}/METADATA"] = "Metadata-Version: 2.1\nName: other-agents\nVersion: 1.0\n"
    files[f"{about}/WHEEL"] = "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    hashes = {
        path: base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()
        for path, text in files.items()
    }
    record = [f"{path},sha256={digest},{len(files[path])}" for path, digest in hashes.items()]
    files[f"{about}/RECORD"] = "\n".join([*record, f"{about}/RECORD,,"]) + "\n"
    wheel = folder / f"{name}-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for path, text in files.items():
            archive.writestr(path, text)
    return wheel


def test_what_the_wheel_holds(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        scripts = archive.read(next(name for name in names if name.endswith("entry_points.txt"))).decode()
    assert "lr-gym = lr_gym.commands.main:start" in scripts
    assert len(names) == len(set(names))
    assert {name.split("/")[0] for name in names} == {
        "lr_gym",
        next(n for n in names if "dist-info" in n).split("/")[0],
    }
    for name in ("__init__.py", "arc/arc.safetensors", "controllers/universal/model.safetensors", "py.typed"):
        assert f"lr_gym/agents/{name}" in names
    sources = {str(path.relative_to(ROOT / "agents")) for path in (ROOT / "agents").rglob("*.py")}
    assert {name.removeprefix("lr_gym/agents/") for name in names if name.startswith("lr_gym/agents/")} >= sources


@pytest.mark.parametrize("first", ["ours", "theirs"])
def test_beside_another_package_called_agents(wheel: Path, folder: Path, first: str) -> None:
    beside(wheel, folder, str(other_agents(folder)), "other-agents", first)


@pytest.mark.slow  # it wants the package registry
@pytest.mark.parametrize("first", ["ours", "theirs"])
def test_beside_openai_agents(wheel: Path, folder: Path, first: str) -> None:
    beside(wheel, folder, "openai-agents", "openai-agents", first)


def beside(wheel: Path, folder: Path, other: str, name: str, first: str) -> None:
    """Install both, run an episode, and uninstall them one after another: neither harms the other."""
    for package in (str(wheel), other) if first == "ours" else (other, str(wheel)):
        uv("pip", "install", "--quiet", "--no-deps", "--python", str(python(folder)), package)
    site = run(folder, "import sysconfig; print(sysconfig.get_path('purelib'))")
    assert run(folder, EPISODE) == str(Path(site) / "lr_gym")
    theirs = Path(site) / "agents" / "__init__.py"
    content = theirs.read_bytes()
    assert run(folder, "import lr_gym.agents, importlib.util; print(importlib.util.find_spec('agents').origin)") == str(
        theirs
    )
    uv("pip", "uninstall", "--quiet", "--python", str(python(folder)), "lr-gym")
    assert theirs.read_bytes() == content
    assert not (Path(site) / "lr_gym").exists()
    uv("pip", "install", "--quiet", "--no-deps", "--python", str(python(folder)), str(wheel))
    uv("pip", "uninstall", "--quiet", "--python", str(python(folder)), name)
    assert not theirs.exists()
    assert (Path(site) / "lr_gym" / "agents" / "base.py").is_file()


def test_the_link_in_a_checkout() -> None:
    link = ROOT / "lr_gym" / "agents"
    if (ROOT / "agents").is_dir():  # not in an unpacked sdist, which holds the folder in the link's place
        assert link.is_symlink()
        assert link.resolve() == ROOT / "agents"
    assert (link / "base.py").is_file()
