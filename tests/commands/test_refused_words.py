"""Words that make no sense: one line that says what was got and what is allowed, exit status 2, and nothing left."""

from __future__ import annotations

import importlib
import shutil
from pathlib import Path

import pytest
import tiny

from lr_gym.agents.ppo.checkpoint import FILE, Checkpoint

#: Words in braces are places of the fixture below; {c} is a controller.
TRAIN: list[tuple[str, str]] = [
    ("--task fashion-mnist-mini/lp", "no task is named 'fashion-mnist-mini/lp'. Did you mean 'fashion-mnist-mini/mlp'"),
    ("--task cifar10/lenet5", "download, which failed: no network in tests. Set LR_GYM_DATA (or --data)"),
    ("--episodes 0", "argument --episodes: must be a whole number of at least 1, got '0'"),
    ("--initial-lrs 1e-3 -1", "argument --initial-lrs: must be a positive number such as 1e-3, got '-1'"),
    ("--initial-lrs 20", "must lie in [min_lr, max_lr] = [1e-07, 10], got 20.0"),
    ("--initial-lrs 1e-2 0.01", "--initial-lrs must differ from each other, got [0.01, 0.01]"),
    ("--actor cnn", "argument --actor: invalid choice: 'cnn' (choose from 'mlp', 'lstm')"),
    ("--profile fast", "argument --profile: invalid choice: 'fast' (choose from 'quick', 'paper', 'family')"),
    ("--seed -1", "argument --seed: must be a whole number of at least 0, got '-1'"),
    ("--runs 1", "argument --runs: must be a whole number of at least 2, got '1'"),
    ("--tuning-runs 0", "argument --tuning-runs: must be a whole number of at least 1, got '0'"),
    ("--workers 0", "argument --workers: must be a whole number of at least 1, got '0'"),
    ("--override batchsize=3", "a task has no field 'batchsize'; it has name, data, model|Did you mean 'batch_size'?"),
    ("--epsiodes 3", "unrecognized arguments: --epsiodes 3. Did you mean '--episodes'?"),
    ("--quux 3", "unrecognized arguments: --quux 3. |--help lists all"),
    ("--override budget=25", "budget must be a multiple of decision_interval and at least twice as large: got budget="),
    ("--override batch_size=100000", "batch_size=100000 is more than the "),
    ("--override initial_lrs=[1]", "--override cannot set name or initial_lrs; use --task or --initial-lrs"),
    ("--override optimizer=Adm", "no optimizer is named 'Adm'"),
    ('--override model_options={"widht":3}', "the model 'mlp' refuses model_options={'widht': 3}"),
    ("--device nonsense", "device must be 'cpu' or a GPU that is there, got 'nonsense'"),
    ("--precision double", "argument --precision: invalid choice: 'double'"),
    ("--backend gpu", "argument --backend: invalid choice: 'gpu' (choose from 'auto', 'workers', 'population')"),
    (
        "--out {tmp}/new --backend population --override model=toys:NoisyNet",
        "trainees of the task 'fashion-mnist-mini/mlp' (model 'toys:NoisyNet') cannot be computed at once: vmap: "
        "called random operation|train them one after another (stack=1) or in processes of their own "
        "(vectorization_mode='async', --backend workers)",
    ),
    ("--out {tmp}/new --backend population --override optimizer=LBFGS", "cannot be computed at once: the optimizer 'L"),
    ("--data {tmp}/none", "--data must be a folder, got '{tmp}/none'"),
    ("--out {tmp}/file", "--out must be a folder, {tmp}/file is a file"),
    ("--out {compared}", "{compared} holds a comparison already; choose another --out"),
    ("--out {run}", "{run} holds a run already; continue it with --resume {run}, or choose another --out"),
    ("--plugins {tmp}/none.py", "--plugins must be Python files (name.py), got '{tmp}/none.py'"),
    # -- runs to continue
    ("--resume {tmp}", "nothing to resume in {tmp}: there is no checkpoint/state.safetensors"),
    ("--resume {run} --seed 3 --initial-lrs 1", "continues a run with its own settings; drop --initial-lrs, --seed"),
    ("--resume {run} --backend auto", "continues a run with its own settings; drop --backend"),
    ("--resume {run} --settings gamma=1", "continues a run with its own settings; drop --settings"),
    ("--resume {cut}", "state.safetensors cannot be read as a checkpoint"),
    ("--resume {foreign}", "state.safetensors lacks 'config'"),
    # -- families
    (
        "--task lonely --override budget=40",
        "--override is for single tasks; the family 'lonely' says what its tasks are",
    ),
    ("--task lonely --initial-lrs 0.1 1", "--initial-lrs is for single tasks; the family 'lonely' says what its"),
    ("--task lonely --tuning-runs 2", "--tuning-runs is for single tasks; the family 'lonely' says what its tasks are"),
    ("--task lonely --profile quick", "--profile quick is for single tasks; 'lonely' is a family"),
    ("--profile family", "--profile family is for families of tasks; 'fashion-mnist-mini/mlp' is one task"),
    ("--validation lonely", "--validation is for families; a single task is evaluated on itself"),
    ("--task lonely --validation fashion-mnist-mini/mlp", "--validation must name a family, got the task 'fashion-mni"),
    ("--task uneven", "the tasks of the family 'uneven' differ in their number of decisions; make budget / decision_"),
    ("--task steep", "the initial lr of the task 'steep' must lie in [min_lr, max_lr] = [1e-07, 10], got 20.0"),
    ("--task lonely --validation steep", "the initial lr of the task 'steep' must lie in [min_lr, max_lr]"),
    ("--task lonely --backend population", "replicas need the backend 'workers'"),
    ("--task lonely --backend population --settings replicas=1", "a family's tasks differ from episode to episode and"),
    ("--task lonely --settings trainees=6", "replicas=4 must divide trainees=6"),
    # -- further settings
    ("--settings gama=0.9 gamma=1", "--settings has no gama; it has episodes, seed, actor|Did you mean 'gamma'?"),
    *((f"--settings {name}=1", f"--settings has no {name}") for name in ("task", "validation", "max_lr", "backend")),
    (
        "--settings final_runs=3 tuning_runs=3 device=cpu seed=1 --runs 3 --tuning-runs 3 --device cpu --seed 1",
        "--settings repeats another option: device, final_runs, seed, tuning_runs",
    ),
    ("--settings max_multiplier=1", "max_multiplier must be a finite number above 1, got 1"),
    *((f"--settings {name}", name.partition("=")[0]) for name in ("trainees=many", "seed=x", "observation=[1]")),
]

