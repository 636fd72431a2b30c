from __future__ import annotations

import base64
import dataclasses
import io
import json
import math
import re
from collections.abc import Sequence
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import matplotlib.image
import pytest
import tiny
from rows import HIGH, LOW, MIDDLE, group, matrix_of, with_p_values

from lr_gym.errors import UnknownNameError
from lr_gym.evaluation import Contestant, report
from lr_gym.evaluation.figures import FEW
from lr_gym.evaluation.groups import Group
from lr_gym.evaluation.matrix import Failure
from lr_gym.evaluation.plots import new_figure
from lr_gym.evaluation.ranking import standings
from lr_gym.evaluation.report import write_results
from lr_gym.evaluation.tables import Lines, detail_lines, markdown, overview_lines, paper_lines, standing_lines
from lr_gym.evaluation.tuning import Candidate, Tuned
from lr_gym.files import finite

FIGURES = ("standings.png", "starts.png", "schedules.png", "losses.png")
FILES = {"results.json", "table.md", "report.html", *FIGURES}
ABOUT = {"command": "by hand --out 'a & b'", "commit": "abc <dirty>", "packages": {"torch": "2"}, "settings": [1]}


class Page(HTMLParser):
    """Reads a page: its elements, the text of each kind of element, and the cells of its tables."""

    VOID = ("meta", "img", "link", "br")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: dict[str, list[str]] = {}
        self.tables: list[Lines] = []
        self.bold: set[str] = set()
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert not self._open, f"never closed: {self._open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self.texts.setdefault(tag, []).append("")
        if tag == "table":
            self.tables.append([])
        if tag == "tr":
            self.tables[-1].append(())
        if tag in ("td", "th"):
            self.tables[-1][-1] += ("",)
        if tag not in self.VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        for tag in set(self._open):
            self.texts[tag][-1] += data
        if "tr" in self._open and set(self._open) & {"td", "th"}:
            *cells, last = self.tables[-1][-1]
            self.tables[-1][-1] = (*cells, last + data)
        if "b" in self._open:
            self.bold.add(data)


