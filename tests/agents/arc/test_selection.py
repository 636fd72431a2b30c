"""Choosing among candidates by what they do."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import matplotlib.image
import numpy as np
import pytest
import tiny

from lr_gym.agents.arc import selection
from lr_gym.agents.arc.network import ARCNetwork, save_weights
from lr_gym.agents.arc.problems import PROBLEMS
from lr_gym.agents.arc.selection import PROXY, Score, cells, draw_scores, scores
from lr_gym.errors import FileFormatError
from lr_gym.evaluation import Rollout


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    """Return the weights of three candidates that were never trained."""
    paths = [tmp_path / f"candidate {number}.safetensors" for number in range(3)]
    for number, path in enumerate(paths):
        save_weights(ARCNetwork(number), path)
    return paths


def test_the_proxy_is_unlike_the_problems() -> None:
    assert PROXY.initial_lrs == (1e-1, 1e-3, 1e-5)  # the paper's
    assert (PROXY.optimizer, PROXY.budget // PROXY.decision_interval) == ("Adam", 30)
    assert PROXY.data not in {PROBLEMS[name].task.data for name in PROBLEMS}
    assert PROXY.model not in {PROBLEMS[name].task.model for name in PROBLEMS}


def test_cells(files: list[Path]) -> None:
    """Candidate by candidate, and each from the same starts with the same seeds."""
    episodes = cells(files, 2, 7)
    assert len(episodes) == 3 * 3 * 2
    by_candidate = [episodes[start : start + 6] for start in range(0, 18, 6)]
    for file, number, group in zip(files, range(3), by_candidate, strict=True):
        assert {cell.contestant.agent.fingerprint for cell in group} == {ARCNetwork(number).fingerprint()}
        assert {cell.contestant.name for cell in group} == {file.stem}
        assert [cell.initial_lr for cell in group] == [1e-1, 1e-1, 1e-3, 1e-3, 1e-5, 1e-5]
        assert [cell.seed for cell in group] == [cell.seed for cell in by_candidate[0]]
        assert {cell.task for cell in group} == {PROXY}
    seeds = [cell.seed for cell in by_candidate[0]]
    assert seeds == seeds[:2] * 3
    assert seeds[0] != seeds[1]
    assert len({cell.key for cell in episodes}) == 18


def test_what_tells_cells_apart(files: list[Path], tmp_path: Path) -> None:
    """The seed, the weights and their preprocessing; not the place of a file. More runs add to those there are."""

    def seeds(runs: int, seed: int) -> set[int]:
        return {cell.seed for cell in cells(files[:1], runs, seed)}

    assert len(seeds(5, 0)) == 5
    assert seeds(5, 0).isdisjoint(seeds(5, 1))
    assert seeds(2, 0) < seeds(5, 0) == seeds(5, 0)
    assert all(0 <= seed < 2**31 for seed in seeds(50, 3))
    keys = {}
    for variant in ("code", "paper"):
        (cell, *_) = cells(files[:1], 1, 0, variant)
        assert cell.contestant.agent.preprocessing == variant
        keys[variant] = cell.key
    assert cells(files[:1], 1, 0)[0].key == keys["code"] != keys["paper"]
    save_weights(ARCNetwork(0), tmp_path / "elsewhere" / "other.safetensors")
    other = cells([tmp_path / "elsewhere" / "other.safetensors"], 2, 0)
    assert [cell.key for cell in other] == [cell.key for cell in cells(files[:1], 2, 0)]
    files[1].write_bytes(b"")
    with pytest.raises(FileFormatError, match=r"candidate 1\.safetensors cannot be read"):
        cells(files, 1, 0)


def invented(accuracy: float | None) -> Rollout:
    """Return a record whose best validation accuracy is in the middle."""
    lower = None if accuracy is None else accuracy / 2
    return dataclasses.replace(tiny.record(), val_accuracies=[lower, accuracy, None, lower])


def test_scores(files: list[Path]) -> None:
    """The records are in the order of the cells: candidates, starts, runs. A run without accuracy scores nothing."""
    accuracies: list[Any] = [*(np.arange(1, 12) / 16), None]
    first, second = scores([Path("a/x.safetensors"), Path("b/y.safetensors")], [invented(a) for a in accuracies])
    by_start = {"0.1": [1 / 16, 2 / 16], "0.001": [3 / 16, 4 / 16], "1e-05": [5 / 16, 6 / 16]}
    assert first == Score("x.safetensors", by_start)
    assert second.weights == "y.safetensors"
    assert second.accuracies["1e-05"] == [11 / 16, 0]
    assert (first.mean, second.mean) == (3.5 / 16, 45 / 16 / 6)
    assert first.to_dict() == {"weights": "x.safetensors", "accuracies": by_start, "mean": 3.5 / 16}
    json.dumps(first.to_dict(), allow_nan=False)
    episodes = cells(files, 2, 0)
    places = {cell.key: number / 64 for number, cell in enumerate(episodes)}
    records = tiny.StubPool(lambda cell: invented(places[cell.key])).run(episodes)
    flat = [accuracy for score in scores(files, records) for runs in score.accuracies.values() for accuracy in runs]
    assert flat == [number / 64 for number in range(18)]


@pytest.mark.parametrize(("candidates", "runs"), [(1, 1), (4, 5)])
def test_the_figure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, candidates: int, runs: int) -> None:
    figures = []
    save = selection.save_figure
    monkeypatch.setattr(selection, "save_figure", lambda figure, path: figures.append(figure) or save(figure, path))
    rng = np.random.default_rng(0)
    results = [
        Score(f"{k}", {f"{lr:g}": rng.uniform(0.5, 0.9, runs).tolist() for lr in PROXY.initial_lrs})
        for k in range(candidates)
    ]
    draw_scores(results, candidates - 1, tmp_path / "new" / "scores.png")
    picture = matplotlib.image.imread(tmp_path / "new" / "scores.png")
    assert len(np.unique(picture[..., :3].reshape(-1, 3), axis=0)) > 20
    (axes,) = figures[0].axes
    (means,) = (line for line in axes.get_lines() if line.get_label() == "mean, which decides")
    assert np.asarray(means.get_ydata()).tolist() == [result.mean for result in results]
    assert [text.get_text() for text in axes.get_xticklabels()] == [str(k + 1) for k in range(candidates)]
    words = {text.get_text() for text in axes.get_legend().get_texts()}
    assert {"from initial lr 0.1", "from initial lr 0.001", "from initial lr 1e-05", "chosen"} <= words
    medians = [line for line in axes.get_lines() if line.get_color() == "black" and len(line.get_xdata()) == 2]
    heights = sorted(float(np.asarray(line.get_ydata())[0]) for line in medians if len(set(line.get_ydata())) == 1)
    expected = {float(np.median(accuracies)) for result in results for accuracies in result.accuracies.values()}
    assert expected <= set(heights)
