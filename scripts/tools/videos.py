"""Film trainings with `render()` and Gymnasium's `RecordVideo`, as GIFs for the README.

    uv run scripts/tools/videos.py docs/pictures

`training.gif`: nobody changes the learning rate. `controller.gif`: the same network, data and seed, from the same
learning rate, far too small, with the controller `universal`. RecordVideo leaves an MP4 of each too, in a folder
that is thrown away. Takes half a minute.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import numpy.typing as npt
from gymnasium.wrappers import RecordVideo
from PIL import Image

import lr_gym
from lr_gym import agents

TASK = {"optimizer": "AdamW", "decision_interval": 6}
INITIAL_LR = 1e-4


def film(agent: Any, initial_lr: float, **task: Any) -> list[npt.NDArray[np.uint8]]:
    """Return the frames of one episode, one for each interval; (480, 640, 3) each."""
    chosen = lr_gym.tasks.get("fashion-mnist-mini/mlp", **task)
    env = gymnasium.make("lr_gym/LRTraining-v0", task=chosen, render_mode="rgb_array", **agent.env_options)
    with tempfile.TemporaryDirectory() as folder:
        recorder = RecordVideo(env, f"{folder}/films", episode_trigger=lambda episode: True, disable_logger=True)
        record = lr_gym.rollout(recorder, agent, seed=0, initial_lr=initial_lr)
        frames = list(recorder.recorded_frames)
        recorder.close()
    print(f"{len(frames)} frames, learning rates {record.lrs[0]:g} to {record.lrs[-1]:g}, test loss {record.result}")
    return frames


def write_gif(frames: Sequence[npt.NDArray[np.uint8]], path: Path, seconds: float = 6.0) -> None:
    """Write frames as a GIF that runs for ever, the last frame shown for three seconds."""
    pictures = [Image.fromarray(frame).quantize(48, dither=Image.Dither.NONE) for frame in frames]
    times = [round(1000 * seconds / len(pictures))] * (len(pictures) - 1) + [3000]
    pictures[0].save(path, save_all=True, append_images=pictures[1:], duration=times, loop=0, optimize=True)


def main() -> None:
    """Film both trainings."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="folder of the GIFs")
    out = parser.parse_args().out
    out.mkdir(parents=True, exist_ok=True)
    for name, agent in (
        ("training", agents.make("constant")),
        ("controller", agents.make("ppo", controller="universal")),
    ):
        write_gif(film(agent, INITIAL_LR, **TASK), out / f"{name}.gif")


if __name__ == "__main__":
    main()
