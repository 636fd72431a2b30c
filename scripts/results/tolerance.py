"""Recipe of docs/results/tolerance.md."""

from scripts.recipes import EVALUATE, Recipe

COMMON = "--plugins scripts/plugins/unseen_tasks.py --runs 3"
ADAM = "--task unseen/mnist-lenet5 unseen/cifar-lenet5 unseen/words-lstm"
MOMENTUM = "--task unseen/mnist-mlp unseen/cifar-resnet unseen/digits-mlp"
BOTH = f"{ADAM} {MOMENTUM.removeprefix('--task ')}"
SCHEDULES = "--agents cosine linear one-cycle:peak_lr=initial,name=one-cycle"
#: Half decades around what is usual.
OPTIMIZERS = " ".join(
    [
        f"schedule-free-adamw:lr={lr},name=schedule-free-adamw-{lr}"
        for lr in ("0.0000791", "0.00025", "0.000791", "0.0025", "0.00791", "0.025", "0.0791")
    ]
    + [f"prodigy:lr={lr},name=prodigy-{lr}" for lr in ("0.0316", "0.1", "0.316", "1", "3.16", "10")]
)
PARTS = ("adam-flat", "momentum-flat", "adam", "momentum", "optimizers")

RECIPE = Recipe(
    about="what a wrong learning rate costs, agent by agent",
    time="45 minutes on a third of a core",
    commands=(
        f"{EVALUATE} --controller universal --agents recipe {COMMON} {ADAM} --initial-lrs 0.001 --out OUT/adam-flat",
        f"{EVALUATE} --controller universal --agents recipe {COMMON} {MOMENTUM} --initial-lrs 0.01 "
        "--out OUT/momentum-flat",
        f"{EVALUATE} {SCHEDULES} {COMMON} {ADAM} "
        "--initial-lrs 0.0000316 0.0001 0.000316 0.001 0.00316 0.01 0.0316 --out OUT/adam",
        f"{EVALUATE} {SCHEDULES} {COMMON} {MOMENTUM} "
        "--initial-lrs 0.000316 0.001 0.00316 0.01 0.0316 0.1 0.316 --out OUT/momentum",
        f"{EVALUATE} --agents constant --optimizers {OPTIMIZERS} {COMMON} {BOTH} --initial-lrs 0.001 "
        "--out OUT/optimizers",
        "scripts/tools/tolerance.py OUT " + " ".join(f"OUT/{part}/results.json" for part in PARTS),
    ),
    data=("mnist", "cifar10-20k"),
)
