"""The ARC agent: when it decides, from which history, and what becomes of the learning rate."""

from __future__ import annotations

import copy
import itertools
import math
import pickle
import sys
from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lr_gym import LRTrainingEnv, agents
from lr_gym.agents.arc import agent as module
from lr_gym.agents.arc.agent import ARCAgent, decide
from lr_gym.agents.arc.network import LOWER, MULTIPLIERS, ARCNetwork, load_weights, save_weights
from lr_gym.agents.arc.preprocessing import VARIANTS, encode
from lr_gym.errors import FileFormatError, InvalidArgumentError
from lr_gym.tasks import Task

EXACT = 1e-6  # actions are float32
RAISE, KEEP = 0, 1
#: Training losses, validation losses and learning rate of a cycle.
History = list[tuple[list[float], list[float], float]]


def task(**fields: Any) -> Task:
    """Return a very small task with 10 updates per epoch, and a decision at the end of each."""
    small = {"batch_size": 20, "validation_size": 20, "model_options": {"width": 2}, "initial_lrs": (1e-2,)}
    return tiny.task(**(small | {"budget": 300} | fields))


def wavering(seed: int = 2) -> ARCNetwork:
    """Return a network that says now this, now that."""
    network = ARCNetwork()
    generator = torch.Generator().manual_seed(seed)
    for tensor in network.weights().values():
        tensor.normal_(0, 0.3, generator=generator)
    return network


@pytest.fixture
def weights(tmp_path: Path) -> Callable[[ARCNetwork | int], Path]:
    """Return a function that writes a network to a file: the one given, or one that always says the same."""

    def write(network: ARCNetwork | int) -> Path:
        path = tmp_path / "weights.safetensors"
        if isinstance(network, int):
            choice, network = network, ARCNetwork()
            network.weights()["dense2.weight"].zero_()
            network.weights()["dense2.bias"][choice] = 1
        save_weights(network, path)
        return path

    return write


class Scripted:
    """Stands in for `decide`: gives answers from a list, in circles, and keeps what it was asked."""

    def __init__(self, answers: Sequence[int] = (RAISE, LOWER, KEEP, LOWER, RAISE)) -> None:
        self.answers, self.asked = answers, list[History]()

    def __call__(self, network: Any, train_losses: Any, val_losses: Any, lrs: Any, variant: str) -> int:
        self.asked.append(copy.deepcopy(list(zip(train_losses, val_losses, lrs, strict=True))))
        return self.answers[(len(self.asked) - 1) % len(self.answers)]


def play(agent: Any, what: Task, lr: float = 1e-2, **env_options: Any) -> list[dict[str, Any]]:
    """Run an episode by hand and return every `info`."""
    env = LRTrainingEnv(what, **(dict(ARCAgent.env_options) | env_options))
    observation, info = env.reset(seed=0, options={"initial_lr": lr})
    agent.reset(env)
    infos, terminated = [info], False
    while not terminated:
        observation, _, terminated, _, info = env.step(agent.predict(observation)[0])
        infos.append(info)
    assert (env.trainee.extra.forward, env.trainee.extra.backward) == (0, 0)
    return infos


def watched(agent: ARCAgent, what: Task, **options: Any) -> tuple[list[dict[str, Any]], list[History]]:
    """Return every `info` of an episode with scripted answers, and the history at each decision."""
    scripted = Scripted()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "decide", scripted)
        return play(agent, what, **options), scripted.asked


def expected(
    infos: list[dict[str, Any]], period: Fraction, frequency: int = 3, first: Fraction | None = None
) -> tuple[list[int], list[History]]:
    """Return when decisions are due and what is known then, from what the env told: times are compared as fractions."""
    start = period if first is None else first
    end = infos[-1]["updates"]
    decisions = [start + k * period for k in range(math.ceil(end / period) + 1)]
    epoch = period / frequency
    around = range(-math.ceil(start / epoch), math.ceil(end / epoch) + 1)
    epochs = [time for time in (start + k * epoch for k in around) if 0 < time <= end]
    times: list[int] = []
    histories: list[History] = []
    cycles: History = []
    train: list[float] = []
    val: list[float] = []
    for k, info in enumerate(infos[:-1]):  # after the last interval nobody is asked
        now, before = info["updates"], infos[k - 1]["updates"] if k else -1
        due = any(before < time <= now for time in decisions)
        train = train + info["train_losses"].tolist()
        if due or any(before < time <= now for time in epochs):
            val = [*val, info["val_loss"]]
        if due:
            cycles.append((train, val, info["lr"]))
            train, val = [], []
            times.append(now)
            histories.append(cycles[-3:])
    return times, histories


# -- cadence -----------------------------------------------------------------------------------------------------------


