import dataclasses
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import PartitionSpec

from stepdistill_jax.engine.optim import adafactor, optimizers
from stepdistill_jax.engine.partition.axis_rules import standard_logical_axis_rules
from stepdistill_jax.engine.partition.meshes import make_mesh
from stepdistill_jax.engine.partition.partitioning import LocalChunker, PjitPartitioner
from stepdistill_jax.engine.step.initialize import TrainStateInitializer, abstract_train_state

pytestmark = pytest.mark.usefixtures("quick_compilation")
SHAPES = {"encoder_input_tokens": (8, 6), "decoder_input_tokens": (8, 6)}
WI = ("encoder", "layers_0", "mlp", "wi_0", "kernel")  # logical axes embed, mlp: [16, 24]


def leaf_of(tree, path=WI):
    for key in path:
        tree = tree[key]
    return tree


def test_the_mesh_holds_num_partitions_devices_along_model():
    assert dict(PjitPartitioner(num_partitions=2).mesh.shape) == {"data": 4, "model": 2}
    assert dict(PjitPartitioner(model_parallel_submesh=(2, 2, 1, 1)).mesh.shape) == {"data": 2, "model": 4}
    assert dict(PjitPartitioner(ici_mesh_shape=(1, 8)).mesh.shape) == {"data": 1, "model": 8}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "set one of them"),
        ({"num_partitions": 2, "model_parallel_submesh": (2, 1, 1, 1)}, "set one of them"),
        ({"ici_mesh_shape": (2, 2, 2)}, r"ici_mesh_shape=\(2, 2, 2\)"),
        ({"num_partitions": 1, "dcn_mesh_shape": (2, 1, 1)}, r"dcn_mesh_shape=\(2, 1, 1\)"),
        ({"num_partitions": 8, "ici_mesh_shape": (4, 2)}, r"'model' axis has 2: set both to None"),
        ({"model_parallel_submesh": (2, 1, 1, 1), "ici_mesh_shape": (4, 2)}, "set both to None"),
    ],
)
def test_a_mesh_given_in_no_way_or_in_several_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        PjitPartitioner(**arguments)


@pytest.mark.parametrize("num_partitions", [3, 16])
def test_partitions_that_do_not_divide_the_devices_are_refused(num_partitions):
    with pytest.raises(ValueError, match=f"num_partitions={num_partitions} must divide 8"):
        PjitPartitioner(num_partitions=num_partitions).mesh  # noqa: B018


def test_the_number_of_partitions_that_every_t5x_file_has_does_not_contradict_a_mesh_shape():
    assert dict(PjitPartitioner(num_partitions=1, ici_mesh_shape=(4, 2)).mesh.shape) == {
        "data": 4,
        "model": 2,
    }
    assert dict(PjitPartitioner(num_partitions=2, ici_mesh_shape=(4, 2)).mesh.shape) == {
        "data": 4,
        "model": 2,
    }


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"ici_mesh_shape": (3, 2)},
            r"ici_mesh_shape=\(3, 2\) is a mesh \(data, model\) of 6 devices, but there are 8",
        ),
        ({"ici_mesh_shape": (1, 2, 2), "dcn_mesh_shape": (3, 1, 1)}, "a mesh of 12 devices, but there are 8"),
        (
            {"ici_mesh_shape": (1, 2, 2), "dcn_mesh_shape": (2, 1, 1)},
            "2 groups of devices, but there are 1 hosts",
        ),
        ({"model_parallel_submesh": (1, 3)}, r"num_partitions=3 must divide 8"),
    ],
)
def test_a_mesh_that_does_not_use_all_devices_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        PjitPartitioner(**arguments).mesh  # noqa: B018


def test_a_rule_with_other_dims_than_1_and_2_is_refused():
    with pytest.raises(ValueError, match="parameter_partitioning_dims=3"):
        standard_logical_axis_rules(1, 3)


def test_the_first_rule_of_an_axis_wins():
    rules = standard_logical_axis_rules(additional_rules=[("batch", "model"), ("own_axis", "model")])
    partitioner = PjitPartitioner(num_partitions=2, logical_axis_rules=rules)
    assert partitioner.data_partition_spec == PartitionSpec("data")
    assert ("own_axis", "model") in partitioner.logical_axis_rules


def test_a_batch_that_does_not_split_over_the_data_devices_is_refused():
    partitioner = PjitPartitioner(num_partitions=2)
    layout = partitioner.get_data_layout(12)
    assert (layout.batch_size, layout.shard_id, layout.num_shards) == (12, 0, 1)
    with pytest.raises(ValueError, match=r"batch_size=10 does not split over 4 devices.*use a multiple of 4"):
        partitioner.get_data_layout(10)


