"""A folder has one owner at a time: a lock file that names its owner's host, process and start.

On shared disks too, so nothing is asked of the kernel's own locks, which many of these keep for one host alone:

- The file appears whole under a name that is not there yet (a hard link, else O_EXCL): one of many starters gets it.
- Its owner touches it every BEAT_SECONDS. The disk's own clock is read, so hosts' clocks may differ.
- A dead owner's lock is taken over. On the owner's machine its process is looked for, by number and start time, so a
  number that is used again deceives nobody. Elsewhere (another host, another boot, another container) the lock has to go
  without a touch for STALE_SECONDS; a starter waits for that, and is refused at the first touch that it sees.
- An owner whose file is another's, or gone, ends at its next `check`: it was asleep for too long, or somebody deleted it.
"""

import contextlib
import dataclasses
import datetime
import errno
import fcntl
import json
import os
import platform
import subprocess
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

from stepdistill_jax.base.messages import say_once

BEAT_SECONDS = 15.0
STALE_SECONDS = 180.0
EXIT_STATUS = 73  # EX_CANTCREAT of sysexits.h: the output belongs to somebody else
_POLL_SECONDS = 0.5


class FolderInUse(ValueError):
    """Another process owns the folder; `exit_status` is a command's that gives way to it."""

    exit_status = EXIT_STATUS


@dataclasses.dataclass(frozen=True)
class Owner:
    """What a lock file says.

    Attributes:
      token: of this one owner.
      machine: boot and process namespace: where `process` is a process's number.
      started: when the process started, as its system counts; '' if that is hidden.
      since: when it took the lock, ISO 8601.
    """

    token: str
    host: str
    machine: str
    process: int
    started: str
    since: str

    def runs_here(self) -> bool | None:
        """Whether its process is still there; None where that can't be seen from here."""
        if self.machine != _machine():
            return None
        started = _start_of(self.process)
        return started is not None and (started == self.started or not (started and self.started))


