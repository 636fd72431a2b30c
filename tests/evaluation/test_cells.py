"""One cell: what its key and its env depend on. Its record: read, damaged, shared. What becomes of one that fails."""

from __future__ import annotations

import dataclasses
import itertools
import json
import shutil
from collections.abc import Callable
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

import pytest
import tiny
from cell_toys import Fast, Faulty, Raising, cell, named
from hypothesis import given, settings
from hypothesis import strategies as st

from lr_gym import LRTrainingEnv, agents, rollout
from lr_gym.errors import EpisodeError, FileWriteError
from lr_gym.evaluation import Cell, Contestant, Rollout, Workers, cells
from lr_gym.evaluation.cells import Failure
from lr_gym.evaluation.records import RecordNotice


@pytest.fixture
def here() -> Workers:
    return Workers(1, in_process=True)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


# -- what a cell is ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "change",
    [
        {"task": tiny.task(batch_size=17)},
        {"task": tiny.task(name="another")},
        {"task": tiny.task(model_options={"width": 9})},
        {"contestant": Contestant("decay", {"agent": "decay", "options": {"x": 1}}, tiny.Decay())},
        {"contestant": Contestant("decay", {"agent": "decay"}, tiny.Decay(), {"optimizer": "SGD"})},
        {"initial_lr": 1e-2 * (1 + 1e-15)},
        {"seed": 4},
        {"env": {"reward": "final"}},
    ],
    ids=["task", "task name", "model", "agent", "optimizer", "lr", "seed", "env"],
)
def test_the_key_tells_cells_apart(change: dict[str, Any]) -> None:
    assert cell(**change).key != cell().key


def test_the_key_depends_on_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    key = cell().key
    assert cell(tiny.Decay(0.3)).key == key  # the identity speaks for the agent
    assert cell(contestant=Contestant("other name", {"agent": "decay"}, None)).key == key
    assert cell(env={"a": 1, "b": 2}).key == cell(env={"b": 2, "a": 1}).key
    assert dataclasses.replace(cell(), task=type(tiny.task()).from_dict(tiny.task().to_dict())).key == key
    monkeypatch.setattr(cells, "RECORD_VERSION", cells.RECORD_VERSION + 1)
    assert cell().key != key


def test_what_agents_ask_of_the_env() -> None:
    learned, fast = tiny.controller(max_multiplier=4.0), Contestant("fast", {}, Fast())
    fast.env_options["max_multiplier"] = 3.0  # a copy
    asked = [Contestant("", {}, agent).env_options for agent in (tiny.Decay(), lambda _: [0.0], Fast(), learned)]
    assert asked == [{}, {}, {"max_multiplier": 8.0, "observe_progress": False}, learned.description.env_options()]
    assert Contestant("", {}, agents.make("constant")).env_options == {"max_multiplier": 1e4}


@settings(max_examples=30)
@given(st.dictionaries(st.sampled_from(["max_multiplier", "observe_progress", "reward", "min_lr"]), st.integers()))
def test_the_cell_has_the_last_word_on_the_env(env: dict[str, Any]) -> None:
    merged = Fast.env_options | env
    assert cell(Fast(), env=env).env_options == merged
    assert cell(env=env).env_options == env
    assert cell(Fast(), env=env).key == cell(env=merged).key  # what counts is the env, not who asked for it
    assert (cell(Fast(), env=env).key == cell(env=env).key) == (merged == env)


@pytest.mark.parametrize("env", [{"reward": "val_loss"}, Fast.env_options])
def test_a_cell_is_one_rollout_in_the_env_that_is_asked_for(env: dict[str, Any]) -> None:
    chosen = cell(Fast(-1.0)) if env is Fast.env_options else cell(tiny.Decay(-1.0), env=env)
    expected = rollout(LRTrainingEnv(tiny.task(), **env), tiny.Decay(-1.0), seed=3, initial_lr=1e-2)
    assert chosen.run() == expected
    assert expected.lrs[1] == pytest.approx(1e-2 / env.get("max_multiplier", 2))


