"""A run whose number of microbatches is found: it is the run of that number, and a run that goes on keeps it."""

import json
import shutil

import pytest

from stepdistill_jax.base import messages
from stepdistill_jax.engine.hardware import step_memory
from stepdistill_jax.engine.hardware.step_memory import DeviceMemory

SHORT = (
    "BATCH_SIZE = 16",  # two rows to each of eight devices
    "TRAIN_STEPS = 4",
    "CHECKPOINT_PERIOD = 2",
    "train.train_eval_dataset_cfg = None",
    "train.infer_eval_dataset_cfg = None",
)
AUTO = (*SHORT, "NUM_MICROBATCHES = 'auto'")


@pytest.fixture(scope="module")
def in_two(train, tmp_path_factory):
    """The folder of a run whose batch does not go through at once, by the compiler's word."""
    folder = tmp_path_factory.mktemp("auto") / "in_two"
    compile_step = step_memory.compile_step
    compiled = []

    def refuse_the_first(lowered):
        compiled.append(lowered)
        if len(compiled) == 1:
            raise step_memory.ProgramTooLarge("RESOURCE_EXHAUSTED: in other words")
        return compile_step(lowered)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(step_memory, "compile_step", refuse_the_first)
        train(folder, *AUTO)
    assert len(compiled) == 2
    return folder


def record(folder):
    return json.loads((folder / "run.json").read_text(encoding="utf-8"))


def test_a_run_takes_the_steps_of_the_number_that_was_found(in_two, train, tmp_path):
    given = tmp_path / "given"
    train(given, *SHORT, "NUM_MICROBATCHES = 2")
    assert (in_two / "metrics.jsonl").read_bytes() == (given / "metrics.jsonl").read_bytes()
    assert (
        record(in_two)["step_plan"] == record(given)["step_plan"] == {"num_microbatches": 2, "layers": None}
    )
    assert json.loads((in_two / "fitted_step.json").read_text())["plan"] == record(given)["step_plan"]
    assert "NUM_MICROBATCHES = 'auto'" in (in_two / "config.gin").read_text(encoding="utf-8")
    assert not (given / "fitted_step.json").exists()


def half_of(run, folder):
    return shutil.copytree(run, folder, ignore=shutil.ignore_patterns("checkpoint_4"))


def test_a_run_that_goes_on_compiles_nothing_for_it_and_ends_with_the_same_log(
    in_two, train, tmp_path, monkeypatch
):
    folder = half_of(in_two, tmp_path / "goes_on")
    monkeypatch.setattr(step_memory, "compile_step", None)
    train(folder, *AUTO)
    assert (folder / "metrics.jsonl").read_bytes() == (in_two / "metrics.jsonl").read_bytes()


def test_on_a_larger_device_a_run_goes_on_with_its_number(in_two, train, tmp_path, monkeypatch, capfd):
    messages._said.clear()
    large = DeviceMemory("the devices here", "larger chip", 2**50, 2**50)
    monkeypatch.setattr(step_memory, "attached", lambda mesh: large)
    folder = half_of(in_two, tmp_path / "goes_on")
    train(folder, *AUTO)
    assert (folder / "metrics.jsonl").read_bytes() == (in_two / "metrics.jsonl").read_bytes()
    said = capfd.readouterr().err
    assert "num_microbatches = 2 (1 row at once a device), with which the run began: " in said
    assert record(folder)["step_plan"]["num_microbatches"] == 2


def test_a_run_that_was_given_a_number_keeps_it(train, tmp_path, monkeypatch):
    given, folder = tmp_path / "given", tmp_path / "goes_on"
    train(given, *SHORT, "NUM_MICROBATCHES = 2")
    train(half_of(given, folder), *AUTO)
    assert (folder / "metrics.jsonl").read_bytes() == (given / "metrics.jsonl").read_bytes()


def test_a_step_that_does_not_fit_at_all_ends_the_run_in_one_line(train, tmp_path, monkeypatch):
    small = DeviceMemory("the devices here", "small chip", 2**16, 2**16)
    monkeypatch.setattr(step_memory, "attached", lambda mesh: small)
    with pytest.raises(
        ValueError, match=r"^The step does not fit on the devices here: it needs .* alone on each small chip "
    ):
        train(tmp_path / "run", *AUTO)
    assert not (tmp_path / "run").exists()
