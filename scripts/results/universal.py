"""Recipe of docs/results/universal.md."""

from scripts.recipes import EVALUATE, TRAIN, Recipe

SMALL = "--plugins scripts/plugins/small_families.py --validation universal-validation"
#: Name in the figure, folder, task, settings, seeds.
ABLATIONS = (
    ("as shipped", "portable", "universal", "", (1, 2, 3)),
    ("features of the paper", "absolute", "universal", "observation=absolute", (1, 2)),
    ("one network and data set", "one-network", f"universal-one-network {SMALL}", "", (1, 2)),
    ("Adam alone", "one-optimizer", f"universal-one-optimizer {SMALL}", "", (1,)),
    ("reward of the paper", "val-loss", "universal", "reward=val_loss", (1,)),
    ("multipliers up to 2", "multiplier-2", "universal", "max_multiplier=2", (1,)),
)
#: Name in the figure, folder, options.
LONGER = (
    (
        "64 units, lr 0.002, seed 1 (shipped)",
        "shipped",
        "--episodes 4160 --seed 1 --settings hidden_size=64 actor_lr=0.002",
    ),
    ("the same, annealed over 5,120 episodes", "5120", "--episodes 5120 --seed 1"),
    ("the same, seed 2", "5120-2", "--episodes 5120 --seed 2"),
    (
        "multipliers up to 10, seed 1",
        "multiplier-10",
        "--episodes 4160 --seed 1 --settings max_multiplier=10 log_std=-1",
    ),
    ("32 units, lr 0.001, seed 0", "32", "--episodes 4800 --seed 0 --settings hidden_size=32 actor_lr=0.001"),
    ("the same, LSTM", "lstm", "--actor lstm --episodes 4800 --seed 0 --settings hidden_size=32 actor_lr=0.001"),
    ("128 units, lr 0.003, seed 2", "128", "--episodes 2560 --seed 2 --settings hidden_size=128 actor_lr=0.003"),
)
FAR = (
    "far/teacher-mlp far/fashion-hinge far/pairs-siamese far/sentences-lstm far/characters-gru far/capitals-transformer"
)

PORTABLE = "OUT/runs/portable-1 OUT/runs/portable-2 OUT/runs/portable-3"
#: Folder, and whose mean action.
SEVERAL = (
    ("long-2", "OUT/runs/long-2"),
    *((f"portable-{seed}", f"OUT/runs/portable-{seed}") for seed in (1, 2, 3)),
    ("two", "universal-v1 OUT/runs/long-2"),
    ("three", PORTABLE),
    ("four", f"universal-v1 {PORTABLE}"),
)

#: Where a start is given it matters which.
FROM_OTHERS = "--only 'start given' 'start given, restore' --starts largest smallest"

#: The family with more kinds of tasks.
WIDE = "--plugins scripts/plugins/wide_family.py --task universal-wide"
#: The same in short, whose controllers are selected on sizes in between.
SHORT = (
    "--plugins scripts/plugins/wide_family.py --task universal-wide-short --validation universal-wide-validation "
    "--draws 300"
)

#: The family with clean data as well.
CLEAN = (
    "--plugins scripts/plugins/clean_family.py --task universal-clean-short --validation universal-clean-validation "
    "--draws 300"
)
#: Folder, what it begins with, options, and the generations that are tried on the twelve tasks.
EVOLVED = (
    ("clean", "universal", "--generations 31", (10, 20, 31)),
    ("clean-lstm", "OUT/imitation/lstm-2", "--generations 25 --sigma 0.1 --lr 0.015", (10, 20, 25)),
)

