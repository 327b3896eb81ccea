"""GGUF: what llama.cpp finds in the file, and what is refused."""

import numpy as np
import pytest

from stepdistill_jax import cli
from stepdistill_jax.base.vocabularies.sentencepiece_models import read_sentencepiece
from stepdistill_jax.interop.checkpoint_arrays import open_arrays
from stepdistill_jax.interop.t5.t5_checkpoint import t5_checkpoint
from stepdistill_jax.prediction.predictor import Predictor

gguf = pytest.importorskip("gguf")


def field(reader, name):
    return reader.fields[name].contents()


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_sizes_vocabulary_and_tensors_are_where_llama_cpp_looks(unigram_run, tmp_path, capsys, dtype):
    run = unigram_run()
    flags = ["--to", "gguf", "--quantization", dtype, "--output", str(tmp_path / "out")]
    assert cli.main(["export", str(run), *flags]) == 0
    assert "labels were not compared" in capsys.readouterr().out
    reader = gguf.GGUFReader(tmp_path / "out" / "student.gguf")
    checkpoint = t5_checkpoint(open_arrays(run / "checkpoint_7"))
    assert field(reader, "general.architecture") == "t5"
    for name, value in {
        "t5.block_count": 2,
        "t5.decoder_block_count": 3,
        "t5.embedding_length": 16,
        "t5.feed_forward_length": 24,
        "t5.attention.head_count": 4,
        "t5.attention.key_length": 4,
        "t5.attention.relative_buckets_count": 32,
        "t5.decoder_start_token_id": 0,
        "tokenizer.ggml.model": "t5",
        "tokenizer.ggml.eos_token_id": 1,
        "tokenizer.ggml.add_eos_token": True,
    }.items():
        assert field(reader, name) == value, name
    assert len(field(reader, "tokenizer.ggml.tokens")) == checkpoint.sizes.vocab_size
    assert "[label] " in field(reader, "general.description")
    tensors = {tensor.name: tensor.data for tensor in reader.tensors}
    arrays = {parameter.name: array.read() for parameter, array in checkpoint.parameters}
    for theirs, ours in {
        "token_embd.weight": arrays["token_embedder/embedding"],
        "output.weight": arrays["decoder/logits_dense/kernel"].T,
        "enc.blk.1.ffn_gate.weight": arrays["encoder/layers_1/mlp/wi_0/kernel"].T,
        "dec.blk.0.cross_attn_k.weight": arrays["decoder/layers_0/encoder_decoder_attention/key/kernel"].T,
        "enc.blk.0.attn_rel_b.weight": arrays["encoder/relpos_bias/rel_embedding"].T,
    }.items():
        tolerance = 1e-3 if dtype == "float16" else 0
        np.testing.assert_allclose(tensors[theirs], ours, rtol=tolerance, atol=tolerance)
    assert tensors["token_embd.weight"].dtype.name == dtype
    assert tensors["enc.blk.0.attn_norm.weight"].dtype == np.float32


def test_a_vocabulary_of_byte_pairs_is_refused(own_run, tmp_path, capsys):
    assert cli.main(["export", str(own_run), "--to", "gguf", "--output", str(tmp_path / "out")]) == 2
    assert "vocabulary is of byte pairs; llama.cpp reads T5's of unigrams alone" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_it_is_not_for_us_to_compute(unigram_run, tmp_path):
    cli.main(["export", str(unigram_run()), "--to", "gguf", "--output", str(tmp_path / "out")])
    with pytest.raises(ValueError, match="is an export of format 'gguf', which other programs read"):
        Predictor(tmp_path / "out")


@pytest.mark.slow
def test_what_is_normalised_goes_along(unigram_run, tmp_path):
    run = unigram_run(is_normalised=True)
    assert cli.main(["export", str(run), "--to", "gguf", "--output", str(tmp_path / "out")]) == 0
    reader = gguf.GGUFReader(tmp_path / "out" / "student.gguf")
    charsmap = bytes(field(reader, "tokenizer.ggml.precompiled_charsmap"))
    assert (
        charsmap
        == read_sentencepiece(run / "vocabulary" / "small.model").normalizer_spec.precompiled_charsmap
    )