class FolderLock:
    """The lock of one folder, for one owner. Reading what the folder holds needs none."""

    def __init__(self, path: Path, what: str) -> None:
        """Takes nothing yet.

        Args:
          path: of the lock file; inside the folder, or beside one that is replaced whole.
          what: the folder, as messages name it.
        """
        self._path, self._what = path, what
        self._owner: Owner | None = None
        self._first_seen: tuple[str, float] | None = None
        self._lost = ""
        self._made_folder = False
        self._end = threading.Event()

    @contextlib.contextmanager
    def held(self, *, patience_seconds: float = 0.0) -> Iterator["FolderLock"]:
        """Within it this process is the owner.

        Args:
          patience_seconds: how long to wait for a living owner to end.

        Raises:
          FolderInUse: says who is.
          OSError: if the lock can't be written.
        """
        deadline = time.monotonic() + patience_seconds
        while True:
            try:
                waits_for = self.attempt()
            except FolderInUse:
                if time.monotonic() >= deadline:
                    raise
            else:
                if waits_for is None:
                    break
                say_once(waits_for)
            time.sleep(_POLL_SECONDS)
        try:
            yield self
        finally:
            self.release()

    def attempt(self) -> str | None:
        """Takes the lock and returns None; or says what it waits for, as nobody can tell yet whether the owner lives.

        Raises:
          FolderInUse: if the owner lives.
        """
        if not self._path.parent.exists():
            self._made_folder = True
            self._path.parent.mkdir(parents=True, exist_ok=True)
        while not self._create():
            try:
                status, owner = os.stat(self._path), _read(self._path)
            except FileNotFoundError:
                continue  # let go this moment
            runs_here = owner.runs_here() if owner is not None else None
            silent = self._disk_time() - status.st_mtime
            if runs_here is None and silent < STALE_SECONDS:
                seen = (owner.token if owner else "", status.st_mtime)
                self._first_seen = self._first_seen or seen
                if seen == self._first_seen:
                    return (
                        f"{self._said_of(owner)}. Whether it lives can't be seen from here: waiting for a sign of it; after "
                        f"{STALE_SECONDS:.0f} s without one its lock is taken over."
                    )
                runs_here = True
            if runs_here:
                raise FolderInUse(
                    f"{self._said_of(owner)}. Wait for its end or stop it; or name another folder."
                )
            self._remove(owner)
        threading.Thread(target=self._beat, daemon=True).start()
        return None

    def check(self) -> None:
        """Raises FolderInUse if the lock is not this owner's any more. Takes no time."""
        if self._lost:
            raise FolderInUse(self._lost)

    def release(self) -> None:
        """Lets the folder go, if it is this owner's; one that was made for the lock and is empty goes, too."""
        self._end.set()
        with contextlib.suppress(OSError):
            if self._owner is not None and _read(self._path) == self._owner:
                self._path.unlink()
                if self._made_folder:
                    self._path.parent.rmdir()

    def _create(self) -> bool:
        """Whether the file was not there, and is now this owner's."""
        self._owner = Owner(
            token=uuid.uuid4().hex,
            host=platform.node(),
            machine=_machine(),
            process=os.getpid(),
            started=_start_of(os.getpid()) or "",
            since=datetime.datetime.now().astimezone().isoformat(timespec="seconds"),
        )
        text = json.dumps(dataclasses.asdict(self._owner)) + "\n"
        whole = self._path.with_name(f".{self._path.name}.{self._owner.token}.tmp")
        try:
            whole.write_text(text, encoding="utf-8")
            try:
                os.link(whole, self._path)
            except FileExistsError:
                return False
            except OSError as error:  # a disk without hard links
                if error.errno not in (
                    errno.EPERM,
                    errno.ENOTSUP,
                    errno.EOPNOTSUPP,
                    errno.ENOSYS,
                    errno.EMLINK,
                ):
                    raise
                return _create_exclusively(self._path, text)
        finally:
            whole.unlink(missing_ok=True)
        return True

    def _remove(self, dead: Owner | None) -> None:
        """Deletes a dead owner's lock, unless another starter has done so; the kernel's lock keeps two from it at once."""
        with contextlib.suppress(FileNotFoundError), self._path.open("r+b") as file:
            with contextlib.suppress(OSError):  # a disk without such locks: `check` is what is left
                fcntl.flock(file, fcntl.LOCK_EX)
            if _read(self._path) == dead:
                self._path.unlink()

    def _beat(self) -> None:
        while not self._end.wait(BEAT_SECONDS):
            try:
                now = _read(self._path)
                if now == self._owner:
                    os.utime(self._path)
                    continue
                self._lost = f"{self._said_of(now)}, so this process stops: it gave no sign for too long."
            except FileNotFoundError:
                if self._end.is_set():
                    return
                self._lost = f"{self._what} is no longer this process's, so it stops: {self._path} is gone."
            except OSError:
                continue  # a disk that is out of reach for a while
            return

    def _disk_time(self) -> float:
        """The disk's clock: when it says that a file of this moment was written."""
        probe = self._path.with_name(f".{self._path.name}.{uuid.uuid4().hex}.tmp")
        try:
            probe.touch()
            return probe.stat().st_mtime
        finally:
            probe.unlink(missing_ok=True)

    def _said_of(self, owner: Owner | None) -> str:
        if owner is None:
            return f"{self._what} is in use: {self._path} is there, and does not say by whom"
        return f"{self._what} is in use: process {owner.process} on {owner.host} is at work on it since {owner.since}"


def lock_beside(folder: Path, what: str) -> FolderLock:
    """The lock of a folder that is replaced whole: `.<its name>.owner.json`, beside it."""
    return FolderLock(folder.with_name(f".{folder.name}.owner.json"), what)


def _create_exclusively(path: Path, text: str) -> bool:
    try:
        with path.open("x", encoding="utf-8") as file:
            try:
                file.write(text)
                file.flush()
            except OSError:
                path.unlink()
                raise
    except FileExistsError:
        return False
    return True


def _read(path: Path) -> Owner | None:
    """What the file says; None if it is none of ours, or not written to its end yet."""
    try:
        return Owner(**json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, TypeError):
        return None


def _machine() -> str:
    """This boot of this machine, and its processes' namespace: containers count their own."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return f"{platform.node()} {uuid.getnode():x}"  # a system without /proc, such as macOS


def _start_of(process: int) -> str | None:
    """When a process of this machine started; None if there is none, or only what its parent has not yet asked about."""
    try:
        # The name, in brackets, may hold anything; state and start are the 3rd and 22nd field of proc(5).
        fields = (
            Path(f"/proc/{process}/stat")
            .read_text(encoding="utf-8", errors="replace")
            .rpartition(")")[2]
            .split()
        )
        return None if fields[0] in "ZX" else fields[19]
    except OSError:
        pass
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return None
    except PermissionError:
        return ""
    if Path("/proc/self/stat").exists():
        return ""  # hidden from other users
    said = subprocess.run(
        ["ps", "-o", "lstart=", "-p", str(process)], capture_output=True, text=True, check=False
    )
    return said.stdout.strip()
