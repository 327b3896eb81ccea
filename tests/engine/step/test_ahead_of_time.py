"""What is compiled ahead is what the first calls take, errors come where they came, and a notice is not made to wait in silence."""

import threading
from concurrent.futures import Future, ThreadPoolExecutor

import gin
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tensorflow as tf
from jax.sharding import PartitionSpec

from stepdistill_jax.engine.optim import adafactor
from stepdistill_jax.engine.partition.partitioning import PjitPartitioner
from stepdistill_jax.engine.step import ahead_of_time
from stepdistill_jax.engine.step.initialize import TrainStateInitializer
from stepdistill_jax.engine.step.trainer import Trainer

pytestmark = pytest.mark.usefixtures("quick_compilation")
ROWS = PartitionSpec("data")


@pytest.fixture(scope="module")
def programs():
    """Names of the programs that XLA has compiled, one after another."""
    names = []
    jax.monitoring.register_event_duration_secs_listener(
        lambda event, duration, **about: (
            names.append(about.get("fun_name")) if event.endswith("/backend_compile_duration") else None
        )
    )
    return names


@pytest.fixture
def many_cpus(monkeypatch):
    monkeypatch.setattr(ahead_of_time, "usable_cpus", lambda: 8)


@pytest.fixture
def thread():
    with ThreadPoolExecutor(1) as executor:
        yield executor


def doubled(partitioner, double=lambda rows: 2.0 * rows):
    return partitioner.partition(double, in_axis_resources=(ROWS,), out_axis_resources=ROWS)


def placed(partitioner, rows):
    return partitioner.placed_shapes(rows, ROWS)


def test_a_training_run_s_steps_are_compiled_once_and_ahead(
    many_cpus, programs, make_model, make_batch, monkeypatch
):
    model = make_model({"num_encoder_layers": 1, "num_decoder_layers": 1})
    model.optimizer_def = adafactor.Adafactor()
    batch = jax.tree.map(np.asarray, make_batch(rows=8))
    spec = {name: tf.TensorSpec(rows.shape, rows.dtype) for name, rows in batch.items()}

    def step_and_evaluate(*, ahead):
        partitioner = PjitPartitioner(num_partitions=2)
        shapes = {name: rows.shape for name, rows in batch.items()}
        initializer = TrainStateInitializer(
            model.optimizer_def, model.get_initial_variables, shapes, partitioner
        )
        axes = initializer.train_state_axes
        trainer = Trainer(model, axes, partitioner, jax.random.key(1), lambda step: jnp.float32(0.1), None)
        with ahead_of_time.compilation_thread() as thread:
            if ahead:
                ahead_of_time.compile_ahead(
                    thread,
                    trainer,
                    partitioner,
                    state=initializer.global_train_state_shape,
                    batch_spec=spec,
                    eval_batch_specs=[spec],
                )
                thread.submit(lambda: None).result()  # behind what was asked for
            state = initializer.from_scratch(jax.random.key(0))
            begin = len(programs)
            for _ in range(2):
                state, metrics, _ = trainer.train_step(state, partitioner.global_batch(batch))
            evaluated = trainer.eval_step(state.params, partitioner.global_batch(batch))
        return jax.device_get((state, metrics, evaluated)), len(programs) - begin

    found, compiled_at_calls = step_and_evaluate(ahead=True)
    assert compiled_at_calls == 0
    jax.clear_caches()
    expected, compiled_at_calls = step_and_evaluate(ahead=False)
    assert compiled_at_calls >= 2
    jax.tree.map(np.testing.assert_array_equal, found, expected)


def test_rows_of_another_shape_are_compiled_when_they_come(thread, programs):
    partitioner = PjitPartitioner(num_partitions=1)
    function = doubled(partitioner)
    function.compile_ahead(thread, placed(partitioner, jax.ShapeDtypeStruct((8,), np.float32)))
    rows = partitioner.global_batch({"rows": np.arange(16, dtype=np.float32)})["rows"]
    np.testing.assert_array_equal(function(rows), 2.0 * np.arange(16))


def test_what_goes_wrong_there_is_raised_by_the_call_and_by_no_later_one(thread):
    wrong = [True]

    def double(rows):
        if wrong:
            raise ValueError("num_heads=3 does not divide 8")
        return 2.0 * rows

    partitioner = PjitPartitioner(num_partitions=1)
    function = doubled(partitioner, double)
    rows = partitioner.global_batch({"rows": np.ones(8, np.float32)})["rows"]
    function.compile_ahead(thread, placed(partitioner, rows))
    with pytest.raises(ValueError, match="num_heads=3 does not divide 8"):
        function(rows)
    wrong.clear()
    np.testing.assert_array_equal(function(rows), 2.0 * np.ones(8))


def test_what_is_traced_there_is_configured_as_here(thread):
    @gin.configurable(module="test_ahead_of_time")
    def factor(value=gin.REQUIRED):
        return value

    gin.bind_parameter("factor.value", 2.0)
    gin.bind_parameter("three/factor.value", 3.0)
    partitioner = PjitPartitioner(num_partitions=1)
    function = doubled(partitioner, lambda rows: factor() * rows)
    rows = partitioner.global_batch({"rows": np.ones(8, np.float32)})["rows"]
    with gin.config_scope("three"):
        function.compile_ahead(thread, placed(partitioner, rows))
        np.testing.assert_array_equal(function(rows), 3.0 * np.ones(8))
    gin.clear_config()


@pytest.mark.parametrize(
    ("cpus", "processes", "has_one"), [(8, 1, True), (5, 1, True), (4, 1, False), (8, 2, False)]
)
def test_few_cpus_and_several_processes_compile_at_the_calls(monkeypatch, cpus, processes, has_one):
    monkeypatch.setattr(ahead_of_time, "usable_cpus", lambda: cpus)
    monkeypatch.setattr(jax, "process_count", lambda: processes)
    with ahead_of_time.compilation_thread() as thread:
        assert (thread is not None) == has_one


@pytest.mark.parametrize(
    ("error", "waits"), [(KeyboardInterrupt, True), (SystemExit, True), (ValueError, False)]
)
def test_a_notice_waits_for_the_compilation_and_an_error_does_not(many_cpus, error, waits):
    may_end, begun = threading.Event(), threading.Event()
    found: list[Future] = []

    def compilation():
        begun.set()
        assert may_end.wait(60)

    with pytest.raises(error), ahead_of_time.compilation_thread() as thread:  # noqa: PT012
        found += [thread.submit(compilation), thread.submit(compilation)]
        begun.wait(60)
        if waits:
            threading.Timer(0.2, may_end.set).start()
        raise error
    assert found[0].done() == waits
    assert found[1].cancelled()  # what has not begun is not
    may_end.set()
    assert found[0].result(60) is None
