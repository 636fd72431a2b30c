"""The scripts behind the pages of results: plugins, tools and recipes, as far as they go without data."""

from __future__ import annotations

import argparse
import dataclasses
import importlib
import itertools
import json
import pickle
import re
import runpy
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pytest
import quadratics
import tiny
from PIL import Image
from scipy import stats

from lr_gym import LRTrainingEnv, agents, cli, rollout, tasks
from lr_gym.agents.ppo.checkpoint import Checkpoint
from lr_gym.control import Controller
from lr_gym.errors import InvalidArgumentError, LRGymError
from scripts import recipes
from scripts.recipes import Recipe
from scripts.results import __main__ as program
from scripts.tools import behaviour_cloning, evolution, worth_of_features

ROOT = tiny.ROOT
Capture = pytest.CaptureFixture[str]


def start(words: Sequence[str]) -> None:
    """Do in this process what `python` does with these words."""
    if words[0] == "-m":
        importlib.import_module("benchmarks.__main__" if words[1] == "benchmarks" else words[1]).main()
    else:
        runpy.run_path(str(ROOT / words[0]), run_name="__main__")


def run(monkeypatch: pytest.MonkeyPatch, *words: str) -> Any:
    """Run a program to its end; return its exit status, or what it says in place of one."""
    monkeypatch.setattr(sys, "argv", list(words[words[0] == "-m" :]))
    with pytest.raises(SystemExit) as stopped:
        start(words)
    return stopped.value.code


def lrs_of(agent: Any, initial_lr: float, name: str = "toy", budget: int = 100) -> list[float]:
    fields: dict[str, Any] = {"budget": budget, "decision_interval": 10, "train_size": 100, "validation_size": 20}
    task = tasks.get("fashion-mnist-mini/mlp", optimizer="SGD", **fields).replace(name=name)
    env = LRTrainingEnv(task, score_test=False, **agent.env_options)
    return rollout(env, pickle.loads(pickle.dumps(agent)), seed=0, initial_lr=initial_lr).lrs


def test_explore_then_step() -> None:
    """Table 1 of the paper: 40 of 100 epochs at 0.1, 30 at 0.01, 30 at 0.001."""
    import paper_tasks

    expected = [0.1] * 4 + [0.01] * 3 + [0.001] * 3
    assert lrs_of(paper_tasks.explore_then_step(0.4), 0.1) == pytest.approx(expected)
    with pytest.raises(InvalidArgumentError, match=r"explore must lie in \[0, 1\], got 2"):
        paper_tasks.explore_then_step(2)


def test_hindsight(tmp_path: Path) -> None:
    """From the second interval on the learning rates are those of the tuned cosine."""
    import hindsight

    file = tmp_path / "results.json"
    file.write_text(json.dumps({"tuned": {"toy": {"tuned cosine": {"best": {"initial_lr": 0.03}}}}}))
    agent = hindsight.Hindsight(str(file))
    cosine = lrs_of(agents.make("cosine"), 0.03, budget=50)
    assert lrs_of(agent, 0.1, budget=50) == pytest.approx([0.1, *cosine[1:]])
    with pytest.raises(InvalidArgumentError, match="no cosine was tuned on 'other'; there are toy"):
        lrs_of(agent, 0.1, "other")
    file.write_text("{}")
    with pytest.raises(InvalidArgumentError, match="has no tuned cosine"):
        hindsight.Hindsight(str(file))


def test_families_and_far_tasks() -> None:
    """Parts of the universal family, and tasks far from it, with as many decisions."""
    import far_tasks  # noqa: F401 (registers them)
    import small_families

    assert {task.optimizer for task in small_families.ONE_OPTIMIZER.draws(50)} == {"Adam"}
    drawn = small_families.ONE_NETWORK.draws(50)
    networks = {(task.data, task.model, str(task.model_options)) for task in drawn}
    assert networks == {("family-fashion", "mlp", "{'width': 64, 'depth': 2, 'batch_norm': False}")}
    assert {task.optimizer for task in drawn} == {"Adam", "AdamW", "SGD"}
    with pytest.raises(InvalidArgumentError, match="axis 4 of the family 'none' is empty"):
        small_families.part("none", optimizer="Adagrad")
    far = [tasks.get(name) for name in tasks.TASKS if name.startswith("far/")]
    assert len(far) == 6
    assert {task.loss for task in far} == {"cross_entropy", "mse_loss", "multi_margin_loss"}
    alike = [*far, small_families.ONE_OPTIMIZER, small_families.ONE_NETWORK]
    assert {each.decisions for each in alike} == {tasks.families.UNIVERSAL.decisions}