def test_a_fixed_agent_is_held_to_the_actions_of_the_cells_env() -> None:
    step = Contestant("step", {"agent": "step"}, agents.make("step", every=10, factor=1e-3))
    assert cell(contestant=step).run().lrs == pytest.approx([1e-2, 1e-5, 1e-7, 1e-7], rel=1e-5)
    assert cell(contestant=step, env={"max_multiplier": 2.0}).run().lrs == pytest.approx([1e-2, 5e-3, 2.5e-3, 1.25e-3])
    record = cell(contestant=step, env={"action": "discrete", "max_multiplier": 2.0}).run()
    ratios = [after / before for before, after in itertools.pairwise(record.lrs)]
    assert ratios == pytest.approx([0.618] * 3, abs=1e-9)


def test_fields_of_the_task_that_a_contestant_replaces() -> None:
    fields = {"optimizer": "SGD", "optimizer_options": {"momentum": 0.5}}
    replacing = cell(contestant=Contestant("sgd", {"agent": "decay"}, tiny.Decay(), fields))
    asked = cell(task=tiny.task(**fields))
    assert (replacing.task, replacing.trained) == (tiny.task(), tiny.task(**fields))
    assert replacing.key == asked.key  # what counts is what is trained, not who asked for it
    record = replacing.run()
    assert record == asked.run()
    assert record.task["optimizer"] == "SGD"
    assert record.val_losses != cell().run().val_losses
    assert str(replacing) == "sgd on fashion-mnist-mini/mlp from 0.01, seed 3"


# -- records -----------------------------------------------------------------------------------------------------------


def test_nothing_is_computed_twice(here: Workers, tmp_path: Path) -> None:
    """Neither a cell that is asked for again, nor one that is there twice, as a tuned schedule may be."""
    agent = tiny.Decay()
    chosen = [cell(agent, seed=seed) for seed in (1, 2, 3)]
    chosen.append(dataclasses.replace(chosen[-1], contestant=Contestant("another name", {"agent": "decay"}, agent)))
    first = here.run(chosen[:2], tmp_path / "episodes")
    calls: list[tuple[Cell, Rollout]] = []
    records = here.run(chosen, tmp_path / "episodes", lambda *pair: calls.append(pair))
    assert (agent.episodes, records[:2], records[2]) == (3, first, records[3])
    assert calls == list(zip(chosen, records, strict=True))
    assert here.run(chosen[1:3]) == records[1:3]  # without a folder nothing is read
    assert agent.episodes == 5


def test_a_diverged_record_is_kept(here: Workers, tmp_path: Path) -> None:
    agent = tiny.Decay()
    chosen = cell(agent, task=tiny.breaking_task(), env={"max_lr": 1e30}, initial_lr=1e30)
    before, after = (here.run([chosen], tmp_path)[0] for _ in range(2))
    assert (agent.episodes, before.result["diverged"], before.lrs, before.rewards) == (
        1,
        True,
        after.lrs,
        after.rewards,
    )
    assert str(before.result).replace("inf", "nan") == str(after.result).replace("inf", "nan")


def truncate(file: Path) -> None:
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def without(field: str) -> Callable[[Path], None]:
    return lambda file: tiny.rewrite_json(file, lambda values: {k: v for k, v in values.items() if k != field})


def with_value(field: str, value: Any) -> Callable[[Path], None]:
    return lambda file: tiny.rewrite_json(file, lambda values: values | {field: value})


def of_before(change: Callable[[dict[str, Any]], Any]) -> Callable[[Path], None]:
    """Return what makes of a record one of an earlier version, which does not say whose it is, and changes it."""

    def damage(file: Path) -> None:
        without("cell")(file)
        without("sha256")(file)
        tiny.rewrite_json(file, lambda values: change(values) or values)

    return damage


