"""The scripts behind the pages of results, as far as they go without data sets that are not in the package."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import quadratics

from lr_gym import LRTrainingEnv, agents, rollout, tasks
from lr_gym.agents.ppo.checkpoint import Checkpoint
from lr_gym.errors import InvalidArgumentError

ROOT = Path(__file__).parents[2]


def test_explore_then_step() -> None:
    """Table 1 of the paper: 40 of 100 epochs at 0.1, 30 at 0.01, 30 at 0.001."""
    import paper_tasks

    task = tasks.get("fashion-mnist-mini/mlp", budget=100, decision_interval=10, train_size=100, validation_size=20)
    agent = pickle.loads(pickle.dumps(paper_tasks.explore_then_step(0.4)))
    env = LRTrainingEnv(task, score_test=False, **agent.env_options)
    record = rollout(env, agent, seed=0, initial_lr=0.1)
    assert record.lrs == pytest.approx([0.1] * 4 + [0.01] * 3 + [0.001] * 3)
    with pytest.raises(InvalidArgumentError, match=r"explore must lie in \[0, 1\], got 2"):
        paper_tasks.explore_then_step(2)


def test_parts_of_the_universal_family() -> None:
    import small_families

    assert {task.optimizer for task in small_families.ONE_OPTIMIZER.draws(50)} == {"Adam"}
    networks = {(task.data, task.model, str(task.model_options)) for task in small_families.ONE_NETWORK.draws(50)}
    assert networks == {("family-fashion", "mlp", "{'width': 64, 'depth': 2, 'batch_norm': False}")}
    assert {task.optimizer for task in small_families.ONE_NETWORK.draws(50)} == {"Adam", "AdamW", "SGD"}
    with pytest.raises(InvalidArgumentError, match="axis 4 of the family 'none' is empty"):
        small_families.part("none", optimizer="Adagrad")
    for family in (small_families.ONE_OPTIMIZER, small_families.ONE_NETWORK):
        assert family.decisions == tasks.families.UNIVERSAL.decisions


def test_far_tasks_have_as_many_decisions_as_the_family() -> None:
    import far_tasks  # noqa: F401 (registers them)

    far = [tasks.get(name) for name in tasks.TASKS if name.startswith("far/")]
    assert len(far) == 6
    assert {task.decisions for task in far} == {tasks.families.UNIVERSAL.decisions}
    assert {task.loss for task in far} == {"cross_entropy", "mse_loss", "multi_margin_loss"}


def test_a_parabola_is_a_parabola_on_a_quadratic() -> None:
    import autolr_measurements as measurements

    env = LRTrainingEnv(quadratics.task(3))
    env.reset(seed=0, options={"initial_lr": 1e-2})
    parabola = measurements.measure(env)
    assert parabola.error < 1e-9
    assert parabola.error_at_minimum < 1e-9
    assert len(parabola.losses) == len(parabola.fitted) == 17


def run(script: str, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "scripts" / "tools" / script), *words]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)


def row(agent: str, losses: list[float]) -> dict[str, Any]:
    mean = sum(losses) / len(losses)
    keys = ("final_train_loss", "final_test_accuracy", "test_accuracy", "test_loss")
    return {
        "agent": agent,
        "task": "toy",
        **{key: {"mean": mean, "std": 0.5, "n": len(losses)} for key in keys},
        "results": [dict.fromkeys(keys, loss) for loss in losses],
    }


def test_score_tables(tmp_path: Path) -> None:
    rows = [row("constant", [0.1, 0.2, 0.3]), row("autolr", [0.5, 0.6, 0.7])]
    (tmp_path / "results.json").write_text(json.dumps({"rows": rows}))
    printed = run("score_tables.py", str(tmp_path))
    assert printed.returncode == 0, printed.stderr
    assert "| constant | 0.2 (0.5) |\n| autolr | 0.6 (0.5), p = 0.008 |" in printed.stdout
    assert "| constant | 20.00 (50.00) |" in printed.stdout
    assert "| constant | 0.2 (0.5), p = 0.008 |" in run("score_tables.py", str(tmp_path), "autolr").stdout
    assert "'nobody'" in run("score_tables.py", str(tmp_path), "nobody").stderr
    assert run("score_tables.py", str(tmp_path / "none")).stderr.startswith("error: ")


def test_training_curves(tmp_path: Path) -> None:
    curve = [{"episodes": 0, "val_loss": 1.0}, {"episodes": 32, "val_loss": 0.5}]
    values = {
        "config": {"seed": 7, "task": {"name": "family"}, "validation": None},
        "provenance": {"commit": "c0ffee"},
        "progression": {"curve": curve},
    }
    Checkpoint(values, {}).write(tmp_path / "run")
    mine = f"mine={tmp_path / 'run'}"
    printed = run("training_curves.py", str(tmp_path / "out"), mine, mine)
    assert printed.returncode == 0, printed.stderr
    written = json.loads((tmp_path / "out.json").read_text())
    expected = {"commit": "c0ffee", "task": "family", "settings": {"seed": 7}, "curve": curve}
    assert written == {"mine": [expected, expected]}
    assert (tmp_path / "out.png").read_bytes().startswith(b"\x89PNG")
    assert "nothing to resume" in run("training_curves.py", "out", f"mine={tmp_path}").stderr
    assert "OUT NAME=DIR" in run("training_curves.py", "out").stderr


def test_hindsight(tmp_path: Path) -> None:
    """From the second interval on the learning rates are those of the tuned cosine."""
    import hindsight

    file = tmp_path / "results.json"
    file.write_text(json.dumps({"tuned": {"toy": {"tuned cosine": {"best": {"initial_lr": 0.03}}}}}))
    options: dict[str, Any] = {"budget": 50, "decision_interval": 10, "train_size": 100, "validation_size": 20}
    options["optimizer"] = "SGD"
    task = tasks.get("fashion-mnist-mini/mlp", **options).replace(name="toy")
    agent = pickle.loads(pickle.dumps(hindsight.Hindsight(str(file))))
    env = LRTrainingEnv(task, score_test=False, **agent.env_options)
    lrs = rollout(env, agent, seed=0, initial_lr=0.1).lrs
    cosine = rollout(env, agents.make("cosine"), seed=0, initial_lr=0.03).lrs
    assert lrs[0] == 0.1
    assert lrs[1:] == pytest.approx(cosine[1:])
    with pytest.raises(InvalidArgumentError, match="no cosine was tuned on 'other'; there are toy"):
        rollout(LRTrainingEnv(task.replace(name="other")), agent, seed=0)
    file.write_text("{}")
    with pytest.raises(InvalidArgumentError, match="has no tuned cosine"):
        hindsight.Hindsight(str(file))
