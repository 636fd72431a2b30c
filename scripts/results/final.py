"""Recipe of docs/results/final.md."""

from scripts.recipes import EVALUATE, Recipe

TASKS = " ".join(
    f"final/{name}"
    for name in (
        "cancer-mlp",
        "wine-mlp",
        "diabetes-mlp",
        "friedman3-mlp",
        "words-bag",
        "parity-lstm",
        "mnist-autoencoder",
        "digits-noisy",
        "disks-mask",
        "tones-conv1d",
        "logistic-gru",
        "cifar-cnn",
        "steps-huber",
        "text-transformer",
        "moons-long",
    )
)

RECIPE = Recipe(
    about="universal on fifteen tasks that nothing was chosen by",
    time="27 minutes on one core of a busy machine, about 20 more for the optimizers, 20 for rounding",
    commands=(
        f"{EVALUATE} --controller universal universal-v1 --agents jump recipe one-cycle:peak_lr=usual "
        "--tune cosine linear one-cycle step --tuning-runs 8 --optimizers prodigy schedule-free-adamw "
        "prodigyplus:ProdigyPlusScheduleFree:lr=1,name=prodigy-plus-schedule-free pilot:PILOT:lr=0.001,name=pilot "
        "schedule-free-plus "
        "--plugins scripts/plugins/final_tasks.py "
        f"--task {TASKS} --runs 3 --out OUT",
        "scripts/tools/how_sure.py OUT universal OUT/best-of.png --every-schedule",
        f"{EVALUATE} --controller universal --agents recipe --tune cosine --tuning-runs 8 "
        "--plugins scripts/plugins/final_tasks.py scripts/plugins/nudged_tasks.py "
        f"--task {TASKS.replace('final/', 'nudged/')} --runs 3 --out OUT/nudged",
        "scripts/tools/rounding.py OUT/results.json OUT/nudged/results.json",
    ),
    data=("mnist", "cifar10-20k", "tinyshakespeare.txt"),
)
