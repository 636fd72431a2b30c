"""Trainings that branch three ways, against closed forms on quadratics and a loop by hand; and the command."""

from __future__ import annotations

import dataclasses
import itertools
import json
import math
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import arc_toys
import numpy as np
import pytest
import quadratics
import toys

from lr_gym import cli
from lr_gym.agents.arc import data as arc_data
from lr_gym.agents.arc import generate
from lr_gym.agents.arc.generate import CYCLES, Training
from lr_gym.agents.arc.network import KEEP, LOWER, RAISE
from lr_gym.agents.arc.points import Point, read_points
from lr_gym.agents.arc.problems import OPTIMIZERS, PROBLEMS
from lr_gym.tasks import Task
from lr_gym.tasks.data import DATA
from lr_gym.trainee import Trainee

INF = math.inf


def training(task: Task | None = None, **changes: Any) -> Training:
    """Return a training with gradient descent on the whole data set of one feature; one update is an epoch."""
    values: dict[str, Any] = {
        "problem": "toy",
        "task": quadratics.task() if task is None else task,
        "optimizer": "SGD",
        "initial_lr": 0.01,
        "epochs": 2,
        "seed": 3,
    }
    return Training(**(values | changes))


def by_hand(chosen: Training, updates: int) -> list[Point]:
    """Return the points of a training by a loop over an ordinary trainee, without its measurements."""
    rng = np.random.default_rng(chosen.seed)
    trainee = Trainee(chosen.task, int(rng.integers(2**62)), lr=chosen.initial_lr)
    x, y = (part["validation"].double() for part in (trainee.data.x, trainee.data.y))

    def cycle(lr: float) -> tuple[list[float], list[float]]:
        train, val, trainee.lr = [], [], lr
        for _ in range(chosen.epochs):
            train += trainee.train(updates).tolist()
            val.append(float((x @ trainee.parameters[0].detach() - y).square().mean()))
        return train, val

    def branch(checkpoint: Any, lr: float) -> tuple[list[float], list[float]]:
        trainee.restore(checkpoint)
        trainee.reseed(int(rng.integers(2**62)))
        return cycle(lr)

    points, lr = [], chosen.initial_lr
    train, val = cycle(lr)
    for index in range(10):
        end = trainee.snapshot()
        branches = tuple(branch(end, multiplier * lr)[1][-1] for multiplier in (1.618, 1.0, 0.618))
        taken = int(rng.choice([k for k in range(3) if branches[k] < max(branches)]))
        known = {"run": chosen.key, "problem": chosen.problem, "optimizer": chosen.optimizer, "epochs": chosen.epochs}
        known |= {"index": index, "initial_lr": chosen.initial_lr, "lr": lr, "branches": branches, "chosen": taken}
        lr *= (1.618, 1.0, 0.618)[taken]
        following = branch(end, lr)
        points.append(Point(**known, train_losses=tuple(train), val_losses=tuple(val), redo=following[1][-1]))  # type: ignore[arg-type]
        train, val = following
    return points


# -- one training ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "changes", "updates"),
    [
        ({}, {"seed": 11}, 3),
        ({"optimizer": "Adam"}, {"optimizer": "Adam", "epochs": 1, "initial_lr": 0.1}, 3),
        ({"optimizer_options": {"momentum": 0.9}}, {"optimizer": "momentum", "epochs": 3}, 3),
        ({"batch_size": 5}, {"epochs": 3}, 2),  # of twelve examples 5 fit twice
        ({"train_size": 8}, {}, 2),
        ({"batch_size": 12}, {"initial_lr": 0.02, "seed": 1}, 1),
    ],
)
def test_a_training_by_hand(fields: dict[str, Any], changes: dict[str, Any], updates: int) -> None:
    """And the same again in another state of the global generators, with another training in between."""
    chosen = training(arc_toys.problem(**fields).task, **({"initial_lr": 0.02} | changes))
    points, expected = chosen.run(), by_hand(chosen, updates)
    assert len(points) == CYCLES == 10
    for point, wanted in zip(points, expected, strict=True):
        values, theirs = dataclasses.asdict(point), dataclasses.asdict(wanted)
        for name in ("train_losses", "val_losses", "branches", "redo", "lr"):
            assert values.pop(name) == pytest.approx(theirs.pop(name), rel=1e-6, abs=1e-12), name
        assert values == theirs
        assert len(point.train_losses) == chosen.epochs * updates
        # Else the repetition, which has the same learning rate, would confirm every label.
        assert (point.redo != point.branches[point.chosen]) or updates == 1
    toys.disturb_global_randomness(5)
    before = toys.global_randomness()
    training(seed=99, initial_lr=0.1).run()
    assert dataclasses.replace(chosen).run() == points
    assert toys.same(before, toys.global_randomness())


