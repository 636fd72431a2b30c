"""Recipe of the figure and the table of docs/performance.md."""

from scripts.recipes import Recipe

RECIPE = Recipe(
    about="speed and memory",
    time="about half an hour",
    commands=("python -m benchmarks --out OUT/benchmarks.json",),
    page="docs/performance.md",
)
