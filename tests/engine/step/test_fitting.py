"""A step that is left open: what is compiled, what is taken, and what is remembered. Peaks are those of the CPU's compiler."""

import json
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.linen import partitioning as flax_partitioning

from stepdistill_jax.base import messages
from stepdistill_jax.engine.hardware import step_memory
from stepdistill_jax.engine.hardware.step_memory import DeviceMemory
from stepdistill_jax.engine.model import base_model, metrics
from stepdistill_jax.engine.model.metrics import metric_values
from stepdistill_jax.engine.optim import adafactor, optimizers
from stepdistill_jax.engine.optim.train_state import FlaxOptimTrainState
from stepdistill_jax.engine.partition.partitioning import PjitPartitioner
from stepdistill_jax.engine.step import fitted_before, fitting
from stepdistill_jax.engine.step.initialize import abstract_train_state
from stepdistill_jax.engine.step.trainer import Trainer

pytestmark = pytest.mark.usefixtures("quick_compilation")
ROWS, LENGTH, WIDTH, LAYERS = 16, 64, 48, 4  # of the batch; on two devices eight rows each
RATE = 0.1


class Layers(base_model.BaseModel):
    """Layers of tanh over many places, so that activations outweigh parameters; with a key, half of the last are dropped."""

    def with_loss_weights(self, batch):
        return {**batch, "loss_weights": jnp.full(batch["targets"].shape, 1.0 / len(batch["targets"]))}

    def loss_fn(self, params, batch, dropout_rng):
        x = batch["features"][:, :, None] * jnp.ones(WIDTH)  # [rows, length, width]
        for name in sorted(params):
            x = jnp.tanh(x @ params[name])
        if dropout_rng is not None:
            x = x * jax.random.bernoulli(dropout_rng, 0.5, x.shape)
        loss = jnp.sum(jnp.square(x.mean((1, 2)) - batch["targets"]) * batch["loss_weights"])
        return loss, {"loss": metrics.AveragePerStep(total=loss, steps=1)}

    def get_initial_variables(self, rng, input_shapes, input_types=None):
        names = [f"w{layer}" for layer in range(LAYERS)]
        return {
            "params": {name: jnp.full((WIDTH, WIDTH), 0.02) for name in names},
            "params_axes": {
                f"{name}_axes": flax_partitioning.AxisMetadata(("embed", "mlp")) for name in names
            },
        }

    def predict_batch_with_aux(self, params, batch, rng=None):
        return batch["features"], {}

    def score_batch(self, params, batch, return_intermediates=False):
        return batch["targets"]


MODEL = Layers(optimizers.sgd())
BATCH = {
    "features": np.random.default_rng(0).normal(size=(ROWS, LENGTH)).astype(np.float32),
    "targets": np.random.default_rng(1).normal(size=ROWS).astype(np.float32),
}
ABSTRACT_BATCH = jax.eval_shape(lambda: BATCH)
STATE = abstract_train_state(MODEL, {}, {})


def make(num_microbatches="auto", *, num_devices=2):
    """(trainer, partitioner) of the model on some devices, all of them 'data'."""
    partitioner = PjitPartitioner(num_partitions=1)
    partitioner.use_devices(jax.devices()[:num_devices])
    axes = partitioner.get_mesh_axes(STATE)
    trainer = Trainer(
        MODEL, axes, partitioner, jax.random.key(1), lambda step: jnp.float32(RATE), num_microbatches
    )
    return trainer, partitioner


def memory_of(usable, **changes):
    return DeviceMemory(**{
        "hardware": "two chips", "device": "small chip", "usable_bytes": usable, "lasting_bytes": usable, **changes
    })  # fmt: skip


@pytest.fixture(scope="module")
def peaks(quick_compilation):
    """Number of microbatches -> peak bytes of a device."""
    trainer, partitioner = make()
    arguments = fitting.placed(STATE, ABSTRACT_BATCH, partitioner)
    return {
        number: step_memory.memory_of(
            trainer.with_microbatches(number).train_step.lower(*arguments).compile(), "cpu"
        )["peak_bytes"]
        for number in (1, 2, 4, 8)
    }