def test_a_global_batch_lies_in_rows_on_the_data_devices():
    partitioner = PjitPartitioner(num_partitions=2)
    rows = np.arange(24, dtype=np.int32).reshape(8, 3)
    batch = partitioner.global_batch({"tokens": rows})["tokens"]
    np.testing.assert_array_equal(batch, rows)
    assert {shard.data.shape for shard in batch.addressable_shards} == {(2, 3)}


@dataclasses.dataclass(frozen=True)
class FakeTpu:
    """A core of a TPU slice whose hosts have two by two chips."""

    id: int
    coords: tuple[int, int, int]
    core_on_chip: int
    process_index: int
    device_kind: str
    platform: str = "tpu"


def tpu_slice(x, y, z, cores, kind):
    places = itertools.product(range(z), range(y), range(x), range(cores))
    hosts_in_a_row = x // 2
    return [
        FakeTpu(
            number, (i, j, k), core, i // 2 + hosts_in_a_row * (j // 2) + hosts_in_a_row * (y // 2) * k, kind
        )
        for number, (k, j, i, core) in enumerate(places)
    ]


def tile_of(mesh):
    """The extent of the devices that hold the first copy of the model."""
    places = np.array([(*device.coords, device.core_on_chip) for device in mesh.devices[0]])
    return tuple(int(size) for size in np.ptp(places, axis=0) + 1)


@pytest.mark.parametrize(
    ("slice_shape", "kind", "partitions", "tile"),
    [
        # T5X's choices (its `default_mesh`), and one where it has none.
        ((4, 4, 1, 2), "TPU v3", 4, (2, 1, 1, 2)),
        ((4, 4, 1, 2), "TPU v3", 8, (2, 2, 1, 2)),
        ((4, 4, 4, 1), "TPU v4", 4, (4, 1, 1, 1)),
        ((4, 4, 8, 1), "TPU v4", 8, (1, 1, 8, 1)),
        ((8, 8, 8, 1), "TPU v4", 16, (8, 2, 1, 1)),
        ((2, 2, 4, 1), "TPU v4", 8, (2, 1, 4, 1)),
        ((4, 4, 1, 1), "TPU v5 lite", 4, (4, 1, 1, 1)),
    ],
)
def test_a_copy_of_the_model_lies_on_neighbouring_chips(slice_shape, kind, partitions, tile):
    mesh = make_mesh(tpu_slice(*slice_shape, kind), num_partitions=partitions)
    assert dict(mesh.shape) == {"data": int(np.prod(slice_shape)) // partitions, "model": partitions}
    assert tile_of(mesh) == tile


def test_a_tile_that_does_not_divide_the_slice_is_refused():
    with pytest.raises(ValueError, match=r"model_parallel_submesh=\(4, 1, 1, 1\) does not tile the hardware"):
        make_mesh(tpu_slice(2, 2, 4, 1, "TPU v4"), model_parallel_submesh=(4, 1, 1, 1))


def test_every_host_of_a_slice_reads_one_range_of_rows():
    mesh = make_mesh(tpu_slice(4, 4, 1, 2, "TPU v3"), num_partitions=4)  # four hosts, eight cores each
    layouts = [LocalChunker(mesh, host) for host in range(4)]
    assert [chunks.num_chunks for chunks in layouts] == [{"data": 4, "model": 1}] * 4
    assert sorted(chunks.get_shard_id("data") for chunks in layouts) == [0, 1, 2, 3]
    for chunks, host in zip(layouts, range(4), strict=True):
        rows = np.flatnonzero([any(d.process_index == host for d in row) for row in mesh.devices])
        part = chunks.get_local_chunk_info((128, 16), ["data", "model"])
        assert part.slice == (slice(16 * rows[0], 16 * (rows[-1] + 1)), slice(0, 16))
        assert part.replica_id == 0
        assert chunks.get_local_chunk_info((128, 16), [None, "model"]).replica_id == chunks.get_shard_id(
            "data"
        )


def test_hosts_that_share_a_copy_of_the_model_read_the_same_rows():
    mesh = make_mesh(tpu_slice(2, 2, 4, 1, "TPU v4"), num_partitions=16)
    layouts = [LocalChunker(mesh, host) for host in range(4)]
    assert {chunks.num_shards(("data",)) for chunks in layouts} == {1}
    assert sorted(chunks.get_replica_id("data") for chunks in layouts) == [0, 1, 2, 3]


def test_arrays_that_do_not_split_are_named_before_anything_is_compiled(make_model):
    model = make_model()
    model.optimizer_def = optimizers.sgd()
    state = abstract_train_state(model, SHAPES, {})
    PjitPartitioner(num_partitions=4).check_divides(state, model.module.config)
    with pytest.raises(
        ValueError, match=r"^num_heads is 4, which does not split over 8 devices on mesh axis 'model'"
    ):
        PjitPartitioner(num_partitions=8).check_divides(state, model.module.config)
    odd = make_model({"mlp_dim": 22})
    odd.optimizer_def = optimizers.sgd()
    with pytest.raises(
        ValueError, match=r"axis 1 of params/\S+/mlp/wi_0/kernel \[16, 22\] is 22.* 4 devices"
    ):
        PjitPartitioner(num_partitions=4).check_divides(abstract_train_state(odd, SHAPES, {}))


# rules, model devices -> (shape of one device's part of wi, of its embedding): wi is [16 embed, 24 mlp]
@pytest.mark.parametrize(
    ("num_partitions", "parameter_dims", "wi_shape", "embedding_shape"),
    [
        (1, 1, (16, 24), (40, 16)),
        (2, 1, (16, 12), (20, 16)),
        (2, 2, (4, 12), (20, 4)),
        (1, 2, (2, 24), (40, 2)),
    ],
)
def test_parameters_and_moments_lie_on_the_devices_as_the_rules_say(
    make_model, num_partitions, parameter_dims, wi_shape, embedding_shape
):
    partitioner = PjitPartitioner(
        num_partitions=num_partitions, logical_axis_rules=standard_logical_axis_rules(1, parameter_dims)
    )
    model = make_model({"num_encoder_layers": 1, "num_decoder_layers": 1})
    model.optimizer_def = adafactor.Adafactor()
    abstract = abstract_train_state(model, SHAPES, {})
    axes = partitioner.get_mesh_axes(abstract)
    # Zeros: where arrays lie does not depend on their values, and nothing has to be compiled but this.
    state = partitioner.partition(
        lambda: jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), abstract),
        in_axis_resources=(),
        out_axis_resources=axes,
    )()

    def shapes_of_parts(array):
        return {shard.data.shape for shard in array.addressable_shards}

    assert len(leaf_of(state.params).addressable_shards) == 8
    assert shapes_of_parts(leaf_of(state.params)) == {wi_shape}
    assert shapes_of_parts(leaf_of(state.param_states)["v"]) == {wi_shape}
    assert shapes_of_parts(state.params["token_embedder"]["embedding"]) == {embedding_shape}
    assert shapes_of_parts(state.step) == {()}


