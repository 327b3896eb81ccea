"""Files and folders that are whole or not there, and JSON lines that go on where they ended.

Each is written beside its place under a hidden name, `.<name>.<host>-<process>.tmp`, and then renamed. An error takes that
away again. A kill leaves it behind: it is in nobody's way, and goes when a process of that number writes there again.
"""

import contextlib
import hashlib
import json
import os
import platform
import shutil
from collections.abc import Iterable, Iterator, Mapping
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
        """Appends one object.

        Raises:
          OSError: names the file.
        """
        try:
            self._file.write(_line(row))
            self._file.flush()
        except OSError as error:
            raise OSError(error.errno, error.strerror, self._file.name) from error

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
    """Writes a whole file or none, in the place of an older one; when it returns, the text is on the disk."""
    with whole_file(path) as temporary, temporary.open("w", encoding="utf-8", newline="\n") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


def copy_atomically(source: Path, path: Path) -> None:
    """Copies a whole file or none, in the place of an older one."""
    with whole_file(path) as temporary:
        shutil.copyfile(source, temporary)


@contextlib.contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """A path to write, whose file then gets its name, in the place of an older one; it goes if anything fails.

    Raises:
      OSError: names the file, whatever the system's error names.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = _beside(path, "tmp")
    try:
        yield temporary
        temporary.replace(path)
    except OSError as error:
        if error.filename is None and error.errno is not None:  # as of a write to a full disk
            raise OSError(error.errno, error.strerror, str(path)) from error
        raise
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def new_folder(path: Path, *, replaces: bool = False) -> Iterator[Path]:
    """A folder to fill, which gets its name when all is written, and goes if anything fails.

    Args:
      path: its name; missing parents are made.
      replaces: whether an older folder of that name gives way, once the new one is whole. A kill between the two renames
        leaves the older one as `.<name>.<host>-<process>.older`.

    Raises:
      FileExistsError: if there is something of that name already, other than an empty folder, and it is not replaced; or if it is
        to lie in what is a file.
      OSError: names the folder, where the system's error names no file.
    """
    if not replaces and path.exists() and not (path.is_dir() and not any(path.iterdir())):
        raise FileExistsError(f"{path} exists; name a folder that is not there yet, or move it away.")
    if file := next((each for each in path.parents if each.is_file()), None):
        raise FileExistsError(f"{path}: {file} is a file, so nothing goes into it; name a folder.")
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary, older = _beside(path, "tmp"), _beside(path, "older")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir()
    try:
        yield temporary
        if replaces and path.exists():
            shutil.rmtree(older, ignore_errors=True)
            path.rename(older)
        elif path.exists():
            path.rmdir()
        temporary.rename(path)
        shutil.rmtree(older, ignore_errors=True)
    except OSError as error:
        if error.filename is None and error.errno is not None:  # as of a write to a full disk
            raise OSError(error.errno, error.strerror, str(path)) from error
        raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _beside(path: Path, ending: str) -> Path:
    # The host, too: several may write to one disk, and in containers their processes often have the same number.
    return path.with_name(f".{path.name}.{platform.node()}-{os.getpid()}.{ending}")


def file_sha256(path: str | os.PathLike) -> str:
    """Of a file's bytes, in hex."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
