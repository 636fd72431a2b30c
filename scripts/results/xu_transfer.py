"""Recipe of docs/results/xu-transfer.md, whose results are in the folder of docs/results/xu.md."""

from scripts.recipes import EVALUATE, Recipe
from scripts.results.xu import CIFAR_MLP, NUDGED, SEEDS, SMALL

TRAINED = " ".join(f"OUT/seeds-mlp/seed-{seed}" for seed in range(3))
MINI = f"{SMALL} --agents constant"

RECIPE = Recipe(
    about="Xu et al. (2019), Table 2: the CIFAR-10 controller on Fashion-MNIST",
    time="20 minutes for each of eight controllers, unless page xu has made them; 10 for a comparison",
    commands=(
        CIFAR_MLP,
        f"{EVALUATE} --controller OUT/cifar10-20k-mlp --task fashion-mnist/lenet5 "
        f"{SMALL} --agents constant --tune step cosine --tuning-runs 96 --runs 10 --out OUT/transfer",
        SEEDS["mlp"],
        f"{EVALUATE} --controller {TRAINED} --task fashion-mnist-mini/lenet5 "
        f"{MINI} --tune step cosine --tuning-runs 96 --runs 10 --out OUT/transfer-mini",
        NUDGED,
        f"{EVALUATE} --controller OUT/nudged --task fashion-mnist-mini/lenet5 "
        f"{MINI} --runs 10 --out OUT/transfer-nudged",
        f"{EVALUATE} --controller OUT/nudged --plugins scripts/plugins/nudged_tasks.py --task nudged/lenet5 "
        f"{MINI} --runs 10 --out OUT/transfer-nudged-task",
        SEEDS["lstm"],
        f"{EVALUATE} --controller OUT/seeds-lstm/seed-1 OUT/seeds-lstm/seed-2 --task fashion-mnist-mini/lenet5 "
        f"{MINI} --runs 10 --out OUT/transfer-lstm",
        "scripts/tools/rounding.py OUT/transfer-nudged/results.json OUT/transfer-nudged-task/results.json",
    ),
    data=("fashion-mnist", "cifar10-20k"),
    folder="xu",
)
