"""Recipe of docs/results/unseen.md."""

from scripts.recipes import EVALUATE, Recipe

PLUGIN = "scripts/plugins/unseen_tasks.py"
TASKS = "--task " + " ".join(
    f"unseen/{name}"
    for name in ("mnist-lenet5", "mnist-mlp", "cifar-resnet", "cifar-lenet5", "digits-mlp", "words-lstm")
)
EVERYBODY = (
    "constant cosine linear step exponential cosine-restarts knee one-cycle plateau greedy kim-yu arc line-search alr "
    "autolr"
)

RECIPE = Recipe(
    about="every agent on six tasks that no controller was trained on",
    time="not measured",
    commands=(
        f"{EVALUATE} --controller universal-v1 --agents constant cosine --tune cosine --tuning-runs 8 "
        f"--plugins {PLUGIN} {TASKS} --runs 10 --out OUT",
        f"{EVALUATE} --agents hindsight:results=OUT/results.json --plugins {PLUGIN} scripts/plugins/hindsight.py "
        f"{TASKS} --runs 10 --out OUT/hindsight",
        f"{EVALUATE} --controller universal-v1 --agents constant cosine --tune cosine --tuning-runs 8 "
        f"--plugins {PLUGIN} scripts/plugins/nudged_tasks.py {TASKS.replace('unseen/', 'nudged/')} --runs 3 "
        "--out OUT/nudged",
        "scripts/tools/rounding.py OUT/results.json OUT/nudged/results.json",
        f"{EVALUATE} --controller universal-v1 --agents {EVERYBODY} --tune cosine one-cycle --tuning-runs 8 "
        f"--optimizers prodigy schedule-free-adamw --plugins {PLUGIN} {TASKS} --runs 3 --out OUT/all",
    ),
    data=("mnist", "cifar10-20k"),
)