def test_what_a_training_teaches() -> None:
    """Raise what is much too small (ten times leave r h below 0.05); lower what diverges, 0.618 r h < 2 < r h.

    Of the two that survive each is taken about as often.
    """
    h = quadratics.curvature()
    for seed in range(3):
        points = training(initial_lr=0.05 / 1.618**9 / h, seed=seed).run()
        assert [point.label for point in points] == [RAISE] * 10
        assert LOWER not in {point.chosen for point in points}  # the worst is dropped
    for relative_lr, epochs in ((2.05, 1), (2.6, 3), (3.2, 1)):
        first = training(initial_lr=relative_lr / h, epochs=epochs).run()[0]
        assert first.label == LOWER
        assert first.chosen in (KEEP, LOWER)
        assert first.branches[2] < first.val_losses[-1] < first.branches[1]
    task = arc_toys.problem().task
    points = [p for seed in range(8) for p in training(task, seed=seed, epochs=1, initial_lr=0.005).run()]
    assert 25 <= sum(point.chosen == int(np.argmin(point.branches)) for point in points) <= 55  # of 80


def test_divergence() -> None:
    """At once: no points. Later: the end, after a repetition that is infinite, as are losses above the ceiling.

    Errors grow by 1.47, 3 or 5.47 at every update, so all end.
    """
    lr = 4 / quadratics.curvature()
    assert training(quadratics.task(loss_ceiling=10.0), initial_lr=100.0).run() == []
    assert training(initial_lr=1e200).run() == []  # NaN
    lengths = set()
    for seed in range(6):
        points = training(quadratics.task(loss_ceiling=1e4), initial_lr=lr, epochs=1, seed=seed).run()
        lengths.add(len(points))
        for point, following in itertools.pairwise(points):
            assert point.redo == following.val_losses[-1] <= 1e4
        assert points[-1].redo == INF or len(points) == CYCLES
        assert all(loss == INF or loss <= 1e4 for point in points for loss in point.branches)
        assert points[0].branches[2] < points[0].branches[1] < points[0].branches[0]
    assert min(lengths) < CYCLES
    # The first update multiplies the loss by 9, which is below the ceiling; the next by at least 2.
    (point,) = training(quadratics.task(loss_ceiling=8.0), initial_lr=lr, epochs=1).run()
    assert (point.branches, point.redo, point.label) == ((INF, INF, INF), INF, LOWER)
    assert point.chosen in (KEEP, LOWER)


# -- what is drawn -----------------------------------------------------------------------------------------------------


def test_draws() -> None:
    """A draw depends on seed and number only."""
    problem = arc_toys.problem()
    drawn = [Training.draw(problem, 7, number) for number in range(100)]
    for one in drawn:
        name, options, scale = OPTIMIZERS[one.optimizer]
        assert one.problem == "toy"
        assert one.task == problem.task.replace(optimizer=name, optimizer_options=options)
        assert scale * 1e-3 <= one.initial_lr <= scale * 1e-2
    assert {one.optimizer for one in drawn} == set(OPTIMIZERS)
    assert {one.epochs for one in drawn} == set(range(1, 11))
    assert len({one.seed for one in drawn}) == len({one.initial_lr for one in drawn}) == len(drawn)
    assert Training.draw(problem, 7, 3) == drawn[3]
    assert drawn[3] not in (Training.draw(problem, 8, 3), Training.draw(problem, 3, 7))


def test_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = training()
    key = chosen.key
    assert re.fullmatch("[0-9a-f]{16}", key)
    assert dataclasses.replace(chosen).key == key
    changes: dict[str, Any] = {"problem": "other", "optimizer": "Adam", "initial_lr": 0.01 * (1 + 1e-15), "epochs": 3}
    others = [dataclasses.replace(chosen, **{field: value}).key for field, value in (changes | {"seed": 4}).items()]
    for field in ({"batch_size": 3}, {"optimizer_options": {"momentum": 0.9}}, {"loss_ceiling": 7.0}):
        others.append(dataclasses.replace(chosen, task=chosen.task.replace(**field)).key)
    monkeypatch.setattr(generate, "VERSION", generate.VERSION + 1)
    assert len({key, *others, chosen.key}) == 2 + len(others)


# -- the command -------------------------------------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def toy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Problems that are gone again after the test."""
    monkeypatch.setattr(PROBLEMS, "_things", dict(PROBLEMS._things))
    for name, fields in (("toy", {}), ("other", {"batch_size": 3}), ("breaking", {"loss_ceiling": 1e-6})):
        PROBLEMS.register(name, arc_toys.problem(name, **fields))


def run(out: Path, *arguments: str, **replaced: Any) -> list[Point]:
    """Run the command, and return the points that it wrote."""
    words = arguments if "--problems" in arguments else ("--problems", "toy", *arguments)
    arc_toys.run_main(generate, *words, "--out", str(out), "--workers", "1", **({"CYCLES": 2} | replaced))
    return read_points(out / "points.jsonl.xz")[0]