def test_what_it_knows_by_hand() -> None:
    """Two epochs, measured every 5 updates; a decision in between that is due at no measurement."""
    infos, histories = watched(ARCAgent(every=12, frequency=2), task(budget=40, decision_interval=5))
    train = [info["train_losses"].tolist() for info in infos]
    val = [info["val_loss"] for info in infos]
    lrs = [info["lr"] for info in infos]
    assert len(train) == 8
    # Epochs end at 6, 12, 18, 24, 30 and 36, cycles at 12, 24 and 36; measured at 10, 15, 20, 25, 30 and never.
    first = (train[0] + train[1] + train[2], [val[1], val[2]], lrs[2])
    second = (train[3] + train[4], [val[3], val[4]], lrs[4])
    assert histories == [[first], [first, second]]
    assert lrs == pytest.approx([1e-2] * 3 + [1.618e-2] * 2 + [1.618e-2 * 0.618] * 3, rel=EXACT)  # raised, then lowered


@pytest.mark.parametrize(
    ("options", "fields", "period", "count"),
    [
        ({}, {"budget": 300}, 30, 9),  # after epochs 3, 6, 9 ... : as many as the paper's trainings on CIFAR10 have
        ({}, {"budget": 980}, 30, 32),  # and on PTB
        ({}, {"budget": 600, "decision_interval": 4}, 30, 19),
        ({}, {"budget": 600, "decision_interval": 20}, 30, 19),  # at 40, 60, 100, 120, ...
        ({}, {"budget": 600, "decision_interval": 60}, 30, 9),  # an interval is two cycles
        ({}, {"budget": 600, "decision_interval": 3}, 30, 19),  # several measurements per epoch
        ({}, {"budget": 50}, 5, 4),
        ({}, {"budget": 100, "batch_size": 1}, 10, 9),  # a tenth of the budget
        ({}, {"budget": 70, "decision_interval": 1, "batch_size": 16}, 7, 9),
        ({"frequency": 1}, {"budget": 280}, 10, 27),
        ({"frequency": 5}, {"budget": 280, "decision_interval": 7}, 28, 9),
        ({"every": 25}, {"budget": 140}, 25, 5),
        ({"every": "epoch", "frequency": 1}, {"budget": 90, "decision_interval": 5}, 10, 8),
        ({"every": 20, "first": 0}, {"budget": 120, "decision_interval": 4}, 20, 6),
        ({"every": 20, "first": 5}, {"budget": 120, "decision_interval": 4}, 20, 6),
        ({"every": 20, "first": 70}, {"budget": 120, "decision_interval": 4}, 20, 3),
        ({"every": 20, "frequency": 7}, {"budget": 120, "decision_interval": 2}, 20, 5),
    ],
    ids=str,
)
def test_what_it_knows(options: dict[str, Any], fields: dict[str, Any], period: int, count: int) -> None:
    """The same agent again begins without a history."""
    agent = ARCAgent(**options)
    start = None if "first" not in options else Fraction(options["first"])
    for _ in range(2):
        infos, histories = watched(agent, task(**fields))
        assert agent.period == pytest.approx(period, rel=1e-12)
        assert histories == expected(infos, Fraction(period), options.get("frequency", 3), start)[1]
        assert [len(history) for history in histories] == [min(k + 1, 3) for k in range(count)]
        assert list(agent.cycles) == histories[-1]


@settings(max_examples=30)
@given(
    st.integers(1, 12),
    st.integers(2, 12),
    st.integers(2, 60).map(lambda number: number / 2),
    st.none() | st.integers(0, 60).map(lambda number: number / 2),
    st.integers(1, 6),
)
def test_what_it_knows_whatever_the_times(
    interval: int, intervals: int, every: float, first: float | None, frequency: int
) -> None:
    agent = ARCAgent(every=every, first=first, frequency=frequency)
    infos, histories = watched(agent, task(decision_interval=interval, budget=interval * intervals))
    start = None if first is None else Fraction(first)
    assert histories == expected(infos, Fraction(every), frequency, start)[1]
    assert all(train and val for history in histories for train, val, _ in history)


# -- decisions ---------------------------------------------------------------------------------------------------------


def losses_of(length: int, seed: int = 0) -> list[list[float]]:
    return np.random.default_rng(seed).uniform(1, 3, size=(3, length)).tolist()


@pytest.mark.parametrize("variant", VARIANTS)
def test_decide_is_the_largest_output(variant: str) -> None:
    network, seen = wavering(), set()
    for seed in range(30):
        train, val, lrs = losses_of(20, seed), losses_of(3, seed), [0.1, 0.2, 0.1]
        curves = torch.from_numpy(encode(train, val, lrs, variant=variant))
        choice = decide(network, train, val, lrs, variant)
        outputs = network(curves[None])[0].tolist()
        assert outputs[choice] == max(outputs)
        seen.add(choice)
    assert seen == {0, 1, 2}
    small = decide(network, [[1, 2, 3.0]], [[1.0, 2.0]], [0.1], variant)
    assert decide(network, [[1e38, 2e38, 3e38]], [[1e300, 2e300]], [0.1], variant) == small  # huge losses are numbers
    assert decide(network, [[3.0, 2.0], [1.0]], [[], []], [0.1, 0.1], variant) in seen


