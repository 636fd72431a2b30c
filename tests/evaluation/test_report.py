from __future__ import annotations

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
from rows import HIGH, LOW, MIDDLE, group, matrix_of, with_p_values, without_accuracy

from lr_gym.errors import UnknownNameError
from lr_gym.evaluation import Contestant, report
from lr_gym.evaluation.cells import Failure
from lr_gym.evaluation.figures import FEW
from lr_gym.evaluation.groups import Group
from lr_gym.evaluation.ranking import standings
from lr_gym.evaluation.report import write_results
from lr_gym.evaluation.tables import Lines, detail_lines, markdown, overview_lines, paper_lines, standing_lines
from lr_gym.evaluation.tuning import Candidate, Tuned
from lr_gym.files import finite

FIGURES = ("standings.png", "profiles.png", "starts.png", "schedules.png", "losses.png")
FILES = {"results.json", "runs.csv", "curves.csv", "table.md", "report.html", *FIGURES}
ABOUT = {"command": "by hand --out 'a & b'", "commit": "abc <dirty>", "packages": {"torch": "2"}, "settings": [1]}


class Page(HTMLParser):
    """Reads a page: its elements, the text of each kind of element, and the cells of its tables, bold ones in stars."""

    VOID = ("meta", "img", "link", "br", "wbr")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: dict[str, list[str]] = {}
        self.tables: list[Lines] = []
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
        self._stars(tag)
        if tag not in self.VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag
        self._stars(tag)

    def _stars(self, tag: str) -> None:
        if tag == "b" and "td" in self._open:
            self._write("**")

    def handle_data(self, data: str) -> None:
        data = data.replace("\N{NO-BREAK SPACE}", " ")
        for tag in set(self._open):
            self.texts[tag][-1] += data
        if {"td", "th"} & set(self._open):
            self._write(data)

    def _write(self, data: str) -> None:
        *cells, last = self.tables[-1][-1]
        self.tables[-1][-1] = (*cells, last + data)


def written(out: Path, groups: Sequence[Group], **options: Any) -> Page:
    """Write the results of rows and return the page."""
    write_results(out, matrix_of(groups), groups, ABOUT, **options)
    assert {path.name for path in out.iterdir()} == FILES
    return Page((out / "report.html").read_text(encoding="utf-8"))


def results(out: Path) -> Any:
    """Return what is in the results file, which must be JSON without NaN."""

    def refuse(word: str) -> None:
        raise AssertionError(f"{word} is no JSON")

    return json.loads((out / "results.json").read_text(), parse_constant=refuse)


def as_json(values: Any) -> Any:
    return json.loads(json.dumps(finite(values), allow_nan=False))


@pytest.fixture
def _undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    tiny.leave_figures_undrawn(monkeypatch)


def candidate(lr: float, **options: Any) -> Candidate:
    return Candidate(Contestant("tuned", {"agent": "step", "options": options}, None), lr)


#: What was tuned, by task and agent.
FIRST, SECOND, PLAIN = candidate(0.1, every=10, factor=None), candidate(0.01, every=[2, 1], factor=0.25), candidate(0.3)
TUNED = {
    "one": {"tuned": Tuned(FIRST, [(FIRST, 1.0), (SECOND, math.inf)], 6, ["tuned: OSError: no luck"])},
    "two": {"tuned": Tuned(PLAIN, [(PLAIN, 1.0)], 1)},
}


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
    return with_p_values(groups, [None, None, reference, other, None, None, groups[5], None])


@pytest.fixture(scope="module")
def sections(rows: list[Group]) -> dict[str, Lines]:
    """The tables that the report should have, by title."""
    of_one, of_two = rows[:5], rows[5:]
    return {
        "All tasks together": standing_lines(standings(rows, "reference")),
        "Side by side": paper_lines(rows),
        "one": overview_lines(of_one),
        "one: every row": detail_lines(of_one),
        "two": overview_lines(of_two),
        "two: every row": detail_lines(of_two),
        "Tuning": [
            ("task", "tuned", "chosen", "initial lr", "candidates", "episodes"),
            ("one", "tuned", "every=10, factor=None", "0.1", "2", "6"),
            ("two", "tuned", "defaults", "0.3", "1", "1"),
        ],
        "Failed": [
            *(("episode and error",), ("tuned: OSError: no luck",)),
            *((str(failure),) for row in rows for failure in row.failures),
        ],
    }


@pytest.fixture(scope="module")
def done(rows: list[Group], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Page]:
    out = tmp_path_factory.mktemp("report") / "new"
    return out, written(out, rows, tuned=TUNED, yardstick="reference")


