"""GGUF files become checkpoints and checkpoints GGUF files: the same numbers, ids and sizes; what is damaged or unknown is named."""

import json

import gguf
import numpy as np
import pytest
import tokenizers
from decoder_folders import FAMILIES
from small_gguf import write_file
from small_vocabulary import END, START

from stepdistill_jax import cli
from stepdistill_jax.base.vocabularies.tokenizer_files import load_tokenizer
from stepdistill_jax.engine.checkpoint.saved_checkpoint import open_checkpoint
from stepdistill_jax.interop import convert_from_gguf, convert_from_huggingface
from stepdistill_jax.interop.checkpoint_arrays import open_arrays
from stepdistill_jax.interop.decoder_only.decoder_checkpoint import decoder_checkpoint
from stepdistill_jax.interop.gguf_files.reading import open_gguf, rows_of_halves, rows_of_pairs
from stepdistill_jax.interop.gguf_files.tokenizer import PRE_TOKENIZERS, tokenizer_json
from stepdistill_jax.interop.gguf_files.writing import write_decoder_gguf

LLAMA3 = {
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192,
}
TEXTS = ("how many apples!", "Größe 12345 it's\n\n  x", f"a {END} b", "!")


def numbers_in(checkpoint):
    return {name: np.asarray(store) for name, store in open_checkpoint(checkpoint).parameters().items()}


@pytest.fixture
def model(decoder_folder, tmp_path):
    """model(family, pre=…) -> (its conversion, the GGUF file of it)."""

    def make(family, *, pre="gpt-2", dtype="float32", **changes):
        if family.startswith("llama3"):
            changes |= {"rope_scaling": {"rope_type": "llama3", **LLAMA3}, "head_dim": 32}
        if family == "gemma3":  # what llama.cpp takes for granted
            changes |= {"sliding_window_pattern": 6, "query_pre_attn_scalar": 6}
        folder = decoder_folder(family, **changes)
        content = json.loads((folder / "tokenizer.json").read_text())
        content["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": PRE_TOKENIZERS[pre]}
        (folder / "tokenizer.json").write_text(json.dumps(content))
        ours = convert_from_huggingface(folder, tmp_path / "ours")
        file = tmp_path / "model.gguf"
        write_decoder_gguf(decoder_checkpoint(open_arrays(ours.checkpoint)), file, dtype=dtype)
        return ours, file

    return make


@pytest.mark.parametrize("family", [family for family in FAMILIES if family != "llama3_of_version_5"])
def test_a_checkpoint_goes_into_a_file_and_comes_out_bit_for_bit(model, tmp_path, family):
    ours, file = model(family)
    back, _ = convert_from_gguf(file, tmp_path / "back")
    before, after = numbers_in(ours.checkpoint), numbers_in(back.checkpoint)
    assert before.keys() == after.keys()
    # Gemma's norms are kept plus 1 there, which rounds.
    exact = family != "gemma3"
    for name, numbers in before.items():
        np.testing.assert_allclose(after[name], numbers, rtol=0, atol=0 if exact else 3e-7, err_msg=name)
    assert back.sizes == ours.sizes
    assert (back.tokens.start, back.tokens.end) == (START, END)


def test_half_precision_is_kept_as_such(model, tmp_path):
    ours, file = model("qwen2", dtype="float16")
    back, origin = convert_from_gguf(file, tmp_path / "back")
    assert set(origin.quantizations) == {"F16", "F32"}
    before, after = numbers_in(ours.checkpoint), numbers_in(back.checkpoint)
    assert after["token_embedder/embedding"].dtype == np.float16
    for name, numbers in before.items():
        np.testing.assert_array_equal(after[name], numbers.astype(after[name].dtype))


@pytest.mark.parametrize("pre", ["smollm", "qwen2", "llama-bpe"])
def test_its_tokenizer_gives_the_same_ids(model, tmp_path, pre):
    ours, file = model("smollm2", pre=pre)
    back, _ = convert_from_gguf(file, tmp_path / "back")
    assert open_gguf(file).fields["tokenizer.ggml.pre"] == pre
    before, after = (load_tokenizer(m.vocabulary, m.tokens.start, m.tokens.end) for m in (ours, back))
    assert [after.encode(text) for text in TEXTS] == [before.encode(text) for text in TEXTS]
    assert after.pieces()[: before.vocab_size] == before.pieces()
    words = tokenizers.Tokenizer.from_file(back.vocabulary)
    assert words.decode(words.encode("how many").ids) == "how many"


KINDS = gguf.GGMLQuantizationType


@pytest.mark.parametrize("kind", [KINDS.Q8_0, KINDS.Q4_0, KINDS.Q4_1, KINDS.Q5_0, KINDS.BF16, KINDS.F16])
def test_quantised_tensors_are_what_gguf_makes_of_them_with_heads_in_halves(tmp_path, kind):
    read = write_file(tmp_path / "model.gguf", quantization=kind)
    model, origin = convert_from_gguf(tmp_path / "model.gguf", tmp_path / "ours")
    assert origin.quantizations[0] == kind.name
    found = numbers_in(model.checkpoint)
    layer = "decoder/layers_0"
    for place, name in (
        (f"{layer}/mlp/wo", "blk.0.ffn_down"),
        (f"{layer}/self_attention/value", "blk.0.attn_v"),
    ):
        np.testing.assert_array_equal(found[f"{place}/kernel"].astype(np.float32), read[name].T)
    query = found[f"{layer}/self_attention/query/kernel"].astype(np.float32).T.reshape(4, 16, 64)
    theirs = read["blk.0.attn_q"].reshape(4, 16, 64)
    np.testing.assert_array_equal(query[:, :8], theirs[:, 0::2])
    np.testing.assert_array_equal(query[:, 8:], theirs[:, 1::2])
    np.testing.assert_array_equal(found["token_embedder/embedding"].astype(np.float32), read["token_embd"])


