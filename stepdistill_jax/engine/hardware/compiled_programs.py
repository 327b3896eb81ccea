"""Programs that are compiled once: JAX's persistent compilation cache, on by default.

A program's key, JAX's, holds the program itself, the versions of jaxlib and of the device's runtime, the kind of device and XLA's
flags. JAX writes an entry in place and reads it through its checksum: one that is cut short is compiled again, with a warning, at
every start, as JAX replaces no file that is there. So these are taken away here, and so is what was used longest ago.
"""

import hashlib
import os
import platform
import re
import stat
import time
import zlib
from pathlib import Path

import jax

from stepdistill_jax.base.locations import compiled_dir
from stepdistill_jax.base.messages import say_once

MOST_BYTES = 4 * 2**30
_FEWEST_SECONDS = 0.3  # of compilation; reading what took less is hardly faster
_SETTLED_SECONDS = 60.0  # an entry that is younger may still be being written
_CHECKED = ".checked"  # its time: entries up to then were looked at


def keep_compiled_programs() -> None:
    """Has JAX keep what it compiles from here on, and read what it kept; devices have to be open.

    JAX's own settings come first: a place (JAX_COMPILATION_CACHE_DIR), or no cache (JAX_ENABLE_COMPILATION_CACHE=false). A folder that
    cannot be written to, or that others can write to, is not used, and one line says so. Of several processes JAX has only the first
    write, and on GPUs they try kernels together: those that found nothing in homes of their own would wait for one that did. So several
    processes have a cache only where JAX_COMPILATION_CACHE_DIR names a folder that all of them see.
    """
    config = jax.config
    if not config.jax_enable_compilation_cache or config.jax_compilation_cache_dir is not None:
        return
    if jax.process_count() > 1:
        return
    try:
        base = compiled_dir()
        if base is None:
            return
        folder = _private_folder(base) / _cpu_name()
        folder.mkdir(exist_ok=True)
        tidy(folder)
    except (OSError, RuntimeError) as error:  # RuntimeError: of a user without a home
        say_once(
            f"Compiled programs are not kept: {error}. Set JAX_COMPILATION_CACHE_DIR to a folder of your own, or "
            "JAX_ENABLE_COMPILATION_CACHE=false."
        )
        return
    config.update("jax_compilation_cache_dir", str(folder))
    if "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS" not in os.environ:
        config.update("jax_persistent_cache_min_compile_time_secs", _FEWEST_SECONDS)


def _private_folder(folder: Path) -> Path:
    """The folder, made where it is not there: what lies in it is run, so nobody else may write to it."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    folder.mkdir(mode=0o700, exist_ok=True)
    status = folder.stat()
    if status.st_uid != os.geteuid() or status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise PermissionError(f"others may write to {folder}, and what lies there is run")
    return folder


def _cpu_name() -> str:
    """The kind of this machine's CPU: a home on a shared disk serves several, and code for one may not run on another."""
    described = [platform.machine(), platform.processor()]
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        # x86: model name, flags; Arm: CPU part, Features.
        found = re.findall(
            r"^(?:model name|flags|CPU part|Features)\s*:.*$", cpuinfo.read_text(), re.MULTILINE
        )
        described += sorted(set(found))
    return f"{platform.machine()}-{hashlib.sha256(chr(10).join(described).encode()).hexdigest()[:8]}"


def tidy(folder: Path, *, most_bytes: int = MOST_BYTES) -> None:
    """Removes entries that are not whole, of those that came since the last time, and the ones used longest ago beyond `most_bytes`.

    Raises:
      OSError: if the folder cannot be written to.
    """
    checked = folder / _CHECKED
    settled = time.time() - _SETTLED_SECONDS
    since = checked.stat().st_mtime if checked.exists() else 0.0
    checked.touch()
    os.utime(checked, (settled, settled))
    entries = []
    for entry in folder.glob("*-cache"):
        try:
            status = entry.stat()
            if since <= status.st_mtime < settled and not _is_whole(entry):
                entry.unlink()
                continue
        except FileNotFoundError:  # another process tidies up, too
            continue
        entries.append((max(status.st_atime, status.st_mtime), status.st_size, entry))
    num_bytes = sum(size for _, size, _ in entries)
    for _, size, entry in sorted(entries):
        if num_bytes <= most_bytes:
            break
        entry.unlink(missing_ok=True)
        num_bytes -= size


def _is_whole(entry: Path) -> bool:
    """Whether a compressed entry is complete. JAX takes zstandard in zlib's place where that is installed: it is not looked at."""
    data = entry.read_bytes()
    if data[:1] not in (b"", b"\x78"):
        return True
    try:
        zlib.decompress(data)
    except zlib.error:
        return False
    return True
