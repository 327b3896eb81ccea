"""Several processes as one run: `jax.distributed`, set up from flags or from what the cluster's environment says.

A run over several hosts is the same command on each of them. Which processes belong together is known, in this order, from
T5X's flags (`--coordinator_address`, `--process_count`, `--process_index`), from the environment (`JAX_COORDINATOR_ADDRESS` and
what XPK, JobSets and Kubeflow set beside it), or from the cluster itself, which JAX asks: SLURM, Open MPI, TPU pods, Kubernetes.
"""

import argparse
import contextlib
import dataclasses
import glob
import importlib.util
import os
import sys
from collections.abc import Iterator, Mapping

from stepdistill_jax.engine.cluster.roll_call import call_the_roll

# Names that launchers give the same thing: T5X's user, JAX's documentation, XPK and MaxText.
_COUNT_NAMES = ("JAX_PROCESS_COUNT", "JAX_NUM_PROCESSES", "NUM_PROCESSES", "NNODES")
_INDEX_NAMES = ("JAX_PROCESS_INDEX", "JAX_PROCESS_ID", "PROCESS_ID", "NODE_RANK", "JOB_COMPLETION_INDEX")
_FLAGS = "--coordinator_address=HOST:PORT --process_count=N --process_index=I"
DEFAULT_TIMEOUT_SECONDS = 300  # jax.distributed's own


@dataclasses.dataclass(frozen=True)
class Processes:
    """The processes of a run, as one of them sees them.

    Attributes:
      coordinator_address: 'host:port' of process 0; None where JAX finds it out from the cluster.
      process_count: how many there are; None where JAX finds it out.
      process_index: which one this is, from 0; None where JAX finds it out.
      source: where this is known from, for messages.
      use_all_devices: whether this process has all devices of its host, not only the one of its place on it.
    """

    coordinator_address: str | None
    process_count: int | None
    process_index: int | None
    source: str
    use_all_devices: bool = True


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Adds T5X's flags for several processes."""
    group = parser.add_argument_group(
        "several hosts",
        "the same command on each; found out by itself under SLURM, Open MPI, GKE and on TPU pods",
    )
    group.add_argument(
        "--multiprocess_gpu",
        nargs="?",
        const=True,
        default=False,
        type=_boolean,
        metavar="BOOL",
        help="several processes must be found, by the flags below or from the cluster; else it is an error",
    )
    group.add_argument("--coordinator_address", default=None, metavar="HOST:PORT", help="of process 0")
    group.add_argument("--process_count", default=None, type=int, metavar="N", help="1 asks no cluster")
    group.add_argument("--process_index", default=None, type=int, metavar="I", help="of this process, from 0")
    group.add_argument(
        "--initialization_timeout",
        default=None,
        type=int,
        metavar="SECONDS",
        help=f"how long to wait for the others (default {DEFAULT_TIMEOUT_SECONDS})",
    )


def _boolean(text: str) -> bool:
    if text.lower() not in ("true", "false", "1", "0"):
        raise argparse.ArgumentTypeError(f"{text!r} is neither true nor false")
    return text.lower() in ("true", "1")


@contextlib.contextmanager
def joined(args: argparse.Namespace, environ: Mapping[str, str] = os.environ) -> Iterator[None]:
    """Within it this process and the others of its run are one; to be entered before any device is touched.

    It is left when all processes have come to its end. A process that fails does not wait: the others notice that it is gone.

    Raises:
      ValueError: if flags or environment say too little, or processes disagree on how many they are.
      TimeoutError: if not all of them come within `initialization_timeout`.
    """
    processes = find_processes(args, environ)
    if processes is None:
        yield
        return
    timeout = DEFAULT_TIMEOUT_SECONDS if args.initialization_timeout is None else args.initialization_timeout
    if timeout < 1:
        raise ValueError(f"--initialization_timeout={timeout} seconds; use 1 or more.")
    _initialize(processes, timeout)
    import jax

    try:
        yield
    except SystemExit:  # a preemption notice ends all processes after the same step
        jax.distributed.shutdown()
        raise
    jax.distributed.shutdown()


def _initialize(processes: Processes, timeout_seconds: int) -> None:
    import jax

    local_device_ids: list[int] | None = None
    if processes.use_all_devices and not os.environ.get("JAX_LOCAL_DEVICE_IDS"):
        # An empty list restricts nothing; for None JAX would take the one device of this process's place on its host.
        local_device_ids = []
    if processes.coordinator_address is not None:
        call_the_roll(
            processes.coordinator_address,
            process_count=processes.process_count,
            process_index=processes.process_index,
            timeout_seconds=timeout_seconds,
        )
    try:
        jax.distributed.initialize(
            coordinator_address=processes.coordinator_address,
            num_processes=processes.process_count,
            process_id=processes.process_index,
            local_device_ids=local_device_ids,
            cluster_detection_method="deactivate" if processes.coordinator_address else None,
            initialization_timeout=timeout_seconds,
        )
    except (RuntimeError, ValueError, OSError) as error:
        raise ValueError(
            f"jax.distributed cannot be set up from {processes.source}: {str(error).splitlines()[0]} Give {_FLAGS}, or "
            "--process_count=1 to run alone."
        ) from error
    if jax.process_index() == 0:
        print(
            f"{jax.process_count()} processes, {jax.device_count()} devices, from {processes.source}",
            file=sys.stderr,
        )


