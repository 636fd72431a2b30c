"""The network's loss and training against arithmetic by hand; candidates; and the command."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

import arc_toys
import matplotlib.image
import numpy as np
import pytest
import safetensors
import tiny
import torch
import toys
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from lr_gym import agents, cli
from lr_gym.agents.arc import selection, train
from lr_gym.agents.arc.network import KEEP, LOWER, RAISE, ARCNetwork, load_weights
from lr_gym.agents.arc.points import dataset, read_points
from lr_gym.agents.arc.train import BATCH_SIZE, Candidate, draw_learning, fit, hybrid_loss
from lr_gym.evaluation import Cell

# -- the loss ----------------------------------------------------------------------------------------------------------


def by_hand(logits: list[list[float]], labels: list[int], binary: str) -> float:
    """Return the loss in Python's numbers, one example at a time."""
    entropies, binaries = [], []
    for row, label in zip(logits, labels, strict=True):
        top = max(row)
        total = math.fsum(math.exp(logit - top) for logit in row)
        entropies.append(top + math.log(total) - row[label])
        raising = min(max(math.exp(row[RAISE] - top) / total, 1e-4), 1 - 1e-4)
        if binary == "paper" or label != KEEP:
            binaries.append(-math.log(raising if label == RAISE else 1 - raising))
    mean = math.fsum(binaries) / len(binaries) if binaries else 0.0
    return (math.fsum(entropies) / len(entropies) + mean) / 2


rows = st.lists(st.floats(-15, 15), min_size=3, max_size=3)


