"""What a run has found out about its step, in its folder: RUN/fitted_step.json, and what that depends on.

It depends on the step (network, optimizer, state, batch, how they are split), the devices and their memory, the versions, XLA's flags.
"""

import contextlib
import hashlib
import importlib.metadata
import json
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import jaxlib

from stepdistill_jax.base.messages import say_once
from stepdistill_jax.base.version import __version__
from stepdistill_jax.base.whole_files import write_atomically
from stepdistill_jax.engine.hardware.step_memory import DeviceMemory
from stepdistill_jax.engine.model import base_model
from stepdistill_jax.engine.optim.train_state import FlaxOptimTrainState
from stepdistill_jax.engine.partition.partitioning import PjitPartitioner

FILE = "fitted_step.json"
_ADDRESS = re.compile(r"0x[0-9a-f]+")


def facts(
    state: FlaxOptimTrainState,
    batch: Mapping[str, jax.ShapeDtypeStruct],
    model: base_model.BaseModel,
    partitioner: PjitPartitioner,
    memory: DeviceMemory,
    num_microbatches: int | str | None,
) -> dict[str, Any]:
    """What a plan depends on, as JSON has it; of the same step the same in every process and at every start."""
    arrays = [
        (jax.tree_util.keystr(path), leaf.shape, str(leaf.dtype), str(leaf.sharding.spec))
        for path, leaf in jax.tree_util.tree_flatten_with_path(state)[0]
    ]
    optimizer = model.optimizer_def
    network = getattr(model, "module", None)
    rules = partitioner.logical_axis_rules
    step = repr((type(model), network, type(optimizer), optimizer.hyper_params, rules, arrays))
    return {
        "step": hashlib.sha256(_ADDRESS.sub("0x", step).encode()).hexdigest(),
        "batch": {name: list(leaf.shape) for name, leaf in batch.items()},
        "num_microbatches": num_microbatches,  # that were asked for
        "mesh": dict(partitioner.mesh.shape),
        "device": memory.device,
        "device_bytes": memory.lasting_bytes,
        "versions": {
            "stepdistill-jax": __version__,
            "jax": jax.__version__,
            "jaxlib": jaxlib.__version__,
            **_compilers(),
        },
        "xla_flags": os.environ.get("XLA_FLAGS", ""),
    }


def _compilers() -> dict[str, str]:
    """Of GPUs and TPUs: their packages' versions, of those that are installed."""
    names = ("jax-cuda13-plugin", "jax-cuda12-plugin", "jax-rocm7-plugin", "libtpu")
    installed = {}
    for name in names:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            installed[name] = importlib.metadata.version(name)
    return installed


def read(folder: Path, facts: Mapping[str, Any], check: Callable[[Any], None]) -> Any | None:
    """The plan that a run's file has for the same facts, as JSON has it; None where it has none.

    A file that can't be read is said to be damaged.

    Args:
      check: raises ValueError, KeyError or TypeError for a plan that is none.
    """
    path = folder / FILE
    if not path.exists():
        return None
    try:
        saved = json.loads(path.read_text(encoding="utf-8"))
        plan = saved["plan"]
        if saved["depends_on"] != facts:
            return None
        check(plan)
        return plan
    except (ValueError, KeyError, TypeError) as error:
        say_once(f"{path} is damaged ({type(error).__name__}: {error}); the plan of the step is found anew.")
        return None


def write(folder: Path, facts: Mapping[str, Any], plan: Any) -> None:
    """Remembers a plan, as JSON has it."""
    write_atomically(folder / FILE, json.dumps({"plan": plan, "depends_on": facts}, indent=2) + "\n")
