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


def test_hybrid_loss_in_round_numbers() -> None:
    """Probabilities (1/2, 1/4, 1/4) in every row."""
    logits = torch.tensor([[math.log(2), 0.0, 0.0]] * 3)
    labels = torch.tensor([RAISE, KEEP, LOWER])
    entropy = (math.log(2) + 2 * math.log(4)) / 3
    assert float(hybrid_loss(logits, labels)) == pytest.approx((entropy + math.log(2)) / 2)
    assert float(hybrid_loss(logits, labels, "paper")) == pytest.approx((entropy + math.log(2)) / 2)
    logits = torch.tensor([[math.log(2), 0.0, 0.0], [0.0, 0.0, 0.0]])
    labels = torch.tensor([RAISE, KEEP])
    entropy = (math.log(2) + math.log(3)) / 2
    assert float(hybrid_loss(logits, labels)) == pytest.approx((entropy + math.log(2)) / 2)  # of the first alone
    paper = (math.log(2) + math.log(3 / 2)) / 2
    assert float(hybrid_loss(logits, labels, "paper")) == pytest.approx((entropy + paper) / 2)


def test_a_batch_that_only_keeps() -> None:
    """In the authors' code its binary part is a division by zero."""
    logits = torch.zeros(4, 3, requires_grad=True)
    loss = hybrid_loss(logits, torch.tensor([KEEP] * 4))
    loss.backward()
    assert float(loss.detach()) == pytest.approx(math.log(3) / 2)
    assert logits.grad is not None
    assert logits.grad.tolist() == [pytest.approx([1 / 24, -1 / 12, 1 / 24])] * 4


@pytest.mark.parametrize("binary", ["code", "paper"])
@pytest.mark.parametrize("size", [10.0, 1e3, 1e30])
def test_the_gradient_is_finite_at_extreme_logits(binary: str, size: float) -> None:
    logits = torch.cat([size * torch.eye(3), -size * torch.eye(3)]).repeat_interleave(3, 0).requires_grad_()
    labels = torch.tensor([RAISE, KEEP, LOWER] * 6)
    loss = hybrid_loss(logits, labels, binary)
    loss.backward()
    assert logits.grad is not None
    assert bool(loss.isfinite())
    assert bool(logits.grad.isfinite().all())
    assert bool(logits.grad.abs().sum() > 0)


def test_the_gradient_is_that_of_differences() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(5, 3, generator=generator, dtype=torch.float64).requires_grad_()
    labels = torch.tensor([RAISE, KEEP, LOWER, LOWER, RAISE])
    for binary in ("code", "paper"):
        assert torch.autograd.gradcheck(lambda x, binary=binary: hybrid_loss(x, labels, binary), logits)


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


def nothing() -> tuple[Tensor, Tensor]:
    return torch.empty(0, 300, 3), torch.empty(0, dtype=torch.int64)


@pytest.mark.parametrize(("count", "sizes"), [(5, {5}), (128, {128}), (200, {100}), (300, {150}), (400, {133, 134})])
def test_batches(count: int, sizes: set[int]) -> None:
    """Every example once per epoch, in batches that are about as large as the paper's."""
    network, (inputs, labels) = Spy(), curves(count)
    before = inputs.clone()
    losses, accuracies = fit(network, inputs, labels, *nothing(), np.random.default_rng(0), 3)  # type: ignore[arg-type]
    assert torch.equal(inputs, before)
    assert (len(losses), accuracies) == (3, [])
    assert {len(batch) for batch in network.seen} == sizes
    assert all(abs(size - BATCH_SIZE) <= BATCH_SIZE / 2 for size in sizes if count >= BATCH_SIZE)
    epochs = torch.cat(network.seen).split(count)
    assert len(epochs) == 3
    orders = []
    for epoch in epochs:
        distances = torch.cdist(epoch[:, :, 0], inputs[:, :, 0])
        order = distances.argmin(1)
        assert sorted(order.tolist()) == list(range(count))
        assert torch.equal(epoch[:, :, [0, 2]], inputs[order][:, :, [0, 2]])
        orders.append(order.tolist())
    assert orders[0] != orders[1] != orders[2]


