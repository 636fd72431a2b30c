"""Recipe of docs/results/xu-transfer.md, whose results are in the folder of docs/results/xu.md."""

from scripts.recipes import EVALUATE, Recipe
from scripts.results.xu import CIFAR_MLP, SMALL

RECIPE = Recipe(
    about="Xu et al. (2019), Table 2: the CIFAR-10 controller on Fashion-MNIST",
    time="20 minutes for the controller, unless page xu has made it; the comparison was not measured",
    commands=(
        CIFAR_MLP,
        f"{EVALUATE} --controller OUT/cifar10-20k-mlp --task fashion-mnist/lenet5 "
        f"{SMALL} --agents constant --tune step cosine --tuning-runs 96 --runs 10 --out OUT/transfer",
    ),
    data=("fashion-mnist", "cifar10-20k"),
    folder="xu",
)
