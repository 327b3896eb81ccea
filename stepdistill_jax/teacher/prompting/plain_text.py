r"""An answer's LaTeX, Markdown and typographic signs as plain text, for equations and choices to be read from.

    \boxed{4 \times 3}      -> ⟨4 * 3⟩           $\frac{12}{2}$     -> $⟦12 / 2⟧$        **12½ liters** -> ⟦12 + 1 / 2⟧ liters

What has no plain meaning (\sqrt, ^, an unknown command) stays, so that it is not read as something else. Two kinds of brackets, which no
text has, say where brackets are meant: ⟦ ⟧ around a fraction or a mixed number, ⟨ ⟩ around what a box or a brace holds together, which
may or may not be meant as brackets.
"""

import re
import unicodedata

FRACTION_OPENS, FRACTION_CLOSES = "\ue000", "\ue001"
GROUP_OPENS, GROUP_CLOSES = "\ue002", "\ue003"
_MARKS = FRACTION_OPENS + FRACTION_CLOSES + GROUP_OPENS + GROUP_CLOSES

_TYPOGRAPHIC = str.maketrans(
    {
        **dict.fromkeys("×✕✖⋅·∙∗", "*"),
        **dict.fromkeys("÷∕⁄", "/"),
        "−": "-",
        **dict.fromkeys("\u00a0\u2007\u2009\u202f", " "),
        **dict.fromkeys(_MARKS, "\ufffd"),
        **{chr(code): chr(code - 0xFEE0) for code in range(0xFF01, 0xFF5F)},  # full-width ASCII
    }
)
# A dash is a minus between operands with spaces, and before a number; 5–7 may be a range.
_DASH_AS_MINUS = re.compile(
    rf"(?<=[\d)%$€£{FRACTION_CLOSES}{GROUP_CLOSES}] )[–‐‑](?= [\d($€£{FRACTION_OPENS}{GROUP_OPENS}])"
    r"|(?:(?<=^)|(?<=\())[–‐‑](?=\d)",
    re.MULTILINE,
)

_COMMANDS = {
    **dict.fromkeys((r"\times", r"\cdot", r"\ast"), " * "),
    r"\div": " / ",
    **dict.fromkeys((r"\left", r"\right", r"\big", r"\Big", r"\displaystyle"), ""),
    **dict.fromkeys((r"\quad", r"\qquad"), " "),
}
_ESCAPES = {
    **{rf"\{sign}": sign for sign in "$%#&_"},
    **dict.fromkeys((r"\,", r"\;", r"\:", r"\ ", r"\>"), " "),
    r"\!": "",
    **{r"\{": "(", r"\}": ")", r"\(": GROUP_OPENS, r"\)": GROUP_CLOSES},
    **dict.fromkeys((r"\[", r"\]", r"\\"), "\n"),
}
_COMMAND = re.compile(r"\\[A-Za-z]+|\\[^A-Za-z]", re.DOTALL)
HOLDING = re.compile(r"\\(?:text(?:bf|it|rm)?|math(?:rm|bf|it)|mbox|boxed|fbox)\s*\{")
_BRACE = re.compile(r"\\?[{}]")
_LONGEST_GROUP = 4000  # characters in braces
_MOST_BOXES = 100
_BOXED = re.compile(r"\\(?:boxed|fbox)\s*\{")
_FRACTION = re.compile(r"\\[dtc]?frac(?![A-Za-z])")
_THOUSANDS = re.compile(r"(?<=\d)(?:\{,\}|\\,|[\u2009\u202f])(?=\d{3}(?!\d))")
_VULGAR = "".join(c for c in map(chr, (*range(0xBC, 0xBF), *range(0x2150, 0x215F), 0x2189)))
_MIXED_VULGAR = re.compile(rf"(?<![\d.,])(\d+) ?([{_VULGAR}])")
_MIXED = re.compile(rf"(?<![\d.,])(\d+) ?{FRACTION_OPENS}(\d+) / (\d+){FRACTION_CLOSES}")
_POWER = re.compile(r"(?<=[\d)])\s*\*\*\s*(?=[-+\d(]|\.\d)")
_EMPHASIS = re.compile(r"\*\*|__|`+")


