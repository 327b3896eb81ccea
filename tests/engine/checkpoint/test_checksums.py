"""A checkpoint is what was saved: whatever bit of whatever file of it flips, its file is named before anything is used."""

import functools
import random
import re
import shutil

import jax
import numpy as np
import pytest

from stepdistill_jax.engine.checkpoint import checksums
from stepdistill_jax.engine.checkpoint.checkpoint_config import (
    RestoreCheckpointConfig,
    SaveBestCheckpointer,
    SaveCheckpointConfig,
)
from stepdistill_jax.engine.checkpoint.checkpoint_writer import write_checkpoint
from stepdistill_jax.engine.checkpoint.finding import find_checkpoint, load_t5x_checkpoint
from stepdistill_jax.engine.checkpoint.run_checkpoints import (
    RunCheckpoints,
    StreamPosition,
    read_stream_position,
)
from stepdistill_jax.engine.checkpoint.saved_checkpoint import open_checkpoint
from stepdistill_jax.engine.checkpoint.state_restoring import restore_checkpoint
from stepdistill_jax.engine.optim import adafactor
from stepdistill_jax.engine.partition.partitioning import PjitPartitioner
from stepdistill_jax.engine.step.initialize import abstract_train_state

METRIC = "inference_eval/task/eval/accuracy"


PARAMETER = ("encoder", "layers_0", "mlp", "wi_0", "kernel")


@pytest.fixture(scope="module")
def partitioner():
    return PjitPartitioner(num_partitions=1)


@pytest.fixture(scope="module")
def abstract(make_model):
    """Shapes of the tiny model's state."""
    model = make_model({"num_encoder_layers": 1, "num_decoder_layers": 1})
    model.optimizer_def = adafactor.Adafactor(beta1=0.9)
    shapes = {"encoder_input_tokens": (8, 6), "decoder_input_tokens": (8, 6)}
    return abstract_train_state(model, shapes, {})


@pytest.fixture(scope="module")
def state(abstract):
    random_state = np.random.default_rng(0)
    return jax.tree.map(lambda leaf: random_state.normal(size=leaf.shape).astype(leaf.dtype), abstract)


@pytest.fixture(scope="module")
def restored(abstract, partitioner):
    """restored(path, **choices): the state in a checkpoint."""
    return functools.partial(restore_checkpoint, train_state=abstract, partitioner=partitioner)


@pytest.fixture(scope="module")
def saved(tmp_path_factory, state):
    """A run's checkpoint, with everything that one may have."""
    folder = tmp_path_factory.mktemp("run")
    rules = SaveBestCheckpointer(metric_name_to_monitor=METRIC)
    checkpoints = RunCheckpoints(folder, SaveCheckpointConfig(checkpointer_cls=lambda: rules))
    checkpoints.save(4, jax.device_put(state), StreamPosition(seed=3, next_draw=70), metrics={METRIC: 0.5})
    checkpoints.close()
    return folder / "checkpoint_4"


@pytest.fixture(scope="module")
def in_t5x_layout(tmp_path_factory, saved):
    path = tmp_path_factory.mktemp("legacy") / "checkpoint_4"
    write_checkpoint(path, open_checkpoint(saved).arrays().items())
    return path


@pytest.fixture
def copy(saved, tmp_path):
    return shutil.copytree(saved, tmp_path / "checkpoint_4")


def parameter(state):
    found = state.params
    for key in PARAMETER:
        found = found[key]
    return np.asarray(found)


def found_and_restored(path, restored):
    """As every command does."""
    find_checkpoint(RestoreCheckpointConfig(str(path), mode="specific"))
    return restored(path)


