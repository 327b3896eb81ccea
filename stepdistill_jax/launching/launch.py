"""What a launcher does: take T5X's flags, make `t5x` mean the engine, read gin, run."""

import argparse
import contextlib
import functools
import importlib
import os
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from stepdistill_jax.base.environment import set_for_a_while
from stepdistill_jax.base.messages import INTERRUPTED, unexpected
from stepdistill_jax.base.visible import visible_line
from stepdistill_jax.engine.cluster import distributed
from stepdistill_jax.engine.config.gin_flags import OneLineParser, rewrite_gin_args
from stepdistill_jax.engine.hardware.present_devices import check_devices
from stepdistill_jax.engine.t5x_names import alias
from stepdistill_jax.launching import task_modules
from stepdistill_jax.launching.flags import add_script_flags

# Script -> the function that its gin files bind as `<script>_script.<function>`.
ENTRY_POINTS = {"train": "train", "eval": "evaluate", "infer": "infer", "precompile": "precompile"}
# Macros that a run's files ask for and `precompile` can do without.
NOT_FOR_PRECOMPILE = ("MODEL_DIR", "INITIAL_CHECKPOINT_PATH")


def run_script(script: str, args: argparse.Namespace) -> object:
    """Runs train, eval, infer or precompile as the flags say.

    Raises:
      ValueError: one line, for a configuration that cannot be read or run.
    """
    topology = _open_topology(args) if script == "precompile" else None
    read_config(
        args.gin_file,
        args.gin_bindings,
        gin_search_paths=args.gin_search_paths.split(","),
        data_dir=args.tfds_data_dir,
        may_be_none=NOT_FOR_PRECOMPILE if script == "precompile" else (),
        needs_seqio=script != "precompile",
    )
    import gin

    if args.dry_run:
        print(gin.config_str())
        return None
    if topology is None and script == "precompile":
        check_devices(keep_programs=False)  # its report is of a compilation
    if script == "precompile":
        return _precompile(topology)
    with distributed.joined(args):
        check_devices()
        return configured(_entry_point(script), **_hooks(script))


def _open_topology(args: argparse.Namespace) -> Any:
    """The hardware that --topology names, before JAX opens a device; None without the flag."""
    from stepdistill_jax.engine.hardware import topologies

    if args.topology is None:
        return None
    topology = topologies.parse_topology(args.topology)
    topologies.prepare_process(topology)
    return topology


def _precompile(topology: Any) -> object:
    """Runs `precompile` as its own gin files bind it (T5X's way), or with what a run's files bind of `train`."""
    import gin

    from stepdistill_jax.engine import precompile

    function = functools.partial(_entry_point("precompile"), topology=topology)
    if "model" in gin.get_bindings("__main__.precompile", resolve_references=False):
        return configured(function)
    return configured(lambda: function(**precompile.bindings_of_train(gin)))


def call(
    script: str,
    gin_files: Sequence[str],
    gin_bindings: Sequence[str],
    *,
    data_dir: str | os.PathLike[str] | None = None,
) -> Any:
    """Runs train, eval or infer with these gin files and bindings; may be called again with others."""
    with set_for_a_while(STEPDISTILL_DATA_DIR=data_dir):
        read_config(gin_files, gin_bindings)
        check_devices()
        return configured(_entry_point(script), **_hooks(script))


def _hooks(script: str) -> dict[str, Callable[..., None]]:
    """What the engine's entry functions call, and knows nothing of."""
    if script != "train":
        return {}
    from stepdistill_jax.launching import whole_runs

    return {"describe_fn": whole_runs.describe}


