"""`report` on what `evaluate` left."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from lr_gym.commands.screen import print_results
from lr_gym.evaluation.report import write_report
from lr_gym.evaluation.results import Results


def report_comparison(folder: Path, console: Console) -> None:
    """Print the tables; write the tables, the figures and the page that shows them.

    Raises:
        FileFormatError: `results.json` or a record is missing, damaged or of another version.
    """
    results = Results.read(folder)
    write_report(folder, results)
    print_results(results, console)
    console.print(f"Tables, figures and a page that shows them (report.html) are in {folder}", markup=False)
