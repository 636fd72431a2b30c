"""Try faults, and write how many were survived into docs/reliability.md.

uv run python -m scripts.reliability                     all kinds, each at its usual size
uv run python -m scripts.reliability arguments --count 100 --seed 5
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import torch

from lr_gym import cli
from lr_gym.files import read_json, write_bytes, write_json
from scripts.reliability.arguments import command_lines, keywords
from scripts.reliability.common import Outcome
from scripts.reliability.data import data
from scripts.reliability.disk import disks
from scripts.reliability.files import hostile_files
from scripts.reliability.growth import growth
from scripts.reliability.kills import killed
from scripts.reliability.processes import told_to_stop
from scripts.reliability.randomness import randomness
from scripts.reliability.trainees import trainees, workers

ROOT = Path(__file__).resolve().parents[2]
PAGE, NUMBERS = ROOT / "docs" / "reliability.md", ROOT / "docs" / "results" / "reliability.json"
BEGIN, END = "<!-- table: python -m scripts.reliability -->\n", "<!-- end of the table -->\n"
#: By name: what is tried, at which size, and how.
KINDS: dict[str, tuple[str, int, Callable[[int, int], Outcome]]] = {
    "arguments": ("generated command lines with one word that makes no sense", 400, command_lines),
    "keywords": ("generated keyword arguments that make no sense", 1000, keywords),
    "files": ("damaged or hostile controllers, ARC's weights, checkpoints and records", 1000, hostile_files),
    "data": ("data that make no sense: numbers, types, shapes and labels", 340, data),
    "trainees": ("networks that misbehave, alone, in a stack, in workers", 64, trainees),
    "randomness": ("public functions, under two global random states", 1000, randomness),
    "growth": ("resets, short trainings and vector environments, for growth of memory or processes", 2000, growth),
    "kills": (
        "SIGKILL at random moments, five per run: own loops, evaluations, trainings, tunings, ARC's points",
        125,
        killed,
    ),
    "signals": ("SIGINT, SIGTERM and SIGHUP, once or twice, at random moments of five commands", 50, told_to_stop),
    "workers": (
        "workers of two commands: killed, stopped, out of memory, hanging or dying in every episode",
        50,
        workers,
    ),
    "disk": ("full disks, files that become too large, files in the way, in three commands", 45, disks),
}


def main() -> None:
    """Try faults of some kinds."""
    parser = cli.Parser(prog="python -m scripts.reliability", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("kinds", nargs="*", metavar="KIND", help=f"{', '.join(KINDS)} (default: all)")
    parser.add_argument("--count", type=int, metavar="N", help="faults of each kind (default: each its own number)")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="decides which (default: 0)")
    given = parser.parse_args()
    if unknown := sorted(set(given.kinds) - KINDS.keys()):
        parser.error(f"no kind is named {', '.join(unknown)}; there are {', '.join(KINDS)}")
    torch.set_num_threads(1)
    found = read_json(NUMBERS) if NUMBERS.exists() else {}
    bad = False
    for name in given.kinds or KINDS:
        _, usual, attempt = KINDS[name]
        outcome = attempt(given.count or usual, given.seed)
        found[name] = {"tried": outcome.tried, "survived": outcome.tried - len(outcome.failures), "seed": given.seed}
        print(f"{name}: {outcome.tried} tried, {len(outcome.failures)} not survived", flush=True)
        for failure in outcome.failures:
            print(f"  {json.dumps(failure)}", flush=True)
        bad = bad or bool(outcome.failures)
        write_json(NUMBERS, found)
        write_table(found)
    sys.exit(cli.FAILED if bad else cli.OK)


def write_table(found: dict[str, dict[str, int]]) -> None:
    """Write the numbers into the page."""
    lines = ["| what | tried | survived | command |", "|---|---|---|---|"]
    for name, (words, _, _) in KINDS.items():
        if name in found:
            row = found[name]
            command = f"python -m scripts.reliability {name} --count {row['tried']} --seed {row['seed']}"
            lines.append(f"| {words} | {row['tried']:,} | {row['survived']:,} | `{command}` |")
    text = PAGE.read_text()
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    write_bytes(PAGE, "".join([before, BEGIN, "\n".join(lines), "\n", END, after]).encode())


if __name__ == "__main__":
    cli.run(main)