@pytest.fixture
def resolve(monkeypatch, capsys):
    """resolve(memory, refusals, **arguments) -> (number, numbers that were compiled for it, what was said).

    `refusals` has what the compiler says in place of a program, by the number.
    """
    made, compiled, messages_of = [], [], {}
    with_microbatches, compile_step = Trainer.with_microbatches, step_memory.compile_step

    def noted(trainer, number, layers):
        made.append(number if layers is None else (number, layers))
        return with_microbatches(trainer, number, layers)

    def compiled_or_refused(lowered):
        compiled.append(made[-1])
        if made[-1] in messages_of:
            raise step_memory.ProgramTooLarge(messages_of[made[-1]])
        return compile_step(lowered)

    monkeypatch.setattr(Trainer, "with_microbatches", noted)
    monkeypatch.setattr(step_memory, "compile_step", compiled_or_refused)

    def run(memory, refusals=None, *, num_devices=2, model=MODEL, began_with=None, **arguments):
        for earlier in (made, compiled, messages_of, messages._said):
            earlier.clear()
        messages_of.update(refusals or {})
        capsys.readouterr()
        trainer, partitioner = make(num_devices=num_devices)
        if began_with is not None:
            began_with = {"num_microbatches": began_with, "layers": None}
        found = fitting.resolve(
            trainer,
            STATE,
            ABSTRACT_BATCH,
            model=model,
            partitioner=partitioner,
            memory=memory,
            began_with=began_with,
            **arguments,
        )
        return found.num_microbatches, [*compiled], capsys.readouterr().err

    return run


def between(lower, upper):
    assert lower < upper
    return (lower + upper) // 2


def test_more_microbatches_need_less(peaks):
    assert peaks[1] > 2 * peaks[4] > 2 * peaks[8]


def test_where_all_fits_the_batch_is_worked_through_at_once(resolve, peaks):
    number, compiled, said = resolve(memory_of(peaks[1]))
    assert (number, compiled) == (1, [1])
    amount = step_memory.gib(peaks[1])
    assert said == f"num_microbatches = 1 (8 rows at once a device): {amount} of {amount} GiB.\n"


def test_as_few_are_taken_as_fit(resolve, peaks):
    number, compiled, said = resolve(memory_of(between(peaks[4], peaks[2])))
    assert number == 4
    assert compiled[0] == 1
    assert compiled[-1] == 4
    assert said.startswith("num_microbatches = 4 (2 rows at once a device): ")
    assert re.search(r"; [12] would need [\d.]+\.\n$", said)


def test_what_cannot_fit_is_not_compiled(resolve, peaks):
    """8 parts fit; of 1 the temporary bytes alone tell that 2 do not."""
    number, compiled, said = resolve(memory_of(peaks[8]))
    assert number == 8
    assert compiled[0] == 1
    assert 2 not in compiled
    assert "(1 row at once a device)" in said


def test_a_step_that_fits_in_no_number_of_parts_is_one_line_with_the_mend(resolve, peaks):
    with pytest.raises(
        ValueError, match=r"^The step does not fit on two chips even in 8 microbatches "
    ) as error:
        resolve(memory_of(peaks[8] - 1))
    line = str(error.value)
    assert f"it needs {step_memory.gib(peaks[8])} GiB on each small chip" in line
    assert "parameter_partitioning_dims = 2" in line
    assert "NUM_MICROBATCHES" not in line
    assert "\n" not in line


def test_a_state_that_does_not_fit_is_said_so_before_anything_is_compiled(resolve, monkeypatch):
    monkeypatch.setattr(Trainer, "with_microbatches", None)
    with pytest.raises(ValueError, match=r"it needs [\d.e-]+ GiB for the state and the batch alone on each"):
        resolve(memory_of(1000))


