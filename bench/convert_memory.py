"""What memory `stepdistill convert` takes, as a ratio to the largest tensor, for a model of some GB that is made up here.

    python bench/convert_memory.py [--vocab_size 32128] [--emb_dim 2048] [--layers 2] [--folder DIR]

Each conversion runs in a process of its own, which first imports what it needs; printed is how far its peak (resident memory,
pages of mapped files included) lies above that, divided by the bytes of the largest tensor. `import` reads safetensors, `export`
a checkpoint that `convert` wrote, `export of a run` one that Orbax wrote with the settings of a run's.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from stepdistill_jax.engine.t5x_names import alias

alias.install()

from stepdistill_jax.engine.checkpoint import run_checkpoints
from stepdistill_jax.engine.checkpoint.saved_checkpoint import open_checkpoint
from stepdistill_jax.interop import convert_from_huggingface, convert_to_huggingface
from stepdistill_jax.interop.lazy_array import LazyArray
from stepdistill_jax.interop.safetensors_files import Tensor, write_weights
from stepdistill_jax.interop.t5 import parameter_names
from stepdistill_jax.interop.t5.sizes import T5Sizes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--vocab_size", type=int, default=32128)
    parser.add_argument("--emb_dim", type=int, default=2048)
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--folder", help="where to put some times the model (default: a temporary folder)")
    parser.add_argument(
        "--only", nargs=3, metavar=("DIRECTION", "SOURCE", "DESTINATION"), help=argparse.SUPPRESS
    )
    args = parser.parse_args()
    if args.only:
        print(json.dumps(_measured(*args.only)))
        return
    with tempfile.TemporaryDirectory(dir=args.folder) as folder:
        largest = _write_model(Path(folder) / "hf", args)
        steps = {
            "import": ("import", "hf", "checkpoint"),
            "export": ("export", "checkpoint/checkpoint_1000000", "back"),
            "export of a run": ("export", "run/checkpoint_1", "run_back"),
        }
        for name, (direction, source, destination) in steps.items():
            if name == "export of a run":
                _as_a_run_saves(
                    Path(folder) / "checkpoint/checkpoint_1000000", Path(folder) / "run/checkpoint_1"
                )
            command = [
                sys.executable,
                __file__,
                "--only",
                direction,
                f"{folder}/{source}",
                f"{folder}/{destination}",
            ]
            done = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
            above = (done["peak_bytes"] - done["imported_bytes"]) / largest
            print(
                f"{name}: {above:.2f} times the largest tensor ({largest / 1e6:.0f} MB) above the imports "
                f"({done['imported_bytes'] / 1e6:.0f} MB), {done['seconds']:.1f} s",
                flush=True,
            )


def _measured(direction: str, source: str, destination: str) -> dict[str, float]:
    imported_bytes = _status_bytes("VmRSS")
    begun = time.monotonic()
    (convert_from_huggingface if direction == "import" else convert_to_huggingface)(
        Path(source), Path(destination)
    )
    return {
        "imported_bytes": imported_bytes,
        "peak_bytes": _status_bytes("VmHWM"),  # ru_maxrss would count the parent's
        "seconds": time.monotonic() - begun,
    }


def _status_bytes(name: str) -> int:
    [line] = [
        line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(f"{name}:")
    ]
    return int(line.split()[1]) * 1024


def _write_model(folder: Path, args: argparse.Namespace) -> int:
    """A T5 v1.1 of random float32 numbers; returns the bytes of its largest tensor."""
    sizes = T5Sizes(
        vocab_size=args.vocab_size,
        emb_dim=args.emb_dim,
        num_heads=args.emb_dim // 64,
        num_encoder_layers=args.layers,
        num_decoder_layers=args.layers,
        head_dim=64,
        mlp_dim=args.emb_dim * 5 // 2,
        mlp_activations=("gelu", "linear"),
        logits_via_embedding=False,
    )
    rng = np.random.default_rng(0)

    def random(shape: tuple[int, ...]) -> LazyArray:
        def read_rows(start: int, stop: int) -> np.ndarray:
            return rng.standard_normal((stop - start, *shape[1:]), np.float32)

        return LazyArray(shape=shape, dtype=np.dtype(np.float32), read_rows=read_rows)

    tensors = [
        Tensor(
            parameter.huggingface,
            random(parameter.huggingface_shape),
            turned=False,
            dtype=np.dtype(np.float32),
        )
        for parameter in parameter_names.parameters(sizes)
    ]
    folder.mkdir()
    config = {
        "model_type": "t5",
        "feed_forward_proj": "gated-gelu",
        "tie_word_embeddings": False,
        "vocab_size": sizes.vocab_size,
        "d_model": sizes.emb_dim,
        "d_kv": sizes.head_dim,
        "d_ff": sizes.mlp_dim,
        "num_heads": sizes.num_heads,
        "num_layers": sizes.num_encoder_layers,
    }
    (folder / "config.json").write_text(json.dumps(config))
    write_weights(folder, tensors, shard_bytes=2 * 10**9)
    return max(tensor.num_bytes for tensor in tensors)


def _as_a_run_saves(checkpoint: Path, destination: Path) -> None:
    import jax.numpy as jnp
    import orbax.checkpoint as ocp
    from flax import traverse_util

    arrays = {
        f"target/{name}": jnp.asarray(store.read().result())
        for name, store in open_checkpoint(checkpoint).parameters().items()
    }
    state = traverse_util.unflatten_dict({**arrays, "state/step": jnp.int32(1)}, sep="/")
    with ocp.Checkpointer(ocp.PyTreeCheckpointHandler()) as checkpointer:
        checkpointer.save(
            destination / "state",
            args=ocp.args.PyTreeSave(state, save_args=run_checkpoints._save_args(state, "float32")),
        )


if __name__ == "__main__":
    main()
