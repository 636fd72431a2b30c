"""Reports as people see them: in headless Chromium, light and dark, at a desk and on a phone.

The pictures are left in pytest's folder of the test (`--basetemp=DIR` to choose it), for people to look at.
"""

from __future__ import annotations

import dataclasses
import io
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import matplotlib.image
import numpy as np
import pytest
import tiny
from rows import group, matrix_of, with_p_values

from lr_gym.evaluation.figures import FEW
from lr_gym.evaluation.groups import Group, references
from lr_gym.evaluation.report import write_results
from lr_gym.evaluation.rollout import Rollout

sync_api = pytest.importorskip("playwright.sync_api", reason="the package playwright is not installed")

DESK, PHONE = 1400, 390
NAMES = ("universal", "one-cycle:peak_lr=usual", "tuned cosine", "kim-yu:factors=5,every=epoch,patience=11")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    names = ("chromium", "chromium-browser", "google-chrome", "chrome")
    program = next(filter(None, map(shutil.which, names)), None)
    if program is None:
        pytest.skip(f"no Chromium is installed: looked for {', '.join(names)} on the path")
    with sync_api.sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield started
        started.close()


def run(loss: float, seed: int) -> Rollout:
    return tiny.record((2.3, 1.5 + 0.01 * seed, 1.2, loss), test_loss=loss, seed=seed)


def comparison(agents: int, starts: tuple[float, ...]) -> list[Group]:
    """Return rows of two tasks with names of every length, one agent with a start of its own, and a failed run."""
    rng = np.random.default_rng(0)
    rows = []
    for size, task in enumerate(("mlp", "a-name-that-is-rather-long/with-a-name-of-a-model")):
        for k, agent in enumerate([*NAMES, *(f"agent {k}" for k in range(len(NAMES), agents))][:agents]):
            for lr in starts if k != 2 else (0.03,):
                losses = (0.5 + size) * (1 + 0.1 * k * lr) * (1 + 0.03 * rng.normal(size=3))
                runs = [run(loss, seed) for seed, loss in enumerate(losses.tolist())]
                row = group(agent, [], runs=runs, task=task, initial_lr=lr, own_start=k == 2)
                rows.append(dataclasses.replace(row, failures=group(agent, [], failed=1).failures * (k == 1)))
    return with_p_values(rows, references(rows, rows[0].agent))


@pytest.fixture(scope="module", params=[(4, (0.1, 0.01, 0.001)), (FEW + 1, (0.1, 0.01, 0.001, 1e-4))])
def report(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    rows = comparison(*request.param)
    out = tmp_path_factory.mktemp("report")
    about = {"command": "eval_transfer.py --agents constant cosine --task a/b --out OUT " * 4, "commit": "abc"}
    write_results(out, matrix_of(rows), rows, about)
    return out / "report.html"


#: Boxes that hold what can be scrolled, and texts that are wider than their box.
MEASURE = """() => ({
  page: document.documentElement.scrollWidth,
  wide: [...document.querySelectorAll(".wide")].filter((e) => e.scrollWidth > e.clientWidth).length,
  cut: [...document.querySelectorAll("h1, h2, p, li, figcaption, td, th, pre")]
    .filter((e) => e.scrollWidth > e.clientWidth + 1).map((e) => e.textContent),
  outside: [...document.querySelectorAll("svg")].filter((svg) => {
    const frame = svg.getBoundingClientRect();
    return [...svg.querySelectorAll("use")].map((use) => use.getBoundingClientRect()).some((box) =>
      box.width && (box.left < frame.left - 1 || box.right > frame.right + 1 || box.top < frame.top - 1 ||
        box.bottom > frame.bottom + 1));
  }).length,
  letters: Math.min(...[...document.querySelectorAll("svg")].map((svg) =>
    svg.getBoundingClientRect().width / svg.viewBox.baseVal.width)),
  colours: [getComputedStyle(document.body).color, getComputedStyle(document.body).backgroundColor,
    getComputedStyle(document.querySelector("svg")).fill],
})"""


def brightness(colour: str) -> float:
    red, green, blue = (int(part) for part in colour.removeprefix("rgb(").removesuffix(")").split(","))
    return (0.299 * red + 0.587 * green + 0.114 * blue) / 255


@pytest.mark.parametrize(("width", "scheme"), [(DESK, "light"), (PHONE, "dark")])
def test_nothing_is_cut_or_hidden_and_everything_can_be_read(
    report: Path, browser: Any, width: int, scheme: str, tmp_path: Path
) -> None:
    page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
    asked: list[str] = []
    errors: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto(report.as_uri())
    found = page.evaluate(MEASURE)
    page.screenshot(path=tmp_path / f"{width}-{scheme}.png", full_page=True)
    page.close()
    assert [url for url in asked if not url.startswith("data:")] == [report.as_uri()]
    assert errors == []
    assert found["page"] == width  # nothing makes the page scroll sideways
    assert found["cut"] == []
    assert found["outside"] == 0
    assert found["letters"] > 0.85  # pixels a point: letters of ten points are as large as small print at least
    if width == DESK:
        assert found["wide"] == 0  # all columns are seen
    text, ground, drawn = map(brightness, found["colours"])
    assert (text > 0.8 and ground < 0.2) if scheme == "dark" else (text < 0.2 and ground > 0.9)
    assert drawn == text
    assert (tmp_path / f"{width}-{scheme}.png").stat().st_size > 50_000


def test_a_shade_says_that_there_is_more_to_the_right(report: Path, browser: Any) -> None:
    page = browser.new_page(viewport={"width": PHONE, "height": 900}, color_scheme="dark")
    page.goto(report.as_uri())
    table = page.locator(".wide").first

    def edge() -> float:
        picture = matplotlib.image.imread(io.BytesIO(table.screenshot()))
        return float(picture[1:8, -3:, :3].mean())  # above the heads

    shaded = edge()
    table.evaluate("element => element.scrollLeft = element.scrollWidth")
    assert shaded > 2 * edge() > 0
    page.close()


def test_a_click_on_a_head_sorts_the_rows(report: Path, browser: Any) -> None:
    page = browser.new_page(viewport={"width": DESK, "height": 900})
    page.goto(report.as_uri())
    table = page.locator("table").first

    def column(number: int) -> list[str]:
        return [text.strip() for text in table.locator(f"tbody td:nth-child({number})").all_inner_texts()]

    worst = column(6)
    for direction in ("ascending", "descending"):
        table.locator("th:nth-child(6) button").click()
        assert table.locator("th:nth-child(6)").get_attribute("aria-sort") == direction
        assert [float(text) for text in column(6)] == sorted(map(float, worst), reverse=direction == "descending")
    table.locator("th:nth-child(1) button").click()
    assert column(1) == sorted(column(1), key=str.casefold)
    assert table.locator("th[aria-sort]").count() == 1
    failed = len([text for text in column(13) if text])
    for _ in range(2):  # cells without a number stay below, whichever way
        table.locator("th:nth-child(13) button").click()
        assert all(column(13)[:failed])
        assert not any(column(13)[failed:])
    page.close()
