"""Files that are whole or not there: text written atomically, and JSON lines that go on where they ended."""

import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any


class JsonLines:
    """An append-only file of JSON objects, one a line, each with its step."""

    def __init__(self, path: Path, *, keep_up_to_step: int) -> None:
        """Opens the file. Lines of later steps, and one that was cut short, are dropped: they will be made again."""
        path.parent.mkdir(parents=True, exist_ok=True)
        kept = [line for line in _whole_lines(path) if line["step"] <= keep_up_to_step]
        write_atomically(path, "".join(_line(row) for row in kept))
        self._file = path.open("a", encoding="utf-8")

    def write(self, row: Mapping[str, Any]) -> None:
        """Appends one object."""
        self._file.write(_line(row))
        self._file.flush()

    def sync(self) -> None:
        """Returns once everything written is on the disk."""
        os.fsync(self._file.fileno())

    def close(self) -> None:
        self._file.close()


def _whole_lines(path: Path) -> Iterable[dict[str, Any]]:
    if not path.exists():
        return
    # Bytes: a line cut short may end inside a character, and text has more line ends than "\n".
    yield from map(json.loads, path.read_bytes().split(b"\n")[:-1])


def _line(row: Mapping[str, Any]) -> str:
    return json.dumps(row, ensure_ascii=False) + "\n"


def write_atomically(path: Path, text: str) -> None:
    """Writes a whole file or none: to a temporary name, then renamed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with temporary.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
