"""A decoder-only student's run becomes a GGUF file with its tokenizer, and is refused where only T5s are written."""

import dataclasses
import hashlib
import json
import shutil

import numpy as np
import pytest
from made_up_students import description_of
from small_vocabulary import END, START, write_tokenizer

from stepdistill_jax.engine.checkpoint.checkpoint_writer import write_parameters
from stepdistill_jax.exports.export import export
from stepdistill_jax.interop.checkpoint_arrays import open_arrays
from stepdistill_jax.interop.decoder_only.parameter_names import parameters
from stepdistill_jax.interop.decoder_only.sizes import DecoderSizes
from stepdistill_jax.interop.gguf_files.reading import open_gguf
from stepdistill_jax.prediction.description import VocabularyFile, write_description
from stepdistill_jax.prediction.predictor import Predictor

SIZES = DecoderSizes(
    vocab_size=320, emb_dim=16, num_heads=4, num_kv_heads=2, num_layers=2, head_dim=4, mlp_dim=24
)


@pytest.fixture
def run(tmp_path):
    """A run's folder: student.json, its tokenizer, a checkpoint."""
    folder = tmp_path / "fruit"
    (folder / "vocabulary").mkdir(parents=True)
    file = write_tokenizer(folder / "vocabulary" / "tokenizer.json", special_first=False)
    sha256 = hashlib.sha256(file.read_bytes()).hexdigest()
    words = VocabularyFile("tokenizers", "vocabulary/tokenizer.json", sha256, start=START, end=END)
    network = {**dataclasses.asdict(SIZES), "dtype": "float32", "mlp_activations": ["silu", "linear"]}
    write_description(folder, description_of(vocabulary=words, network=network))
    rng = np.random.default_rng(0)
    arrays = [(p.name, rng.normal(size=p.shape).astype(np.float32)) for p in parameters(SIZES)]
    write_parameters(folder / "checkpoint_7", arrays, step=7)
    return folder


def test_a_gguf_file_has_its_numbers_and_its_tokens_in_the_file_s_order(run, tmp_path):
    export(run, tmp_path / "out", to="gguf", quantization="float32")
    file = open_gguf(tmp_path / "out" / "student.gguf")
    tokens = file.fields["tokenizer.ggml.tokens"]
    assert (tokens.index(START), tokens.index(END)) == (
        file.fields["tokenizer.ggml.bos_token_id"],
        file.fields["tokenizer.ggml.eos_token_id"],
    )
    assert tokens[0] == "!"
    ours = open_arrays(run / "checkpoint_7").arrays["token_embedder/embedding"].read()
    np.testing.assert_array_equal(file.tensors["token_embd.weight"].data[tokens.index(START)], ours[0])
    np.testing.assert_array_equal(file.tensors["token_embd.weight"].data[0], ours[tokens.index(START)])
    assert "Inputs need the prefix" in file.fields["general.description"]
    assert file.fields["tokenizer.ggml.add_bos_token"] is True
    card = (tmp_path / "out" / "README.md").read_text()
    assert "A decoder of 2 layers, width 16, 320 embeddings." in card
    assert f"begins with the token `{START}`; inputs end with `{END}`" in card
    assert "T5" not in card


def test_a_carried_folder_is_a_whole_export_too(run, tmp_path):
    shutil.copytree(run, tmp_path / "carried")
    shutil.rmtree(run)
    exported = export(tmp_path / "carried", tmp_path / "out", to="gguf")
    assert (exported.quantization, (tmp_path / "out" / "vocabulary" / "tokenizer.json").is_file()) == (
        "float32",
        True,
    )


def test_a_hugging_face_folder_predicts_as_the_run_does(run, tmp_path):
    exported = export(run, tmp_path / "out", to="huggingface")
    assert json.loads((tmp_path / "out" / "config.json").read_text())["model_type"] == "llama"
    texts = ["apples and pears", "a plum!"]
    theirs, ours = Predictor(exported.folder)(texts), Predictor(run)(texts)
    assert [each.label for each in theirs] == [each.label for each in ours]
    for one, other in zip(theirs, ours, strict=True):
        np.testing.assert_allclose(
            list(one.probabilities.values()), list(other.probabilities.values()), atol=1e-6
        )


def test_ctranslate2_is_for_t5s(run, tmp_path):
    with pytest.raises(
        ValueError, match="CTranslate2 is given T5s alone here; export a decoder-only student --to hugg"
    ):
        export(run, tmp_path / "out", to="ctranslate2")