def test_rows_of_halves_and_of_pairs_undo_each_other():
    for heads in (1, 3):
        np.testing.assert_array_equal(rows_of_pairs(24, heads)[rows_of_halves(24, heads)], np.arange(24))


def test_a_file_cut_anywhere_is_one_line_that_names_it(tmp_path):
    write_file(tmp_path / "model.gguf")
    content = (tmp_path / "model.gguf").read_bytes()
    cut = tmp_path / "cut.gguf"
    for length in (0, 3, 20, 100, 2000, len(content) // 2, len(content) - 40):
        cut.write_bytes(content[:length])
        with pytest.raises(
            ValueError, match=r"cut\.gguf is no whole GGUF file \(.*\); fetch it again"
        ) as caught:
            open_gguf(cut)
        assert "\n" not in str(caught.value)
    cut.write_bytes(b"PK" + content[2:])
    with pytest.raises(ValueError, match="is no whole GGUF file"):
        open_gguf(cut)
    with pytest.raises(FileNotFoundError, match=r"There is no file .*absent\.gguf"):
        open_gguf(tmp_path / "absent.gguf")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"architecture": "phi3"}, "general.architecture='phi3'; we convert llama, qwen2, qwen3, gemma3"),
        ({"expert_count": 8}, r"llama\.expert_count=8, which our network does not compute"),
        ({"rope.dimension_count": 8}, "rope.dimension_count of a part of a head's 16 features"),
        ({"edit": lambda w: w.add_tokenizer_model("bert")}, "tokenizer.ggml.model='bert'; we rebuild 'gpt2' and 'llama' alone"),
        ({"edit": lambda w: w.add_tokenizer_model("llama")}, "it has 0 tokenizer.ggml.scores for 300 tokens"),
        ({"edit": lambda w: w.add_token_types([3, 3])}, "has 2 tokenizer.ggml.token_type for 300 tokens"),
        ({"edit": lambda w: w.add_token_list([START, END, *["a"] * 298])}, "tokenizer.ggml.tokens has 'a' more than once"),
        ({"edit": lambda w: w.add_tokenizer_pre("default")}, "tokenizer.ggml.pre='default'; we know how gpt-2"),
        ({"edit": lambda w: w.add_tokenizer_pre("viking")}, "tokenizer.ggml.pre='viking'; we know how gpt-2, smollm"),
        ({"edit": lambda w: w.add_tensor("rope_freqs.weight", np.ones(7, np.float32))}, "is not Llama 3's"),
        ({"edit": lambda w: w.add_tensor("blk.0.odd.weight", np.ones(7, np.float32))}, "odd.weight of shape .* is not in"),
        ({"edit": lambda w: w.add_rope_scaling_type(gguf.RopeScalingType.YARN)}, None),
        ({"block_count": 2}, "model.layers.1.input_layernorm.weight is missing"),
    ],
)  # fmt: skip
def test_what_is_not_converted_is_refused_by_name(tmp_path, arguments, words):
    monkey = gguf.GGUFWriter.add_key_value  # a later value of a name takes the earlier one's place

    def replace(self, key, *rest, **named):
        for data in self.kv_data:
            data.pop(key, None)
        return monkey(self, key, *rest, **named)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gguf.GGUFWriter, "add_key_value", replace)
        write_file(tmp_path / "model.gguf", **arguments)
    if words is None:  # a kind of scaling without a factor scales nothing
        convert_from_gguf(tmp_path / "model.gguf", tmp_path / "ours")
        return
    with pytest.raises(ValueError, match=words) as caught:
        convert_from_gguf(tmp_path / "model.gguf", tmp_path / "ours")
    assert "model.gguf" in str(caught.value)
    assert not (tmp_path / "ours").exists()


def test_the_command_says_name_licence_and_how_to_go_on(tmp_path, capsys):
    def edit(writer):
        writer.add_name("Tiny")
        writer.add_license("apache-2.0")

    write_file(tmp_path / "model.gguf", edit=edit)
    assert cli.main(["convert", str(tmp_path / "model.gguf"), str(tmp_path / "ours"), "--step", "3"]) == 0
    said = capsys.readouterr().out
    assert "model.gguf: Tiny, licence apache-2.0, F32" in said
    assert "checkpoint_3: llama" in said
    assert f"{START!r} begins a text and pads; {END!r} ends it" in said
    assert cli.main(["convert", str(tmp_path / "model.gguf"), str(tmp_path / "back"), "--to", "hf"]) == 2
    assert "is a GGUF file; convert it to a checkpoint first" in capsys.readouterr().err


def test_special_tokens_are_those_of_the_file(tmp_path):
    write_file(tmp_path / "model.gguf")
    content = tokenizer_json(open_gguf(tmp_path / "model.gguf"))
    assert [(token["content"], token["special"]) for token in content["added_tokens"]] == [
        (START, True),
        (END, True),
    ]
    words = tokenizers.Tokenizer.from_str(json.dumps(content))
    assert words.encode("ab 12").tokens == ["ab", "Ġ", "1", "2"]


def test_a_student_without_a_tokenizer_is_not_written(decoder_folder, tmp_path):
    folder = decoder_folder("smollm2")
    (folder / "tokenizer.json").unlink()
    ours = convert_from_huggingface(folder, tmp_path / "ours")
    with pytest.raises(ValueError, match=r"has no tokenizer\.json, without which llama\.cpp reads no text"):
        write_decoder_gguf(decoder_checkpoint(open_arrays(ours.checkpoint)), tmp_path / "model.gguf")
