"""Try faults, and write how many were survived into docs/reliability.md.

uv run python -m scripts.reliability                     all kinds, each at its usual size
uv run python -m scripts.reliability arguments --count 100 --seed 5
uv run python -m scripts.reliability kills --count 12 --seed 0 1 2    three times, one after the other

The numbers are written after every seed. Given again, a command leaves out the seeds where all faults were survived.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

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
    "trainees": ("networks that misbehave, alone, in a stack, in workers", 80, trainees),
    "randomness": ("public functions, under two global random states", 1000, randomness),
    "growth": ("resets, short trainings and vector environments, for growth of memory or processes", 2000, growth),
    "kills": (
        "SIGKILL at random moments of own loops, evaluations, trainings, tunings, ARC's generation and training, as "
        "many of each",
        150,
        killed,
    ),
    "signals": (
        "SIGINT, SIGTERM and SIGHUP, once or twice, at random moments of five commands, as many of each",
        125,
        told_to_stop,
    ),
    "workers": (
        "workers of trainings and evaluations that are killed or stopped, hang, loop, die or run out of memory in "
        "every episode, as many of each",
        120,
        workers,
    ),
    "disk": (
        "full and read-only disks, files that become too large, files in the way, names too long, two runs in one "
        "folder, clocks set back, in three commands",
        21,
        disks,
    ),
}


def main() -> None:
    """Try faults of some kinds."""
    parser = cli.Parser(prog="python -m scripts.reliability", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("kinds", nargs="*", metavar="KIND", help=f"{', '.join(KINDS)} (default: all)")
    parser.add_argument("--count", type=int, metavar="N", help="faults of each kind (default: each its own number)")
    parser.add_argument("--seed", type=int, nargs="+", default=[0], metavar="N", help="decide which (default: 0)")
    given = parser.parse_args()
    if unknown := sorted(set(given.kinds) - KINDS.keys()):
        parser.error(f"no kind is named {', '.join(unknown)}; there are {', '.join(KINDS)}")
    torch.set_num_threads(1)
    bad = False
    for name in given.kinds or KINDS:
        for seed in given.seed:
            bad = not _survived(name, given.count or KINDS[name][1], seed) or bad
    sys.exit(cli.FAILED if bad else cli.OK)


def _survived(name: str, count: int, seed: int) -> bool:
    """Try faults of a kind, if they were not all survived before, and write the numbers."""
    found = read_json(NUMBERS) if NUMBERS.exists() else {}
    kind = found.setdefault(name, {"count": count, "seeds": {}})
    if kind["count"] != count:  # other faults
        kind |= {"count": count, "seeds": {}}
    before = kind["seeds"].get(str(seed))
    if before is not None and before["tried"] == before["survived"]:
        return True
    outcome = KINDS[name][2](count, seed)
    kind["seeds"][str(seed)] = {"tried": outcome.tried, "survived": outcome.tried - len(outcome.failures)}
    print(f"{name}, seed {seed}: {outcome.tried} tried, {len(outcome.failures)} not survived", flush=True)
    for failure in outcome.failures:
        print(f"  {json.dumps(failure)}", flush=True)
    write_json(NUMBERS, found)
    write_table(found)
    return not outcome.failures


def write_table(found: dict[str, Any]) -> None:
    """Write the numbers into the page."""
    lines = ["| what | tried | survived | command |", "|---|---|---|---|"]
    for name, (words, _, _) in KINDS.items():
        if name in found:
            seeds = found[name]["seeds"]
            tried, survived = (sum(row[key] for row in seeds.values()) for key in ("tried", "survived"))
            command = f"python -m scripts.reliability {name} --count {found[name]['count']} --seed {' '.join(seeds)}"
            lines.append(f"| {words} | {tried:,} | {survived:,} | `{command}` |")
    text = PAGE.read_text()
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    write_bytes(PAGE, "".join([before, BEGIN, "\n".join(lines), "\n", END, after]).encode())


if __name__ == "__main__":
    cli.run(main)
