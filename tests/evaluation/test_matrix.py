from __future__ import annotations

import dataclasses
import itertools
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest
import tiny
from hypothesis import given
from hypothesis import strategies as st

import agents
from lr_gym import LRTrainingEnv, rollout
from lr_gym.errors import InvalidArgumentError, LRGymError
from lr_gym.evaluation import Cell, Contestant, Rollout, Workers
from lr_gym.evaluation import matrix as matrix_module


class Assassin:
    """Kills the process it lives in: what a machine without memory does to a worker."""

    def predict(self, *_: Any, **__: Any) -> Any:
        os.kill(os.getpid(), signal.SIGKILL)


class Faulty:
    def predict(self, *_: Any, **__: Any) -> Any:
        return [float("nan")], None


def cell(agent: Any = None, **changes: Any) -> Cell:
    contestant = Contestant("decay", {"agent": "decay"}, tiny.Decay() if agent is None else agent)
    return Cell(**({"task": tiny.task(), "contestant": contestant, "initial_lr": 1e-2, "seed": 3} | changes))


def mixed_cells() -> list[Cell]:
    """Return cells of different agents, starts, lengths and envs."""
    cosine = Contestant("cosine", {"agent": "cosine"}, agents.make("cosine"))
    return [
        cell(task=tiny.task(budget=80)),
        cell(contestant=cosine),
        cell(task=tiny.breaking_task(), initial_lr=10.0, seed=1),
        cell(contestant=cosine, env={"max_multiplier": 4.0}, initial_lr=1e-3),
        cell(),
    ]


class Fast(tiny.Decay):
    """A decay that asks for an env of its own."""

    env_options: ClassVar[dict[str, Any]] = {"max_multiplier": 8.0, "observe_progress": False}


@pytest.fixture
def here() -> Workers:
    return Workers(1, in_process=True)


@pytest.fixture(scope="module")
def pool() -> Iterator[Workers]:
    with Workers(2) as workers:
        yield workers


def test_a_cell_is_one_rollout() -> None:
    chosen = cell(env={"reward": "val_loss"})
    expected = rollout(LRTrainingEnv(tiny.task(), reward="val_loss"), tiny.Decay(), seed=3, initial_lr=1e-2)
    assert chosen.run() == expected
    assert expected.rewards == [-loss for loss in expected.val_losses[1:]]


def test_processes_change_nothing(pool: Workers, here: Workers, tmp_path: Path) -> None:
    cells = mixed_cells()
    expected = here.run(cells)
    assert [len(run.updates) for run in expected] == [8, 4, 2, 4, 4]
    seen: list[tuple[Cell, Rollout]] = []
    assert pool.run(cells, tmp_path, lambda *pair: seen.append(pair)) == expected
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(f"{one.key}.json" for one in cells)
    assert sorted(map(id, cells)) == sorted(id(one) for one, _ in seen)
    assert all(run == expected[[id(c) for c in cells].index(id(one))] for one, run in seen)
    assert here.run(cells[::-1], tmp_path) == expected[::-1]  # the order is that of the cells


def test_errors_in_workers_surface(pool: Workers) -> None:
    with pytest.raises(InvalidArgumentError, match="an action is one number"):
        pool.run([cell(), cell(Faulty()), cell(seed=9)])
    assert pool.run([cell()]) == [cell().run()]  # and the pool is still good


