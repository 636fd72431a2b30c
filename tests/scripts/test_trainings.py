"""Trainings of the page of own loops that others have published."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from lr_gym.control import Controller
from scripts.own_loops import controllers, published, rounding, run, tables, trainings, yardsticks


@pytest.mark.parametrize("size", [2, 3, 10])
def test_a_rotation_keeps_lengths_and_mirrors_nothing(size: int) -> None:
    turned = yardsticks.rotation(np.random.RandomState(1), size)
    np.testing.assert_allclose(turned @ turned.T, np.eye(size), atol=1e-12)
    assert np.linalg.det(turned) == pytest.approx(1.0)


def test_deepobs_quadratic_has_its_eigenvalues_and_its_published_loss_after_an_epoch(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(published, "PUBLISHED", {1: 141.8})
    found = [published.curve(seed)[0] for seed in range(5)]
    training = trainings.make("quadratic", 0)
    eigenvalues = torch.linalg.eigvalsh(training.model.hessian)
    assert ((eigenvalues > 30) & (eigenvalues < 60)).sum() == 10
    assert ((eigenvalues > 0) & (eigenvalues < 1)).sum() == 90
    assert np.mean(found) == pytest.approx(141.8, rel=0.005)  # mean of ten seeds there


def test_a_nudged_weight_differs_by_its_last_place_alone() -> None:
    plain, nudged = (trainings.make("digits", 0, nudged=flag).model.state_dict() for flag in (False, True))
    assert [name for name in plain if not torch.equal(plain[name], nudged[name])] == ["2.weight"]
    moved = (plain["2.weight"] != nudged["2.weight"]).nonzero().tolist()
    assert moved == [[0, 0]]
    assert nudged["2.weight"][0, 0] == np.nextafter(plain["2.weight"][0, 0].numpy(), np.float32(np.inf))


def test_rounding_of_own_loops(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for flags in ([], ["--nudged"]):
        words = ["digits", "--seeds", "2", "--rules", "recipe", "universal", *flags, "--out", str(tmp_path)]
        monkeypatch.setattr("sys.argv", ["run", *words])
        run.main()
    monkeypatch.setattr("sys.argv", ["tables", str(tmp_path)])
    tables.main()
    whole = (tmp_path / "tables.md").read_text()
    before = (tmp_path / "runs.json").read_bytes()
    monkeypatch.setattr("sys.argv", ["tables", str(tmp_path), "--only", "digits", "--name", "one"])
    tables.main()
    assert (tmp_path / "tables-one.md").read_text() == whole  # there are no others
    assert (tmp_path / "losses-one.png").stat().st_size
    assert (tmp_path / "runs.json").read_bytes() == before
    capsys.readouterr()
    for wrong, words in (
        (("--only", "blobs", "--name", "one"), f"{tmp_path} holds no results of blobs; it has those of digits"),
        (("--name", "one"), "--only and --name go together"),
    ):
        monkeypatch.setattr("sys.argv", ["tables", str(tmp_path), *wrong])
        with pytest.raises(SystemExit):
            tables.main()
        assert words in capsys.readouterr().err
    monkeypatch.setattr("sys.argv", ["rounding", str(tmp_path / "runs.json"), str(tmp_path)])
    rounding.main()
    said = capsys.readouterr().out.splitlines()
    assert [line.split("|")[1].strip() for line in said[2:]] == ["recipe", "universal"]
    factors = [float(word) for line in said[2:] for cell in line.split("|")[3:5] for word in cell.split(" / ")]
    assert all(1 <= factor < 2 for factor in factors)
    assert any(factor > 1 for factor in factors)


def test_another_controller_in_the_place_of_universal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`universal` in its own place is itself; another's runs are kept apart, by what it is."""

    def call(main: Callable[[], None], *words: str) -> str:
        monkeypatch.setattr("sys.argv", ["program", *words])
        main()
        return capsys.readouterr().out

    ours = ("digits", "--seeds", "1", "--rules", "universal", "--out", str(tmp_path))
    call(run.main, *ours)
    call(tables.main, str(tmp_path))
    rows = {}
    for name in ("universal", "universal-v1"):
        call(run.main, *ours, "--controller", name)
        said = call(controllers.main, str(tmp_path / "runs.json"), str(tmp_path))
        of_this = said.partition(f"Controller {Controller.load(name).fingerprint[:12]}\n")[2].partition("Controller")[0]
        (rows[name],) = (line for line in of_this.splitlines() if line.startswith("| digits"))
    assert rows["universal"] == "| digits | universal | 1.000 | 1.000 |" != rows["universal-v1"]
    with pytest.raises(SystemExit):
        call(run.main, *ours, "--rules", "cosine", "--controller", "universal")
    assert "drop cosine from --rules" in capsys.readouterr().err
