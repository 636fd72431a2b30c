"""`train --seeds 0 1 2`: a training for each seed, each in a process and a folder of its own."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import multiprocessing.connection
import sys
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from lr_gym import cli, config_file, progress, stopping
from lr_gym.agents.ppo import checkpoint as checkpoints
from lr_gym.agents.ppo.config import TrainConfig
from lr_gym.cluster import RayCluster
from lr_gym.cluster.options import cluster_of, entered
from lr_gym.commands.arguments import Train
from lr_gym.commands.configuration import configure
from lr_gym.commands.plugins import Plugins
from lr_gym.commands.screen import print_table
from lr_gym.envs.places import Place
from lr_gym.errors import FileFormatError, InvalidArgumentError, LRGymError
from lr_gym.files import read_json, write_json
from lr_gym.folder_lock import only_one
from lr_gym.processes import available_cores, deaf, follow_parent, leave_signals_to_parent, start_context

#: Files: what a training prints, what it leaves at its end, and the summary of all.
LOG, RESULTS, SUMMARY = "train.log", "results.json", "seeds.json"
#: The trainings' folders.
FOLDERS = "seed-*"
#: Seconds that trainings have to end in order when the command is stopped; less than `stopping.GRACE`.
_ENDING = 2.0


def run(arguments: Train, parser: cli.Parser, load: Callable[[Train], Plugins], one: Callable[[Train], None]) -> None:
    """Train with every seed, and say how each did.

    Args:
        arguments: With seeds.
        parser: Reports what makes no sense.
        load: Loads the data and the code that the arguments name.
        one: Trains with one seed, from the start or from where its folder has come to; importable.

    Raises:
        LRGymError: Trainings failed; the others have ended.
        SystemExit: The arguments make no sense, or it was stopped.
    """
    seeds = arguments.seeds or []
    out = Path(arguments.out or Path("runs") / time.strftime("seeds-%Y%m%d-%H%M%S"))
    try:
        _check(arguments)
        config = configure(dataclasses.replace(arguments, seeds=None), load(arguments))
        cluster = cluster_of(arguments, config.device)
        cli.make_folder(out)
        missing = [seed for seed in seeds if not _done(_folder(out, seed), dataclasses.replace(config, seed=seed))]
    except LRGymError as error:
        parser.error(str(error))
    console = progress.console()
    with only_one(out):
        config_file.write(out, arguments)
        failed: list[int] = []
        if missing:
            with stopping.work(f"The same command with --out {out} continues."), entered(cluster) as place:
                failed = _train(arguments, missing, out, place, one, console)
        rows = [_row(seed, _folder(out, seed)) for seed in seeds if seed not in failed]
        write_json(out / SUMMARY, {"trainings": rows, "failed": failed})
    _print(rows, console)
    if failed:
        raise LRGymError(
            f"{len(failed)} of {len(seeds)} trainings failed; {_folder(out, failed[0]) / LOG} says why. The same "
            f"command with --out {out} tries again"
        )
    console.print(f"Each training's results and figures are in its folder; {out / SUMMARY} holds this table")


def _check(arguments: Train) -> None:
    """Check what the command line says of several trainings.

    Raises:
        InvalidArgumentError: It makes no sense.
    """
    seeds = arguments.seeds or []
    if len(set(seeds)) < len(seeds):
        raise InvalidArgumentError(f"--seeds must differ from each other, got {seeds}")
    if arguments.seed is not None:
        raise InvalidArgumentError("--seeds names all seeds; drop --seed")
    if arguments.resume is not None:
        raise InvalidArgumentError(
            "--seeds does not go with --resume: the command that began the trainings continues them, with its --out"
        )


def _folder(out: Path, seed: int) -> Path:
    return out / FOLDERS.replace("*", str(seed))


def _done(folder: Path, config: TrainConfig) -> bool:
    """Return whether a training has ended; one that has begun goes on.

    Raises:
        LRGymError: The folder's training has other settings, or cannot be read.
    """
    if not (folder / checkpoints.FILE).exists():
        return False
    theirs = checkpoints.Checkpoint.read(folder).value("config")
    ours = json.loads(json.dumps(config.to_dict()))
    if theirs != ours:
        names = [name for name in ours if not isinstance(theirs, dict) or theirs.get(name) != ours[name]]
        raise InvalidArgumentError(
            f"{folder} holds a training with other settings ({', '.join(names) or 'more of them'}); repeat the "
            f"command that began it, as {folder.parent / config_file.FILE} does, or choose another --out"
        )
    return (folder / RESULTS).is_file()


def _train(
    arguments: Train,
    seeds: Sequence[int],
    out: Path,
    place: Place,
    one: Callable[[Train], None],
    console: Console,
) -> list[int]:
    """Train with some seeds, as many at once as have room; return those that failed."""
    workers = arguments.workers or place.hosts
    # Each has a process of this machine that updates its controller, wherever its trainees are.
    at_once = min(len(seeds), workers, available_cores())
    address = place.head if isinstance(place, RayCluster) else None
    console.print(
        f"{len(seeds)} trainings, {at_once} at once with {workers // at_once} workers each. What they print goes to "
        f"{out / FOLDERS / LOG}",
        soft_wrap=True,
    )
    waiting, running, failed = list(seeds), dict[int, SpawnProcess](), list[int]()
    try:
        while waiting or running:
            while waiting and len(running) < at_once:
                seed = waiting.pop(0)
                folder = _folder(out, seed)
                given = dataclasses.replace(
                    arguments, seeds=None, seed=seed, out=str(folder), workers=workers // at_once, cluster=address
                )
                running[seed] = _start(one, given, folder)
            multiprocessing.connection.wait([process.sentinel for process in running.values()])
            for seed in [seed for seed, process in running.items() if not process.is_alive()]:
                code = running.pop(seed).exitcode
                failed += [seed] * (code != 0)
                console.print(
                    f"seed {seed} {'has failed' if code else 'is done'}: {_folder(out, seed)}", soft_wrap=True
                )
    finally:
        _end(list(running.values()))
    return failed


def _start(one: Callable[[Train], None], arguments: Train, folder: Path) -> SpawnProcess:
    cli.make_folder(folder)
    process = start_context().Process(target=_begin, args=(one, arguments, folder / LOG))
    with deaf():
        process.start()
    return process


def _begin(one: Callable[[Train], None], arguments: Train, log: Path) -> None:
    """Train in this process, which is there for nothing else."""
    follow_parent()
    leave_signals_to_parent()
    with log.open("a", buffering=1) as file, contextlib.redirect_stdout(file), contextlib.redirect_stderr(file):
        try:
            cli.run(lambda: one(arguments))
        except Exception:  # a fault of the program's, which is told where the rest is
            traceback.print_exc()
            sys.exit(cli.FAILED)


def _end(processes: Sequence[SpawnProcess]) -> None:
    """End trainings: in order, if they do so in time."""
    for process in processes:
        process.terminate()
    deadline = time.monotonic() + _ENDING
    for process in processes:
        process.join(max(0.0, deadline - time.monotonic()))
        process.kill()


def _row(seed: int, folder: Path) -> dict[str, Any]:
    """Return what a training came to.

    Raises:
        FileFormatError: Its results cannot be read.
    """
    values = read_json(folder / RESULTS)
    try:
        return {
            "seed": seed,
            "folder": str(folder),
            "validation_loss": float(values["selected"]["mean_best_val_loss"]),
            **_tested(values),
            "lost_episodes": values["lost_episodes"],
        }
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise FileFormatError(f"{folder / RESULTS} is not what a training leaves: {error!r}") from error


def _tested(values: Mapping[str, Any]) -> dict[str, float]:
    """Return the test losses of a training's comparison."""
    if "family_comparison" in values:
        controller = values["family_comparison"][-1]
        return {"test_loss_over_tuned_cosine": controller["test_loss_over_reference"]["median"]}
    baseline, *rows = values["comparison"]["rows"]
    return {
        "test_loss": float(np.mean([row["test_loss"]["mean"] for row in rows])),
        "tuned_step_decay": baseline["test_loss"]["mean"],
    }


def _print(rows: Sequence[Mapping[str, Any]], console: Console) -> None:
    """Print a table of the trainings, and over all of them."""
    if not rows:
        return
    losses = [name for name in rows[0] if name not in ("seed", "folder", "lost_episodes")]
    shown = [dict(row) | {"lost_episodes": row["lost_episodes"] or None} for row in rows]
    if len(rows) > 1:
        blank = dict.fromkeys(shown[0])
        for name, of in (("mean", np.mean), ("standard deviation", lambda values: np.std(values, ddof=1))):
            shown.append(blank | {"seed": name} | {loss: float(of([row[loss] for row in rows])) for loss in losses})
    print_table(shown, "Trainings", console)
    best = min(rows, key=lambda row: float(row["validation_loss"]))
    console.print(f"The lowest validation loss has seed {best['seed']}: --controller {best['folder']}", soft_wrap=True)
