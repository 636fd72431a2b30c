"""Pictures of an episode, videos of many, and a window."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.wrappers import RecordVideo
from vector_toys import EXPLOSIVE, short

from lr_gym import LRTrainingEnv
from lr_gym.envs.rendering import History, draw

ZERO = np.zeros(1, dtype=np.float32)


def make(**options: Any) -> LRTrainingEnv:
    return LRTrainingEnv(**({"task": short(), "render_mode": "rgb_array", **EXPLOSIVE} | options))


def picture(env: LRTrainingEnv) -> Any:
    drawn = env.render()
    assert isinstance(drawn, np.ndarray)
    assert (drawn.dtype, drawn.shape) == (np.uint8, (480, 640, 3))
    assert drawn.max() == 255  # paper
    assert drawn.min() < 50  # ink
    return drawn


def test_pictures_change_with_the_episode() -> None:
    """Before it, through it, where it blows up, and where it begins anew."""
    env = make()
    pictures = [picture(env)]
    np.testing.assert_array_equal(draw(History()), pictures[0])
    env.reset(seed=0, options={"initial_lr": 1e-3})
    pictures.append(picture(env))
    for action in (0.02, -0.02, 1.0):
        *_, info = env.step(np.array([action], dtype=np.float32))
        pictures.append(picture(env))
    assert info["diverged"]
    env.reset(seed=0, options={"initial_lr": 1e12})  # nothing but NaN
    pictures.append(picture(env))
    assert len({drawn.tobytes() for drawn in pictures}) == 6
    env.reset(seed=0, options={"initial_lr": 1e-3})
    np.testing.assert_array_equal(picture(env), pictures[1])
    assert not np.shares_memory(env.render(), env.render())  # type: ignore[arg-type]


def test_task_is_named() -> None:
    pictures = []
    for name in ("one", "two"):
        env = make(task=short().replace(name=name))
        env.reset(seed=0)
        pictures.append(picture(env))
    rows = np.flatnonzero((pictures[0] != pictures[1]).any((1, 2)))
    assert rows.size > 0
    assert rows.max() < 60  # in the title alone


def test_without_a_render_mode_nothing_is_drawn() -> None:
    env = make(render_mode=None)
    env.reset(seed=0)
    with pytest.warns(UserWarning, match="render_mode='rgb_array'"):
        assert env.render() is None


def test_record_video(tmp_path: Path) -> None:
    pytest.importorskip("moviepy")
    env: Any = gymnasium.make("lr_gym/LRTraining-v0", task=short(), render_mode="rgb_array")
    env = RecordVideo(env, str(tmp_path / "videos"), episode_trigger=lambda episode: True, disable_logger=True)
    env.reset(seed=0)
    while not env.step(ZERO)[2]:
        pass
    env.close()
    (file,) = (tmp_path / "videos").glob("*.mp4")
    assert file.stat().st_size > 1000
    assert file.read_bytes()[4:8] == b"ftyp"


def test_human_mode_shows_a_window(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("pygame")
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    with pytest.warns(UserWarning, match="HumanRendering"):
        env = gymnasium.make("lr_gym/LRTraining-v0", task=short(), render_mode="human")
    assert env.render_mode == "human"
    env.reset(seed=0)
    env.step(ZERO)
    env.close()