def test_half_of_the_examples_go_without_validation_losses() -> None:
    """The whole column of an example, drawn anew in every epoch."""
    network, (inputs, labels) = Spy(), curves(100)
    fit(network, inputs, labels, *nothing(), np.random.default_rng(0), 10)  # type: ignore[arg-type]
    columns = torch.cat(network.seen)[:, :, 1]
    blank = (columns == 0).all(1)
    assert torch.equal((columns == 0).any(1), blank)
    assert 0.45 < float(blank.float().mean()) < 0.55
    order = torch.cdist(torch.cat(network.seen)[:, :, 0], inputs[:, :, 0]).argmin(1)
    assert torch.equal(columns[~blank], inputs[order][~blank][:, :, 1])
    times = torch.zeros(100, dtype=torch.int64).index_add_(0, order, blank.long())
    assert 0 < int(times.min()) < int(times.max()) < 10
    assert len({tuple(part) for part in blank.view(10, 100).tolist()}) == 10


def test_the_first_update_is_adams() -> None:
    """It moves every weight by the learning rate against the sign of its gradient; the loss is the one before it."""
    network, (inputs, labels) = Spy(), curves(64)
    losses, _ = fit(network, inputs, labels, *nothing(), np.random.default_rng(0), 1)  # type: ignore[arg-type]
    weight = network.linear.weight.detach()
    x = network.seen[0].flatten(1)
    order = torch.cdist(network.seen[0][:, :, 0], inputs[:, :, 0]).argmin(1)
    again = torch.zeros(3, 900, requires_grad=True)
    loss = hybrid_loss(x @ again.T, labels[order])
    loss.backward()
    assert again.grad is not None
    clear = again.grad.abs() > 1e-4  # Adam adds 1e-8 to the gradient's size
    assert clear.float().mean() > 0.9
    assert weight[clear].numpy() == pytest.approx(-1e-4 * again.grad[clear].sign().numpy(), rel=1e-3)
    assert losses == pytest.approx([float(loss.detach())])


def test_the_loss_of_an_epoch_is_the_mean_over_its_examples(monkeypatch: pytest.MonkeyPatch) -> None:
    """Batches of 133 and 134, at a learning rate that changes nothing."""
    monkeypatch.setattr(train, "LEARNING_RATE", 0.0)
    monkeypatch.setattr(train, "BLANKED", 0.0)
    network, (inputs, labels) = Spy(), curves(400)
    nn.init.normal_(network.linear.weight, std=0.01, generator=torch.Generator().manual_seed(0))
    losses, _ = fit(network, inputs, labels, *nothing(), np.random.default_rng(0), 2, "paper")  # type: ignore[arg-type]
    whole = float(hybrid_loss(network.linear(inputs.flatten(1)), labels, "paper").detach())
    assert losses == pytest.approx([whole, whole], rel=1e-5)


def test_held_out_points_are_looked_at_whole() -> None:
    network, (inputs, labels), (test_inputs, test_labels) = Spy(), curves(40), curves(30, seed=1)
    _, accuracies = fit(network, inputs, labels, test_inputs, test_labels, np.random.default_rng(0), 4)  # type: ignore[arg-type]
    assert all(torch.equal(asked, test_inputs) for asked in network.asked)
    final = float((network.linear(test_inputs.flatten(1)).argmax(1) == test_labels).float().mean())
    assert len(accuracies) == 4
    assert accuracies[-1] == pytest.approx(final)


def test_the_network_learns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(train, "LEARNING_RATE", 1e-2)
    network, (inputs, labels), test = ARCNetwork(1), curves(64), curves(30, seed=1)
    losses, accuracies = fit(network, inputs, labels, *test, np.random.default_rng(0), 25)
    assert losses[0] == pytest.approx((math.log(3) + math.log(2)) / 2, rel=0.3)  # knowing nothing
    assert losses[-1] < losses[0] / 3
    assert accuracies[-1] > 0.9
    for name, parameter in network.named_parameters():
        if "bias_hh" in name:
            assert not parameter.any()
        assert bool(parameter.isfinite().all())


def fitted(seed: int = 0, binary: str = "code") -> tuple[list[float], str]:
    network = ARCNetwork(3)
    losses, _ = fit(network, *curves(40), *nothing(), np.random.default_rng(seed), 2, binary)
    return losses, network.fingerprint()


