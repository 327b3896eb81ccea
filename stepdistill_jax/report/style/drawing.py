"""What all figures share: one colour a method, matplotlib's settings, and PNG and SVG files the same byte for byte."""

import io
import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stepdistill_jax.base.methods import INK, METHODS

GRID = "#8a9099"
MARKERS = "os^DvPX<>*hp"
_MOST_SHADED = 0.5
WIDTH, HEIGHT = 6.4, 4.0  # inches
_FONT = "DejaVu Sans"  # comes with matplotlib, so that every machine draws the same


@dataclass(frozen=True)
class Figure:
    """A figure as drawn: where its files lie, the SVG for the page, and what to say of it in words."""

    name: str
    title: str
    png: Path
    svg: Path
    inline_svg: str
    description: str
    counts: str


def method_colours(methods: Sequence[str]) -> dict[str, str]:
    """A colour for each method: the same one in every figure and report; methods of your own share what is left."""
    colours = {name: METHODS[name].colour for name in methods if name in METHODS}
    palette = [method.colour for method in METHODS.values()]
    spare = [colour for colour in palette if colour not in colours.values()] or palette
    strangers = sorted(set(methods) - set(METHODS))
    return colours | {name: spare[i % len(spare)] for i, name in enumerate(strangers)}


def run_colours(methods: Sequence[str]) -> list[str]:
    """A colour for each run, by its method: several of one method go from dark to light, so that they stay apart in grey, too."""
    from matplotlib.colors import to_hex, to_rgb

    colours = method_colours(methods)
    found = []
    for place, method in enumerate(methods):
        alike = [i for i, other in enumerate(methods) if other == method]
        # -1 is half way to black, 1 is half way to white, a run alone has the method's own.
        shade = 0.0 if len(alike) == 1 else 2.0 * alike.index(place) / (len(alike) - 1) - 1.0
        towards = 1.0 if shade > 0 else 0.0
        found.append(
            to_hex([part + _MOST_SHADED * abs(shade) * (towards - part) for part in to_rgb(colours[method])])
        )
    return found


@contextmanager
def _plain_style(salt: str) -> Iterator[None]:
    """Matplotlib's settings while we draw; the salt makes the same numbers give the same SVG, byte for byte."""
    import matplotlib

    settings = {
        "svg.hashsalt": salt, "svg.fonttype": "path", "font.family": _FONT, "font.size": 9,
        "axes.titlesize": 11, "axes.titleweight": "bold", "axes.spines.top": False, "axes.spines.right": False,
        "axes.grid": True, "axes.axisbelow": True, "grid.color": GRID, "grid.alpha": 0.3, "grid.linewidth": 0.6,
        "text.color": INK, "axes.labelcolor": INK, "axes.edgecolor": INK, "axes.titlecolor": INK,
        "xtick.color": INK, "ytick.color": INK, "text.parse_math": False,  # a name may well hold a dollar sign
    }  # fmt: skip
    with matplotlib.rc_context(settings), warnings.catch_warnings():
        # A character that the font lacks is drawn as a box: a line for each and for every file would bury the page's path.
        warnings.filterwarnings("ignore", r"Glyph .* missing from font", UserWarning)
        yield


def file_name(name: str) -> str:
    """A name without what file systems and addresses have a meaning for: 'cqa-runs/a b' to 'cqa-runs_a_b'."""
    return re.sub(r"[^A-Za-z0-9._-]+", "_", name)


def distinct_file_names(names: Sequence[str]) -> list[str]:
    """`file_name` of each name; one that an earlier name has taken, in whatever case, gets a number: '_', '_-2'."""
    found: dict[str, str] = {}
    for name in names:
        plain = unique = file_name(name)
        number = 1
        while unique.casefold() in found:
            number += 1
            unique = f"{plain}-{number}"
        found[unique.casefold()] = unique
    return list(found.values())


def is_drawable(text: str) -> bool:
    """Whether the font of figures has every character of a text; it has no Chinese, say, and would draw boxes."""
    from matplotlib.font_manager import findfont, get_font

    font = get_font(findfont(_FONT))
    return all(font.get_char_index(ord(character)) for character in text if not character.isspace())


def save_figure(
    name: str,
    title: str,
    draw: Callable[[Any], None],
    description: str,
    counts: str,
    *,
    folder: Path,
    height: float = HEIGHT,
) -> Figure:
    """Draws on one pair of axes by `draw`, and saves it in `folder` as NAME.png and NAME.svg."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure as Canvas

    name = file_name(name)
    png, svg = folder / f"{name}.png", folder / f"{name}.svg"
    with _plain_style(name):
        canvas = Canvas(figsize=(WIDTH, height))  # not pyplot: no global state, no display, nothing to close
        FigureCanvasAgg(canvas)
        draw(canvas.add_subplot())
        canvas.savefig(png, dpi=160, bbox_inches="tight", facecolor="white")
        text = io.StringIO()
        canvas.savefig(text, format="svg", bbox_inches="tight", facecolor="white", metadata={"Date": None})
    svg.write_text(text.getvalue(), encoding="utf-8")
    return Figure(name, title, png, svg, inline_svg(text.getvalue(), name=name), description, counts)


def inline_svg(svg: str, *, name: str) -> str:
    """The <svg> element alone, for a page with others: ids of its own, no address in it, ink in the page's text colour."""
    body = svg[svg.index("<svg") :]
    body = re.sub(r"<metadata>.*?</metadata>", "", body, flags=re.DOTALL)
    body = re.sub(r'\sxmlns(:\w+)?="[^"]*"', "", body)
    body = re.sub(r'\bid="', f'id="{name}-', body)
    body = re.sub(r'href="#', f'href="#{name}-', body)
    body = body.replace("url(#", f"url(#{name}-").replace(INK, "currentColor")
    # The ground of figure and axes, which are the first two patches; what else is white stays white.
    body = re.sub(r'(id="[^"]*patch_[12]">\s*<path [^>]*?)fill: #ffffff', r"\1fill: none", body)
    body = re.sub(
        r'<svg\b[^>]*?viewBox="([^"]*)"[^>]*>',
        r'<svg viewBox="\1" aria-hidden="true" focusable="false">',
        body,
        count=1,
    )
    return body
