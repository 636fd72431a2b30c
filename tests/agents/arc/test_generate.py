"""Trainings that branch three ways, against closed forms on quadratics and loops by hand; and the command."""

from __future__ import annotations

import dataclasses
import functools
import itertools
import json
import math
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

import arc_toys
import numpy as np
import pytest
import quadratics
import toys

from lr_gym import cli
from lr_gym.agents.arc import data as arc_data
from lr_gym.agents.arc import generate
from lr_gym.agents.arc.generate import CYCLES, Training
from lr_gym.agents.arc.network import KEEP, LOWER, MULTIPLIERS, RAISE
from lr_gym.agents.arc.points import Point, read_points, survivors
from lr_gym.agents.arc.problems import OPTIMIZERS, PROBLEMS
from lr_gym.errors import InvalidArgumentError, LRGymError, UnknownNameError
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


def noisy(**changes: Any) -> Training:
    """Return one with three updates per epoch, whose branches see different batches."""
    return training(**({"task": arc_toys.problem().task, "initial_lr": 0.005} | changes))


def unrolled(chosen: Training) -> Iterator[tuple[float, list[float], list[float], list[float], int | None]]:
    """Yield of every cycle what gradient descent does on h / 2 (w - 1)^2, from the choices that were made.

    Learning rate, train losses, validation losses, branches, and the label if it is beyond doubt.
    """
    trainee = Trainee(chosen.task, 0)
    h = quadratics.curvature()
    per_error = float(trainee.data.x["validation"].double().square().mean())  # validation loss / (w - 1)^2
    error, lr = 0.25 - 1, chosen.initial_lr
    for point in chosen.run():
        train, val = [], []
        for _ in range(chosen.epochs):
            train.append(h / 2 * error**2)
            error *= 1 - lr * h
            val.append(per_error * error**2)
        factors = [(1 - lr * m * h) ** (2 * chosen.epochs) for m in (1.618, 1.0, 0.618)]
        lowest, second, _ = sorted(factors)
        yield lr, train, val, [val[-1] * f for f in factors], factors.index(lowest) if second > 1.01 * lowest else None
        lr *= (1.618, 1.0, 0.618)[point.chosen]


# -- one training ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("relative_lr", [0.01, 0.3, 2.2])
@pytest.mark.parametrize(("epochs", "seed"), [(1, 0), (2, 1), (2, 2)])
def test_gradient_descent_on_a_quadratic(relative_lr: float, epochs: int, seed: int) -> None:
    """`relative_lr` is r h: the loss falls by (1 - r h)^2 at every update."""
    chosen = training(initial_lr=relative_lr / quadratics.curvature(), epochs=epochs, seed=seed)
    points = chosen.run()
    for point, (lr, train, val, branches, label) in zip(points, unrolled(chosen), strict=True):
        close = functools.partial(pytest.approx, rel=1e-4, abs=1e-9)
        assert point.lr == pytest.approx(lr, rel=1e-12)
        assert point.train_losses == close(train)
        assert point.val_losses == close(val)
        assert point.branches == close(branches)
        assert point.redo == close(point.branches[point.chosen])
        if label is not None and min(branches) > 1e-6:
            assert point.label == label
    assert len(points) == CYCLES == 10


@pytest.mark.parametrize("seed", range(3))
def test_a_much_too_small_learning_rate_is_to_be_raised(seed: int) -> None:
    """Raising it nine times leaves r h below 0.05."""
    points = training(initial_lr=0.05 / 1.618**9 / quadratics.curvature(), seed=seed).run()
    assert [point.label for point in points] == [RAISE] * 10
    assert LOWER not in {point.chosen for point in points}  # the worst is dropped
    assert all(point.branches[0] < point.branches[1] < point.branches[2] for point in points)


@pytest.mark.parametrize("relative_lr", [2.05, 2.6, 3.2])
@pytest.mark.parametrize("epochs", [1, 3])
def test_a_learning_rate_at_which_training_diverges_is_to_be_lowered(relative_lr: float, epochs: int) -> None:
    """0.618 r h < 2 < r h."""
    first = training(initial_lr=relative_lr / quadratics.curvature(), epochs=epochs).run()[0]
    assert first.label == LOWER
    assert first.chosen in (KEEP, LOWER)
    assert first.branches[2] < first.val_losses[-1] < first.branches[1]