def test_training_is_a_pure_function() -> None:
    first = fitted()
    toys.disturb_global_randomness(4)
    before = toys.global_randomness()
    assert fitted() == first
    assert toys.same(before, toys.global_randomness())
    assert len({first[1], fitted(seed=1)[1], fitted(binary="paper")[1], ARCNetwork(3).fingerprint()}) == 4


# -- candidates --------------------------------------------------------------------------------------------------------


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return arc_toys.points_file(tmp_path / "points" / "points.jsonl.xz", arc_toys.points(trainings=10))


def candidate(file: Path, **changes: Any) -> Candidate:
    values: dict[str, Any] = {
        "points": str(file),
        "digest": "0123456789abcdef",
        "seed": 3,
        "epochs": 2,
        "held_out": 0.2,
        "variant": "code",
        "binary": "code",
    }
    return Candidate(**(values | changes))


def test_files_of_a_candidate(file: Path, tmp_path: Path) -> None:
    chosen = candidate(file)
    folder = tmp_path / "candidates"
    record = chosen.train(folder)
    assert {path.name for path in folder.iterdir()} == {f"{chosen.key}.safetensors", f"{chosen.key}.json"}
    assert json.loads((folder / f"{chosen.key}.json").read_text()) == record
    weights = folder / f"{chosen.key}.safetensors"
    network = load_weights(weights)
    assert network.fingerprint() == record["fingerprint"]
    assert record["settings"] == dataclasses.asdict(chosen) | {"points": file.name}  # no place on this machine
    with safetensors.safe_open(weights, "pt") as opened:
        metadata = opened.metadata()
    assert json.loads(metadata["arc"]) == record["settings"]
    assert record["settings"]["digest"] == chosen.digest
    assert (len(record["losses"]), len(record["held_out_accuracies"])) == (2, 2)
    confusion = np.array(record["held_out_confusion"])
    assert confusion.shape == (3, 3)
    assert (record["examples"], confusion.sum()) == (24, 6)  # two of ten trainings with three points
    assert np.trace(confusion) / 6 == pytest.approx(record["held_out_accuracies"][-1])


def test_a_candidate_is_a_pure_function(file: Path, tmp_path: Path) -> None:
    chosen = candidate(file, epochs=1)
    first = chosen.train(tmp_path / "a")
    toys.disturb_global_randomness(8)
    assert chosen.train(tmp_path / "b") == first
    a, b = (load_weights(tmp_path / folder / f"{chosen.key}.safetensors") for folder in "ab")
    assert a.fingerprint() == b.fingerprint() == first["fingerprint"]


def test_keys_of_candidates(file: Path, tmp_path: Path) -> None:
    chosen = candidate(file)
    assert candidate(tmp_path / "elsewhere").key == chosen.key  # its contents are known by the digest
    changes: dict[str, Any] = {
        "digest": "f" * 16,
        "seed": 4,
        "epochs": 3,
        "held_out": 0.3,
        "variant": "paper",
        "binary": "paper",
    }
    assert {"points", *changes} == {field.name for field in dataclasses.fields(Candidate)}
    assert len({chosen.key, *(candidate(file, **{name: value}).key for name, value in changes.items())}) == 7


Split = tuple[Tensor, Tensor, Tensor, Tensor]


@pytest.fixture
def given_to_fit(monkeypatch: pytest.MonkeyPatch) -> list[Split]:
    """Let candidates train nothing, and note on what they would."""
    calls: list[Split] = []

    def noted(network: Any, *rest: Any) -> tuple[list[float], list[float]]:
        calls.append(rest[:4])
        return [1.0] * rest[5], [0.5] * rest[5]

    monkeypatch.setattr(train, "fit", noted)
    return calls


