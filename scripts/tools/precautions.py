"""What each precaution of `universal` is worth, on the tasks that were there to choose by.

uv run scripts/tools/precautions.py OUT [--runs 3] [--controller NAME ...] [--only VARIANT] [--starts middle ...]

Runs the networks of `universal`, of another controller, or the mean action of several, with other precautions on the
tasks of `unseen_tasks.py` and `far_tasks.py`, from the middle one of each task's initial learning rates or from others
(with a start that is looked for they all give the same). Prints, and writes to `OUT/precautions.json`, or
`OUT/nudged.json` if the networks are nudged, the mean test loss over the lower one of tuned cosine and tuned one-cycle,
as the committed results have them: best weights, then last weights; of several starts the figures are over all pairs of
task and start. Records are kept in OUT: what is there is not run again.
"""

from __future__ import annotations

import dataclasses
import importlib
import sys
from pathlib import Path
from typing import Any

import numpy as np

from lr_gym import cli, tasks
from lr_gym.checks import check_whole
from lr_gym.control import Controller
from lr_gym.evaluation import Cell, Contestant, Rollout, Workers
from lr_gym.files import read_json, write_json

RESULTS = Path(__file__).parents[2] / "docs" / "results"
YARDSTICKS = (RESULTS / "unseen" / "all" / "results.json", RESULTS / "universal" / "far" / "results.json")
PLUGINS = ("unseen_tasks", "far_tasks", "nudged_tasks")
#: Places among a task's initial learning rates, the largest of which stands first.
STARTS = {"largest": 0, "middle": 2, "smallest": -1}
VARIANTS: dict[str, dict[str, Any]] = {
    "start given": {"start": "given", "restore": False, "brake": None},
    "start given, restore": {"start": "given", "restore": True, "brake": None},
    "probe": {"start": "probe", "restore": False, "brake": None},
    "probe, restore": {"start": "probe", "restore": True, "brake": None},
    "probe, restore, brake 10": {"start": "probe", "restore": True, "brake": 10.0},
    "probe, restore, brake 5": {"start": "probe", "restore": True, "brake": 5.0},
    "probe, restore, brake 3": {"start": "probe", "restore": True, "brake": 3.0},
}


def yardsticks() -> tuple[dict[str, tuple[float, float]], list[int]]:
    """Return the lower tuned schedule's mean test loss by task, of best and last weights, and the seeds of its runs."""
    found: dict[str, tuple[float, float]] = {}
    for path in YARDSTICKS:
        results = read_json(path)
        for row in results["rows"]:
            losses = row["test_loss"]["mean"], row["final_test_loss"]["mean"]
            if row["agent"] in ("tuned cosine", "tuned one-cycle") and losses < found.get(row["task"], (np.inf, 0)):
                found[row["task"]] = losses
    return found, results["seeds"]


class Mean:
    """Several controllers with the same observation: the mean of their actions."""

    def __init__(self, controllers: list[Controller]) -> None:
        self._controllers = controllers
        self.env_options = controllers[0].env_options

    def predict(
        self, observation: Any, state: Any = None, episode_start: Any = None, deterministic: bool = False
    ) -> Any:
        """Return the mean action, and the states of all."""
        states = [None] * len(self._controllers) if state is None else state
        pairs = zip(self._controllers, states, strict=True)
        found = [one.predict(observation, before, episode_start, deterministic) for one, before in pairs]
        return np.mean([action for action, _ in found], axis=0, dtype=np.float32), [after for _, after in found]


def contestant(name: str, bases: list[Controller]) -> Contestant:
    """Return the controllers with a variant's precautions."""
    careful = [Controller(dataclasses.replace(base.description, **VARIANTS[name]), base.weights) for base in bases]
    if len(careful) == 1:
        return Contestant(name, {"controller": careful[0].fingerprint}, careful[0])
    return Contestant(name, {"mean of": [one.fingerprint for one in careful]}, Mean(careful))


def summary(ratios: list[float]) -> dict[str, float]:
    """Return median, 90th percentile, worst and geometric mean."""
    return {
        "median": float(np.median(ratios)),
        "p90": float(np.quantile(ratios, 0.9)),
        "worst": max(ratios),
        "geometric_mean": float(np.exp(np.mean(np.log(ratios)))),
    }


def main() -> None:
    """Run what is missing, print and write."""
    parser = cli.Parser(prog="precautions.py", description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("out", type=Path, help="folder of the records and of the result")
    parser.add_argument(
        "--runs", type=int, default=3, help="runs of each, with the seeds of the yardsticks (at most 3)"
    )
    parser.add_argument(
        "--controller", nargs="+", default=["universal"], help="names or folders; of several the mean of their actions"
    )
    parser.add_argument("--only", nargs="+", choices=list(VARIANTS), default=list(VARIANTS), help="variants to run")
    parser.add_argument(
        "--starts",
        nargs="+",
        choices=list(STARTS),
        default=["middle"],
        help="which of each task's initial learning rates to begin at (default: middle)",
    )
    parser.add_argument("--nudged", action="store_true", help="move a weight of every network by its last place")
    parser.add_argument("--workers", type=int, default=1, help="worker processes (default: 1)")
    arguments = parser.parse_args()
    check_whole("--runs", arguments.runs)
    sys.path.insert(0, str(Path(__file__).parents[1] / "plugins"))
    for plugin in PLUGINS:
        importlib.import_module(plugin)
    losses, seeds = yardsticks()
    bases = [Controller.load(name) for name in arguments.controller]
    known = {task: tasks.get(f"nudged/{task.partition('/')[2]}" if arguments.nudged else task) for task in losses}
    cells = {
        (name, task, start): [
            Cell(known[task], contestant(name, bases), known[task].initial_lrs[STARTS[start]], seed)
            for seed in seeds[: arguments.runs]
        ]
        for name in arguments.only
        for task in losses
        for start in arguments.starts
    }
    with Workers(arguments.workers, modules=PLUGINS) as pool:
        done = iter(pool.run([cell for row in cells.values() for cell in row], arguments.out / "episodes"))
        runs: dict[tuple[str, str, str], list[Rollout]] = {key: [next(done) for _ in row] for key, row in cells.items()}
    table: dict[str, Any] = {}
    for name in arguments.only:
        scores = {}
        for place, score in enumerate(("test_loss", "final_test_loss")):
            by_task = {
                task if len(arguments.starts) == 1 else f"{task} from the {start} start": float(
                    np.mean([run.result[score] for run in runs[name, task, start]])
                )
                / losses[task][place]
                for task in losses
                for start in arguments.starts
            }
            scores[score] = summary(list(by_task.values())) | {"by_task": by_task}
        table[name] = scores
        shown = [" / ".join(f"{scores[s][k]:.3f}" for k in list(scores[s])[:4]) for s in scores]
        print(f"{name:<26} best weights {shown[0]}   last weights {shown[1]}")
    name = "nudged.json" if arguments.nudged else "precautions.json"
    write_json(
        arguments.out / name, {"runs": arguments.runs, "seeds": seeds, "starts": arguments.starts, "variants": table}
    )


if __name__ == "__main__":
    cli.run(main)
