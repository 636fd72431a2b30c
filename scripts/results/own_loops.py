"""Recipe of docs/results/own-loops.md."""

from scripts.recipes import Recipe

TRAININGS = "digits autoencoder friedman curves mnist-500 mnist-1000"

RECIPE = Recipe(
    about="the controller in plain training loops that are not tasks of the package",
    time="an hour or two on one core",
    commands=(
        f"python -m scripts.own_loops.run {TRAININGS} --out OUT",
        "python -m scripts.own_loops.tables OUT",
    ),
    data=("mnist",),
)