@pytest.mark.parametrize(("held_out", "count"), [(0.0, 0), (0.1, 1), (0.5, 5), (0.9, 9), (0.25, 2)])
def test_whole_trainings_are_held_out(
    file: Path, tmp_path: Path, given_to_fit: list[Split], held_out: float, count: int
) -> None:
    """Points of one training are related: their histories overlap."""
    record = candidate(file, held_out=held_out).train(tmp_path)
    ((inputs, labels, test_inputs, test_labels),) = given_to_fit
    points, _ = read_points(file)
    all_inputs, all_labels = dataset(points)
    assert (len(inputs), len(test_inputs)) == (30 - 3 * count, 3 * count)
    assert record["examples"] == 30 - 3 * count

    def places(chosen: Tensor) -> list[int]:
        return [int(np.flatnonzero((all_inputs == row).all((1, 2)))[0]) for row in chosen.numpy()]

    kept, out = places(inputs), places(test_inputs)
    assert sorted(kept + out) == list(range(30))
    assert {points[k].run for k in kept}.isdisjoint({points[k].run for k in out})
    assert labels.tolist() == all_labels[kept].tolist()
    assert test_labels.tolist() == all_labels[out].tolist()


@pytest.mark.parametrize("per_cent", [29, 57, 58])
def test_the_share_of_a_hundred_trainings_is_what_was_asked_for(
    tmp_path: Path, given_to_fit: list[Split], per_cent: int
) -> None:
    file = arc_toys.points_file(tmp_path / "points.jsonl.xz", arc_toys.points(trainings=100, cycles=1))
    arguments = cli.parse(train.Arguments, "", ["--points", str(file), "--held-out", str(per_cent)])[0]
    train.prepare(arguments)[0].train(tmp_path)
    assert len(given_to_fit[0][2]) == per_cent


def test_other_seeds_hold_out_other_trainings(file: Path, tmp_path: Path, given_to_fit: list[Split]) -> None:
    for seed in range(6):
        candidate(file, seed=seed).train(tmp_path)
    assert len({split[2].numpy().tobytes() for split in given_to_fit}) > 2


def test_the_variant_reaches_the_preprocessing(file: Path, tmp_path: Path, given_to_fit: list[Split]) -> None:
    for variant in ("code", "paper"):
        candidate(file, variant=variant, held_out=0.0).train(tmp_path)
        expected, _ = dataset(read_points(file)[0], variant)
        assert np.array_equal(given_to_fit[-1][0].numpy(), expected)
    assert not torch.equal(given_to_fit[0][0], given_to_fit[1][0])


# -- the figure --------------------------------------------------------------------------------------------------------


def curve(accuracies: list[float], monkeypatch: pytest.MonkeyPatch, path: Path) -> list[float]:
    """Return the heights of the curve of held-out accuracies."""
    figures = []
    save = train.save_figure
    monkeypatch.setattr(train, "save_figure", lambda figure, path: figures.append(figure) or save(figure, path))
    draw_learning([{"losses": [2.0, 1.0, 0.5], "held_out_accuracies": accuracies}], path)
    left, right = figures[0].axes
    assert np.asarray(left.get_lines()[0].get_ydata()).tolist() == [2.0, 1.0, 0.5]
    assert len(np.unique(matplotlib.image.imread(path)[..., :3].reshape(-1, 3), axis=0)) > 20
    return list(np.asarray(right.get_lines()[0].get_ydata()).tolist())