def assert_linked(points: list[Point], chosen: Training) -> None:
    """Check what every training must fulfil."""
    assert [point.index for point in points] == list(range(len(points)))
    assert {point.run for point in points} == {chosen.key}
    lr = chosen.initial_lr
    for point in points:
        assert (point.problem, point.optimizer, point.epochs) == (chosen.problem, chosen.optimizer, chosen.epochs)
        assert (point.initial_lr, point.lr) == (chosen.initial_lr, lr)
        assert len(point.val_losses) == chosen.epochs
        assert np.isfinite([*point.train_losses, *point.val_losses]).all()
        assert point.chosen in survivors(point.branches)
        lr *= MULTIPLIERS[point.chosen]
    for point, following in itertools.pairwise(points):
        assert following.val_losses[-1] == point.redo


def test_cycles_are_linked() -> None:
    for seed in range(4):
        chosen = noisy(seed=seed, epochs=1 + seed)
        points = chosen.run()
        assert len(points) == 10
        assert_linked(points, chosen)
        assert {len(point.train_losses) for point in points} == {3 * chosen.epochs}


def test_both_survivors_are_taken() -> None:
    points = [point for seed in range(8) for point in noisy(seed=seed, epochs=1).run()]
    better = sum(point.chosen == int(np.argmin(point.branches)) for point in points)
    assert 25 <= better <= 55  # of 80; chance is one half


def test_branches_see_other_batches_than_their_repetition() -> None:
    """Else the repetition would confirm every label."""
    points = noisy(task=arc_toys.problem(batch_size=2).task, initial_lr=0.05).run()
    assert all(point.redo != point.branches[point.chosen] for point in points)


def test_by_hand() -> None:
    """A loop over an ordinary trainee, without its measurements: the losses from the weights."""
    chosen = noisy(epochs=2, initial_lr=0.02, seed=11)
    rng = np.random.default_rng(11)
    trainee = Trainee(chosen.task, int(rng.integers(2**62)), lr=0.02)
    x, y = (part["validation"].double() for part in (trainee.data.x, trainee.data.y))

    def cycle() -> tuple[list[float], list[float]]:
        train, val = [], []
        for _ in range(2):
            train += trainee.train(3).tolist()
            val.append(float((x @ trainee.parameters[0].detach() - y).square().mean()))
        return train, val

    expected = []
    lr = 0.02
    train, val = cycle()
    for _ in range(3):
        checkpoint = trainee.snapshot()
        ends = []
        for multiplier in (1.618, 1.0, 0.618):
            trainee.restore(checkpoint)
            trainee.reseed(int(rng.integers(2**62)))
            trainee.lr = multiplier * lr
            ends.append(cycle()[1][-1])
        taken = int(rng.choice([k for k in range(3) if ends[k] < max(ends)]))
        trainee.restore(checkpoint)
        trainee.reseed(int(rng.integers(2**62)))
        trainee.lr = lr * (1.618, 1.0, 0.618)[taken]
        expected.append((train, val, ends, taken))
        lr = trainee.lr
        train, val = cycle()
    for point, (train_losses, val_losses, branches, taken) in zip(chosen.run(), expected, strict=False):
        assert point.train_losses == pytest.approx(train_losses, rel=1e-9)
        assert point.val_losses == pytest.approx(val_losses, rel=1e-6)
        assert point.branches == pytest.approx(branches, rel=1e-6)
        assert point.chosen == taken


def test_a_training_is_a_pure_function() -> None:
    chosen = noisy(task=arc_toys.problem().task.replace(optimizer="Adam"), optimizer="Adam")
    first = chosen.run()
    toys.disturb_global_randomness(5)
    before = toys.global_randomness()
    noisy(seed=99, initial_lr=0.1).run()  # another in between
    assert dataclasses.replace(chosen).run() == first
    assert toys.same(before, toys.global_randomness())
    other = dataclasses.replace(chosen, seed=4).run()
    assert [point.branches for point in other] != [point.branches for point in first]