EVALUATE: list[tuple[str, str]] = [
    ("--controller {tmp}", "no controller in {tmp}: it must hold config.json and model.safetensors"),
    ("--controller {beside}", "results.json is not the result of a training run"),
    ("--controller {ctl} {ctl}", "--controller must differ from each other"),
    ("--controller {ctl} {ctl}/", "two contestants are called controller somewhere; rename a folder or plugin"),
    ("--controller {ctl} {same}", "two contestants are called controller somewhere; rename a folder or plugin"),
    ("--controller {ctl} {damaged}", "model.safetensors is not the file that config.json was written for"),
    ("--controller {tight} --initial-lrs 2", "the initial lr of controller on fashion-mnist-mini/mlp must lie in [min"),
    ("--task fashion-mnist-mini/mpl", "no task is named 'fashion-mnist-mini/mpl'. Did you mean 'fashion-mnist-mini/ml"),
    ("--task universal", "'universal' is a family of tasks, not one task"),
    ("--task fashion-mnist-mini/mlp fashion-mnist-mini/mlp", "--task must differ from each other"),
    ("{c} --agents constant all cosin", "no agent is named 'cosin'. Did you mean 'cosine'?"),
    ("{c} --agents ppo", "the agent 'ppo' refuses the options {}|Its options: controller"),
    ("--agents step:fact=2", "unexpected keyword argument 'fact'. Its options: every, factor"),
    ("--controller Universal", "no controller in Universal: it must|. Did you mean 'universal'?"),
    ("--controller {tmp}/none.zip --allow-pickle", "--controller {tmp}/none.zip: there is no such file"),
    ("{c} --allow-pickle", "--allow-pickle is for --controller NAME.zip, a model of Stable-Baselines3"),
    ("--optimizers prodgy", "--optimizers prodgy needs a learning rate, as prodgy:lr=1e-3|Did you mean 'prodigy'?"),
    ("--agents all all", "--agents must differ from each other, got ['all', 'all']"),
    ("--agents step:every", "step:every: must read field=value, such as batch_size=128, got 'every'"),
    ("--agents step:every=5,fact=2", "the agent 'step' refuses the options {'every': 5, 'fact': 2}"),
    ("--agents kim-yu:score=[1]", "score"),
    ("--plugins {tmp}", "--plugins must be Python files (name.py), got '{tmp}'"),
    ("--plugins {tmp}/file", "--plugins must be Python files (name.py), got '{tmp}/file'"),
    ("--plugins {tmp}/two-words.py", "--plugins must be Python files (name.py), got '{tmp}/two-words.py'"),
    ("--plugins {tmp}/raising.py", "--plugins {tmp}/raising.py cannot be imported: no luck"),
    ("--plugins {tmp}/unreadable.py", "--plugins {tmp}/unreadable.py cannot be imported: "),
    ("--plugins {tmp}/json.py", "--plugins {tmp}/json.py has the name of another module; rename it"),
    ("--plugins {tmp}/taking.py", "the agent 'cosine' is registered already"),
    ("--plugins {tmp}/steep_plugin.py --task far", "the initial lr of the task 'far' must lie in [min_lr, max_lr] = ["),
    ("--initial-lrs 0.1 1e-1", "--initial-lrs must differ from each other, got [0.1, 0.1]"),
    ("{c} --initial-lrs 20", "the initial lr of controller on fashion-mnist-mini/mlp must lie in [min_lr, "),
    ("--runs 1", "argument --runs: must be a whole number of at least 2, got '1'"),
    ("--override batch_size=100000", "batch_size=100000 is more than the "),
    ("--override name=other", "--override cannot set name or initial_lrs; use --task or --initial-lrs"),
    (
        "--tune cosin",
        "no tunable schedule is named 'cosin'. Did you mean 'cosine'? Known: constant, cosine, linear, one-cycle",
    ),
    ("--tune step step", "--tune must differ from each other, got ['step', 'step']"),
    *((f"--{o}", f"argument --{o}: expected at least one") for o in ("controller", "plugins", "tune", "optimizers")),
    ("--tune step --tuning-runs 0", "argument --tuning-runs: must be a whole number of at least 1, got '0'"),
    ("--optimizers prodigy prodigy", "--optimizers must differ from each other, got ['prodigy', 'prodigy']"),
    ("--optimizers AdamW:weight_decay=0.1", "--optimizers AdamW:weight_decay=0.1 needs a learning rate"),
    ("--optimizers AdmW:lr=1e-3", "no optimizer is named 'AdmW'. Did you mean 'AdamW'?"),
    ("--optimizers AdamW:lr", "must read field=value, such as batch_size=128, got 'lr'"),
    *(
        (f"--optimizers AdamW:lr={lr}", f"--optimizers AdamW:lr={lr}: lr must be a positive number such as 1e-3, got")
        for lr in ("fast", "0", "NaN", "[1]", "true")
    ),
    ("--optimizers prodigy:lr=20", "the initial lr of prodigy:lr=20 on fashion-mnist-mini/mlp must lie in [min_lr, ma"),
    ("--optimizers AdamW:lr=1e-3,decay=0.1", "the optimizer 'AdamW' refuses {'decay': 0.1"),
    ("--optimizers SGD:lr=1,momentum=-1", "the optimizer 'SGD' refuses {'momentum': -1"),
    ("{c} --reference step", "no --reference is named 'step'. Known: constant, controller, cosine."),
    ("--tune step --reference step", "no --reference is named 'step'. Known: constant, cosine, tuned step."),
    ("--yardstick cosin", "no --yardstick is named 'cosin'. Did you mean 'cosine'? Known: constant, cosine."),
    ("--optimizers prodigy --yardstick prodgy", "no --yardstick is named 'prodgy'. Did you mean 'prodigy'?"),
    ("--out {tmp}/file", "--out must be a folder, {tmp}/file is a file"),
    ("--out {run}", "--out {run} holds a training; choose another folder, such as {run}/eval"),
    ("--device nonsense", "device must be 'cpu' or a GPU that is there, got 'nonsense'"),
    ("--data {tmp}/none", "--data must be a folder, got '{tmp}/none'"),
]
PLUGINS = {
    "two-words": "",
    "json": "",
    "raising": "raise ValueError('no luck')",
    "unreadable": "def",
    "taking": "import agents; agents.register('cosine', list)",
    "steep_plugin": "import tiny; from lr_gym import tasks; tasks.register(tiny.task(name='far', initial_lrs=(1, 20)))",
}


