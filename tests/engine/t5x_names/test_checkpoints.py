import re
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from stepdistill_jax.engine.checkpoint.finding import find_checkpoint
from stepdistill_jax.engine.checkpoint.run_checkpoints import read_stream_position
from stepdistill_jax.engine.optim import adafactor, optimizers
from stepdistill_jax.engine.partition.axis_rules import standard_logical_axis_rules
from stepdistill_jax.engine.partition.partitioning import PjitPartitioner
from stepdistill_jax.engine.step.initialize import abstract_train_state
from stepdistill_jax.engine.t5x_names.checkpoints import (
    RestoreCheckpointConfig,
    RunCheckpoints,
    SaveCheckpointConfig,
    StreamPosition,
    restore_checkpoint,
)

SHAPES = {"encoder_input_tokens": (8, 6), "decoder_input_tokens": (8, 6)}
POSITION = StreamPosition(seed=11, next_draw=470)
ADAFACTOR = adafactor.Adafactor(beta1=0.9)
SMALL = {"num_encoder_layers": 1, "num_decoder_layers": 1}


@pytest.fixture(scope="module")
def mesh():
    return PjitPartitioner(num_partitions=2)


@pytest.fixture(scope="module")
def abstract_state(make_model):
    """abstract_state(optimizer_def, **changes of the configuration) -> shapes of the tiny model's state."""

    def make(optimizer_def=None, **changes):
        model = make_model({**SMALL, **changes})
        model.optimizer_def = optimizer_def or ADAFACTOR
        return abstract_train_state(model, SHAPES, {})

    return make


def numbered(abstract, partitioner, step):
    """A state on the mesh, every number in it another."""
    leaves, structure = jax.tree.flatten(abstract)
    values = [
        (np.arange(leaf.size).reshape(leaf.shape) % 97 / 8 + i + step).astype(leaf.dtype)
        for i, leaf in enumerate(leaves)
    ]
    state = jax.tree.unflatten(structure, values).replace(step=np.int32(step))
    return jax.device_put(state, partitioner.shardings(partitioner.get_mesh_axes(abstract)))


def assert_equal_states(first, second):
    assert jax.tree.structure(first) == jax.tree.structure(second)
    jax.tree.map(np.testing.assert_array_equal, first, second)


@pytest.fixture(scope="module")
def saved(tmp_path_factory, abstract_state, mesh):
    """(folder with checkpoint_40, the state saved in it)."""
    folder = tmp_path_factory.mktemp("run")
    state = numbered(abstract_state(), mesh, 40)
    checkpoints = RunCheckpoints(folder, SaveCheckpointConfig())
    checkpoints.save(40, state, POSITION)
    checkpoints.close()
    return folder, state


def test_a_saved_state_and_the_stream_s_position_come_back(saved, abstract_state, mesh):
    folder, state = saved
    checkpoints = RunCheckpoints(folder, SaveCheckpointConfig())
    assert checkpoints.latest_step() == 40
    assert read_stream_position(folder / "checkpoint_40") == POSITION
    checkpoints.close()
    restored = restore_checkpoint(folder / "checkpoint_40", abstract_state(), mesh)
    assert_equal_states(restored, state)
    assert int(restored.step) == 40


def test_a_state_is_restored_onto_another_mesh(saved, abstract_state):
    folder, state = saved
    fsdp = PjitPartitioner(num_partitions=4, logical_axis_rules=standard_logical_axis_rules(1, 2))
    restored = restore_checkpoint(folder / "checkpoint_40", abstract_state(), fsdp)
    assert_equal_states(restored, state)
    embedding = restored.params["token_embedder"]["embedding"]  # [40 vocab, 16 embed]
    assert {shard.data.shape for shard in embedding.addressable_shards} == {(10, 8)}


@pytest.mark.parametrize(
    "optimizer_def",
    [
        optimizers.adamw(weight_decay=0.1),
        optimizers.sgd(),
        optimizers.chain([optax.clip_by_global_norm(1.0), optax.sgd(0.1, momentum=0.9)]),
    ],
    ids=["adamw", "sgd", "chain"],
)
def test_the_state_of_an_optax_optimizer_comes_back(tmp_path, abstract_state, mesh, optimizer_def):
    abstract = abstract_state(optimizer_def)
    state = numbered(abstract, mesh, 3)
    checkpoints = RunCheckpoints(tmp_path, SaveCheckpointConfig())
    checkpoints.save(3, state, POSITION)
    checkpoints.close()
    assert_equal_states(restore_checkpoint(tmp_path / "checkpoint_3", abstract, mesh), state)


def test_parameters_alone_are_restored_for_another_optimizer(saved, abstract_state, mesh):
    folder, state = saved
    abstract = abstract_state(optimizers.adamw())
    restored = restore_checkpoint(folder / "checkpoint_40", abstract, mesh, params_only=True)
    assert_equal_states(restored.params, state.params)
    assert int(restored.step) == 40
    assert restored.param_states is abstract.param_states


def test_parameters_are_restored_in_the_dtype_asked_for(saved, abstract_state, mesh):
    folder, state = saved
    restored = restore_checkpoint(
        folder / "checkpoint_40",
        abstract_state(),
        mesh,
        params_only=True,
        cfg=RestoreCheckpointConfig("run", dtype="bfloat16"),
    )
    jax.tree.map(
        lambda ours, saved: np.testing.assert_array_equal(ours, saved.astype(jnp.bfloat16)),
        restored.params,
        state.params,
    )


