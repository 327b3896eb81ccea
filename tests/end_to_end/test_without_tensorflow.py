"""Where TensorFlow and SeqIO are not installed: the core's rooms import, a T5 trains, a run predicts, converts and precompiles."""

import os
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
WITHOUT = Path(__file__).with_name("without_tensorflow.py")
ROOMS = ("model", "step", "optim", "decode", "partition", "checkpoint")


def run_without(code, folder):
    script = folder / "script.py"
    script.write_text(textwrap.dedent(code))
    done = subprocess.run(
        [sys.executable, str(WITHOUT), str(script)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}", "XLA_FLAGS": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_missing_tensorflow_is_missed_by_what_needs_it(tmp_path):
    with pytest.raises(AssertionError, match="No module named 'seqio'"):
        run_without("import seqio", tmp_path)


def test_every_module_of_the_core_s_rooms_imports(tmp_path):
    folders = [ROOT / "stepdistill_jax" / "engine" / room for room in ROOMS]
    modules = [
        ".".join(path.relative_to(ROOT).with_suffix("").parts)
        for folder in [
            *folders,
            *(ROOT / "stepdistill_jax" / room for room in ("interop", "prediction", "tables")),
        ]
        for path in folder.glob("[a-z]*.py")
    ]
    shown = run_without(
        f"""
        import importlib
        for module in {modules}:
            importlib.import_module(module)
        print("imported")
        """,
        tmp_path,
    )
    assert len(modules) > 40
    assert shown == "imported\n"


@pytest.mark.slow
def test_a_t5_trains_on_arrays(tmp_path):
    shown = run_without(
        """
        import jax, jax.numpy as jnp
        from tiny_t5 import tiny_config
        from stepdistill_jax.engine.model import models, network
        from stepdistill_jax.engine.optim import adafactor
        from stepdistill_jax.engine.partition.partitioning import PjitPartitioner
        from stepdistill_jax.engine.step.initialize import TrainStateInitializer
        from stepdistill_jax.engine.step.trainer import Trainer
        from stepdistill_jax.datasets import embedded_vocabulary

        words = embedded_vocabulary()
        config = tiny_config(vocab_size=words.vocab_size, dropout_rate=0.1)
        optimizer = adafactor.Adafactor(logical_factor_rules=adafactor.standard_logical_factor_rules())
        model = models.EncoderDecoderModel(network.Transformer(config), words, words, optimizer)
        ids = jnp.asarray([words.encode("Mia has 12 apples.") + [words.eos_id]], jnp.int32)
        batch = {"encoder_input_tokens": ids, "decoder_target_tokens": ids, "decoder_loss_weights": ids * 0 + 1,
                 "decoder_input_tokens": jnp.pad(ids, ((0, 0), (1, 0)))[:, :-1]}
        partitioner = PjitPartitioner(num_partitions=1)
        first = TrainStateInitializer(
            optimizer_def=optimizer, init_fn=model.get_initial_variables, partitioner=partitioner,
            input_shapes={name: rows.shape for name, rows in batch.items()},
        )
        state = first.from_scratch(jax.random.key(0))
        trainer = Trainer(
            model=model, train_state_axes=first.train_state_axes, partitioner=partitioner, rng=jax.random.key(1),
            learning_rate_fn=lambda step: 0.02,
        )
        losses = []
        for _ in range(20):
            state, metrics, _ = trainer.train_step(state, batch)
            losses.append(float(metrics["loss"].total))
        assert losses[-1] < 0.75 * losses[0], losses
        print(int(state.step))
        """,
        tmp_path,
    )
    assert shown == "20\n"


@pytest.mark.slow
def test_precompile_compiles_a_run_s_step(tmp_path):
    shown = run_without(
        """
        from stepdistill_jax.launching import launch
        launch.main("precompile", ["--gin_file=gin/dsbs_t5_tiny.gin", "--gin.BATCH_SIZE=4"])
        """,
        tmp_path,
    )
    assert "batch encoder_input_tokens [4, 128], decoder_target_tokens [4, 96]" in shown
    assert "peak" in shown


@pytest.fixture(scope="module")
def run(train, tmp_path_factory):
    folder = tmp_path_factory.mktemp("run") / "run"
    train(folder, "TRAIN_STEPS = 4")
    return folder


def test_a_run_predicts_where_nothing_else_of_it_is(run, tmp_path):
    question = "Mia has 12 apples and buys 5 more. How many apples does she have?"
    bare = tmp_path / "carried"
    for name in ("vocabulary", "checkpoint_4"):
        shutil.copytree(run / name, bare / name)
    shutil.copy(run / "student.json", bare)
    code = """
        from stepdistill_jax.launching import runs
        print(runs.predict({!r}, [{!r}, "Tom has 3 cars."]))
        """
    script = tmp_path / "with.py"
    script.write_text(textwrap.dedent("import seqio\n" + textwrap.dedent(code.format(str(run), question))))
    beside_seqio = subprocess.run(
        [sys.executable, str(script)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}", "XLA_FLAGS": ""},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert run_without(code.format(str(bare), question), tmp_path) == beside_seqio
    assert beside_seqio.startswith("[")


def test_a_checkpoint_converts_there_and_back(run, tmp_path):
    shown = run_without(
        f"""
        import numpy as np
        from stepdistill_jax import cli
        from stepdistill_jax.engine.checkpoint.saved_checkpoint import open_checkpoint

        ours, theirs, back = "{run}/checkpoint_4", "{tmp_path}/huggingface", "{tmp_path}/back"
        for arguments in ([ours, theirs], [theirs, back]):
            try:
                cli.main(["convert", *arguments])
            except SystemExit as end:
                assert not end.code, end.code
        before, after = (open_checkpoint(folder).arrays() for folder in (ours, f"{{back}}/checkpoint_1000000"))
        parameters = [name for name in before if name.startswith("target/")]
        assert parameters
        for name in parameters:
            np.testing.assert_array_equal(before[name].read().result(), after[name].read().result())
        print(len(parameters))
        """,
        tmp_path,
    )
    assert int(shown.splitlines()[-1]) > 10
