"""Checkpoints that T5X wrote, or that are laid out as it does, restored into our model: whole, in part, renamed."""

import functools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import seqio
from flax import traverse_util
from stacking import stack_layers

from stepdistill_jax.engine.checkpoint.checkpoint_writer import write_checkpoint, write_parameters
from stepdistill_jax.engine.checkpoint.finding import find_checkpoint, find_checkpoints, load_t5x_checkpoint
from stepdistill_jax.engine.checkpoint.state_utils import (
    apply_assignment_map,
    arrays_by_name,
    unflatten_state_dict,
)
from stepdistill_jax.engine.model import models, network
from stepdistill_jax.engine.optim import adafactor, optimizers
from stepdistill_jax.engine.partition.axis_rules import standard_logical_axis_rules
from stepdistill_jax.engine.partition.partitioning import PjitPartitioner
from stepdistill_jax.engine.step.initialize import TrainStateInitializer
from stepdistill_jax.engine.t5x_names.checkpoints import RestoreCheckpointConfig, restore_checkpoint

pytestmark = pytest.mark.usefixtures("quick_compilation")

SHAPES = {"encoder_input_tokens": (8, 6), "decoder_input_tokens": (8, 6)}
ADAFACTOR = adafactor.Adafactor(
    decay_rate=0.8, logical_factor_rules=adafactor.standard_logical_factor_rules()
)
FRESH_OPTIMIZER = {
    "assignment_map": (("state/param_states/.*", None),),
    "fallback_to_scratch": True,
}


@pytest.fixture(scope="module")
def mesh():
    """Eight devices: parameters split over four, and over two again."""
    return PjitPartitioner(num_partitions=4, logical_axis_rules=standard_logical_axis_rules(1, 2))


@pytest.fixture(scope="module")
def initializer(make_model, mesh):
    """initializer(optimizer_def, **changes of the configuration) of the tiny model."""

    @functools.cache
    def make(optimizer_def=ADAFACTOR, **changes):
        model = make_model({"num_encoder_layers": 2, "num_decoder_layers": 1, **changes})
        return TrainStateInitializer(optimizer_def, model.get_initial_variables, SHAPES, mesh)

    return make


@pytest.fixture(scope="module")
def arrays(initializer):
    """The state of the tiny model by T5X's names, every number in it another."""
    rng = np.random.default_rng(5)
    shapes = arrays_by_name(initializer().global_train_state_shape.state_dict())
    values = {name: rng.normal(size=leaf.shape).astype(leaf.dtype) for name, leaf in shapes.items()}
    return {**values, "state/step": np.int32(1_000_000)}


@pytest.fixture(scope="module")
def legacy(arrays, tmp_path_factory):
    """A checkpoint of T5X's older layout with these arrays."""
    folder = tmp_path_factory.mktemp("t5x") / "checkpoint_1000000"
    write_checkpoint(folder, arrays.items())
    return folder


def restore(path, initializer, mesh, **cfg):
    """The state restored as RestoreCheckpointConfig(**cfg) says, by name."""
    state = restore_checkpoint(
        path,
        initializer.global_train_state_shape,
        mesh,
        cfg=RestoreCheckpointConfig(str(path), mode="specific", **cfg),
        from_scratch=functools.partial(initializer.first_values, jax.random.key(0)),
    )
    return arrays_by_name(state.state_dict())


def assert_equal(found, expected, names=None):
    for name in names or expected:
        np.testing.assert_array_equal(found[name], expected[name], err_msg=name)


def test_a_whole_state_is_restored_and_lies_split_over_the_mesh(legacy, arrays, initializer, mesh):
    found = restore(legacy, initializer(), mesh)
    assert found.keys() == arrays.keys()
    assert_equal(found, arrays)
    embedding = found["target/token_embedder/embedding"]  # [40 vocab, 16 embed]
    assert {shard.data.shape for shard in embedding.addressable_shards} == {(10, 8)}


