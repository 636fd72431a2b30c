"""What a comparison leaves behind: numbers in JSON, tables in Markdown, figures, and one page that shows them all."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lr_gym.evaluation.figures import FEW, draw_curves, draw_profiles, draw_standings, draw_starts
from lr_gym.evaluation.groups import LEGEND, Group
from lr_gym.evaluation.long import csv_text, curve_rows, run_rows
from lr_gym.evaluation.page import Part, page
from lr_gym.evaluation.plots import agent_colours, save_figure
from lr_gym.evaluation.ranking import Standing
from lr_gym.evaluation.results import Results
from lr_gym.evaluation.tables import (
    Lines,
    detail_lines,
    markdown,
    overview_lines,
    paper_lines,
    standing_lines,
)
from lr_gym.evaluation.transfer import Matrix
from lr_gym.evaluation.tuning import Tuned
from lr_gym.evaluation.verdict import cautions as cautions_of
from lr_gym.evaluation.verdict import verdict
from lr_gym.files import write_bytes

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def write_results(
    out: Path,
    matrix: Matrix,
    groups: Sequence[Group],
    about: Mapping[str, Any],
    *,
    tuned: Mapping[str, Mapping[str, Tuned]] | None = None,
    yardstick: str | None = None,
) -> Results:
    """Write `results.json`, `table.md`, `report.html` and the figures that it shows, and return the results.

    Args:
        out: The folder.
        matrix: What was run.
        groups: Its rows.
        about: Where the numbers come from: command, commit, versions.
        tuned: What was tuned beforehand, by task and agent.
        yardstick: The agent whose mean test loss counts as 1 over all tasks; None for the lowest of each task.

    Raises:
        UnknownNameError: The yardstick is no agent of the comparison.
    """
    chosen = {task: {name: t.to_dict() for name, t in of.items()} for task, of in (tuned or {}).items()}
    results = Results(groups, matrix.seeds, matrix.reference, yardstick, about, chosen)
    results.write(out)
    write_report(out, results)
    return results


def write_report(out: Path, results: Results) -> None:
    """Write `table.md`, `report.html`, `runs.csv`, `curves.csv` and the figures as PNG.

    Args:
        out: The folder.
        results: What they show.

    Raises:
        UnknownNameError: The yardstick is no agent of the comparison.
    """
    stand = results.standings()
    figures = _figures(results, stand)
    for name, figure in figures.items():
        save_figure(figure, out / f"{name}.png")
    sections = _sections(results, stand)
    sentence, cautions, preface = verdict(results), cautions_of(results.groups), _preface(results)
    lines = [
        f"**{sentence.head}:** {sentence.rest}",
        *cautions,
        preface,
        f"Command: `{results.about.get('command', '')}`",
    ]
    text = ["\n\n".join(lines) + "\n"]
    text += [f"## {part.title}\n\n{part.words}\n\n{markdown(part.lines)}" for part in sections if part.lines]
    write_bytes(out / "runs.csv", csv_text(run_rows(results.groups)).encode())
    write_bytes(out / "curves.csv", csv_text(curve_rows(results.groups)).encode())
    write_bytes(out / "table.md", "\n".join(text).encode())
    shown = {name: {CAPTIONS[name]: figure} for name, figure in figures.items()}
    first, *others = sections
    top = shown["standings"] | shown["profiles"] | shown["starts"]
    parts = [
        dataclasses.replace(first, figures=top),
        *others,
        Part("Learning rates", figures=shown["schedules"]),
        Part("Losses", figures=shown["losses"]),
    ]
    html = page("Comparison of agents", sentence, parts, results.about, cautions=cautions, preface=preface)
    write_bytes(out / "report.html", html.encode())


#: The figures, files and captions.
CAPTIONS = {
    "standings": "How the agents stand over all tasks and initial learning rates",
    "profiles": "On which share of tasks and starts each agent is within a factor of the lowest test loss",
    "starts": "Mean test loss by agent and initial learning rate",
    "schedules": "Learning rates: median and quartiles",
    "losses": "Validation losses: median and quartiles",
}


def _figures(results: Results, stand: Sequence[Standing]) -> dict[str, Figure]:
    """Return the figures by name; an agent has the same colour in all of them."""
    runs, colours = len(results.seeds), agent_colours(results.agents)
    note = f"Median and quartiles of {runs} runs"
    return {
        "standings": draw_standings(stand, results.yardstick or "the lowest of the task", runs, colours),
        "profiles": draw_profiles(stand, colours),
        "starts": draw_starts(results.by_task),
        "schedules": draw_curves(results.by_task, "lrs", note, colours),
        "losses": draw_curves(results.by_task, "val_losses", note, colours),
    }


def _preface(results: Results) -> str:
    return (
        f"Test loss and accuracy of the weights at the best validation loss, mean (standard deviation) of "
        f"{len(results.seeds)} runs; bold: the best mean. Reference: {results.reference}. {LEGEND}"
    )


def _sections(results: Results, stand: Sequence[Standing]) -> list[Part]:
    """Return title, words and table of every part, from the most to the least general."""
    unit = results.yardstick or "the agent with the lowest on that task"
    sections = [
        Part(
            "All tasks together",
            f"Ratio: mean test loss over that of {unit}, for every task and initial lr. 95 %: interval of the median "
            "that counts the runs, those of the yardstick, and the choice of the tasks. IQM: interquartile mean of the "
            "ratios of single runs, with its 95 % bootstrap interval over runs alone. Score: share of the pairs within "
            "a factor tau of the lowest loss, mean over tau from 1 to 4. Improvement: probability that a run is better "
            f"than one of {results.reference}.",
            standing_lines(stand),
        )
    ]
    if len(results.agents) <= FEW // 2:
        sections.append(
            Part("Side by side", "The layout of Xu et al. (2019), Tables 1 and 2.", paper_lines(results.groups))
        )
    for name, rows in results.by_task.items():
        sections.append(Part(name, "Test loss by agent and initial lr.", overview_lines(rows)))
        sections.append(Part(f"{name}: every row", "", detail_lines(rows)))
    lines = _tuning_lines(results)
    if len(lines) > 1:
        sections.append(Part("Tuning", "On validation data, before anything above was run.", lines))
    if results.failures:
        lines = [("episode and error",), *((failure,) for failure in results.failures)]
        sections.append(Part("Failed", "", lines))
    return sections


def _tuning_lines(results: Results) -> Lines:
    """Return a line for everything that was tuned."""
    lines: Lines = [("task", "tuned", "chosen", "initial lr", "candidates", "episodes")]
    for task, of in results.tuned.items():
        for name, outcome in of.items():
            options = outcome["best"]["agent"].get("options") or {}
            chosen = ", ".join(f"{key}={value}" for key, value in options.items()) or "defaults"
            lr, tried = f"{outcome['best']['initial_lr']:g}", str(len(outcome["tried"]))
            lines.append((task, name, chosen, lr, tried, str(outcome["episodes"])))
    return lines
