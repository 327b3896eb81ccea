"""Which checkpoints there are, said by one listing for all who ask, without reading any of them."""

import subprocess
import sys

import pytest

from stepdistill_jax.base import checkpoint_folders


def test_steps_are_listed_by_number_and_half_written_ones_are_not(tmp_path):
    for name in ("checkpoint_20", "checkpoint_100", "checkpoint_3", "checkpoint_50.orbax-checkpoint-tmp"):
        (tmp_path / name).mkdir()
    for name in ("my_checkpoint_7", "checkpoint_x", "checkpoint_7.tmp-12"):
        (tmp_path / name).mkdir()
    (tmp_path / "checkpoint_8").write_text("a file")
    assert checkpoint_folders.steps_in(tmp_path) == [3, 20, 100]
    assert checkpoint_folders.steps_in(str(tmp_path)) == [3, 20, 100]


def test_a_folder_that_is_not_there_has_none(tmp_path):
    assert checkpoint_folders.steps_in(tmp_path / "nothing") == []


def test_a_name_and_its_step_are_each_other_s():
    assert checkpoint_folders.name_of(1_000_000) == "checkpoint_1000000"
    assert checkpoint_folders.steps_of(map(checkpoint_folders.name_of, (7, 0, 12))) == [0, 7, 12]


def test_listing_imports_nothing_heavy():
    code = (
        "import sys; from stepdistill_jax.base import checkpoint_folders; "
        "print(sorted({'jax', 'tensorstore', 'tensorflow', 'orbax'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def run_that_keeps_its_best(folder, metrics):
    """A run's folder with a checkpoint of each step, beside which Orbax's file of metrics is `metrics[step]`."""
    (folder / "run.json").write_text('{"best_by": {"metric": "accuracy", "mode": "max"}}')
    for step, text in metrics.items():
        (folder / f"checkpoint_{step}" / "metrics").mkdir(parents=True)
        (folder / f"checkpoint_{step}" / "metrics" / "metrics").write_text(text)
    return folder


def test_of_equals_the_newest_is_the_best_and_what_is_no_number_is_none(tmp_path):
    metrics = {1: '{"accuracy": 3.0}', 2: '{"accuracy": 3.0}', 3: '{"accuracy": NaN}', 4: '{"loss": 9.0}'}
    assert checkpoint_folders.find_step(run_that_keeps_its_best(tmp_path, metrics), None) == 2


def test_a_damaged_file_of_metrics_is_named_and_a_step_that_is_asked_for_is_given_all_the_same(tmp_path):
    run = run_that_keeps_its_best(tmp_path, {1: '{"accuracy": 3.0}', 2: '{"accu'})
    with pytest.raises(ValueError, match=r"checkpoint_2/metrics/metrics is damaged .* name one by --step"):
        checkpoint_folders.find_step(run, None)
    assert checkpoint_folders.find_step(run, 2) == 2