# -- the files of one comparison ---------------------------------------------------------------------------------------


def test_the_results_file_has_every_number(done: tuple[Path, Page], rows: list[Group]) -> None:
    assert results(done[0]) == {
        "provenance": ABOUT,
        "seeds": [0, 1, 2],
        "reference": "reference",
        "yardstick": "reference",
        "standings": as_json([standing.to_dict() for standing in standings(rows, "reference")]),
        "tuned": as_json({task: {name: t.to_dict() for name, t in of.items()} for task, of in TUNED.items()}),
        "rows": as_json([row.to_dict() for row in rows]),
    }


def test_the_table_file_has_every_table(done: tuple[Path, Page], sections: dict[str, Lines]) -> None:
    preface, *parts = (done[0] / "table.md").read_text().split("\n## ")
    assert preface.startswith("**No sure winner:** the test loss of tuned is 13.3")
    assert "\n\nFew runs: every row has" in preface
    assert "\n\nTest loss and accuracy of the weights at the best validation loss, mean (standard deviat" in preface
    assert "of 3 runs; bold: the best mean. Reference: reference. p: Welch's t-test" in preface
    assert preface.endswith("\nCommand: `by hand --out 'a & b'`\n")
    found = {part.partition("\n")[0]: part.rstrip("\n") for part in parts}
    assert list(found) == list(sections)
    for title, lines in sections.items():
        assert found[title].endswith(markdown(lines).rstrip("\n")), title
    assert "over that of reference, for every task and initial lr" in found["All tasks together"]
    assert "better than one of reference." in found["All tasks together"]


@pytest.mark.parametrize("name", FIGURES)
def test_pictures_are_drawn(done: tuple[Path, Page], name: str) -> None:
    picture = matplotlib.image.imread(done[0] / name)
    assert picture[..., :3].std() > 0.05
    assert picture.shape[1] > 300


def test_the_page_shows_every_table(done: tuple[Path, Page], sections: dict[str, Lines]) -> None:
    page = done[1]
    titles = [*sections, "Learning rates", "Losses", "Where the numbers come from"]
    assert page.texts["h2"] == titles
    assert page.texts["li"] == page.texts["a"] == titles
    targets = {f"#{values['id']}" for tag, values in page.elements if tag == "h2"}
    assert {values["href"] for tag, values in page.elements if tag == "a"} == targets
    for (title, lines), shown in zip(sections.items(), page.tables, strict=True):
        assert shown == lines, title


def test_the_page_needs_nothing_else(done: tuple[Path, Page]) -> None:
    """One script, one style sheet and the pictures are inside; nothing is asked for elsewhere."""
    out, page = done
    foreign = {"img", "link", "iframe", "object", "embed", "base", "form", "video", "source"}
    assert foreign.isdisjoint(tag for tag, _ in page.elements)
    assert [values for tag, values in page.elements if tag in ("script", "style")] == [{}, {}]
    text = (out / "report.html").read_text(encoding="utf-8")
    links = re.findall(r'(?:href|src)="([^"]*)"|url\(([^)]*)\)', text)
    assert all(link.startswith(("#", "data:image/png;base64,")) for pair in links for link in pair if link)
    assert not re.search(r"http|file:|url\([^#]|@import", re.sub(r"base64,[^\"]*", "", text))


def test_pictures_are_svg_that_share_no_names(done: tuple[Path, Page]) -> None:
    out, page = done
    pictures = [values for tag, values in page.elements if tag == "svg"]
    assert [values["aria-label"] for values in pictures] == page.texts["figcaption"] == list(report.CAPTIONS.values())
    names = [values["id"] for _, values in page.elements if values.get("id")]
    assert len(names) == len(set(names))
    text = (out / "report.html").read_text(encoding="utf-8")
    used = set(re.findall(r'href="#(f[^"]*)|url\(#(f[^)]*)', text))
    assert used
    assert {name for pair in used for name in pair if name} <= set(names)
    assert "currentColor" in text
    assert "#000000" not in text  # which could not be read on a dark page


def test_where_the_numbers_come_from(done: tuple[Path, Page]) -> None:
    assert done[1].texts["pre"] == ["command: by hand --out 'a & b'\ncommit: abc <dirty>\npackages: torch 2"]
    assert any("Reference: reference." in words for words in done[1].texts["p"])


# -- other comparisons -------------------------------------------------------------------------------------------------

NASTY = "<b>A</b> & \"B\" 'C'"


