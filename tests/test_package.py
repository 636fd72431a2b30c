"""The package as a whole: its rooms, what is loaded when, and the wheel beside another package called `agents`."""

from __future__ import annotations

import ast
import base64
import hashlib
import importlib
import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from lr_gym.errors import MissingPackageError

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "lr_gym"

# -- the rooms of docs/architecture.md: who may import whom, and no circles -------------------------------------------

#: What each room may import of ours, beside the tools that stand in no room.
ROOMS = {
    "control": set(),
    "tasks": set(),
    "trainee": {"control", "tasks"},
    "envs": {"control", "tasks", "trainee"},
    "loop": {"control", "tasks", "trainee"},
    "integrations": {"loop"},
    "evaluation": {"control", "tasks", "trainee", "envs"},
    "cluster": {"envs"},
    "agents": {"control", "tasks", "trainee", "envs", "evaluation", "cluster"},
    "commands": {"control", "tasks", "trainee", "envs", "evaluation", "agents", "cluster"},
}
#: What each room may import of other packages that are slow to load, outside functions.
SLOW = {"gymnasium": {"envs", "agents", "evaluation"}, "stable_baselines3": {"envs", "agents"}, "matplotlib": set()}
FRAMEWORKS = ("lightning", "pytorch_lightning", "transformers", "accelerate")
SLOW["ray"] = set()
SLOW |= {name: {"integrations"} for name in FRAMEWORKS}


def modules() -> Iterator[tuple[str, Path]]:
    for path in sorted([*PACKAGE.rglob("*.py"), *PACKAGE.joinpath("agents").rglob("*.py")]):
        parts = path.relative_to(ROOT).with_suffix("").parts
        yield ".".join(parts[:-1] if parts[-1] == "__init__" else parts), path


MODULES = dict(modules())


def imported(path: Path, types: bool = False) -> Iterator[tuple[str, bool]]:
    """Yield what a module imports, with whether it does so outside functions.

    Args:
        path: The module.
        types: Whether what is imported for type checkers only counts.
    """

    def walk(node: ast.AST, top: bool) -> Iterator[tuple[str, bool]]:
        for child in ast.iter_child_nodes(node):
            if not types and isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
                continue
            if isinstance(child, ast.Import):
                yield from ((alias.name, top) for alias in child.names)
            elif isinstance(child, ast.ImportFrom):
                for alias in child.names:
                    name = f"{child.module}.{alias.name}"
                    yield (name if name in MODULES else str(child.module)), top
            yield from walk(child, top and not isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef)))

    yield from walk(ast.parse(path.read_text()), True)


def room(module: str) -> str:
    return module.split(".")[1] if module.count(".") else ""


@pytest.mark.parametrize("module", MODULES)
def test_arrows_point_down_and_what_is_slow_to_load_stays_where_it_is_used(module: str) -> None:
    here = room(module)
    for name, top in imported(MODULES[module]):
        there, package = room(name), name.split(".")[0]
        if package == "lr_gym" and there in ROOMS and there != here:
            assert here in ROOMS or module in ("lr_gym.__main__",), f"{module}, a tool, imports {name}"
            assert here not in ROOMS or there in ROOMS[here], f"{module} imports {name}"
        if top and package in SLOW and here in ROOMS:
            assert here in SLOW[package], f"{module} imports {package}"


def test_no_circles() -> None:
    """Not for type checkers either."""
    arrows = {
        module: {name for name, _ in imported(path, types=True) if name in MODULES and name != module}
        for module, path in MODULES.items()
        if path.name != "__init__.py"
    }
    done: set[str] = set()

    def visit(module: str, way: tuple[str, ...]) -> None:
        assert module not in way, " -> ".join([*way[way.index(module) :], module])
        if module not in done:
            for name in arrows.get(module, ()):
                visit(name, (*way, module))
            done.add(module)

    for module in arrows:
        visit(module, ())


