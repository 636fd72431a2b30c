"""Recipe of docs/results/fashion-mnist-mini-mlp.md."""

from scripts.recipes import Recipe

RECIPE = Recipe(
    about="the main job: a PPO controller against 48 step decays",
    time="10 minutes for the controller; the comparison with other schedules was not measured",
    commands=(
        "train_controller.py --out OUT",
        "eval_transfer.py --controller OUT --task fashion-mnist-mini/mlp --agents constant cosine --out OUT/eval",
    ),
)
