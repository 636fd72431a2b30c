"""Recipe of docs/results/own-loops.md."""

from scripts.recipes import Recipe

TRAININGS = (
    "digits digits-long autoencoder friedman curves blobs mnist-500 mnist-1000 mnist-2000 mnist-5000 quadratic "
    "fashion-mlp-1000 fashion-mlp-2000 fashion-mlp-5000 mnist-autoencoder-1000 mnist-autoencoder-2000 "
    "fashion-autoencoder-1000 fashion-autoencoder-2000 cifar-mlp-1000 cifar-conv-500 cifar-lenet-5000 "
    "cifar-lenet-20000 lightning-autoencoder trainer-finetuning shakespeare"
)

#: Those that came last.
LAST = (
    "quadratic fashion-mlp-1000 fashion-mlp-2000 fashion-mlp-5000 mnist-autoencoder-1000 mnist-autoencoder-2000 "
    "fashion-autoencoder-1000 fashion-autoencoder-2000"
)

NUDGED = (
    "digits digits-long autoencoder friedman curves blobs quadratic mnist-500 mnist-1000 mnist-2000 "
    "fashion-mlp-1000 fashion-mlp-2000 fashion-mlp-5000 mnist-autoencoder-1000 fashion-autoencoder-1000"
)

RECIPE = Recipe(
    about="the controller in plain training loops that are not tasks of the package",
    time=(
        "two hours for nineteen of the twenty-five on one busy core; Shakespeare 2 to 7 minutes a "
        "run, LeNet-5 on CIFAR-10 half a minute and 2 minutes a run"
    ),
    commands=(
        f"python -m scripts.own_loops.run {TRAININGS} --out OUT",
        "python -m scripts.own_loops.tables OUT",
        f"python -m scripts.own_loops.tables OUT --only {LAST} --name images",
        f"python -m scripts.own_loops.run {NUDGED} --rules universal recipe tuned-cosine --nudged --out OUT",
        "python -m scripts.own_loops.rounding OUT/runs.json OUT",
        "python -m scripts.own_loops.published",
    ),
    data=("mnist", "cifar10-20k", "tinyshakespeare.txt"),
)