def test_rooms_are_those_of_the_page() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text()
    folders = {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    assert folders <= set(ROOMS)
    assert all(f"`{name}/`" in page for name in folders)


# -- what is loaded when: in processes of their own --------------------------------------------------------------------


def run(code: str, cwd: Path = ROOT, program: str | Path = sys.executable) -> str:
    """Return what a process prints; any warning is an error, and it inherits no paths."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHONPATH", "VIRTUAL_ENV"))}
    done = subprocess.run(
        [program, "-W", "error", "-c", code], capture_output=True, text=True, cwd=cwd, env=environment, timeout=280
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.strip()


def test_nothing_heavy_is_loaded_before_it_is_needed() -> None:
    """Neither for agents and controllers, nor to make an environment and to draw."""
    code = """
import sys
def loaded():
    heavy = ("gymnasium", "stable_baselines3", "sb3_contrib", "torchvision", "matplotlib", "matplotlib.pyplot",
             "lightning", "pytorch_lightning", "transformers", "accelerate", "ray", "torch._dynamo")
    print([name for name in heavy if name in sys.modules])
import lr_gym, lr_gym.integrations, lr_gym.cluster
from lr_gym import LRController, look_ahead, validation
loaded()
import numpy
from lr_gym import agents, tasks
agents.make("ppo", controller="universal").predict(numpy.zeros(12))
agents.make("arc"), tasks.get("fashion-mnist-mini/mlp")
loaded()
lr_gym.LRTrainingEnv(render_mode="rgb_array")
loaded()
from lr_gym.envs.rendering import History, draw
from lr_gym.control.features import Features
from lr_gym.trainee import Measurement
history = History(budget=20)
history.add(10, Measurement(Features(*[0.5] * 8), numpy.ones(10, dtype=numpy.float32), 0.5, False))
print(draw(history).shape)
loaded()
"""
    with_env, drawn = "['gymnasium']", "['gymnasium', 'matplotlib']"
    assert run(code).splitlines() == ["[]", "[]", with_env, "(480, 640, 3)", drawn]


def integration(name: str, monkeypatch: pytest.MonkeyPatch, **frameworks: ModuleType | None) -> ModuleType:
    """Import an integration anew, where frameworks are what is given (None: not installed), and others not loaded."""
    module = f"lr_gym.integrations.{name}"
    for package in (module, "lightning.pytorch", *FRAMEWORKS):
        monkeypatch.setitem(sys.modules, package, None)  # so that it is put back in any case
        del sys.modules[package]
    sys.modules.update(frameworks)  # type: ignore[arg-type]
    return importlib.import_module(module)


@pytest.mark.parametrize("name", ["lightning", "transformers"])
def test_a_framework_that_is_not_installed(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = f'lr_gym.integrations.{name} needs the package {name}: install it with pip install "lr-gym[{name}]"'
    with pytest.raises(MissingPackageError) as caught:
        integration(name, monkeypatch, **dict.fromkeys(FRAMEWORKS))
    assert str(caught.value) == expected


def test_lightning_has_two_names(monkeypatch: pytest.MonkeyPatch) -> None:
    """That by which it is loaded already is taken; the other one is not loaded."""
    loaded = ModuleType("pytorch_lightning")
    loaded.Callback = type("Callback", (), {})  # type: ignore[attr-defined]
    module = integration("lightning", monkeypatch, pytorch_lightning=loaded)
    assert issubclass(module.LRControllerCallback, loaded.Callback)
    assert "lightning.pytorch" not in sys.modules


@pytest.mark.slow  # the real one takes seconds to load
def test_the_other_name_of_lightning_is_installed() -> None:
    code = """
import pytorch_lightning, sys
from lr_gym.integrations.lightning import LRControllerCallback
print(issubclass(LRControllerCallback, pytorch_lightning.Callback), "lightning.pytorch" in sys.modules)
"""
    assert run(code) == "True False"


@pytest.mark.parametrize(
    ("imports", "shown"),
    [
        ("import gymnasium, lr_gym", "gymnasium.spec('lr_gym/LRTraining-v0')"),
        ("import lr_gym, gymnasium", "gymnasium.spec('lr_gym/LRTraining-v0')"),
        ("import gymnasium", "gymnasium.make('lr_gym:lr_gym/LRTraining-v0').spec"),
    ],
)
def test_gymnasium_knows_the_environment_whatever_is_imported_first(imports: str, shown: str) -> None:
    assert run(f"{imports}; print({shown}.id)") == "lr_gym/LRTraining-v0"


def test_agents_have_one_module_object_whatever_the_name() -> None:
    """Commands under both names, references and pickles of earlier versions."""
    code = """
import pickle, sys, importlib.util, runpy
import agents, lr_gym.agents
import agents.ppo.config, agents.arc.models as models
from lr_gym.agents.arc import models as again
from lr_gym.registry import resolve_reference
assert agents is lr_gym.agents is sys.modules["agents"]
assert models is again and agents.ppo.config is lr_gym.agents.ppo.config
assert models.__spec__.name == models.__name__ == "lr_gym.agents.arc.models"
assert isinstance(agents.make("cosine"), lr_gym.agents.FixedAgent)
assert type(pickle.loads(pickle.dumps(agents.make("cosine")))) is lr_gym.agents.ScheduleAgent
assert pickle.loads(b"cagents.schedules\\nScheduleAgent\\n.") is lr_gym.agents.ScheduleAgent
assert importlib.util.find_spec("agents.nothing") is None
assert resolve_reference("agents.arc.models:UNet", "model") is models.UNet
for module in ("lr_gym.agents.arc.generate", "agents.arc.generate"):
    sys.argv = [module, "--help"]
    try:
        runpy.run_module(module, run_name="__main__")
    except SystemExit as stopped:
        print(stopped.code)
"""
    printed = run(code)
    assert printed.count("--runs") >= 2
    assert printed.split().count("0") >= 2


# -- the wheel: built, installed beside another package called `agents`, run away from the repository -----------------

UV = os.environ.get("UV") or shutil.which("uv") or "uv"
EPISODE = """
import lr_gym
from pathlib import Path
from lr_gym import agents
controller = agents.make("ppo", controller="universal")
task = lr_gym.tasks.get("fashion-mnist-mini/mlp", budget=20, train_size=200, validation_size=100)
record = lr_gym.rollout(lr_gym.LRTrainingEnv(task, **controller.env_options), controller, seed=0)
assert len(record.lrs) == 2 and agents.make("arc") and "cosine" in agents.names()
import agents as theirs
assert theirs.Agent and theirs is not agents
print(Path(lr_gym.__file__).parent, theirs.__file__)
"""


def uv(*arguments: str) -> None:
    # Of the process above: the environment that uv runs the tests in is not the one to install into.
    environment = {k: v for k, v in os.environ.items() if k != "VIRTUAL_ENV"}
    done = subprocess.run([UV, *arguments], capture_output=True, text=True, cwd=ROOT, env=environment, timeout=280)
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the wheel, built from the sdist as `uv build` does."""
    folder = tmp_path_factory.mktemp("dist")
    uv("build", "--quiet", "--no-build-isolation", "--python", sys.executable, "--out-dir", str(folder))
    return next(folder.glob("*.whl"))


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
    with zipfile.ZipFile(folder / f"{name}-py3-none-any.whl", "w") as archive:
        for path, text in files.items():
            archive.writestr(path, text)
    return folder / f"{name}-py3-none-any.whl"


def test_what_the_wheel_holds(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        scripts = archive.read(next(name for name in names if name.endswith("entry_points.txt"))).decode()
    assert "lr-gym = lr_gym.commands.main:start" in scripts
    assert len(names) == len(set(names))
    about = next(name for name in names if "dist-info" in name).split("/")[0]
    assert {name.split("/")[0] for name in names} == {"lr_gym", about}
    sources = {f"lr_gym/agents/{path.relative_to(ROOT / 'agents')}" for path in (ROOT / "agents").rglob("*.py")}
    others = ("arc/arc.safetensors", "controllers/universal/model.safetensors", "py.typed", "__init__.py")
    assert set(names) >= sources | {f"lr_gym/agents/{name}" for name in others}
    link = PACKAGE / "agents"
    if (ROOT / "agents").is_dir():  # not in an unpacked sdist, which holds the folder in the link's place
        assert link.is_symlink()
        assert link.resolve() == ROOT / "agents"
    assert (link / "base.py").is_file()


@pytest.mark.parametrize(
    "other",
    ["other-agents", pytest.param("openai-agents", marks=pytest.mark.slow)],  # which wants the package registry
)
def test_beside_another_package_called_agents(wheel: Path, other: str, tmp_path: Path) -> None:
    """Installed in one order and then in the other, and uninstalled one after another: neither harms the other."""
    uv("venv", "--quiet", "--python", sys.executable, str(tmp_path / "venv"))
    python = tmp_path / "venv" / "bin" / "python"
    site = Path(run("import sysconfig; print(sysconfig.get_path('purelib'))", tmp_path, python))
    # It finds our dependencies, after its own packages.
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    ours, theirs = site / "lr_gym", site / "agents" / "__init__.py"

    def pip(what: str, *words: str) -> None:
        uv("pip", what, "--quiet", "--python", str(python), *words)

    pip("install", "--no-deps", str(wheel))
    pip("install", str(other_agents(tmp_path)) if other == "other-agents" else other)
    content = theirs.read_bytes()
    assert run(EPISODE, tmp_path, python) == f"{ours} {theirs}"
    pip("uninstall", "lr-gym")
    assert (theirs.read_bytes(), ours.exists()) == (content, False)
    pip("install", "--no-deps", str(wheel))
    code = (
        "import lr_gym.agents, importlib.util; print(lr_gym.agents.__file__, importlib.util.find_spec('agents').origin)"
    )
    assert run(code, tmp_path, python) == f"{ours / 'agents' / '__init__.py'} {theirs}"
    pip("uninstall", other)
    assert not theirs.exists()
    assert (ours / "agents" / "base.py").is_file()
