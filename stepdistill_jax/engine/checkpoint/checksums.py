"""The checksum of every file of a checkpoint, in its own file `checksums.txt`: bits that flip are found before they are used.

    89abcdef 1234 state/_METADATA         CRC-32 in hex, bytes, name
    …
    0123abcd 812 checksums.txt            at the end: of the lines above

CRC-32 finds every flipped bit, and every damage that is 32 bits long or less; any other with a chance of 1 - 2^-32. It is no
protection from people. zlib's needs no package, and is 4 to 8 times as fast as SHA-256 without instructions of its own.
"""

import concurrent.futures
import dataclasses
import os
import time
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path

from stepdistill_jax.base.whole_files import write_atomically
from stepdistill_jax.engine.checkpoint import saved_checkpoint

FILE = "checksums.txt"
_PIECE_BYTES = 4 * 2**20
_MAX_THREADS = 16
_MAX_BUCKET_THREADS = 2  # a file of a bucket is held whole; Orbax's are of 2 GiB at most


@dataclasses.dataclass(frozen=True)
class Sum:
    """CRC-32 and size of a file; of one that is not there, -1 bytes."""

    crc32: int
    num_bytes: int


@dataclasses.dataclass(frozen=True)
class Checked:
    """What a comparison took."""

    num_files: int
    num_bytes: int
    seconds: float

    def __str__(self) -> str:
        return f"{self.num_files} files ({self.num_bytes / 2**20:,.1f} MiB)"


def sums_of(folder: Path, *, without: Mapping[str, Sum] | frozenset[str] = frozenset()) -> dict[str, Sum]:
    """Name -> sum of the files in a local folder, at any depth; `without` those of these names, and without FILE."""
    names = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    return _sums(str(folder), sorted(names - set(without) - {FILE}))


def write(folder: Path, sums: Mapping[str, Sum], *, file: str = FILE) -> None:
    """Writes checksums.txt, or some of it under another name, whole or not at all."""
    lines = "".join(f"{one.crc32:08x} {one.num_bytes} {name}\n" for name, one in sorted(sums.items()))
    above = lines.encode()
    write_atomically(folder / file, f"{lines}{zlib.crc32(above):08x} {len(above)} {FILE}\n")


def read(path: str | os.PathLike[str], *, file: str = FILE) -> dict[str, Sum] | None:
    """Name -> sum as they were saved; None for a checkpoint without, as T5X's and those of earlier versions are.

    Raises:
      ValueError: if checksums.txt is damaged itself.
    """
    found = saved_checkpoint.open_folder(os.fspath(path)).read(file).result()
    if found.state != "value":
        return None
    try:
        *above, last = found.value.split(b"\n")[:-1]
        lines = b"".join(line + b"\n" for line in above)
        if not found.value.endswith(b"\n") or last != f"{zlib.crc32(lines):08x} {len(lines)} {FILE}".encode():
            raise ValueError("its last line is not that of the lines above")
        fields = (line.decode().split(" ", 2) for line in above)
        return {name: Sum(int(crc32, 16), int(num_bytes)) for crc32, num_bytes, name in fields}
    except ValueError as error:
        raise saved_checkpoint.changed(os.fspath(path), [f"{file} ({error})"]) from error


def check(
    path: str | os.PathLike[str], *, below: str = "", share: tuple[int, int] = (0, 1)
) -> Checked | None:
    """Compares a checkpoint's files with its checksums; None if it has none.

    All files are compared, those of the optimizer too where only parameters are wanted: a file holds parts of many arrays.
    What was put there later, such as PINNED, is nobody's.

    Args:
      path: a checkpoint's folder, local or of a bucket.
      below: only files whose names begin so.
      share: (i, n) compares every n-th file, of those from large to small, from the i-th on.

    Raises:
      ValueError: names every file that is missing or not what was saved.
    """
    begin = time.monotonic()
    folder = saved_checkpoint.folder_of(path)
    saved = read(folder)
    if saved is None:
        return None
    names = sorted(
        (name for name in saved if name.startswith(below)), key=lambda name: -saved[name].num_bytes
    )
    found = _sums(folder, names[share[0] :: share[1]])
    if problems := [_problem(name, saved[name], found[name]) for name in found if saved[name] != found[name]]:
        raise saved_checkpoint.changed(folder, problems)
    return Checked(len(found), sum(one.num_bytes for one in found.values()), time.monotonic() - begin)


def check_and_tell(
    path: str | os.PathLike[str], *, verify: bool = True, share: tuple[int, int] = (0, 1)
) -> str:
    """`check`, unless it is not to be; what is to be said of it, behind the checkpoint's name."""
    if not verify:
        return "its files were not compared with its checksums this time"
    checked = check(path, share=share)
    if checked is None:
        return "it has no checksums, as T5X's and those of earlier versions have none: nothing was compared"
    by_whom = f" by the first of {share[1]} hosts" if share[1] > 1 else ""
    return f"comparing {checked} with its checksums took {checked.seconds:.1f} s{by_whom}"


def _problem(name: str, saved: Sum, found: Sum) -> str:
    if found.num_bytes < 0:
        return f"{name} (missing)"
    if found.num_bytes != saved.num_bytes:
        return f"{name} ({found.num_bytes} bytes, not {saved.num_bytes})"
    return f"{name} (CRC-32 {found.crc32:08x}, not {saved.crc32:08x})"


def _sums(folder: str, names: list[str]) -> dict[str, Sum]:
    in_bucket = saved_checkpoint.is_bucket(folder)
    sum_of = _sum_in_bucket if in_bucket else _sum_of_file
    threads = _MAX_BUCKET_THREADS if in_bucket else min(_MAX_THREADS, os.cpu_count() or 1)
    with concurrent.futures.ThreadPoolExecutor(threads, thread_name_prefix="checksums") as pool:
        return dict(zip(names, pool.map(lambda name: sum_of(folder, name), names), strict=True))


def _sum_of_file(folder: str, name: str) -> Sum:
    crc32, num_bytes = 0, 0
    try:
        for piece in _pieces(os.path.join(folder, name)):
            crc32, num_bytes = zlib.crc32(piece, crc32), num_bytes + len(piece)
    except FileNotFoundError:
        return Sum(0, -1)
    return Sum(crc32, num_bytes)


def _pieces(path: str) -> Iterator[memoryview]:
    buffer = memoryview(bytearray(_PIECE_BYTES))
    with open(path, "rb", buffering=0) as file:
        while size := file.readinto(buffer):
            yield buffer[:size]


def _sum_in_bucket(folder: str, name: str) -> Sum:
    found = saved_checkpoint.open_folder(folder).read(name).result()
    return Sum(zlib.crc32(found.value), len(found.value)) if found.state == "value" else Sum(0, -1)
