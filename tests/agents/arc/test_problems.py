"""The data sets, networks, losses and problems that ARC learns from.

MNIST and Shakespeare are made up: small files of the same form, in which every example says what it is.
"""

from __future__ import annotations

import copy
import dataclasses
import functools
import itertools
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import toys
from torch import Tensor
from torch.nn import functional

from lr_gym import tasks
from lr_gym.agents.arc import data as module
from lr_gym.agents.arc import models
from lr_gym.agents.arc.problems import BATCH, OPTIMIZERS, PROBLEMS, Problem, register
from lr_gym.agents.arc.selection import PROXY
from lr_gym.errors import DataNotFoundError, InvalidArgumentError
from lr_gym.tasks import data as tasks_data
from lr_gym.tasks import sources
from lr_gym.trainee import Trainee

Arrays = dict[str, Any]
SPLITS = ("train", "val", "test")
ECHO = "Thou art what thou art"


def digits() -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Return images (7000, 14, 14) whose first pixel is 20 times their class, whose next two count them; and classes.

    The others are 0 or 200.
    """
    rng = np.random.default_rng(0)
    images = 200 * rng.integers(2, size=(7000, 14, 14))
    labels = rng.integers(10, size=7000)
    images[:, 0, 0] = 20 * labels
    images[:, 0, 1], images[:, 0, 2] = np.divmod(np.arange(7000), 250)
    return images, labels


def play() -> str:
    """Return sentences of made-up words with speakers between them; one is said again and again, in all tones."""
    rng = np.random.default_rng(0)
    parts = []
    for number in range(2200):
        words = ["".join(rng.choice(list("abcdefghijklmnopqrstuvwxyz"), 5)) for _ in range(8)]
        line = " ".join(words[:4]).capitalize() + "\n" + " ".join(words[4:]).title()
        if number % 20 == 0:
            parts.append("SPEAKER:")
        parts.append((ECHO if number % 9 == 0 else line) + ".?!"[number % 3])
    return "\n".join(parts)


def forget() -> None:
    """Forget data that was loaded from another root."""
    getattr(module._shakespeare, "cache_clear", lambda: None)()
    tasks_data._load.cache_clear()


@pytest.fixture(scope="module", autouse=True)
def _made_up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Look for data in a folder with both."""
    folder = tmp_path_factory.mktemp("made up")
    images, labels = digits()
    large = images.repeat(2, 1).repeat(2, 2).astype(np.uint8)
    np.savez(folder / "mnist.npz", x_train=large, y_train=labels, x_test=large[:9], y_test=labels[:9])
    (folder / "tinyshakespeare.txt").write_text(play())
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LR_GYM_DATA", str(folder))
        patch.setattr(sources, "_from_torchvision", lambda *_, **__: None)
        forget()
        yield
    forget()


@functools.cache
def loaded(name: str) -> Arrays:
    return module.LOADERS[f"arc-{name}"]()


def whole(name: str) -> list[Any]:
    """Return inputs and targets of a data set, of all splits."""
    return [np.concatenate([loaded(name)[f"{letter}_{split}"] for split in SPLITS]) for letter in "xy"]


# -- data --------------------------------------------------------------------------------------------------------------

#: Examples of each split in units of 320, shape of an input and of a target, and the classes (none: numbers).
SHAPES: dict[str, tuple[int, tuple[int, ...], tuple[int, ...], set[int] | None]] = {
    "arc-fashion": (2, (14, 14), (), set(range(10))),
    "arc-proxy": (2, (14, 14), (), set(range(10))),
    "arc-mnist": (2, (14, 14), (), set(range(10))),
    "arc-pairs": (2, (2, 14, 14), (), {0, 1}),
    "arc-scenes": (1, (14, 14), (197,), set(range(10))),
    "arc-shapes": (1, (16, 16), (16, 16), {0, 1, 2}),
    "arc-teacher": (2, (16,), (2,), None),
    "arc-sentences": (1, (48,), (), {0, 1, 2}),
    "arc-characters": (1, (32,), (32,), set(range(58))),
    "arc-capitals": (1, (48,), (48,), {0, 1}),
}


