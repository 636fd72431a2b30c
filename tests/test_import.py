"""What is loaded when: in processes of their own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FRAMEWORKS = ("lightning", "pytorch_lightning", "transformers", "accelerate")
HEAVY = ("gymnasium", "stable_baselines3", "sb3_contrib", "matplotlib", "torchvision", *FRAMEWORKS)


def run(code: str, cwd: Path = ROOT) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=cwd, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize(
    "code",
    [
        "import lr_gym",
        "from lr_gym import agents; import numpy; agents.make('ppo', controller='universal').predict(numpy.zeros(12))",
        "from lr_gym import agents, tasks; agents.make('arc'); tasks.get('fashion-mnist-mini/mlp')",
        "import lr_gym.integrations; from lr_gym import LRController, validation",
    ],
    ids=["import", "controller", "agents and tasks", "own loop"],
)
def test_nothing_heavy_is_loaded(code: str) -> None:
    assert run(f"import sys; {code}; print([m for m in {HEAVY} if m in sys.modules])") == "[]"


@pytest.mark.parametrize("name", ["lightning", "transformers"])
def test_a_framework_that_is_not_installed(name: str) -> None:
    code = f"""
import sys
sys.modules |= dict.fromkeys({FRAMEWORKS}, None)
try:
    import lr_gym.integrations.{name}
except ImportError as error:
    print(type(error).__name__, error)
"""
    expected = f'lr_gym.integrations.{name} needs the package {name}: install it with pip install "lr-gym[{name}]"'
    assert run(code) == f"MissingPackageError {expected}"


def test_lightning_has_two_names() -> None:
    code = """
import pytorch_lightning, sys
from lr_gym.integrations.lightning import LRControllerCallback
print(issubclass(LRControllerCallback, pytorch_lightning.Callback), "lightning.pytorch" in sys.modules)
"""
    assert run(code) == "True False"


@pytest.mark.parametrize("imports", ["import gymnasium, lr_gym", "import lr_gym, gymnasium", "import gymnasium"])
def test_gymnasium_knows_the_environment_whatever_is_imported_first(imports: str) -> None:
    name = "lr_gym/LRTraining-v0" if "lr_gym" in imports else "lr_gym:lr_gym/LRTraining-v0"
    shown = run(f"{imports}; print(gymnasium.make({name!r}).spec.id)")
    assert shown == "lr_gym/LRTraining-v0"


def test_agents_have_one_module_object_whatever_the_name() -> None:
    code = """
import pickle, sys, importlib.util
import agents, lr_gym.agents
import agents.ppo.config, agents.arc.models as models
from lr_gym.agents.arc import models as again
assert agents is lr_gym.agents is sys.modules["agents"]
assert models is again and agents.ppo.config is lr_gym.agents.ppo.config
assert models.__spec__.name == models.__name__ == "lr_gym.agents.arc.models"
assert isinstance(agents.make("cosine"), lr_gym.agents.FixedAgent)
assert type(pickle.loads(pickle.dumps(agents.make("cosine")))) is lr_gym.agents.ScheduleAgent
assert pickle.loads(b"cagents.schedules\\nScheduleAgent\\n.") is lr_gym.agents.ScheduleAgent
assert importlib.util.find_spec("agents.nothing") is None
print("done")
"""
    assert run(code) == "done"


@pytest.mark.parametrize("module", ["lr_gym.agents.arc.generate", "agents.arc.generate"])
def test_agents_have_commands_under_both_names(module: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", module, "--help"], capture_output=True, text=True, cwd=ROOT, timeout=120
    )
    assert (done.returncode, "--runs" in done.stdout) == (0, True)


def test_another_package_called_agents_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "agents").mkdir()
    (tmp_path / "agents" / "__init__.py").write_text("mine = True\n")
    code = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); import lr_gym.agents, agents; print(agents.mine)"
    assert run(code, tmp_path) == "True"


def test_references_of_earlier_versions() -> None:
    code = "from lr_gym.registry import resolve_reference; print(resolve_reference('agents.arc.models:UNet', 'model'))"
    assert run(code) == "<class 'lr_gym.agents.arc.models.UNet'>"
