"""What a run saves and keeps, and what happens when a save goes wrong behind its back."""

import json
import os
import resource
import shutil
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from stepdistill_jax.base import checkpoint_folders
from stepdistill_jax.engine.checkpoint.checkpoint_config import (
    Checkpointer,
    OrbaxCheckpointManagerInterface,
    SaveBestCheckpointer,
    SaveCheckpointConfig,
)
from stepdistill_jax.engine.checkpoint.run_checkpoints import (
    RunCheckpoints,
    StreamPosition,
    read_stream_position,
)
from stepdistill_jax.engine.checkpoint.saved_checkpoint import checkpoint_steps, open_checkpoint
from stepdistill_jax.engine.optim import optimizers
from stepdistill_jax.engine.optim.train_state import FlaxOptimTrainState

POSITION = StreamPosition(seed=11, next_draw=470)


def state_of(step, size=8):
    return FlaxOptimTrainState(
        step=jnp.int32(step),
        params={"kernel": jnp.arange(size, dtype=jnp.float32) + step},
        param_states={"kernel": {"v": jnp.ones(size)}},
        params_axes={},
        optimizer_def=optimizers.sgd(),
    )


def save_all(folder, cfg, metrics_by_step):
    checkpoints = RunCheckpoints(folder, cfg)
    for step, metrics in metrics_by_step.items():
        checkpoints.save(step, state_of(step), POSITION, metrics=metrics)
    checkpoints.close()
    return checkpoint_steps(folder)


ACCURACIES = {1: 0.3, 2: 0.9, 3: 0.5, 4: 0.8, 5: 0.1}


def accuracies(name="inference_eval/task/eval/accuracy"):
    return {step: {name: value} for step, value in ACCURACIES.items()}


def best(**rules):
    return {
        "checkpointer_cls": lambda: SaveBestCheckpointer(
            metric_name_to_monitor="inference_eval/task/eval/accuracy", **rules
        )
    }


def test_the_best_are_kept_and_the_newest(tmp_path):
    assert save_all(tmp_path, SaveCheckpointConfig(keep=2, **best()), accuracies()) == [2, 4, 5]


@pytest.mark.parametrize(("mode", "step"), [("max", 2), ("min", 5)])
def test_the_best_is_what_a_run_is_asked_by_if_it_says_so(tmp_path, mode, step, capsys):
    cfg = SaveCheckpointConfig(keep=5, **best(metric_mode=mode))
    assert len(save_all(tmp_path, cfg, accuracies())) == 5
    assert checkpoint_folders.find_step(tmp_path, None) == 5
    said = {checkpoint_folders.BEST_BY: {"metric": "inference_eval/task/eval/accuracy", "mode": mode}}
    (tmp_path / "run.json").write_text(json.dumps(said))
    assert checkpoint_folders.find_step(tmp_path, None) == step
    assert checkpoint_folders.find_step(tmp_path, 4) == 4
    assert ("step 2 is taken, the best by inference_eval" in capsys.readouterr().err) == (step == 2)


def test_the_best_may_be_the_smallest(tmp_path):
    assert save_all(tmp_path, SaveCheckpointConfig(keep=1, **best(metric_mode="min")), accuracies()) == [5]


def test_rules_may_be_bound_to_the_manager_instead(tmp_path):
    rules = OrbaxCheckpointManagerInterface(
        metric_name_to_monitor="inference_eval/task/eval/accuracy", keep=1
    )
    cfg = SaveCheckpointConfig(checkpoint_manager_cls=lambda: rules)
    assert save_all(tmp_path, cfg, accuracies()) == [2, 5]


def test_the_best_are_known_after_a_restart(tmp_path):
    cfg = SaveCheckpointConfig(keep=1, **best())
    assert save_all(tmp_path, cfg, dict(list(accuracies().items())[:3])) == [2, 3]
    assert save_all(tmp_path, cfg, dict(list(accuracies().items())[3:])) == [2, 5]


@pytest.mark.parametrize(("keep_without", "kept"), [(True, [2, 3, 6, 7]), (False, [2, 7])])
def test_checkpoints_without_the_metric_are_kept_if_asked(tmp_path, keep_without, kept):
    metrics = {2: accuracies()[2], 3: {}, 4: accuracies()[4], 6: {}, 7: accuracies()[1]}
    cfg = SaveCheckpointConfig(keep=1, **best(keep_checkpoints_without_metrics=keep_without))
    assert save_all(tmp_path, cfg, metrics) == kept


def test_a_period_and_a_pin_keep_checkpoints_whatever_the_rules(tmp_path):
    cfg = SaveCheckpointConfig(keep=1, **best(force_keep_period=3))
    save_all(tmp_path, cfg, {1: accuracies()[1]})
    (tmp_path / "checkpoint_1" / "PINNED").write_text("")
    rest = {step: metrics for step, metrics in accuracies().items() if step > 1}
    assert save_all(tmp_path, cfg, rest) == [1, 2, 3, 5]