def written(out: Path, groups: Sequence[Group], **options: Any) -> Page:
    """Write the results of rows and return the page."""
    write_results(out, matrix_of(groups), groups, ABOUT, **options)
    assert {path.name for path in out.iterdir()} == FILES
    return Page((out / "report.html").read_text(encoding="utf-8"))


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make figures, but do not render them: that takes most of the time."""
    monkeypatch.setattr(report, "_png", lambda figure: b"a picture")


@pytest.fixture(scope="module")
def rows() -> list[Group]:
    """Three agents on two tasks, one of them with a start of its own; with runs that diverged and runs that failed."""
    reference, other = group("reference", MIDDLE, task="one"), group("reference", HIGH, task="one", initial_lr=1e-3)
    diverged = [tiny.record((2.0, math.nan), test_loss=loss, extra=(0, 20)) for loss in (1.5, math.nan)]
    groups = [
        reference,
        other,
        group("low", LOW, task="one"),
        group("low", [], task="one", initial_lr=1e-3, failed=3),
        group("tuned", [1.2, 1.4], task="one", initial_lr=0.1, own_start=True),
        group("reference", MIDDLE, task="two"),
        group("low", [], runs=diverged, task="two", failed=1),
        group("tuned", [3.0, math.inf], task="two", initial_lr=0.3, own_start=True),
    ]
    references = [None, None, reference, other, None, None, groups[5], None]
    return with_p_values(groups, references)


@pytest.fixture(scope="module")
def tuned() -> dict[str, dict[str, Tuned]]:
    def candidate(lr: float, **options: Any) -> Candidate:
        return Candidate(Contestant("tuned", {"agent": "step", "options": options}, None), lr)

    first, second = candidate(0.1, every=10, factor=0.5), candidate(0.01, every=200, factor=0.25)
    plain = candidate(0.3)
    return {
        "one": {"tuned": Tuned(first, [(first, 1.0), (second, math.inf)], 6)},
        "two": {"tuned": Tuned(plain, [(plain, 1.0)], 1)},
    }


@pytest.fixture(scope="module")
def done(
    rows: list[Group], tuned: dict[str, dict[str, Tuned]], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Page]:
    out = tmp_path_factory.mktemp("report") / "new"
    return out, written(out, rows, tuned=tuned, yardstick="reference")


# -- results.json ------------------------------------------------------------------------------------------------------


def strict_json(text: str) -> Any:
    def refuse(word: str) -> None:
        raise AssertionError(f"{word} is no JSON")

    return json.loads(text, parse_constant=refuse)


def test_results_file(done: tuple[Path, Page], rows: list[Group], tuned: dict[str, dict[str, Tuned]]) -> None:
    values = strict_json((done[0] / "results.json").read_text())
    assert values.keys() == {"provenance", "seeds", "reference", "yardstick", "standings", "tuned", "rows"}
    assert values["provenance"] == ABOUT
    assert (values["seeds"], values["yardstick"]) == ([0, 1, 2], "reference")
    as_json = json.loads(json.dumps(finite([row.to_dict() for row in rows]), allow_nan=False))
    assert values["rows"] == as_json
    stand = [standing.to_dict() for standing in standings(rows, "reference")]
    assert values["standings"] == json.loads(json.dumps(finite(stand)))
    assert values["tuned"]["one"]["tuned"]["best"] == tuned["one"]["tuned"].to_dict()["best"]
    assert [entry["mean_best_val_loss"] for entry in values["tuned"]["one"]["tuned"]["tried"]] == [1.0, None]


# -- table.md ----------------------------------------------------------------------------------------------------------


def test_table_file(done: tuple[Path, Page], rows: list[Group]) -> None:
    text = (done[0] / "table.md").read_text()
    assert text.startswith(
        "Test loss and accuracy of the weights at the best validation loss, mean (standard deviation)"
    )
    assert "of 3 runs; bold: the best mean. Reference: reference. p: Welch's t-test" in text
    assert "\nCommand: `by hand --out 'a & b'`\n" in text
    sections = {part.partition("\n")[0]: part for part in text.split("\n## ")[1:]}
    of_one, of_two = rows[:5], rows[5:]
    expected = {
        "All tasks together": standing_lines(standings(rows, "reference")),
        "Side by side": paper_lines(rows),
        "one": overview_lines(of_one),
        "one: every row": detail_lines(of_one),
        "two": overview_lines(of_two),
        "two: every row": detail_lines(of_two),
        "Tuning": [
            ("task", "tuned", "chosen", "initial lr", "candidates", "episodes"),
            ("one", "tuned", "every=10, factor=0.5", "0.1", "2", "6"),
            ("two", "tuned", "defaults", "0.3", "1", "1"),
        ],
        "Failed": [("episode and error",), *((str(failure),) for row in rows for failure in row.failures)],
    }
    assert list(sections) == list(expected)
    for title, lines in expected.items():
        assert sections[title].rstrip("\n").endswith(markdown(lines).rstrip("\n")), title
    assert "over that of reference, for every task and initial lr" in sections["All tasks together"]
    assert "better than one of reference." in sections["All tasks together"]


# -- figures -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", FIGURES)
def test_pictures(done: tuple[Path, Page], name: str) -> None:
    picture = matplotlib.image.imread(done[0] / name)
    assert picture[..., :3].std() > 0.05
    assert picture.shape[1] > 300


# -- report.html -------------------------------------------------------------------------------------------------------


def test_the_page_needs_nothing_else(done: tuple[Path, Page]) -> None:
    """No scripts, no style sheets, and no picture but those inside."""
    out, page = done
    tags = {tag for tag, _ in page.elements}
    assert tags.isdisjoint(
        {"script", "link", "iframe", "object", "embed", "base", "a", "form", "video", "source", "svg"}
    )
    attributes = {name for _, values in page.elements for name in values}
    assert attributes <= {"lang", "charset", "src", "alt"}  # no href, no srcset, no style, no on...
    text = re.sub(r"base64,[^\"]*", "", (out / "report.html").read_text(encoding="utf-8"))
    assert not re.search(r"http|file:|//|url\(|@import", text)
    sources = [values["src"] or "" for tag, values in page.elements if tag == "img"]
    prefix = "data:image/png;base64,"
    assert all(source.startswith(prefix) for source in sources)
    contents = [base64.b64decode(source.removeprefix(prefix), validate=True) for source in sources]
    assert contents == [(out / name).read_bytes() for name in FIGURES]
    assert all(values["alt"] for tag, values in page.elements if tag == "img")
    assert len(page.texts["figcaption"]) == 4


def plain(lines: Lines) -> Lines:
    """Return the lines as a page shows them: stars that set text in bold are gone."""
    return [tuple(re.sub(r"^\*\*(.*)\*\*$", r"\1", cell) for cell in row) for row in lines]


def unmarked(lines: Lines) -> Lines:
    return [tuple(cell.rstrip("*") for cell in row) for row in lines]


def first_tables(rows: list[Group]) -> list[Lines]:
    of_one = rows[:5]
    stand = standing_lines(standings(rows, "reference"))
    return [stand, paper_lines(rows), overview_lines(of_one), detail_lines(of_one)]


def test_the_page_shows_every_table(done: tuple[Path, Page], rows: list[Group]) -> None:
    page = done[1]
    assert page.texts["h2"] == [
        *("All tasks together", "Side by side", "one", "one: every row", "two", "two: every row", "Tuning", "Failed"),
        "Where the numbers come from",
    ]
    expected = first_tables(rows)
    assert [unmarked(lines) for lines in page.tables[:4]] == [unmarked(plain(lines)) for lines in expected]
    assert len(page.tables) == 8
    assert (page.tables[-1][0], len(page.tables[-1])) == (("episode and error",), 1 + 4)
    cells = {cell for lines in expected[:3] for row in lines for cell in row if cell.startswith("**")}
    assert {cell.strip("*") for cell in cells} <= {text.rstrip("*") for text in page.bold}
    assert "2.1000 (0.1000)" in page.bold  # the only agent with results from there


def test_the_page_marks_significance(done: tuple[Path, Page], rows: list[Group]) -> None:
    assert done[1].tables[2][2][1] == "1.0500 (0.0500)*"
    assert done[1].tables[:4] == [plain(lines) for lines in first_tables(rows)]


def test_where_the_numbers_come_from(done: tuple[Path, Page]) -> None:
    (facts,) = done[1].texts["pre"]
    assert facts == "command: by hand --out 'a & b'\ncommit: abc <dirty>"  # neither lists nor dictionaries
    assert "Reference: reference." in done[1].texts["p"][0]


NASTY = "<b>A</b> & \"B\" 'C'"


def test_text_is_escaped(tmp_path: Path, undrawn: None) -> None:
    """In names of agents and tasks, in errors, in what was tuned and in the command."""
    rows = [group(NASTY, LOW, task=f"task {NASTY}", failed=1), group("b", HIGH, task=f"task {NASTY}")]
    rows[0] = dataclasses.replace(rows[0], failures=[Failure(NASTY, "<script>alert(1)</script> & more")])
    chosen = Candidate(Contestant(NASTY, {"agent": NASTY}, None), 0.1)
    tuned = {f"task {NASTY}": {NASTY: Tuned(chosen, [(chosen, 1.0)], 1)}}
    page = written(tmp_path, rows, tuned=tuned, yardstick=NASTY)
    assert {tag for tag, _ in page.elements}.isdisjoint({"script", "i"})
    assert f"task {NASTY}" in page.texts["h2"]
    assert any(NASTY in words for words in page.texts["p"])
    overview, tuning, failed = page.tables[2], page.tables[-2], page.tables[-1]
    assert [row[0] for row in overview] == ["agent", NASTY, "b"]
    assert tuning[1][:2] == (f"task {NASTY}", NASTY)
    assert failed[1] == (f"{NASTY}: <script>alert(1)</script> & more",)
    assert NASTY not in page.bold
    assert not any("<" in text for text in page.bold)


@pytest.mark.parametrize("text", ["**", "**a", "a**", "***", "2 ** 0.5", "**a** b **c**"])
def test_stars_in_names(tmp_path: Path, undrawn: None, text: str) -> None:
    """What Markdown would set in bold does not have to look well, but may not break the page."""
    page = written(tmp_path, [group(text, LOW)])
    assert [len(row) for row in page.tables[0]] == [10, 10]


# -- other comparisons -------------------------------------------------------------------------------------------------


def test_one_task_and_one_agent(tmp_path: Path) -> None:
    """Twice: the same rows give the same files."""
    pages = [written(tmp_path / name, [group("a", [1.0, 2.0])]) for name in ("first", "second")]
    assert pages[0].texts["h2"] == [
        *("All tasks together", "Side by side", "toy", "toy: every row"),
        "Where the numbers come from",
    ]
    assert "Ratio: mean test loss over that of the agent with the lowest on that task" in pages[0].texts["p"][1]
    values = json.loads((tmp_path / "first" / "results.json").read_text())
    assert (values["yardstick"], values["tuned"], len(values["rows"])) == (None, {}, 1)
    for file in FILES:
        assert (tmp_path / "first" / file).read_bytes() == (tmp_path / "second" / file).read_bytes(), file


@pytest.mark.parametrize("agents", [FEW // 2, FEW // 2 + 1])
def test_the_papers_layout_is_for_few_agents(tmp_path: Path, undrawn: None, agents: int) -> None:
    page = written(tmp_path, [group(f"agent {k}", [1.0 + k]) for k in range(agents)])
    assert ("Side by side" in page.texts["h2"]) == (agents <= FEW // 2)


@pytest.mark.parametrize("count", [FEW, FEW + 4], ids=["few", "many"])
def test_agents_that_diverge(tmp_path: Path, undrawn: None, count: int) -> None:
    """Warnings are errors here. The reference is among the lost, and so is all that a panel would show."""
    lost, late = tiny.record((math.nan, math.nan), best=2.0), tiny.record((2.0, 1.5, math.inf))
    rows = [group("lost", [], runs=[lost] * 3), group("late", [], runs=[late] * 3)]
    rows += [group(f"agent {k}", LOW) for k in range(count - 2)]
    rows = with_p_values(rows, [None, *[rows[0]] * (count - 1)])
    page = written(tmp_path, rows)
    details = next(table for table in page.tables if "diverged" in table[0])
    place = details[0].index("diverged")
    assert [row[place] for row in details[1:4]] == ["3", "3", ""]
    strict_json((tmp_path / "results.json").read_text())


def test_regression(tmp_path: Path, undrawn: None) -> None:
    none = {"test_accuracy": None, "final_test_accuracy": None}
    run = tiny.record()
    runs = [dataclasses.replace(run, val_accuracies=[None] * 4, result=run.result | none)] * 2
    page = written(tmp_path, [group("a", [], runs=runs), group("b", [], runs=runs[:1])])
    assert "1.1000 (0.0000)" in page.bold
    assert "nan (nan)" not in page.bold
    values = strict_json((tmp_path / "results.json").read_text())
    assert values["rows"][0]["test_accuracy"] == {"mean": None, "std": None, "n": 2}


def test_a_yardstick_that_is_no_agent(tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match="no agent of the comparison is named 'cosin'"):
        write_results(tmp_path, matrix_of([group("a", LOW)]), [group("a", LOW)], ABOUT, yardstick="cosin")
    assert not list(tmp_path.iterdir())


# -- what should not stop a report -------------------------------------------------------------------------------------


def test_a_task_on_which_every_agent_failed(tmp_path: Path) -> None:
    rows = [group(agent, LOW, task="one") for agent in "ab"]
    rows += [group(agent, [], failed=3, task="lost") for agent in "ab"]
    page = written(tmp_path, rows)
    assert "lost: every row" in page.texts["h2"]
    assert "Failed" in page.texts["h2"]


def test_a_loss_of_zero(tmp_path: Path) -> None:
    written(tmp_path, [group("a", [0.0, 0.0]), group("b", LOW)])


def test_every_agent_has_its_own_start(tmp_path: Path) -> None:
    written(tmp_path, [group("a", LOW, own_start=True), group("b", HIGH, initial_lr=0.1, own_start=True)])


@pytest.mark.parametrize("value", ["epoch", None, [2, 1]])
def test_tuned_options_of_any_kind(tmp_path: Path, undrawn: None, value: Any) -> None:
    chosen = Candidate(Contestant("a", {"agent": "kim-yu", "options": {"every": value}}, None), 0.1)
    page = written(tmp_path, [group("a", LOW)], tuned={"toy": {"a": Tuned(chosen, [(chosen, 1.0)], 1)}})
    assert page.tables[-1][1][2].startswith("every=")


def test_an_error_of_several_lines(tmp_path: Path, undrawn: None) -> None:
    row = dataclasses.replace(group("a", LOW), failures=[Failure("a", "RuntimeError: size mismatch\n\tgot a | b")])
    written(tmp_path, [row])
    section = (tmp_path / "table.md").read_text().split("## Failed")[1]
    assert len([line for line in section.splitlines() if line]) == 3


def test_pictures_are_pngs() -> None:
    figure = new_figure(2, 1)
    figure.subplots()
    assert matplotlib.image.imread(io.BytesIO(report._png(figure))).shape == (120, 240, 4)
