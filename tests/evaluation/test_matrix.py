from __future__ import annotations

import contextlib
import dataclasses
import itertools
import json
import math
import os
import tempfile
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any, ClassVar
from unittest import mock

import pytest
import tiny
from hypothesis import given
from hypothesis import strategies as st
from pebble import ProcessExpired

from lr_gym import LRTrainingEnv, agents, rollout
from lr_gym.errors import EpisodeError, InvalidArgumentError, LRGymError
from lr_gym.evaluation import Cell, Contestant, Rollout, Workers
from lr_gym.evaluation import cells as cells_module
from lr_gym.evaluation import matrix as matrix_module
from lr_gym.evaluation.matrix import Failure
from lr_gym.processes import WorkerDiedError


class Raising(tiny.Decay):
    """Raises an error at its second decision, as long as it has one to raise."""

    def __init__(self, error: BaseException | None) -> None:
        super().__init__()
        self.error = error

    def predict(self, observation: Any, state: Any = None, *_: Any, **__: Any) -> tuple[Any, Any]:
        if state is not None and self.error is not None:
            raise self.error
        return super().predict(observation, "second")


class Faulty:
    def predict(self, *_: Any, **__: Any) -> Any:
        return [float("nan")], None


class Deadly:
    """Ends the process it lives in: what a machine without memory does to a worker."""

    def predict(self, *_: Any, **__: Any) -> Any:
        os._exit(1)


def cell(agent: Any = None, **changes: Any) -> Cell:
    contestant = Contestant("decay", {"agent": "decay"}, tiny.Decay() if agent is None else agent)
    return Cell(**({"task": tiny.task(), "contestant": contestant, "initial_lr": 1e-2, "seed": 3} | changes))


def named(name: str, agent: Any, **changes: Any) -> Cell:
    return cell(contestant=Contestant(name, {"agent": name}, agent), **changes)


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
    assert not list(tmp_path.glob(".*"))


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
    monkeypatch.setattr(cells_module, "RECORD_VERSION", cells_module.RECORD_VERSION + 1)
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


# -- several on one folder ---------------------------------------------------------------------------------------------


def test_a_cell_that_is_there_twice_is_computed_once(here: Workers, tmp_path: Path) -> None:
    """A tuned schedule may be one that is compared anyway."""
    agent = tiny.Decay()
    other = Contestant("another name", cell().contestant.identity, agent)
    first, again = here.run([cell(agent), cell(contestant=other)], tmp_path)
    assert first == again
    assert agent.episodes == 1


def test_two_on_one_folder_share_the_work(here: Workers, tmp_path: Path) -> None:
    """The second comes when the first has done one of four cells, and does the rest."""
    first, second = tiny.Decay(), tiny.Decay()
    other = Workers(1, in_process=True)
    theirs: list[Rollout] = []

    def meanwhile(done: Cell, record: Rollout) -> None:
        if not theirs:
            theirs.extend(other.run([cell(second, seed=seed) for seed in range(4)], tmp_path))

    ours = here.run([cell(first, seed=seed) for seed in range(4)], tmp_path, meanwhile)
    assert ours == theirs
    assert (first.episodes, second.episodes) == (1, 3)