@pytest.mark.parametrize("name", SHAPES)
def test_every_data_set(name: str) -> None:
    """Shapes and classes; no example is in two splits; and the same every time, whatever else is random."""
    assert SHAPES.keys() == module.LOADERS.keys() == {PROBLEMS[p].task.data for p in PROBLEMS} | {"arc-proxy"}
    arrays = loaded(name.removeprefix("arc-"))
    units, x_shape, y_shape, classes = SHAPES[name]
    for split, share in zip(SPLITS, (3, 1, 1), strict=True):
        assert arrays[f"x_{split}"].shape == (320 * units * share, *x_shape)
        assert arrays[f"y_{split}"].shape == (320 * units * share, *y_shape)
        assert np.isfinite(arrays[f"x_{split}"]).all()
        if classes is not None:
            assert arrays[f"y_{split}"].dtype == np.int64
            assert set(np.unique(arrays[f"y_{split}"])) <= classes
    if classes is not None and len(classes) < 58:
        assert set(np.unique(arrays["y_train"])) == classes
    data = tasks.load(name)
    assert data.classification == (classes is not None)
    assert data.x["validation"].is_floating_point() == (name not in ("arc-sentences", "arc-characters", "arc-capitals"))
    splits = [{row.tobytes() for row in arrays[f"x_{split}"]} for split in SPLITS]
    if name != "arc-sentences":  # people repeat themselves
        assert all(a.isdisjoint(b) for a, b in itertools.combinations(splits, 2))
    toys.disturb_global_randomness(3)
    before = toys.global_randomness()
    assert toys.same(module.LOADERS[name](), arrays)
    assert toys.same(toys.global_randomness(), before)


def test_images_are_those_of_fashion_mnist() -> None:
    """The proxy has others."""
    source = sources.find("fashion-mnist-mini", "")
    known = {
        image.reshape(14, 2, 14, 2).astype(float).sum((1, 3)).tobytes(): int(label)
        for image, label in zip(source["x_train"], source["y_train"], strict=True)
    }
    for image, label in zip(*(part[::50] for part in whole("fashion")), strict=True):
        assert known[(4 * image.astype(float)).tobytes()] == label
    ours, others = ({row.tobytes() for row in whole(name)[0]} for name in ("fashion", "proxy"))
    assert len(ours) > 3000
    assert ours.isdisjoint(others)


def test_digits_keep_their_classes() -> None:
    images, labels = whole("mnist")
    assert (images[:, 0, 0] == 20 * labels).all()
    assert set(np.unique(images[:, 1:])) == {0, 200}  # not scaled, not mixed
    numbers = 250 * images[:, 0, 1] + images[:, 0, 2]
    assert len(set(numbers)) == 3200
    assert abs(np.corrcoef(np.arange(3200), numbers)[0, 1]) < 0.1  # in random order


