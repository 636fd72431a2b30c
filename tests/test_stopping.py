"""A program that is told to stop ends soon, leaves no process behind and says how to go on; told twice, at once."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import tiny
from programs import alive, children, wait_until

PROGRAM = """
import sys, time
from pathlib import Path
from lr_gym import cli, stopping
from lr_gym.processes import as_they_come, worker_pool
import stopping_toys

def main():
    Path("begun").touch()
    if sys.argv[1] == "waits":
        time.sleep(60)
    with stopping.work("Go on so."), worker_pool(2) as pool:
        for _ in as_they_come(pool, [stopping_toys.linger] * 4):
            pass

if __name__ == "__main__":
    cli.run(main)
"""
TOYS = """
import signal, time
from pathlib import Path

def linger():
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    Path("working").touch()
    time.sleep(60)
"""
NOTHING_YET = "\nStopped. Nothing had begun: give the same command again.\n"


@contextlib.contextmanager
def running(folder: Path, *words: str, until: str) -> Iterator[subprocess.Popen[str]]:
    """Start the program, wait for a file that it makes, and leave no process behind."""
    (folder / "program.py").write_text(PROGRAM)
    (folder / "stopping_toys.py").write_text(TOYS)
    process = subprocess.Popen(
        [sys.executable, *words],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        # A shell that starts the tests in the background lets them ignore Ctrl-C, and what they start.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(folder), str(tiny.ROOT)])},
    )
    workers: list[int] = []
    try:
        wait_until((folder / until).exists, until)
        workers = children(process.pid)
        yield process
        wait_until(lambda: not any(map(alive, workers)), "the end of the workers", 30)
    finally:
        for pid in (process.pid, *workers):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        process.communicate()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_workers_that_do_not_listen(number: signal.Signals, tmp_path: Path) -> None:
    """A terminal tells all processes of a program, `kill` one."""
    with running(tmp_path, "program.py", "works", until="working") as process:
        (os.kill if number == signal.SIGTERM else os.killpg)(process.pid, number)
        text, _ = process.communicate(timeout=60)
    assert (process.returncode, text) == (128 + number, "\nStopped. Go on so.\n")


def test_told_before_there_is_work_and_told_twice(tmp_path: Path) -> None:
    with running(tmp_path, "program.py", "waits", until="begun") as process:
        os.killpg(process.pid, signal.SIGINT)
        assert process.communicate(timeout=60)[0] == NOTHING_YET
    assert process.returncode == 130
    for name in ("begun", "working"):
        (tmp_path / name).unlink(missing_ok=True)
    with running(tmp_path, "program.py", "works", until="begun") as process:  # whatever it is just doing
        time.sleep(1)
        for _ in range(2):
            os.killpg(process.pid, signal.SIGINT)
        text, _ = process.communicate(timeout=60)
    assert process.returncode in (130, -signal.SIGINT)  # the latter where Python has ended its work already
    assert "Traceback" not in text
    assert "Stopped." in text


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize(
    "command", [["-m", "lr_gym.agents.arc.generate"], ["-mlr_gym.agents.arc.train"], ["-m", "agents.arc.train"]]
)
def test_told_while_pytorch_is_loaded(command: list[str], number: signal.Signals, tmp_path: Path) -> None:
    (tmp_path / "torch.py").write_text("import time; from pathlib import Path; Path('begun').touch(); time.sleep(60)")
    with running(tmp_path, *command, until="begun") as process:
        os.killpg(process.pid, number)
        text, _ = process.communicate(timeout=60)
    assert (process.returncode, text) == (128 + number, NOTHING_YET)


def test_a_program_of_somebody_elses_keeps_its_signals(tmp_path: Path) -> None:
    """One that is run with `-m`, imports the agents before it begins, and is given a name of this package's."""
    (tmp_path / "theirs").mkdir()
    text = "import signal, lr_gym.agents; print(signal.getsignal(signal.SIGTERM).name)"
    (tmp_path / "theirs" / "__init__.py").write_text(text)
    (tmp_path / "theirs" / "program.py").touch()
    words = [sys.executable, "-m", "theirs.program", "lr_gym.agents"]
    environment = os.environ | {"PYTHONPATH": str(tiny.ROOT)}
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, env=environment)
    assert (done.stdout, done.stderr) == ("SIG_DFL\n", "")


def test_signals_of_others_stop_nothing() -> None:
    """An alarm that a user's network or a time limit sets: Python tells the same pipe of it."""
    code = (
        "import signal, time\n"
        "from lr_gym import cli, stopping\n"
        "stopping.GRACE = 0.2\n"
        "def main():\n"
        "    rung = []\n"
        "    signal.signal(signal.SIGALRM, lambda *_: rung.append(1))\n"
        "    signal.setitimer(signal.ITIMER_REAL, 0.05)\n"
        "    time.sleep(1)\n"
        "    print('whole', rung)\n"
        "cli.run(main)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tiny.ROOT, capture_output=True, text=True, timeout=100)
    assert (done.returncode, done.stdout, done.stderr) == (0, "whole [1]\n", "")
