"""Who is compared: agents and optimizers by words with options, and controllers, with the step decays beside them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
from command_toys import MLP, keys, names, prepared
from stable_baselines3 import PPO

from lr_gym import LRTrainingEnv, agents
from lr_gym.control import controller as controller_module
from lr_gym.control.controller import Controller
from lr_gym.errors import InvalidArgumentError, Notice
from lr_gym.evaluation import Cell


def test_all_agents() -> None:
    fixed = set(agents.names()) - {"ppo", "playback", "sb3", "shuffled"}
    every = names(prepared("--agents", "all"))
    assert every == ["constant", *sorted(fixed - {"constant"})]
    assert len(every) > 8
    ahead = names(prepared("--agents", "cosine", "all", "step:every=7"))
    assert (ahead[0], ahead[-1]) == ("cosine", "step:every=7")
    assert sorted(ahead[:-1]) == sorted(fixed)  # none twice


@pytest.mark.parametrize(
    ("word", "options"),
    [
        ("step:every=5,factor=0.5", {"every": 5, "factor": 0.5}),
        ("kim-yu:every=1e2,factors=[4, 1, 0.25]", {"every": 100.0, "factors": [4, 1, 0.25]}),
        ("autolr:rollback=never,replay=true,every=20", {"rollback": "never", "replay": True, "every": 20}),
        ("line-search:initial=null", {"initial": None}),
    ],
)
def test_options_in_names(word: str, options: dict[str, Any]) -> None:
    (contestant,) = prepared(*MLP, "--agents", word).contestants.everywhere
    name = word.partition(":")[0]
    assert (contestant.name, contestant.identity) == (word, {"agent": name, "options": options})
    assert type(contestant.agent) is type(agents.make(name))
    for option in options.keys() & vars(contestant.agent).keys():
        assert np.all(getattr(contestant.agent, option) == np.array(options[option], dtype=object))
    json.dumps(contestant.identity, allow_nan=False)


# -- controllers -------------------------------------------------------------------------------------------------------


def trained(folder: Path, seed: int = 0, decay: tuple[float, int, float] | None = None, **changes: Any) -> str:
    """Write what a training run leaves: a controller, and beside it the step decay that was tuned on its task."""
    tiny.controller(seed=seed, **changes).save(folder / "controller")
    if decay is not None:
        best = dict(zip(("initial_lr", "every", "factor"), decay, strict=True))
        (folder / "results.json").write_text(json.dumps({"comparison": {"best_step_decay": best}}))
    return str(folder)


def test_a_controller_as_an_agent(controller: Path) -> None:
    word = f"ppo:controller={controller}"
    plan = prepared("--controller", str(controller), "--agents", "constant", word, f"ppo:controller={controller}/")
    assert names(plan) == ["controller", "constant", word, f"{word}/"]
    first, constant, *others = plan.contestants.everywhere
    for other in others:
        assert other.identity == first.identity == {"controller": Controller.load(controller).fingerprint}
        assert other.env_options == first.env_options == Controller.load(controller).env_options
    assert constant.env_options == {"max_multiplier": 1e4} != first.env_options


def test_several_controllers_are_named_after_their_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = Path(trained(tmp_path / "first", 1))
    monkeypatch.chdir(trained(tmp_path / "second", 2, max_multiplier=4.0))
    tiny.controller(seed=3).save(tmp_path / "bare")
    folders = (str(first / "controller"), ".", "../bare")
    plan = prepared(*MLP, "--controller", *folders, "--agents", "cosine")
    assert names(plan) == ["controller first", "controller second", "controller bare", "cosine"]
    loaded = [Controller.load(folder) for folder in folders]
    learned = plan.contestants.everywhere[:3]
    assert [c.identity for c in learned] == [{"controller": one.fingerprint} for one in loaded]
    assert [c.env_options["max_multiplier"] for c in learned] == [2.0, 4.0, 2.0]
    assert len(set(keys(plan))) == 4 * 3
    assert names(prepared(*MLP, "--controller", "../bare"))[0] == "controller"  # the only one needs no other name


def test_a_controller_of_the_package_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where the current folder holds what another comparison left."""
    monkeypatch.setattr(controller_module, "SHIPPED", tmp_path / "package")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "results.json").write_text('{"rows": []}')
    tiny.controller(seed=1).save(tmp_path / "package" / "general")
    run = trained(tmp_path / "special", seed=2, decay=(0.1, 10, 0.9))
    plan = prepared(*MLP, "--controller", "general", run)
    assert names(plan)[:2] == ["general", "controller special"]
    learned = Controller.load(tmp_path / "package" / "general")
    assert plan.contestants.everywhere[0].identity == {"controller": learned.fingerprint}
    assert len(plan.contestants.own_start) == 1
    tiny.controller().save(tmp_path / "mine")
    for name in ("general", "mine"):
        alone = prepared(*MLP, "--controller", name).contestants
        assert (alone.names[0], alone.own_start) == ("general" if name == "general" else "controller", [])


