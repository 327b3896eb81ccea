"""The embedded word problems, 48 a split, and a student small enough to train in seconds on eight CPU devices."""

import contextlib
import dataclasses
import os
from pathlib import Path

import forked_runs
import pytest
from tiny_t5 import ONE_LAYER, gin_bindings

NUM_PROBLEMS = 48
STEPS = 24
SHRUNK = (
    *gin_bindings(ONE_LAYER),
    "TASK_FEATURE_LENGTHS = {'inputs': 96, 'targets': 64}",
    "BATCH_SIZE = 8",
    "DROPOUT_RATE = 0.1",
    f"TRAIN_STEPS = {STEPS}",
    "WARMUP_STEPS = 2",
    "STEPS_PER_CYCLE = 1000",  # so few steps learn something at the whole rate
    "EVAL_PERIOD = 12",
    "CHECKPOINT_PERIOD = 4",
    "train.eval_steps = 1",
    "infer_eval/utils.DatasetConfig.batch_size = 8",
    "seqio.Evaluator.num_examples = 8",
)


@pytest.fixture(scope="session")
def compiled_once(tmp_path_factory):
    """Runs of one shape share their compiled steps, in this process and in those that it starts."""
    import jax
    from jax.experimental.compilation_cache import compilation_cache

    settings = {
        "jax_enable_compilation_cache": True,
        "jax_compilation_cache_dir": str(tmp_path_factory.mktemp("compiled")),
        "jax_persistent_cache_min_compile_time_secs": 0.0,
        "jax_persistent_cache_min_entry_size_bytes": 0,
    }
    before = {name: getattr(jax.config, name) for name in settings}
    with pytest.MonkeyPatch.context() as patch:
        for name, value in settings.items():
            patch.setenv(name.upper(), str(value))
            jax.config.update(name, value)
        compilation_cache.reset_cache()  # JAX asks once whether there is one
        yield {name: value for name, value in os.environ.items() if name.startswith("JAX_")}
    for name, value in before.items():
        jax.config.update(name, value)
    compilation_cache.reset_cache()


@pytest.fixture(scope="session")
def data_dir(tmp_path_factory) -> Path:
    """Prepared word problems with their worked solutions as rationales."""
    from stepdistill_jax import datasets, teacher
    from stepdistill_jax.datasets import registry
    from stepdistill_jax.launching import task_modules

    folder = tmp_path_factory.mktemp("word_problems") / "data"
    task_modules.load_tasks()
    whole = datasets.get("wordproblems")
    few = dataclasses.replace(whole, rows=lambda split: whole.rows(split)[:NUM_PROBLEMS])
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(registry._DATASETS, "wordproblems", few)
        datasets.prepare("wordproblems", data_dir=folder)
        teacher.teach("wordproblems", teacher="worked", data_dir=folder)
    return folder


@pytest.fixture(scope="session")
def train(data_dir, compiled_once):
    """train(folder, *bindings, data_dir=…, gin_file=…): trains the shrunken student there."""
    from stepdistill_jax.launching import launch

    def run(folder, *bindings, data_dir=data_dir, gin_file="gin/dsbs_t5_tiny.gin"):
        every = [f"MODEL_DIR = {str(folder)!r}", *SHRUNK, *bindings]
        return launch.call("train", [str(gin_file)], every, data_dir=data_dir)

    return run


@pytest.fixture
def start_server(data_dir, compiled_once):
    """start_server(*bindings): `forked_runs.Runs` with these gin bindings, until the test's end."""
    with contextlib.ExitStack() as servers:

        def start(*bindings):
            flags = [f"--tfds_data_dir={data_dir}", *(f"--gin_bindings={binding}" for binding in bindings)]
            return servers.enter_context(forked_runs.server(flags))

        yield start


@pytest.fixture(scope="session")
def finished_run(train, tmp_path_factory) -> Path:
    """The folder of a step-by-step student, trained without a break. Read it only."""
    folder = tmp_path_factory.mktemp("runs") / "step_by_step"
    train(folder)
    return folder


@pytest.fixture(scope="session")
def shrunk() -> tuple[str, ...]:
    """The gin bindings that make the student small."""
    return SHRUNK
