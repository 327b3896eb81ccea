"""Eq. 3 on rows of inputs and targets together: the same loss as a T5 student's, on target tokens alone."""

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import seqio
from jax.sharding import PartitionSpec

from stepdistill_jax.engine.data.dataset_config import full_feature_lengths, read_features
from stepdistill_jax.engine.data.tokenized_task import TokenizedTask
from stepdistill_jax.engine.data.train_stream import TrainStream
from stepdistill_jax.engine.decode import decoding
from stepdistill_jax.engine.model import base_model, llama, models
from stepdistill_jax.engine.model.metrics import metric_values
from stepdistill_jax.engine.optim import adafactor
from stepdistill_jax.engine.partition import partitioning
from stepdistill_jax.engine.step.initialize import abstract_train_state
from stepdistill_jax.engine.step.trainer import accumulate_gradients
from stepdistill_jax.student.features import StepByStepDecoderFeatureConverter, StepByStepFeatureConverter
from stepdistill_jax.student.model import StepByStepDecoderModel, StepByStepModel

pytestmark = pytest.mark.usefixtures("quick_compilation")
LABEL, RATIONALE = 1, 2
LENGTHS = {"inputs": 14, "targets": 12, "task_ids": 12}
TINY = llama.LlamaConfig(
    vocab_size=40, emb_dim=16, num_heads=4, num_kv_heads=2, num_layers=2, head_dim=4, mlp_dim=24
)


def made_up_task(name, task_id, *, num_examples=11):
    rng = np.random.default_rng(task_id)
    sizes = {
        "inputs": rng.integers(3, 10, num_examples),
        "targets": rng.integers(*((2, 4) if task_id == LABEL else (5, 11)), num_examples),
    }
    rows = {
        feature: [[*rng.integers(2, 40, size - 1), 1] for size in sizes[feature]]
        for feature in ("inputs", "targets")
    }
    rows["task_ids"] = [[task_id] * size for size in sizes["targets"]]
    return TokenizedTask(
        name=name,
        tokens={feature: np.concatenate(values).astype(np.int32) for feature, values in rows.items()},
        offsets={feature: np.cumsum([0, *map(len, values)]) for feature, values in rows.items()},
    )


TASKS = [made_up_task("label", LABEL), made_up_task("rationale", RATIONALE)]


def first_batch(batch_size, converter_cls=StepByStepDecoderFeatureConverter, **settings):
    """(batch, how many examples it holds)."""
    stream = TrainStream(
        TASKS, [1.0, 1.0], converter_cls=converter_cls, lengths=LENGTHS, batch_size=batch_size, seed=0, **settings
    )  # fmt: skip
    batches = stream.batches()
    return next(batches), batches.next_draw


def make_student(**arguments):
    return StepByStepDecoderModel(
        llama.Llama(TINY),
        seqio.PassThroughVocabulary(size=40, eos_id=1),
        adafactor.Adafactor(),
        decoding.temperature_sample,
        **arguments,
    )


@pytest.fixture(scope="module")
def state():
    shapes = {"decoder_input_tokens": (2, 8), "decoder_target_tokens": (2, 8)}
    abstract = abstract_train_state(make_student(), shapes, {})
    rng = np.random.default_rng(0)
    draw = lambda leaf: jnp.asarray(rng.normal(0, 0.3, leaf.shape), jnp.float32)  # noqa: E731
    zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), abstract)
    return zeros.replace(params=jax.tree.map(draw, abstract.params))


@pytest.fixture(scope="module")
def packed_batch():
    batch, num_examples = first_batch(8)
    assert num_examples > 10
    return batch


def values_of(model, params, batch):
    """(loss, metrics as numbers)."""
    loss, metrics = jax.jit(lambda params, batch: model.loss_fn(params, batch, None))(params, batch)
    return float(loss), metric_values(metrics)


@pytest.mark.parametrize("block_tokens", [None, 16])
@pytest.mark.parametrize("rationale_weight", [0.0, 0.5])
def test_the_loss_is_equation_3_computed_by_hand(state, packed_batch, rationale_weight, block_tokens):
    model = make_student(rationale_weight=rationale_weight, loss_block_tokens=block_tokens)
    logits = np.asarray(jax.jit(model._compute_logits)(state.params, packed_batch), np.float64)
    targets, task_ids = packed_batch["decoder_target_tokens"], packed_batch["decoder_task_ids"]
    nll = np.log(np.exp(logits).sum(-1)) - np.take_along_axis(logits, targets[..., None], -1)[..., 0]
    correct = logits.argmax(-1) == targets
    is_label, is_rationale = task_ids == LABEL, task_ids == RATIONALE
    assert is_label.any()
    assert is_rationale.any()
    assert (targets > 0).sum() > (task_ids > 0).sum()  # inputs are no targets

    loss, metrics = values_of(model, state.params, packed_batch)
    expected = {
        "loss": nll[is_label].mean() + rationale_weight * nll[is_rationale].mean(),
        "label_loss": nll[is_label].mean(),
        "rationale_loss": nll[is_rationale].mean(),
        "label_accuracy": correct[is_label].mean(),
        "rationale_accuracy": correct[is_rationale].mean(),
        "label_tokens": is_label.sum(),
        "rationale_tokens": is_rationale.sum(),
    }
    assert metrics == pytest.approx(expected, rel=1e-5)
    assert loss == pytest.approx(expected["loss"], rel=1e-5)


