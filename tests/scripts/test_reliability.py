"""A small part of the faults whose numbers docs/reliability.md has: all of them are survived."""

from __future__ import annotations

import subprocess
import sys

import pytest
import tiny

from scripts.reliability.__main__ import KINDS


@pytest.mark.parametrize(
    ("kind", "count"),
    [("arguments", 25), ("keywords", 120), ("files", 120), ("data", 34), ("randomness", 36), ("growth", 60)],
)
def test_faults_are_survived(kind: str, count: int) -> None:
    """In a process of its own: messages list what is registered, and other tests register much."""
    code = (
        "from scripts.reliability.__main__ import KINDS\n"
        f"outcome = KINDS[{kind!r}][2]({count}, 7)\n"
        "print(outcome.tried, outcome.failures)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tiny.ROOT, capture_output=True, text=True, timeout=250)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == f"{count} []"


@pytest.mark.slow
@pytest.mark.timeout(7_200)
@pytest.mark.parametrize(
    ("kind", "count"),
    [
        ("signals", 6),
        ("kills", 12),
        ("workers", 12),
        ("disk", 21),
        ("trainees", 40),
        ("growth", 400),
    ],
)
def test_what_takes_minutes(kind: str, count: int) -> None:
    outcome = KINDS[kind][2](count, 7)
    assert outcome.failures == []