def test_pairs_are_what_they_say() -> None:
    images, same = whole("pairs")
    assert ((images[:, 0, 0, 0] == images[:, 1, 0, 0]) == same).all()
    assert 0.45 < same.mean() < 0.55
    first, second = (images[:, k, 0, 0].astype(int) // 20 for k in range(2))
    assert np.bincount(first, minlength=10).min() > 200
    assert np.bincount(second, minlength=10).min() > 200
    unlike = {(a, b) for a, b in zip(first[same == 0], second[same == 0], strict=True)}
    assert len(unlike) == 90  # every digit with every other


def test_scenes_have_their_masks() -> None:
    images, targets = whole("scenes")
    sources_, labels = digits()
    known = {(image / 255 > 0.3).tobytes(): int(label) for image, label in zip(sources_, labels, strict=True)}
    masks = targets[:, 1:].astype(bool).reshape(-1, 14, 14)
    assert [known[mask.tobytes()] for mask in masks] == targets[:, 0].tolist()
    assert len({mask.tobytes() for mask in masks}) == len(masks)
    bright = np.where(masks, images, np.nan)[:, 1:]  # below the row that counts
    assert np.nanmean(bright) == pytest.approx(0.4 + 0.6 * 200 / 255, abs=0.01)
    assert np.nanstd(bright) == pytest.approx(0.1, rel=0.05)
    ground = np.where(masks, np.nan, images)
    assert 0 < np.nanmean(ground) < 0.7
    assert np.nanstd(ground) > 0.15  # a texture


def test_shapes_are_boxes_before_discs() -> None:
    images, classes = whole("shapes")
    spread = []
    for image, pixels in zip(images, classes, strict=True):
        box = pixels == 2
        assert np.array_equal(box, np.outer(box.any(1), box.any(0)))
        rows, columns = np.nonzero(pixels == 1)
        if len(rows):  # within a circle of the largest radius
            assert max(np.ptp(rows), np.ptp(columns)) <= 9
        for number in range(3):
            if (pixels == number).sum() > 20:
                spread.append(image[pixels == number].std(ddof=1))
    assert np.mean(spread) == pytest.approx(0.25, rel=0.02)
    shares = [(classes == number).mean() for number in range(3)]
    assert shares[0] > 0.5
    assert min(shares) > 0.05


def test_the_teachers_numbers_can_be_learned_in_part() -> None:
    arrays = loaded("teacher")
    x, y = arrays["x_train"].astype(float), arrays["y_train"].astype(float)
    weights = np.linalg.lstsq(x, y, rcond=None)[0]
    left = (arrays["y_test"] - arrays["x_test"] @ weights).var(0) / arrays["y_test"].var(0)
    assert (left < 0.9).all()
    assert (left > 0.05).all()


def decoded(codes: np.ndarray[Any, Any], alphabet: list[str]) -> list[str]:
    return ["".join(alphabet[code] for code in row) for row in codes]


def test_sentences_have_their_marks() -> None:
    x, y = whole("sentences")
    found = re.findall(r"(?:^|[.?!:])([^.?!:]+)(?=([.?!]))", play())
    marks: dict[str, set[int]] = {}
    for text, mark in found:
        words = " ".join(text.lower().split())
        marks.setdefault(words[:48].ljust(48), set()).add(".?!".index(mark))
    texts, labels = decoded(x, sorted(set("".join(marks)))), y.tolist()
    assert all(label in marks[text] for text, label in zip(texts, labels, strict=True))
    assert np.bincount(labels).min() > 500
    assert not any("speaker" in text for text in texts)


def test_characters_are_followed_by_their_targets() -> None:
    text, (x, y) = play(), whole("characters")
    assert np.array_equal(x[:, 1:], y[:, :-1])
    pieces = decoded(np.column_stack([x, y[:, -1:]]), sorted(set(text)))
    known = {text[start : start + 33] for start in range(0, len(text) - 32, 33)}
    assert set(pieces) <= known  # pieces that do not overlap
    assert len(set(pieces)) == len(pieces)


def test_capitals_are_where_they_were() -> None:
    text, (x, y) = play(), whole("capitals")
    pieces = decoded(x, sorted(set(text.lower())))
    known = {text[start : start + 48].lower(): text[start : start + 48] for start in range(0, len(text) - 47, 48)}
    for piece, capitals in zip(pieces, y, strict=True):
        assert [character.isupper() for character in known[piece]] == capitals.astype(bool).tolist()
    assert 0.05 < y.mean() < 0.3


def test_data_that_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another root is another text; one that is none is refused."""
    monkeypatch.setenv("LR_GYM_DATA", str(tmp_path))
    forget()
    message = f"need tinyshakespeare.txt .* not in {tmp_path}. Put it there, set LR_GYM_DATA .* or leave these problems"
    for name in ("arc-sentences", "arc-characters", "arc-capitals"):
        with pytest.raises(DataNotFoundError, match=message):
            tasks.load(name)
    for name in ("arc-mnist", "arc-pairs", "arc-scenes"):
        with pytest.raises(DataNotFoundError, match="the data set 'mnist' is in none of these places"):
            tasks.load(name)
    (tmp_path / "tinyshakespeare.txt").write_text(play()[::-1])
    assert not np.array_equal(module.characters()["x_train"], loaded("characters")["x_train"])
    (tmp_path / "binary").mkdir()
    (tmp_path / "binary" / "tinyshakespeare.txt").write_bytes(b"\xff\xfe\x00\x01" * 1000)
    monkeypatch.setenv("LR_GYM_DATA", str(tmp_path / "binary"))
    with pytest.raises(InvalidArgumentError, match=r"tinyshakespeare\.txt"):
        module.characters()
    forget()


# -- networks ----------------------------------------------------------------------------------------------------------


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("name", [*PROBLEMS, "proxy"])
def test_a_problem_can_be_trained(name: str) -> None:
    """Two intervals; its loss falls on what it has just seen. Examples do not mix, and every weight counts."""
    problem = PROXY if name == "proxy" else PROBLEMS[name].task
    trainee = Trainee(problem.replace(decision_interval=3, budget=6, validation_size=100), 0, lr=1e-3)
    x = trainee.data.x["validation"][:3]
    model = copy.deepcopy(trainee.model).eval()
    outputs = model(x)
    with torch.inference_mode():
        assert torch.allclose(model(x), outputs, atol=1e-5)
        assert torch.allclose(model(x[1:2]), outputs[1:2], atol=1e-5)
    assert outputs.shape[0] == 3
    assert outputs.shape[1:] == OUTPUTS.get(name, (10,))
    outputs.square().sum().backward()
    unused = [key for key, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert unused == (["embed.5.bias"] if name == "pairs-siamese" else [])  # which is gone in the difference
    batches = trainee.peek_batches(2)[:]
    before, weights = trainee.batch_loss(batches), [p.detach().clone() for p in trainee.parameters]
    losses = [trainee.train_interval().features.val_loss for _ in range(2)]
    assert np.isfinite(losses).all()
    assert trainee.batch_loss(batches) < before
    moved = [not torch.equal(old, new) for old, new in zip(weights, trainee.parameters, strict=True)]
    assert moved.count(False) == len(unused)
    assert sum(p.numel() for p in trainee.parameters) < 50_000  # small
    assert len(trainee.parameters) == len(list(model.parameters()))


#: Shapes of the outputs for an example, where they are not ten classes.
OUTPUTS = {
    **{"fashion-adversarial": (10, 2), "scenes-multitask": (10 + 196,), "sentences-lstm": (3,), "pairs-siamese": (2,)},
    **{"capitals-transformer": (2, 48), "characters-gru": (58, 32), "shapes-unet": (3, 16, 16), "teacher-mlp": (2,)},
}


@pytest.mark.parametrize("inference", [False, True])
def test_the_adversary_moves_every_pixel_by_epsilon(inference: bool) -> None:
    torch.manual_seed(0)
    model, x = models.Adversarial((1, 14, 14), 10, width=8, epsilon=0.25), noise(5, 1, 14, 14)
    before = x.clone()
    looked_at: list[Tensor] = []
    model.network.register_forward_pre_hook(lambda _, arguments: looked_at.append(arguments[0].detach().clone()))
    with torch.inference_mode(inference):
        outputs = model(x)
        assert model(noise(5, 1, 14, 14)).shape == (5, 10, 2)  # also what was made for inference
    moved = looked_at[2]
    assert all(parameter.grad is None for parameter in model.parameters())
    assert not x.requires_grad
    assert torch.equal(x, before)
    assert (moved - x).abs().numpy() == pytest.approx(0.25, abs=1e-6)
    with torch.no_grad():
        assert torch.allclose(outputs[..., 0], model.network(x), atol=1e-6)
        assert torch.allclose(outputs[..., 1], model.network(moved), atol=1e-6)
        step = (moved - x) / 250  # small enough for the gradient to tell the way
        own = outputs[..., 0].argmax(1)
        losses = [
            functional.cross_entropy(model.network(x + way * step), own, reduction="none") for way in (-1.0, 0.0, 1.0)
        ]
    assert bool((losses[0] < losses[1]).all())
    assert bool((losses[1] < losses[2]).all())


def test_what_networks_look_at() -> None:
    """Siamese ones are symmetric, recurrent ones do not look ahead, a transformer knows places."""
    torch.manual_seed(0)
    assert models.vgg((3, 19, 16), 4, width=2, norm=False)(noise(3, 3, 19, 16)).shape == (3, 4)
    model, x = models.Siamese((2, 14, 14), 2, width=3), noise(6, 2, 14, 14)
    outputs = model(x)
    assert torch.allclose(model(x.flip(1)), outputs, atol=1e-6)
    equal = model(x[:, :1].expand(-1, 2, -1, -1))
    assert torch.allclose(equal, equal[:1].expand(6, -1), atol=1e-6)  # any image with itself
    assert not torch.allclose(outputs, equal, atol=1e-3)
    assert not torch.allclose(outputs[0], outputs[1], atol=1e-4)
    gru, text = models.Recurrent(5, kind="GRU", width=8, every=True), torch.arange(20).reshape(2, 10)
    other = text.clone()
    other[:, 6:] = (text[:, 6:] + 1) % 80
    assert torch.equal(gru(text)[..., :6], gru(other)[..., :6])
    assert not torch.equal(gru(text)[..., 6], gru(other)[..., 6])
    outputs = models.Transformer((12,), 2).eval()(torch.full((1, 12), 7))
    assert len({tuple(row) for row in outputs[0].T.tolist()}) == 12


# -- losses ------------------------------------------------------------------------------------------------------------


def entropy(logits: list[float], label: int) -> float:
    return math.log(math.fsum(math.exp(logit) for logit in logits)) - logits[label]


def test_clean_and_adversarial_by_hand() -> None:
    logits = [[[1.0, 0.5], [0.0, -1.0], [2.0, 0.0]], [[0.0, 3.0], [1.0, 1.0], [0.0, -2.0]]]
    expected = [
        entropy([row[way] for row in example], label)
        for example, label in zip(logits, (2, 0), strict=True)
        for way in (0, 1)
    ]
    loss = models.clean_and_adversarial(torch.tensor(logits), torch.tensor([2, 0]))
    assert float(loss) == pytest.approx(sum(expected) / 4, rel=1e-5)


def test_dice_and_cross_entropy_by_hand() -> None:
    """Two images of two pixels with two classes; probabilities of the second class 1/2, 1/4, 3/4, 1/2."""
    ones = [[0.0, -math.log(3)], [math.log(3), 0.0]]
    logits = torch.tensor([[[0.0, 0.0], row] for row in ones]).unsqueeze(2)
    targets = torch.tensor([[[1, 0]], [[1, 1]]])
    mean_entropy = -(2 * math.log(1 / 2) + 2 * math.log(3 / 4)) / 4
    second = (2 * (1 / 2 + 3 / 4 + 1 / 2) + 1) / ((1 / 2 + 1 / 4 + 3 / 4 + 1 / 2) + 3 + 1)
    first = (2 * (3 / 4) + 1) / ((1 / 2 + 3 / 4 + 1 / 4 + 1 / 2) + 1 + 1)
    expected = mean_entropy + 1 - (first + second) / 2
    assert float(models.dice_and_cross_entropy(logits, targets)) == pytest.approx(expected, rel=1e-6)


def test_class_and_mask_by_hand() -> None:
    """Three classes and two pixels."""
    predictions = torch.tensor([[1.0, 0.0, -1.0, 2.0, -3.0], [0.0, 0.5, 0.0, 0.0, 1.0]])
    targets = torch.tensor([[0, 1, 0], [2, 1, 1]])
    classes = (entropy([1.0, 0.0, -1.0], 0) + entropy([0.0, 0.5, 0.0], 2)) / 2
    pixels = [math.log1p(math.exp(-2.0)), math.log1p(math.exp(-3.0)), math.log(2), math.log1p(math.exp(-1.0))]
    expected = classes + sum(pixels) / 4
    assert float(models.class_and_mask(predictions, targets)) == pytest.approx(expected, rel=1e-5)


def test_losses_are_not_negative() -> None:
    """Features and rewards take their logarithm. Also where predictions are perfect: then they are next to nothing."""
    generator = torch.Generator().manual_seed(0)
    labels, pixels = (torch.randint(3, shape, generator=generator) for shape in ((4,), (4, 5, 5)))
    masks = torch.randint(2, (4, 6), generator=generator)
    classes = functional.one_hot(labels, 3).float()
    perfect = [classes.unsqueeze(2).expand(-1, -1, 2), functional.one_hot(pixels, 3).movedim(-1, 1).float()]
    perfect.append(torch.cat([classes, 2 * masks.float() - 1], 1))
    targets = [labels, pixels, torch.cat([labels[:, None], masks], 1)]
    losses = [models.clean_and_adversarial, models.dice_and_cross_entropy, models.class_and_mask]
    for loss, best, target in zip(losses, perfect, targets, strict=True):
        assert 0 <= float(loss(1000 * best, target)) < 1e-5
        for scale in (0.0, 1.0, 1000.0):
            assert float(loss(scale * torch.randn(best.shape, generator=generator), target)) >= 0


# -- problems ----------------------------------------------------------------------------------------------------------


def test_twelve_problems() -> None:
    names = list(PROBLEMS)
    assert len(names) == 12
    assert all(PROBLEMS[name].name == name for name in names)
    assert {PROBLEMS[name].task.batch_size for name in names} == {BATCH}
    assert len({(task.data, task.model, task.loss) for task in (PROBLEMS[name].task for name in names)}) == 12


def test_draws() -> None:
    problem, rng = PROBLEMS["teacher-mlp"], np.random.default_rng(0)
    drawn = [problem.draw(rng) for _ in range(2000)]
    low, high = np.log(problem.lrs)
    assert problem.lrs == (1e-5, 3e-2)
    for optimizer, (_, _, scale) in OPTIMIZERS.items():
        own = [lr / scale for name, lr, _ in drawn if name == optimizer]
        assert 400 < len(own) < 600
        places = (np.log(own) - low) / (high - low)
        assert 0 <= places.min() < places.max() <= 1
        assert np.histogram(places, 4, (0, 1))[0].min() > len(own) / 4 * 0.7  # log-uniform
    epochs = np.bincount([n for _, _, n in drawn], minlength=11)
    assert (epochs[0], len(epochs)) == (0, 11)
    assert epochs[1:].min() > 140
    assert [type(value) for value in drawn[0]] == [str, float, int]


def test_problems_of_ones_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PROBLEMS, "_things", dict(PROBLEMS._things))
    task = PROBLEMS["teacher-mlp"].task
    own = Problem(task.replace(name="my own"), lrs=(1e-4, 1e-3))
    for _ in range(2):  # the same again
        register(own)
        assert PROBLEMS["my own"] is own
    for other in (dataclasses.replace(own, lrs=(1e-4, 1e-2)), Problem(task)):
        with pytest.raises(InvalidArgumentError, match=f"the problem '{other.name}' is registered already"):
            register(other)
