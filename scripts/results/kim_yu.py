"""Recipe of docs/results/kim-yu.md."""

from scripts.recipes import EVALUATE, Recipe

PLUGIN = f"{EVALUATE} --plugins scripts/plugins/paper_tasks.py --task paper/cifar-resnet"
FACTORS = "kim-yu:every=epoch,factors=5 'kim-yu:every=epoch,factors=[4,2,1,0.5,0.125]' kim-yu:every=epoch,factors=7"
BATCHES = "kim-yu:every=epoch,batches=4 kim-yu:every=epoch,batches=16"
EVERYBODY = f"constant linear cosine step kim-yu:every=epoch kim-yu:every=epoch,variant=as-released {FACTORS} {BATCHES}"
NUDGED = (
    f"{EVALUATE} --plugins scripts/plugins/paper_tasks.py scripts/plugins/nudged_tasks.py --task nudged/cifar-resnet"
)
COMPARED = f"--agents {EVERYBODY} --tune constant cosine --tuning-runs 8 --reference kim-yu:every=epoch --runs 5"

RECIPE = Recipe(
    about="Kim & Yu's scheduler against those of PyTorch",
    time="13 minutes on one core for the nudged half, so about as many for the first",
    commands=(
        f"{PLUGIN} {COMPARED} --out OUT",
        "scripts/tools/score_tables.py OUT kim-yu:every=epoch > OUT/scores.md",
        f"{NUDGED} {COMPARED} --out OUT/nudged",
        "scripts/tools/rounding.py OUT/results.json OUT/nudged/results.json",
        "scripts/tools/score_tables.py OUT/nudged kim-yu:every=epoch > OUT/nudged.md",
        f"{PLUGIN} --agents constant kim-yu:every=epoch kim-yu:every=epoch,factors=5 kim-yu:every=epoch,factors=7 "
        "--initial-lrs 1 --runs 5 --out OUT/from-1",
    ),
    data=("cifar10-20k",),
)