def test_the_state_of_the_optimizer_goes_through_the_cycles() -> None:
    """Momentum on the quadratic, by the recurrence: a branch begins with the momentum that the cycle ended with."""
    task = quadratics.task(optimizer="SGD", optimizer_options={"momentum": 0.9})
    first, second = training(task, optimizer="momentum", initial_lr=0.05, epochs=3, seed=1).run()[:2]
    h, error, velocity = quadratics.curvature(), -0.75, 0.0
    losses = []
    for lr in [0.05] * 3 + [second.lr] * 3:
        losses.append(h / 2 * error**2)
        velocity = 0.9 * velocity + h * error
        error -= lr * velocity
    assert first.train_losses + second.train_losses == pytest.approx(losses, rel=1e-6)
    assert second.lr == 0.05 * MULTIPLIERS[first.chosen]


def test_an_epoch_is_what_is_trained_on() -> None:
    """Of twelve examples: 5 fit twice into all of them; and 4 twice into the first eight."""
    for fields in ({"batch_size": 5}, {"batch_size": 4, "train_size": 8}):
        points = noisy(task=arc_toys.problem(**fields).task, epochs=3).run()
        assert {len(point.train_losses) for point in points} == {6}


# -- divergence --------------------------------------------------------------------------------------------------------


def test_a_training_that_diverges_at_once_teaches_nothing() -> None:
    assert training(quadratics.task(loss_ceiling=10.0), initial_lr=100.0).run() == []
    assert training(initial_lr=1e200).run() == []  # NaN


def test_divergence_ends_a_training() -> None:
    """Errors grow by 1.47, 3 or 5.47 at every update, so all end; what is above the ceiling is infinite."""
    task = quadratics.task(loss_ceiling=1e4)
    lr = 4 / quadratics.curvature()
    lengths = set()
    for seed in range(6):
        chosen = training(task, initial_lr=lr, epochs=1, seed=seed)
        points = chosen.run()
        assert_linked(points, chosen)
        lengths.add(len(points))
        assert all(math.isfinite(point.redo) for point in points[:-1])
        if len(points) < CYCLES:
            assert points[-1].redo == INF
        for point in points:
            assert all(loss == INF or loss <= 1e4 for loss in point.branches)
        assert points[0].branches[2] < points[0].branches[1] < points[0].branches[0]
    assert any(length < CYCLES for length in lengths)


def test_all_branches_diverge() -> None:
    """The first update multiplies the loss by 9, which is below the ceiling; the next by at least 2."""
    chosen = training(quadratics.task(loss_ceiling=8.0), initial_lr=4 / quadratics.curvature(), epochs=1)
    (point,) = chosen.run()
    assert (point.branches, point.redo, point.label) == ((INF, INF, INF), INF, LOWER)
    assert point.chosen in (KEEP, LOWER)


# -- what is drawn -----------------------------------------------------------------------------------------------------


def test_draws_are_the_problems() -> None:
    problem = arc_toys.problem()
    drawn = [Training.draw(problem, 0, number) for number in range(200)]
    for one in drawn:
        name, options, scale = OPTIMIZERS[one.optimizer]
        assert one.problem == "toy"
        assert (one.task.optimizer, one.task.optimizer_options) == (name, options)
        assert one.task == problem.task.replace(optimizer=name, optimizer_options=options)
        assert scale * 1e-3 <= one.initial_lr <= scale * 1e-2
        assert 1 <= one.epochs <= 10
    assert {one.optimizer for one in drawn} == set(OPTIMIZERS)
    assert {one.epochs for one in drawn} == set(range(1, 11))
    assert len({one.seed for one in drawn}) == len({one.initial_lr for one in drawn}) == len(drawn)


def test_a_draw_depends_on_seed_and_number_only() -> None:
    problem = arc_toys.problem()
    alone = Training.draw(problem, 7, 3)
    for number in range(3):
        Training.draw(problem, 7, number)
    assert Training.draw(problem, 7, 3) == alone
    assert Training.draw(problem, 7, 4) != alone
    assert Training.draw(problem, 8, 3) != alone
    assert Training.draw(problem, 3, 7) != alone


