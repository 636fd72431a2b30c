"""Options in files: what a run leaves repeats it; what makes no sense is one line."""

from __future__ import annotations

import dataclasses
import subprocess
from pathlib import Path
from typing import Any

import command_toys as toys
import pytest
import tiny

import eval_transfer
from lr_gym import cli, config_file
from lr_gym.commands import main
from lr_gym.commands.arguments import Evaluate, Train
from lr_gym.control.controller import Controller
from lr_gym.files import read_json


def parsed(kind: type[Any], *words: str) -> Any:
    return cli.parse(kind, "", words)[0]


LINES: list[tuple[type[Any], str]] = [
    (Train, "--episodes 32 --initial-lrs 0.1 1e-3 --actor lstm --seed 3 --timeout 7.5"),
    (Train, "--settings gamma=0.5 brake=null reward=final --override optimizer=SGD optimizer_options={\"momentum\":1}"),
    (Train, "--task universal --validation universal-validation --override name=1 other=\"2\" flag=true"),
    (Evaluate, "--controller universal a/b --allow-pickle --agents constant cosine:name=x --tune step --runs 3"),
    (Evaluate, "--agents kim-yu:factors=[1,5],every=epoch --optimizers Adam:lr=0.1 --initial-lrs 0.1"),
    (Evaluate, ""),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "line"), LINES)
def test_what_a_run_leaves_says_the_same(kind: type[Any], line: str, tmp_path: Path) -> None:
    given = parsed(kind, *line.split(), "--out", "somewhere")
    config_file.write(tmp_path, given)
    again = parsed(kind, "--config", str(tmp_path / config_file.FILE))
    for field in dataclasses.fields(kind):
        ours, theirs = getattr(again, field.name), getattr(given, field.name)
        if field.name not in config_file.OF_ONE_RUN:
            assert (list(ours) if isinstance(ours, (list, tuple)) else ours) == (
                list(theirs) if isinstance(theirs, (list, tuple)) else theirs
            )
    assert again.out is None


def test_words_of_the_command_line_count_more(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text("episodes = 32\nseed = 4\ninitial-lrs = 0.1\n[settings]\ngamma = 0.5\n")
    given = parsed(Train, "--seed", "5", "--config", str(file), "--settings", "gamma=0.1")
    assert (given.episodes, given.seed, given.initial_lrs, given.settings) == (32, 5, [0.1], [("gamma", 0.1)])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (None, "cannot be read: No such file or directory"),
        ("seed = ", "cannot be read as TOML: Invalid value"),
        ("sed = 1", "no option is named 'sed'. Did you mean 'seed'?"),
        ("out = 'x'", "no option is named 'out'"),
        ("seed = -1", "seed in the file: must be a whole number of at least 0, got '-1'"),
        ("seed = [1, 2]", "seed in the file must be one value, got [1, 2]"),
        ("initial-lrs = []", "initial-lrs in the file must be a list with something in it, got []"),
        ("actor = 'gru'", "actor in the file must be one of mlp, lstm, got 'gru'"),
        ("[settings]\n'' = 1", "settings in the file: must read field=value"),
    ],
)
def test_files_that_make_no_sense(
    text: str | None, words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "mine.toml"
    if text is not None:
        file.write_text(text)
    with pytest.raises(SystemExit) as caught:
        parsed(Train, "--config", str(file))
    error = capsys.readouterr().err
    assert (caught.value.code, error.count("\n"), words in error) == (2, 1, True), error


def test_a_flag_is_true_or_false(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "mine.toml"
    file.write_text("allow-pickle = 1")
    with pytest.raises(SystemExit):
        parsed(Evaluate, "--config", str(file))
    assert "allow-pickle in the file must be true or false, got 1" in capsys.readouterr().err


def test_a_comparison_is_repeated_by_the_file_that_it_leaves(tmp_path: Path) -> None:
    words = (*toys.MLP, "--agents", "constant", "cosine:name=mine", "--initial-lrs", "1e-2")
    first, second = tmp_path / "first", tmp_path / "second"
    tiny.run_main(eval_transfer, *words, "--out", str(first))
    tiny.run_main(eval_transfer, "--config", str(first / "run.toml"), "--out", str(second))
    records = [{file.name: file.read_bytes() for file in (out / "episodes").iterdir()} for out in (first, second)]
    assert records[0] == records[1]
    assert len(records[0]) == 4
    assert (first / "run.toml").read_bytes() == (second / "run.toml").read_bytes()
    results = [read_json(out / "results.json") | {"provenance": None} for out in (first, second)]
    assert results[0] == results[1]


@pytest.mark.slow
def test_a_training_is_repeated_by_the_file_that_it_leaves(finished: Path, tmp_path: Path) -> None:
    done = tiny.run_script(
        "train_controller.py", "--config", str(finished / "run.toml"), "--out", "again", folder=tmp_path
    )
    assert done.returncode == 0, done.stderr
    assert Controller.load(tmp_path / "again").fingerprint == Controller.load(finished).fingerprint
    assert "lr_gym.LRController(optimizer, 'again'" in done.stdout
    assert "uv run eval_transfer.py --controller again --task fashion-mnist-mini/lenet5" in done.stdout


@pytest.mark.parametrize("shell", ["bash", "zsh"])
def test_shells_complete_every_option(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    main.main(["completion", shell])
    script = capsys.readouterr().out
    for words in ("evaluate", "--tuning-runs", "--algo", "recurrent-ppo"):
        assert words in script
    if shell == "bash":
        assert subprocess.run(["bash", "-n"], input=script, text=True, check=False).returncode == 0
