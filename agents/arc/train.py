"""Train ARC's network on labelled points, ten times, and choose the candidate that does best (sections 3.4 and 3.5).

python -m lr_gym.agents.arc.train --points runs/arc-points/points.jsonl.xz --out runs/arc

The loss is the mean of the cross-entropy and of a binary cross-entropy of the class "raise". The paper's: Adam with
learning rate 1e-4, batches of 128, 300 epochs, the weights at the end. As in the authors' code the validation losses of
half of the examples are blanked, so that the network also serves trainings without validation.

The folder gets `arc.safetensors` (the chosen weights), `results.json`, `scores.png`, `learning.png`, `candidates/` and
`episodes/`. The same command goes on where it was stopped, with the candidate that it was training. With `--cluster`
candidates are trained and tried on many machines (docs/cluster.md).
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from lr_gym import cli, progress, stopping
from lr_gym.agents.arc.network import KEEP, RAISE, ARCNetwork, load_weights, save_weights
from lr_gym.agents.arc.points import Point, dataset, read_points
from lr_gym.agents.arc.preprocessing import VARIANTS
from lr_gym.agents.arc.selection import PROXY, cells, draw_scores, scores
from lr_gym.cluster import RayCluster
from lr_gym.cluster import options as places
from lr_gym.envs.places import pool_at
from lr_gym.errors import FileFormatError, InvalidArgumentError, LRGymError
from lr_gym.evaluation.matrix import Workers
from lr_gym.evaluation.plots import new_figure, save_figure
from lr_gym.files import read_json, write_bytes, write_json
from lr_gym.folder_lock import only_one
from lr_gym.processes import as_they_come
from lr_gym.provenance import provenance

#: The points that come with this package.
SHIPPED = Path(__file__).parent / "points.jsonl.xz"
LEARNING_RATE, BATCH_SIZE = 1e-4, 128
#: Column of the validation losses in the network's input, and the probability with which it is blanked.
VALIDATION, BLANKED = 1, 0.5
#: Folder of the candidates, within that of the results.
CANDIDATES = "candidates"


def hybrid_loss(logits: Tensor, labels: Tensor, binary: str = "code") -> Tensor:
    """Return half the cross-entropy plus half the binary cross-entropy of "raise" (section 3.4).

    Args:
        logits: (batch, 3).
        labels: Classes, (batch,).
        binary: `"code"`: over the examples that are not "keep", with probabilities within [1e-4, 1 - 1e-4], as the
            authors compute it; zero if there are none. `"paper"`: one class against all, over all examples.

    Returns:
        The mean over the batch, shape ().
    """
    entropy = functional.cross_entropy(logits, labels)
    raised = (labels == RAISE).to(logits.dtype)
    probability = logits.softmax(1)[:, RAISE].clamp(1e-4, 1 - 1e-4)
    losses = functional.binary_cross_entropy(probability, raised, reduction="none")
    if binary == "code":
        losses = losses[labels != KEEP]
    return (entropy + (losses.mean() if len(losses) else 0.0)) / 2


@dataclasses.dataclass(frozen=True)
class Candidate:
    """One training of the network: a pure function of its fields and the points.

    Attributes:
        points: The file of points.
        digest: Hash of that file.
        seed: Decides weights, batches, what is blanked, and what is held out.
        epochs: Passes over the points.
        held_out: Share of the trainings that is kept for measuring accuracy. (Points of one training are related.)
        variant: Of the preprocessing.
        binary: Of the loss.
    """

    points: str
    digest: str
    seed: int
    epochs: int
    held_out: float
    variant: str
    binary: str

    @property
    def key(self) -> str:
        """Hash of everything that the weights depend on."""
        values = dataclasses.asdict(self) | {"points": None}  # its place does not matter, the digest does
        return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:16]

    def train(self, folder: Path) -> dict[str, Any]:
        """Train, write `<key>.safetensors` and then `<key>.json`, and return what the latter holds."""
        return self.keep(self.learn(read_points(Path(self.points))[0]), folder)

    def learn(self, points: Sequence[Point]) -> tuple[dict[str, Any], ARCNetwork]:
        """Return the record and the weights of the network that learns from the points of the file."""
        inputs, labels = (torch.from_numpy(array) for array in dataset(points, self.variant))
        rng = np.random.default_rng(self.seed)
        trainings = sorted({point.run for point in points})
        held_out = int(self.held_out * len(trainings) + 1e-9)  # 0.29 of 100 is 28.999... in floating point
        kept = set(rng.permutation(trainings)[:held_out].tolist())
        test = torch.tensor([point.run in kept for point in points])
        network = ARCNetwork(self.seed)
        losses, accuracies = fit(
            network, inputs[~test], labels[~test], inputs[test], labels[test], rng, self.epochs, self.binary
        )
        with torch.inference_mode():
            confusion = np.zeros((3, 3), dtype=int)
            if bool(test.any()):
                np.add.at(confusion, (labels[test].numpy(), network(inputs[test]).argmax(1).numpy()), 1)
        record = {
            "settings": dataclasses.asdict(self) | {"points": Path(self.points).name},
            "examples": int((~test).sum()),
            "losses": losses,
            "held_out_accuracies": accuracies,
            "held_out_confusion": confusion.tolist(),
            "fingerprint": network.fingerprint(),
        }
        return record, network

    def keep(self, learned: tuple[dict[str, Any], ARCNetwork], folder: Path) -> dict[str, Any]:
        """Write what `learn` returned into a folder, the weights first; return the record."""
        record, network = learned
        save_weights(network, folder / f"{self.key}.safetensors", {"arc": json.dumps(record["settings"])})
        write_json(folder / f"{self.key}.json", record)
        return record


@dataclasses.dataclass(frozen=True)
class Learning:
    """A candidate's training on its way to a worker, which may see no file of this machine.

    Attributes:
        candidate: Who learns.
        points: From what.
    """

    candidate: Candidate
    points: Sequence[Point]

    @property
    def shared(self) -> tuple[Any, ...]:
        """What all candidates have in common, and a pool may send once."""
        return (self.points,)

    def __call__(self) -> tuple[dict[str, Any], ARCNetwork]:
        """Train."""
        return self.candidate.learn(self.points)


def fit(
    network: ARCNetwork,
    inputs: Tensor,
    labels: Tensor,
    test_inputs: Tensor,
    test_labels: Tensor,
    rng: np.random.Generator,
    epochs: int,
    binary: str = "code",
) -> tuple[list[float], list[float]]:
    """Train the network.

    Args:
        network: What is trained.
        inputs: Encoded histories (points, 300, 3).
        labels: Classes (points,).
        test_inputs: Of points that are held out; may be none.
        test_labels: Their classes.
        rng: Where batches and blanks are drawn.
        epochs: Passes over the points.
        binary: Of the loss.

    Returns:
        For every epoch the mean loss, and the accuracy on the points that are held out.
    """
    optimizer = torch.optim.Adam([p for p in network.parameters() if p.requires_grad], lr=LEARNING_RATE)
    losses, accuracies = [], []
    for _ in range(epochs):
        total = 0.0
        for chosen in np.array_split(rng.permutation(len(inputs)), max(1, round(len(inputs) / BATCH_SIZE))):
            x = inputs[torch.from_numpy(chosen)]
            x[torch.from_numpy(rng.random(len(chosen)) < BLANKED), :, VALIDATION] = 0.0
            loss = hybrid_loss(network(x), labels[torch.from_numpy(chosen)], binary)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            total += float(loss.detach()) * len(chosen)
        losses.append(total / len(inputs))
        if len(test_inputs):
            with torch.inference_mode():
                accuracies.append(float((network(test_inputs).argmax(1) == test_labels).float().mean()))
    return losses, accuracies


def draw_learning(records: Sequence[dict[str, Any]], path: Path) -> None:
    """Draw the loss and the accuracy on held-out points of every candidate over epochs."""
    figure = new_figure(9, 3.5)
    left, right = figure.subplots(1, 2)
    for number, record in enumerate(records):
        left.plot(record["losses"], lw=1, label=str(number + 1))
        right.plot(_smoothed(record["held_out_accuracies"]), lw=1)
    left.set(xlabel="epoch", ylabel="loss", title="Training points")
    right.set(xlabel="epoch", ylabel="accuracy, mean of 10 epochs", title="Points of held-out trainings")
    left.legend(title="candidate", fontsize="x-small", ncols=2)
    for axes in (left, right):
        axes.grid(alpha=0.3)
    save_figure(figure, path)


def _smoothed(values: Sequence[float], width: int = 10) -> npt.NDArray[np.float64]:
    width = min(width, len(values))
    smooth: npt.NDArray[np.float64] = np.convolve(values, np.ones(width) / width, "valid") if width else np.empty(0)
    return smooth


@dataclasses.dataclass
class Arguments:
    """The command line."""

    points: str = cli.option("file of points, from lr_gym.agents.arc.generate", str(SHIPPED), metavar="FILE")
    candidates: int = cli.option("networks to choose from", 10, type=cli.whole_number(1), metavar="N")
    epochs: int = cli.option("passes over the points", 300, type=cli.whole_number(1), metavar="N")
    held_out: int = cli.option(
        "per cent of the trainings that are held out to measure accuracy", 10, type=cli.whole_number(0), metavar="N"
    )
    runs: int = cli.option("runs of the proxy task from each initial lr", 5, type=cli.whole_number(1), metavar="N")
    preprocessing: str = cli.option("as the authors' code does it, or as their text says", "code", choices=VARIANTS)
    binary: str = cli.option("the binary part of the loss, likewise", "code", choices=VARIANTS)
    seed: int = cli.option("decides everything that is drawn", 0, type=cli.whole_number(0), metavar="N")
    out: str = cli.option("folder of the results; what is there is not computed again", "runs/arc", metavar="DIR")
    data: str | None = cli.option("folder with data sets (default: LR_GYM_DATA)", metavar="DIR")
    workers: int | None = cli.option("worker processes (default: one per core)", type=cli.whole_number(1), metavar="N")
    timeout: float = cli.option(
        "time limit of a network's training; one that takes longer ends the command (default: a day)",
        cli.TIMEOUT,
        type=cli.seconds,
        metavar="SECONDS",
    )
    cluster: str | None = places.address()
    cell_cpus: float | None = places.cpus()
    cell_memory: float | None = places.memory()
    cell_retries: int | None = places.retries()


def prepare(arguments: Arguments) -> list[Candidate]:
    """Return the candidates.

    Raises:
        LRGymError: The arguments make no sense.
    """
    if arguments.data is not None:
        cli.use_data_root(arguments.data)
    if arguments.held_out > 90:
        raise InvalidArgumentError(f"--held-out must be at most 90 per cent, got {arguments.held_out}")
    file = Path(arguments.points)
    points, _ = read_points(file)
    dataset(points)  # an incomplete training shows here, not in a worker
    digest = hashlib.sha256(file.read_bytes()).hexdigest()[:16]
    return [
        Candidate(
            points=str(file.resolve()),
            digest=digest,
            seed=int(np.random.SeedSequence([arguments.seed, number]).generate_state(1)[0]),
            epochs=arguments.epochs,
            held_out=arguments.held_out / 100,
            variant=arguments.preprocessing,
            binary=arguments.binary,
        )
        for number in range(arguments.candidates)
    ]


def _known(candidate: Candidate, folder: Path) -> dict[str, Any] | None:
    """Return the record of a candidate that is trained."""
    try:
        network = load_weights(folder / f"{candidate.key}.safetensors")
        record = read_json(folder / f"{candidate.key}.json")
    except FileFormatError:
        return None
    whole = isinstance(record, dict) and record.keys() >= {"settings", "losses", "held_out_accuracies"}
    return record if whole and record.get("fingerprint") == network.fingerprint() else None


def main() -> None:
    """Train, choose, report."""
    arguments, parser = cli.parse(Arguments, (__doc__ or "").splitlines()[0])
    out = Path(arguments.out)
    try:
        cluster = places.cluster_of(arguments)
        candidates = prepare(arguments)
        cli.make_folder(out)
        cli.make_folder(out / CANDIDATES)
    except LRGymError as error:
        parser.error(str(error))
    with only_one(out):
        _choose(arguments, candidates, cluster, out)


def _choose(arguments: Arguments, candidates: list[Candidate], cluster: RayCluster | None, out: Path) -> None:
    """Train the candidates that are missing, try all, and write the best one down."""
    folder, console = out / CANDIDATES, progress.console()
    records = {c.key: record for c in candidates if (record := _known(c, folder)) is not None}
    missing = [candidate for candidate in candidates if candidate.key not in records]
    files = [folder / f"{candidate.key}.safetensors" for candidate in candidates]
    console.print(f"{len(missing)} candidates to train, {arguments.epochs} epochs each. Results go to {out}")
    with (
        stopping.work(f"The same command with --out {out} continues."),
        places.entered(cluster) as where,
        progress.Bars(console=console) as bars,
    ):
        trained = bars.add_task("candidates trained", total=len(candidates), completed=len(records))
        points = read_points(Path(arguments.points))[0]
        with pool_at(where, arguments.workers) as pool:
            learning = [Learning(candidate, points) for candidate in missing]
            for place, learned in as_they_come(pool, learning, arguments.timeout):
                records[missing[place].key] = missing[place].keep(learned, folder)
                bars.advance(trained)
        episodes = cells(files, arguments.runs, arguments.seed, arguments.preprocessing)
        tried = bars.add_task("episodes of the proxy task", total=len(episodes))
        with Workers(arguments.workers or where.calls, timeout=arguments.timeout, place=where) as runners:
            outcomes = runners.run(episodes, out / "episodes", lambda *_: bars.advance(tried))
    results = scores(files, outcomes)
    chosen = int(np.argmax([result.mean for result in results]))
    in_order = [records[candidate.key] for candidate in candidates]
    draw_scores(results, chosen, out / "scores.png")
    draw_learning(in_order, out / "learning.png")
    about = provenance(dataclasses.asdict(arguments) | {"points": Path(arguments.points).name})
    values = {"provenance": about, "proxy": PROXY.to_dict(), "chosen": chosen + 1, "digest": candidates[0].digest}
    values["candidates"] = [
        {"score": result.to_dict()} | {key: record[key] for key in ("settings", "fingerprint", "held_out_confusion")}
        for result, record in zip(results, in_order, strict=True)
    ]
    write_json(out / "results.json", values)
    write_bytes(out / "arc.safetensors", files[chosen].read_bytes())
    for number, result in enumerate(results):
        console.print(
            f"candidate {number + 1}: mean best accuracy {result.mean:.4f}" + " (chosen)" * (number == chosen)
        )
    console.print(f"The weights are {out / 'arc.safetensors'}: agents.make('arc', weights=...)")


if __name__ == "__main__":
    # The module under its name: workers of a cluster know nothing of a main program, whose classes go to them.
    from lr_gym.agents.arc import train

    cli.run(train.main)
