"""`evaluate`: run agents on tasks and from initial learning rates, and compare them."""

from __future__ import annotations

import dataclasses
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

from rich.console import Console

from lr_gym import cli, config_file, progress, stopping
from lr_gym.cluster.options import cluster_of, entered
from lr_gym.commands import tracking
from lr_gym.commands.arguments import Evaluate
from lr_gym.commands.plan import Plan, prepare
from lr_gym.commands.report import CHECKPOINT, SEEDS
from lr_gym.commands.screen import print_results
from lr_gym.errors import InvalidArgumentError, LRGymError
from lr_gym.evaluation import Workers
from lr_gym.evaluation.groups import Group
from lr_gym.evaluation.report import write_results
from lr_gym.evaluation.results import RECORDS, Results
from lr_gym.evaluation.tables import detail_lines, standing_lines
from lr_gym.evaluation.transfer import Matrix
from lr_gym.evaluation.tuning import Tuned, tune
from lr_gym.folder_lock import only_one
from lr_gym.provenance import provenance


def run(arguments: Evaluate, parser: cli.Parser) -> None:
    """Tune, run, test, report.

    Raises:
        LRGymError: Every episode failed, or every one that tunes something.
        SystemExit: The arguments make no sense, it was stopped with Ctrl-C, or some episodes failed.
    """
    try:
        tracking.check(arguments.track)
        cluster = cluster_of(arguments, arguments.device)
        out = Path(arguments.out or Path("runs") / time.strftime("transfer-%Y%m%d-%H%M%S"))
        _check_free(out)
        with cli.notices_on(Console(stderr=True)):
            plan = prepare(arguments)
        cli.make_folder(out)
    except LRGymError as error:
        parser.error(str(error))
    console = progress.console()
    about = provenance(dataclasses.asdict(arguments) | {"seeds": plan.seeds}, plan.plugins.distributions)
    with (
        only_one(out),
        stopping.work(f"The same command with --out {out} continues."),
        tracking.tracked(arguments.track, out, about) as tracker,
        entered(cluster) as place,
        Workers(
            arguments.workers or place.calls, modules=plan.plugins.modules, timeout=arguments.timeout, place=place
        ) as pool,
    ):
        config_file.write(out, arguments)
        tuned, matrix, groups = _work(plan, pool, out / RECORDS, console)
        if not any(group.runs for group in groups):
            raise LRGymError(f"every episode failed; the first with {groups[0].failures[0]}")
        results = write_results(out, matrix, groups, about, tuned=tuned, yardstick=plan.yardstick)
        with cli.notices_on(console):
            _tell(tracker, out, results)
    print_results(results, console)
    console.print(f"Results, figures and a page that shows them (report.html) are in {out}", markup=False)
    if results.failures:
        console.print(f"The same command with --out {out} tries again what failed", markup=False)
        sys.exit(cli.FAILED)


def _check_free(out: Path) -> None:
    """Check that the folder is not that of a training, whose results would be lost.

    Raises:
        InvalidArgumentError: It is.
    """
    if os.path.exists(out / CHECKPOINT) or any(out.glob(SEEDS)):
        raise InvalidArgumentError(f"--out {out} holds a training; choose another folder, such as {out / 'eval'}")


def _tell(tracker: tracking.Tracker, out: Path, results: Results) -> None:
    """Tell what came out: the loss of every row, the table of every task, and how the agents stand over all tasks."""
    scores = {f"test_loss/{group.task}/{group.label}": group.summary("test_loss").mean for group in results.groups}
    standings = results.standings()
    scores |= {f"median_ratio/{standing.agent}": standing.quantile(0.5) for standing in standings}
    tables = {task: detail_lines(groups) for task, groups in results.by_task.items()}
    tracker.end(out, scores, tables | {"all tasks": standing_lines(standings)})


def _work(
    plan: Plan, pool: Workers, folder: Path, console: Console
) -> tuple[dict[str, dict[str, Tuned]], Matrix, list[Group]]:
    """Tune, then run, and show how far it is."""
    with progress.Bars(console=console) as bar, cli.notices_on(console):
        tuned = {}
        if plan.tuning_episodes:
            tuning = bar.add_task("tuning", total=plan.tuning_episodes)
            tuned = run_tuning(plan, pool, folder, lambda *_: bar.advance(tuning))
        matrix = plan.matrix(tuned)
        episodes = bar.add_task("episodes", total=len(matrix.entries) * len(matrix.seeds))
        return tuned, matrix, matrix.run(pool, folder, lambda *_: bar.advance(episodes))


def run_tuning(plan: Plan, pool: Workers, folder: Path, advance: Callable[..., None]) -> dict[str, dict[str, Tuned]]:
    """Tune what is to be tuned, on every task.

    Args:
        plan: Of the comparison.
        pool: Where episodes run.
        folder: Where records are kept and found again.
        advance: Called with every episode that is done.

    Raises:
        LRGymError: Every episode that tunes something failed.
    """
    return {
        task.name: {
            name: tune(task, of, plan.tuning_seeds_for(of), pool, env=plan.env, folder=folder, advance=advance)
            for name, of in plan.tune[task.name].items()
        }
        for task in plan.tasks
    }
