"""Reading and writing a checkpoint's arrays by name, without a model."""

import ml_dtypes
import numpy as np
import pytest

from stepdistill_jax.engine.checkpoint import checkpoint_writer
from stepdistill_jax.engine.checkpoint.checkpoint_writer import write_checkpoint, write_parameters
from stepdistill_jax.engine.checkpoint.saved_checkpoint import numpy_dtype, open_checkpoint

RNG = np.random.default_rng(0)
ARRAYS = {
    "target/token_embedder/embedding": RNG.normal(size=(40, 16)).astype(np.float32),
    "target/encoder/layers_0/mlp/wo/kernel": RNG.normal(size=(24, 16)).astype(ml_dtypes.bfloat16),
    "target/encoder/encoder_norm/scale": np.zeros(16, np.float32),
    "state/param_states/encoder/encoder_norm/scale/v": RNG.normal(size=16).astype(np.float32),
    "state/param_states/encoder/encoder_norm/scale/v_row": np.zeros(1, np.float32),
    "state/step": np.int32(1_000_000),
}


@pytest.fixture
def written(tmp_path):
    write_checkpoint(tmp_path / "checkpoint_1000000", ARRAYS.items())
    return tmp_path / "checkpoint_1000000"


def test_arrays_come_back_as_they_were_written_zeros_too(written):
    checkpoint = open_checkpoint(written)
    assert checkpoint.layout == "t5x"
    assert checkpoint.names == set(ARRAYS)
    assert checkpoint.step == 1_000_000
    for name, array in checkpoint.arrays().items():
        assert array.shape == ARRAYS[name].shape
        assert numpy_dtype(array) == ARRAYS[name].dtype
        np.testing.assert_array_equal(array.read().result(), ARRAYS[name])


def test_a_slice_is_read_alone(written):
    array = open_checkpoint(written).parameters()["token_embedder/embedding"]
    np.testing.assert_array_equal(array[3:5].read().result(), ARRAYS["target/token_embedder/embedding"][3:5])


def test_parameters_are_written_one_at_a_time_in_chunks(tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoint_writer, "_CHUNK_BYTES", 1000)
    folder = tmp_path / "checkpoint_3"
    asked_for = []

    def parameters():
        for name in ("first", "second"):
            asked_for.append(len(list(tmp_path.glob("checkpoint_3.tmp-*/target.*/*.*"))))
            yield name, ARRAYS["target/token_embedder/embedding"]

    write_parameters(folder, parameters(), step=3)
    assert asked_for == [0, 5]  # four chunks of at most 1,000 bytes, and .zarray
    checkpoint = open_checkpoint(folder)
    assert checkpoint.step == 3
    np.testing.assert_array_equal(
        checkpoint.parameters()["second"], ARRAYS["target/token_embedder/embedding"]
    )


def test_what_could_not_be_written_whole_is_not_there(tmp_path):
    def parameters():
        yield "first", np.ones(4, np.float32)
        raise KeyError("second")

    with pytest.raises(KeyError, match="second"):
        write_parameters(tmp_path / "checkpoint_0", parameters())
    assert list(tmp_path.iterdir()) == []


def test_a_checkpoint_is_not_written_over(written):
    with pytest.raises(FileExistsError, match=r"checkpoint_1000000 exists; name another folder"):
        write_parameters(written, [])


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match=r"file/checkpoint_0 cannot be written: .*"):
        write_parameters(tmp_path / "file" / "checkpoint_0", [("a", np.ones(4))])


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda folder: (folder / "target.encoder.encoder_norm.scale" / "0").unlink(), "missing"),
        (lambda folder: (folder / "target.encoder.encoder_norm.scale" / "0").write_bytes(b""), "Error"),
    ],
    ids=["missing chunk", "empty chunk"],
)
def test_a_chunk_that_was_lost_is_an_error_not_zeros(written, damage, message):
    damage(written)
    with pytest.raises(ValueError, match=message):
        open_checkpoint(written).parameters()["encoder/encoder_norm/scale"].read().result()


def test_arrays_that_cannot_be_opened_are_all_named(written):
    for name in ("target.encoder.encoder_norm.scale", "target.token_embedder.embedding"):
        (written / name / ".zarray").unlink()
    with pytest.raises(
        ValueError, match=r"checkpoint_1000000 is damaged: 2 arrays cannot be read: target/enc"
    ) as e:
        open_checkpoint(written).arrays()
    assert "target/token_embedder/embedding" in str(e.value)


def test_an_index_that_was_cut_is_damage(written):
    index = written / "checkpoint"
    index.write_bytes(index.read_bytes()[:100])
    with pytest.raises(
        ValueError, match=r"checkpoint_1000000 is damaged: 1 arrays cannot be read: checkpoint"
    ):
        open_checkpoint(written)


def test_what_is_no_checkpoint_is_said_with_what_there_is(written, tmp_path):
    with pytest.raises(
        FileNotFoundError, match=r"checkpoint_7 is not a checkpoint: .* has checkpoint_1000000\."
    ):
        open_checkpoint(tmp_path / "checkpoint_7")
    with pytest.raises(FileNotFoundError, match=r"it holds checkpoints, checkpoint_1000000; name one"):
        open_checkpoint(tmp_path)
    (tmp_path / "hf").mkdir()
    (tmp_path / "hf" / "config.json").write_text("{}")
    with pytest.raises(FileNotFoundError, match=r"Hugging Face model; `stepdistill convert`"):
        open_checkpoint(tmp_path / "hf")
    (tmp_path / "tf").mkdir()
    (tmp_path / "tf" / "checkpoint").write_text('model_checkpoint_path: "model.ckpt-1000"')
    with pytest.raises(ValueError, match=r"tf is a TensorFlow checkpoint"):
        open_checkpoint(tmp_path / "tf")
