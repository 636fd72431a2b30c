"""Recipe of docs/results/fashion-mnist-mini-mlp.md."""

from scripts.recipes import EVALUATE, TRAIN, Recipe

RECIPE = Recipe(
    about="the main job: a PPO controller against 48 step decays",
    time=(
        "8 minutes for the controller, about two hours for ten, and as many for the shorter ones; the comparison with "
        "other schedules was not measured"
    ),
    commands=(
        f"{TRAIN} --runs 10 --out OUT",
        f"{EVALUATE} --controller OUT --task fashion-mnist-mini/mlp --agents constant cosine --out OUT/eval",
        f"{TRAIN} --seeds 0 1 2 3 4 5 6 7 8 9 --runs 30 --out OUT/trainings",
        "scripts/tools/training_seeds.py OUT/trainings --write OUT/seeds.json",
        "scripts/tools/training_seeds.py OUT/seeds.json --runs 10",
        f"{TRAIN} --episodes 640 --seeds 0 1 2 3 4 5 6 7 8 9 --out OUT/640",
        "scripts/tools/training_seeds.py OUT/640 --write OUT/seeds-640.json",
        f"{TRAIN} --episodes 800 --seeds 0 1 2 3 --out OUT/800",
        "scripts/tools/training_seeds.py OUT/800 --write OUT/seeds-800.json",
    ),
)
