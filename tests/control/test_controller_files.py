"""Files of a controller that are damaged or hostile: a clear error, and nothing in them is executed."""

from __future__ import annotations

import dataclasses
import hashlib
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import tiny
import torch

from lr_gym.control.controller import Controller
from lr_gym.control.description import LATER
from lr_gym.errors import FileFormatError


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    folder = tmp_path / "controller"
    tiny.controller().save(folder)
    return folder


def replace_weights(folder: Path, content: bytes) -> None:
    """Put other bytes in the place of the weights, with the hash that says they belong there."""
    (folder / "model.safetensors").write_bytes(content)
    digest = hashlib.sha256(content).hexdigest()
    change_config(weights_sha256=digest)(folder)


def change_tensors(change: Callable[[dict[str, torch.Tensor]], Any]) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        tensors = safetensors.torch.load_file(folder / "model.safetensors")
        change(tensors)
        replace_weights(folder, safetensors.torch.save({k: v.contiguous() for k, v in tensors.items()}))

    return damage


def change_config(**changes: Any) -> Callable[[Path], None]:
    """Return what changes a description and takes its checksum away, which those of earlier versions do not have."""

    def damage(folder: Path) -> None:
        without("config_sha256")(folder)
        tiny.rewrite_json(folder / "config.json", lambda values: values | changes)

    return damage


def without(field: str) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        tiny.rewrite_json(folder / "config.json", lambda values: {k: v for k, v in values.items() if k != field})

    return damage