@pytest.mark.parametrize("count", [1, 3, 9, 10, 30])
def test_the_mean_of_equal_accuracies_is_that_accuracy(
    count: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    heights = curve([0.75] * count, monkeypatch, tmp_path / "learning.png")
    assert len(heights) <= count
    assert heights == pytest.approx([0.75] * len(heights))
    assert heights or count < 10


def test_the_mean_of_ten_epochs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    heights = curve([k / 100 for k in range(30)], monkeypatch, tmp_path / "learning.png")
    assert heights == pytest.approx([(k + 4.5) / 100 for k in range(21)])


def test_a_figure_without_held_out_points(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert curve([], monkeypatch, tmp_path / "learning.png") == []


# -- the command -------------------------------------------------------------------------------------------------------

PROXY = tiny.task(budget=80, initial_lrs=(1e-2, 1e-3))


@pytest.fixture(autouse=True)
def small_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (train, selection):
        monkeypatch.setattr(module, "PROXY", PROXY)


def drawn(*_: Any) -> None:
    """Stand in for a function that draws a figure."""


def run(out: Path, file: Path, *arguments: str, **replaced: Any) -> dict[str, Any]:
    """Run the command with two candidates, and return its results."""
    words = ("--points", str(file), "--out", str(out), "--candidates", "2", "--epochs", "1", "--runs", "1")
    quick = {"Workers": tiny.workers_here, "draw_scores": drawn, "draw_learning": drawn}
    arc_toys.run_main(train, *words, "--workers", "1", *arguments, **(quick | replaced))
    return dict(json.loads((out / "results.json").read_text()))


def test_the_command(file: Path, tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """And again, which computes nothing."""
    monkeypatch.setenv("COLUMNS", "300")
    out = tmp_path / "out"
    results = run(out, file, draw_scores=selection.draw_scores, draw_learning=draw_learning)
    assert {path.name for path in out.iterdir()} == {
        *("arc.safetensors", "results.json", "scores.png", "learning.png", "candidates", "episodes")
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
    for number, mean in enumerate(means):
        assert f"candidate {number + 1}: mean best accuracy {mean:.4f}{' (chosen)' * (number == chosen)}\n" in said
    assert str(out / "arc.safetensors") in said

    def computed(*_: Any) -> NoReturn:
        pytest.fail("something was computed again")

    monkeypatch.setattr(Candidate, "train", computed)
    monkeypatch.setattr(Cell, "run", computed)
    again = run(out, file)
    assert {key: again[key] for key in again if key != "provenance"} == {
        key: results[key] for key in results if key != "provenance"
    }


def invented_accuracy(cell: Cell) -> Any:
    """Return a record that is the better, the smaller the candidate's fingerprint."""
    accuracy = 1 - int(cell.contestant.identity["fingerprint"], 16) / 16**16
    return dataclasses.replace(tiny.record(), val_accuracies=[accuracy / 2, accuracy, None, accuracy / 3])


@pytest.fixture
def invented(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let nothing be trained but the candidates."""
    monkeypatch.setattr(Cell, "run", invented_accuracy)


def test_the_best_is_chosen(file: Path, tmp_path: Path, invented: None) -> None:
    for seed in (0, 1):
        results = run(tmp_path / str(seed), file, "--seed", str(seed), "--candidates", "3")
        fingerprints = [one["fingerprint"] for one in results["candidates"]]
        assert results["chosen"] == fingerprints.index(min(fingerprints)) + 1
        assert load_weights(tmp_path / str(seed) / "arc.safetensors").fingerprint() == min(fingerprints)


def test_candidates_that_are_trained_are_not_trained_again(
    file: Path, tmp_path: Path, invented: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = run(tmp_path, file, "--candidates", "1")
    trained: list[Candidate] = []
    once = Candidate.train
    monkeypatch.setattr(Candidate, "train", lambda self, folder: trained.append(self) or once(self, folder))
    second = run(tmp_path, file)
    assert len(trained) == 1
    assert second["candidates"][0] == first["candidates"][0]
    weights = tmp_path / "candidates" / second["candidates"][1]["score"]["weights"]
    assert trained[0].key == weights.stem


@pytest.mark.parametrize("content", ["{", "[]", "[1]", '{"losses": [1.0]}'])
def test_damaged_records_of_candidates(file: Path, tmp_path: Path, invented: None, content: str) -> None:
    first = run(tmp_path, file)
    record, _ = (path for path in sorted((tmp_path / "candidates").iterdir()) if path.suffix == ".json")
    whole = record.read_text()
    record.write_text(content)
    assert run(tmp_path, file)["candidates"] == first["candidates"]
    assert record.read_text() == whole


def test_damaged_weights_of_candidates(file: Path, tmp_path: Path, invented: None) -> None:
    first = run(tmp_path, file)
    weights = next((tmp_path / "candidates").glob("*.safetensors"))
    whole = load_weights(weights).fingerprint()
    weights.write_bytes(weights.read_bytes()[:-1])
    assert run(tmp_path, file)["candidates"] == first["candidates"]
    assert load_weights(weights).fingerprint() == whole


@pytest.mark.parametrize("stage", ["candidates", "episodes"])
def test_ctrl_c(file: Path, tmp_path: Path, monkeypatch: Any, capsys: Any, invented: None, stage: str) -> None:
    monkeypatch.setenv("COLUMNS", "300")

    def interrupted(pool: Any, calls: list[Callable[[], Any]]) -> Iterator[tuple[int, Any]]:
        yield 1, calls[1]()
        raise KeyboardInterrupt

    def interrupt(*_: Any) -> NoReturn:
        raise KeyboardInterrupt

    if stage == "candidates":
        replaced: dict[str, Any] = {"as_they_come": interrupted}
    else:
        replaced = {"Workers": interrupt}
    with pytest.raises(SystemExit) as caught:
        run(tmp_path / "out", file, **replaced)
    assert caught.value.code == 130
    assert f"Stopped. The same command with --out {tmp_path / 'out'} continues." in capsys.readouterr().out
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"candidates"}
    kept = {path.name for path in (tmp_path / "out" / "candidates").iterdir()}
    assert len(kept) == (2 if stage == "candidates" else 4)
    run(tmp_path / "out", file)
    assert kept <= {path.name for path in (tmp_path / "out" / "candidates").iterdir()}


def prepared(file: Path, *arguments: str) -> list[Candidate]:
    return train.prepare(cli.parse(train.Arguments, "", ["--points", str(file), *arguments])[0])


def test_arguments_become_candidates(file: Path) -> None:
    assert len(prepared(file)) == 10
    words = ("--candidates", "3", "--epochs", "7", "--held-out", "20", "--preprocessing", "paper", "--binary", "paper")
    candidates = prepared(file, *words)
    assert len({one.seed for one in candidates}) == len({one.key for one in candidates}) == 3
    for one in candidates:
        assert (one.epochs, one.held_out, one.variant, one.binary) == (7, 0.2, "paper", "paper")
        assert one.digest == hashlib.sha256(file.read_bytes()).hexdigest()[:16]
    assert prepared(file, *words) == candidates
    assert prepared(file, *words, "--candidates", "5")[:3] == candidates
    assert {one.seed for one in prepared(file, *words, "--seed", "1")}.isdisjoint(one.seed for one in candidates)
    default = prepared(file)[0]
    assert (default.epochs, default.held_out, default.variant, default.binary) == (300, 0.1, "code", "code")


REFUSED: list[tuple[str, str]] = [
    ("--points {tmp}/none", "{tmp}/none is not a file of ARC points"),
    ("--points {tmp}", "{tmp} is not a file of ARC points"),
    ("--points {tmp}/file", "{tmp}/file is not a file of ARC points"),
    ("--points {tmp}/lacking", "the training training 0 lacks its cycle 1; generate it again"),
    ("--points {tmp}/empty", "no points"),
    ("--candidates 0", "argument --candidates: must be a whole number of at least 1, got '0'"),
    ("--epochs 1.5", "argument --epochs: must be a whole number of at least 1, got '1.5'"),
    ("--held-out 91", "--held-out must be at most 90 per cent, got 91"),
    ("--held-out -1", "argument --held-out: must be a whole number of at least 0, got '-1'"),
    ("--runs 0", "argument --runs: must be a whole number of at least 1, got '0'"),
    ("--preprocessing text", "argument --preprocessing: invalid choice: 'text' (choose from"),
    ("--binary both", "argument --binary: invalid choice: 'both' (choose from"),
    ("--seed x", "argument --seed: must be a whole number of at least 0, got 'x'"),
    ("--workers 0", "argument --workers: must be a whole number of at least 1, got '0'"),
    ("--data {tmp}/none", "--data must be a folder, got '{tmp}/none'"),
    ("--out {tmp}/file", "--out must be a folder, {tmp}/file is a file"),
    ("--out {tmp}/full", "{tmp}/full/candidates"),
    ("surplus", "unrecognized arguments: surplus"),
]


@pytest.mark.parametrize(("words", "message"), REFUSED, ids=[words for words, _ in REFUSED])
def test_arguments_that_make_no_sense(
    words: str, message: str, file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "candidates").write_text("")
    made = arc_toys.points()
    arc_toys.points_file(tmp_path / "lacking", [made[0], *made[2:]])
    arc_toys.points_file(tmp_path / "empty", [])
    before = sorted(tmp_path.rglob("*"))
    arguments = words.replace("{tmp}", str(tmp_path)).split()
    if "--points" not in words:
        arguments += ["--points", str(file)]
    assert message.replace("{tmp}", str(tmp_path)) in arc_toys.refused(train, capsys, *arguments)
    assert sorted(tmp_path.rglob("*")) == before
