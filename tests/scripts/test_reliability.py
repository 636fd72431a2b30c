"""A small part of the faults whose numbers docs/reliability.md has: all of them are survived."""

from __future__ import annotations

import pytest

from scripts.reliability.__main__ import KINDS


@pytest.mark.parametrize(("kind", "count"), [("arguments", 25), ("keywords", 120), ("files", 120)])
def test_faults_are_survived(kind: str, count: int) -> None:
    outcome = KINDS[kind][2](count, 7)
    assert (outcome.tried, outcome.failures) == (count, [])


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["signals"])
def test_programs_end_when_they_are_told_to(kind: str) -> None:
    outcome = KINDS[kind][2](6, 7)
    assert outcome.failures == []