def test_a_metric_that_there_is_not_is_named_at_the_first_step_that_should_have_it(tmp_path):
    cfg = SaveCheckpointConfig(**best())
    with pytest.raises(
        ValueError,
        match=r"eval/accuracy' is not among the metrics of step 1; nearest 'inference_eval/task/eval/bleu'",
    ):
        save_all(tmp_path, cfg, {1: {"inference_eval/task/eval/bleu": 3.0, "train/accuracy": 0.5}})


def test_settings_that_cannot_be_are_named():
    with pytest.raises(ValueError, match=r"SaveBestCheckpointer\.metric_mode='best'; use 'max' or 'min'"):
        SaveBestCheckpointer(metric_mode="best")
    with pytest.raises(ValueError, match=r"SaveCheckpointConfig\.keep=0; use 1 or more, or None"):
        SaveCheckpointConfig(keep=0)
    with pytest.raises(
        ValueError, match=r"SaveCheckpointConfig\.checkpointer_cls=dict; use checkpoints\.Checkpointer"
    ):
        SaveCheckpointConfig(checkpointer_cls=dict).keeping_rules()
    assert SaveCheckpointConfig(keep=3, checkpointer_cls=Checkpointer).keeping_rules().keep == 3


def test_what_is_saved_may_be_changed(tmp_path):
    def without_moments(state_dict, names):
        assert names["target"]["kernel"] == "target/kernel"
        return {"target": state_dict["target"], "state": {"step": state_dict["state"]["step"]}}, names

    save_all(tmp_path, SaveCheckpointConfig(state_transformation_fns=[without_moments]), {4: {}})
    assert open_checkpoint(tmp_path / "checkpoint_4").names == {"target/kernel", "state/step"}


def test_nothing_is_written_before_the_first_save(tmp_path):
    checkpoints = RunCheckpoints(tmp_path / "run", SaveCheckpointConfig())
    assert checkpoints.latest_step() is None
    checkpoints.close()
    assert not (tmp_path / "run").exists()


def test_what_a_killed_save_left_is_cleared_away(tmp_path):
    save_all(tmp_path, SaveCheckpointConfig(), {4: {}})
    shutil.copytree(tmp_path / "checkpoint_4", tmp_path / "checkpoint_6.orbax-checkpoint-tmp")
    assert save_all(tmp_path, SaveCheckpointConfig(), {5: {}}) == [4, 5]
    assert sorted(os.listdir(tmp_path)) == ["checkpoint_4", "checkpoint_5"]


def test_a_checkpoint_without_a_stream_position_says_so(tmp_path):
    save_all(tmp_path, SaveCheckpointConfig(), {4: {}})
    assert read_stream_position(tmp_path / "checkpoint_4") == POSITION
    shutil.rmtree(tmp_path / "checkpoint_4" / "stream")
    with pytest.raises(FileNotFoundError, match=r"checkpoint_4 holds no position .*restore_dataset = False"):
        read_stream_position(tmp_path / "checkpoint_4")


@pytest.fixture
def full_disk():
    """Within it no file may grow past 64 KiB: what a full disk does to a save, without a disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (64 * 1024, hard))
    yield lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def save_and_wait_for_failure(checkpoints, state):
    """Raises what the loop's check does at some step after a save."""
    checkpoints.save(7, state, POSITION)
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        checkpoints.check()
        time.sleep(0.01)
    pytest.fail("the failure did not come up")


def test_a_failure_in_the_background_comes_up_by_the_next_check(tmp_path, full_disk):
    checkpoints = RunCheckpoints(tmp_path, SaveCheckpointConfig())
    noise = jnp.asarray(np.random.default_rng(0).normal(size=200_000), jnp.float32)
    state = state_of(7).replace(params={"kernel": noise})
    with pytest.raises(
        OSError, match=r"checkpoint_7 could not be saved: .*(File too large|EFBIG).* goes on from"
    ) as caught:
        save_and_wait_for_failure(checkpoints, state)
    assert "\n" not in str(caught.value)
    full_disk()
    checkpoints.close()
    assert checkpoint_steps(tmp_path) == []


def test_a_folder_that_was_taken_away_is_named(tmp_path):
    folder = tmp_path / "run"
    checkpoints = RunCheckpoints(folder, SaveCheckpointConfig())
    checkpoints.open()
    shutil.rmtree(folder)
    folder.write_text("a file in its place")
    with pytest.raises(OSError, match=r"run/checkpoint_7 could not be saved: .*"):
        save_and_wait_for_failure(checkpoints, state_of(7))


def test_the_state_is_copied_before_its_memory_is_used_again(tmp_path):
    checkpoints = RunCheckpoints(tmp_path, SaveCheckpointConfig())
    state = state_of(3, size=100_000)
    expected = np.array(state.params["kernel"])
    overwrite = jax.jit(lambda params: jax.tree.map(jnp.zeros_like, params), donate_argnums=0)
    checkpoints.save(3, state, POSITION)
    jax.block_until_ready(overwrite(state.params))
    checkpoints.close()
    saved = open_checkpoint(tmp_path / "checkpoint_3").parameters()["kernel"]
    np.testing.assert_array_equal(saved.read().result(), expected)