def test_two_at_once_on_one_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever writes when: records are whole, and both sides have all."""
    both = threading.Barrier(2, timeout=60)

    def run(chosen: Cell) -> Rollout:
        if chosen.seed == 0:
            both.wait()  # both work on the same cell
        return tiny.record(seed=chosen.seed)

    monkeypatch.setattr(Cell, "run", run)
    results: list[list[Rollout]] = []

    def work() -> None:
        results.append(Workers(1, in_process=True).run([cell(seed=seed) for seed in range(20)], tmp_path))

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [[tiny.record(seed=seed) for seed in range(20)]] * 2
    assert sorted(file.name for file in tmp_path.iterdir()) == sorted(f"{cell(seed=k).key}.json" for k in range(20))


# -- cells that fail ---------------------------------------------------------------------------------------------------


def failure_file(folder: Path, failed: Cell) -> Path:
    return folder / f"{failed.key}.failed.json"


def test_a_failure_does_not_stop_the_others(here: Workers, tmp_path: Path) -> None:
    agent = tiny.Decay()
    cells = [cell(agent), named("faulty", Faulty()), cell(agent, seed=8)]
    seen: list[tuple[Cell, Rollout | Failure]] = []
    outcomes = here.attempt(cells, tmp_path, lambda *pair: seen.append(pair))
    assert [type(outcome) for outcome in outcomes] == [Rollout, Failure, Rollout]
    assert outcomes[1] == Failure(
        "faulty on fashion-mnist-mini/mlp from 0.01, seed 3",
        "InvalidArgumentError: an action is one number in [-1, 1], got [nan]",
    )
    assert str(outcomes[1]).startswith("faulty on fashion-mnist-mini/mlp from 0.01, seed 3: InvalidArgumentError: an ")
    assert seen == list(zip(cells, outcomes, strict=True))
    names = [f"{cells[0].key}.json", f"{cells[1].key}.failed.json", f"{cells[2].key}.json"]
    assert {file.name for file in tmp_path.iterdir()} == set(names)
    assert Failure(**json.loads(failure_file(tmp_path, cells[1]).read_text())) == outcomes[1]
    here.run([cells[0], cells[2]], tmp_path)
    assert agent.episodes == 2


def test_failed_cells_are_tried_again(here: Workers, tmp_path: Path) -> None:
    good, moody = tiny.Decay(), Raising(ValueError("first"))
    cells = [cell(good), named("moody", moody), named("moody", moody, seed=4)]
    file = failure_file(tmp_path, cells[1])
    assert sum(isinstance(outcome, Failure) for outcome in here.attempt(cells, tmp_path)) == 2
    assert json.loads(file.read_text())["error"] == "ValueError: first"
    moody.error = OSError("second")
    assert here.attempt(cells[1:2], tmp_path) == [Failure(str(cells[1]), "OSError: second")]
    assert json.loads(file.read_text())["error"] == "OSError: second"
    moody.error = None
    records = here.run(cells, tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(f"{one.key}.json" for one in cells)
    assert (good.episodes, moody.episodes) == (1, 2 + 1 + 2)
    assert here.attempt(cells, tmp_path) == records
    assert (good.episodes, moody.episodes) == (1, 5)


def test_run_names_the_first_failure(here: Workers, tmp_path: Path) -> None:
    agent = tiny.Decay()
    cells = [cell(agent), *(named("moody", Raising(ValueError("no luck")), seed=seed) for seed in (5, 6, 7))]
    calls: list[Cell] = []
    message = r"^an episode failed: moody on \S+ from 0.01, seed 5: ValueError: no luck \(and 2 more\)\. Finished"
    with pytest.raises(LRGymError, match=message):
        here.run(cells, tmp_path, lambda one, _: calls.append(one))
    assert calls == cells[:1]
    with pytest.raises(LRGymError, match=r"seed 7: ValueError: no luck\. Finished episodes are kept"):
        here.run([cells[3], cells[0]], tmp_path)
    assert agent.episodes == 1


def test_without_a_folder_nothing_is_written(here: Workers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    record, failure = here.attempt([cell(), named("faulty", Faulty())])
    assert (type(record), type(failure)) == (Rollout, Failure)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (ZeroDivisionError("no luck"), "ZeroDivisionError: no luck"),
        (MemoryError(), "MemoryError: "),
        (EpisodeError("over"), "EpisodeError: over"),
        (BrokenProcessPool("its own pool"), "BrokenProcessPool: its own pool"),
        pytest.param(SystemExit(3), "SystemExit: 3"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else "",
)
def test_whatever_an_agent_raises(here: Workers, error: BaseException, words: str) -> None:
    (outcome,) = here.attempt([named("raising", Raising(error))])
    assert isinstance(outcome, Failure)
    assert outcome.error == words


def test_whatever_a_model_raises(here: Workers) -> None:
    outcome, record = here.attempt([cell(task=tiny.task(model="toys:Speechless", model_options={})), cell()])
    assert isinstance(outcome, Failure)
    assert isinstance(record, Rollout)


def test_ctrl_c_is_no_failure(here: Workers, tmp_path: Path) -> None:
    cells = [cell(), named("interrupted", Raising(KeyboardInterrupt()))]
    with pytest.raises(KeyboardInterrupt):
        here.attempt(cells, tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == [f"{cells[0].key}.json"]


# -- processes that die or hang, by a pool that has none ---------------------------------------------------------------


class Fragile:
    """Stands in for a pool and `finished`; some seeds kill their process, some hang, and so many calls break it."""

    def __init__(self, deadly: frozenset[int], hanging: frozenset[int], lasts: int) -> None:
        self.deadly, self.hanging, self.lasts, self.active = deadly, hanging, lasts, True

    def finished(self, jobs: Sequence[Any], timeout: float | None) -> Iterator[tuple[int, Future[Any]]]:
        assert self.active
        for place, job in reversed(list(enumerate(jobs))):
            if not self.lasts:
                self.active = False
                raise WorkerDiedError
            self.lasts -= 1
            future: Future[Any] = Future()
            if job.cell.seed in self.deadly:
                future.set_exception(ProcessExpired("Abnormal termination"))
            elif job.cell.seed in self.hanging:
                future.set_exception(TimeoutError("Task timeout", timeout))
            else:
                future.set_result(job())
            yield place, future


@contextlib.contextmanager
def fragile(*, deadly: frozenset[int] = frozenset(), hanging: frozenset[int] = frozenset(), lasts: int = 99) -> Any:
    """Replace pools; yields those that were made."""
    made: list[Fragile] = []

    def make(count: int, modules: Sequence[str]) -> Fragile:
        made.append(Fragile(deadly, hanging, lasts))
        return made[-1]

    with (
        mock.patch.object(matrix_module, "worker_pool", make),
        mock.patch.object(matrix_module, "finished", lambda pool, jobs, timeout: pool.finished(jobs, timeout)),
        mock.patch.object(matrix_module, "end_pool", lambda pool: setattr(pool, "active", False)),
    ):
        yield made


SEEDS = st.frozensets(st.integers(0, 7))


@given(st.integers(0, 8), SEEDS, SEEDS, SEEDS, st.integers(1, 9), st.booleans())
def test_only_cells_that_kill_or_block_their_process_fail(
    count: int, deadly: frozenset[int], hanging: frozenset[int], known: frozenset[int], lasts: int, keep: bool
) -> None:
    """Whichever do, and however often the pool must be replaced because processes without work die."""
    cells, runs, calls = [cell(seed=seed) for seed in range(count)], Counter[int](), Counter[int]()

    def run(one: Cell) -> Rollout:
        runs[one.seed] += 1
        return tiny.record(seed=one.seed)

    with (
        tempfile.TemporaryDirectory() as name,
        mock.patch.object(Cell, "run", run),
        fragile(deadly=deadly, hanging=hanging, lasts=lasts) as made,
    ):
        folder = Path(name) if keep else None
        if keep:
            Workers(1, in_process=True).run([one for one in cells if one.seed in known], folder)
        with Workers(2, timeout=2.5) as workers:
            outcomes = workers.attempt(cells, folder, lambda one, _: calls.update([one.seed]))
            assert workers.attempt([]) == []
        assert not any(pool.active for pool in made[-1:])
        files = {file.name for file in Path(name).iterdir()}
    words = dict.fromkeys(hanging, "it took longer than 2.5 s, and its worker process was ended")
    words |= dict.fromkeys(deadly, "its worker process died (out of memory, or killed)")
    lost = {seed: word for seed, word in words.items() if not (keep and seed in known)}
    for one, outcome in zip(cells, outcomes, strict=True):
        assert outcome == (Failure(str(one), lost[one.seed]) if one.seed in lost else tiny.record(seed=one.seed))
    assert calls == Counter(range(count))
    computed = count - len(known & set(range(count))) if keep else count
    assert len(made) == math.ceil(computed / lasts)
    if keep:
        assert set(runs.values()) <= {1}  # none is computed twice
        assert files == {f"{one.key}.failed.json" if one.seed in lost else f"{one.key}.json" for one in cells}


def test_processes_that_die_before_they_have_work_are_an_error() -> None:
    with fragile(lasts=0) as made, Workers(2) as workers, pytest.raises(WorkerDiedError, match="a worker process died"):
        workers.attempt([cell()])
    assert len(made) == 1


def test_a_pool_that_broke_between_two_runs_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Cell, "run", lambda one: tiny.record(seed=one.seed))
    with fragile() as made, Workers(2) as workers:
        for expected in (1, 1, 2):
            assert workers.run([cell(seed=1)]) == [tiny.record(seed=1)]
            assert len(made) == expected
            made[0].active = expected == 1 and not hasattr(made[0], "used")
            made[0].used = True


def test_an_error_of_the_callback_surfaces(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise LRGymError("the callback's own")

    monkeypatch.setattr(Cell, "run", lambda one: tiny.record(seed=one.seed))
    with fragile(), Workers(1) as workers, pytest.raises(LRGymError, match="the callback's own"):
        workers.attempt([cell(seed=1)], None, refuse)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"count": 0}, "count must be a whole number of at least 1, got 0"),
        ({"count": 1, "timeout": 0}, r"timeout must lie in \(0, inf\], got 0"),
        ({"count": 1, "timeout": 5, "in_process": True}, "a cell that runs in this process cannot be ended: leave tim"),
    ],
)
def test_workers_are_refused(arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidArgumentError, match=words):
        Workers(**arguments)


# -- processes ---------------------------------------------------------------------------------------------------------


class Unpicklable(tiny.Decay):
    def __init__(self) -> None:
        super().__init__()
        self.action_of = lambda: 0.0


def test_failures_in_worker_processes(pool: Workers, tmp_path: Path) -> None:
    cells = [cell(), named("faulty", Faulty()), cell(seed=9)]
    outcomes = pool.attempt(cells, tmp_path)
    assert [isinstance(outcome, Failure) for outcome in outcomes] == [False, True, False]
    assert json.loads(failure_file(tmp_path, cells[1]).read_text())["error"].startswith("InvalidArgumentError: an act")
    with pytest.raises(LRGymError, match=r"faulty on fashion-mnist-mini/mlp from 0\.01, seed 3: InvalidArgumentError"):
        pool.run(cells, tmp_path)
    assert pool.run([cell()]) == [cell().run()] == outcomes[:1]  # and the pool is still good


def test_an_agent_that_cannot_be_sent_to_a_worker(pool: Workers) -> None:
    outcomes = pool.attempt([named("unpicklable", Unpicklable()), cell()])
    assert [type(outcome) for outcome in outcomes] == [Failure, Rollout]


def test_a_worker_that_dies_at_work(pool: Workers, tmp_path: Path) -> None:
    """Last of this file, because new processes have to start then."""
    cells = [named("deadly", Deadly()), cell()]
    outcomes = pool.attempt(cells, tmp_path)
    assert outcomes == [
        Failure(
            "deadly on fashion-mnist-mini/mlp from 0.01, seed 3", "its worker process died (out of memory, or killed)"
        ),
        cell().run(),
    ]
    # A worker that ends with the pool may leave a file that it was about to rename.
    written = {file.name for file in tmp_path.iterdir() if not file.name.startswith(".")}
    assert written == {f"{cells[0].key}.failed.json", f"{cells[1].key}.json"}
    assert pool.run(cells[1:], tmp_path) == outcomes[1:]
