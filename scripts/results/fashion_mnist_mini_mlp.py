"""Recipe of docs/results/fashion-mnist-mini-mlp.md."""

from scripts.recipes import EVALUATE, TRAIN, Recipe

RECIPE = Recipe(
    about="the main job: a PPO controller against 48 step decays",
    time="10 minutes for the controller; the comparison with other schedules was not measured",
    commands=(
        f"{TRAIN} --out OUT",
        f"{EVALUATE} --controller OUT --task fashion-mnist-mini/mlp --agents constant cosine --out OUT/eval",
    ),
)
