"""Who is compared: agents by their names, with options in them, and controllers, with the step decays beside them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import tiny
from transfer_toys import ARGUMENTS, MLP, Episodes, names, prepared, rows, run

import eval_transfer
from lr_gym import agents
from lr_gym.control import controller as controller_module
from lr_gym.control.controller import Controller
from lr_gym.errors import InvalidArgumentError
from lr_gym.evaluation import Cell


def test_without_a_controller_the_first_agent_is_the_reference(
    episodes: Episodes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plan = prepared()
    assert names(plan) == ["constant", "cosine"]
    assert (plan.env, plan.own_start) == ({"device": "cpu"}, [])
    run(*ARGUMENTS, "--out", str(tmp_path))
    assert [(row["agent"], row["reference"]) for row in rows(tmp_path)] == [
        ("constant", None),
        ("constant", None),
        ("step", "constant from 0.01"),
        ("step", "constant from 0.001"),
    ]
    assert {row["cost"] for row in rows(tmp_path)} == {1.0}
    assert "Reference: constant. p: Welch's" in (tmp_path / "table.md").read_text()
    text = capsys.readouterr().out
    assert "Reference: constant. p: Welch's" in text
    assert "All tasks" not in text  # of one task and two agents there is nothing more to say


def test_all_agents() -> None:
    fixed = set(agents.names()) - {"ppo"}
    every = names(prepared("--agents", "all"))
    assert every == ["constant", *sorted(fixed - {"constant"})]
    assert len(every) > 8
    ahead = names(prepared("--agents", "cosine", "all"))
    assert (ahead[0], set(ahead), len(ahead)) == ("cosine", fixed, len(fixed))  # none twice
    more = names(prepared("--agents", "all", "step:every=7"))
    assert more == [*every, "step:every=7"]


def test_all_agents_are_run(tmp_path: Path, capsys: Any, monkeypatch: Any) -> None:
    """With records that are invented: agents have tests of their own. The screen shows the overview."""
    monkeypatch.setattr(Cell, "run", lambda cell: tiny.record(seed=cell.seed, extra=(6.0, 3.0)))
    monkeypatch.setattr(eval_transfer, "write_results", lambda *_, **__: None)
    monkeypatch.setenv("COLUMNS", "300")
    words = ("--task", "fashion-mnist-mini/mlp", "--agents", "all", *ARGUMENTS[ARGUMENTS.index("--initial-lrs") :])
    tiny.run_main(eval_transfer, *words, "--out", str(tmp_path))
    text = capsys.readouterr().out
    assert "from 0.01" in text
    assert "test accuracy" not in text
    assert "**" not in text
    by_task, over_all = text.split("All tasks: test loss over that of the lowest of the task")
    for part in (by_task, over_all):
        lines = [line for line in part.splitlines() if " 1.10 " in line]  # 1 + (6 + 2 * 3) / (3 * 40)
        assert [line.split()[1] for line in lines] == names(prepared("--agents", "all"))


@pytest.mark.parametrize(
    ("word", "name", "options"),
    [
        ("cosine", "cosine", {}),
        ("step:every=5", "step", {"every": 5}),
        ("step:every=5,factor=0.5", "step", {"every": 5, "factor": 0.5}),
        ("kim-yu:factors=[2,1,0.5],every=epoch", "kim-yu", {"factors": [2, 1, 0.5], "every": "epoch"}),
        ("kim-yu:every=epoch,factors=[4, 1, 0.25]", "kim-yu", {"every": "epoch", "factors": [4, 1, 0.25]}),
        ("kim-yu:every=1e2", "kim-yu", {"every": 100.0}),
        ("autolr:rollback=never,replay=true,every=20", "autolr", {"rollback": "never", "replay": True, "every": 20}),
        ("line-search:initial=null", "line-search", {"initial": None}),
        ("alr:factors=[3,1],beam=3", "alr", {"factors": [3, 1], "beam": 3}),
    ],
)
def test_options_in_names(word: str, name: str, options: dict[str, Any]) -> None:
    (contestant,) = prepared("--task", "fashion-mnist-mini/mlp", "--agents", word).contestants
    assert (contestant.name, contestant.identity) == (word, {"agent": name, "options": options})
    assert type(contestant.agent) is type(agents.make(name))
    for option, value in options.items():
        if hasattr(contestant.agent, option):
            got = getattr(contestant.agent, option)
            assert (list(got) if isinstance(got, tuple) else got) == value
    json.dumps(contestant.identity, allow_nan=False)


def test_an_agent_with_other_options_is_another() -> None:
    words = ("step", "step:every=5", "step:every=6", "step:every=5,factor=0.5")
    plan = prepared("--task", "fashion-mnist-mini/mlp", "--agents", *words)
    assert names(plan) == list(words)
    assert len({Cell(plan.tasks[0], one, 1e-3, 0).key for one in plan.contestants}) == 4


def test_a_controller_as_an_agent(controller: Path) -> None:
    word = f"ppo:controller={controller}"
    plan = prepared("--controller", str(controller), "--agents", "constant", word, f"ppo:controller={controller}/")
    assert names(plan) == ["controller", "constant", word, f"{word}/"]
    first, constant, *others = plan.contestants
    for other in others:
        assert other.identity == first.identity == {"controller": Controller.load(controller).fingerprint}
        assert other.env_options == first.env_options == Controller.load(controller).env_options
    assert constant.env_options != first.env_options
    assert names(prepared("--agents", word, "cosine")) == [word, "cosine"]


# -- several controllers -----------------------------------------------------------------------------------------------


def trained(folder: Path, seed: int = 0, decay: tuple[float, int, float] | None = None, **changes: Any) -> Path:
    """Write what a training run leaves: a controller, and beside it the step decay that was tuned on its task."""
    tiny.controller(seed=seed, **changes).save(folder / "controller")
    if decay is not None:
        best = dict(zip(("initial_lr", "every", "factor"), decay, strict=True))
        (folder / "results.json").write_text(json.dumps({"comparison": {"best_step_decay": best}}))
    return folder


def test_several_controllers_are_named_after_their_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = trained(tmp_path / "first", 1), trained(tmp_path / "second", 2, max_multiplier=4.0)
    tiny.controller(seed=3).save(tmp_path / "bare")
    monkeypatch.chdir(second)
    folders = (str(first / "controller"), ".", "../bare")
    plan = prepared(*MLP, "--controller", *folders, "--agents", "cosine")
    assert names(plan) == ["controller first", "controller second", "controller bare", "cosine"]
    loaded = [Controller.load(folder) for folder in folders]
    assert [c.identity for c in plan.contestants[:3]] == [{"controller": one.fingerprint} for one in loaded]
    assert [c.env_options["max_multiplier"] for c in plan.contestants[:3]] == [2.0, 4.0, 2.0]
    assert len({Cell(plan.tasks[0], c, 1e-3, 0).key for c in plan.contestants}) == 4
    assert names(prepared(*MLP, "--controller", "../bare"))[0] == "controller"  # the only one needs no other name


def test_a_controller_that_is_renamed_is_told_apart(tmp_path: Path) -> None:
    """The message about two of one name says what to do, and that helps."""
    folders = [str(trained(tmp_path / place / "run")) for place in ("a", "b")]
    with pytest.raises(InvalidArgumentError, match="two contestants are called controller run; rename a folder"):
        prepared(*MLP, "--controller", *folders)
    (tmp_path / "b" / "run").rename(tmp_path / "b" / "other")
    folders[1] = str(tmp_path / "b" / "other")
    assert names(prepared(*MLP, "--controller", *folders))[:2] == ["controller run", "controller other"]


def test_a_controller_of_the_package_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(controller_module, "SHIPPED", tmp_path / "package")
    monkeypatch.chdir(tmp_path)
    tiny.controller(seed=1).save(tmp_path / "package" / "general")
    run_folder = trained(tmp_path / "special", seed=2, decay=(0.1, 10, 0.9))
    plan = prepared(*MLP, "--controller", "general", str(run_folder))
    assert names(plan)[:2] == ["general", "controller special"]
    assert names(prepared(*MLP, "--controller", "general"))[0] == "general"
    learned = Controller.load(tmp_path / "package" / "general")
    assert plan.contestants[0].identity == {"controller": learned.fingerprint}
    assert len(plan.own_start) == 1


def test_each_controllers_step_decay_is_transferred(tmp_path: Path) -> None:
    decays = {"a": (0.1, 10, 0.9), "b": (0.01, 50, 0.88), "c": (0.1, 10, 0.9), "d": None}
    folders = [str(trained(tmp_path / name, seed, decay)) for seed, (name, decay) in enumerate(decays.items())]
    (tmp_path / "d" / "results.json").write_text('{"family_comparison": {}}')  # which has no step decay of its own
    folders[1] += "/controller"
    plan = prepared(*MLP, "--controller", *folders)
    assert [(contestant.name, lr) for contestant, lr in plan.own_start] == [
        ("transferred step decay (lr 0.1, x0.9 every 10 updates)", 0.1),
        ("transferred step decay (lr 0.01, x0.88 every 50 updates)", 0.01),
    ]
    options = [contestant.identity for contestant, _ in plan.own_start]
    assert options == [{"agent": "step", "options": {"every": n, "factor": x}} for n, x in ((10, 0.9), (50, 0.88))]


def test_two_controllers_and_their_step_decays_in_the_results(episodes: Episodes, tmp_path: Path) -> None:
    folders = [
        str(trained(tmp_path / "a", 1, (0.1, 10, 0.9))),
        str(trained(tmp_path / "b", 2, (0.01, 50, 0.88))),
    ]
    out = tmp_path / "out"
    run(*MLP, "--controller", *folders, "--agents", "constant", "--initial-lrs", "0.02", "--out", str(out))
    learned = ["controller a", "controller b"]
    decays = [f"transferred step decay (lr {text} updates)" for text in ("0.1, x0.9 every 10", "0.01, x0.88 every 50")]
    assert [(row["agent"], row["initial_lr"], row["own_start"], row["reference"]) for row in rows(out)] == [
        (learned[0], 0.02, False, None),
        (learned[1], 0.02, False, "controller a from 0.02"),
        ("constant", 0.02, False, "controller a from 0.02"),
        (decays[0], 0.1, True, None),
        (decays[1], 0.01, True, None),
    ]
    assert len({cell.key for cell in episodes.cells}) == len(episodes.cells) == 5 * 2


@pytest.mark.parametrize("shipped", [False, True])
def test_results_beside_a_controller_that_are_not_those_of_its_training(
    shipped: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The current folder holds what another comparison left."""
    (tmp_path / "results.json").write_text('{"rows": []}')
    monkeypatch.setattr(controller_module, "SHIPPED", tmp_path / "package")
    monkeypatch.chdir(tmp_path)
    tiny.controller().save(tmp_path / "package" / "mine" if shipped else tmp_path / "mine")
    assert prepared(*MLP, "--controller", "mine").own_start == []
