"""The command that trains, as a user types it, beside its bare step: launch to first step, and steps with all that is around them.

    python bench/train_command.py --gin_file gin/dsbs_t5_base.gin --data_dir data --gin "MIXTURE_OR_TASK_NAME='svamp_step_by_step'"

It is launched three times, each in a folder of its own and without evaluation: for two steps with nothing compiled before, for two with
the compiled programs kept, and for --steps. Then a process takes the same configuration's step over and over on batches that
lie on the device. Gin files are those that include gin/student.gin. A checkpoint to begin with is left out unless --gin binds RESTORE.
"""

import argparse
import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from stepdistill_jax.engine.config.gin_flags import OneLineParser

NUM_BATCHES = 8  # of the bare step
FIRST_STEPS = 2  # of a launch that is timed: the loop tells of a step when the next is under way


def main() -> None:
    parser = OneLineParser(description=__doc__.splitlines()[0])
    parser.add_argument("--gin_file", action="append", required=True)
    parser.add_argument("--gin", action="append", default=[], metavar="NAME=VALUE")
    parser.add_argument("--data_dir", default="data")
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--bare", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.steps < 2 * NUM_BATCHES:
        parser.error(f"--steps={args.steps}; use {2 * NUM_BATCHES} or more.")
    if args.bare:
        print(json.dumps(bare_step(args)))
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        environment = {**os.environ, "JAX_COMPILATION_CACHE_DIR": str(folder / "compiled")}
        for what in ("nothing compiled before", "with compiled programs kept"):
            seconds = first_step_seconds(args, folder / what.replace(" ", "_"), environment)
            print(f"launch to first step, {what}: {seconds:.1f} s", flush=True)
        run_ms, tokens = run_rate(args, folder / "steps", environment)
        print(
            f"a step of the command: {run_ms:.1f} ms, {tokens:,.0f} tokens/s (median of its log)", flush=True
        )
        bare = subprocess.run(
            [sys.executable, __file__, "--bare", *sys.argv[1:]],
            env=environment, stdout=subprocess.PIPE, text=True, check=True,
        )  # fmt: skip
        bare_ms = json.loads(bare.stdout.splitlines()[-1])["ms"]
        print(f"the bare step: {bare_ms:.1f} ms; the command has {bare_ms / run_ms:.1%} of its rate")


def command(args: argparse.Namespace, folder: Path, steps: int, *bindings: str) -> list[str]:
    """t5x/train.py for so many steps, without evaluation."""
    return [
        sys.executable,
        str(ROOT / "t5x" / "train.py"),
        *(f"--gin_file={file}" for file in args.gin_file),
        *(f"--gin.{binding}" for binding in settings(args, folder, steps, *bindings)),
        f"--data_dir={args.data_dir}",
    ]


def settings(args: argparse.Namespace, folder: Path, steps: int, *bindings: str) -> list[str]:
    """Bindings of a run from scratch."""
    texts = [
        path.read_text(encoding="utf-8")
        for file in args.gin_file
        for path in (Path(file), ROOT / file)
        if path.is_file()
    ]
    return [
        f"MODEL_DIR={str(folder)!r}",
        *(
            ["INITIAL_CHECKPOINT_PATH=None"]
            if any("INITIAL_CHECKPOINT_PATH" in text for text in texts)
            else []
        ),
        "RESTORE=None",
        "STEP_OFFSET=0",
        f"TRAIN_STEPS={steps}",
        "train.train_eval_dataset_cfg=None",
        "train.infer_eval_dataset_cfg=None",
        *bindings,
        *args.gin,
    ]


def first_step_seconds(args: argparse.Namespace, folder: Path, environment: Mapping[str, str]) -> float:
    """From the launch until the log has the first step."""
    began = time.perf_counter()
    seconds = None
    process = subprocess.Popen(
        command(args, folder, FIRST_STEPS, "train.stats_period=1"), env=environment, stderr=subprocess.PIPE, text=True
    )  # fmt: skip
    said = []
    for line in process.stderr:
        said.append(line)
        if seconds is None and line.startswith("step 1"):
            seconds = time.perf_counter() - began
    if process.wait() != 0 or seconds is None:
        raise SystemExit(f"{' '.join(process.args)}\n{''.join(said[-20:])}")
    return seconds


def run_rate(args: argparse.Namespace, folder: Path, environment: Mapping[str, str]) -> tuple[float, float]:
    """(ms a step, tokens/s) of a run: medians of what its log has behind the first entry, which has the compilation."""
    period = max(1, args.steps // 10)
    done = subprocess.run(
        command(args, folder, args.steps, f"train.stats_period={period}"), env=environment, stderr=subprocess.PIPE, text=True,
        check=False,
    )  # fmt: skip
    if done.returncode != 0:
        raise SystemExit(done.stderr[-2000:])
    lines = (folder / "timing.jsonl").read_text(encoding="utf-8").splitlines()
    rates = [json.loads(line) for line in lines][1:]
    return 1e3 / statistics.median([rate["steps_per_second"] for rate in rates]), statistics.median(
        [rate["tokens_per_second"] for rate in rates]
    )


def bare_step(args: argparse.Namespace) -> dict[str, float]:
    """The step of the configuration, with all batches on the device before."""
    from stepdistill_jax.launching import launch

    bindings = [*settings(args, Path("none"), args.steps)]
    launch.read_config(args.gin_file, bindings, data_dir=args.data_dir)
    import gin
    import jax

    from stepdistill_jax.engine import precompile
    from stepdistill_jax.engine.data.dataset_config import get_dataset
    from stepdistill_jax.engine.hardware import step_memory
    from stepdistill_jax.engine.hardware.present_devices import check_devices
    from stepdistill_jax.engine.step import fitting
    from stepdistill_jax.engine.step.initialize import TrainStateInitializer

    check_devices()
    bound = precompile.bindings_of_train(gin)
    model, cfg, partitioner = bound["model"], bound["train_dataset_cfg"], bound["partitioner"]
    cfg.seed = 0 if cfg.seed is None else cfg.seed
    trainer, state, batch = precompile.abstract_step(
        model, cfg, partitioner, bound["trainer_cls"], random_seed=0
    )
    trainer = fitting.resolve(
        trainer,
        state,
        batch,
        model=model,
        partitioner=partitioner,
        memory=step_memory.attached(partitioner.mesh),
    )
    stream = get_dataset(cfg, 0, 1, model.FEATURE_CONVERTER_CLS)
    batches = [partitioner.global_batch(rows) for rows in itertools.islice(stream.batches(), NUM_BATCHES)]
    state = TrainStateInitializer(
        model.optimizer_def,
        model.get_initial_variables,
        {name: rows.shape for name, rows in batch.items()},
        partitioner,
        {name: rows.dtype for name, rows in batch.items()},
    ).from_scratch(jax.random.key(0))
    state, _ = _steps(trainer, state, batches, NUM_BATCHES)
    state, seconds = _steps(trainer, state, batches, args.steps)
    return {"ms": 1e3 * seconds / args.steps}


def _steps(trainer, state, batches: Sequence[Mapping], number: int):
    """(state, seconds) after so many steps."""
    import jax

    began = time.perf_counter()
    for rows in itertools.islice(itertools.cycle(batches), number):
        state, metrics, _ = trainer.train_step(state, rows)
    jax.block_until_ready((state, metrics))
    return state, time.perf_counter() - began


if __name__ == "__main__":
    main()