def test_each_controllers_step_decay_is_transferred(tmp_path: Path) -> None:
    decays = {"a": (0.1, 10, 0.9), "b": (0.01, 50, 0.88), "c": (0.1, 10, 0.9), "d": None}
    folders = [trained(tmp_path / name, seed, decay) for seed, (name, decay) in enumerate(decays.items())]
    (tmp_path / "d" / "results.json").write_text('{"family_comparison": {}}')  # which has no step decay of its own
    folders[1] += "/controller"
    own = prepared(*MLP, "--controller", *folders).contestants.own_start
    assert [(contestant.name, lr, contestant.identity) for contestant, lr in own] == [
        (f"transferred step decay (lr {lr:g}, x{x} every {n} updates)", lr, {"agent": "step", "options": options})
        for lr, n, x in (decays["a"], decays["b"])
        for options in [{"every": n, "factor": x}]
    ]


# -- optimizers --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("word", "optimizer", "options", "lr"),
    [
        ("prodigy", "prodigy", {}, 1.0),
        ("schedule-free-adamw", "schedule-free-adamw", {}, 2.5e-3),
        ("schedule-free-sgd:lr=3", "schedule-free-sgd", {}, 3.0),
        ("AdamW:weight_decay=0.1,lr=1e-3,betas=[0.8, 0.9]", "AdamW", {"weight_decay": 0.1, "betas": [0.8, 0.9]}, 1e-3),
        ("SGD:lr=0.5,momentum=0.9,nesterov=true", "SGD", {"momentum": 0.9, "nesterov": True}, 0.5),
        ("torch.optim:SGD:lr=0.1,momentum=0.9", "torch.optim:SGD", {"momentum": 0.9}, 0.1),
    ],
)
def test_optimizers(word: str, optimizer: str, options: dict[str, Any], lr: float) -> None:
    plan = prepared(*MLP, "--override", "optimizer=SGD", 'optimizer_options={"momentum":0.5}', "--optimizers", word)
    ((contestant, initial_lr),) = plan.contestants.own_start
    assert (contestant.name, initial_lr) == (word, lr)
    trained = Cell(plan.tasks[0], contestant, initial_lr, 0).trained
    assert (trained.optimizer, dict(trained.optimizer_options)) == (optimizer, options)  # none of the task's
    assert trained.replace(optimizer="SGD", optimizer_options={"momentum": 0.5}) == plan.tasks[0]
    json.dumps(contestant.identity, allow_nan=False)


# -- models of Stable-Baselines3 ---------------------------------------------------------------------------------------


def test_a_model_of_stable_baselines(tmp_path: Path) -> None:
    """It is a pickle, which somebody has to allow; then it is a contestant as a controller is."""
    env = LRTrainingEnv(tiny.task(), max_multiplier=3.0)
    agent = agents.SB3Agent(PPO("MlpPolicy", env, n_steps=8, batch_size=8, seed=0, device="cpu"))
    for name in ("mine", "yours"):
        agent.save(tmp_path / name)
    words = ("--controller", str(tmp_path / "mine.zip"))
    with pytest.raises(InvalidArgumentError, match=r"mine\.zip is a model of Stable-Baselines3, a pickle.*--allow-pic"):
        prepared(*MLP, *words, "--agents", "constant")
    with pytest.warns(Notice, match=r"mine\.zip is a pickle, and reading it can run any code"):
        found = prepared(*MLP, *words, "--agents", "constant", "--allow-pickle").contestants.everywhere[0]
    assert (found.name, found.identity) == ("controller", {"sb3": agent.fingerprint})
    assert found.agent.env_options["max_multiplier"] == 3.0
    with pytest.warns(Notice):
        both = prepared(*MLP, *words, str(tmp_path / "yours.zip"), "--allow-pickle")
    assert names(both)[:2] == ["controller mine", "controller yours"]
    word = f"sb3:model={tmp_path / 'mine.zip'},allow_pickle=true"
    with pytest.warns(Notice, match="you have said that you trust it"):
        (chosen,) = prepared(*MLP, "--agents", word).contestants.everywhere
    assert chosen.identity["fingerprint"] == agent.fingerprint


def test_rows_have_the_names_that_they_are_given() -> None:
    """Records do not depend on it."""
    words = ("cosine:name=mine", "step:every=2,name=other one,factor=0.5", "cosine:name=1")
    found = prepared(*MLP, "--agents", *words, "--optimizers", "Adam:name=slow,lr=0.1").contestants
    assert found.names == ["mine", "other one", "1", "slow"]
    assert found.everywhere[0].identity == {"agent": "cosine", "options": {}}
    (plain,) = prepared(*MLP, "--agents", "step:every=2,factor=0.5").contestants.everywhere
    assert found.everywhere[1].identity == plain.identity
    with pytest.raises(InvalidArgumentError, match="cosine:name=: name must not be empty"):
        prepared(*MLP, "--agents", "cosine:name=")