@pytest.mark.slow
def test_a_worker_that_dies_at_work(tmp_path: Path) -> None:
    with Workers(1) as workers, pytest.raises(LRGymError, match="finished episodes are kept"):
        workers.run([cell(), cell(Assassin(), contestant=Contestant("a", {"a": 1}, Assassin()))], tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [f"{cell().key}.json"]


def test_in_process_starts_none(here: Workers) -> None:
    with here as workers:
        assert workers is here
        assert workers._pool is None
        assert workers.run([]) == []


def test_nothing_is_computed_twice(here: Workers, tmp_path: Path) -> None:
    agent = tiny.Decay()
    cells = [cell(agent, seed=seed) for seed in (1, 2, 3)]
    first = here.run(cells[:2], tmp_path / "episodes")
    assert agent.episodes == 2
    calls: list[tuple[Cell, Rollout]] = []
    records = here.run(cells, tmp_path / "episodes", lambda *pair: calls.append(pair))
    assert agent.episodes == 3
    assert records[:2] == first
    assert [(one.seed, run) for one, run in calls] == [(c.seed, r) for c, r in zip(cells, records, strict=True)]
    assert here.run(cells) == records  # without a folder nothing is read
    assert agent.episodes == 6


def test_a_diverged_record_is_cached(here: Workers, tmp_path: Path) -> None:
    agent = tiny.Decay()
    chosen = cell(agent, task=tiny.breaking_task(), env={"max_lr": 1e30}, initial_lr=1e30)
    before = here.run([chosen], tmp_path)[0]
    after = here.run([chosen], tmp_path)[0]
    assert agent.episodes == 1
    assert before.result["diverged"] is True
    assert before.result == after.result or str(before.result).replace("inf", "nan") == str(after.result)
    assert (before.lrs, before.rewards) == (after.lrs, after.rewards)


@pytest.mark.parametrize(
    "change",
    [
        {"task": tiny.task(batch_size=17)},
        {"task": tiny.task(name="another")},
        {"task": tiny.task(model_options={"width": 9})},
        {"contestant": Contestant("decay", {"agent": "decay", "options": {"x": 1}}, tiny.Decay())},
        {"initial_lr": 1e-2 * (1 + 1e-15)},
        {"seed": 4},
        {"env": {"reward": "final"}},
    ],
    ids=["task", "task name", "model", "agent", "lr", "seed", "env"],
)
def test_the_key_tells_cells_apart(change: dict[str, Any]) -> None:
    assert cell(**change).key != cell().key


def test_the_key_depends_on_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    key = cell().key
    assert cell(tiny.Decay(0.3)).key == key  # the identity speaks for the agent
    assert cell(contestant=Contestant("other name", {"agent": "decay"}, None)).key == key
    assert cell(env={"a": 1, "b": 2}).key == cell(env={"b": 2, "a": 1}).key
    assert dataclasses.replace(cell(), task=type(tiny.task()).from_dict(tiny.task().to_dict())).key == key
    monkeypatch.setattr(matrix_module, "RECORD_VERSION", matrix_module.RECORD_VERSION + 1)
    assert cell().key != key


def test_what_an_agent_asks_of_the_env() -> None:
    plain, fast = (Contestant("a", {"agent": "a"}, agent) for agent in (tiny.Decay(), Fast()))
    assert plain.env_options == {}
    assert fast.env_options == {"max_multiplier": 8.0, "observe_progress": False}
    fast.env_options["max_multiplier"] = 3.0  # a copy
    assert Fast.env_options["max_multiplier"] == 8.0
    assert Contestant("constant", {}, agents.make("constant")).env_options == {"max_multiplier": 1e4}
    assert Contestant("function", {}, lambda _: [0.0]).env_options == {}
    learned = tiny.controller(max_multiplier=4.0)
    assert Contestant("learned", {}, learned).env_options == learned.description.env_options()


@given(st.dictionaries(st.sampled_from(["max_multiplier", "observe_progress", "reward", "min_lr"]), st.integers()))
def test_the_cell_has_the_last_word_on_the_env(env: dict[str, Any]) -> None:
    merged = Fast.env_options | env
    assert cell(Fast(), env=env).env_options == merged
    assert cell(env=env).env_options == env
    assert cell(Fast(), env=env).key == cell(env=merged).key  # what counts is the env, not who asked for it
    assert (cell(Fast(), env=env).key == cell(env=env).key) == (merged == env)


def test_a_cell_is_run_in_the_env_that_its_agent_asks_for() -> None:
    asked = cell(Fast(-1.0))
    wanted = rollout(LRTrainingEnv(tiny.task(), **Fast.env_options), tiny.Decay(-1.0), seed=3, initial_lr=1e-2)
    assert asked.run() == wanted
    assert wanted.lrs[1] == pytest.approx(1e-2 / 8)
    assert cell(Fast(-1.0), env={"max_multiplier": 4.0}).run().lrs[1] == pytest.approx(1e-2 / 4)
    step = Contestant("step", {"agent": "step"}, agents.make("step", every=10, factor=1e-3))
    assert cell(contestant=step).run().lrs == pytest.approx([1e-2, 1e-5, 1e-7, 1e-7], rel=1e-5)
    assert cell(contestant=step, env={"max_multiplier": 2.0}).run().lrs == pytest.approx([1e-2, 5e-3, 2.5e-3, 1.25e-3])


def test_a_fixed_agent_in_an_env_with_discrete_actions() -> None:
    cosine = Contestant("cosine", {"agent": "cosine"}, agents.make("cosine"))
    record = cell(contestant=cosine, env={"action": "discrete", "max_multiplier": 2.0}).run()
    ratios = [after / before for before, after in itertools.pairwise(record.lrs)]
    assert all(min(abs(ratio - m) for m in (1.618, 1.0, 0.618)) < 1e-9 for ratio in ratios)


def truncate(file: Path) -> None:
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def without(field: str) -> Callable[[Path], None]:
    def change(file: Path) -> None:
        tiny.rewrite_json(file, lambda values: {k: v for k, v in values.items() if k != field})

    return change


def with_value(field: str, value: Any) -> Callable[[Path], None]:
    return lambda file: tiny.rewrite_json(file, lambda values: values | {field: value})


@pytest.mark.parametrize(
    "damage",
    [
        truncate,
        lambda file: file.write_bytes(b""),
        lambda file: file.write_text("[]"),
        lambda file: file.write_text('"text"'),
        lambda file: file.write_bytes(b"\x80\x04\x95\xff"),
        without("rewards"),
        without("result"),
        without("extra_forward"),
        with_value("unknown", 1),
        with_value("val_losses", None),
        with_value("result", None),
        with_value("lrs", None),
        with_value("updates", []),
    ],
    ids=[
        "truncated",
        "empty",
        "list",
        "text",
        "bytes",
        "field",
        "result",
        "no-extra",
        "unknown",
        "null",
        "no-res",
        "no-lrs",
        "short",
    ],
)
def test_a_damaged_record_is_computed_again(here: Workers, tmp_path: Path, damage: Callable[[Path], Any]) -> None:
    agent = tiny.Decay()
    (expected,) = here.run([cell(agent)], tmp_path)
    file = tmp_path / f"{cell().key}.json"
    whole = file.read_bytes()
    damage(file)
    assert here.run([cell(agent)], tmp_path) == [expected]
    assert agent.episodes == 2
    assert file.read_bytes() == whole


def test_a_failure_keeps_what_is_done(here: Workers, tmp_path: Path) -> None:
    agent = tiny.Decay()
    faulty = Contestant("faulty", {"agent": "faulty"}, Faulty())
    cells = [cell(agent), cell(contestant=faulty), cell(agent, seed=8)]
    with pytest.raises(InvalidArgumentError):
        here.run(cells, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [f"{cells[0].key}.json"]
    here.run([cells[0], cells[2]], tmp_path)
    assert agent.episodes == 2


def test_a_killed_worker_is_reported(pool: Workers, tmp_path: Path) -> None:
    """Last of this file, because the pool is broken then."""
    done = pool.run([cell()], tmp_path)  # is kept: no process is needed for it any more
    assert pool._pool is not None
    victim = next(iter(pool._pool._processes.values()))
    os.kill(victim.pid, signal.SIGKILL)
    victim.join()

    def work_on() -> None:
        for seed in range(100):  # the death may be noticed a little later than it happens
            pool.run([cell(seed=seed)], tmp_path)

    with pytest.raises(LRGymError, match=r"a worker process died .* fewer workers, then run the same command again"):
        work_on()
    assert pool.run([cell()], tmp_path) == done