def test_a_parabola_is_a_parabola_on_a_quadratic() -> None:
    import autolr_measurements as measurements

    env = LRTrainingEnv(quadratics.task(3))
    env.reset(seed=0, options={"initial_lr": 1e-2})
    parabola = measurements.measure(env)
    assert max(parabola.error, parabola.error_at_minimum) < 1e-9
    assert len(parabola.losses) == len(parabola.fitted) == 17


def test_score_tables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    keys = ("final_train_loss", "final_test_accuracy", "test_accuracy", "test_loss")
    rows = []
    for agent, losses in (("constant", [0.1, 0.2, 0.3]), ("autolr", [0.5, 0.6, 0.7])):
        scores = {key: {"mean": sum(losses) / 3, "std": 0.5, "n": 3} for key in keys}
        rows.append(
            {"agent": agent, "task": "toy", **scores, "results": [dict.fromkeys(keys, loss) for loss in losses]}
        )
    (tmp_path / "results.json").write_text(json.dumps({"rows": rows}))
    tool = "scripts/tools/score_tables.py"
    assert run(monkeypatch, tool, str(tmp_path)) == cli.OK
    printed = capsys.readouterr().out
    assert "| constant | 0.2 (0.5) |\n| autolr | 0.6 (0.5), p = 0.008 |" in printed
    assert "| constant | 20.00 (50.00) |" in printed
    assert run(monkeypatch, tool, str(tmp_path), "autolr") == cli.OK
    assert "| constant | 0.2 (0.5), p = 0.008 |" in capsys.readouterr().out
    for words, error in ((("nobody",), "error: .*'nobody'"), ((), "error: .*none")):
        assert run(monkeypatch, tool, str(tmp_path / "none") if not words else str(tmp_path), *words) == cli.FAILED
        assert re.match(error, capsys.readouterr().err)


def cells(line: str) -> list[str]:
    """Return the cells of a line of a table, without the words beside the numbers."""
    return [re.sub(r"[*`]| %$", "", cell.strip()).replace("%", "") for cell in line.strip("|").split("|")]