def test_keys() -> None:
    chosen = noisy()
    key = chosen.key
    assert dataclasses.replace(chosen).key == key
    assert len(key) == 16
    assert set(key) <= set("0123456789abcdef")
    changes: dict[str, Any] = {
        "problem": "other",
        "task": chosen.task.replace(batch_size=3),
        "optimizer": "Adam",
        "initial_lr": chosen.initial_lr * (1 + 1e-15),
        "epochs": 3,
        "seed": 4,
    }
    assert set(changes) == {field.name for field in dataclasses.fields(Training)}
    others = [dataclasses.replace(chosen, **{field: value}).key for field, value in changes.items()]
    others += [
        dataclasses.replace(chosen, task=chosen.task.replace(**change)).key
        for change in ({"optimizer_options": {"momentum": 0.9}}, {"loss_ceiling": 7.0}, {"model_options": {"x": 1}})
    ]
    assert len({key, *others}) == 1 + len(others)


def test_the_key_changes_with_the_version(monkeypatch: pytest.MonkeyPatch) -> None:
    before = noisy().key
    monkeypatch.setattr(generate, "VERSION", generate.VERSION + 1)
    assert noisy().key != before


# -- the command -------------------------------------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def toy() -> Iterator[None]:
    """Problems that are gone again after the test."""
    before = dict(PROBLEMS._things)
    PROBLEMS.register("toy", arc_toys.problem())
    PROBLEMS.register("other", arc_toys.problem("other", batch_size=3))
    PROBLEMS.register("breaking", arc_toys.problem("breaking", loss_ceiling=1e-6))
    yield
    PROBLEMS._things.clear()
    PROBLEMS._things.update(before)


def run(out: Path, *arguments: str, **replaced: Any) -> list[Point]:
    """Run the command, and return the points that it wrote."""
    words = arguments if "--problems" in arguments else ("--problems", "toy", *arguments)
    arc_toys.run_main(generate, *words, "--out", str(out), "--workers", "1", **({"CYCLES": 2} | replaced))
    return read_points(out / "points.jsonl.xz")[0]


def times(out: Path) -> dict[str, int]:
    return {file.name: file.stat().st_mtime_ns for file in (out / "trainings").iterdir()}


