"""What was verified, as a short tree: a line a thing, and under it what it came from."""

import dataclasses
import datetime
from collections.abc import Iterator
from pathlib import Path


@dataclasses.dataclass
class Node:
    """One thing that was verified.

    Attributes:
      line: what it is, when it was made, of what, how many.
      problems: what does not fit, a line each.
      children: what it came from, or consists of.
    """

    line: str
    problems: list[str] = dataclasses.field(default_factory=list)
    children: list["Node"] = dataclasses.field(default_factory=list)

    def lines(self) -> Iterator[str]:
        """The tree, as it is printed."""
        yield self.line
        yield from self._below()

    def all_problems(self) -> Iterator[str]:
        """Those of the whole tree, in its order."""
        yield from self.problems
        for child in self.children:
            yield from child.all_problems()

    def _below(self) -> Iterator[str]:
        rest = [*map(_Problem, self.problems), *self.children]
        for place, child in enumerate(rest, start=1):
            first, others = ("└─ ", "   ") if place == len(rest) else ("├─ ", "│  ")
            for number, line in enumerate(child.lines()):
                yield (others if number else first) + line


@dataclasses.dataclass
class _Problem:
    text: str

    def lines(self) -> Iterator[str]:
        yield f"✗ {self.text}"


def when(path: Path) -> str:
    """When a file was written, to the minute, in UTC."""
    written = datetime.datetime.fromtimestamp(path.stat().st_mtime, datetime.UTC)
    return f"{written:%Y-%m-%d %H:%M}"