def test_parameters_may_be_saved_in_bfloat16_the_optimizer_s_state_stays(tmp_path, abstract_state, mesh):
    state = numbered(abstract_state(), mesh, 5)
    checkpoints = RunCheckpoints(tmp_path, SaveCheckpointConfig(dtype="bfloat16"))
    checkpoints.save(5, state, POSITION)
    checkpoints.close()
    restored = restore_checkpoint(tmp_path / "checkpoint_5", abstract_state(), mesh)
    assert_equal_states(restored.param_states, state.param_states)
    jax.tree.map(
        lambda ours, saved: np.testing.assert_array_equal(
            ours, saved.astype(jnp.bfloat16).astype(jnp.float32)
        ),
        restored.params,
        state.params,
    )


def test_the_newest_are_kept_and_found(tmp_path, abstract_state, mesh):
    abstract = abstract_state(optimizers.sgd())
    checkpoints = RunCheckpoints(tmp_path, SaveCheckpointConfig(keep=2))
    for step in (1, 2, 10):
        checkpoints.save(step, numbered(abstract, mesh, step), POSITION)
    checkpoints.close()
    assert sorted(folder.name for folder in tmp_path.glob("checkpoint_*")) == [
        "checkpoint_10",
        "checkpoint_2",
    ]
    assert find_checkpoint(RestoreCheckpointConfig(str(tmp_path))) == tmp_path / "checkpoint_10"


@pytest.fixture
def torn(tmp_path, saved):
    """A run whose save of step 50 was killed: the folder still has Orbax's temporary name."""
    folder = tmp_path / "run"
    shutil.copytree(saved[0], folder)
    half = folder / "checkpoint_50.orbax-checkpoint-tmp"
    shutil.copytree(folder / "checkpoint_40", half)
    (half / "commit_success.txt").unlink(missing_ok=True)
    shutil.rmtree(half / "state")
    return folder


def test_a_torn_checkpoint_is_not_loaded(torn):
    assert find_checkpoint(RestoreCheckpointConfig(str(torn))) == torn / "checkpoint_40"
    checkpoints = RunCheckpoints(torn, SaveCheckpointConfig())
    assert checkpoints.latest_step() == 40
    assert read_stream_position(torn / "checkpoint_40") == POSITION
    checkpoints.close()


def test_a_run_with_a_torn_checkpoint_can_save_that_step_again(torn, saved, abstract_state, mesh):
    checkpoints = RunCheckpoints(torn, SaveCheckpointConfig())
    state = numbered(abstract_state(), mesh, 50)
    checkpoints.save(50, state, POSITION)
    checkpoints.close()
    assert_equal_states(restore_checkpoint(torn / "checkpoint_50", abstract_state(), mesh), state)


def test_a_folder_without_a_whole_state_is_refused(torn, abstract_state, mesh):
    shutil.rmtree(torn / "checkpoint_40" / "state")
    with pytest.raises(ValueError, match=r"checkpoint_40 is damaged: .* not as saved: .*\(missing\)"):
        restore_checkpoint(torn / "checkpoint_40", abstract_state(), mesh)
    with pytest.raises(FileNotFoundError, match=r"checkpoint_40 is not a checkpoint"):
        restore_checkpoint(torn / "checkpoint_40", abstract_state(), mesh, verify=False)


def test_what_does_not_fit_is_named_in_one_line(saved, abstract_state, mesh):
    folder, _ = saved
    other = abstract_state(emb_dim=24, num_decoder_layers=2, mlp_activations=("linear",))
    with pytest.raises(ValueError, match="does not fit the model") as caught:
        restore_checkpoint(folder / "checkpoint_40", other, mesh)
    message = str(caught.value)
    assert "\n" not in message
    assert "target/token_embedder/embedding has shape (40, 16), the model wants (40, 24)" in message
    assert re.search(r"target/decoder/layers_\S+ is missing", message)
    assert "target/encoder/layers_0/mlp/wi_0/kernel is not in the model" in message
    assert "state/param_states" not in message  # they follow the parameters
    assert re.search(
        r"target/decoder/decoder_norm/scale \(and \d more\) has shape \(16,\), the model wants \(24,\)",
        message,
    )


def test_parameters_alone_may_not_lack_anything_either(saved, abstract_state, mesh):
    folder, _ = saved
    with pytest.raises(ValueError, match=r"target/decoder/layers_1/\S+ is missing; .*; and 10 more such"):
        restore_checkpoint(
            folder / "checkpoint_40", abstract_state(num_decoder_layers=2), mesh, params_only=True
        )


def test_a_missing_folder_s_error_names_what_is_there(saved, tmp_path):
    folder, _ = saved
    with pytest.raises(
        FileNotFoundError,
        match=r"checkpoint_7 is not a checkpoint: there is no such folder; .* has checkpoint_40",
    ):
        find_checkpoint(RestoreCheckpointConfig(str(folder / "checkpoint_7"), mode="specific"))
    with pytest.raises(FileNotFoundError, match=r"No checkpoint_<step> in .*train first"):
        find_checkpoint(RestoreCheckpointConfig(str(tmp_path)))
    assert (
        find_checkpoint(RestoreCheckpointConfig(str(folder / "checkpoint_40"), mode="specific")).name
        == "checkpoint_40"
    )


def test_settings_that_do_not_exist_are_named():
    with pytest.raises(ValueError, match=r"mode='newest'; nearest 'latest'; use 'specific'"):
        RestoreCheckpointConfig("run", mode="newest")
    with pytest.raises(ValueError, match=r"RestoreCheckpointConfig.dtype='int8'"):
        RestoreCheckpointConfig("run", dtype="int8")
    with pytest.raises(ValueError, match=r"SaveCheckpointConfig.dtype='float16'"):
        SaveCheckpointConfig(dtype="float16")
