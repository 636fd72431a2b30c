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
NUDGED = "--plugins scripts/plugins/unseen_tasks.py scripts/plugins/nudged_tasks.py --runs 3"
PARTS = ("adam-flat", "momentum-flat", "adam", "momentum", "optimizers")


def comparisons(common: str, out: str) -> tuple[str, ...]:
    """Return the commands of the four comparisons of agents, with these options, into folders of `out`."""
    return (
        f"{EVALUATE} --controller universal --agents recipe {common} {ADAM} --initial-lrs 0.001 --out {out}/adam-flat",
        f"{EVALUATE} --controller universal --agents recipe {common} {MOMENTUM} --initial-lrs 0.01 "
        f"--out {out}/momentum-flat",
        f"{EVALUATE} {SCHEDULES} {common} {ADAM} "
        f"--initial-lrs 0.0000316 0.0001 0.000316 0.001 0.00316 0.01 0.0316 --out {out}/adam",
        f"{EVALUATE} {SCHEDULES} {common} {MOMENTUM} "
        f"--initial-lrs 0.000316 0.001 0.00316 0.01 0.0316 0.1 0.316 --out {out}/momentum",
    )


RECIPE = Recipe(
    about="what a wrong learning rate costs, agent by agent",
    time="45 minutes on a third of a core; the nudged copies 42 minutes, most of them on a third too",
    commands=(
        *comparisons(COMMON, "OUT"),
        f"{EVALUATE} --agents constant --optimizers {OPTIMIZERS} {COMMON} {BOTH} --initial-lrs 0.001 "
        "--out OUT/optimizers",
        "scripts/tools/tolerance.py OUT " + " ".join(f"OUT/{part}/results.json" for part in PARTS),
        *(command.replace("unseen/", "nudged/") for command in comparisons(NUDGED, "OUT/nudged")),
        "scripts/tools/tolerance.py OUT/nudged "
        + " ".join(f"OUT/nudged/{part}/results.json" for part in PARTS if part != "optimizers"),
    ),
    data=("mnist", "cifar10-20k"),
)
