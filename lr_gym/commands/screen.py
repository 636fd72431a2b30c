"""What the commands print: tables for people at a terminal, plain ones where the output goes elsewhere."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from lr_gym.evaluation.figures import FEW
from lr_gym.evaluation.groups import LEGEND
from lr_gym.evaluation.results import Results
from lr_gym.evaluation.tables import brief, detail_lines, overview_lines, screen, standing_lines


def print_results(results: Results, console: Console) -> None:
    """Print the tables of a comparison, and what failed."""
    for name, rows in results.by_task.items():
        lines = overview_lines(rows) if len(results.agents) > FEW else brief(detail_lines(rows))
        console.print(screen(lines, name))
    if len(results.by_task) > 1 or len(results.agents) > 2:
        unit = results.yardstick or "the lowest of the task"
        lines = brief(standing_lines(results.standings()))
        console.print(screen(lines, f"All tasks: test loss over that of {unit}"))
    console.print(f"Reference: {results.reference}. {LEGEND}")
    if results.failures:
        count = len(results.failures)
        text = f"{count} episode{'s' * (count > 1)} failed, the first: {results.failures[0]}"
        console.print(text, markup=False, style="red")


def print_table(rows: Sequence[Mapping[str, Any]], title: str, console: Console) -> None:
    """Print rows of named values as a table, without the columns that hold no value.

    At a terminal cells are folded into its width. Elsewhere there are no frames, and a line is as long as it must be.

    Args:
        rows: The rows, all with the same names.
        title: Above the table, at a terminal.
        console: Where it is printed.
    """
    names = [name for name in (rows[0] if rows else ()) if any(row[name] is not None for row in rows)]
    lines = [[name.replace("_", " ") for name in names], *([_text(row[name]) for name in names] for row in rows)]
    if not console.is_terminal:
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        for line in lines:
            cells = (cell.ljust(width) for cell, width in zip(line, widths, strict=True))
            print("  ".join(cells).rstrip(), file=console.file)
        print(file=console.file)
        return
    table = Table(title=title)
    for name in lines[0]:
        table.add_column(Text(name), overflow="fold")
    for line in lines[1:]:
        table.add_row(*map(Text, line))
    console.print(table)


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, (list, tuple)):
        return ", ".join(map(_text, value))
    return "" if value is None else str(value)