def forbid(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let trainings fail from now on."""

    def computed(self: Training) -> NoReturn:
        pytest.fail("a training was computed again")

    monkeypatch.setattr(Training, "run", computed)


def rounded(points: list[Point]) -> list[Point]:
    return [Point.from_dict(point.to_dict()) for point in points]


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "300")
    points = run(tmp_path, "--problems", "toy", "other", "--runs", "3", "--seed", "5")
    drawn = [Training.draw(PROBLEMS[name], 5, k) for k, name in enumerate(("toy", "other", "toy"))]
    monkeypatch.setattr(generate, "CYCLES", 2)
    assert len(points) == 6
    assert points == rounded([point for one in drawn for point in one.run()])
    assert {file.name for file in tmp_path.iterdir()} == {"points.jsonl.xz", "trainings"}
    assert set(times(tmp_path)) == {f"{one.key}.json" for one in drawn}
    record = json.loads((tmp_path / "trainings" / f"{drawn[1].key}.json").read_text())
    assert Task.from_dict(record["task"]) == drawn[1].task
    assert [record[name] for name in ("problem", "initial_lr", "epochs", "seed")] == [
        *("other", drawn[1].initial_lr, drawn[1].epochs, drawn[1].seed)
    ]
    header = read_points(tmp_path / "points.jsonl.xz")[1]
    assert header["provenance"]["settings"]["seed"] == 5
    assert header["problems"] == {name: PROBLEMS[name].task.to_dict() for name in ("toy", "other")}
    counts = [sum(point.label == label for point in points) for label in range(3)]
    said = f"{len(points)} points of 3 trainings are in {tmp_path / 'points.jsonl.xz'} ("
    said += f"{counts[0]} raise, {counts[1]} keep, {counts[2]} lower)"
    assert said in capsys.readouterr().out


def test_nothing_is_computed_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = run(tmp_path, "--runs", "2")
    before = times(tmp_path)
    forbid(monkeypatch)
    assert run(tmp_path, "--runs", "2") == first
    assert run(tmp_path, "--runs", "1") == [point for point in first if point.run == first[0].run]
    assert times(tmp_path) == before


def test_a_training_without_points_is_not_computed_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It diverged in its first cycle."""
    assert run(tmp_path, "--problems", "breaking", "--runs", "2") == []
    assert len(times(tmp_path)) == 2
    forbid(monkeypatch)
    assert run(tmp_path, "--problems", "breaking", "--runs", "2") == []


def test_more_runs_add_to_what_is_there(tmp_path: Path) -> None:
    first = run(tmp_path / "a", "--runs", "2")
    before = times(tmp_path / "a")
    more = run(tmp_path / "a", "--runs", "4")
    after = times(tmp_path / "a")
    assert more[: len(first)] == first
    assert len(after) == 4
    assert {name: after[name] for name in before} == before
    assert more == run(tmp_path / "b", "--runs", "4")  # as if computed in one go


@pytest.mark.parametrize(
    "content",
    ["", "{", "null", "[]", "3", "{}", '{"points": null}', '{"points": [{}]}', '{"points": [null]}', "[" * 100_000],
)
def test_a_damaged_training_is_computed_again(tmp_path: Path, content: str) -> None:
    expected = run(tmp_path, "--runs", "1")
    (file,) = (tmp_path / "trainings").iterdir()
    whole = json.loads(file.read_text())["points"]
    file.write_text(content)
    assert run(tmp_path, "--runs", "1") == expected
    assert json.loads(file.read_text())["points"] == whole


def test_ctrl_c(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """What is done is kept, and the same command continues."""
    monkeypatch.setenv("COLUMNS", "300")

    def interrupted(pool: Any, calls: list[Callable[[], Any]]) -> Iterator[tuple[int, Any]]:
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
    points = run(tmp_path, "--runs", "3")
    assert len(computed) == 2
    assert list(dict.fromkeys(point.run for point in points)) == [
        Training.draw(PROBLEMS["toy"], 0, number).key for number in range(3)
    ]


def test_the_order_in_which_trainings_end_does_not_matter(tmp_path: Path) -> None:
    def backwards(pool: Any, calls: list[Callable[[], Any]]) -> Iterator[tuple[int, Any]]:
        for place in reversed(range(len(calls))):
            yield place, calls[place]()

    assert run(tmp_path / "a", "--runs", "3", as_they_come=backwards) == run(tmp_path / "b", "--runs", "3")


def prepared(*arguments: str) -> list[Training]:
    return generate.prepare(cli.parse(generate.Arguments, "", arguments)[0])


def test_problems_take_turns() -> None:
    drawn = prepared("--problems", "other", "toy", "--runs", "5")
    assert [one.problem for one in drawn] == ["other", "toy", "other", "toy", "other"]
    assert len({one.key for one in drawn}) == 5


def test_all_problems(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(generate, "Trainee", lambda *_: None)
    names = list(PROBLEMS)
    assert len(names) == 12 + 3
    assert [one.problem for one in prepared()] == names * 8
    assert [one.problem for one in prepared("--problems", "all", "--runs", "3")] == names[:3]


REFUSED: list[tuple[str, str]] = [
    ("--problems nose", "no problem is named 'nose'"),
    ("--problems toyy", "no problem is named 'toyy'. Did you mean 'toy'?"),
    ("--problems all toy", "no problem is named 'all'"),
    ("--problems toy toy", "--problems must differ from each other, got ['toy', 'toy']"),
    ("--problems", "argument --problems: expected at least one argument"),
    ("--problems untrainable", "batch_size=13 is more than the 12 training examples"),
    ("--problems without-data", "the data set 'absent' is in none of these places"),
    ("--problems sentences-lstm", "ARC's text problems need tinyshakespeare.txt"),
    ("--runs 0", "argument --runs: must be a whole number of at least 1, got '0'"),
    ("--runs many", "argument --runs: must be a whole number of at least 1, got 'many'"),
    ("--seed -1", "argument --seed: must be a whole number of at least 0, got '-1'"),
    ("--workers 0", "argument --workers: must be a whole number of at least 1, got '0'"),
    ("--plugins {tmp}/none.py", "--plugins must be Python files (name.py), got '{tmp}/none.py'"),
    ("--plugins {tmp}/arc_raising.py", "--plugins {tmp}/arc_raising.py cannot be imported: no luck"),
    ("--plugins {tmp}/arc_taking.py", "the problem 'teacher-mlp' is registered already"),
    ("--data {tmp}/none", "--data must be a folder, got '{tmp}/none'"),
    ("--out {tmp}/file", "--out must be a folder, {tmp}/file is a file"),
    ("--problem toy", "unrecognized arguments: --problem toy"),
    ("--seed 0 surplus", "unrecognized arguments: surplus"),
]


@pytest.fixture
def clean(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Forget after the test what plugins did: their place on the path, their modules and their data."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    before = dict(DATA._things)
    yield
    DATA._things.clear()
    DATA._things.update(before)
    for name in [name for name in sys.modules if name.startswith("arc_") and name != "arc_toys"]:
        del sys.modules[name]


@pytest.mark.parametrize(("words", "message"), REFUSED, ids=[words for words, _ in REFUSED])
def test_arguments_that_make_no_sense(
    words: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: Any, clean: None
) -> None:
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
    arguments = words.replace("{tmp}", str(tmp_path)).split()
    if "--problems" not in words:
        arguments = ["--problems", "toy", *arguments]
    assert message.replace("{tmp}", str(tmp_path)) in arc_toys.refused(generate, capsys, *arguments)
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    ("words", "error", "message"),
    [
        (("--problems", "nose"), UnknownNameError, "Add one with lr_gym.agents.arc.problems.register"),
        (("--problems", "toy", "toy"), InvalidArgumentError, "must differ"),
        (("--problems", "toy", "--data", "/no/such"), InvalidArgumentError, "--data must be a folder"),
    ],
)
def test_errors_of_prepare(words: tuple[str, ...], error: type[LRGymError], message: str) -> None:
    with pytest.raises(error, match=message):
        prepared(*words)


def test_data_is_looked_for_where_the_option_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LR_GYM_DATA", "elsewhere")
    np.savez(tmp_path / "squares.npz", **quadratics.table(3))
    PROBLEMS.register("squares", arc_toys.problem("squares", data="squares"))
    assert len(prepared("--problems", "squares", "--data", str(tmp_path), "--runs", "2")) == 2


PLUGIN = """
import numpy as np
from lr_gym.agents.arc.problems import Problem, register
from lr_gym import tasks
from lr_gym.tasks import Task

def waves():
    x = np.random.default_rng(0).normal(size=(60, 4))
    return {"x_train": x[:48], "y_train": (x[:48, 0] > 0).astype("int64"),
            "x_test": x[48:], "y_test": (x[48:, 0] > 0).astype("int64")}

tasks.register_data("arc plugin waves", waves)
register(Problem(Task(name="waves", data="arc plugin waves", model_options={"width": 4}, batch_size=8)))
"""


def test_a_problem_of_a_plugin_in_a_worker_process(tmp_path: Path, clean: None) -> None:
    """The worker imports the plugin, and finds its problem's data; what it computes is what is computed here."""
    from lr_gym.processes import as_they_come, worker_pool

    file = tmp_path / "a folder" / "arc_plugin.py"
    file.parent.mkdir()
    file.write_text(PLUGIN)
    words = ("--plugins", str(file), "--problems", "waves", "--runs", "1")
    points = run(tmp_path / "out", *words, worker_pool=worker_pool, as_they_come=as_they_come)
    assert {point.problem for point in points} == {"waves"}
    assert points == run(tmp_path / "here", *words, CYCLES=10)
