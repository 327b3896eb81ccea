"""What checksums cost: a save and a restore with and without them, in turns, and how fast they are made.

    python bench/checksum_cost.py [--megabytes 400] [--rounds 5] [--folder DIR]

Of saves: the time in which `save` came back, which holds up training, and that after which the checkpoint had its name. Of
restores: onto one device, with the files in the page cache and, as far as the system lets go of them, without. Every figure is
a median with its range; a ratio is the median of the rounds' own ratios, as both sides of a round see the same machine.
"""

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp

from stepdistill_jax.engine.checkpoint import checksums, run_checkpoints, saved_checkpoint
from stepdistill_jax.engine.checkpoint.checkpoint_config import SaveCheckpointConfig
from stepdistill_jax.engine.checkpoint.run_checkpoints import RunCheckpoints, StreamPosition
from stepdistill_jax.engine.checkpoint.state_restoring import read_onto_mesh
from stepdistill_jax.engine.optim import optimizers
from stepdistill_jax.engine.optim.train_state import FlaxOptimTrainState

ARRAYS = 16
# Orbax's own, in the place of ours.
WITHOUT = {
    "SummedPath": ocp.path.atomicity.AtomicRenameTemporaryPath,
    "SummedPyTreeHandler": ocp.PyTreeCheckpointHandler,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--megabytes", type=int, default=400)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--folder", help="where to save (default: a temporary folder)")
    args = parser.parse_args()
    size = args.megabytes * 10**6 // 4 // ARRAYS
    random_state = np.random.default_rng(0)
    params = {
        f"kernel_{i}": jnp.asarray(random_state.standard_normal(size, np.float32)) for i in range(ARRAYS)
    }
    print(f"{args.megabytes} MB in {ARRAYS} arrays, {args.rounds} rounds, {os.cpu_count()} cores")
    with tempfile.TemporaryDirectory(dir=args.folder) as folder:
        checkpoint = _measure_saves(params, Path(folder), args.rounds)
        checked = checksums.check(checkpoint)
        print(f"{checked}: summed up at {checked.num_bytes / 1e6 / checked.seconds:,.0f} MB/s")
        _measure_restores(checkpoint, args.rounds, cold=False)
        _measure_restores(checkpoint, args.rounds, cold=True)


def _measure_saves(params: dict[str, jax.Array], folder: Path, rounds: int) -> Path:
    """Prints the times of saves; returns the last checkpoint with checksums."""
    came_back, whole = {"with": [], "without": []}, {"with": [], "without": []}
    for round_number in range(rounds + 1):
        for name, replaced in (("without", WITHOUT), ("with", {})):
            with mock.patch.multiple(run_checkpoints, **replaced) if replaced else mock.patch.dict({}):
                checkpoints = RunCheckpoints(folder / name, SaveCheckpointConfig(keep=1))
                checkpoints.open()
                state = FlaxOptimTrainState(
                    step=jnp.int32(round_number),
                    params=params,
                    param_states={},
                    params_axes={},
                    optimizer_def=optimizers.sgd(),
                )
                begun = time.monotonic()
                checkpoints.save(round_number, state, StreamPosition(0, round_number))
                back = time.monotonic() - begun
                checkpoints.close()
                if round_number:  # the first makes threads and folders
                    came_back[name].append(back)
                    whole[name].append(time.monotonic() - begun)
    _tell("save came back", came_back)
    _tell("whole on the disk", whole)
    return folder / "with" / f"checkpoint_{rounds}"


def _measure_restores(checkpoint: Path, rounds: int, *, cold: bool) -> None:
    times = {"with": [], "without": []}
    for _ in range(rounds):
        for name in times:
            if cold:
                _forget(checkpoint)
            times[name].append(_seconds(lambda: _restore(checkpoint, verify=name == "with")))  # noqa: B023
    _tell(f"restore, {'not in the page cache' if cold else 'in the page cache'}", times)


def _restore(checkpoint: Path, *, verify: bool) -> None:
    if verify:
        checksums.check(checkpoint)
    arrays = saved_checkpoint.open_checkpoint(checkpoint).arrays()
    device = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    wanted = {
        name: jax.ShapeDtypeStruct(array.shape, array.dtype.numpy_dtype, sharding=device)
        for name, array in arrays.items()
    }
    jax.block_until_ready(read_onto_mesh(arrays, wanted, path=str(checkpoint)))


def _forget(checkpoint: Path) -> None:
    """Lets the system's cache of the files go, as far as it does so."""
    for path in _files(checkpoint):
        with path.open("rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def _files(folder: Path) -> Iterator[Path]:
    return (path for path in folder.rglob("*") if path.is_file())


def _seconds(function: Callable[[], None]) -> float:
    begun = time.monotonic()
    function()
    return time.monotonic() - begun


def _tell(what: str, times: dict[str, list[float]]) -> None:
    ratios = sorted(a / b for a, b in zip(times["with"], times["without"], strict=True))
    sides = ", ".join(
        f"{name} {statistics.median(of):.2f} s ({min(of):.2f} to {max(of):.2f})" for name, of in times.items()
    )
    print(f"{what}: {sides}; ratio {statistics.median(ratios):.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})")


if __name__ == "__main__":
    main()