@pytest.mark.parametrize(
    ("message", "expected", "said_of_it"),
    [
        ("Used 8.0M of 1.5M hbm.", [1, 8], "1 would need 0.01."),
        (
            "required for HLO temporaries (4.0M) exceeds available HBM (1.5M).",
            [1, 4],
            "1 would need 0.00 GiB for HLO ",
        ),
        ("other words", [1, 2], "1 would need more memory."),
    ],
    ids=["all of it", "a part", "no figures"],
)
def test_a_compiler_that_refuses_a_step_says_that_it_does_not_fit(
    resolve, peaks, message, expected, said_of_it
):
    """Of what it says is temporary, an eighth, a fourth or nobody knows how much would fit."""
    memory = memory_of(3 * 2**19)
    assert max(peaks.values()) < memory.usable_bytes
    number, compiled, said = resolve(memory, {1: message})
    assert (number, compiled) == (expected[-1], expected)
    assert said_of_it in said


def test_a_compiler_that_refuses_every_step_ends_with_the_mend(resolve):
    refusals = dict.fromkeys((1, 2, 4, 8), "other words")
    with pytest.raises(
        ValueError, match=r"in 8 microbatches of one row a device: it needs more memory on each"
    ):
        resolve(memory_of(2**30), refusals)


def test_without_a_word_of_its_memory_a_device_gets_all_at_once(resolve):
    number, compiled, said = resolve(memory_of(None))
    assert (number, compiled) == (1, [])
    assert ": how much memory a small chip of two chips has is not known.\n" in said
    assert resolve(memory_of(None), began_with=4)[0] == 4
    number, _, said = resolve(memory_of(None), began_with=3)
    assert number == 1
    assert (
        "is not known; the run began with 3, which do not split 8 rows a device: its dropout is another "
        in said
    )


def test_what_is_usable_is_said(resolve, peaks):
    _, _, said = resolve(memory_of(2 * peaks[1], source="the host's free memory shared by 2 devices"))
    assert f"of {step_memory.gib(2 * peaks[1])} GiB (the host's free memory shared by 2 devices)." in said


def test_a_number_is_left_as_it_is(peaks):
    trainer, partitioner = make(2)
    same = fitting.resolve(
        trainer, STATE, ABSTRACT_BATCH, model=MODEL, partitioner=partitioner, memory=memory_of(1)
    )
    assert same is trainer


def test_the_step_that_was_found_is_the_one_that_is_run(peaks, caplog):
    """Nothing is compiled a second time, and it is the step of a trainer that was given the number."""
    auto, partitioner = make()
    found = fitting.resolve(
        auto, STATE, ABSTRACT_BATCH, model=MODEL, partitioner=partitioner, memory=memory_of(peaks[4])
    )
    given, _ = make(found.num_microbatches)

    def step_of(trainer):
        state = FlaxOptimTrainState.create(MODEL.optimizer_def, MODEL.get_initial_variables(None, {}))
        state = jax.device_put(state, partitioner.shardings(partitioner.get_mesh_axes(state)))
        return trainer.train_step, state, partitioner.global_batch(BATCH)

    def run(trainer):
        step, *arguments = step_of(trainer)
        caplog.clear()
        with jax.log_compiles():
            state, metrics_of_step, _ = step(*arguments)
        return (
            state,
            metrics_of_step,
            sum("XLA compilation of jit(train_step)" in line for line in caplog.messages),
        )

    state, found_metrics, num_compilations = run(found)
    expected, expected_metrics, num_of_given = run(given)
    assert (num_compilations, num_of_given) == (0, 1)
    jax.tree.map(np.testing.assert_array_equal, state.params, expected.params)
    assert metric_values(found_metrics) == metric_values(expected_metrics)


