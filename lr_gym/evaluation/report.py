"""What a comparison leaves behind: numbers in JSON, tables in Markdown, figures, and one page that shows them all."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lr_gym.evaluation.figures import FEW, draw_curves, draw_profiles, draw_standings, draw_starts
from lr_gym.evaluation.groups import LEGEND, Group
from lr_gym.evaluation.long import csv_text, curve_rows, run_rows
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
    """Write `table.md`, `report.html` and the figures that it shows.

    Args:
        out: The folder.
        results: What they show.

    Raises:
        UnknownNameError: The yardstick is no agent of the comparison.
    """
    stand = results.standings()
    runs = len(results.seeds)
    note = f"Median and quartiles of {runs} runs"
    figures = {
        "standings.png": draw_standings(stand, results.yardstick or "the lowest of the task", runs),
        "profiles.png": draw_profiles(stand),
        "starts.png": draw_starts(results.by_task),
        "schedules.png": draw_curves(results.by_task, "lrs", note),
        "losses.png": draw_curves(results.by_task, "val_losses", note),
    }
    pictures = {name: _png(figure) for name, figure in figures.items()}
    for name, picture in pictures.items():
        write_bytes(out / name, picture)
    sections = _sections(results, stand)
    command = str(results.about.get("command", ""))
    text = [f"{_preface(results)}\n\nCommand: `{command}`\n"]
    text += [f"## {title}\n\n{words}\n\n{markdown(lines)}" for title, words, lines in sections]
    write_bytes(out / "runs.csv", csv_text(run_rows(results.groups)).encode())
    write_bytes(out / "curves.csv", csv_text(curve_rows(results.groups)).encode())
    write_bytes(out / "table.md", "\n".join(text).encode())
    write_bytes(out / "report.html", _page(_preface(results), results.about, sections, pictures).encode())


Section = tuple[str, str, Lines]


def _preface(results: Results) -> str:
    return (
        f"Test loss and accuracy of the weights at the best validation loss, mean (standard deviation) of "
        f"{len(results.seeds)} runs; bold: the best mean. Reference: {results.reference}. {LEGEND}"
    )


def _sections(results: Results, stand: Sequence[Standing]) -> list[Section]:
    """Return title, words and table of every part, from the most to the least general."""
    unit = results.yardstick or "the agent with the lowest on that task"
    sections: list[Section] = [
        (
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
            ("Side by side", "The layout of Xu et al. (2019), Tables 1 and 2.", paper_lines(results.groups))
        )
    for name, rows in results.by_task.items():
        sections.append((name, "Test loss by agent and initial lr.", overview_lines(rows)))
        sections.append((f"{name}: every row", "", detail_lines(rows)))
    lines = _tuning_lines(results)
    if len(lines) > 1:
        sections.append(("Tuning", "On validation data, before anything above was run.", lines))
    if results.failures:
        sections.append(("Failed", "", [("episode and error",), *((failure,) for failure in results.failures)]))
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


def _png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=120)
    return buffer.getvalue()


_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 75rem; padding: 0 1rem; color: #222 }
table { border-collapse: collapse; margin: 1rem 0; display: block; overflow-x: auto }
td, th { border-bottom: 1px solid #ddd; padding: 0.25rem 0.7rem; text-align: right; white-space: nowrap }
td:first-child, th:first-child { text-align: left }
th { border-bottom: 2px solid #888 } img { max-width: 100%; height: auto } code, pre { background: #f4f4f4 }
pre { padding: 0.7rem; overflow-x: auto } summary { cursor: pointer; font-weight: 600 }
"""

_CAPTIONS = {
    "standings.png": "How the agents stand over all tasks and initial learning rates",
    "profiles.png": "On which share of tasks and starts each agent is within a factor of the lowest test loss",
    "starts.png": "Mean test loss by agent and initial learning rate",
    "schedules.png": "Learning rates: median and quartiles",
    "losses.png": "Validation losses: median and quartiles",
}


def _page(preface: str, about: Mapping[str, Any], sections: Sequence[Section], pictures: Mapping[str, bytes]) -> str:
    """Return one HTML page that needs nothing else: pictures inside, no scripts."""

    def picture(name: str) -> str:
        data = base64.b64encode(pictures[name]).decode()
        caption = html.escape(_CAPTIONS[name])
        image = f'<img src="data:image/png;base64,{data}" alt="{caption}">'
        return f"<figure>{image}<figcaption>{caption}</figcaption></figure>"

    def section(title: str, words: str, lines: Lines) -> str:
        return f"<h2>{html.escape(title)}</h2>\n<p>{html.escape(words)}</p>\n{_table(lines)}"

    first, *others = sections
    facts = "\n".join(f"{name}: {value}" for name, value in about.items() if not isinstance(value, (dict, list)))
    parts = [
        section(*first),
        picture("standings.png"),
        picture("profiles.png"),
        picture("starts.png"),
        *(section(*part) for part in others),
        picture("schedules.png"),
        picture("losses.png"),
        f"<h2>Where the numbers come from</h2>\n<pre>{html.escape(facts)}</pre>",
    ]
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>lr_gym: comparison</title>'
        f"<style>{_STYLE}</style></head><body>\n<h1>Comparison of learning rate agents</h1>\n"
        f"<p>{html.escape(preface)}</p>\n" + "\n".join(parts) + "\n</body></html>\n"
    )


def _table(lines: Lines) -> str:
    def cell(text: str, tag: str) -> str:
        inner = html.escape(text)
        if text.startswith("**") and text.endswith("**"):
            inner = f"<b>{html.escape(text[2:-2])}</b>"
        return f"<{tag}>{inner}</{tag}>"

    head, *rows = lines
    body = "\n".join("<tr>" + "".join(cell(text, "td") for text in row) + "</tr>" for row in rows)
    return f"<table><tr>{''.join(cell(text, 'th') for text in head)}</tr>\n{body}</table>"
