"""Orbax's saves with checksums, made behind the run's back: each host's of what it writes, then a list before the name.

Orbax writes into a folder of another name. Once a host's arrays are there, it sums them up and leaves its list beside them.
When all hosts have come so far, the first one adds the rest, such as metadata; then the folder gets its name. Only what
Orbax notes while it does that, the time, is added afterwards.
"""

import functools
import re
from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp

from stepdistill_jax.engine.checkpoint import checksums

_PART = "checksums.process_{}.txt"


class SummedPyTreeHandler(ocp.PyTreeCheckpointHandler):
    """Saves arrays; a host's part of them is done once its checksums are."""

    @classmethod
    def typestr(cls) -> str:
        """As Orbax notes it for who restores: in the files nothing differs."""
        return ocp.PyTreeCheckpointHandler.typestr()

    async def async_save(self, directory: Any, *args: Any, **kwargs: Any) -> list[ocp.future.Future]:
        futures = await super().async_save(directory, *args, **kwargs)
        return [ocp.future.ChainedFuture(futures or [], functools.partial(_write_part, directory))]


def _write_part(directory: Any) -> None:
    """The checksums of the arrays that this host has written."""
    folder, process = Path(directory), jax.process_index()
    arrays = folder / f"ocdbt.process_{process}"
    if arrays.is_dir():
        sums = {f"{arrays.name}/{name}": one for name, one in checksums.sums_of(arrays).items()}
        checksums.write(folder, sums, file=_PART.format(process))


class SummedPath(ocp.path.atomicity.AtomicRenameTemporaryPath):
    """A checkpoint's folder under its first name; `finalize`, on the first host, gives it the last."""

    async def finalize(self, *args: Any, **kwargs: Any) -> None:
        final = Path(self.get_final())
        if re.fullmatch(r"checkpoint_\d+", final.name) is None:  # an item within it
            return await super().finalize(*args, **kwargs)
        folder = Path(self.get())
        sums = _take_parts(folder)
        noted_last = frozenset(("_CHECKPOINT_METADATA", "commit_success.txt"))
        sums |= checksums.sums_of(folder, without=noted_last | sums.keys())
        checksums.write(folder, sums)
        await super().finalize(*args, **kwargs)
        checksums.write(final, sums | checksums.sums_of(final, without=sums))


def _take_parts(folder: Path) -> dict[str, checksums.Sum]:
    """What the hosts have summed up; their lists are deleted."""
    sums = {}
    for part in sorted(folder.glob(f"*/{_PART.format('*')}")):
        of_host = checksums.read(part.parent, file=part.name) or {}
        sums |= {f"{part.parent.name}/{name}": one for name, one in of_host.items()}
        part.unlink()
    return sums
