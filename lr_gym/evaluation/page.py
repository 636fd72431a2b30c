"""One HTML page with sentences, figures and tables, which needs nothing else: what comparisons and trainings leave."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence
from importlib.resources import files
from typing import TYPE_CHECKING, Any

import jinja2
from markupsafe import Markup

from lr_gym.evaluation.svg import inline_svg
from lr_gym.evaluation.tables import Lines
from lr_gym.evaluation.verdict import Verdict

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclasses.dataclass(frozen=True)
class Part:
    """A section of a page.

    Attributes:
        title: Its heading, also in the table of contents.
        words: A paragraph under it; may be empty.
        lines: A table under that; may be None.
        figures: Under the table: figures by caption.
    """

    title: str
    words: str = ""
    lines: Lines | None = None
    figures: Mapping[str, Figure] = dataclasses.field(default_factory=dict)


def page(
    title: str,
    verdict: Verdict,
    parts: Sequence[Part],
    about: Mapping[str, Any],
    *,
    cautions: Sequence[str] = (),
    preface: str = "",
) -> str:
    """Return the page. All text is escaped.

    Args:
        title: Of the page.
        verdict: The sentence at the top.
        parts: The sections.
        about: Where the numbers come from; lists and dictionaries are left out, but for `packages`, names and versions.
        cautions: Warnings under the sentence.
        preface: What the numbers are.
    """
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["breakable"] = _breakable
    template = environment.from_string(files("lr_gym.evaluation").joinpath("page.html").read_text(encoding="utf-8"))
    shown = [
        {
            "title": part.title,
            "words": part.words,
            "rows": [[_cell(text) for text in row] for row in part.lines or ()],
            "figures": [
                (caption, inline_svg(figure, f"f{number}-{place}", caption))
                for place, (caption, figure) in enumerate(part.figures.items())
            ],
        }
        for number, part in enumerate(parts)
    ]
    packages = ", ".join(f"{name} {version}" for name, version in dict(about.get("packages", {})).items())
    facts = {name: value for name, value in about.items() if not isinstance(value, (dict, list))}
    facts |= {"packages": packages} if packages else {}
    text = template.render(title=title, verdict=verdict, parts=shown, facts=facts, cautions=cautions, preface=preface)
    return text + "\n"


def _breakable(text: str) -> Markup:
    """Return escaped text that may be broken after colons, commas and slashes of names, but not within intervals."""
    whole = re.sub(r"(?<=\d), (?=\d)", ",\N{NO-BREAK SPACE}", text)
    return Markup("<wbr>").join(re.split(r"(?<=[:,/])(?=\w)", whole))


def _cell(text: str) -> tuple[str, bool]:
    """Return a cell's text and whether it is set in bold, as Markdown's stars say."""
    bold = len(text) > 4 and text.startswith("**") and text.endswith("**")
    return (text[2:-2] if bold else text), bold
