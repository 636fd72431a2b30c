"""Make the records, tables and figures of a page of results again.

    uv run python -m scripts.results                     the pages, and how long each takes
    uv run python -m scripts.results NAME                make those of docs/results/NAME.md again
    uv run python -m scripts.results NAME --dry-run      only print the commands

The text of a page is written by hand: compare it with the new tables. A run that was stopped goes on where it was, with
the same command.
"""

from __future__ import annotations

import argparse
import sys

from lr_gym import cli, stopping
from lr_gym.errors import LRGymError
from scripts import recipes


def overview() -> None:
    """Print the pages, a line each."""
    for name in recipes.names():
        recipe = recipes.find(name)
        print(f"{name:<23} {recipe.about}. Time: {recipe.time}")


def main() -> None:
    """List the pages, or make one again."""
    parser = cli.Parser(
        prog="python -m scripts.results",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("name", nargs="?", metavar="NAME", help="the page (default: list the pages)")
    parser.add_argument("--out", metavar="DIR", help="folder of the results (default: that of the page)")
    parser.add_argument("--data", metavar="DIR", help="folder with data sets (default: LR_GYM_DATA)")
    parser.add_argument("--dry-run", action="store_true", help="print the commands, and run none of them")
    arguments = parser.parse_args()
    if arguments.name is None:
        if len(sys.argv) > 1:
            parser.error("options need the NAME of a page")
        overview()
        return
    try:
        if arguments.data is not None:
            cli.use_data_root(arguments.data)
        recipe = recipes.find(arguments.name)
        out = recipes.results_folder(arguments.name, recipe, arguments.out)
        if not arguments.dry_run:
            recipes.check_data(recipe)
    except LRGymError as error:
        parser.error(str(error))
    page = recipe.page or f"{recipes.PAGES}/{arguments.name}.md"
    print(f"{page}: {recipe.about}")
    print(f"Time: {recipe.time}. Data: {', '.join((*recipe.data, *recipe.files)) or 'in the package'}. Results: {out}")
    if recipe.remark is not None:
        print(f"Not made again: {recipe.remark}")
    if arguments.dry_run:
        for command in recipes.commands(recipe, out):
            print(command)
        return
    with stopping.work("The same command continues."):
        recipes.run(recipe, out)
    print(f"Tables and figures are in {out}. The text of {page} is written by hand: compare it with them.")


if __name__ == "__main__":
    cli.run(main)