def test_losses_that_are_not_finite_lower_the_learning_rate() -> None:
    network = ARCNetwork()
    network.weights()["dense2.bias"][RAISE] = 100
    assert network(torch.full((1, 300, 3), math.nan)).argmax() == RAISE  # what it is a guard against
    for where, cycle in itertools.product(("train_losses", "val_losses"), range(3)):
        history = {"train_losses": losses_of(10), "val_losses": losses_of(2)}
        assert decide(network, **history, lrs=[0.1, 0.1, 0.1]) == RAISE
        for bad in (math.nan, math.inf, -math.inf):
            history[where][cycle][1] = bad
            assert decide(network, **history, lrs=[0.1, 0.1, 0.1]) == LOWER


@pytest.mark.parametrize("variant", VARIANTS)
def test_an_episode_is_explained_by_the_network(weights: Any, variant: str) -> None:
    """Also in a copy, for which the file is not needed any more."""
    network = wavering()
    agent = ARCAgent(path := weights(network), preprocessing=variant)
    assert agent.fingerprint == network.fingerprint() != ARCAgent().fingerprint
    path.unlink()
    assert len(pickle.dumps(agent)) < 1_000_000
    infos = play(pickle.loads(pickle.dumps(agent)), task(budget=600))
    times, histories = expected(infos, Fraction(30))
    lrs = {info["updates"]: info["lr"] for info in infos}
    choices = list[int]()
    for time, history in zip(times, histories, strict=True):
        train, val, past = zip(*history, strict=True)
        choices.append(decide(network, train, val, past, variant))
        assert lrs[time + 10] == pytest.approx(lrs[time] * MULTIPLIERS[choices[-1]], rel=EXACT)
    assert len(times) == 19
    assert len(set(choices)) > 1


UP, DOWN = [1.618**k for k in range(5)], [0.618**k for k in range(5)]


@pytest.mark.parametrize(
    ("choice", "options", "env", "multiples"),
    [
        *((choice, {}, {}, [MULTIPLIERS[choice] ** k for k in range(5)]) for choice in (RAISE, KEEP, LOWER)),
        (RAISE, {"max_lr": 2e-2}, {}, [1, 1.618, 2, 2, 2]),
        (LOWER, {"min_lr": 5e-3}, {}, [1, 0.618, 0.5, 0.5, 0.5]),
        (RAISE, {"max_lr": 1e-2}, {}, [1, 1, 1, 1, 1]),
        (RAISE, {"max_lr": 2e-3}, {}, [1, 1, 1, 1, 1]),  # beyond it already: nothing but a decision moves it
        (KEEP, {"max_lr": 2e-3}, {}, [1, 1, 1, 1, 1]),
        (LOWER, {"max_lr": 2e-3}, {}, DOWN),
        (LOWER, {"min_lr": 5e-2}, {}, [1, 1, 1, 1, 1]),
        (RAISE, {"min_lr": 2e-2}, {}, UP),
        (RAISE, {}, {"max_lr": 3e-2}, [1, 1.618, 1.618**2, 3, 3]),
        (LOWER, {}, {"min_lr": 3e-3}, [1, 0.618, 0.618**2, 0.3, 0.3]),
        (RAISE, {"max_lr": 100.0}, {"max_lr": 3e-2}, [1, 1.618, 1.618**2, 3, 3]),
        # One that is held back reaches the learning rate in several; the next decision starts from what was reached.
        (RAISE, {"every": 20}, {"max_multiplier": 1.2}, [1, 1, 1.2, 1.44, 1.44 * 1.2]),
    ],
)
def test_multiples_and_bounds(weights: Any, choice: int, options: Any, env: Any, multiples: list[float]) -> None:
    infos = play(ARCAgent(str(weights(choice)), **({"every": 10} | options)), task(budget=50), **env)
    assert [info["lr"] / 1e-2 for info in infos] == pytest.approx(multiples, rel=1e-5)


def test_discrete_actions() -> None:
    infos, histories = watched(ARCAgent(), task(budget=200), action="discrete", max_multiplier=2.0)
    wanted, lr = [1e-2] * 2, 1e-2
    for multiplier in [MULTIPLIERS[k] for k in (RAISE, LOWER, KEEP, LOWER, RAISE, RAISE, LOWER, KEEP, LOWER)]:
        lr *= multiplier
        wanted += [lr, lr]
    assert [info["lr"] for info in infos] == pytest.approx(wanted, rel=1e-9)
    assert histories == expected(infos, Fraction(20))[1]


def test_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: Any = agents.make("arc")
    assert made.fingerprint == load_weights(module.DEFAULT_WEIGHTS).fingerprint()
    assert (made.frequency, made.preprocessing, made.every, made.first) == (3, "code", None, None)
    with pytest.raises(FileFormatError, match=r"there is no file .*missing\.safetensors"):
        agents.make("arc", weights=tmp_path / "missing.safetensors")
    (tmp_path / "arc.h5").write_bytes(b"")
    with pytest.raises(FileFormatError, match="does not hold the weights of ARC's authors"):
        agents.make("arc", weights=str(tmp_path / "arc.h5"))
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(InvalidArgumentError, match="h5py"):
        agents.make("arc", weights=tmp_path / "arc.h5")