@pytest.fixture(scope="module")
def places(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Return what words in braces stand for."""
    tmp = tmp_path_factory.mktemp("refused")
    (tmp / "file").write_text("")
    (tmp / "here").mkdir()
    for name, text in PLUGINS.items():
        (tmp / f"{name}.py").write_text(text)
    controller = tmp / "somewhere" / "controller"
    tiny.controller().save(controller)
    tiny.controller(max_lr=1.0).save(tmp / "tight")
    for name in ("damaged", "beside", "other/somewhere"):
        shutil.copytree(controller, tmp / name)
    (tmp / "damaged" / "model.safetensors").write_bytes(b"\x00")
    (tmp / "beside" / "results.json").write_text('{"comparison": null}')
    (tmp / "cut" / FILE).parent.mkdir(parents=True)
    (tmp / "cut" / FILE).write_bytes((finished / FILE).read_bytes()[:-10])
    Checkpoint({"something": "else"}, {}).write(tmp / "foreign")
    (tmp / "compared").mkdir()
    (tmp / "compared" / "results.json").write_text('{"rows": []}')
    found = {name: tmp / name for name in ("damaged", "beside", "tight", "cut", "foreign", "compared")}
    found |= {"tmp": tmp}
    found |= {"ctl": controller, "same": tmp / "other" / "somewhere"}
    return {name: str(place) for name, place in found.items()}


CASES = [("train_controller", *case) for case in TRAIN] + [("eval_transfer", *case) for case in EVALUATE]


@pytest.mark.usefixtures("families")
@pytest.mark.parametrize(("program", "words", "message"), CASES, ids=[" ".join(case[:2]) for case in CASES])
def test_words_that_make_no_sense(
    program: str,
    words: str,
    message: str,
    finished: Path,
    places: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def filled(text: str) -> str:
        for name, place in (places | {"run": str(finished)}).items():
            text = text.replace(f"{{{name}}}", place)
        return text

    folder = Path(places["tmp"])
    monkeypatch.chdir(folder / "here")
    before = sorted(folder.rglob("*"))
    arguments = [filled(word) for word in words.replace("{c}", "--controller {ctl}").split()]
    line = tiny.refused(importlib.import_module(program), capsys, *arguments)
    assert all(part in line for part in filled(message).split("|")), line
    assert sorted(folder.rglob("*")) == before