def plain(text: str) -> str:
    """The text without LaTeX and Markdown, its signs those of a keyboard; see the module's examples."""
    text = _THOUSANDS.sub(lambda found: "," if found[0] == "{,}" else "", text)
    text = _vulgar_fractions(text.translate(_TYPOGRAPHIC))
    text = _latex(text)
    text = _MIXED.sub(_mixed_number, text)
    text = _POWER.sub("^", text)  # no equation has powers; what is left of ** is bold
    return _DASH_AS_MINUS.sub("-", _EMPHASIS.sub(" ", text))


def without_marks(text: str) -> str:
    """The text without the brackets that `plain` has put in."""
    return text.translate(dict.fromkeys(map(ord, _MARKS)))


def without_groups(text: str) -> str:
    """The text without the brackets that may not be meant; those around fractions stay."""
    return text.translate(dict.fromkeys(map(ord, GROUP_OPENS + GROUP_CLOSES)))


def boxes(text: str) -> list[tuple[int, int]]:
    r"""Where each outermost \boxed{…} of the text begins and ends, the last ones; one that is never closed is left out."""
    found, end = [], 0
    for box in [*_BOXED.finditer(text)][-_MOST_BOXES:]:
        if box.start() >= end and (closed := _group_end(text, box.end() - 1)) is not None:
            end = closed
            found.append((box.start(), end))
    return found


def _vulgar_fractions(text: str) -> str:
    """½ as ⟦1 / 2⟧, 12½ as ⟦12 + 1 / 2⟧."""

    def spelt(sign: str) -> str:
        numerator, _, denominator = unicodedata.normalize("NFKC", sign).partition("⁄")
        return f"{numerator} / {denominator}" if denominator else sign

    text = _MIXED_VULGAR.sub(
        lambda found: f"{FRACTION_OPENS}{found[1]} + {spelt(found[2])}{FRACTION_CLOSES}", text
    )
    return re.sub(f"[{_VULGAR}]", lambda found: f"{FRACTION_OPENS}{spelt(found[0])}{FRACTION_CLOSES}", text)


def _mixed_number(found: re.Match[str]) -> str:
    whole, numerator, denominator = found.groups()
    if int(numerator) >= int(denominator):
        return found[0]
    return f"{FRACTION_OPENS}{whole} + {numerator} / {denominator}{FRACTION_CLOSES}"


def _latex(text: str) -> str:
    r"""The text with \frac, \boxed, \text and braces as plain or marked brackets, and known commands as signs."""
    text = re.sub(r"\\(?:begin|end)\{\w+\*?\}", "\n", text)
    while (fraction := next(iter(reversed([*_FRACTION.finditer(text)])), None)) is not None:  # innermost last
        over, end = _argument(text, fraction.end())
        under, end = _argument(text, end)
        if over is None or under is None:
            return text  # cut, or malformed: the command stays, and nothing is read
        quotient = f"{FRACTION_OPENS}{_bracketed(over)} / {_bracketed(under)}{FRACTION_CLOSES}"
        text = text[: fraction.start()] + quotient + text[end:]
    text = HOLDING.sub(lambda found: " {" if "text" in found[0] or "mbox" in found[0] else "{", text)
    text = _COMMAND.sub(lambda found: _COMMANDS.get(found[0], _ESCAPES.get(found[0], found[0])), text)
    return text.translate({ord("{"): GROUP_OPENS, ord("}"): GROUP_CLOSES, ord("&"): " "})


def _argument(text: str, at: int) -> tuple[str | None, int]:
    r"""What a command is given at this place, a group in braces or a single digit, and where it ends."""
    while at < len(text) and text[at] == " ":
        at += 1
    if at < len(text) and text[at].isdigit():
        return text[at], at + 1
    end = _group_end(text, at) if text[at : at + 1] == "{" else None
    return (None, at) if end is None else (text[at + 1 : end - 1].strip(), end)


def _group_end(text: str, at: int) -> int | None:
    """Behind the brace that closes the one at this place; None if none does."""
    depth = 0
    for brace in _BRACE.finditer(text, at, at + _LONGEST_GROUP):
        depth += {"{": 1, "}": -1}.get(brace[0], 0)
        if depth == 0:
            return brace.end()
    return None


def _bracketed(text: str) -> str:
    return text if re.fullmatch(r"[\d.,]+", text) else f"({text})"
