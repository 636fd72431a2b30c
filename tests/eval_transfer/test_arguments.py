"""What the command line takes if nothing is said, what it tells about itself, and what it refuses."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import pytest
import tiny
from transfer_toys import failed, prepared

import eval_transfer
from lr_gym.control.controller import Controller
from lr_gym.evaluation import Cell


def test_defaults(controller: Path) -> None:
    plan = prepared("--controller", str(controller))
    assert [task.name for task in plan.tasks] == ["fashion-mnist-mini/mlp", "fashion-mnist-mini/lenet5"]
    assert [contestant.name for contestant in plan.contestants] == ["controller", "constant", "cosine"]
    assert plan.initial_lrs == {task.name: task.initial_lrs for task in plan.tasks}
    assert len(set(plan.seeds)) == 10
    assert plan.env == {"device": "cpu"}
    assert plan.contestants[0].env_options == Controller.load(controller).description.env_options()
    assert [contestant.env_options for contestant in plan.contestants[1:]] == [{"max_multiplier": 1e4}] * 2
    assert plan.own_start == []
    assert plan.tune == {task.name: {} for task in plan.tasks}
    assert plan.tuning_episodes == 0
    assert plan.seeds == prepared("--controller", str(controller), "--seed", "0").seeds
    assert set(plan.seeds).isdisjoint(prepared("--controller", str(controller), "--seed", "1").seeds)


def test_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert failed("--help") == 0
    text = capsys.readouterr().out
    for field in dataclasses.fields(eval_transfer.Arguments):
        assert f"--{field.name.replace('_', '-')} " in text


def test_overrides_reach_every_task(controller: Path) -> None:
    plan = prepared("--controller", str(controller), "--override", "budget=40", "optimizer=SGD")
    assert [(task.budget, task.optimizer) for task in plan.tasks] == [(40, "SGD")] * 2


def test_a_controller_trained_with_the_papers_features(tmp_path: Path) -> None:
    about = tiny.description()
    short = {key: getattr(about, key)[:7] for key in ("features", "low", "high", "mean", "variance")}
    tiny.controller(**short).save(tmp_path)
    plan = prepared("--controller", str(tmp_path))
    assert plan.contestants[0].env_options["observe_progress"] is False
    cell = Cell(plan.tasks[0], plan.contestants[0], 1e-3, 0, plan.env)
    assert cell.env_options == plan.contestants[0].env_options | {"device": "cpu"}


REFUSED: list[tuple[str, str]] = [
    ("--controller {tmp}/none", "no controller in {tmp}/none: it must hold config.json and model.safetensors"),
    ("--controller {tmp}", "no controller in {tmp}: it must hold config.json and model.safetensors"),
    ("--controller {damaged}", "model.safetensors is not the file that config.json was written for"),
    ("--controller {beside}", "results.json is not the result of a training run"),
    (
        "{c} --task fashion-mnist-mini/mpl",
        "no task is named 'fashion-mnist-mini/mpl'. Did you mean 'fashion-mnist-mini/mlp'",
    ),
    ("{c} --task universal", "'universal' is a family of tasks, not one task"),
    ("{c} --task absent/mlp", "the data set 'absent' is in none of these places"),
    ("{c} --task fashion-mnist-mini/mlp fashion-mnist-mini/mlp", "--task must differ from each other"),
    ("{c} --agents cosin", "no agent is named 'cosin'. Did you mean 'cosine'?"),
    ("{c} --agents ppo", "the agent 'ppo' refuses the options {}"),
    ("{c} --agents cosine cosine", "--agents must differ from each other, got ['cosine', 'cosine']"),
    ("--agents cosin", "no agent is named 'cosin'. Did you mean 'cosine'?"),
    ("--agents all all", "--agents must differ from each other, got ['all', 'all']"),
    ("--agents constant all cosin", "no agent is named 'cosin'"),
    ("--agents step:every", "must read field=value, such as batch_size=128, got 'every'"),
    ("--agents step:=3", "must read field=value"),
    ("--agents step:every=2.5", "every must be a whole number of at least 1, got 2.5"),
    ("--agents step:evry=2", "the agent 'step' refuses the options {'evry': 2}"),
    ("--agents step:every=5,fact=2", "the agent 'step' refuses the options {'every': 5, 'fact': 2}"),
    ("--agents step:name=3", "the agent 'step' refuses the options {'name': 3}"),
    ("--agents kim-yu:score=[1]", "score"),
    ("--agents kim-yu:factors=[2,-1]", "factors must be 3, 5, 7 or a list of 2 or more positive numbers, got [2, -1]"),
    ("--agents kim-yu:every=never", "every ('epoch', or a number of updates) must lie in [1, inf), got 'never'"),
    ("--agents ppo:controller={tmp}/none", "no controller in {tmp}/none"),
    ("--agents ppo:controller={damaged}", "model.safetensors is not the file that config.json was written for"),
    ("--agents all --initial-lrs 20", "must lie in [min_lr, max_lr] = [1e-07, 10], got 20.0"),
    ("--plugins {tmp}/none.py", "--plugins must be Python files (name.py), got '{tmp}/none.py'"),
    ("--plugins {tmp}", "--plugins must be Python files (name.py), got '{tmp}'"),
    ("--plugins {tmp}/file", "--plugins must be Python files (name.py), got '{tmp}/file'"),
    ("--plugins {tmp}/two-words.py", "--plugins must be Python files (name.py), got '{tmp}/two-words.py'"),
    ("--plugins {tmp}/raising.py", "--plugins {tmp}/raising.py cannot be imported: no luck"),
    ("--plugins {tmp}/unreadable.py", "--plugins {tmp}/unreadable.py cannot be imported: "),
    ("--plugins {tmp}/json.py", "--plugins {tmp}/json.py has the name of another module; rename it"),
    ("--plugins {tmp}/taking.py", "the agent 'cosine' is registered already"),
    ("--plugins", "argument --plugins: expected at least one argument"),
    ("{c} --initial-lrs abc", "argument --initial-lrs: must be a positive number such as 1e-3, got 'abc'"),
    ("{c} --initial-lrs -1", "argument --initial-lrs: must be a positive number such as 1e-3, got '-1'"),
    ("{c} --initial-lrs nan", "argument --initial-lrs: must be a positive number such as 1e-3, got 'nan'"),
    ("{c} --initial-lrs 0.1 1e-1", "--initial-lrs must differ from each other, got [0.1, 0.1]"),
    ("{c} --initial-lrs 20", "the initial lr of controller on fashion-mnist-mini/mlp must lie in [min_lr, "),
    (
        "--controller {tight} --initial-lrs 2",
        "the initial lr of controller on fashion-mnist-mini/mlp must lie in [min_",
    ),
    ("{c} --runs 1", "argument --runs: must be a whole number of at least 2, got '1'"),
    ("{c} --seed -1", "argument --seed: must be a whole number of at least 0, got '-1'"),
    ("{c} --workers none", "argument --workers: must be a whole number of at least 1, got 'none'"),
    ("{c} --override batchsize=3", "a task has no field 'batchsize'; it has name, data, model"),
    ("{c} --override batch_size", "argument --override: must read field=value"),
    ("{c} --override budget=25", "budget must be a multiple of decision_interval"),
    ("{c} --override batch_size=100000", "batch_size=100000 is more than the "),
    ("{c} --override name=other", "--override cannot set name or initial_lrs; use --task or --initial-lrs"),
    ("{c} --override initial_lrs=[0.1]", "--override cannot set name or initial_lrs; use --task or --initial-lrs"),
    ("--controller {ctl} {ctl}", "--controller must differ from each other"),
    ("--controller {ctl} {ctl}/", "two contestants are called controller somewhere; rename a folder or plugin"),
    ("--controller {ctl} {above}", "two contestants are called controller somewhere; rename a folder or plugin"),
    ("--controller {ctl} {same}", "two contestants are called controller somewhere; rename a folder or plugin"),
    ("--controller {ctl} {damaged}", "model.safetensors is not the file that config.json was written for"),
    ("--controller", "argument --controller: expected at least one argument"),
    ("--tune cosin", "no tunable schedule is named 'cosin'. Did you mean 'cosine'? Known: constant, cosine, one-cycle"),
    ("--tune all", "no tunable schedule is named 'all'"),
    ("--tune step:every=5", "no tunable schedule is named 'step:every=5'"),
    ("--tune step step", "--tune must differ from each other, got ['step', 'step']"),
    ("--tune", "argument --tune: expected at least one argument"),
    ("--tune step --tuning-runs 0", "argument --tuning-runs: must be a whole number of at least 1, got '0'"),
    ("--tune step --tuning-runs 2.5", "argument --tuning-runs: must be a whole number of at least 1, got '2.5'"),
    ("--optimizers prodigy prodigy", "--optimizers must differ from each other, got ['prodigy', 'prodigy']"),
    ("--optimizers AdamW", "--optimizers AdamW needs a learning rate, as AdamW:lr=1e-3; known without: prodigy, "),
    ("--optimizers AdamW:weight_decay=0.1", "--optimizers AdamW:weight_decay=0.1 needs a learning rate"),
    ("--optimizers prodgy", "--optimizers prodgy needs a learning rate, as prodgy:lr=1e-3; known without: prodigy, "),
    ("--optimizers AdmW:lr=1e-3", "no optimizer is named 'AdmW'. Did you mean 'AdamW'?"),
    ("--optimizers AdamW:lr", "must read field=value, such as batch_size=128, got 'lr'"),
    ("--optimizers AdamW:lr=fast", "must be a positive number such as 1e-3, got 'fast'"),
    ("--optimizers AdamW:lr=0", "must be a positive number such as 1e-3, got '0'"),
    ("--optimizers AdamW:lr=-1e-3", "must be a positive number such as 1e-3, got '-0.001'"),
    ("--optimizers AdamW:lr=NaN", "must be a positive number such as 1e-3, got 'nan'"),
    ("--optimizers AdamW:lr=[1]", "must be a positive number such as 1e-3, got '[1]'"),
    ("--optimizers AdamW:lr=true", "must be a positive number such as 1e-3, got 'True'"),
    (
        "--optimizers prodigy:lr=20",
        "the initial lr of prodigy:lr=20 on fashion-mnist-mini/mlp must lie in [min_lr, max_",
    ),
    ("--optimizers AdamW:lr=1e-3,decay=0.1", "the optimizer 'AdamW' refuses {'decay': 0.1"),
    ("--optimizers prodigy:tempo=1", "the optimizer 'prodigy' refuses {'tempo': 1}"),
    ("--optimizers SGD:lr=1,momentum=-1", "the optimizer 'SGD' refuses {'momentum': -1"),
    ("--optimizers", "argument --optimizers: expected at least one argument"),
    ("--reference cosin", "no --reference is named 'cosin'. Did you mean 'cosine'? Known: constant, cosine."),
    ("{c} --reference step", "no --reference is named 'step'. Known: constant, controller, cosine."),
    ("--tune step --reference step", "no --reference is named 'step'. Known: constant, cosine, tuned step."),
    ("--yardstick cosin", "no --yardstick is named 'cosin'. Did you mean 'cosine'? Known: constant, cosine."),
    ("--optimizers prodigy --yardstick prodgy", "no --yardstick is named 'prodgy'. Did you mean 'prodigy'?"),
    ("--reference constant cosine", "unrecognized arguments: cosine"),
    ("{c} --out {tmp}/file", "--out must be a folder, {tmp}/file is a file"),
    ("{c} --out {tmp}/file/below", "{tmp}/file"),
    ("{c} --device nonsense", "device must be 'cpu' or a GPU that is there, got 'nonsense'"),
    ("{c} --data {tmp}/none", "--data must be a folder, got '{tmp}/none'"),
    ("{c} --actor mlp", "unrecognized arguments: --actor mlp"),
]
PLUGINS = {
    "two-words.py": "",
    "json.py": "",
    "raising.py": "raise ValueError('no luck')",
    "unreadable.py": "def",
    "taking.py": "import agents; agents.register('cosine', list)",
}


@pytest.mark.parametrize(("words", "message"), REFUSED, ids=[words for words, _ in REFUSED])
def test_arguments_that_make_no_sense(
    words: str, message: str, controller: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], clean: None
) -> None:
    (tmp_path / "file").write_text("")
    for file, text in PLUGINS.items():
        (tmp_path / file).write_text(text)
    for name in ("damaged", "beside", "other/somewhere"):
        shutil.copytree(controller, tmp_path / name)
    tiny.controller(max_lr=1.0).save(tmp_path / "tight")
    (tmp_path / "damaged" / "model.safetensors").write_bytes(b"\x00")
    (tmp_path / "beside" / "results.json").write_text('{"comparison": null}')
    before = sorted(tmp_path.rglob("*"))
    places = {name: tmp_path / name for name in ("damaged", "beside", "tight")} | {"tmp": tmp_path}
    places |= {"ctl": controller, "above": controller.parent, "same": tmp_path / "other" / "somewhere"}

    def filled(text: str) -> str:
        for name, place in places.items():
            text = text.replace(f"{{{name}}}", str(place))
        return text

    arguments = filled(words).replace("{c}", f"--controller {controller}").split()
    assert filled(message) in tiny.refused(eval_transfer, capsys, *arguments)
    assert sorted(tmp_path.rglob("*")) == before