def test_each_slice_is_read_once_and_nothing_else(legacy, initializer, mesh, monkeypatch):
    from stepdistill_jax.engine.checkpoint import state_restoring

    read, start_reading = {}, state_restoring._start_reading

    def start_and_count(array, leaf):
        slices = start_reading(array, leaf)
        read[leaf.shape] = len(slices)
        return slices

    monkeypatch.setattr(state_restoring, "_start_reading", start_and_count)
    restore(legacy, initializer(), mesh)
    assert read[(40, 16)] == 8  # split eight ways
    assert read[()] == 1  # the same on eight devices


def test_few_bytes_are_on_their_way_at_a_time(legacy, arrays, initializer, mesh, monkeypatch):
    from stepdistill_jax.engine.checkpoint import state_restoring

    monkeypatch.setattr(state_restoring, "_BYTES_IN_FLIGHT", 1000)
    assert_equal(restore(legacy, initializer(), mesh), arrays)


def test_bfloat16_is_read_as_what_is_wanted(arrays, initializer, mesh, tmp_path):
    saved = {
        name: array.astype(jnp.bfloat16) if name.startswith("target/") else array
        for name, array in arrays.items()
    }
    write_checkpoint(tmp_path / "checkpoint_1", saved.items())
    found = restore(tmp_path / "checkpoint_1", initializer(), mesh)
    name = "target/token_embedder/embedding"
    assert found[name].dtype == jnp.float32
    np.testing.assert_array_equal(found[name], saved[name].astype(np.float32))
    found = restore(tmp_path / "checkpoint_1", initializer(), mesh, dtype="bfloat16")
    assert found[name].dtype == jnp.bfloat16
    assert found["state/param_states/token_embedder/embedding/v"].dtype == jnp.float32


def test_parameters_alone_begin_with_a_fresh_optimizer(arrays, initializer, mesh, tmp_path, capsys):
    parameters = {name.removeprefix("target/"): a for name, a in arrays.items() if name.startswith("target/")}
    write_parameters(tmp_path / "checkpoint_7", parameters.items(), step=7)
    found = restore(tmp_path / "checkpoint_7", initializer(), mesh)
    assert_equal(found, arrays, [f"target/{name}" for name in parameters])
    assert int(found["state/step"]) == 7
    assert all(not np.any(leaf) for name, leaf in found.items() if name.startswith("state/param_states/"))
    assert "begin with their first values" in capsys.readouterr().err


def test_an_optimizer_may_be_begun_afresh_if_asked(legacy, arrays, initializer, mesh):
    adamw = initializer(optimizers.adamw())
    with pytest.raises(
        ValueError, match=r"another optimizer.*assignment_map = \(\('state/param_states/\.\*', None\),\)"
    ):
        restore(legacy, adamw, mesh)
    found = restore(legacy, adamw, mesh, **FRESH_OPTIMIZER)
    assert_equal(found, arrays, [name for name in arrays if not name.startswith("state/param_states")])


def test_missing_parameters_begin_from_scratch_only_if_allowed(arrays, initializer, mesh, tmp_path, capsys):
    lacking = {name: array for name, array in arrays.items() if "/layers_1/" not in name}
    write_checkpoint(tmp_path / "checkpoint_2", lacking.items())
    with pytest.raises(
        ValueError, match=r"target/encoder/layers_1/attention/key/kernel is missing.*; and \d+ more such"
    ):
        restore(tmp_path / "checkpoint_2", initializer(), mesh)
    found = restore(tmp_path / "checkpoint_2", initializer(), mesh, fallback_to_scratch=True)
    assert_equal(found, lacking)
    first = initializer().from_scratch(jax.random.key(0)).params
    np.testing.assert_array_equal(
        found["target/encoder/layers_1/mlp/wo/kernel"], first["encoder"]["layers_1"]["mlp"]["wo"]["kernel"]
    )
    assert "target/encoder/layers_1/mlp/wo/kernel" in capsys.readouterr().err


def test_parameters_that_the_model_lacks_are_an_error_unless_told_otherwise(
    legacy, arrays, initializer, mesh
):
    shallow = initializer(num_encoder_layers=1)
    with pytest.raises(
        ValueError,
        match=r"target/encoder/layers_1/attention/key/kernel is not in the model.*; and \d+ more such",
    ):
        restore(legacy, shallow, mesh)
    found = restore(legacy, shallow, mesh, strict=False)
    assert_equal(found, arrays, found)


