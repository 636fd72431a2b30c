"""What is needed to repeat a run is noted."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import tiny
import torch

from lr_gym.provenance import provenance

PROGRAM = "from lr_gym.provenance import provenance\nprint(provenance({})['command'])\n"


@pytest.mark.parametrize(("start", "expected"), [(["tool.py"], "tool.py"), (["-m", "tool"], "python -m tool")])
def test_the_command(start: list[str], expected: str, tmp_path: Path) -> None:
    (tmp_path / "tool.py").write_text(PROGRAM)
    done = subprocess.run(
        [sys.executable, *start, "--out", "a folder"],
        cwd=tmp_path,
        env={"PYTHONPATH": str(tiny.ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == f"{expected} --out 'a folder'"


def test_versions_and_settings() -> None:
    about = provenance({"seed": 3})
    assert about["settings"] == {"seed": 3}
    assert torch.__version__.startswith(about["packages"]["torch"])