@pytest.mark.parametrize(
    "optimizer_def",
    [
        adafactor.Adafactor(),
        optimizers.adamw(weight_decay=0.1),
        optimizers.sgd(),
        optimizers.chain([optax.clip_by_global_norm(1.0), optax.sgd(0.1, momentum=0.9)]),
    ],
    ids=["adafactor", "adamw", "sgd", "chain"],
)
def test_every_array_of_the_state_has_one_sharding(make_model, optimizer_def):
    partitioner = PjitPartitioner(num_partitions=2)
    model = make_model()
    model.optimizer_def = optimizer_def
    abstract = abstract_train_state(model, SHAPES, {})
    shardings = partitioner.shardings(partitioner.get_mesh_axes(abstract))
    assert jax.tree.structure(shardings) == jax.tree.structure(abstract)


def test_the_first_state_does_not_depend_on_the_mesh(make_model):
    def embedding(partitioner):
        model = make_model({"num_encoder_layers": 1, "num_decoder_layers": 1, "mlp_activations": ("linear",)})
        model.optimizer_def = optimizers.sgd()
        initializer = TrainStateInitializer(
            model.optimizer_def, model.get_initial_variables, SHAPES, partitioner
        )
        state = initializer.from_scratch(jax.random.key(5))
        return np.asarray(state.params["token_embedder"]["embedding"])

    fsdp = PjitPartitioner(num_partitions=2, logical_axis_rules=standard_logical_axis_rules(1, 2))
    np.testing.assert_allclose(embedding(PjitPartitioner(num_partitions=1)), embedding(fsdp), rtol=1e-6)


def test_a_function_can_be_compiled_before_it_is_called():
    partitioner = PjitPartitioner(num_partitions=2)
    double = partitioner.partition(
        lambda rows: rows * 2,
        in_axis_resources=(PartitionSpec("data"),),
        out_axis_resources=PartitionSpec("data"),
    )
    compiled = partitioner.compile(double, jax.ShapeDtypeStruct((8, 2), jnp.float32))
    batch = partitioner.global_batch({"rows": np.ones((8, 2), np.float32)})["rows"]
    np.testing.assert_array_equal(compiled(batch), double(batch))
