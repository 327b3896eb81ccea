"""Compiling a run's step for hardware that is described, not there. TPUs and GPUs where their compilers are installed."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from stepdistill_jax.engine import precompile
from stepdistill_jax.engine.hardware import step_memory, topologies
from stepdistill_jax.launching import launch

ROOT = Path(__file__).resolve().parents[2]
ONE_LAYER = ("network.T5Config.num_encoder_layers = 1", "network.T5Config.num_decoder_layers = 1")


def read_tiny(*bindings):
    import gin

    launch.read_config(["gin/dsbs_t5_tiny.gin"], ["MODEL_DIR = 'run'", *bindings])
    return precompile.bindings_of_train(gin)


def test_topologies_are_named_by_chip_and_shape():
    v4 = topologies.parse_topology("v4:2x2x4")
    assert (v4.platform, v4.num_devices, v4.chip.memory_bytes) == ("tpu", 16, 32 * 2**30)
    a100 = topologies.parse_topology("a100-40x16")
    assert (a100.platform, a100.num_devices, a100.shape[0]) == ("gpu", 16, 2)
    assert topologies.parse_topology("cpu:8").usable_bytes is None


def test_a_device_that_is_there_is_known_by_what_its_driver_calls_it():
    rates = {"NVIDIA H200": "h200x1", "NVIDIA A100-SXM4-40GB": "a100-40x1", "TPU v5 lite": "v5e:1x1"}
    for kind, name in rates.items():
        assert topologies.peak_flops_of(kind) == topologies.parse_topology(name).chip.peak_flops
    # Modules of the same name for PCIe are slower.
    assert [topologies.peak_flops_of(kind) for kind in ("NVIDIA H100 PCIe", "NVIDIA H200 NVL", "cpu")] == [
        None
    ] * 3


@pytest.mark.parametrize("name", ["v9:2x2", "a100", "a100x12", "cpu:0", "v4:16"])
def test_a_topology_that_there_is_not_is_refused(name):
    with pytest.raises(ValueError, match=f"^--topology={name}"):
        topologies.parse_topology(name)


@pytest.mark.parametrize("pack", [True, False])
def test_the_shapes_are_those_of_the_training_stream(pack):
    from stepdistill_jax.engine.data.dataset_config import full_feature_lengths
    from stepdistill_jax.engine.data.train_stream import TokenizedTask, TrainStream

    bound = read_tiny(f"PACK = {pack}")
    converter_cls, cfg = bound["model"].FEATURE_CONVERTER_CLS, bound["train_dataset_cfg"]
    lengths = full_feature_lengths(cfg.task_feature_lengths, converter_cls.TASK_FEATURES, "some task")
    offsets = np.arange(0, 100, 5)  # examples of five tokens
    task = TokenizedTask(
        name="some task",
        tokens={name: np.ones(100, np.int32) for name in lengths},
        offsets={name: offsets for name in lengths},
    )
    stream = TrainStream(
        [task],
        [1.0],
        converter_cls=converter_cls,
        lengths=lengths,
        batch_size=cfg.batch_size,
        seed=0,
        pack=pack,
    )
    batch = stream.batch_spec()
    shapes, types = precompile.batch_shapes(bound["model"], cfg)
    assert {name: tuple(rows.shape) for name, rows in batch.items()} == shapes
    assert {name: np.dtype(rows.dtype.as_numpy_dtype) for name, rows in batch.items()} == types


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """Of the tiny student on four by two CPU devices."""
    folder = tmp_path_factory.mktemp("precompiled")
    jax.config.update("jax_disable_most_optimizations", True)
    try:
        bound = read_tiny("NUM_PARTITIONS = 2", "NUM_MICROBATCHES = 2")
        yield (
            precompile.precompile(
                **{**bound, "model_dir": str(folder)}, topology=topologies.parse_topology("cpu:8")
            ),
            folder,
        )
    finally:
        jax.config.update("jax_disable_most_optimizations", False)


def test_the_report_says_what_a_device_holds(report):
    step, _ = report
    assert dict(step.mesh) == {"data": 4, "model": 2}
    assert step.num_microbatches == 2
    # float32 parameters: all but norms and position biases are split over the two devices of 'model'.
    assert 0.5 * 4 * step.num_parameters <= step.parameter_bytes <= 0.52 * 4 * step.num_parameters
    assert (
        0 < step.optimizer_bytes < step.parameter_bytes
    )  # Adafactor's rows and columns, and small arrays whole
    assert step.peak_bytes >= step.parameter_bytes + step.optimizer_bytes
    assert step.fits


def test_the_report_counts_three_forward_passes_of_every_row(report):
    step, _ = report
    tiny = {"embed": 128, "rows": 16}
    # At least two operations a parameter of the encoder and decoder and token, three times.
    tokens = tiny["rows"] * (128 + 96)
    assert step.model_flops > 3 * 2 * step.num_parameters / 4 * tokens
    assert step.executed_flops == pytest.approx(step.model_flops, rel=0.05)


def test_the_report_and_the_programs_are_written_under_t5x_names(report):
    step, folder = report
    written = json.loads((folder / "precompile.json").read_text())
    assert written["topology"] == "cpu:8"
    assert written["peak_bytes"] == step.peak_bytes
    assert "HloModule" in (folder / "lowered_hlo_post_optimization").read_text()
    assert (folder / "lowered_hlo_pre_optimization").exists()


def test_a_step_that_does_not_fit_says_what_to_do(report):
    import dataclasses

    step, _ = report
    small = topologies.Chip("small chip", memory_bytes=1000, peak_flops=1e12, link_bytes_per_second=1e9)
    on_small = dataclasses.replace(
        step, topology=dataclasses.replace(step.topology, platform="tpu", chip=small)
    )
    assert not on_small.fits
    assert "does not fit" in str(on_small)
    assert "MFU" in str(on_small)


def test_the_number_of_microbatches_is_found_for_hardware_that_is_not_there(
    quick_compilation, monkeypatch, capsys, caplog
):
    """Two rows to each of eight devices; the compiler refuses both at once. What it compiles is what is reported on."""
    compile_step = step_memory.compile_step
    refusals = ["in other words"]

    def refuse_the_first(lowered):
        if refusals:
            raise step_memory.ProgramTooLarge(refusals.pop())
        return compile_step(lowered)

    memory = step_memory.DeviceMemory("eight chips", "chip", 2**40, 2**40)
    monkeypatch.setattr(step_memory, "described", lambda topology: memory)
    monkeypatch.setattr(step_memory, "compile_step", refuse_the_first)
    bound = read_tiny("NUM_MICROBATCHES = 'auto'", *ONE_LAYER)
    with jax.log_compiles():
        step = precompile.precompile(
            **{**bound, "model_dir": None}, topology=topologies.parse_topology("cpu:8")
        )
    assert step.num_microbatches == 2
    assert sum("XLA compilation of jit(train_step)" in line for line in caplog.messages) == 1
    printed = capsys.readouterr()
    assert "; 2 microbatches\n" in printed.out
    assert "num_microbatches = 2 (1 row at once a device): " in printed.err
    assert "; 1 would need more memory." in printed.err


def test_of_a_cpu_that_is_described_nobody_knows_the_memory(quick_compilation, capsys):
    bound = read_tiny("NUM_MICROBATCHES = 'auto'", *ONE_LAYER)
    step = precompile.precompile(**{**bound, "model_dir": None}, topology=topologies.parse_topology("cpu:8"))
    assert step.num_microbatches == 1
    assert (
        "num_microbatches = 1 (2 rows at once a device): how much memory a CPU of cpu:8 has is not known.\n"
        in capsys.readouterr().err
    )


def test_a_batch_that_does_not_split_is_one_line_before_anything_is_compiled():
    bound = read_tiny("BATCH_SIZE = 6")
    with pytest.raises(ValueError, match=r"batch_size=6 does not split over 8 devices"):
        precompile.precompile(**{**bound, "model_dir": None}, topology=topologies.parse_topology("cpu:8"))


def launcher(*argv, **environ):
    return subprocess.run(
        [sys.executable, str(ROOT / "t5x" / "precompile.py"), *argv],
        env={**os.environ, "XLA_FLAGS": "", **environ},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )


@pytest.mark.parametrize(
    ("topology", "package"), [("v4:2x2x1", "libtpu"), ("a100x8", "xla_cuda13")], ids=["tpu", "gpu"]
)
def test_a_missing_compiler_is_one_line(topology, package):
    if importlib.util.find_spec("libtpu") or importlib.util.find_spec("jax_plugins"):
        pytest.skip("the compilers for TPUs or GPUs are installed")
    done = launcher("--gin_file=gin/dsbs_t5_tiny.gin", f"--topology={topology}")
    assert done.returncode == 2
    assert f"needs {package}, which is not installed: pip install" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


TINY = (
    "--gin_file=gin/dsbs_t5_tiny.gin",
    "--gin.network.T5Config.num_encoder_layers=1",
    "--gin.network.T5Config.num_decoder_layers=1",
)


@pytest.mark.slow
def test_a_step_is_compiled_for_a_tpu_that_is_not_there():
    pytest.importorskip("libtpu", reason="libtpu is not installed: pip install '.[tpu]'")
    done = launcher(*TINY, "--topology=v4:2x2x1", "--gin.NUM_PARTITIONS=2")
    assert done.returncode == 0, done.stderr
    assert "v4:2x2x1: 4 x TPU v4, mesh data 2 x model 2" in done.stdout
    assert "of 32.0: fits" in done.stdout


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("v5e:1x1", {"chips_per_host_bounds": [1, 1, 1]}),
        ("v6e:4x4", {}),
        ("v4:2x2x1", {"chip_config_name": "megacore"}),
    ],
)
def test_a_single_tpu_chip_is_a_host_of_its_own(monkeypatch, name, options):
    """Unless it is told, libtpu takes four chips to a host, and has no slice of one chip."""
    from types import SimpleNamespace

    from jax.experimental import topologies as jax_topologies

    asked = {}

    def get_topology_desc(shape, *, platform, **given):
        asked.update(shape=shape, platform=platform, given=given)
        return SimpleNamespace(devices=("a chip",))

    monkeypatch.setattr(jax_topologies, "get_topology_desc", get_topology_desc)
    assert topologies.devices_of(topologies.parse_topology(name)) == ["a chip"]
    assert asked == {"shape": name, "platform": "tpu", "given": options}


@pytest.mark.slow
def test_a_step_is_compiled_for_one_tpu_chip_that_is_not_there():
    pytest.importorskip("libtpu", reason="libtpu is not installed: pip install '.[tpu]'")
    done = launcher(*TINY, "--topology=v5e:1x1")
    assert done.returncode == 0, done.stderr
    assert "v5e:1x1: 1 x TPU v5e, mesh data 1 x model 1" in done.stdout


@pytest.mark.slow
def test_a_step_is_compiled_for_gpus_that_are_not_there():
    pytest.importorskip("jax_plugins.xla_cuda13", reason="no CUDA plugin: pip install '.[cuda]'")
    done = launcher(*TINY, "--topology=a100x8", "--gin.NUM_PARTITIONS=2")
    assert done.returncode == 0, done.stderr
    assert "a100x8: 8 x A100 80 GB, mesh data 4 x model 2" in done.stdout


def test_t5x_precompile_gin_is_taken(tmp_path):
    """T5X's own entry: `train_script.precompile` bound, with its arguments."""
    gin_file = tmp_path / "precompile.gin"
    gin_file.write_text(
        "from __gin__ import dynamic_registration\n"
        "import __main__ as train_script\n"
        "from t5x import partitioning\n"
        "from t5x import utils\n"
        "include 'gin/dsbs_t5_tiny.gin'\n"
        "train_script.precompile:\n"
        "  model = %MODEL\n"
        "  model_dir = %MODEL_DIR\n"
        "  train_dataset_cfg = @train/utils.DatasetConfig()\n"
        "  partitioner = @partitioning.PjitPartitioner()\n"
        "  random_seed = None\n"
        "partitioning.PjitPartitioner.backend = 'tpu'\n"
    )
    layers = TINY[1:]
    done = launcher(
        f"--gin_file={gin_file}", *layers, "--topology=cpu:2", f"--gin.MODEL_DIR='{tmp_path / 'out'}'"
    )
    assert done.returncode == 0, done.stderr
    assert np.isfinite(json.loads((tmp_path / "out" / "precompile.json").read_text())["peak_bytes"])
