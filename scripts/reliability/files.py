"""Files that are damaged, or made by somebody who means harm."""

from __future__ import annotations

import json
import pickle
import random
import struct
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from lr_gym import tasks
from lr_gym.agents.arc.network import DEFAULT_WEIGHTS, load_weights, save_weights
from lr_gym.agents.ppo.checkpoint import FILE, Checkpoint
from lr_gym.agents.ppo.config import TrainConfig
from lr_gym.control.controller import SHIPPED, Controller
from lr_gym.errors import LRGymError
from lr_gym.evaluation import records
from lr_gym.evaluation.rollout import Rollout
from scripts.reliability.common import Outcome

LONGEST = 1_200


class Payload:
    """What runs when somebody unpickles it."""

    def __init__(self, bait: Path) -> None:
        self.bait = bait

    def __reduce__(self) -> Any:
        return Path.touch, (self.bait,)


def damaged(whole: bytes, rng: random.Random, bait: Path) -> bytes:
    """Return a file's content as an accident or an attacker leaves it."""
    kind = rng.choice(("flip", "flip", "cut", "empty", "pickle", "header", "deep", "noise", "json", "twice"))
    place = rng.randrange(len(whole))
    if kind == "flip":
        return whole[:place] + bytes([whole[place] ^ (1 << rng.randrange(8))]) + whole[place + 1 :]
    if kind == "cut":
        return whole[:place]
    if kind == "pickle":
        return pickle.dumps(Payload(bait))
    if kind == "header":
        return struct.pack("<Q", rng.choice((2**62, 10**9, len(whole) * 2))) + whole[8:]
    if kind == "deep":
        return b"[" * rng.choice((500, 100_000))
    if kind == "noise":
        return rng.randbytes(200)
    if kind == "json":
        return json.dumps(rng.choice(([], {}, 3, "x", None, {"format": 1}))).encode()
    return whole + whole if kind == "twice" else b""


def _controller(folder: Path) -> tuple[list[Path], Callable[[], Any]]:
    Controller.load(SHIPPED / "universal").save(folder)
    files = [folder / "config.json", folder / "model.safetensors"]
    return files, lambda: (Controller.load(folder).fingerprint, Controller.load(folder).description.provenance)


def _weights(folder: Path) -> tuple[list[Path], Callable[[], Any]]:
    file = folder / "arc.safetensors"
    save_weights(load_weights(DEFAULT_WEIGHTS), file, {"made": "here"})
    return [file], lambda: load_weights(file).fingerprint()


def _checkpoint(folder: Path) -> tuple[list[Path], Callable[[], Any]]:
    config = TrainConfig(task=tasks.get("fashion-mnist-mini/mlp")).to_dict()
    tensors = {"policy/x": torch.arange(50.0), "torch": torch.get_rng_state()}
    Checkpoint({"config": config, "provenance": {}, "envs": [1, 2]}, tensors).write(folder)

    def read() -> Any:
        found = Checkpoint.read(folder)
        TrainConfig.from_dict(found.value("config"))
        return found.values, {name: tensor.tolist() for name, tensor in found.tensors.items()}

    return [folder / FILE], read


def _record(folder: Path) -> tuple[list[Path], Callable[[], Any]]:
    numbers = [float(x) for x in np.linspace(2, 1, 4)]
    result = dict.fromkeys(
        ("best_val_loss", "test_loss", "test_accuracy", "final_val_loss", "final_test_loss", "final_test_accuracy"), 1.0
    )
    record = Rollout(
        *(tasks.get("fashion-mnist-mini/mlp").to_dict(), 3, 0.01, [10, 20, 30, 40], numbers, numbers, numbers),
        *(numbers, [0.1] * 3, 0.0, 0.0, result | {"best_update": 40, "diverged": False}),
    )
    key = "0123456789abcdef01234567"
    records.write(folder / f"{key}.json", key, record)
    return [folder / f"{key}.json"], lambda: records.read(folder / f"{key}.json")


KINDS = {"controllers": _controller, "ARC's weights": _weights, "checkpoints": _checkpoint, "records": _record}


def hostile_files(count: int, seed: int = 0) -> Outcome:
    """Read damaged files: refused in a line, or the same as before; nothing runs, and nothing else is imported."""
    rng, outcome = random.Random(seed), Outcome()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        bait = folder / "executed"
        made = {kind: make(folder / kind) for kind, make in KINDS.items() if not (folder / kind).mkdir()}
        expected = {kind: read() for kind, (_, read) in made.items()}
        modules = set(sys.modules)
        for _ in range(count):
            kind = rng.choice(list(made))
            files, read = made[kind]
            file = rng.choice(files)
            whole = file.read_bytes()
            content = damaged(whole, rng, bait)
            file.write_bytes(content)
            try:
                failure = None if read() == expected[kind] else "read, and different"
            except LRGymError as error:
                text = str(error)
                failure = f"{len(text)} characters" if len(text) > LONGEST else None
            except BaseException as error:
                failure = f"{type(error).__name__}: {error}"
            if bait.exists():
                failure = "it ran"
            if set(sys.modules) - modules:
                failure = f"it imported {sorted(set(sys.modules) - modules)}"
            outcome.note(f"{kind}, {file.name}, {content[:30]!r}", failure)
            file.write_bytes(whole)
    return outcome