def test_a_second_start_with_the_same_facts_compiles_nothing(resolve, peaks, tmp_path):
    memory = memory_of(peaks[4])
    assert resolve(memory, folder=tmp_path)[:2] == (4, [1, 4])
    assert json.loads((tmp_path / "fitted_step.json").read_text())["plan"] == {
        "num_microbatches": 4,
        "layers": None,
    }
    before = (tmp_path / "fitted_step.json").read_bytes()
    for began_with in (None, 4):
        number, compiled, said = resolve(memory, folder=tmp_path, began_with=began_with)
        assert (number, compiled) == (4, [])
        assert said == (
            f"num_microbatches = 4 (2 rows at once a device), as {tmp_path / 'fitted_step.json'} has it.\n"
        )
    assert (tmp_path / "fitted_step.json").read_bytes() == before


def test_what_is_free_now_of_a_host_is_no_reason_to_look_again(resolve, peaks, tmp_path):
    resolve(memory_of(peaks[4], lasting_bytes=1), folder=tmp_path)
    assert resolve(memory_of(peaks[1], lasting_bytes=1), folder=tmp_path)[:2] == (4, [])


@pytest.mark.parametrize(
    "changes",
    [
        {"memory": memory_of(10**7, device="other chip")},
        {"memory": memory_of(10**9)},
        {"num_devices": 4},
        {"model": Layers(adafactor.Adafactor())},
    ],
    ids=["device", "memory", "mesh", "optimizer"],
)
def test_other_facts_are_looked_into(resolve, peaks, tmp_path, changes):
    resolve(memory_of(peaks[1]), folder=tmp_path)
    other = {"memory": memory_of(peaks[1]), **changes}
    assert resolve(folder=tmp_path, **other)[1] == [1]
    assert resolve(folder=tmp_path, **other)[1] == []


def test_versions_and_flags_are_facts_too(resolve, peaks, tmp_path, monkeypatch):
    memory = memory_of(peaks[1])
    resolve(memory, folder=tmp_path)
    monkeypatch.setattr(fitted_before, "__version__", "0")
    assert resolve(memory, folder=tmp_path)[1] == [1]
    monkeypatch.setenv("XLA_FLAGS", "--xla_other")
    assert resolve(memory, folder=tmp_path)[1] == [1]


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: text[:20],
        lambda text: "[]",
        lambda text: "{}",
        lambda text: text.replace('"num_microbatches": 4', '"num_microbatches": 3'),
        lambda text: text.replace('"num_microbatches": 4', '"num_microbatches": "4"'),
    ],
    ids=["cut", "a list", "empty", "another number", "a text"],
)
def test_a_damaged_file_is_said_to_be_so_and_made_anew(resolve, peaks, tmp_path, damage):
    file = tmp_path / "fitted_step.json"
    resolve(memory_of(peaks[4]), folder=tmp_path)
    whole = file.read_text()
    file.write_text(damage(whole))
    number, compiled, said = resolve(memory_of(peaks[4]), folder=tmp_path)
    assert (number, compiled) == (4, [1, 4])
    assert len(said.splitlines()) == 2
    assert f"{file} is damaged (" in said
    assert file.read_text() == whole


def test_a_run_that_goes_on_keeps_its_number_where_there_is_more_memory(resolve, peaks, tmp_path):
    resolve(memory_of(peaks[4]), folder=tmp_path)
    for folder in (tmp_path, tmp_path / "without the file"):
        number, compiled, said = resolve(memory_of(10 * peaks[1]), folder=folder, began_with=4)
        assert (number, compiled) == (4, [4])
        assert "num_microbatches = 4 (2 rows at once a device), with which the run began: " in said
        assert resolve(memory_of(10 * peaks[1]), folder=folder, began_with=4)[1] == []


def test_a_run_that_goes_on_where_its_number_does_not_fit_says_so(resolve, peaks, tmp_path):
    resolve(memory_of(peaks[4]), folder=tmp_path)
    number, compiled, said = resolve(memory_of(peaks[8]), folder=tmp_path, began_with=4)
    assert (number, compiled) == (8, [4, 8])
    assert (
        f"; 4 would need {step_memory.gib(peaks[4])}; the run began with 4, which do not fit: its dropout is "
        in said
    )
    assert len(said.splitlines()) == 1


