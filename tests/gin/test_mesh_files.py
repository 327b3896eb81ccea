"""The table of gin/meshes/README.md: every row's file splits that run over that hardware, and every file has a row."""

from pathlib import Path

import pytest

from stepdistill_jax.engine.hardware.topologies import parse_topology
from stepdistill_jax.launching import launch

ROOT = Path(__file__).resolve().parents[2]
MESHES = sorted(path.stem for path in (ROOT / "gin" / "meshes").glob("*.gin"))
SIZES = ("small", "base", "large", "xl", "xxl")


@pytest.fixture
def mesh_memory(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "bench"))
    import mesh_memory

    return mesh_memory


@pytest.fixture
def rows(mesh_memory):
    return mesh_memory.read_rows(mesh_memory.README.read_text(encoding="utf-8"))


def read(size, mesh):
    import gin

    launch.read_config(
        [f"gin/dsbs_t5_{size}.gin", f"gin/meshes/{mesh}.gin"],
        ["MODEL_DIR = 'run'", "INITIAL_CHECKPOINT_PATH = 'checkpoint'"],
    )
    return gin


def test_every_mesh_file_is_in_the_table_and_every_row_names_one_that_exists(rows):
    assert sorted({row.mesh for row in rows}) == MESHES


def test_every_row_is_measured_and_fits(rows):
    for row in rows:
        assert row.is_measured, str(row)
        _, _, peak, usable, _, _ = row.measured
        assert 0 < float(peak) < float(usable), str(row)


def test_every_student_has_one_file_for_every_kind_of_hardware(rows):
    for topology in {row.topology for row in rows}:
        sizes = tuple(size for row in rows if row.topology == topology for size in row.sizes)
        # One device is for those that are small enough.
        assert sizes == (SIZES if parse_topology(topology).num_devices > 1 else SIZES[:3]), topology


def test_every_row_splits_its_run_evenly(rows):
    for size, mesh, num_devices in sorted(
        {(size, row.mesh, parse_topology(row.topology).num_devices) for row in rows for size in row.sizes}
    ):
        gin = read(size, mesh)
        where = (size, mesh, num_devices)
        partitions = gin.query_parameter("%NUM_PARTITIONS")
        microbatches = gin.query_parameter("%NUM_MICROBATCHES") or 1
        microbatches = 1 if microbatches == "auto" else microbatches  # which divides what a device has
        data, rest = divmod(num_devices, partitions)
        assert rest == 0, where
        assert gin.query_parameter("%BATCH_SIZE") % (data * microbatches) == 0, where
        for split in ("num_heads", "mlp_dim", "vocab_size"):
            assert gin.query_parameter(f"t5.network.T5Config.{split}") % partitions == 0, (*where, split)
        if gin.query_parameter("standard_logical_axis_rules.parameter_partitioning_dims") == 2:
            assert gin.query_parameter("t5.network.T5Config.emb_dim") % data == 0, where


@pytest.mark.parametrize("mesh", MESHES)
def test_a_file_is_named_by_what_it_sets(mesh):
    gin = read("xxl", mesh)
    dims = gin.query_parameter("standard_logical_axis_rules.parameter_partitioning_dims")
    kind, *options = mesh.split("_")
    assert (dims == 2) == (kind == "fsdp")
    partitions = next((int(option) for option in options if option.isdigit()), 1)
    assert gin.query_parameter("%NUM_PARTITIONS") == partitions
    if mesh == "one_device":  # the engine sees what fits
        with pytest.raises(ValueError, match="no value bound for parameter 'remat_policy'"):
            gin.query_parameter("t5.network.T5Config.remat_policy")
    else:
        policy = "full" if mesh.endswith("_full_remat") else "minimal"
        assert gin.query_parameter("t5.network.T5Config.remat_policy") == policy
    rows = gin.query_parameter("%EVAL_BATCH_SIZE")
    assert rows == ("auto" if mesh == "one_device" else 64)
    assert gin.query_parameter("%NUM_MICROBATCHES") == ("auto" if mesh == "one_device" else None)


def test_no_two_files_set_the_same():
    settings = {
        tuple(
            line.split("#")[0].strip()
            for line in (ROOT / "gin" / "meshes" / f"{mesh}.gin").read_text(encoding="utf-8").splitlines()
            if "=" in line.split("#")[0]
        )
        for mesh in MESHES
    }
    assert len(settings) == len(MESHES)