def test_an_assignment_map_renames_and_copies(legacy, arrays, initializer, mesh):
    found = restore(
        legacy,
        initializer(num_encoder_layers=3),
        mesh,
        assignment_map=((r"(.*)/encoder/layers_2/(.*)", r"\1/encoder/layers_0/\2"),),
    )
    for part in ("target", "state/param_states"):
        suffix = "mlp/wo/kernel" + ("/v" if part != "target" else "")
        np.testing.assert_array_equal(
            found[f"{part}/encoder/layers_2/{suffix}"], arrays[f"{part}/encoder/layers_0/{suffix}"]
        )
    assert_equal(found, arrays)


def test_an_assignment_map_that_does_not_fit_is_explained(legacy, initializer, mesh):
    with pytest.raises(
        ValueError,
        match=r"gives target/token_embedder/embedding the checkpoint's target/emb, .* nearest 'target/",
    ):
        restore(legacy, initializer(), mesh, assignment_map=(("target/token_embedder/.*", "target/emb"),))
    with pytest.raises(ValueError, match=r"assignment_map's 'target/nothing' fits no array of the model"):
        restore(legacy, initializer(), mesh, assignment_map=(("target/nothing", None),))


def test_a_map_may_rotate_names_and_leaves_what_it_does_not_name():
    saved = {"a": 1, "b": 2, "c": 3, "d": 4}
    mapped = apply_assignment_map(saved, {"a": 0, "b": 0, "c": 0}, [("a", "b"), ("b", "a"), ("c", None)])
    assert mapped == {"a": 2, "b": 1, "d": 4}
    assert apply_assignment_map(saved, {"a": 0}, [("a", "b")], is_resuming=True) == saved


def test_a_state_may_be_changed_before_it_is_read(legacy, arrays, initializer, mesh):
    def negated_norm(state_dict, target_state_dict):
        scale = state_dict["target"]["encoder"]["encoder_norm"]["scale"]
        state_dict["target"]["encoder"]["encoder_norm"]["scale"] = -np.asarray(scale)
        return state_dict

    found = restore(legacy, initializer(), mesh, state_transformation_fns=[negated_norm])
    name = "target/encoder/encoder_norm/scale"
    np.testing.assert_array_equal(found[name], -arrays[name])


def test_another_vocabulary_size_says_the_mend(legacy, initializer, mesh):
    with pytest.raises(ValueError, match=r"set network\.T5Config\.vocab_size = 40, which the checkpoint has"):
        restore(legacy, initializer(vocab_size=48), mesh)


def test_stacked_layers_are_read_apart(arrays, initializer, mesh, tmp_path):
    parameters = unflatten_state_dict({n: a for n, a in arrays.items() if n.startswith("target/")})["target"]
    stacked = traverse_util.flatten_dict(stack_layers(parameters), sep="/")
    assert stacked["encoder/encoder/mlp/wo/kernel"].shape == (24, 2, 16)
    write_parameters(tmp_path / "checkpoint_0", stacked.items())
    found = restore(tmp_path / "checkpoint_0", initializer(), mesh)
    assert_equal(found, arrays, [name for name in arrays if name.startswith("target/")])


def test_a_damaged_array_is_named_with_the_checkpoint(arrays, initializer, mesh, tmp_path):
    folder = tmp_path / "checkpoint_3"
    write_checkpoint(folder, arrays.items())
    (folder / "target.token_embedder.embedding" / "0.0").unlink()
    with pytest.raises(
        ValueError, match=r"checkpoint_3 is damaged: .*target\.token_embedder\.embedding/0\.0 \(missing\)"
    ):
        restore(folder, initializer(), mesh)
    (folder / "checksums.txt").unlink()  # as T5X's
    with pytest.raises(
        ValueError, match=r"checkpoint_3 is damaged: .*target/token_embedder/embedding.*move the folder away"
    ):
        restore(folder, initializer(), mesh)