class Payload:
    """What a pickle that executes code looks like."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> Any:
        return Path.touch, (self.target,)


def test_nothing_in_the_files_is_executed(saved: Path, tmp_path: Path) -> None:
    target = tmp_path / "executed"
    bait = tmp_path / "bait.pt"
    torch.save(Payload(target), bait)
    for content in (pickle.dumps(Payload(target)), bait.read_bytes()):
        replace_weights(saved, content)
        with pytest.raises(FileFormatError, match="holds no valid controller"):
            Controller.load(saved)
        (saved / "config.json").write_bytes(content)
        with pytest.raises(FileFormatError, match="cannot be read as JSON"):
            Controller.load(saved)
        tiny.controller().save(saved)
    assert not target.exists()
    pickle.loads(pickle.dumps(Payload(target)))
    assert target.exists()  # so it would have shown


def truncate(name: str) -> Callable[[Path], Any]:
    return lambda folder: (folder / name).write_bytes((folder / name).read_bytes()[:-7])


DAMAGE: dict[str, tuple[Callable[[Path], Any], str]] = {
    "no config": (lambda folder: (folder / "config.json").unlink(), "must hold config.json and model.safetensors"),
    "no weights": (lambda folder: (folder / "model.safetensors").unlink(), "must hold config.json and model.safet"),
    "truncated weights": (truncate("model.safetensors"), "is not the file that config.json was written for"),
    "truncated config": (truncate("config.json"), "cannot be read as JSON"),
    "empty weights": (lambda folder: replace_weights(folder, b""), "holds no valid controller"),
    "huge header": (lambda folder: replace_weights(folder, b"\xff" * 64), "holds no valid controller"),
    "wrong hash": (change_config(weights_sha256="0" * 64), "is not the file that config.json was written for"),
    "no hash": (change_config(weights_sha256=None), "is not the file that config.json was written for"),
    "list": (lambda folder: (folder / "config.json").write_text("[]"), "no controller of this version"),
    "text": (lambda folder: (folder / "config.json").write_text('"x"'), "no controller of this version"),
    "other format": (change_config(format="other"), "wanted format 'lr_gym.ppo-controller', version 1"),
    "other version": (change_config(version=2), "wanted format 'lr_gym.ppo-controller', version 1"),
    "unknown field": (change_config(surprise=1), "surprise"),
    "extra tensor": (change_tensors(lambda t: t.update(more=torch.zeros(1))), r"unknown \['more'\]"),
    "missing tensor": (change_tensors(lambda t: t.pop("log_std")), r"missing \['log_std'\]"),
    "misshapen": (change_tensors(lambda t: t.update(log_std=torch.zeros(2))), r"'log_std' must .* shape \(1,\); got"),
    "other type": (change_tensors(lambda t: t.update(log_std=torch.zeros(1).double())), "got torch.float64"),
    "nan": (change_tensors(lambda t: t["value_net.bias"].fill_(torch.nan)), "'value_net.bias' must be finite"),
    "infinite": (change_tensors(lambda t: t["value_net.bias"].fill_(torch.inf)), "'value_net.bias' must be finite"),
    "features": (change_config(features=["a"] * 8), "unknown observation"),
    "few features": (change_config(features=["train_loss"]), "unknown observation"),
    "no features": (change_config(features=None), "holds no valid controller"),
    "action": (change_config(action="other"), "action must be 'continuous' or 'discrete', got 'other'"),
    "actor": (change_config(actor="transformer"), "unknown networks: actor='transformer'"),
    "other actor": (change_config(actor="lstm"), "tensors do not fit its description"),
    "lengths": (change_config(mean=[0.0]), "must have equal lengths"),
    "nan mean": (change_config(mean=[float("nan")] * 8), "it holds NaN, which is no number"),
    "text mean": (change_config(mean=["0"] * 8), "must be finite numbers"),
    "variance": (change_config(variance=[-1.0] * 8), "variances must not be negative"),
    "bounds": (change_config(low=[1.0] * 8, high=[-1.0] * 8), "."),
    "epsilon": (change_config(epsilon=-5.0), "."),
    "zero division": (change_config(epsilon=0.0, variance=[0.0] * 8), "."),
    "clip": (change_config(clip=-1.0), "."),
    "multiplier": (change_config(max_multiplier=0.5), "max_multiplier must be a finite number above 1"),
    "text multiplier": (change_config(max_multiplier="2"), "holds no valid controller"),
    "text lr": (change_config(min_lr="small"), "."),
}


def test_damaged_files(saved: Path) -> None:
    files = {path: path.read_bytes() for path in saved.iterdir()}
    for kind, (damage, message) in DAMAGE.items():
        for path, content in files.items():
            path.write_bytes(content)
        Controller.load(saved)
        damage(saved)
        with pytest.raises(FileFormatError, match=message):
            pytest.fail(f"{kind}: {Controller.load(saved)}")


EDITS: dict[str, Any] = {
    "mean": [0.1] * 8,
    "variance": [2.0] * 8,
    "clip": 1.0,
    "max_multiplier": 3.0,
    "min_lr": 1e-6,
    "max_lr": 1.0,
    "action": "discrete",
    "provenance": {"command": "another"},
    "low": [-9.0] * 8,
    "hidden_size": 5,
}


@pytest.mark.parametrize("field", EDITS)
def test_an_edited_description(field: str, saved: Path) -> None:
    """It would load, and act differently."""
    tiny.rewrite_json(saved / "config.json", lambda values: values | {field: EDITS[field]})
    with pytest.raises(
        FileFormatError, match=r"config.json was changed after it was written: its checksum does not fit"
    ):
        Controller.load(saved)


def test_what_no_controller_holds(saved: Path) -> None:
    """Even without a checksum: names twice, depth, numbers beyond all bounds."""
    whole = (saved / "config.json").read_text()
    without("config_sha256")(saved)
    plain = (saved / "config.json").read_text()
    deep = "[" * 900 + "]" * 900
    for text in (
        whole[:-3] + ', "clip": 1.0}',
        plain.replace('{"command": "by hand"}', f'{{"command": {deep}}}'),
        *(plain.replace('"max_multiplier": 2.0', f'"max_multiplier": {x}') for x in ("1e308", "true", "1e999", "-1")),
        plain.replace('"max_lr": 10.0', '"max_lr": 1e-9'),
        plain.replace('"mean": [', '"mean": [1e308, ').replace('"variance": [', '"variance": [1.0, '),
    ):
        assert text not in (whole, plain)
        (saved / "config.json").write_text(text)
        with pytest.raises(FileFormatError) as caught:
            Controller.load(saved)
        assert len(str(caught.value)) < 500


def test_sizes_and_fields_and_folders_that_are_none(saved: Path, tmp_path: Path) -> None:
    whole = (saved / "config.json").read_bytes()
    bad = [change_config(hidden_size=size) for size in (10**9, 4097, 0, -4, 4.5, "4", None, [4], 10**400)]
    required = {f.name for f in dataclasses.fields(tiny.description())} - {"provenance", *LATER}
    bad += [without(field) for field in required | {"format", "version", "weights_sha256"}]
    for damage in bad:
        (saved / "config.json").write_bytes(whole)
        damage(saved)
        with pytest.raises(FileFormatError):
            Controller.load(saved)
    with pytest.raises(FileFormatError, match=r"no controller in .*nowhere: it must hold config\.json"):
        Controller.load(tmp_path / "nowhere")
