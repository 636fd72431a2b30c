"""Recipe of docs/results/xu.md."""

from scripts.recipes import TRAIN, Recipe

SMALL = "--override batch_size=32 budget=200 validation_size=300"
SETTINGS = f"--profile quick --episodes 512 --settings trainees=8 --runs 10 --tuning-runs 2 {SMALL}"
CIFAR_MLP = f"{TRAIN} --task cifar10-20k/lenet5 --actor mlp {SETTINGS} --out OUT/cifar10-20k-mlp"
#: Three trainings, by actor.
SEEDS = {
    actor: f"{TRAIN} --task cifar10-20k/lenet5 --actor {actor} {SETTINGS} --seeds 0 1 2 --out OUT/seeds-{actor}"
    for actor in ("mlp", "lstm")
}
NUDGED = (
    f"{TRAIN} --task nudged/cifar10-20k-lenet5 --plugins scripts/plugins/nudged_tasks.py --actor mlp {SETTINGS} "
    "--out OUT/nudged"
)

RECIPE = Recipe(
    about="Xu et al. (2019), Table 1: a learned schedule against 48 step decays",
    time="about 6 hours on one core: 20 minutes a training, one hour the residual network, two the protocol",
    commands=(
        f"{TRAIN} --task fashion-mnist/lenet5 --actor mlp {SETTINGS} --out OUT/fashion-mnist-mlp",
        f"{TRAIN} --task fashion-mnist/lenet5 --actor lstm {SETTINGS} --out OUT/fashion-mnist-lstm",
        CIFAR_MLP,
        f"{TRAIN} --task cifar10-20k/lenet5 --actor lstm {SETTINGS} --out OUT/cifar10-20k-lstm",
        f"{TRAIN} --task fashion-mnist/small-resnet --plugins scripts/plugins/paper_tasks.py --actor mlp "
        f"{SETTINGS} --out OUT/fashion-mnist-resnet-mlp",
        NUDGED,
        f"{TRAIN} --task fashion-mnist-mini/lenet5 --profile paper --episodes 96 "
        "--settings evaluate_every=12 evaluation_runs=1 --runs 10 --tuning-runs 1 "
        "--override batch_size=200 validation_size=500 --out OUT/protocol",
        *(
            command
            for actor in SEEDS
            for command in (
                SEEDS[actor],
                f"scripts/tools/training_seeds.py OUT/seeds-{actor} --write OUT/cifar10-20k-{actor}/seeds.json",
            )
        ),
    ),
    data=("fashion-mnist", "cifar10-20k"),
)
