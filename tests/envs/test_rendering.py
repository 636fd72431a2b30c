from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import gymnasium
import numpy as np
import pytest
from gymnasium.wrappers import RecordVideo

import lr_gym
from lr_gym.envs.rendering import History, draw
from lr_gym.tasks import Task

ZERO = np.zeros(1, dtype=np.float32)


@pytest.fixture
def env(tiny_task: Task) -> lr_gym.LRTrainingEnv:
    return lr_gym.LRTrainingEnv(tiny_task, render_mode="rgb_array")


def test_pictures_change_with_the_episode(env: lr_gym.LRTrainingEnv) -> None:
    env.reset(seed=0, options={"initial_lr": 1e-3})
    pictures = [env.render()]
    for action in (1.0, -1.0, 0.0):
        env.step(np.array([action], dtype=np.float32))
        pictures.append(env.render())
    for picture in pictures:
        assert isinstance(picture, np.ndarray)
        assert (picture.dtype, picture.shape) == (np.uint8, (480, 640, 3))
        assert picture.max() == 255  # paper
        assert picture.min() < 50  # ink
    assert len({picture.tobytes() for picture in pictures}) == 4
    env.reset(seed=0, options={"initial_lr": 1e-3})
    np.testing.assert_array_equal(env.render(), pictures[0])
    assert not np.shares_memory(env.render(), env.render())


def test_task_is_named(tiny_task: Task) -> None:
    pictures = []
    for name in ("one", "two"):
        env = lr_gym.LRTrainingEnv(tiny_task.replace(name=name), render_mode="rgb_array")
        env.reset(seed=0)
        pictures.append(env.render())
    rows = np.flatnonzero((pictures[0] != pictures[1]).any((1, 2)))
    assert rows.size > 0
    assert rows.max() < 60  # in the title alone


def test_before_reset_and_after_divergence(tiny_task: Task) -> None:
    assert draw(History()).shape == (480, 640, 3)
    env = lr_gym.LRTrainingEnv(
        tiny_task.replace(optimizer="SGD"), render_mode="rgb_array", max_multiplier=1e12, max_lr=1e12
    )
    assert env.render().shape == (480, 640, 3)
    env.reset(seed=0, options={"initial_lr": 1e12})  # nothing but NaN
    assert env.render().shape == (480, 640, 3)
    env.reset(seed=0, options={"initial_lr": 1e-3})
    assert env.step(np.ones(1, dtype=np.float32))[4]["diverged"]
    assert env.render().shape == (480, 640, 3)


def test_without_a_render_mode_nothing_is_drawn(tiny_task: Task) -> None:
    env = lr_gym.LRTrainingEnv(tiny_task)
    env.reset(seed=0)
    with pytest.warns(UserWarning, match="render_mode='rgb_array'"):
        assert env.render() is None


def test_pyplot_is_never_imported() -> None:
    """In a process of its own: others may have imported it here. Nor is anything slow that only some need."""
    code = """
import sys
import numpy as np
import lr_gym
from lr_gym.envs.rendering import History, draw
from lr_gym.control.features import Features
from lr_gym.trainee import Measurement

lr_gym.LRTrainingEnv(render_mode="rgb_array")
history = History(budget=20)
history.add(10, Measurement(Features(*[0.5] * 8), np.ones(10, dtype=np.float32), 0.5, False))
print(draw(history).shape)
print([name for name in ("matplotlib.pyplot", "torchvision", "stable_baselines3") if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False)
    assert done.stderr == ""
    assert done.stdout.splitlines() == ["(480, 640, 3)", "[]"]


def test_record_video(tiny_task: Task, tmp_path: Path) -> None:
    pytest.importorskip("moviepy")
    env = gymnasium.make("lr_gym/LRTraining-v0", task=tiny_task, render_mode="rgb_array")
    env = RecordVideo(env, str(tmp_path / "videos"), episode_trigger=lambda episode: True, disable_logger=True)
    env.reset(seed=0)
    while not env.step(ZERO)[2]:
        pass
    env.close()
    (file,) = (tmp_path / "videos").glob("*.mp4")
    assert file.stat().st_size > 1000
    assert file.read_bytes()[4:8] == b"ftyp"


def test_human_mode_shows_a_window(tiny_task: Task, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("pygame")
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    with pytest.warns(UserWarning, match="HumanRendering"):
        env = gymnasium.make("lr_gym/LRTraining-v0", task=tiny_task, render_mode="human")
    assert env.render_mode == "human"
    env.reset(seed=0)
    env.step(ZERO)
    env.close()
