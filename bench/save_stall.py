"""How long a save holds up the training loop, against the copy of the state that it cannot do without.

    python bench/save_stall.py [--megabytes 400] [--saves 5] [--folder DIR]

Prints, of several saves: the time in which `save` came back, that of copying the same arrays on the host, and that after which the
checkpoint was whole on the disk. The first save also makes the folder and Orbax's threads, and is told apart.
"""

import argparse
import statistics
import tempfile
import time

import jax
import jax.numpy as jnp
import numpy as np

from stepdistill_jax.engine.t5x_names import alias

alias.install()

from stepdistill_jax.engine.checkpoint.checkpoint_config import SaveCheckpointConfig
from stepdistill_jax.engine.checkpoint.run_checkpoints import RunCheckpoints, StreamPosition
from stepdistill_jax.engine.optim import optimizers
from stepdistill_jax.engine.optim.train_state import FlaxOptimTrainState

ARRAYS = 16


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--megabytes", type=int, default=400)
    parser.add_argument("--saves", type=int, default=5)
    parser.add_argument("--folder", help="where to save (default: a temporary folder)")
    args = parser.parse_args()
    size = args.megabytes * 10**6 // 4 // ARRAYS
    rng = np.random.default_rng(0)
    params = {f"kernel_{i}": jnp.asarray(rng.standard_normal(size, np.float32)) for i in range(ARRAYS)}
    stalls, copies, wholes = [], [], []
    with tempfile.TemporaryDirectory(dir=args.folder) as folder:
        checkpoints = RunCheckpoints(folder, SaveCheckpointConfig(keep=1))
        checkpoints.open()
        for step in range(args.saves + 1):
            params = jax.block_until_ready(jax.tree.map(lambda kernel: kernel + 1, params))
            copies.append(_seconds(lambda: jax.tree.map(np.array, params)))  # noqa: B023
            state = FlaxOptimTrainState(
                step=jnp.int32(step),
                params=params,
                param_states={},
                params_axes={},
                optimizer_def=optimizers.sgd(),
            )
            begun = time.monotonic()
            stalls.append(_seconds(lambda: checkpoints.save(step, state, StreamPosition(0, step))))  # noqa: B023
            while checkpoints._manager.is_saving_in_progress():
                time.sleep(0.001)
            wholes.append(time.monotonic() - begun)
            checkpoints.check()
        checkpoints.close()
    print(f"{args.megabytes} MB in {ARRAYS} arrays; the first save came back in {stalls[0]:.2f} s")
    for name, times in {
        "save came back": stalls,
        "a copy of it": copies,
        "whole on the disk": wholes,
    }.items():
        rest = sorted(times[1:])
        print(f"{name}: median {statistics.median(rest):.3f} s ({rest[0]:.3f} to {rest[-1]:.3f})")


def _seconds(function) -> float:
    begun = time.monotonic()
    function()
    return time.monotonic() - begun


if __name__ == "__main__":
    main()
