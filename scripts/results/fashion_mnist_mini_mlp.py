"""Recipe of docs/results/fashion-mnist-mini-mlp.md."""

from scripts.recipes import EVALUATE, TRAIN, Recipe

SEEDS = "scripts/tools/training_seeds.py"

RECIPE = Recipe(
    about="the main job: a PPO controller against 48 step decays",
    time=(
        "5 minutes for the controller, about an hour for each ten, and two for the longer ones; the comparison with "
        "other schedules was not measured"
    ),
    commands=(
        f"{TRAIN} --out OUT",
        f"{EVALUATE} --controller OUT --task fashion-mnist-mini/mlp --agents constant cosine --out OUT/eval",
        f"{TRAIN} --seeds 0 1 2 3 4 5 6 7 8 9 --out OUT/trainings",
        f"{SEEDS} OUT/trainings --write OUT/seeds.json",
        f"{SEEDS} OUT/seeds.json --runs 30",
        f"{SEEDS} OUT/seeds.json --runs 10",
        f"{TRAIN} --seeds 10 11 12 13 14 15 16 17 18 19 --out OUT/fresh",
        f"{SEEDS} OUT/fresh --write OUT/seeds-fresh.json",
        f"{SEEDS} OUT/seeds-fresh.json --runs 30",
        f"{SEEDS} OUT/seeds-fresh.json --runs 10",
        f"{TRAIN} --episodes 800 --runs 30 --seeds 0 1 2 3 4 5 --out OUT/800",
        f"{SEEDS} OUT/800 --write OUT/seeds-800.json",
        f"{TRAIN} --episodes 1280 --runs 30 --seeds 0 1 2 3 4 5 6 7 8 9 --out OUT/1280",
        f"{SEEDS} OUT/1280 --write OUT/seeds-1280.json",
        f"{SEEDS} OUT/seeds-1280.json --runs 10",
    ),
)