@pytest.mark.usefixtures("_undrawn")
def test_text_is_escaped(tmp_path: Path) -> None:
    """In names of agents and tasks, in errors, in what was tuned and in the command."""
    task = f"task {NASTY}"
    rows = [group(NASTY, LOW, task=task, failures=[Failure(NASTY, "<script>alert(1)</script> & more")])]
    chosen = Candidate(Contestant(NASTY, {"agent": NASTY}, None), 0.1)
    tuned = {task: {NASTY: Tuned(chosen, [(chosen, 1.0)], 1)}}
    page = written(tmp_path, [*rows, group("b", HIGH, task=task)], tuned=tuned, yardstick=NASTY)
    assert len(page.texts["script"]) == 1
    assert task in page.texts["h2"]
    assert sum(NASTY in words for words in page.texts["p"]) == 3  # the verdict, the reference, the yardstick
    overview, tuning, failed = page.tables[2], page.tables[-2], page.tables[-1]
    assert [row[0] for row in overview] == ["agent", NASTY, "b"]
    assert tuning[1][:2] == (task, NASTY)
    assert failed[1] == (f"{NASTY}: <script>alert(1)</script> & more",)
    assert page.texts["b"][0] == f"{NASTY} wins:"


@pytest.mark.usefixtures("_undrawn")
@pytest.mark.parametrize("text", ["**", "**a", "a**", "***", "2 ** 0.5", "**a** b **c**", "**<i>**"])
def test_stars_in_names_do_not_break_the_page(tmp_path: Path, text: str) -> None:
    """What Markdown would set in bold does not have to look well."""
    page = written(tmp_path, [group(text, LOW)])
    assert [len(row) for row in page.tables[0]] == [13, 13]
    assert "i" not in page.texts


def test_the_same_rows_give_the_same_files(tmp_path: Path) -> None:
    pages = [written(tmp_path / name, [group("a", [1.0, 2.0])]) for name in ("first", "second")]
    titles = ["All tasks together", "Side by side", "toy", "toy: every row", "Learning rates", "Losses"]
    assert pages[0].texts["h2"] == [*titles, "Where the numbers come from"]
    words = "Ratio: mean test loss over that of the agent with the lowest on that task"
    assert sum(words in paragraph for paragraph in pages[0].texts["p"]) == 1
    values = results(tmp_path / "first")
    assert (values["yardstick"], values["tuned"], len(values["rows"])) == (None, {}, 1)
    for file in FILES:
        assert (tmp_path / "first" / file).read_bytes() == (tmp_path / "second" / file).read_bytes(), file


@pytest.mark.usefixtures("_undrawn")
@pytest.mark.parametrize("count", [FEW // 2, FEW // 2 + 1, FEW, FEW + 4])
def test_any_number_of_agents_some_of_which_diverge(tmp_path: Path, count: int) -> None:
    """Warnings are errors here. The reference is among the lost, and so is all that a panel would show."""
    lost, late = tiny.record((math.nan, math.nan), best=2.0), tiny.record((2.0, 1.5, math.inf))
    rows = [group("lost", [], runs=[lost] * 3), group("late", [], runs=[late] * 3)]
    rows += [group(f"agent {k}", LOW) for k in range(count - 2)]
    page = written(tmp_path, with_p_values(rows, [None, *[rows[0]] * (count - 1)]))
    assert ("Side by side" in page.texts["h2"]) == (count <= FEW // 2)  # the paper's layout is for few
    details = next(table for table in page.tables if "diverged" in table[0])
    assert [row[details[0].index("diverged")] for row in details[1:4]] == ["3", "3", *[""] * (count > 2)]
    assert len(results(tmp_path)["rows"]) == count


def test_a_yardstick_that_is_no_agent_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match="no agent of the comparison is named 'cosin'"):
        write_results(tmp_path, matrix_of([group("a", LOW)]), [group("a", LOW)], ABOUT, yardstick="cosin")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        (
            [group(a, losses, failed=not losses, task=t) for t, losses in (("one", LOW), ("lost", [])) for a in "ab"],
            "Failed",
        ),
        ([group("a", [0.0, 0.0]), group("b", LOW)], "toy"),
        ([group("a", LOW, own_start=True), group("b", HIGH, initial_lr=0.1, own_start=True)], "toy"),
        ([group("a", [], runs=[without_accuracy(tiny.record())] * 2), group("b", LOW)], "toy"),
    ],
    ids=["a task on which all failed", "a loss of zero", "own starts only", "regression"],
)
def test_what_should_not_stop_a_report(tmp_path: Path, rows: list[Group], words: str) -> None:
    page = written(tmp_path, rows)
    assert words in page.texts["h2"]
    assert "nan (nan)" not in page.texts["b"]
    assert len(results(tmp_path)["rows"]) == len(rows)