def test_the_newest_all_or_named_checkpoints_are_found(arrays, tmp_path):
    few = {"target/a": np.ones(3, np.float32)}
    for step in (5, 20, 100):
        write_checkpoint(tmp_path / "run" / f"checkpoint_{step}", few.items(), step=step)
    (tmp_path / "empty").mkdir()
    run, empty = str(tmp_path / "run"), str(tmp_path / "empty")

    def names(**cfg):
        return [path.name for path in find_checkpoints(RestoreCheckpointConfig(**cfg))]

    assert names(path=run) == ["checkpoint_100"]
    assert names(path=[empty, run], mode="all") == ["checkpoint_5", "checkpoint_20", "checkpoint_100"]
    assert names(path=[f"{run}/checkpoint_20", f"{run}/checkpoint_5"], mode="specific") == [
        "checkpoint_20",
        "checkpoint_5",
    ]
    assert names(path=[]) == names(path=None) == []
    assert find_checkpoint(RestoreCheckpointConfig(path=[])) is None
    with pytest.raises(ValueError, match=r"names 3 checkpoints, .*this needs one"):
        find_checkpoint(RestoreCheckpointConfig(path=run, mode="all"))
    with pytest.raises(FileNotFoundError, match=r"No checkpoint_<step> in .*empty; train first"):
        find_checkpoints(RestoreCheckpointConfig(path=empty))


def test_a_checkpoint_is_loaded_without_a_model(legacy, arrays):
    loaded = load_t5x_checkpoint(legacy.parent, restore_dtype=np.float16)
    embedding = loaded["target"]["token_embedder"]["embedding"]
    np.testing.assert_array_equal(embedding, arrays["target/token_embedder/embedding"].astype(np.float16))
    lazy = load_t5x_checkpoint(legacy, lazy_parameters=True)["target"]["token_embedder"]["embedding"]
    np.testing.assert_array_equal(lazy[:2].read().result(), arrays["target/token_embedder/embedding"][:2])


@pytest.fixture(scope="module")
def golden(shared):
    """The checkpoints that T5X wrote, what it says is in them, and the model they are of."""
    folder = shared / "oracle"
    with np.load(folder / "v1_1_tiny.npz") as file:
        config = json.loads(str(file["config"]))
        batch = {n.removeprefix("plain/batch/"): file[n] for n in file.files if n.startswith("plain/batch/")}
    names = ("vocab_size", "emb_dim", "num_heads", "num_encoder_layers", "num_decoder_layers", "head_dim")
    names = (*names, "mlp_dim", "mlp_activations", "logits_via_embedding", "dtype")
    vocabulary = seqio.PassThroughVocabulary(size=config["vocab_size"], eos_id=1)
    module = network.Transformer(network.T5Config(**{name: config[name] for name in names}))
    model = models.EncoderDecoderModel(module, vocabulary, vocabulary, ADAFACTOR)
    with np.load(folder / "t5x_checkpoints.npz") as file:
        return folder / "t5x_checkpoints", dict(file), model, batch


@pytest.mark.parametrize("layout", ["legacy", "orbax"])
def test_what_t5x_saved_is_what_we_restore(golden, mesh, layout):
    folder, values, model, batch = golden
    shapes = {name: (8, *rows.shape[1:]) for name, rows in batch.items()}
    initializer = TrainStateInitializer(ADAFACTOR, model.get_initial_variables, shapes, mesh)
    state = restore_checkpoint(folder / f"{layout}_checkpoint_10", initializer.global_train_state_shape, mesh)
    assert int(state.step) == values[f"{layout}/step"]
    norms = {f"{layout}/norms/{n}": np.linalg.norm(a) for n, a in arrays_by_name(state.params).items()}
    assert norms.keys() == {name for name in values if name.startswith(f"{layout}/norms/")}
    for name, norm in norms.items():
        np.testing.assert_allclose(norm, values[name], rtol=1e-6, err_msg=name)
    logits = jax.jit(model._compute_logits)(jax.device_get(state.params), batch)
    np.testing.assert_allclose(logits, values[f"{layout}/logits"], rtol=1e-4, atol=1e-5)