def test_packed_rows_and_rows_of_their_own_have_the_same_loss_and_gradient(state):
    model = make_student(rationale_weight=0.7, z_loss=1e-3)
    gradient_of = jax.jit(jax.value_and_grad(lambda *arguments: model.loss_fn(*arguments, None)[0]))
    packed, num_examples = first_batch(8)
    alone, _ = first_batch(num_examples, pack=False)
    assert alone["decoder_target_tokens"].shape[0] > packed["decoder_target_tokens"].shape[0]
    loss, gradient = gradient_of(state.params, packed)
    other_loss, other_gradient = gradient_of(state.params, alone)
    np.testing.assert_allclose(loss, other_loss, rtol=1e-5)
    jax.tree.map(
        lambda one, other: np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5),
        gradient,
        other_gradient,
    )


@pytest.mark.parametrize(("num_partitions", "microbatches"), [(1, None), (2, 2)])
def test_devices_and_microbatches_do_not_change_loss_metrics_and_gradient(
    state, packed_batch, num_partitions, microbatches
):
    model = make_student()
    whole = jax.jit(lambda params, batch: accumulate_gradients(model, params, batch, None, None))
    gradient, metrics = whole(state.params, packed_batch)
    partitioner = partitioning.PjitPartitioner(num_partitions=num_partitions)
    axes = partitioner.get_mesh_axes(state).params
    split = partitioner.partition(
        lambda params, batch: accumulate_gradients(model, params, batch, None, microbatches),
        in_axis_resources=(axes, partitioner.data_partition_spec),
        out_axis_resources=(axes, PartitionSpec()),
    )
    params = jax.device_put(state.params, partitioner.shardings(axes))
    split_gradient, split_metrics = split(params, partitioner.global_batch(packed_batch))
    jax.tree.map(
        lambda one, other: np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-5),
        split_gradient,
        gradient,
    )
    assert metric_values(split_metrics) == pytest.approx(metric_values(metrics), rel=1e-5)


def test_both_students_read_the_same_targets_and_tasks():
    joined, num_examples = first_batch(6, pack=False)
    apart, _ = first_batch(6, StepByStepFeatureConverter, pack=False)
    for row in range(num_examples):
        for name in ("decoder_target_tokens", "decoder_task_ids"):
            learnt = joined[name][row][joined["decoder_loss_weights"][row] > 0]
            np.testing.assert_array_equal(learnt, apart[name][row][apart["decoder_loss_weights"][row] > 0])


@pytest.mark.parametrize("pack", [True, False])
def test_its_batch_is_described_without_the_feature_converter(pack):
    batch, _ = first_batch(4, pack=pack)
    features = base_model.described_features(make_student(), pack=pack)
    assert features.keys() == batch.keys()
    for name, of_task in features.items():
        assert sum(LENGTHS[part] for part in base_model.parts(of_task)) == batch[name].shape[1] == 26


def test_both_students_find_the_same_tokens_in_the_cache():
    read = [
        full_feature_lengths(LENGTHS, read_features(converter_cls, LENGTHS), "some task")
        for converter_cls in (StepByStepFeatureConverter, StepByStepDecoderFeatureConverter)
    ]
    assert list(read[0].items()) == list(read[1].items())


def test_the_loss_is_written_once_and_each_student_takes_its_models_arguments():
    for name in ("loss_fn", "eval_fn", "with_loss_weights", "__init__"):
        assert getattr(StepByStepModel, name) is getattr(StepByStepDecoderModel, name)
    assert make_student().FEATURE_CONVERTER_CLS is StepByStepDecoderFeatureConverter
    assert isinstance(make_student(inputs_bidirectional_attention=True), models.DecoderOnlyModel)
    own = make_student(feature_converter_cls=seqio.PrefixLMFeatureConverter)
    assert own.FEATURE_CONVERTER_CLS is seqio.PrefixLMFeatureConverter
    assert "rationale_weight" in inspect.signature(StepByStepDecoderModel).parameters


def test_settings_that_equation_3_has_not_are_refused():
    with pytest.raises(ValueError, match=r"rationale_weight=-1.0 .*use 0 or more"):
        make_student(rationale_weight=-1.0)
    with pytest.raises(ValueError, match=r"StepByStepDecoderModel got label_smoothing=0.1"):
        make_student(label_smoothing=0.1)