def flip(path, bit):
    content = bytearray(path.read_bytes())
    content[bit // 8] ^= 1 << bit % 8
    path.write_bytes(content)


def files_of(folder):
    return sorted(path for path in folder.rglob("*") if path.is_file())


@pytest.mark.parametrize("layout", ["saved", "in_t5x_layout"])
def test_every_file_is_summed_up(layout, request):
    folder = request.getfixturevalue(layout)
    names = {path.relative_to(folder).as_posix() for path in files_of(folder)}
    assert set(checksums.read(folder)) == names - {checksums.FILE}
    assert checksums.check(folder).num_files == len(names) - 1


@pytest.mark.parametrize("num_flips", [40, pytest.param(200, marks=pytest.mark.slow)])
@pytest.mark.parametrize("layout", ["saved", "in_t5x_layout"])
def test_no_flipped_bit_loads_in_silence(layout, num_flips, request, restored):
    folder = request.getfixturevalue(layout)
    draws, files = random.Random(num_flips), files_of(folder)
    for number in range(num_flips):
        file = files[number % len(files)]
        bit = draws.randrange(8 * file.stat().st_size)
        flip(file, bit)
        with pytest.raises(ValueError, match=r"is damaged: ") as caught:
            found_and_restored(folder, restored)
        assert file.relative_to(folder).as_posix() in str(caught.value), bit
        flip(file, bit)
    found_and_restored(folder, restored)


def test_only_the_checksums_see_a_flipped_number(copy, state, restored):
    """What they are for: without them such a checkpoint loads, with another number in it."""
    data = max((copy / "state").rglob("d/*"), key=lambda path: path.stat().st_size)
    silent = 0
    for bit in range(8 * 1000, 8 * data.stat().st_size, data.stat().st_size):
        flip(data, bit)
        try:
            loaded = restored(copy, verify=False)
        except ValueError:
            pass  # the decompressor noticed
        else:
            same = jax.tree.map(np.array_equal, jax.device_get(loaded), state)
            silent += not all(jax.tree.leaves(same))
        with pytest.raises(ValueError, match=r"1 file is not as saved: .*/d/\w+ \(CRC-32 \w{8}, not \w{8}\)"):
            restored(copy)
        flip(data, bit)
    assert silent


def test_a_file_that_is_missing_or_cut_is_named(copy):
    (copy / "state" / "_METADATA").write_bytes(b"{}")
    shutil.rmtree(copy / "stream")
    with pytest.raises(ValueError, match=r"state/_METADATA \(2 bytes, not \d+\)") as caught:
        checksums.check(copy)
    assert "stream/metadata (missing)" in str(caught.value)
    assert "Copy it again, or move the folder away to go on from the checkpoint before it" in str(
        caught.value
    )
    assert "\n" not in str(caught.value)


def test_the_streams_position_is_compared_before_it_is_read(copy):
    assert read_stream_position(copy) == StreamPosition(seed=3, next_draw=70)
    position = copy / "stream" / "metadata"
    position.write_text(position.read_text().replace("70", "71"))
    with pytest.raises(ValueError, match=r"stream/metadata \(CRC-32"):
        read_stream_position(copy)
    assert read_stream_position(copy, verify=False).next_draw == 71


def test_arrays_without_a_model_are_compared_too(copy):
    flip(copy / "state" / "manifest.ocdbt", 100)
    with pytest.raises(ValueError, match=r"state/manifest\.ocdbt"):
        load_t5x_checkpoint(copy)


def test_restoring_says_what_comparing_took(copy, capsys, restored):
    restored(copy)
    assert re.search(
        r"checkpoint_4: restored in [\d.]+ s; comparing \d+ files \([\d.]+ MiB\) with its checksums took [\d.]+ s\n",
        capsys.readouterr().err,
    )


def test_a_checkpoint_that_is_restored_twice_says_so_once(copy, capsys, restored):
    for _ in range(2):
        restored(copy)
    assert capsys.readouterr().err.count("restored in") == 1


def test_a_checkpoint_without_checksums_loads_and_that_is_said(copy, capsys, restored, state):
    (copy / checksums.FILE).unlink()
    np.testing.assert_array_equal(parameter(restored(copy)), parameter(state))
    assert "it has no checksums, as T5X's and those of earlier versions have none" in capsys.readouterr().err


def test_the_hurried_compare_nothing_and_are_told_so(copy, capsys, restored):
    flip(copy / "commit_success.txt", 3)
    restored(copy, verify=False)
    assert "its files were not compared with its checksums this time" in capsys.readouterr().err


def test_a_file_that_was_put_there_later_is_nobodys(copy):
    before = checksums.check(copy)
    (copy / "PINNED").write_text("")
    after = checksums.check(copy)
    assert (after.num_files, after.num_bytes) == (before.num_files, before.num_bytes)


def test_hosts_share_the_files_out(copy):
    whole = checksums.check(copy)
    parts = [checksums.check(copy, share=(index, 3)) for index in range(3)]
    assert sum(part.num_files for part in parts) == whole.num_files
    assert sum(part.num_bytes for part in parts) == whole.num_bytes
    flip(copy / "state" / "_METADATA", 5)
    found = []
    for index in range(3):
        try:
            checksums.check(copy, share=(index, 3))
        except ValueError as error:
            found.append(str(error))
    assert len(found) == 1
    assert "state/_METADATA" in found[0]