def find_processes(args: argparse.Namespace, environ: Mapping[str, str]) -> Processes | None:
    """The processes that flags, environment or cluster tell of; None for a run of a single one.

    Raises:
      ValueError: if what they tell is not enough, or cannot be.
    """
    if args.process_count == 1 and not args.process_index:
        return None
    flags = (args.coordinator_address, args.process_count, args.process_index)
    if any(value is not None for value in flags):
        return _checked(Processes(*flags, source="the flags"))
    if environ.get("JAX_COORDINATOR_ADDRESS") or environ.get("JAX_COORDINATOR_IP"):
        found = _of_environment(environ)
        if found is not None:
            return found if found.process_count > 1 else None
    found = _of_scheduler(environ) or _of_tpu(environ) or _of_kubernetes(environ)
    if found is None and args.multiprocess_gpu:
        raise ValueError(
            f"--multiprocess_gpu, but nothing says which processes there are; give {_FLAGS}, or start it with srun or mpirun."
        )
    return found


def _checked(processes: Processes) -> Processes:
    """Flags or environment, complete and sound."""
    address, count, index = (
        processes.coordinator_address,
        processes.process_count,
        processes.process_index,
    )
    if address is None or count is None or index is None:
        raise ValueError(
            f"coordinator_address={address}, process_count={count}, process_index={index} by {processes.source}: several "
            f"processes need all three; give {_FLAGS}."
        )
    host, colon, port = address.rpartition(":")
    if not (host and colon and port.isdigit() and 0 < int(port) < 65536):
        raise ValueError(
            f"coordinator_address={address!r} by {processes.source} is not HOST:PORT, such as 10.0.0.1:1234."
        )
    if count < 1 or not 0 <= index < count:
        raise ValueError(
            f"process_index={index} and process_count={count} by {processes.source}: use indices from 0 to "
            f"process_count - 1."
        )
    return processes


def _of_environment(environ: Mapping[str, str]) -> Processes | None:
    """What JAX_COORDINATOR_ADDRESS and the like say; None if only the address is given, which JAX takes into account itself."""
    address = environ.get("JAX_COORDINATOR_ADDRESS") or environ["JAX_COORDINATOR_IP"]
    if ":" not in address and environ.get("JAX_COORDINATOR_PORT"):
        address = f"{address}:{environ['JAX_COORDINATOR_PORT']}"
    count = _number(environ, _COUNT_NAMES)
    if count is None:
        return None
    index = _number(environ, _INDEX_NAMES)
    return _checked(Processes(address, count, index, source="the environment (JAX_COORDINATOR_…)"))


def _number(environ: Mapping[str, str], names: tuple[str, ...]) -> int | None:
    for name in names:
        if text := environ.get(name):
            if not text.isdigit():
                raise ValueError(f"{name}={text!r} in the environment is not a whole number.")
            return int(text)
    return None


def _of_scheduler(environ: Mapping[str, str]) -> Processes | None:
    """SLURM's or Open MPI's tasks; address, count and index are JAX's to read."""
    if "SLURM_JOB_ID" in environ:
        count = int(environ.get("SLURM_STEP_NUM_TASKS") or environ.get("SLURM_NTASKS") or 1)
        if count == 1:
            return None
        if "SLURM_STEP_NODELIST" not in environ:
            raise ValueError(
                f"SLURM gave {count} tasks, but this is none of them: start the command with srun, or give "
                "--process_count=1 to run it alone."
            )
        nodes = int(environ.get("SLURM_STEP_NUM_NODES") or environ.get("SLURM_NNODES") or 1)
        return Processes(
            None, None, None, source="SLURM", use_all_devices=count <= nodes or _sees_one_gpu(environ)
        )
    count = int(environ.get("OMPI_COMM_WORLD_SIZE") or 1)
    if count == 1:
        return None
    on_this_host = int(environ.get("OMPI_COMM_WORLD_LOCAL_SIZE") or 1)
    return Processes(
        None, None, None, source="Open MPI", use_all_devices=on_this_host == 1 or _sees_one_gpu(environ)
    )


def _sees_one_gpu(environ: Mapping[str, str]) -> bool:
    """Whether the scheduler has given this process a GPU of its own already: JAX then knows it as number 0."""
    visible = environ.get("CUDA_VISIBLE_DEVICES", "")
    return bool(visible) and "," not in visible


def _of_tpu(environ: Mapping[str, str]) -> Processes | None:
    """The hosts of a TPU slice, or of several; JAX reads the rest from GKE's environment or the metadata server."""
    if environ.get("JAX_PLATFORMS", "tpu").split(",")[0] != "tpu" or not importlib.util.find_spec("libtpu"):
        return None
    hosts = environ.get("TPU_PROCESS_ADDRESSES") or environ.get("TPU_WORKER_HOSTNAMES") or ""
    slices = int(environ.get("MEGASCALE_NUM_SLICES") or 1)
    if "," in hosts or (hosts and slices > 1):
        return Processes(None, None, None, source="the TPU slice's environment")
    on_a_tpu_vm = bool(glob.glob("/dev/accel*") or glob.glob("/dev/vfio/[0-9]*"))
    if hosts or not on_a_tpu_vm or environ.get("TPU_SKIP_MDS_QUERY"):
        return None
    return Processes(None, None, None, source="the TPU VM's metadata server")


def _of_kubernetes(environ: Mapping[str, str]) -> Processes | None:
    """The pods of an indexed Job or JobSet."""
    if "KUBERNETES_SERVICE_HOST" not in environ or "JOB_COMPLETION_INDEX" not in environ:
        return None
    if importlib.util.find_spec("kubernetes"):
        return Processes(None, None, None, source="Kubernetes")
    if environ["JOB_COMPLETION_INDEX"] == "0":
        return None  # a job of a single pod looks like this
    raise ValueError(
        f"Pod {environ['JOB_COMPLETION_INDEX']} of a Kubernetes job, but nothing says who the others are: set "
        "JAX_COORDINATOR_ADDRESS and JAX_PROCESS_COUNT in its manifest, or pip install 'jax[k8s]'."
    )