def test_how_sure_the_page_of_unseen_tasks_is(monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    """Its intervals, and what one run saves, are those of the committed runs."""
    results = ROOT / "docs" / "results" / "unseen"
    assert run(monkeypatch, "scripts/tools/how_sure.py", str(results), "universal") == 0
    printed = [cells(line) for line in capsys.readouterr().out.splitlines() if line.startswith("|")]
    page = [cells(line) for line in results.with_suffix(".md").read_text().splitlines() if line.startswith("|")]
    ours = [line[1:] for line in printed if line[0] == "universal"]
    assert [line[1:] for line in page if line[1:] in ours] == ours
    savings = [line for line in printed if line[0] in "1248"]
    assert len(savings) == 4
    assert [line for line in page if line in savings] == savings


def test_the_p_values_of_the_page_of_arc(monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    folder = ROOT / "docs" / "results" / "arc"
    folders = [str(folder / name) for name in ("adam", "lenet5", "words")]
    assert run(monkeypatch, "scripts/tools/arc_summary.py", *folders) == 0
    printed = [cells(line) for line in capsys.readouterr().out.splitlines() if line.startswith("| arc / ")]
    page = [cells(line) for line in folder.with_suffix(".md").read_text().splitlines() if line.startswith("|")]
    assert len(printed) == 7
    for _, *numbers in printed:
        assert any(
            [float(n) if "of" not in n else n for n in row] == [float(n) if "of" not in n else n for n in numbers]
            for _, *row in page
            if len(row) == len(numbers) and "of 65" in row[1]
        )


def test_how_many_trainings_keep_a_claim(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    """Of three the first is lower from both starts, the second from one; the third is as clearly higher."""
    near, far = [0.0, 0.1, 0.2], [5.0, 5.1, 5.2]
    for seed, (baseline, first, second) in enumerate([(far, near, near), (far, near, far), (near, far, far)]):
        sides = [("best step decay", 0.01, baseline), ("controller", 0.01, first), ("controller", 0.001, second)]
        rows = [{"agent": a, "initial_lr": lr, "results": [{"test_loss": x} for x in xs]} for a, lr, xs in sides]
        results = {"training_seconds": 9.6, "comparison": {"best_step_decay": {"every": 40}, "rows": rows}}
        (tmp_path / f"seed-{seed}").mkdir()
        (tmp_path / f"seed-{seed}" / "results.json").write_text(json.dumps(results))
    tool, file = "scripts/tools/training_seeds.py", tmp_path / "seeds.json"
    assert run(monkeypatch, tool, str(tmp_path), "--write", str(file)) == 0
    said = capsys.readouterr().out
    p = 2 * stats.t.sf(5 / np.sqrt(2 * 0.01 / 3), df=4)  # two samples of three, both with a variance of 0.01
    assert f"| 0 | 5.1000 | 0.020, {p:.2g} | 0.020, {p:.2g} |\n| 1 | 5.1000 | 0.020, {p:.2g} | 1.000, 1 |" in said
    assert said.count("1 of 3 trainings keep the claim") == 3
    assert run(monkeypatch, tool, str(file)) == 0
    assert capsys.readouterr().out == said
    assert run(monkeypatch, tool, str(file), "--runs", "2") == 0
    assert "| 0 | 5.0500 | 0.010," in capsys.readouterr().out
    assert run(monkeypatch, tool, str(file), "--runs", "4") == cli.BAD_ARGUMENTS
    assert "--runs must be at most 3, the runs of each side that there are, got 4" in capsys.readouterr().err
    (tmp_path / "few.json").write_text("{}")
    assert run(monkeypatch, tool, str(tmp_path / "few.json")) == cli.BAD_ARGUMENTS


def test_training_curves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    curve = [{"episodes": 0, "val_loss": 1.0}, {"episodes": 32, "val_loss": 0.5}]
    values = {
        "config": {"seed": 7, "task": {"name": "family"}, "validation": None},
        "provenance": {"commit": "c0ffee"},
        "progression": {"curve": curve},
    }
    Checkpoint(values, {}).write(tmp_path / "run")
    tool, mine = "scripts/tools/training_curves.py", f"mine={tmp_path / 'run'}"
    assert run(monkeypatch, tool, str(tmp_path / "out"), mine, mine) == cli.OK
    expected = {"commit": "c0ffee", "task": "family", "settings": {"seed": 7}, "curve": curve}
    assert json.loads((tmp_path / "out.json").read_text()) == {"mine": [expected, expected]}
    assert (tmp_path / "out.png").read_bytes().startswith(b"\x89PNG")
    assert run(monkeypatch, tool, "out", f"mine={tmp_path}") == cli.FAILED
    assert "nothing to resume" in capsys.readouterr().err
    assert "OUT NAME=DIR" in run(monkeypatch, tool, "out")


class Parsed(Exception):
    """Thrown by a program in place of its work."""


def parse(words: Sequence[str], monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Start a program with a command line and return what it makes of it; a tool's words are only counted by it."""
    genuine = argparse.ArgumentParser.parse_args

    def parse_args(parser: argparse.ArgumentParser, *given: Any) -> NoReturn:
        raise Parsed(genuine(parser, *given))

    def go(main: Any) -> NoReturn:
        raise Parsed(argparse.Namespace())

    words = words[words[0] == "python" :]
    with monkeypatch.context() as patched:
        patched.setattr(sys, "argv", list(words[words[0] == "-m" :]))
        if words[0].startswith("scripts/tools/"):
            patched.setattr(cli, "run", go)
        else:
            patched.setattr(argparse.ArgumentParser, "parse_args", parse_args)
        with pytest.raises(Parsed) as caught:
            start(words)
    return vars(caught.value.args[0])


def is_program(words: Sequence[str]) -> bool:
    return words[0].endswith(("_controller.py", "_transfer.py"))


@pytest.mark.parametrize("name", recipes.names())
def test_commands_have_options_that_exist_and_are_those_of_the_page(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    """But for the folders; ARC's page has shell variables in its commands, and examples."""
    recipe = recipes.find(name)
    page = ROOT / (recipe.page or f"docs/results/{name}.md")
    assert f"`uv run python -m scripts.results {name}`" in page.read_text()
    assert (ROOT / recipes.results_folder(name, recipe)).is_dir()
    monkeypatch.setattr(sys, "argv", ["scripts.results", name, "--dry-run", "--out", "OUT"])
    program.main()
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("uv run ")]
    assert len(lines) == len(recipe.commands)
    known = []
    for line in lines:
        words = shlex.split(line.removeprefix("uv run ").partition(" > ")[0])
        values = parse(words, monkeypatch)
        for plugin in values.get("plugins") or ():
            cli.load_plugin(str(ROOT / plugin))
        named = values.get("task") or ()
        for task in [named] if isinstance(named, str) else named:
            if task.partition("/")[0] not in recipe.data:  # a task of data that is not here has no task yet
                tasks.find(task)
        if "eval_transfer" in line:
            assert {word.partition(":")[0] for word in values["agents"]} <= {"all", *agents.names()}
        if is_program(words):
            known.append(values | {"out": None, "controller": None, "plugins": None})
    if name in ("arc", "benchmarks"):
        return
    blocks = "".join(re.findall(r"^```console\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL))
    for line in blocks.splitlines():
        words = shlex.split(line.removeprefix("uv run "), comments=True)
        if is_program(words):
            assert parse(words, monkeypatch) | {"out": None, "controller": None, "plugins": None} in known, words


def test_the_overview_has_a_line_for_each_page(monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    assert {page.stem for page in (ROOT / "docs" / "results").glob("*.md")} == set(recipes.names()) - {"benchmarks"}
    monkeypatch.setattr(sys, "argv", ["scripts.results"])
    program.main()
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == recipes.names()
    assert all("Time: " in line for line in lines)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["nothing"], "no NAME is named 'nothing'. Known: agents, arc"),
        (["--dry-run"], "options need the NAME of a page"),
        (["universal", "--data", "."], "mnist|tinyshakespeare.txt is not in"),
        (["kim-yu", "--data", "."], "the data set 'cifar10-20k' is in none of these places"),
    ],
)
def test_wrong_words_and_missing_data_are_one_line(
    words: list[str], message: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: Capture
) -> None:
    monkeypatch.setenv("LR_GYM_DATA", str(tmp_path))  # --data changes it
    monkeypatch.setattr(tasks.sources, "TORCHVISION", {})  # no download
    monkeypatch.chdir(tmp_path)
    assert run(monkeypatch, "-m", "scripts.results.__main__", *words) == cli.BAD_ARGUMENTS
    error = capsys.readouterr().err
    assert re.search(message, error)
    assert error.count("\n") == 1


def test_what_a_recipe_needs_and_how_it_stops(tmp_path: Path) -> None:
    """A command that was stopped is not one that failed; a training goes on with its plugins."""
    with pytest.raises(LRGymError, match=r"nothing\.h5 is not in .*; put it there: from somewhere"):
        recipes.check_data(Recipe("", "", (), files={"nothing.h5": "from somewhere"}))
    with pytest.raises(KeyboardInterrupt):
        recipes.run(Recipe("", "", (f"python -c 'raise SystemExit({cli.INTERRUPTED})'",)), tmp_path)
    command = recipes.Command.read("train_controller.py --plugins a.py b.py --seed 1 --out OUT", tmp_path)
    assert command.resumed() is command
    (tmp_path / "checkpoint").mkdir()
    (tmp_path / "checkpoint" / "state.safetensors").touch()
    expected = ("train_controller.py", "--resume", str(tmp_path), "--plugins", "a.py", "b.py")
    assert command.resumed().words == expected


@pytest.mark.slow  # programs in processes of their own: minutes on a busy machine
def test_a_page_is_made_and_goes_on(tmp_path: Path, capfd: Capture) -> None:
    """The page of the main job with a very small task and one table more."""
    train, compare, *_ = recipes.find("fashion-mnist-mini-mlp").commands
    small = shlex.join(tiny.TRAIN[tiny.TRAIN.index("--override") :])
    commands = (
        f"{train} {shlex.join(tiny.TRAIN)}",
        f"{compare} --initial-lrs 1e-3 --runs 2 --workers 1 {small}",
        "scripts/tools/score_tables.py OUT/eval constant > OUT/eval/scores.md",
    )
    recipe = Recipe("", "", commands)
    recipes.run(recipe, tmp_path)
    for file in ("results.json", "learning_curve.png", "controller/config.json", "eval/table.md", "eval/losses.png"):
        assert (tmp_path / file).stat().st_size
    scores = (tmp_path / "eval" / "scores.md").read_text()
    assert "test loss, best weights:\n\n| agent | fashion-mnist-mini/mlp |" in scores
    assert "[2/3] uv run eval_transfer.py --controller" in capfd.readouterr().out
    (tmp_path / "eval" / "scores.md").unlink()

    again = dataclasses.replace(recipe, commands=(*commands[::2], "scripts/tools/score_tables.py OUT/none", train))
    with pytest.raises(LRGymError, match=r"ended with status 1: uv run scripts/tools/score_tables\.py .*/none"):
        recipes.run(again, tmp_path)
    printed = capfd.readouterr().out
    assert f"[1/4] uv run train_controller.py --resume {tmp_path}\n" in printed
    assert "[4/4]" not in printed
    assert (tmp_path / "eval" / "scores.md").read_text() == scores


def test_films(tmp_path: Path) -> None:
    """A frame for each interval, in a GIF that shows the last one longest."""
    from scripts.tools.videos import film, write_gif

    small = {"budget": 20, "decision_interval": 5, "train_size": 100, "validation_size": 20}
    frames = film(agents.make("constant"), 1e-2, **small)
    assert [frame.shape for frame in frames] == [(480, 640, 3)] * 4
    assert all((before != after).any() for before, after in itertools.pairwise(frames))
    write_gif(frames, tmp_path / "film.gif", seconds=1)
    with Image.open(tmp_path / "film.gif") as picture:
        times = []
        for number in range(picture.n_frames):
            picture.seek(number)
            times.append(picture.info["duration"])
    assert times == [250, 250, 250, 3000]


def test_a_cosine_is_imitated(capsys: Capture) -> None:
    """The teacher's peak is that of the best cosines; the student comes nearer to it than one answer to everything."""
    task = tiny.task(budget=40, decision_interval=5)
    peak, *losses = behaviour_cloning.teach(task, seed=0)
    peaks = behaviour_cloning.PEAKS[False]
    assert losses == [
        pytest.approx(
            rollout(
                LRTrainingEnv(task, observation="portable", max_multiplier=4.0),
                cosine_of(lr, task.decisions),
                seed=0,
                initial_lr=lr,
            ).result["best_val_loss"],
            rel=1e-4,  # in a stack
        )
        for lr in peaks
    ]
    assert 0.5 < peak / peaks[int(np.argmin(losses))] < 2
    parts = [behaviour_cloning.collect(task, 10 * seed, peak, None) for seed in range(1, 13)]
    seen, wanted = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    assert (seen.shape, wanted.shape) == ((36, 7, 12), (36, 7))
    # What is wanted leads to the teacher's learning rate, or as far as one decision goes.
    reached = 10 ** seen[..., 9] * 4.0**wanted
    aim = peak * np.array([behaviour_cloning.cosine(decision, 7) for decision in range(7)])
    np.testing.assert_allclose(reached[abs(wanted) < 1], np.broadcast_to(aim, (36, 7))[abs(wanted) < 1], rtol=1e-5)
    student = behaviour_cloning.fit(seen, wanted, "mlp", 16, 0, 60)
    (error,) = re.findall(
        r"36 episodes; the error of an action has a root mean square of (\S+)", capsys.readouterr().out
    )
    assert float(error) < 0.5 * wanted.std()
    assert student.env_options == Controller.load("universal").env_options
    again, _ = behaviour_cloning.collect(task, 0, peak, student)
    assert again.shape == (3, 7, 12)


def cosine_of(peak: float, decisions: int) -> Any:
    """Return a policy that follows a cosine, whatever it has come to."""
    places = itertools.count()

    def policy(observation: Any) -> Any:
        lr = 10 ** np.float64(observation[9])
        wanted = peak * behaviour_cloning.cosine(next(places), decisions)
        return [float(behaviour_cloning.action(lr, wanted))]

    return policy


def test_episodes_do_not_tell_what_the_teacher_wants() -> None:
    """Driven by the teacher, they would: by the learning rates so far."""
    task = tiny.task(budget=40, decision_interval=5)
    (seen, low), (same, high) = (worth_of_features.collect(task, 0, peak) for peak in (1e-3, 1e-1))
    np.testing.assert_array_equal(seen, same)
    assert seen.shape == (4, 7, 16)
    assert (low <= high).all()
    assert (low < high).any()
    length, straight, beside_lr, beside_first = np.moveaxis(seen[..., 12:], -1, 0)
    np.testing.assert_array_equal(straight[:, 0], 0)  # there is no way before the first interval's
    assert (abs(straight) <= 1 + 1e-6).all()
    np.testing.assert_allclose(beside_first, beside_lr - beside_lr[:, :1], atol=1e-12)
    assert (length < 3).all()


def test_what_is_told_by_features_and_by_memory() -> None:
    """An answer that can be read from the observation is found in it, and not where it is left out."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(400, 6, 3))
    y = np.tanh(x[..., 1])
    y[:, -1] = np.nan  # of episodes that have ended
    aside = np.arange(400) % 4 == 0
    with_it, without = (worth_of_features.error(x[..., columns], y, aside, "mlp", 0) for columns in ([0, 1], [0, 2]))
    assert with_it < 0.3 * np.nanstd(y)
    assert without > 0.9 * np.nanstd(y)
    y = np.roll(x[..., 1], 1, axis=1)  # what was seen an interval ago
    y[:, 0] = np.nan
    remembered, forgotten = (worth_of_features.error(x, y, aside, actor, 0) for actor in ("lstm", "mlp"))
    assert remembered < 0.5 * forgotten


def test_evolution_finds_a_minimum_by_trying_alone() -> None:
    """Of candidates that differ from a target, on tasks whose losses have other sizes, and one of which blows up."""
    target, way = np.array([0.3, -0.2, 0.1]), [np.zeros(3)]
    slopes = []
    for generation in range(60):
        perturbed = evolution.noise(7, generation, 6, 3)
        np.testing.assert_array_equal(perturbed[:6], -perturbed[6:])
        away = ((way[-1] + 0.05 * perturbed - target) ** 2).sum(1)
        logs = np.stack([scale + away[:, None] * np.ones(2) for scale in (-9.0, 0.0, 3.0)])
        logs[0, 0] = 20.0
        slopes.append(evolution.slope(logs, perturbed, 0.05))
        way = evolution.climbed(np.zeros(3), slopes, 0.02)
    assert len(way) == 61
    assert ((way[-1] - target) ** 2).sum() < 0.1 * (target**2).sum()
    np.testing.assert_array_equal(evolution.climbed(np.zeros(3), slopes[:20], 0.02), way[:21])  # a run goes on


def test_evolution_scores_saturate_and_count_tasks_alike() -> None:
    logs = np.zeros((2, 3, 2))
    logs[0, 1], logs[1, 2] = 9.0, 0.1
    blown_up, worse = (evolution.scores(logs, logs[:, :1])[k] for k in (1, 2))
    assert blown_up == pytest.approx(-evolution.SATURATION / 2)
    assert worse == pytest.approx(-0.05, rel=0.1)


def test_evolution_trains_all_candidates_alike() -> None:
    """A candidate's losses are those of an episode of its own; others do not move it."""
    task = tiny.task(budget=40, decision_interval=5)
    base = Controller.load("universal")
    tensors = evolution.Tensors(base, ("action_net",))
    assert tensors.names == ["action_net.weight", "action_net.bias"]
    assert tensors.controller(tensors.vector()).fingerprint == base.fingerprint
    away = tensors.controller(tensors.vector() + 0.5)
    same, other, again = evolution.losses(task, 3, [base, away, base])
    np.testing.assert_array_equal(same, again)
    assert (same != other).any()
    env = LRTrainingEnv(task, **{**base.env_options, **evolution.CAREFUL})
    result = rollout(env, base, seed=3, initial_lr=task.initial_lrs[0]).result
    assert np.exp(same) == pytest.approx([result["best_val_loss"], result["final_val_loss"]], rel=1e-4)
