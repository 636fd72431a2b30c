"""Figures of matplotlib as SVG that stands in a page and takes its colours from there."""

from __future__ import annotations

import io
import itertools
import re
from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def inline_svg(figure: Figure, name: str, about: str) -> str:
    """Return a figure as an `<svg>` element, the same for the same figure.

    Black becomes the page's colour of text, and the ground is left out: so it can be read on a dark page too.

    Args:
        figure: What is drawn. Its axes lose their ground.
        name: Begins all names inside, so that figures of one page do not share them.
        about: What it shows, for people who do not see it.
    """
    for axes in figure.axes:
        axes.set_facecolor("none")
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", facecolor="none", metadata={"Date": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>|<!--.*?-->", "", text, flags=re.DOTALL)
    text = text.replace("#000000", "currentColor")
    head, _, body = text.partition(">")
    _, _, width, height = (re.search(r'viewBox="([^"]*)"', head) or [""] * 2)[1].split()
    return (
        f'<svg viewBox="0 0 {width} {height}" style="--width: {float(width) * 4 / 3:.0f}px" role="img" '
        f'aria-label="{escape(about)}">{_renamed(body, name).strip()}'
    )


def _renamed(body: str, name: str) -> str:
    """Return SVG where what is referred to has short names of its own, and nothing else has any."""
    used = dict.fromkeys(re.findall(r'(?:href="#|url\(#)([^")]+)', body))
    numbers = itertools.count()
    short = {old: f"{name}-{next(numbers)}" for old in used}
    body = re.sub(r' id="([^"]+)"', lambda found: f' id="{short[found[1]]}"' if found[1] in short else "", body)
    return re.sub(r'(href="#|url\(#)([^")]+)', lambda found: found[1] + short[found[2]], body)
