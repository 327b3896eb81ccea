"""How many rows are decoded at a time where that is 'auto'. A CPU's compiler is taken for a GPU's."""

import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec

from stepdistill_jax.base import messages
from stepdistill_jax.engine.data.dataset_config import DatasetConfig
from stepdistill_jax.engine.evaluate import inference, rows_at_once
from stepdistill_jax.engine.hardware import step_memory
from stepdistill_jax.engine.partition.partitioning import PjitPartitioner

LENGTH, WIDTH = 16, 256
AXES = types.SimpleNamespace(params={"scale": PartitionSpec()})
# What a row needs at least: an array of its sums.
ROW_BYTES = 4 * LENGTH * WIDTH


@pytest.fixture
def decode(monkeypatch, capsys):
    """decode(num_examples, free, batch_size) -> (rows of every batch, what was said); `free` None is a device that says nothing."""

    def run(num_examples, free, batch_size="auto", *, num_devices=1):
        messages._said.clear()
        partitioner = PjitPartitioner(num_partitions=1)
        partitioner.use_devices(jax.devices()[:num_devices])
        if callable(free):
            monkeypatch.setattr(step_memory, "free_bytes", free)
            monkeypatch.setattr(rows_at_once, "_platform", lambda mesh: "gpu")
        else:
            monkeypatch.setattr(rows_at_once, "_free_bytes", lambda mesh: free)
        sizes = []

        def step(params, batch):
            sizes.append(len(batch["encoder_input_tokens"]))
            rows = batch["encoder_input_tokens"][:, :, None] * params["scale"] * jnp.ones(WIDTH)
            return jnp.argmax(jax.lax.sort(rows, dimension=2).sum(axis=2), axis=1)

        examples = np.random.default_rng(0).integers(1, 9, (num_examples, LENGTH)).astype(np.int32)
        infer = inference.get_infer_fn(step, batch_size, AXES, partitioner)
        capsys.readouterr()
        params = jax.device_put({"scale": jnp.array(2.0)}, partitioner.shardings(AXES.params))
        rows = enumerate({"encoder_input_tokens": row} for row in examples)
        results = infer(rows, types.SimpleNamespace(params=params))
        assert [index for index, _ in results] == list(range(num_examples))
        assert [int(place) for _, place in results] == examples.argmax(axis=1).tolist()
        return sizes, capsys.readouterr().err

    return run


def test_where_nobody_says_what_fits_rows_are_64_or_all_there_are(decode):
    assert decode(5, None) == ([5], "")
    assert decode(100, None) == ([64], "")
    assert decode(5, None, num_devices=2)[0] == [6]
    assert decode(5, None, 8)[0] == [8]


def test_as_many_are_decoded_as_fit(decode):
    sizes, said = decode(600, 2**40)
    assert set(sizes) == {300}  # two batches, rather than of 512 and 88
    assert said == "decoding 300 rows at a time\n"
    assert decode(1024, 2**40)[0] == [512]
    assert decode(200, 2**40)[0] == [200]


def test_what_does_not_fit_is_halved(decode):
    sizes, said = decode(512, 200 * ROW_BYTES)
    assert sizes[:3] == [512, 256, 128]
    expected = (
        f"decoding {sizes[-1]} rows at a time, as 512 do not fit beside what is in the devices' memory\n"
    )
    assert said == expected
    assert decode(40, 0, num_devices=2)[0][-1] == 2


def test_a_compiler_that_refuses_a_step_says_that_it_does_not_fit(decode, monkeypatch):
    compile_step, refusals = step_memory.compile_step, ["RESOURCE_EXHAUSTED: in other words"]

    def refuse_the_first(lowered):
        if refusals:
            raise step_memory.ProgramTooLarge(refusals.pop())
        return compile_step(lowered)

    monkeypatch.setattr(step_memory, "compile_step", refuse_the_first)
    assert decode(100, 2**40)[0] == [100, 50]


def test_processes_go_by_the_fullest_device_and_the_first_that_refuses(decode, monkeypatch):
    def with_another(result):
        monkeypatch.setattr(rows_at_once.exchange, "results_of_all", lambda function: [function(), result])

    with_another(None)  # of another that does not know
    assert decode(100, lambda device: 2**40)[0] == [64]
    with_another(0)
    assert decode(100, lambda device: 2**40)[0][-1] == 1
    with_another(False)
    assert decode(8, 2**40)[0][-1] == 1


def test_a_cpu_does_not_say_what_is_free():
    assert rows_at_once._free_bytes(PjitPartitioner(num_partitions=1).mesh) is None


def test_what_is_free_of_a_device_is_what_jax_may_take_besides():
    def device(**account):
        return types.SimpleNamespace(memory_stats=lambda: account)

    assert step_memory.free_bytes(device(bytes_limit=100, bytes_in_use=30)) == 70
    assert step_memory.free_bytes(device(bytes_in_use=30)) is None


def test_where_the_memory_is_too_full_by_then_half_of_the_rows_are_decoded(decode, monkeypatch):
    make_batches, refusals = inference._batches, ["RESOURCE_EXHAUSTED: once more", "RESOURCE_EXHAUSTED: full"]

    def batches(examples, num_rows, room):
        for number, batch in enumerate(make_batches(examples, num_rows, room)):
            if number == 1 and refusals:
                raise jax.errors.JaxRuntimeError(refusals.pop())
            yield batch

    monkeypatch.setattr(inference, "_batches", batches)
    sizes, said = decode(1024, 2**40)
    assert sizes == [512, 256, 128]
    assert said.endswith("the memory is too full by now: decoding 128 rows at a time\n")


def test_another_error_is_no_matter_of_memory(decode, monkeypatch):
    def batches(*_):
        raise jax.errors.JaxRuntimeError("INTERNAL: a broken device")

    monkeypatch.setattr(inference, "_batches", batches)
    with pytest.raises(jax.errors.JaxRuntimeError, match="INTERNAL"):
        decode(8, 2**40)


def test_the_compiled_step_is_the_one_that_runs(decode, caplog):
    with jax.log_compiles():
        sizes, _ = decode(100, 2**40)
    assert sizes == [100]
    assert sum("XLA compilation of jit(step)" in line for line in caplog.messages) == 1


def test_a_batch_that_is_trained_on_has_a_number():
    cfg = DatasetConfig("any", None, "train", "auto", shuffle=False, seed=0)
    with pytest.raises(ValueError, match=r"^batch_size='auto' is for decoding; .* a number of rows\.$"):
        PjitPartitioner(num_partitions=1).get_data_layout(cfg.batch_size)
    with pytest.raises(ValueError, match=r"batch_size='all' rows; use a whole number above 0, or 'auto' "):
        DatasetConfig("any", None, "train", "all", shuffle=False, seed=0)
    assert [rows_at_once.number_of(size) for size in ("auto", 7)] == [64, 7]