def times(out: Path) -> dict[str, int]:
    return {file.name: file.stat().st_mtime_ns for file in (out / "trainings").iterdir()}


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "300")
    points = run(tmp_path, "--problems", "toy", "other", "--runs", "3", "--seed", "5")
    drawn = [Training.draw(PROBLEMS[name], 5, k) for k, name in enumerate(("toy", "other", "toy"))]
    monkeypatch.setattr(generate, "CYCLES", 2)
    assert len(points) == 6
    assert points == [Point.from_dict(point.to_dict()) for one in drawn for point in one.run()]  # to six digits
    assert {file.name for file in tmp_path.iterdir()} == {"points.jsonl.xz", "trainings", ".lock"}
    assert set(times(tmp_path)) == {f"{one.key}.json" for one in drawn}
    record = json.loads((tmp_path / "trainings" / f"{drawn[1].key}.json").read_text())
    assert Task.from_dict(record["task"]) == drawn[1].task
    for name in ("problem", "initial_lr", "epochs", "seed"):
        assert record[name] == getattr(drawn[1], name)
    header = read_points(tmp_path / "points.jsonl.xz")[1]
    assert header["provenance"]["settings"]["seed"] == 5
    assert header["problems"] == {name: PROBLEMS[name].task.to_dict() for name in ("toy", "other")}
    counts = [sum(point.label == label for point in points) for label in range(3)]
    said = f"{len(points)} points of 3 trainings are in {tmp_path / 'points.jsonl.xz'} ("
    said += f"{counts[0]} raise, {counts[1]} keep, {counts[2]} lower)"
    first, bar, last = capsys.readouterr().out.splitlines()
    assert (first, last) == (f"3 trainings to run. Results go to {tmp_path}", said)
    assert bar.startswith("trainings: 3 of 3, ")  # there is no screen


