"""Write a controller again with the precautions of `universal`, which other trainings do not have by themselves.

uv run scripts/tools/give_precautions.py runs/long-2 runs/careful/long-2

The networks stay as they are. What is written is a controller for `eval_transfer.py --controller` and `LRController`.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

from lr_gym import cli
from lr_gym.control.controller import Controller


def main() -> None:
    """Read a controller, and write it with other precautions."""
    parser = cli.Parser(prog="give_precautions.py", description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("controller", help="a controller's folder, or that of its training run")
    parser.add_argument("out", type=Path, help="where it is written")
    given = parser.parse_args()
    of, controller = Controller.load("universal").description, Controller.load(given.controller)
    careful = dataclasses.replace(controller.description, start=of.start, restore=of.restore, brake=of.brake)
    Controller(careful, controller.weights).save(given.out)
    print(f"{given.out}: start={careful.start!r}, restore={careful.restore}, brake={careful.brake}")


if __name__ == "__main__":
    cli.run(main)
