"""Every file of gin/meshes is read behind a run's, and splits that run over the devices that it is named after."""

import re
from pathlib import Path

import pytest

from stepdistill_jax.engine.hardware.topologies import parse_topology
from stepdistill_jax.launching import launch

ROOT = Path(__file__).resolve().parents[2]
MESHES = sorted(path.stem for path in (ROOT / "gin" / "meshes").glob("*.gin"))
SIZES = {"xxl": ["xxl"], "xl": ["xl"]}


def runs_of(name):
    return SIZES.get(name.rpartition("_")[2], ["small", "base", "large"])


@pytest.mark.parametrize("name", MESHES)
def test_a_mesh_file_splits_its_runs_evenly(name):
    import gin

    text = (ROOT / "gin" / "meshes" / f"{name}.gin").read_text(encoding="utf-8")
    topology = re.search(r"--topology=(\S+)", text)
    num_devices = parse_topology(topology[1]).num_devices if topology else 1
    for size in runs_of(name):
        launch.read_config(
            [f"gin/dsbs_t5_{size}.gin", f"gin/meshes/{name}.gin"],
            ["MODEL_DIR = 'run'", "INITIAL_CHECKPOINT_PATH = 'checkpoint'"],
        )
        partitions = gin.query_parameter("%NUM_PARTITIONS")
        microbatches = gin.query_parameter("%NUM_MICROBATCHES") or 1
        data, rest = divmod(num_devices, partitions)
        assert rest == 0
        assert gin.query_parameter("%BATCH_SIZE") % (data * microbatches) == 0
        for split in ("num_heads", "mlp_dim", "vocab_size"):
            assert gin.query_parameter(f"t5.network.T5Config.{split}") % partitions == 0, split
        if gin.query_parameter("standard_logical_axis_rules.parameter_partitioning_dims") == 2:
            assert gin.query_parameter("t5.network.T5Config.emb_dim") % data == 0


def test_every_student_has_a_mesh_for_every_kind_of_hardware():
    hardware = {name.removesuffix("_xl").removesuffix("_xxl") for name in MESHES} - {"one_device"}
    for name in hardware:
        assert {name, f"{name}_xl", f"{name}_xxl"} <= set(MESHES)
