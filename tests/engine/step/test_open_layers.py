"""Layers that a config leaves to the engine: on a GPU or TPU the fastest plan that fits. Here a CPU's compiler is taken for a GPU's."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from stepdistill_jax.base import messages
from stepdistill_jax.engine.hardware import step_memory
from stepdistill_jax.engine.hardware.step_memory import DeviceMemory
from stepdistill_jax.engine.model.layer_stacks import LayerPlan, open_plans
from stepdistill_jax.engine.model.llama import LlamaConfig
from stepdistill_jax.engine.optim.train_state import FlaxOptimTrainState
from stepdistill_jax.engine.partition.partitioning import PjitPartitioner
from stepdistill_jax.engine.step import fitting
from stepdistill_jax.engine.step.initialize import abstract_train_state
from stepdistill_jax.engine.step.trainer import Trainer

pytestmark = pytest.mark.usefixtures("quick_compilation")
UNROLLED, LOOP, LEAN = LayerPlan(False, "none"), LayerPlan(True, "minimal"), LayerPlan(True, "full")
ROWS = 4
DEEP = {"num_encoder_layers": 5, "num_decoder_layers": 1, "scan_layers": None, "remat_policy": None}


@pytest.fixture(scope="module")
def model(make_model):
    return make_model(DEEP)


@pytest.fixture(scope="module")
def batch(make_batch):
    return make_batch(ROWS, 96, 64)


@pytest.fixture(scope="module")
def state(model, batch):
    shapes = {name: rows.shape for name, rows in batch.items()}
    return abstract_train_state(model, shapes, {name: rows.dtype for name, rows in batch.items()})


@pytest.fixture
def make_trainer(model, state):
    def make(num_microbatches):
        partitioner = PjitPartitioner(num_partitions=1)
        partitioner.use_devices(jax.devices()[:1])
        trainer = Trainer(
            model,
            partitioner.get_mesh_axes(state),
            partitioner,
            jax.random.key(1),
            lambda step: jnp.float32(0.1),
            num_microbatches,
        )
        return trainer, partitioner

    return make


@pytest.fixture(scope="module")
def programs():
    """(number, layers) -> the compiled step, for all tests."""
    return {}


@pytest.fixture
def resolve(make_trainer, model, state, batch, programs, monkeypatch, capsys):
    """resolve(num_microbatches, usable, **arguments) -> (plan, plans that were compiled for it, what was said)."""
    tried = []
    try_here, compile_step = fitting._Search._try_here, step_memory.compile_step

    def noted(search, plan):
        tried.append((plan.num_microbatches, plan.layers))
        return try_here(search, plan)

    def compiled_once(lowered):
        if tried[-1] not in programs:
            programs[tried[-1]] = compile_step(lowered)
        return programs[tried[-1]]

    monkeypatch.setattr(fitting, "_platform", lambda partitioner: "gpu")
    monkeypatch.setattr(fitting._Search, "_try_here", noted)
    monkeypatch.setattr(step_memory, "compile_step", compiled_once)

    def run(num_microbatches, usable, **arguments):
        tried.clear()
        messages._said.clear()
        trainer, partitioner = make_trainer(num_microbatches)
        found = fitting.resolve(
            trainer, state, batch, model=model, partitioner=partitioner,
            memory=DeviceMemory("one chip", "small chip", usable, usable), **arguments,
        )  # fmt: skip
        return (found.num_microbatches, found.layers), [*tried], capsys.readouterr().err

    return run


@pytest.fixture(scope="module")
def peaks(quick_compilation, model, state, batch, programs):
    """(number, plan) -> peak bytes."""
    partitioner = PjitPartitioner(num_partitions=1)
    partitioner.use_devices(jax.devices()[:1])
    trainer = Trainer(
        model, partitioner.get_mesh_axes(state), partitioner, jax.random.key(1), lambda step: jnp.float32(0.1)
    )
    arguments = fitting.placed(state, batch, partitioner)
    for plan in ((1, UNROLLED), (1, LOOP), (1, LEAN), (2, UNROLLED), (4, LEAN)):
        programs[plan] = trainer.with_microbatches(*plan).train_step.lower(*arguments).compile()
    return {plan: step_memory.memory_of(program, "gpu")["peak_bytes"] for plan, program in programs.items()}


def fits(peak_bytes):
    """As much memory as a step needs, and the twentieth that is left."""
    return peak_bytes * 20 // 19 + 20


@pytest.mark.parametrize(
    ("changes", "platform", "splits_parameters", "expected"),
    [
        ({}, "gpu", False, (UNROLLED, LOOP, LEAN)),
        ({}, "tpu", False, (LOOP, LEAN)),
        ({}, "cuda", False, (UNROLLED, LOOP, LEAN)),
        ({}, "gpu", True, (LOOP, LEAN)),
        ({"num_encoder_layers": 24, "num_decoder_layers": 24}, "gpu", False, (UNROLLED, LOOP, LEAN)),
        ({"num_encoder_layers": 24, "num_decoder_layers": 25}, "gpu", False, (LOOP, LEAN)),
        (
            {"num_encoder_layers": 4, "num_decoder_layers": 2},
            "gpu",
            True,
            (UNROLLED, LayerPlan(False, "minimal"), LayerPlan(False, "full")),
        ),
        ({}, "cpu", False, ()),
        ({"scan_layers": True}, "gpu", False, ()),
        ({"remat_policy": "minimal"}, "gpu", False, ()),
    ],
)
def test_what_a_config_leaves_open(tiny_config, changes, platform, splits_parameters, expected):
    config = tiny_config.replace(**(DEEP | changes))
    assert open_plans(config, platform, splits_parameters=splits_parameters) == expected


def test_of_a_language_model_the_same_is_open():
    config = LlamaConfig(vocab_size=8)
    assert open_plans(config, "gpu", splits_parameters=False) == (UNROLLED, LOOP, LEAN)
    assert open_plans(config, "gpu", splits_parameters=True) == (LOOP, LEAN)
    assert open_plans(None, "gpu", splits_parameters=False) == ()


def test_leaner_layers_need_less(peaks):
    assert peaks[1, UNROLLED] > peaks[1, LOOP] > peaks[1, LEAN]


def test_the_fastest_plan_that_fits_is_taken(resolve, peaks):
    for number in (None, 1):
        plan, compiled, said = resolve(number, fits(peaks[1, UNROLLED]))
        assert (plan, compiled) == ((1, UNROLLED), [(1, UNROLLED)])
        assert said.startswith("num_microbatches = 1 (4 rows at once a device), layers unrolled, all kept: ")
    plan, compiled, said = resolve(1, fits(peaks[1, LOOP]))
    assert (plan, compiled) == ((1, LOOP), [(1, UNROLLED), (1, LOOP)])
    assert "(4 rows at once a device), layers in a loop, matrix products kept: " in said
    assert f"; layers unrolled, all kept would need {step_memory.gib(peaks[1, UNROLLED])}.\n" in said
    assert resolve(1, fits(peaks[1, LEAN]))[0] == (1, LEAN)


def test_a_number_that_was_given_is_kept_and_where_nothing_fits_the_line_says_what_would(resolve, peaks):
    with pytest.raises(ValueError, match="raise NUM_MICROBATCHES") as error:
        resolve(1, peaks[1, LEAN] - 1)
    assert f"it needs {step_memory.gib(peaks[1, LEAN])} GiB" in str(error.value)
    assert "remat_policy" not in str(error.value)


def test_few_tokens_at_once_are_no_gain(resolve, peaks, monkeypatch):
    """Half of 4 rows of 96 + 64 tokens are 320."""
    monkeypatch.setattr(fitting, "_USED_OF_ACCELERATORS", 1.0)
    usable = max(peaks[2, UNROLLED], peaks[1, LOOP])
    assert usable < peaks[1, UNROLLED]
    assert resolve("auto", usable)[0] == (1, LOOP)
    monkeypatch.setattr(fitting, "_FEWEST_TOKENS", 320)
    plan, compiled, said = resolve("auto", usable)
    assert (plan, compiled) == ((2, UNROLLED), [(1, UNROLLED), (2, UNROLLED)])
    assert f"; 1 would need {step_memory.gib(peaks[1, UNROLLED])}.\n" in said
    monkeypatch.setattr(fitting, "_FEWEST_TOKENS", 321)
    assert resolve("auto", usable)[0] == (1, LOOP)


def test_all_is_tried_before_a_step_is_said_not_to_fit(resolve, peaks):
    with pytest.raises(ValueError, match=r"even in 4 microbatches of one row a device: it needs ") as error:
        resolve("auto", peaks[4, LEAN] - 1)
    assert "NUM_MICROBATCHES" not in str(error.value)


def test_a_run_that_goes_on_keeps_its_layers_and_then_its_number(resolve, peaks, tmp_path):
    began = {"num_microbatches": 1, "layers": dataclasses.asdict(LOOP)}
    plan, compiled, said = resolve("auto", fits(peaks[1, UNROLLED]), began_with=began)
    assert (plan, compiled) == ((1, LOOP), [(1, LOOP)])
    assert ", with which the run began: " in said
    plan, compiled, said = resolve("auto", fits(peaks[1, LEAN]), began_with=began)
    assert (plan, compiled) == ((1, LEAN), [(1, LOOP), (1, LEAN)])
    assert "; the run began with layers in a loop, matrix products kept, so its sums are rounded " in said
    elsewhere = {"num_microbatches": 2, "layers": None}  # as on a CPU
    assert resolve("auto", fits(peaks[1, UNROLLED]), began_with=elsewhere)[0] == (2, UNROLLED)


def test_a_run_that_goes_on_says_what_is_no_longer_so(resolve, peaks, monkeypatch):
    """Its number is given, and another now; or its layers are none that are looked through here."""
    began = {"num_microbatches": 2, "layers": dataclasses.asdict(UNROLLED)}
    plan, _, said = resolve(1, fits(peaks[1, UNROLLED]), began_with=began)
    assert plan == (1, UNROLLED)
    assert said.endswith("; the run began with 2: its dropout is another from here on.\n")
    monkeypatch.setattr(fitting, "open_plans", lambda *_, **__: (LOOP, LEAN))
    plan, _, said = resolve(1, fits(peaks[1, UNROLLED]), began_with={**began, "num_microbatches": 1})
    assert plan == (1, LOOP)
    assert "; the run began with layers unrolled, all kept, so its sums are rounded otherwise " in said
    with pytest.raises(ValueError, match=r"step_plan is \{'layers': 3\}, which is none of this version"):
        resolve(1, fits(peaks[1, UNROLLED]), began_with={"layers": 3})


def test_what_was_found_for_another_number_is_not_taken(resolve, peaks, tmp_path):
    usable = fits(peaks[1, UNROLLED])
    assert resolve(2, usable, folder=tmp_path)[0] == (2, UNROLLED)
    for asked in (1, "auto"):
        plan, compiled, said = resolve(asked, usable, folder=tmp_path)
        assert (plan, compiled) == ((1, UNROLLED), [(1, UNROLLED)])
        assert "damaged" not in said


def test_a_twentieth_of_the_memory_is_left(resolve, peaks):
    assert resolve(1, peaks[1, UNROLLED])[0] == (1, LOOP)


def test_precompile_may_have_what_does_not_fit(resolve, peaks):
    assert resolve(1, 1000, must_fit=False)[:2] == ((1, LEAN), [(1, UNROLLED), (1, LOOP), (1, LEAN)])


def test_what_was_found_is_remembered(resolve, peaks, tmp_path):
    first = resolve("auto", fits(peaks[1, LOOP]), folder=tmp_path)
    assert first[0] == (1, LOOP)
    saved = json.loads((tmp_path / "fitted_step.json").read_text(encoding="utf-8"))
    assert saved["plan"] == {
        "num_microbatches": 1,
        "layers": {"scan_layers": True, "remat_policy": "minimal"},
    }
    plan, compiled, said = resolve("auto", fits(peaks[1, LOOP]), folder=tmp_path, began_with=saved["plan"])
    assert (plan, compiled) == ((1, LOOP), [])
    assert f", layers in a loop, matrix products kept, as {tmp_path / 'fitted_step.json'} has it.\n" in said
    saved["plan"]["layers"] = {"scan_layers": True, "remat_policy": "most"}
    (tmp_path / "fitted_step.json").write_text(json.dumps(saved), encoding="utf-8")
    plan, compiled, said = resolve("auto", fits(peaks[1, LOOP]), folder=tmp_path)
    assert plan == (1, LOOP)
    assert "is damaged (ValueError: plan is " in said


def test_without_a_word_of_the_memory_layers_are_as_the_config_says(resolve):
    plan, compiled, said = resolve(None, None)
    assert (plan, compiled) == ((1, None), [])
    assert "is not known" in said


def test_every_plan_takes_the_same_step(make_trainer, make_params, model, batch):
    """Also with dropout, by its keys."""

    def step(layers):
        trainer, partitioner = make_trainer(None)
        shapes = {name: rows.shape for name, rows in batch.items()}
        axes = jax.eval_shape(lambda: model.get_initial_variables(jax.random.key(0), shapes))["params_axes"]
        variables = {"params": make_params(model), "params_axes": axes}
        state = FlaxOptimTrainState.create(model.optimizer_def, variables)
        state, metrics, _ = trainer.with_microbatches(None, layers).train_step(
            state, partitioner.global_batch({name: np.asarray(rows) for name, rows in batch.items()})
        )
        return float(metrics["loss"].compute()), state.params

    loss, params = step(None)
    for layers in (UNROLLED, LOOP, LEAN):
        other_loss, other_params = step(layers)
        assert other_loss == pytest.approx(loss, rel=1e-6)
        jax.tree.map(
            lambda one, other: np.testing.assert_allclose(one, other, atol=2e-5), params, other_params
        )
