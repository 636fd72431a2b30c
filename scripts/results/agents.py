"""Recipe of docs/results/agents.md."""

from scripts.recipes import EVALUATE, Recipe

STARTS = "--initial-lrs 1e-1 1e-2 1e-3 1e-4 --runs 5"
MOMENTUM = "--override optimizer=SGD 'optimizer_options={\"momentum\":0.9}'"
EVERYBODY = (
    "--agents all kim-yu:direction=optimizer kim-yu:direction=optimizer,score=improvement kim-yu:variant=as-released"
)
OLDER = (
    "--agents alr autolr constant cosine cosine-restarts exponential greedy kim-yu kim-yu:direction=optimizer "
    "kim-yu:direction=optimizer,score=improvement kim-yu:variant=as-released knee line-search linear one-cycle plateau "
    "step"
)
NUDGED = f"{EVALUATE} {OLDER} --plugins scripts/plugins/nudged_tasks.py --task nudged/mlp {STARTS}"
SCORES = (
    "kim-yu kim-yu:score=improvement kim-yu:factors=5 kim-yu:factors=5,score=improvement kim-yu:factors=7 "
    "kim-yu:factors=7,score=improvement"
)

RECIPE = Recipe(
    about="every fixed agent, from good and bad initial learning rates",
    time="not measured; the quarter of Adam on mlp took 3.5 minutes",
    commands=(
        f"{EVALUATE} {EVERYBODY} {STARTS} --out OUT/sgd {MOMENTUM}",
        f"{EVALUATE} {EVERYBODY} {STARTS} --out OUT/adam",
        f"{NUDGED} --out OUT/nudged-sgd {MOMENTUM}",
        f"{NUDGED} --out OUT/nudged-adam",
        "scripts/tools/rounding.py OUT/sgd/results.json OUT/nudged-sgd/results.json",
        "scripts/tools/rounding.py OUT/adam/results.json OUT/nudged-adam/results.json",
        f"{EVALUATE} --agents {SCORES} --task fashion-mnist-mini/mlp {STARTS} {MOMENTUM} --out OUT/kim-yu",
        f"{EVALUATE} --agents constant line-search --task fashion-mnist-mini/mlp {STARTS} "
        "--override optimizer=SGD decision_interval=1 --out OUT/line-search",
    ),
    remark="`all` includes agents that are newer than the page: the new tables will have more rows",
)