@pytest.mark.parametrize("problem", ["toy", "breaking"])
def test_nothing_is_computed_twice(problem: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where it diverged in its first cycle; more runs add to what is there, in whichever order they end.

    But what is damaged is.
    """
    words = ("--problems", problem, "--runs")

    def backwards(pool: Any, calls: list[Callable[[], Any]], timeout: float) -> Iterator[tuple[int, Any]]:
        for place in reversed(range(len(calls))):
            yield place, calls[place]()

    first = run(tmp_path / "a", *words, "2")
    assert len(first) == (4 if problem == "toy" else 0)
    before = times(tmp_path / "a")
    more = run(tmp_path / "a", *words, "4", as_they_come=backwards)
    after = times(tmp_path / "a")
    assert more[: len(first)] == first
    assert (len(before), len(after)) == (2, 4)
    assert {name: after[name] for name in before} == before
    assert more == run(tmp_path / "b", *words, "4")  # as if computed in one go
    one = next((tmp_path / "a" / "trainings").iterdir())
    whole = json.loads(one.read_text())["points"]
    for content in (
        "",
        "null",
        "[]",
        "{}",
        '{"points": null}',
        '{"points": [{}]}',
        '{"points": [null]}',
        "[" * 100_000,
    ):
        one.write_text(content)
        assert run(tmp_path / "a", *words, "4") == more
        assert json.loads(one.read_text())["points"] == whole
    after = times(tmp_path / "a")
    monkeypatch.setattr(Training, "run", lambda self: pytest.fail("a training was computed again"))
    assert run(tmp_path / "a", *words, "4") == more
    assert run(tmp_path / "a", *words, "1") == more[: len(first) // 2]
    assert times(tmp_path / "a") == after


def test_ctrl_c(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """What is done is kept, and the same command continues."""
    monkeypatch.setenv("COLUMNS", "300")

    def interrupted(pool: Any, calls: list[Callable[[], Any]], timeout: float) -> Iterator[tuple[int, Any]]:
        yield 1, calls[1]()
        raise KeyboardInterrupt

    with pytest.raises(SystemExit) as caught:
        run(tmp_path, "--runs", "3", as_they_come=interrupted)
    assert caught.value.code == 130
    assert f"Stopped. The same command with --out {tmp_path} continues." in capsys.readouterr().out
    assert len(times(tmp_path)) == 1
    assert not (tmp_path / "points.jsonl.xz").exists()
    computed: list[Training] = []
    once = Training.run
    monkeypatch.setattr(Training, "run", lambda self: computed.append(self) or once(self))
    keys = [point.run for point in run(tmp_path, "--runs", "3")]
    assert len(computed) == 2
    assert list(dict.fromkeys(keys)) == [Training.draw(PROBLEMS["toy"], 0, number).key for number in range(3)]


def prepared(*arguments: str) -> list[Training]:
    return generate.prepare(cli.parse(generate.Arguments, "", arguments)[0])


def test_problems_take_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = prepared("--problems", "other", "toy", "--runs", "5")
    assert [one.problem for one in drawn] == ["other", "toy", "other", "toy", "other"]
    assert len({one.key for one in drawn}) == 5
    monkeypatch.setattr(generate, "Trainee", lambda *_: None)
    names = list(PROBLEMS)
    assert len(names) == 12 + 3
    assert [one.problem for one in prepared()] == names * 8
    assert [one.problem for one in prepared("--problems", "all", "--runs", "3")] == names[:3]


REFUSED: list[tuple[str, str]] = [
    ("--problems toyy", "no problem is named 'toyy'. Did you mean 'toy'?"),
    ("--problems all toy", "no problem is named 'all'"),
    ("--problems toy toy", "--problems must differ from each other, got ['toy', 'toy']"),
    ("--problems", "argument --problems: expected at least one argument"),
    ("--problems untrainable", "batch_size=13 is more than the 12 training examples"),
    ("--problems without-data", "the data set 'absent' is in none of these places"),
    ("--problems sentences-lstm", "ARC's text problems need tinyshakespeare.txt"),
    ("--runs 0", "argument --runs: must be a whole number of at least 1, got '0'"),
    ("--seed -1", "argument --seed: must be a whole number of at least 0, got '-1'"),
    ("--workers 0", "argument --workers: must be a whole number of at least 1, got '0'"),
    ("--plugins {tmp}/none.py", "--plugins must be Python files (name.py), got '{tmp}/none.py'"),
    ("--plugins {tmp}/arc_raising.py", "--plugins {tmp}/arc_raising.py cannot be imported: no luck"),
    ("--plugins {tmp}/arc_taking.py", "the problem 'teacher-mlp' is registered already"),
    ("--data {tmp}/none", "--data must be a folder, got '{tmp}/none'"),
    ("--out {tmp}/file", "--out must be a folder, {tmp}/file is a file"),
    ("--seed 0 surplus", "unrecognized arguments: surplus"),
]


@pytest.fixture
def clean(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Forget after the test what plugins did: their place on the path, their modules and their data."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    monkeypatch.setattr(DATA, "_things", dict(DATA._things))
    yield
    for name in [name for name in sys.modules if name.startswith("arc_") and name != "arc_toys"]:
        del sys.modules[name]


def test_arguments_that_make_no_sense(tmp_path: Path, capsys: Any, monkeypatch: Any, clean: None) -> None:
    monkeypatch.setenv("LR_GYM_DATA", str(tmp_path))
    getattr(arc_data._shakespeare, "cache_clear", lambda: None)()
    PROBLEMS.register("untrainable", arc_toys.problem("untrainable", batch_size=13))
    PROBLEMS.register("without-data", arc_toys.problem("without-data", data="absent"))
    (tmp_path / "file").write_text("")
    (tmp_path / "arc_raising.py").write_text("raise ValueError('no luck')")
    (tmp_path / "arc_taking.py").write_text(
        "import dataclasses; from lr_gym.agents.arc import problems; task = problems.PROBLEMS['teacher-mlp'].task\n"
        "problems.register(problems.Problem(task))"
    )
    before = sorted(tmp_path.rglob("*"))
    for words, message in REFUSED:
        arguments = words.replace("{tmp}", str(tmp_path)).split()
        arguments = arguments if "--problems" in words else ["--problems", "toy", *arguments]
        assert message.replace("{tmp}", str(tmp_path)) in arc_toys.refused(generate, capsys, *arguments), words
        assert sorted(tmp_path.rglob("*")) == before


def test_data_is_looked_for_where_the_option_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LR_GYM_DATA", "elsewhere")
    np.savez(tmp_path / "squares.npz", **quadratics.table(3))
    PROBLEMS.register("squares", arc_toys.problem("squares", data="squares"))
    assert len(prepared("--problems", "squares", "--data", str(tmp_path), "--runs", "2")) == 2


PLUGIN = "import arc_toys; from lr_gym.agents.arc.problems import register; register(arc_toys.problem('waves'))"


def test_a_problem_of_a_plugin_in_a_worker_process(tmp_path: Path, clean: None) -> None:
    """The worker imports the plugin, and finds its problem's data; what it computes is what is computed here."""
    from lr_gym.envs.places import pool_at
    from lr_gym.processes import as_they_come

    file = tmp_path / "a folder" / "arc_plugin.py"
    file.parent.mkdir()
    file.write_text(PLUGIN)
    words = ("--plugins", str(file), "--problems", "waves", "--runs", "1")
    points = run(tmp_path / "out", *words, pool_at=pool_at, as_they_come=as_they_come)
    assert {point.problem for point in points} == {"waves"}
    assert points == run(tmp_path / "here", *words, CYCLES=10)