def configured(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Calls a function that gin configures; a wrong setting is an error of one line."""
    from stepdistill_jax.engine.config import gin_errors

    with gin_errors.one_line_errors():
        return function(*args, **kwargs)


def read_config(
    gin_files: Sequence[str],
    gin_bindings: Sequence[str],
    *,
    gin_search_paths: Sequence[str] = (".",),
    data_dir: str | os.PathLike[str] | None = None,
    may_be_none: Sequence[str] = (),
    needs_seqio: bool = True,
    left_out: Sequence[str] = (),
) -> None:
    """Makes `t5x` mean the engine, and reads a configuration in place of any that was read before.

    Args:
      may_be_none: macros that may stay without a value though a file says that they are required.
      needs_seqio: False for what opens no data: SeqIO, and TensorFlow with it, are then imported only where the files
        ask more of SeqIO than its evaluator.
      left_out: without SeqIO, further modules whose bindings are not read, such as '__main__'.

    Raises:
      ValueError: one line that says what is wrong, and where.
    """
    alias.install()
    if data_dir is not None:
        os.environ["STEPDISTILL_DATA_DIR"] = str(data_dir)
    from absl import logging as absl_logging

    from stepdistill_jax.engine.config import gin_utils
    from stepdistill_jax.engine.config.without_seqio import NeedsSeqIO, write_without_seqio

    # SeqIO and Orbax warn of things that are as they should be.
    absl_logging.set_verbosity(absl_logging.ERROR)
    folders = [*gin_search_paths, *gin_utils.default_search_paths(), *_clones_of(gin_files)]
    read = functools.partial(_parse, folders=folders, bindings=gin_bindings, may_be_none=may_be_none)
    if needs_seqio or "seqio" in sys.modules:
        _import_seqio(data_dir)
        read(gin_files, scripts=ENTRY_POINTS)
        return
    with tempfile.TemporaryDirectory() as copies:
        try:
            files = write_without_seqio(gin_files, folders, Path(copies), left_out=left_out)
            task_modules.load_descriptions()
            read(files, scripts=() if "__main__" in left_out else ("train", "precompile"))
        except (NeedsSeqIO, OSError, ValueError, SyntaxError, ImportError):
            # Whatever is wrong is said of the files themselves.
            _import_seqio(data_dir)
            read(gin_files, scripts=ENTRY_POINTS)


def _import_seqio(data_dir: str | os.PathLike[str] | None) -> None:
    """SeqIO with all tasks that there are."""
    from stepdistill_jax.base import quiet

    quiet.import_tensorflow()
    import seqio

    if data_dir is not None:
        seqio.set_tfds_data_dir_override(str(data_dir))
    task_modules.load_tasks()


def _parse(
    gin_files: Sequence[str],
    *,
    folders: Sequence[str],
    bindings: Sequence[str],
    may_be_none: Sequence[str],
    scripts: Iterable[str],
) -> None:
    import gin

    from stepdistill_jax.engine.config import gin_utils

    _register_vocabularies()
    gin.clear_config()
    with _entry_points_in_main(scripts):
        gin_utils.parse_gin_flags(folders, gin_files, bindings, may_be_none=may_be_none)


@functools.cache
def _register_vocabularies() -> None:
    """Lets a binding of the command line name a vocabulary that no gin file of the run names."""
    import gin

    from stepdistill_jax import datasets

    for vocabulary in (datasets.vocabulary, datasets.embedded_vocabulary):
        gin.external_configurable(vocabulary, module="stepdistill_jax.datasets")


def _clones_of(gin_files: Sequence[str]) -> list[str]:
    """The T5X clones that gin files lie in: what a file of theirs includes and we have not is found there."""
    parents = [folder for file in gin_files for folder in Path(file).resolve().parents]
    return [str(folder) for folder in dict.fromkeys(parents) if (folder / "t5x" / "configs").is_dir()]


@functools.cache
def _entry_point(script: str) -> Callable[[], Any]:
    """The entry function of a script, as gin configures it."""
    return _configurable_of_main(script, ENTRY_POINTS[script])


@functools.cache
def _configurable_of_main(script: str, name: str) -> Callable[..., Any]:
    import gin

    function = getattr(importlib.import_module(f"stepdistill_jax.engine.{script}"), name)
    return gin.external_configurable(function, name=name, module="__main__")


def _names_in_main(scripts: Iterable[str]) -> dict[str, Callable[..., Any]]:
    """What T5X's scripts define in `__main__`, and gin files name."""
    names = {ENTRY_POINTS[script]: _entry_point(script) for script in scripts}
    if "infer" in scripts:
        name = "create_task_from_tfexample_file"
        names[name] = _configurable_of_main("infer", name)
    return names


@contextlib.contextmanager
def _entry_points_in_main(scripts: Iterable[str]) -> Iterator[None]:
    """Puts the entry functions where gin files look for them: into `__main__`, whatever it has of these names itself."""
    names = vars(sys.modules["__main__"])
    ours = _names_in_main(scripts)
    own = {name: names[name] for name in ours if name in names}
    names.update(ours)
    try:
        yield
    finally:
        for name in ours:
            del names[name]
        names.update(own)


def main(script: str, argv: Sequence[str] | None = None) -> None:
    """The whole of a launcher script; a wrong configuration is one line and exit status 2."""
    parser = OneLineParser(
        prog=f"t5x/{script}.py",
        description=f"Runs {script} with T5X's flags on the engine of stepdistill_jax.",
    )
    add_script_flags(parser, script)
    try:
        args = parser.parse_args(rewrite_gin_args(sys.argv[1:] if argv is None else argv))
        if getattr(args, "shard_id", None) is not None:
            args.gin_bindings.append(f"infer.shard_id = {args.shard_id}")
        run_script(script, args)
    except (ValueError, OSError, FloatingPointError) as error:
        if os.environ.get("STEPDISTILL_DEBUG"):
            raise
        status = getattr(error, "exit_status", 2)
        parser.exit(status, f"{parser.prog}: error: {visible_line(error)}\n")
    except KeyboardInterrupt:
        parser.exit(130, f"{parser.prog}: {INTERRUPTED}\n")
    except Exception as error:  # a fault, of ours or of a library
        if os.environ.get("STEPDISTILL_DEBUG"):
            raise
        parser.exit(1, f"{parser.prog}: error: {unexpected(error)}\n")
