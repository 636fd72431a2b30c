"""Recipe of docs/results/arc.md."""

from scripts.recipes import EVALUATE, Recipe

PLUGIN = f"{EVALUATE} --plugins scripts/plugins/arc_unseen.py --runs 5"
AGENTS = "--agents constant arc arc:weights=arc.h5 cosine cosine-restarts exponential one-cycle line-search"
FREQUENCY = f"{PLUGIN} --task unseen/cifar-lenet5 --initial-lrs 1e-1 1e-2 1e-3"

RECIPE = Recipe(
    about="ARC: its points, its training, and what it does on tasks that it never saw",
    time="80 minutes for points and training; the comparisons were not measured",
    commands=(
        "python -m lr_gym.agents.arc.generate --runs 108 --seed 0 --out OUT/points",
        "python -m lr_gym.agents.arc.train --seed 0 --points OUT/points/points.jsonl.xz --out OUT/training",
        f"{PLUGIN} {AGENTS} --task unseen/digits-mlp unseen/cifar-resnet --initial-lrs 1e-2 1e-3 1e-4 --out OUT/adam",
        f"{EVALUATE} --plugins scripts/plugins/arc_unseen.py scripts/plugins/nudged_tasks.py --runs 5 "
        "--agents constant arc cosine line-search "
        "--task nudged/digits-mlp nudged/cifar-resnet --initial-lrs 1e-2 1e-3 1e-4 --out OUT/nudged",
        "scripts/tools/rounding.py OUT/adam/results.json OUT/nudged/results.json",
        f"{PLUGIN} {AGENTS} --task unseen/cifar-lenet5 --initial-lrs 1e-1 1e-2 1e-3 1e-4 --out OUT/lenet5",
        f"{PLUGIN} {AGENTS} --task unseen/python-words --initial-lrs 1e-1 1e-2 1e-3 --out OUT/words",
        "scripts/tools/arc_summary.py OUT/adam OUT/lenet5 OUT/words > OUT/summary.md",
        f"{FREQUENCY} --agents arc:frequency=1 arc:frequency=2 arc:frequency=3 --out OUT/frequency/1-3",
        *(
            f"{FREQUENCY} --agents arc:frequency={n} --override budget={300 * n} --out OUT/frequency/{n}"
            for n in (4, 5, 6)
        ),
        "scripts/tools/arc_frequency.py OUT/frequency/frequency.png OUT/frequency/1-3 OUT/frequency/4 OUT/frequency/5 "
        "OUT/frequency/6 > OUT/frequency/frequency.md",
    ),
    data=("mnist", "cifar10-20k", "tinyshakespeare.txt"),
    files={"arc.h5": "it is model/arc.h5 of the repository fastestimator/ARC (docs/agents.md)"},
    remark="the comparisons use the weights in the package, not those in OUT/training",
)
