"""A file's bytes to text: unpacked, by its Unicode mark if it has one, and told where the encoding is another."""

import codecs
import contextlib
import gzip
import io
import re
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, TextIO

from stepdistill_jax.base.messages import say_once
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
_WIDE = re.compile(r"\w{0,20}[^\x00-\x7f]\w{0,20}")  # what UTF-8 writes by several bytes, within its word
_GZIP = b"\x1f\x8b"
# What files of other kinds begin with -> what they are, and the mend.
_OTHER_KINDS = {
    b"PK\x03\x04": "a zip archive, as an Excel workbook (.xlsx) is one; save the sheet as CSV, or unpack it",
    b"\xd0\xcf\x11\xe0": "an Excel workbook (.xls); save the sheet as CSV",
    b"PAR1\x15": "a parquet file; let its name end with .parquet",
    b"ARROW1\0": "an Arrow file; save it as parquet",
    b"SQLite format 3\0": "an SQLite database; export the table as CSV",
    b"%PDF-": "a PDF document; export its table as CSV",
    b"BZh91AY": "a bzip2 archive; unpack it",
    b"\xfd7zXZ\0": "an xz archive; unpack it",
    b"\x28\xb5\x2f\xfd": "a Zstandard archive; unpack it",
    b"7z\xbc\xaf\x27\x1c": "a 7-Zip archive; unpack it",
    _GZIP: "packed by gzip twice; unpack it once",
    b"version https://git-lfs": "a pointer of Git LFS; fetch the file itself by git lfs pull",
}


def find_encoding(path: Path, named: str | None = None) -> str:
    """The codec that reads the file: as its mark says, else as named, else UTF-8.

    Raises:
      TableError: for a name that is no encoding, or contradicts the mark; for UTF-16 without a mark.
    """
    with reading_errors(path), open_bytes(path) as file:
        begin = file.read(4096)
    _check_kind(path, begin)
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
    except (LookupError, UnicodeError):
        raise TableError(
            f"--encoding {named}: no such encoding; use one such as utf-8, cp1252 or utf-16."
        ) from None
    if marked is None:
        _tell_of_utf8(path, name)
        return name
    if name.partition("-sig")[0].removesuffix("-le").removesuffix("-be") != marked.partition("-sig")[0]:
        raise TableError(
            f"{path}: begins with the mark of {marked.partition('-sig')[0]}, but --encoding says {named}; leave it out."
        )
    return marked


def _check_kind(path: Path, begin: bytes) -> None:
    """Refuses what is no text whatever its name says."""
    kind = next((kind for mark, kind in _OTHER_KINDS.items() if begin.startswith(mark)), None)
    if begin[:16].lower().startswith((b"<!doctype html", b"<html")):
        kind = "a web page, as a server sends in the place of a file; download the file itself"
    if begin[257:262] == b"ustar":
        kind = "a tar archive; unpack it"
    if kind is not None:
        raise TableError(f"{path}: no table of text but {kind}.")


def _tell_of_utf8(path: Path, name: str) -> None:
    """Says so where another encoding is named for a file that is UTF-8 from begin to end, and more than ASCII."""
    if name in ("utf-8", "utf-7", "ascii"):
        return
    wide = ""
    with contextlib.suppress(UnicodeDecodeError), reading_errors(path), open_bytes(path) as file:
        decoder = codecs.getincrementaldecoder("utf-8")()
        while chunk := file.read(_CHUNK):
            wide = wide or _wide_piece(decoder.decode(chunk))
        decoder.decode(b"", final=True)
        if wide:
            read = wide.encode().decode(name, "replace")
            say_once(
                f"{path}: is UTF-8 ({wide!r} there), and is read as {name} ({read!r}) by --encoding; leave that out if it is wrong."
            )


def _wide_piece(text: str) -> str:
    """The first word that is not ASCII alone."""
    found = _WIDE.search(text)
    return "" if found is None else found[0]


def open_bytes(path: Path) -> BinaryIO:
    """The file, unpacked if it is gzip's, whatever its name."""
    return gzip.open(path, "rb") if is_packed(path) else path.open("rb")


def is_packed(path: Path) -> bool:
    """Whether a file is gzip's."""
    with path.open("rb") as file:
        return file.read(2) == _GZIP


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
        if not encoding:
            raise
        raise TableError(_undecodable(path, encoding)) from None
    except UnicodeError as error:
        raise TableError(
            f"{path}: {encoding} can't read it: {error}; name its encoding by --encoding."
        ) from None
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise TableError(f"{path}: gzip cannot unpack it: {error}; fetch it again.") from None
    except FileNotFoundError:
        raise FileNotFoundError(f"{path}: no such file.") from None
    except IsADirectoryError:
        raise TableError(f"{path} is a folder; name a file.") from None


def _undecodable(path: Path, encoding: str) -> str:
    """Where the file stops being of the encoding: bytes are counted from 1."""
    decoder = io.IncrementalNewlineDecoder(codecs.getincrementaldecoder(encoding)(), translate=True)
    line, before, wide = 1, 0, ""
    with open_bytes(path) as file:
        while chunk := file.read(_CHUNK):
            try:
                text = decoder.decode(chunk)
            except UnicodeDecodeError as error:
                return _told(path, encoding, error, line, before - (len(error.object) - len(chunk)), wide)
            wide = wide or _wide_piece(text)
            line += text.count("\n")
            before += len(chunk)
    return f"{path}: not {_shown(encoding)}: it ends in the middle of a character; fetch it again."


def _told(path: Path, encoding: str, error: UnicodeDecodeError, line: int, before: int, wide: str) -> str:
    """The message. `line` and `before` are the line and the number of bytes at which the error's bytes begin."""
    good = error.object[: error.start].decode(encoding, "ignore")
    line += len(io.StringIO(good, newline=None).read().split("\n")) - 1
    begin, end = error.object[: error.start], error.object[error.start :]
    text, guess = _guessed(begin.rpartition(b"\n")[2][-12:] + end.partition(b"\n")[0][:12])
    mend = f": give --encoding {guess} if that reads right, else the right one, or save it as UTF-8"
    if encoding.startswith("utf-8") and (wide := wide or _wide_piece(good)):
        mend = (
            f", but {wide!r} before it is UTF-8, so the file is in two encodings: save it anew as UTF-8 alone"
        )
    return (
        f"{path}: not {_shown(encoding)} at byte {before + error.start + 1:,}, line {line:,}; it looks like {guess} "
        f"({text!r} there){mend}."
    )


def _guessed(piece: bytes) -> tuple[str, str]:
    """(text, encoding)."""
    for guess in _GUESSES:
        with contextlib.suppress(UnicodeDecodeError):
            return piece.decode(guess), guess
    raise AssertionError("latin-1 reads any byte")


def _shown(encoding: str) -> str:
    return encoding.partition("-sig")[0].upper()
