"""Recipe of docs/results/autolr.md."""

from scripts.recipes import EVALUATE, Recipe

PLUGIN = f"{EVALUATE} --plugins scripts/plugins/paper_tasks.py"
TASKS = " ".join(f"paper/{data}-{rule}" for data in ("mnist", "fashion") for rule in ("sgd", "momentum", "adam"))
STEPS = " ".join(f"explore-then-step:explore={share}" for share in (0.2, 0.25, 0.3, 0.4))
AUTOLR = " ".join(f"autolr:explore=0,first={first},every=40,superbatch=10" for first in (40, 120, 320, 600))

RECIPE = Recipe(
    about="AutoLR: its tables and appendices at a small size",
    time="not measured",
    commands=(
        f"{PLUGIN} --task {TASKS} --agents constant autolr:explore=0.2,every=25,superbatch=10 --runs 7 "
        "--out OUT/tables-8-9",
        "scripts/tools/score_tables.py OUT/tables-8-9 > OUT/tables-8-9/scores.md",
        f"{PLUGIN} scripts/plugins/nudged_tasks.py --task {TASKS.replace('paper/', 'nudged/')} "
        "--agents constant autolr:explore=0.2,every=25,superbatch=10 --runs 7 --out OUT/nudged",
        "scripts/tools/rounding.py OUT/tables-8-9/results.json OUT/nudged/results.json",
        f"{PLUGIN} --task paper/cifar-lenet5 --agents {STEPS} {AUTOLR} --runs 5 --out OUT/tables-1-2",
        "scripts/tools/score_tables.py OUT/tables-1-2 > OUT/tables-1-2/scores.md",
        "scripts/tools/autolr_measurements.py OUT",
    ),
    data=("mnist", "cifar10-20k"),
)
