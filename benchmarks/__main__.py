"""Measure speed and memory; print a table, write it to a JSON file.

    uv run python -m benchmarks                              everything, about half an hour
    uv run python -m benchmarks overhead population          some of it
    uv run python -m benchmarks --scale 0.1                  fewer repetitions

The speed of a shared machine drifts. So the two sides of a ratio are timed in turn, and the table shows the median and
the quartiles of many ratios. Each process has one torch thread. The table marks what this machine cannot measure.
"""

from __future__ import annotations

import argparse
import importlib
import platform
from pathlib import Path

import torch
from matplotlib.ticker import FixedLocator, NullLocator
from rich.console import Console

from benchmarks.common import HEADINGS, Row
from lr_gym.evaluation.plots import new_figure, save_figure
from lr_gym.files import write_json
from lr_gym.processes import available_cores
from lr_gym.provenance import provenance

PARTS = (
    "overhead",
    "own_loop",
    "population",
    "workers",
    "rollouts",
    "versus_dacbench",
    "memory",
    "agents",
    "precision",
    "gpu",
    "cluster",
)


def main() -> None:
    """Run the parts, one after another."""
    parser = argparse.ArgumentParser(prog="benchmarks", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)} (default: all)")
    parser.add_argument("--scale", type=float, default=1.0, help="how many repetitions, 1 being the usual number")
    parser.add_argument("--out", type=Path, default=Path("runs/benchmarks.json"), help="JSON file")
    arguments = parser.parse_args()
    unknown = set(arguments.parts) - set(PARTS)
    if unknown:
        parser.error(f"unknown part {', '.join(sorted(unknown))}; there are {', '.join(PARTS)}")
    if not arguments.scale > 0:
        parser.error(f"--scale must be positive, got {arguments.scale}")
    torch.set_num_threads(1)
    machine = {"machine": platform.machine(), "cores": available_cores(), "gpu": _gpu()}
    console = Console()
    console.print(f"torch {torch.__version__}, {machine}", highlight=False)
    rows: list[Row] = []
    print(f"| {' | '.join(HEADINGS)} |\n|{'---|' * len(HEADINGS)}")
    for part in arguments.parts or PARTS:
        with console.status(f"measuring: {part}"):
            for row in importlib.import_module(f"benchmarks.{part}").measure(arguments.scale):
                print(f"| {' | '.join(row.cells)} |", flush=True)
                rows.append(row)
                write_json(
                    arguments.out,
                    {"provenance": provenance({"scale": arguments.scale} | machine), "rows": [vars(r) for r in rows]},
                )
    figure = arguments.out.with_suffix(".png")
    draw([row for row in rows if row.unit == "x" and row.median is not None], figure)
    console.print(f"Written to {arguments.out} and {figure}")


def draw(rows: list[Row], path: Path) -> None:
    """Draw medians and quartiles of all ratios on a logarithmic axis."""
    if not rows:
        return
    figure = new_figure(10, 1 + 0.3 * len(rows))
    axes = figure.subplots()
    for place, row in enumerate(reversed(rows)):
        low, high = row.quartiles or (row.median, row.median)
        colour = {True: "tab:green", False: "tab:red", None: "tab:blue"}[row.met]
        axes.plot([low, high], [place, place], color=colour, lw=3, alpha=0.4, solid_capstyle="butt")
        axes.plot(row.median, place, "o", color=colour)
    axes.axvline(1, color="grey", lw=0.8)
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(FixedLocator([0.5, 0.75, 1, 1.25, 1.5, 2, 2.5, 3, 5, 10, 20, 50]))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter("{x:g}")
    axes.set_yticks(range(len(rows)), [row.name for row in reversed(rows)], fontsize="small")
    axes.set_xlabel("ratio: median and quartiles (green: goal met, red: missed, blue: no goal)")
    save_figure(figure, path)


def _gpu() -> str | None:
    return torch.cuda.get_device_name() if torch.cuda.is_available() else None


if __name__ == "__main__":
    main()
