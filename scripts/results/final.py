"""Recipe of docs/results/final.md."""

from scripts.recipes import EVALUATE, TRAIN, Recipe

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

PRODIGY_PLUS = "prodigyplus:ProdigyPlusScheduleFree:lr=1,name=prodigy-plus-schedule-free"

RECIPE = Recipe(
    about="universal on fifteen tasks that nothing was chosen by",
    time="27 minutes on a busy core; 25 for optimizers, 20 for rounding, 35 for ten runs and a training",
    commands=(
        f"{EVALUATE} --controller universal universal-v1 --agents jump recipe one-cycle:peak_lr=usual "
        "--tune cosine linear one-cycle step --tuning-runs 8 --optimizers prodigy schedule-free-adamw "
        f"{PRODIGY_PLUS} pilot:PILOT:lr=0.001,name=pilot schedule-free-plus "
        "--plugins scripts/plugins/final_tasks.py "
        f"--task {TASKS} --runs 3 --out OUT",
        "scripts/tools/how_sure.py OUT universal OUT/best-of.png --every-schedule",
        f"{EVALUATE} --controller universal --agents recipe --tune cosine linear one-cycle step --tuning-runs 8 "
        f"--optimizers {PRODIGY_PLUS} --plugins scripts/plugins/final_tasks.py "
        f"--task {TASKS} --initial-lrs 0.001 --runs 10 --out OUT/ten",
        f"{TRAIN} --task universal --episodes 1280 --settings final_runs=1 --seed 1 --out OUT/portable-1",
        "scripts/tools/give_precautions.py OUT/portable-1 OUT/careful-1",
        f"{EVALUATE} --controller OUT/careful-1 --plugins scripts/plugins/final_tasks.py "
        f"--task {TASKS} --initial-lrs 0.001 --runs 3 --out OUT/seeds",
        f"{EVALUATE} --controller universal --agents recipe --tune cosine --tuning-runs 8 "
        "--plugins scripts/plugins/final_tasks.py scripts/plugins/nudged_tasks.py "
        f"--task {TASKS.replace('final/', 'nudged/')} --runs 3 --out OUT/nudged",
        "scripts/tools/rounding.py OUT/results.json OUT/nudged/results.json",
    ),
    data=("mnist", "cifar10-20k", "tinyshakespeare.txt"),
)