@given(st.lists(st.tuples(rows, st.integers(0, 2)), min_size=1, max_size=6), st.sampled_from(["code", "paper"]))
def test_hybrid_loss(examples: list[tuple[list[float], int]], binary: str) -> None:
    logits, labels = map(list, zip(*examples, strict=True))
    loss = hybrid_loss(torch.tensor(logits, dtype=torch.float64), torch.tensor(labels), binary)
    assert loss.shape == ()
    assert float(loss) == pytest.approx(by_hand(logits, labels, binary), rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("binary", ["code", "paper"])
def test_gradients(binary: str) -> None:
    """Those of differences; finite at extreme logits, and in a batch that only keeps: 0 / 0 in the authors' code."""
    generator = torch.Generator().manual_seed(0)
    logits, step = (torch.randn(5, 3, generator=generator, dtype=torch.float64) for _ in range(2))
    labels = torch.tensor([RAISE, KEEP, LOWER, LOWER, RAISE])
    ahead, behind = (hybrid_loss(logits + h * step, labels, binary) for h in (1e-6, -1e-6))
    hybrid_loss(logits.requires_grad_(), labels, binary).backward()
    assert float((logits.grad * step).sum()) == pytest.approx(float(ahead - behind) / 2e-6, rel=1e-6)
    for size in (0.0, 10.0, 1e30):
        logits = torch.cat([size * torch.eye(3), -size * torch.eye(3)]).repeat_interleave(3, 0).requires_grad_()
        loss = hybrid_loss(logits, torch.tensor([RAISE, KEEP, LOWER] * 6 if size else [KEEP] * 18), binary)
        loss.backward()
        assert bool(loss.isfinite())
        assert bool(logits.grad.isfinite().all())
        assert bool(logits.grad.abs().sum() > 0)
        assert size or binary == "paper" or float(loss.detach()) == pytest.approx(math.log(3) / 2)


# -- training ----------------------------------------------------------------------------------------------------------


def curves(count: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Return inputs whose class shows in the slope of the training losses."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(3, size=count)
    x = rng.normal(0, 0.2, (count, 300, 3))
    x[:, :, 0] += (labels - 1)[:, None] * np.linspace(-2, 2, 300)
    x[:, :, 1] += 5  # tells a blanked column from all others
    return torch.from_numpy(x.astype(np.float32)), torch.from_numpy(labels)


class Spy(nn.Module):
    """A linear network that keeps what it is trained on."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(900, 3)
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)
        self.seen: list[Tensor] = []
        self.asked: list[Tensor] = []

    def forward(self, x: Tensor) -> Tensor:
        (self.asked if torch.is_inference_mode_enabled() else self.seen).append(x.clone())
        return self.linear(x.flatten(1))


def fitted(network: Any, inputs: Tensor, labels: Tensor, epochs: int, test: Any = None, binary: str = "code") -> Any:
    """Train on inputs that are to be left alone, and return the losses and the accuracies on held-out points."""
    before = inputs.clone()
    held_out = test or (torch.empty(0, 300, 3), torch.empty(0, dtype=torch.int64))
    result = fit(network, inputs, labels, *held_out, np.random.default_rng(0), epochs, binary)
    assert torch.equal(inputs, before)
    return result


@pytest.mark.parametrize(("count", "sizes"), [(5, {5}), (128, {128}), (200, {100}), (300, {150}), (400, {133, 134})])
def test_batches(count: int, sizes: set[int]) -> None:
    """Every example once per epoch, in another order, in batches that are about as large as the paper's.

    Half of them go without validation losses, the whole column, drawn anew in every epoch.
    """
    network, (inputs, labels) = Spy(), curves(count)
    losses, accuracies = fitted(network, inputs, labels, 4)
    assert (len(losses), accuracies) == (4, [])
    assert {len(batch) for batch in network.seen} == sizes
    assert all(abs(size - BATCH_SIZE) <= BATCH_SIZE / 2 for size in sizes if count >= BATCH_SIZE)
    orders, blanked = [], []
    for epoch in torch.cat(network.seen).split(count):
        order = torch.cdist(epoch[:, :, 0], inputs[:, :, 0]).argmin(1)
        assert sorted(order.tolist()) == list(range(count))
        blank = (epoch[:, :, 1] == 0).all(1)
        assert torch.equal(epoch[:, :, [0, 2]], inputs[order][:, :, [0, 2]])
        assert torch.equal(epoch[~blank], inputs[order][~blank])
        orders.append(order.tolist())
        blanked.append(set(order[blank].tolist()))
    assert orders[0] != orders[1] != orders[2] != sorted(orders[2])
    assert len({frozenset(places) for places in blanked}) > 1
    assert 0.45 < sum(map(len, blanked)) / 4 / count < 0.55 or count == 5


def test_the_first_update_is_adams() -> None:
    """It moves every weight by the learning rate against the sign of its gradient; the loss is the one before it."""
    network, (inputs, labels) = Spy(), curves(64)
    losses, _ = fitted(network, inputs, labels, 1)
    order = torch.cdist(network.seen[0][:, :, 0], inputs[:, :, 0]).argmin(1)
    again = torch.zeros(3, 900, requires_grad=True)
    loss = hybrid_loss(network.seen[0].flatten(1) @ again.T, labels[order])
    loss.backward()
    assert again.grad is not None
    clear = again.grad.abs() > 1e-4  # Adam adds 1e-8 to the gradient's size
    assert clear.float().mean() > 0.9
    moved = network.linear.weight.detach()[clear].numpy()
    assert moved == pytest.approx(-1e-4 * again.grad[clear].sign().numpy(), rel=1e-3)
    assert losses == pytest.approx([float(loss.detach())])


def test_what_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    """The mean loss over all examples, of batches of 133 and 134; the accuracy on held-out points, whole."""
    monkeypatch.setattr(train, "LEARNING_RATE", 0.0)
    monkeypatch.setattr(train, "BLANKED", 0.0)
    network, (inputs, labels), test = Spy(), curves(400), curves(30, seed=1)
    nn.init.normal_(network.linear.weight, std=0.01, generator=torch.Generator().manual_seed(0))
    losses, accuracies = fitted(network, inputs, labels, 2, test, "paper")
    whole = float(hybrid_loss(network.linear(inputs.flatten(1)), labels, "paper").detach())
    assert losses == pytest.approx([whole, whole], rel=1e-5)
    assert all(torch.equal(asked, test[0]) for asked in network.asked)
    final = float((network.linear(test[0].flatten(1)).argmax(1) == test[1]).float().mean())
    assert accuracies == pytest.approx([final, final])


def test_the_network_learns(monkeypatch: pytest.MonkeyPatch) -> None:
    """And it is the same whatever the state of the global generators, which it leaves alone."""
    monkeypatch.setattr(train, "LEARNING_RATE", 1e-2)
    results = []
    for seed in (4, 5):
        toys.disturb_global_randomness(seed)
        before = toys.global_randomness()
        network = ARCNetwork(1)
        results.append(fitted(network, *curves(64), 12, curves(30, seed=1)))
        assert toys.same(before, toys.global_randomness())
    (losses, accuracies), again = results
    assert (losses, accuracies) == again
    assert losses[0] == pytest.approx((math.log(3) + math.log(2)) / 2, rel=0.3)  # knowing nothing
    assert losses[-1] < losses[0] / 2
    assert accuracies[-1] > 0.8
    for name, parameter in network.named_parameters():
        assert bool(parameter.isfinite().all())
        assert "bias_hh" not in name or not parameter.any()


# -- candidates --------------------------------------------------------------------------------------------------------


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return arc_toys.points_file(tmp_path / "points" / "points.jsonl.xz", arc_toys.points(trainings=10))


def candidate(file: Path, **changes: Any) -> Candidate:
    values: dict[str, Any] = {"points": str(file), "digest": "0123456789abcdef", "seed": 3, "epochs": 2}
    values |= {"held_out": 0.2, "variant": "code", "binary": "code"}
    return Candidate(**(values | changes))


def test_files_of_a_candidate(file: Path, tmp_path: Path) -> None:
    """A pure function of its fields and the points."""
    chosen = candidate(file)
    folder = tmp_path / "candidates"
    record = chosen.train(folder)
    assert {path.name for path in folder.iterdir()} == {f"{chosen.key}.safetensors", f"{chosen.key}.json"}
    assert json.loads((folder / f"{chosen.key}.json").read_text()) == record
    network = load_weights(folder / f"{chosen.key}.safetensors")
    assert network.fingerprint() == record["fingerprint"]
    assert record["settings"] == dataclasses.asdict(chosen) | {"points": file.name}  # no place on this machine
    with safetensors.safe_open(folder / f"{chosen.key}.safetensors", "pt") as opened:
        assert json.loads(opened.metadata()["arc"]) == record["settings"]
    assert (len(record["losses"]), len(record["held_out_accuracies"])) == (2, 2)
    confusion = np.array(record["held_out_confusion"])
    assert (confusion.shape, record["examples"], confusion.sum()) == ((3, 3), 24, 6)  # 2 of 10 trainings, 3 points each
    assert np.trace(confusion) / 6 == pytest.approx(record["held_out_accuracies"][-1])
    toys.disturb_global_randomness(8)
    assert chosen.train(tmp_path / "b") == record
    other = [candidate(file, **changes).train(tmp_path / "c") for changes in ({"seed": 4}, {"binary": "paper"})]
    assert len({record["fingerprint"], *(one["fingerprint"] for one in other)}) == 3


def test_keys_of_candidates(file: Path, tmp_path: Path) -> None:
    key = candidate(file).key
    assert candidate(tmp_path / "elsewhere").key == key  # its contents are known by the digest
    numbers: dict[str, Any] = {"digest": "f" * 16, "seed": 4, "epochs": 3, "held_out": 0.3}
    changes = [{name: value} for name, value in (numbers | {"variant": "paper", "binary": "paper"}).items()]
    assert len({key, *(candidate(file, **change).key for change in changes)}) == 7


Split = tuple[Tensor, Tensor, Tensor, Tensor]


@pytest.fixture
def given_to_fit(monkeypatch: pytest.MonkeyPatch) -> list[Split]:
    """Let candidates train nothing, and note on what they would."""
    calls: list[Split] = []
    monkeypatch.setattr(train, "fit", lambda network, *rest: calls.append(rest[:4]) or ([1.0], [0.5]))
    return calls


@pytest.mark.parametrize(("held_out", "count"), [(0.0, 0), (0.1, 1), (0.5, 5), (0.9, 9), (0.25, 2)])
def test_whole_trainings_are_held_out(
    file: Path, tmp_path: Path, given_to_fit: list[Split], held_out: float, count: int
) -> None:
    """Points of one training are related: their histories overlap. Other seeds hold out others."""
    points, _ = read_points(file)
    for variant in ("code", "paper"):
        record = candidate(file, held_out=held_out, variant=variant).train(tmp_path)
        inputs, labels, test_inputs, test_labels = given_to_fit[-1]
        all_inputs, all_labels = dataset(points, variant)
        assert (len(inputs), len(test_inputs)) == (30 - 3 * count, 3 * count)
        assert record["examples"] == 30 - 3 * count

        def places(chosen: Tensor, rows: Any = all_inputs) -> list[int]:
            return [int(np.flatnonzero((rows == row).all((1, 2)))[0]) for row in chosen.numpy()]

        kept, out = places(inputs), places(test_inputs)
        assert sorted(kept + out) == list(range(30))
        assert {points[k].run for k in kept}.isdisjoint({points[k].run for k in out})
        assert labels.tolist() == all_labels[kept].tolist()
        assert test_labels.tolist() == all_labels[out].tolist()
    for seed in range(6):
        candidate(file, seed=seed, held_out=held_out).train(tmp_path)
    assert (len({split[2].numpy().tobytes() for split in given_to_fit[2:]}) > 2) == (count > 0)


def test_the_share_of_a_hundred_trainings_is_what_was_asked_for(tmp_path: Path, given_to_fit: list[Split]) -> None:
    file = arc_toys.points_file(tmp_path / "points.jsonl.xz", arc_toys.points(trainings=100, cycles=1))
    for per_cent in (29, 58):
        prepared(file, "--held-out", str(per_cent))[0].train(tmp_path)
        assert len(given_to_fit[-1][2]) == per_cent


# -- the figure --------------------------------------------------------------------------------------------------------


def test_the_figure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Losses, and accuracies as means of ten epochs or of as many as there are."""
    figures: list[Any] = []
    save = train.save_figure
    monkeypatch.setattr(train, "save_figure", lambda figure, path: figures.append(figure) or save(figure, path))
    for accuracies, heights in (
        ([k / 100 for k in range(30)], [(k + 4.5) / 100 for k in range(21)]),
        *(([0.75] * count, [0.75] * max(1, count - 9)) for count in (1, 9, 10)),
        ([], []),
    ):
        draw_learning([{"losses": [2.0, 1.0, 0.5], "held_out_accuracies": accuracies}], tmp_path / "learning.png")
        left, right = figures[-1].axes
        assert np.asarray(left.get_lines()[0].get_ydata()).tolist() == [2.0, 1.0, 0.5]
        assert np.asarray(right.get_lines()[0].get_ydata()) == pytest.approx(heights)
    assert len(np.unique(matplotlib.image.imread(tmp_path / "learning.png")[..., :3].reshape(-1, 3), axis=0)) > 20


# -- the command -------------------------------------------------------------------------------------------------------

PROXY = tiny.task(budget=80, initial_lrs=(1e-2, 1e-3))


@pytest.fixture(autouse=True)
def small_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (train, selection):
        monkeypatch.setattr(module, "PROXY", PROXY)


def run(out: Path, file: Path, *arguments: str, **replaced: Any) -> dict[str, Any]:
    """Run the command with two candidates, and return its results."""
    words = ("--points", str(file), "--out", str(out), "--candidates", "2", "--epochs", "1", "--runs", "1")
    quick = {"Workers": tiny.workers_here, "draw_scores": print, "draw_learning": print}
    arc_toys.run_main(train, *words, "--workers", "1", *arguments, **(quick | replaced))
    return dict(json.loads((out / "results.json").read_text()))


def test_the_command(file: Path, tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """And again, which computes nothing."""
    monkeypatch.setenv("COLUMNS", "300")
    out = tmp_path / "out"
    results = run(out, file, draw_scores=selection.draw_scores, draw_learning=draw_learning)
    assert {path.name for path in out.iterdir()} == {
        *("arc.safetensors", "results.json", "scores.png", "learning.png", "candidates", "episodes", ".lock")
    }
    assert len(list((out / "candidates").iterdir())) == 4
    assert len(list((out / "episodes").iterdir())) == 4  # two candidates, two starts
    means = [one["score"]["mean"] for one in results["candidates"]]
    chosen = results["chosen"] - 1
    assert means[chosen] == max(means)
    best = out / "candidates" / results["candidates"][chosen]["score"]["weights"]
    assert (out / "arc.safetensors").read_bytes() == best.read_bytes()
    agent = agents.make("arc", weights=str(out / "arc.safetensors"))
    assert agent.fingerprint == results["candidates"][chosen]["fingerprint"]
    assert results["digest"] == hashlib.sha256(file.read_bytes()).hexdigest()[:16]
    assert results["proxy"] == PROXY.to_dict()
    assert len({one["fingerprint"] for one in results["candidates"]}) == 2
    said = capsys.readouterr().out
    assert said.startswith(f"2 candidates to train, 1 epochs each. Results go to {out}\n")
    for bar in ("candidates trained: 2 of 2, ", "episodes of the proxy task: 4 of 4, "):
        assert f"\n{bar}" in said
    for number, mean in enumerate(means):
        assert f"candidate {number + 1}: mean best accuracy {mean:.4f}{' (chosen)' * (number == chosen)}\n" in said
    assert str(out / "arc.safetensors") in said

    for kind, name in ((Candidate, "learn"), (Cell, "run")):
        monkeypatch.setattr(kind, name, lambda *_: pytest.fail("something was computed again"))
    assert run(out, file) | {"provenance": None} == results | {"provenance": None}


@pytest.fixture
def invented(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let nothing be trained but the candidates: one is the better, the smaller its fingerprint is."""

    def run(cell: Cell) -> Any:
        accuracy = 1 - int(cell.contestant.identity["fingerprint"], 16) / 16**16
        return dataclasses.replace(tiny.record(), val_accuracies=[accuracy / 2, accuracy, None, accuracy / 3])

    monkeypatch.setattr(Cell, "run", run)


def held(path: Path) -> Any:
    """Return what a file holds; safetensors writes a file's metadata in any order."""
    return load_weights(path).fingerprint() if path.suffix == ".safetensors" else path.read_bytes()


def test_candidates_that_are_trained_are_not_trained_again(
    file: Path, tmp_path: Path, invented: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Unless their record or their weights are damaged. The best of them is chosen."""
    first = run(tmp_path, file, "--candidates", "1")
    trained: list[str] = []
    once = Candidate.learn
    monkeypatch.setattr(Candidate, "learn", lambda self, points: trained.append(self.key) or once(self, points))
    results = run(tmp_path, file)
    second = results["candidates"]
    assert second[0] == first["candidates"][0]
    fingerprints = [one["fingerprint"] for one in second]
    assert results["chosen"] == fingerprints.index(min(fingerprints)) + 1
    assert load_weights(tmp_path / "arc.safetensors").fingerprint() == min(fingerprints)
    weights = tmp_path / "candidates" / second[1]["score"]["weights"]
    assert trained == [weights.stem]
    for path, content in (
        *((weights.with_suffix(".json"), content) for content in (b"{", b"[]", b"[1]", b'{"losses": [1.0]}')),
        (weights, weights.read_bytes()[:-1]),
        (weights, (tmp_path / "candidates" / first["candidates"][0]["score"]["weights"]).read_bytes()),
    ):
        whole = held(path)
        path.write_bytes(content)
        assert run(tmp_path, file)["candidates"] == second
        assert held(path) == whole
    assert trained == [weights.stem] * 7


@pytest.mark.parametrize("stage", ["candidates", "episodes"])
def test_ctrl_c(file: Path, tmp_path: Path, monkeypatch: Any, capsys: Any, invented: None, stage: str) -> None:
    monkeypatch.setenv("COLUMNS", "300")

    def interrupted(pool: Any, calls: list[Callable[[], Any]], timeout: float) -> Iterator[tuple[int, Any]]:
        yield 1, calls[1]()
        raise KeyboardInterrupt

    def interrupt(*_: Any, **__: Any) -> NoReturn:
        raise KeyboardInterrupt

    replaced: dict[str, Any] = {"as_they_come": interrupted} if stage == "candidates" else {"Workers": interrupt}
    with pytest.raises(SystemExit) as caught:
        run(tmp_path / "out", file, **replaced)
    assert caught.value.code == 130
    assert f"Stopped. The same command with --out {tmp_path / 'out'} continues." in capsys.readouterr().out
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"candidates", ".lock"}
    kept = {path.name for path in (tmp_path / "out" / "candidates").iterdir()}
    assert len(kept) == (2 if stage == "candidates" else 4)
    run(tmp_path / "out", file)
    assert kept <= {path.name for path in (tmp_path / "out" / "candidates").iterdir()}


def prepared(file: Path, *arguments: str) -> list[Candidate]:
    return train.prepare(cli.parse(train.Arguments, "", ["--points", str(file), *arguments])[0])


def test_arguments_become_candidates(file: Path) -> None:
    words = ("--candidates", "3", "--epochs", "7", "--held-out", "20", "--preprocessing", "paper", "--binary", "paper")
    candidates = prepared(file, *words)
    assert len({one.seed for one in candidates}) == len({one.key for one in candidates}) == 3
    for one, settings in ((candidates[0], (7, 0.2, "paper", "paper")), (prepared(file)[9], (300, 0.1, "code", "code"))):
        assert (one.epochs, one.held_out, one.variant, one.binary) == settings
        assert one.digest == hashlib.sha256(file.read_bytes()).hexdigest()[:16]
    assert prepared(file, *words, "--candidates", "5")[:3] == candidates
    assert {one.seed for one in prepared(file, *words, "--seed", "1")}.isdisjoint(one.seed for one in candidates)


REFUSED: list[tuple[str, str]] = [
    *((f"--points {{tmp}}{place}", f"{{tmp}}{place} is not a file of ARC points") for place in ("", "/none", "/file")),
    ("--points {tmp}/lacking", "the training training 0 lacks its cycle 1; generate it again"),
    ("--points {tmp}/empty", "no points"),
    *(
        (f"--{name} 0", f"{name}: must be a whole number of at least 1, got '0'")
        for name in ("epochs", "runs", "workers")
    ),
    ("--candidates 0", "--candidates: must be a whole number of at least 1, got '0'"),
    *((f"--{name} -1", f"--{name}: must be a whole number of at least 0, got '-1'") for name in ("held-out", "seed")),
    *((f"--{name} x", f"--{name}: invalid choice: 'x' (choose from") for name in ("preprocessing", "binary")),
    ("--held-out 91", "--held-out must be at most 90 per cent, got 91"),
    ("--data {tmp}/none", "--data must be a folder, got '{tmp}/none'"),
    ("--out {tmp}/file", "--out must be a folder, {tmp}/file is a file"),
    ("--out {tmp}/full", "{tmp}/full/candidates"),
    ("surplus", "unrecognized arguments: surplus"),
]


def test_arguments_that_make_no_sense(file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "candidates").write_text("")
    made = arc_toys.points()
    arc_toys.points_file(tmp_path / "lacking", [made[0], *made[2:]])
    arc_toys.points_file(tmp_path / "empty", [])
    before = sorted(tmp_path.rglob("*"))
    for words, message in REFUSED:
        arguments = words.replace("{tmp}", str(tmp_path)).split()
        arguments += [] if "--points" in words else ["--points", str(file)]
        assert message.replace("{tmp}", str(tmp_path)) in arc_toys.refused(train, capsys, *arguments), words
        assert sorted(tmp_path.rglob("*")) == before