DAMAGES: dict[str, Callable[[Path], Any]] = {
    "truncated": truncate,
    **{repr(text): lambda file, text=text: file.write_bytes(text) for text in (b"", b"[]", b'"text"', b"\x80\x04\xff")},
    **{f"no {field}": without(field) for field in ("rewards", "result", "extra_forward")},
    **{f"{field} {value}": with_value(field, value) for field, value in [("unknown", 1), ("updates", [])]},
    **{f"{field} None": with_value(field, None) for field in ("val_losses", "result", "lrs")},
    **{
        f"{field} {value}": with_value(field, value)
        for field, value in [("seed", 4), ("initial_lr", 0.1), ("cell", "x")]
    },
    **{f"no {field}": without(field) for field in ("cell", "sha256")},
    "a digit": lambda file: file.write_text(file.read_text().replace('"test_loss": 1.1', '"test_loss": 1.2')),
    "a name twice": lambda file: file.write_text(file.read_text().replace('{"task"', '{"seed": 3, "task"')),
    "deep": lambda file: file.write_text("[" * 100_000),
    "deep enough": lambda file: file.write_text("[" * 500 + "]" * 500),
    "NaN": lambda file: file.write_text(file.read_text().replace('"test_loss": 1.1', '"test_loss": NaN')),
    **{
        f"of before, {field} {value}": of_before(lambda values, field=field, value=value: values | {field: value})
        for field, value in [
            ("seed", 4),
            ("seed", "3"),
            ("initial_lr", 0.1),
            ("initial_lr", [0.01]),
            ("task", tiny.task(batch_size=17).to_dict()),
            ("task", {"name": "x"}),
            ("task", []),
            ("updates", [10, 20, 30, "40"]),
            ("updates", [10, 20, 30, 0]),
            ("lrs", [1e-2, {}, 1e-2, 1e-2]),
            ("val_losses", "1234"),
            ("val_accuracies", [True] * 4),
            ("rewards", {"a": 1, "b": 2, "c": 3}),
            ("extra_forward", "0"),
            ("result", {}),
            ("result", tiny.record().result | {"test_loss": "low"}),
            ("result", tiny.record().result | {"diverged": 0}),
        ]
    },
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_record_is_computed_again(
    here: Workers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: Callable[[Path], Any]
) -> None:
    runs: list[Cell] = []
    monkeypatch.setattr(Cell, "run", lambda one: runs.append(one) or tiny.record(seed=one.seed))
    here.run([cell()], tmp_path)
    file = tmp_path / f"{cell().key}.json"
    whole = file.read_bytes()
    damage(file)
    with pytest.warns(
        RecordNotice, match=rf"^decay on fashion-mnist-mini/mlp from 0.01, seed 3 is run again: \S*{file.name}"
    ):
        assert here.run([cell()], tmp_path) == [tiny.record(seed=3)]
    assert (len(runs), file.read_bytes()) == (2, whole)


def test_a_record_of_before_is_used(here: Workers, tmp_path: Path) -> None:
    """Records did not always say of which cell they are: those are known by their name, task, seed and initial lr."""
    agent = tiny.Decay()
    (expected,) = here.run([cell(agent)], tmp_path)
    of_before(lambda values: None)(tmp_path / cell().record)
    assert here.run([cell(agent)], tmp_path) == [expected]
    assert agent.episodes == 1


def test_a_record_of_another_cell_is_not_used(here: Workers, tmp_path: Path) -> None:
    agent, faster = tiny.Decay(), tiny.Decay(-0.9)
    here.run([cell(agent)], tmp_path)
    other = cell(contestant=Contestant("faster", {"agent": "faster"}, faster))
    shutil.copy(tmp_path / cell().record, tmp_path / other.record)
    with pytest.warns(RecordNotice, match=r"faster on .* is run again: \w+\.json is the record of another episode"):
        assert here.run([other], tmp_path) == Workers(1, in_process=True).run([other])
    assert faster.episodes == 2


def test_a_folder_in_the_place_of_a_record(here: Workers, tmp_path: Path) -> None:
    """The others are kept. Where nothing can be written the run ends, in a line."""
    (tmp_path / cell().record).mkdir()
    with pytest.warns(RecordNotice, match="Is a directory"):
        outcomes = here.attempt([cell(), cell(seed=8)], tmp_path)
    assert isinstance(outcomes[0], Failure)
    assert "there is a folder in the place of its record" in outcomes[0].error
    assert names(tmp_path) == sorted([cell().record, f"{cell().key}.failed.json", cell(seed=8).record])
    (tmp_path / "file").write_text("")
    with pytest.raises(FileWriteError, match=r"file/\w+\.json cannot be written: File exists; make room for it"):
        here.attempt([cell()], tmp_path / "file")


def test_two_on_one_folder_share_the_work(here: Workers, tmp_path: Path) -> None:
    """The second comes when the first has done one of four cells, and does the rest."""
    first, second = tiny.Decay(), tiny.Decay()
    other = Workers(1, in_process=True)
    theirs: list[Rollout] = []

    def meanwhile(done: Cell, record: Rollout) -> None:
        if not theirs:
            theirs.extend(other.run([cell(second, seed=seed) for seed in range(4)], tmp_path))

    ours = here.run([cell(first, seed=seed) for seed in range(4)], tmp_path, meanwhile)
    assert (ours, first.episodes, second.episodes) == (theirs, 1, 3)


# -- cells that fail ---------------------------------------------------------------------------------------------------


def test_a_failure_is_written_down_and_tried_again(here: Workers, tmp_path: Path) -> None:
    good, moody = tiny.Decay(), Raising(ValueError("first"))
    chosen = [cell(good), named("moody", moody), named("faulty", Faulty()), cell(good, seed=8)]
    seen: list[tuple[Cell, Rollout | Failure]] = []
    outcomes = here.attempt(chosen, tmp_path, lambda *pair: seen.append(pair))
    assert seen == list(zip(chosen, outcomes, strict=True))
    assert [type(outcome) for outcome in outcomes] == [Rollout, Failure, Failure, Rollout]
    words = "faulty on fashion-mnist-mini/mlp from 0.01, seed 3"
    error = "InvalidArgumentError: an action is one number in [-1, 1], got [nan]"
    assert (outcomes[2], str(outcomes[2])) == (Failure(words, error), f"{words}: {error}")
    kept = [f"{one.key}{'.failed' * (k in (1, 2))}.json" for k, one in enumerate(chosen)]
    assert names(tmp_path) == sorted(kept)
    for error in (ValueError("first"), OSError("second")):
        moody.error = error
        (failure,) = here.attempt(chosen[1:2], tmp_path)
        assert failure == Failure(str(chosen[1]), f"{type(error).__name__}: {error}")
        assert Failure(**json.loads((tmp_path / kept[1]).read_text())) == failure
    moody.error = None
    records = here.run([chosen[0], chosen[1], chosen[3]], tmp_path)
    kept[1] = f"{chosen[1].key}.json"
    assert names(tmp_path) == sorted(kept)
    assert here.attempt([chosen[0], chosen[1], chosen[3]], tmp_path) == records
    assert (good.episodes, moody.episodes) == (2, 1 + 2 + 1)


def test_without_a_folder_nothing_is_written(here: Workers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert [type(outcome) for outcome in here.attempt([cell(), named("faulty", Faulty())])] == [Rollout, Failure]
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "error",
    [ZeroDivisionError("no luck"), MemoryError(), EpisodeError("over"), BrokenProcessPool("its own"), SystemExit(3)],
    ids=lambda error: type(error).__name__,
)
def test_whatever_an_agent_raises_is_a_failure(here: Workers, error: BaseException) -> None:
    (outcome,) = here.attempt([named("raising", Raising(error))])
    assert isinstance(outcome, Failure)
    assert outcome.error == f"{type(error).__name__}: {error}".removesuffix(": ")


def test_whatever_a_model_raises_is_a_failure(here: Workers) -> None:
    outcomes = here.attempt([cell(task=tiny.task(model="toys:Speechless", model_options={})), cell()])
    assert [type(outcome) for outcome in outcomes] == [Failure, Rollout]


def test_ctrl_c_is_no_failure(here: Workers, tmp_path: Path) -> None:
    chosen = [cell(), named("interrupted", Raising(KeyboardInterrupt()))]
    with pytest.raises(KeyboardInterrupt):
        here.attempt(chosen, tmp_path)
    assert names(tmp_path) == [f"{chosen[0].key}.json"]