#: Controllers that are not shipped, and the own loops that they were tried in.
OWN_LOOPS = {
    "OUT/evolution/clean/way/20": (
        "digits digits-long autoencoder friedman curves blobs quadratic mnist-500 mnist-1000 mnist-2000 mnist-5000 "
        "fashion-mlp-1000 fashion-mlp-2000 fashion-mlp-5000 mnist-autoencoder-1000 fashion-autoencoder-1000 "
        "cifar-lenet-5000"
    ),
    "OUT/runs/long-budgets-1": (
        "digits digits-long autoencoder friedman curves quadratic mnist-1000 mnist-2000 mnist-5000 fashion-mlp-5000 "
        "cifar-lenet-5000"
    ),
}

#: `universal` was trained with four of them.
OPTIMIZERS = (
    *("adam", "adamw", "nadam", "radam", "adamax", "adagrad", "adadelta", "adafactor"),
    *("rmsprop", "rmsprop-momentum", "sgd", "momentum", "nesterov", "momentum-0.99"),
)
TWICE = " ".join(f"optimizers/{name} optimizers/{name}-regression" for name in OPTIMIZERS)

RECIPE = Recipe(
    about="one controller for a family of tasks: what helped and what did not",
    time="8 to 11 hours of training on one core, from the pace of single runs; the comparison was not measured",
    commands=(
        "scripts/tools/precautions.py OUT/precautions",
        "scripts/tools/precautions.py OUT/nudged --nudged "
        "--only 'start given' 'probe, restore' 'probe, restore, brake 5'",
        f"{EVALUATE} --controller universal --agents constant cosine --tune cosine --tuning-runs 8 "
        f"--plugins scripts/plugins/optimizer_tasks.py --task {TWICE} --runs 5 --out OUT/optimizers",
        *(
            f"{TRAIN} --task {task} --episodes 1280 --settings final_runs=1 {settings} --seed {seed} "
            f"--out OUT/runs/{folder}-{seed}"
            for _, folder, task, settings, seeds in ABLATIONS
            for seed in seeds
        ),
        "scripts/tools/training_curves.py OUT/ablations "
        + " ".join(f"'{name}=OUT/runs/{folder}-{seed}'" for name, folder, _, _, seeds in ABLATIONS for seed in seeds),
        f"{EVALUATE} --controller universal-v1 OUT/runs/portable-1 OUT/runs/portable-2 OUT/runs/absolute-1 "
        "OUT/runs/absolute-2 --agents constant --tune cosine --tuning-runs 8 --plugins scripts/plugins/far_tasks.py "
        f"--task {FAR} --runs 3 --out OUT/far",
        *(f"{TRAIN} --task universal {options} --out OUT/runs/{folder}" for _, folder, options in LONGER),
        f"{TRAIN} --task universal --episodes 4160 --seed 2 --settings final_runs=1 --out OUT/runs/long-2",
        *(
            f"scripts/tools/precautions.py OUT/seeds/{folder} --controller {networks} --only 'probe, restore, brake 5'"
            for folder, networks in SEVERAL
        ),
        "scripts/tools/precautions.py OUT/seeds/long-2-free --controller OUT/runs/long-2 --only 'probe, restore'",
        *(
            command
            for seed in (1, 2, 3)
            for command in (
                f"scripts/tools/precautions.py OUT/one-by-one/{seed} --controller OUT/runs/portable-{seed} "
                "--only 'start given' 'start given, restore' probe 'probe, restore' 'probe, restore, brake 5'",
                f"scripts/tools/precautions.py OUT/one-by-one/{seed}-starts --controller OUT/runs/portable-{seed} "
                f"{FROM_OTHERS}",
            )
        ),
        f"scripts/tools/precautions.py OUT/one-by-one/universal-starts {FROM_OTHERS}",
        *(
            f"{TRAIN} --task universal --episodes 1280 --seed {seed} --settings start=probe restore=true brake=5 "
            f"final_runs=1 --workers 1 --out OUT/runs/use-{seed}"
            for seed in (1, 2, 3)
        ),
        *(
            f"{TRAIN} {WIDE} --validation universal-wide-validation --episodes 1280 --seed {seed} "
            f"--settings final_runs=1 --workers 1 --out OUT/runs/wide-{seed}"
            for seed in (1, 2, 3)
        ),
        *(
            f"scripts/tools/precautions.py OUT/second/{run} --controller OUT/runs/{run} "
            "--only 'probe, restore, brake 5'"
            for run in ("use-1", "use-2", "use-3", "wide-1", "wide-2", "wide-3")
        ),
        *(
            f"scripts/tools/behaviour_cloning.py OUT/imitation {WIDE} --draws 300 --rounds 2 --actor {actor}"
            for actor in ("mlp", "lstm")
        ),
        f"{TRAIN} --controller OUT/imitation/mlp-2 --task universal --episodes 1280 --seed 1 "
        "--settings final_runs=2 log_std=-1.0 --workers 1 --out OUT/runs/imitation",
        f"{TRAIN} --controller OUT/imitation/lstm-2 --task universal --episodes 1280 --seed 1 "
        "--settings final_runs=2 log_std=-1.0 actor_lr=0.0005 --workers 1 --out OUT/runs/imitation-lstm",
        *(
            f"scripts/tools/precautions.py OUT/imitated/{folder} --controller {networks} "
            "--only 'probe, restore, brake 5'"
            for folder, networks in (
                ("mlp", "OUT/imitation/mlp-2"),
                ("lstm", "OUT/imitation/lstm-2"),
                ("ppo", "OUT/runs/imitation"),
                ("lstm-ppo", "OUT/runs/imitation-lstm"),
                ("mean", "universal OUT/imitation/lstm-2"),
            )
        ),
        f"python -m scripts.tools.worth_of_features OUT/imitation {WIDE} --draws 300",
        *(
            f"python -m scripts.tools.evolution OUT/evolution/{folder} --controller {networks} {SHORT} {options}"
            for folder, networks, options in (
                ("lstm", "OUT/imitation/lstm-2", "--generations 50 --sigma 0.1 --lr 0.015"),
                ("universal", "universal", "--generations 28"),
            )
        ),
        *(
            f"scripts/tools/precautions.py OUT/evolved/{folder} --controller {networks} "
            "--only 'probe, restore, brake 5'"
            for folder, networks in (
                ("lstm", "OUT/evolution/lstm/controller"),
                ("universal", "OUT/evolution/universal/controller"),
                ("mean", "OUT/evolution/lstm/controller universal"),
            )
        ),
        *(
            command
            for folder, networks, options, generations in EVOLVED
            for command in (
                f"python -m scripts.tools.evolution OUT/evolution/{folder} --controller {networks} {CLEAN} {options}",
                *(
                    f"scripts/tools/precautions.py OUT/evolved/{folder}-{generation} "
                    f"--controller OUT/evolution/{folder}/way/{generation} --only 'probe, restore, brake 5'"
                    for generation in generations
                ),
            )
        ),
        f"{TRAIN} --task universal-long --plugins scripts/plugins/long_family.py --validation universal-validation "
        "--episodes 1280 --seed 1 --settings start=probe restore=true brake=5 final_runs=1 --workers 1 "
        "--out OUT/runs/long-budgets-1",
        "scripts/tools/precautions.py OUT/second/long-budgets-1 --controller OUT/runs/long-budgets-1 "
        "--only 'probe, restore, brake 5'",
        *(
            f"python -m scripts.own_loops.run {loops} --seeds 3 --rules universal --controller {networks} "
            "--out OUT/own-loops"
            for networks, loops in OWN_LOOPS.items()
        ),
        "python -m scripts.own_loops.controllers docs/results/own-loops/runs.json OUT/own-loops",
        "scripts/tools/training_curves.py OUT/training "
        + " ".join(f"'{name}=OUT/runs/{folder}'" for name, folder, _ in LONGER),
    ),
    data=("mnist", "cifar10-20k", "tinyshakespeare.txt"),
    remark="three of the ten longer trainings, whose code is no longer there; those that were stopped early run to "
    "their end",
)
