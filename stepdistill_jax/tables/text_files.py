"""A file's bytes to text: unpacked, by its Unicode mark if it has one, and told where the encoding is another."""

import codecs
import contextlib
import gzip
import io
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, TextIO

from stepdistill_jax.tables.errors import TableError

# Of UTF-32 first: its little-endian mark begins with UTF-16's.
_MARKS = {
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
_GUESSES = ("cp1252", "cp1250", "latin-1")  # the first that can read the place; latin-1 reads anything
_CHUNK = 1 << 16  # bytes
_GZIP = b"\x1f\x8b"


def find_encoding(path: Path, named: str | None = None) -> str:
    """The codec that reads the file: as its mark says, else as named, else UTF-8.

    Raises:
      TableError: for a name that is no encoding, or contradicts the mark; for UTF-16 without a mark.
    """
    with reading_errors(path), open_bytes(path) as file:
        begin = file.read(4096)
    marked = next((codec for mark, codec in _MARKS.items() if begin.startswith(mark)), None)
    if named is not None:
        return _named(path, named, marked)
    if marked is None and begin.count(0) > len(begin) // 4:
        guess = "utf-16-le" if begin[1::2].count(0) > begin[::2].count(0) else "utf-16-be"
        raise TableError(
            f"{path}: not UTF-8 text: every other byte is 0, as in UTF-16; give --encoding {guess}."
        )
    return marked or "utf-8"


def _named(path: Path, named: str, marked: str | None) -> str:
    try:
        name = codecs.lookup(named).name
        "".encode(name)  # base64 and others are codecs, too
    except LookupError:
        raise TableError(
            f"--encoding {named}: no such encoding; use one such as utf-8, cp1252 or utf-16."
        ) from None
    if marked is None:
        return name
    if name.partition("-sig")[0].removesuffix("-le").removesuffix("-be") != marked.partition("-sig")[0]:
        raise TableError(
            f"{path}: begins with the mark of {marked.partition('-sig')[0]}, but --encoding says {named}; leave it out."
        )
    return marked


def open_bytes(path: Path) -> BinaryIO:
    """The file, unpacked if it is gzip's, whatever its name."""
    with path.open("rb") as file:
        is_packed = file.read(2) == _GZIP
    return gzip.open(path, "rb") if is_packed else path.open("rb")


@contextlib.contextmanager
def open_text(path: Path, encoding: str, *, newline: str) -> Iterator[TextIO]:
    """The file as text.

    Args:
      encoding: as `find_encoding` gives it.
      newline: '' where "\\r", "\\n" and "\\r\\n" end a line, "\\n" where that alone does; none is translated.

    Raises:
      TableError: names the byte and the line that are in another encoding, and the one that it looks like.
    """
    with (
        reading_errors(path, encoding),
        open_bytes(path) as file,
        io.TextIOWrapper(file, encoding=encoding, newline=newline) as text,
    ):
        yield text


@contextlib.contextmanager
def reading_errors(path: Path, encoding: str = "") -> Iterator[None]:
    """Errors of reading, whatever they come from, as one line that names the file.

    Raises:
      TableError: in the place of each, but for a file that is not there.
    """
    try:
        yield
    except UnicodeDecodeError:
        raise TableError(_undecodable(path, encoding)) from None
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise TableError(f"{path}: gzip cannot unpack it: {error}; fetch it again.") from None
    except FileNotFoundError:
        raise FileNotFoundError(f"{path}: no such file.") from None
    except IsADirectoryError:
        raise TableError(f"{path} is a folder; name a file.") from None


def _undecodable(path: Path, encoding: str) -> str:
    """Where the file stops being of the encoding: bytes are counted from 1."""
    decoder = io.IncrementalNewlineDecoder(codecs.getincrementaldecoder(encoding)(), translate=True)
    line, before = 1, 0
    with open_bytes(path) as file:
        while chunk := file.read(_CHUNK):
            try:
                line += decoder.decode(chunk).count("\n")
            except UnicodeDecodeError as error:
                return _told(path, encoding, error, line, before - (len(error.object) - len(chunk)))
            before += len(chunk)
    return f"{path}: not {_shown(encoding)}: it ends in the middle of a character; fetch it again."


def _told(path: Path, encoding: str, error: UnicodeDecodeError, line: int, before: int) -> str:
    """The message. `line` and `before` are the line and the number of bytes at which the error's bytes begin."""
    good = error.object[: error.start].decode(encoding, "ignore")
    line += len(io.StringIO(good, newline=None).read().split("\n")) - 1
    begin, end = error.object[: error.start], error.object[error.start :]
    text, guess = _guessed(begin.rpartition(b"\n")[2][-12:] + end.partition(b"\n")[0][:12])
    return (
        f"{path}: not {_shown(encoding)} at byte {before + error.start + 1:,}, line {line:,}; it looks like {guess} "
        f"({text!r} there): give --encoding {guess}, or save it as UTF-8."
    )


def _guessed(piece: bytes) -> tuple[str, str]:
    """(text, encoding)."""
    for guess in _GUESSES:
        with contextlib.suppress(UnicodeDecodeError):
            return piece.decode(guess), guess
    raise AssertionError("latin-1 reads any byte")


def _shown(encoding: str) -> str:
    return encoding.partition("-sig")[0].upper()