def test_a_run_that_goes_on_over_more_devices_says_that_its_number_splits_no_longer(resolve, peaks, tmp_path):
    number, compiled, said = resolve(memory_of(peaks[1]), folder=tmp_path, began_with=8, num_devices=4)
    assert (number, compiled) == (1, [1])
    assert "; the run began with 8, which do not split 4 rows a device: its dropout is another" in said


def test_another_number_in_between_is_the_one_that_is_kept(resolve, peaks, tmp_path):
    resolve(memory_of(peaks[4]), folder=tmp_path)
    assert resolve(memory_of(peaks[4]), folder=tmp_path, began_with=8)[:2] == (8, [8])


def test_processes_go_by_the_worst_that_one_of_them_finds(resolve, peaks, monkeypatch):
    """Another process has half of the memory, and its compiler needs twice as much for all at once."""

    def from_all(text):
        if isinstance(json.loads(text), list):  # memory
            return [text, json.dumps([peaks[4], peaks[4]])]
        return [text, text]

    monkeypatch.setattr(fitting.exchange, "from_all", from_all)
    number, compiled, said = resolve(memory_of(peaks[1]))
    assert (number, compiled) == (4, [1, 4])
    assert f"of {step_memory.gib(peaks[4])} GiB" in said


def test_a_process_where_a_step_does_not_fit_decides_for_all(resolve, peaks, monkeypatch):
    later_trials = [True, False]

    def from_all(text):
        values = json.loads(text)
        if isinstance(values, list) or not later_trials.pop(0):
            return [text, text]
        _, _, peak, temporary = values["result"]
        return [text, json.dumps({"result": [False, "9.0 GiB", 10 * peak, temporary]})]

    monkeypatch.setattr(fitting.exchange, "from_all", from_all)
    number, compiled, said = resolve(memory_of(peaks[1]))
    assert (number, compiled) == (2, [1, 2])
    assert "; 1 would need 9.0." in said


def test_where_one_process_fails_all_do(resolve, peaks, monkeypatch):
    def from_all(text):
        failed = {"error": "ValueError: no such kernel"}
        return [text, text if isinstance(json.loads(text), list) else json.dumps(failed)]

    monkeypatch.setattr(fitting.exchange, "from_all", from_all)
    with pytest.raises(RuntimeError, match="failed in another process: ValueError: no such kernel"):
        resolve(memory_of(peaks[1]))
    told = []
    monkeypatch.setattr(fitting.exchange, "from_all", lambda text: [told.append(text) or text])

    def fail(lowered):
        raise ValueError("no such kernel")

    monkeypatch.setattr(step_memory, "compile_step", fail)
    with pytest.raises(ValueError, match="no such kernel"):
        resolve(memory_of(peaks[1]))
    assert json.loads(told[-1]) == {"error": "ValueError: no such kernel"}


def test_the_first_process_remembers_for_all(resolve, peaks, monkeypatch, tmp_path):
    monkeypatch.setattr(
        fitting.exchange,
        "from_process_0",
        lambda text: json.dumps([{"num_microbatches": 4, "layers": None}, None]),
    )
    assert resolve(memory_of(peaks[1]), folder=tmp_path)[:2] == (4, [])


@pytest.mark.parametrize(
    ("batch_size", "number", "devices", "multiple"),
    [(100, None, 8, 8), (24, 2, 8, 16), (6, 4, 1, 4), (12, "auto", 8, 8)],
)
def test_a_batch_that_does_not_split_is_refused(batch_size, number, devices, multiple):
    fitting.check_microbatches(multiple * 3, number, devices)
    with pytest.raises(ValueError, match=rf"batch_size={batch_size} .*use a multiple of {multiple}\."):
        fitting.check_microbatches(batch_size, number, devices)
