"""Decoder-only models from Hugging Face's folders and back: the same bytes, ids swapped where they must be, and what is refused."""

import json

import numpy as np
import pytest
from decoder_folders import FAMILIES
from huggingface_folders import DTYPES
from safetensors.numpy import load_file
from small_vocabulary import END, START

from stepdistill_jax import cli
from stepdistill_jax.base.gin_bindings import read_bindings
from stepdistill_jax.base.vocabularies.tokenizer_files import load_tokenizer
from stepdistill_jax.engine.checkpoint.checkpoint_writer import write_parameters
from stepdistill_jax.engine.checkpoint.saved_checkpoint import open_checkpoint
from stepdistill_jax.interop import convert_from_huggingface, convert_to_huggingface
from stepdistill_jax.interop.decoder_only.swapped_rows import with_swapped_tokens
from stepdistill_jax.interop.lazy_array import LazyArray


def bytes_in(folder):
    return {
        name: (array.dtype.name, array.shape, array.tobytes())
        for path in sorted(folder.glob("*.safetensors"))
        for name, array in load_file(path).items()
    }


def json_of(folder, name="config.json"):
    return json.loads((folder / name).read_text(encoding="utf-8"))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("family", FAMILIES)
def test_there_and_back_every_tensor_has_the_same_bytes(decoder_folder, tmp_path, family, dtype):
    folder = decoder_folder(family, dtype=dtype)
    model = convert_from_huggingface(folder, tmp_path / "ours")
    exported = convert_to_huggingface(model.checkpoint, tmp_path / "back")
    assert bytes_in(tmp_path / "back") == bytes_in(folder)
    before, after = json_of(folder), json_of(tmp_path / "back")
    assert {name: after[name] for name in before} == before
    assert after["torch_dtype"] == dtype == exported.dtype
    assert (tmp_path / "back" / "tokenizer.json").read_bytes() == (folder / "tokenizer.json").read_bytes()


def test_shards_are_read_and_written(decoder_folder, tmp_path):
    folder = decoder_folder("llama3", shards=3)
    model = convert_from_huggingface(folder, tmp_path / "ours")
    exported = convert_to_huggingface(model.checkpoint, tmp_path / "back", shard_bytes=20_000)
    assert len(exported.weights) > 2
    assert bytes_in(tmp_path / "back") == bytes_in(folder)


@pytest.mark.parametrize("start_is_0", [True, False])
def test_our_row_of_a_token_is_the_one_of_its_id_here(decoder_folder, tmp_path, start_is_0):
    folder = decoder_folder("llama3", start_is_0=start_is_0)
    model = convert_from_huggingface(folder, tmp_path / "ours")
    parameters = open_checkpoint(model.checkpoint).parameters()
    embedding = np.asarray(parameters["token_embedder/embedding"])
    head = np.asarray(parameters["decoder/logits_dense/kernel"])
    theirs = load_file(folder / "model.safetensors")
    words = load_tokenizer(str(folder / "tokenizer.json"), START, END)
    file = {piece: i for piece, i in json_of(folder, "tokenizer.json")["model"]["vocab"].items()}
    file |= {token["content"]: token["id"] for token in json_of(folder, "tokenizer.json")["added_tokens"]}
    for ours, piece in enumerate(words.pieces()):
        np.testing.assert_array_equal(embedding[ours], theirs["model.embed_tokens.weight"][file[piece]])
        np.testing.assert_array_equal(head[:, ours], theirs["lm_head.weight"][file[piece]])
    assert model.tokens.start_id == file[START]


def test_the_gin_file_says_network_and_vocabulary(decoder_folder, tmp_path):
    model = convert_from_huggingface(decoder_folder("qwen3"), tmp_path / "ours")
    assert model.checkpoint.name == "checkpoint_0"
    bound = read_bindings(model.gin_file)
    assert bound["vocabulary_choice.file"] == str(tmp_path / "ours/huggingface/tokenizer.json")
    assert (bound["vocabulary_choice.start"], bound["vocabulary_choice.end"]) == (START, END)
    assert (bound["VOCABULARY"].name, bound["NETWORK"].name) == ("datasets.vocabulary", "llama.Llama")
    settings = {name: value for name, value in bound.items() if name.startswith("LlamaConfig.")}
    assert settings == {
        f"LlamaConfig.{name}": value
        for name, value in {
            "dtype": "bfloat16",
            "vocab_size": 320,
            "emb_dim": 16,
            "num_heads": 4,
            "num_kv_heads": 2,
            "num_layers": 2,
            "head_dim": 6,
            "mlp_dim": 24,
            "mlp_activations": ("silu", "linear"),
            "logits_via_embedding": True,
            "norm_epsilon": 1e-5,
            "rope_theta": 1e6,
            "query_key_norm": True,
        }.items()
    }


def test_what_tells_families_apart_is_read(decoder_folder, tmp_path):
    sizes = {
        family: convert_from_huggingface(decoder_folder(family), tmp_path / family).sizes
        for family in FAMILIES
    }
    assert {family: found.family for family, found in sizes.items()} == {
        "smollm2": "llama",
        "llama3": "llama",
        "llama3_of_version_5": "llama",
        "qwen2": "qwen2",
        "qwen3": "qwen3",
        "gemma3": "gemma3",
    }
    assert sizes["llama3"] == sizes["llama3_of_version_5"]
    llama = sizes["llama3"]
    rope = (llama.rope_factor, llama.rope_low_frequency_factor, llama.rope_high_frequency_factor)
    assert (*rope, llama.rope_original_length, llama.rope_theta) == (8.0, 1.0, 4.0, 32, 5e5)
    gemma = sizes["gemma3"]
    assert (gemma.sliding_window, gemma.global_every, gemma.local_rope_theta) == (4, 3, 1e4)
    assert (gemma.query_scale, gemma.mlp_activations) == (8**-0.5, ("gelu", "linear"))


def test_a_run_s_checkpoint_goes_back_by_what_lies_beside_it(decoder_folder, tmp_path):
    folder = decoder_folder("qwen2")
    model = convert_from_huggingface(folder, tmp_path / "ours")
    run = tmp_path / "run"
    write_parameters(run / "checkpoint_7", open_checkpoint(model.checkpoint).parameters().items(), step=7)
    with pytest.raises(ValueError, match=r"no file beside it says its head_dim and rotary positions"):
        convert_to_huggingface(run / "checkpoint_7", tmp_path / "nothing")
    convert_to_huggingface(run / "checkpoint_7", tmp_path / "like", like=folder)
    (run / "config.gin").write_text(model.gin_file.read_text())
    (tmp_path / "ours").rename(tmp_path / "elsewhere")
    with pytest.raises(ValueError, match=r"is not where it was .*; name it by --vocabulary"):
        convert_to_huggingface(run / "checkpoint_7", tmp_path / "nothing")
    convert_to_huggingface(run / "checkpoint_7", tmp_path / "named", vocabulary=folder / "tokenizer.json")
    for back in ("like", "named"):
        assert bytes_in(tmp_path / back) == bytes_in(folder)
        assert json_of(tmp_path / back)["model_type"] == "qwen2"
    config, settings = json_of(tmp_path / "named"), json_of(tmp_path / "named", "generation_config.json")
    for name in ("bos_token_id", "eos_token_id", "pad_token_id"):
        expected = model.tokens.end_id if name == "eos_token_id" else model.tokens.start_id
        assert config[name] == settings[name] == expected


def test_a_folder_without_a_tokenizer_keeps_its_ids(decoder_folder, tmp_path, capsys):
    folder = decoder_folder("smollm2")
    (folder / "tokenizer.json").unlink()
    assert cli.main(["convert", str(folder), str(tmp_path / "ours")]) == 0
    assert "has no tokenizer.json: ids are as in the file" in capsys.readouterr().out
    embedding = open_checkpoint(tmp_path / "ours" / "checkpoint_0").parameters()["token_embedder/embedding"]
    theirs = load_file(folder / "model.safetensors")["model.embed_tokens.weight"]
    np.testing.assert_array_equal(np.asarray(embedding), theirs)
    assert cli.main(["convert", str(tmp_path / "ours" / "checkpoint_0"), str(tmp_path / "back")]) == 0
    said = capsys.readouterr().out
    assert "no tokenizer: name the tokenizer.json with --vocabulary" in said
    assert "transformers.AutoModelForCausalLM.from_pretrained" in said
    assert bytes_in(tmp_path / "back") == bytes_in(folder)


def test_a_tied_head_that_the_file_repeats_is_one(decoder_folder, tmp_path):
    def repeat(tensors):
        return tensors | {"lm_head.weight": tensors["model.embed_tokens.weight"]}

    model = convert_from_huggingface(decoder_folder("smollm2", edit=repeat), tmp_path / "ours")
    assert "decoder/logits_dense/kernel" not in open_checkpoint(model.checkpoint).parameters()

    def differ(tensors):
        return tensors | {"lm_head.weight": tensors["model.embed_tokens.weight"] + 1}

    with pytest.raises(ValueError, match=r"lm_head\.weight differs from model\.embed_tokens\.weight"):
        convert_from_huggingface(decoder_folder("smollm2", edit=differ), tmp_path / "no")


def test_every_wrong_tensor_is_named(decoder_folder, tmp_path):
    def damage(tensors):
        del tensors["model.layers.1.mlp.up_proj.weight"]
        tensors["model.layers.0.self_attn.q_proj.bias"] = np.zeros(16, np.float32)
        tensors["model.norm.weight"] = np.zeros(17, np.float32)
        tensors["model.layers.0.self_attn.rotary_emb.inv_freq"] = np.zeros(2, np.float32)  # known, not needed
        return tensors

    with pytest.raises(
        ValueError, match=r"does not hold the llama that its config\.json describes, 3 tensors"
    ) as caught:
        convert_from_huggingface(decoder_folder("smollm2", edit=damage), tmp_path / "ours")
    for words in (
        "model.layers.1.mlp.up_proj.weight is missing",
        "model.norm.weight has shape (17,), config.json wants (16,)",
        "model.layers.0.self_attn.q_proj.bias of shape (16,) is not in the network",
    ):
        assert words in str(caught.value)
    assert not (tmp_path / "ours").exists()


@pytest.mark.parametrize(
    ("family", "changes", "words"),
    [
        ("smollm2", {"model_type": "mixtral"}, "model_type='mixtral'; we convert t5, mt5, umt5, llama, qwen2, qwen3, gemma3_text"),
        ("gemma3", {"model_type": "gemma3"}, "take the text model alone"),
        ("smollm2", {"rope_scaling": {"rope_type": "yarn", "factor": 4.0}}, "rope_type='yarn' has no equal here"),
        ("smollm2", {"rope_scaling": {"type": "linear", "factor": 4.0}}, "rope_type='linear' has no equal here"),
        ("llama3", {"rope_scaling": {"rope_type": "llama3", "factor": 4.0}}, "rope_scaling lacks low_freq_factor, high"),
        ("smollm2", {"attention_bias": True, "mlp_bias": True}, "attention_bias=True, .*mlp_bias=True"),
        ("qwen2", {"use_sliding_window": True}, "use_sliding_window=True, which our network computes of Gemma 3 alone"),
        ("qwen3", {"layer_types": ["full_attention", "sliding_attention"]}, "use_sliding_window=True"),
        ("gemma3", {"final_logit_softcapping": 30.0}, r"final_logit_softcapping=30\.0, which our network"),
        ("gemma3", {"use_bidirectional_attention": True}, "use_bidirectional_attention=True"),
        ("gemma3", {"layer_types": ["full_attention", "sliding_attention", "sliding_attention"]}, "every 1th layer"),
        ("smollm2", {"hidden_act": "gelu"}, "hidden_act='gelu' is none of silu"),
        ("smollm2", {"rope_theta": None}, "rope_theta=None is no base of rotary positions"),
        ("smollm2", {"hidden_size": "16"}, "hidden_size='16' is no size"),
        ("smollm2", {"partial_rotary_factor": 0.5}, r"partial_rotary_factor=0\.5; our network turns whole heads"),
        ("smollm2", {"quantization_config": {"bits": 4}}, "quantization_config="),
    ],
)  # fmt: skip
def test_what_our_network_does_not_compute_is_refused_by_name(
    decoder_folder, tmp_path, family, changes, words
):
    folder = decoder_folder(family)
    (folder / "config.json").write_text(json.dumps(json_of(folder) | changes))
    with pytest.raises(ValueError, match=words) as caught:
        convert_from_huggingface(folder, tmp_path / "ours")
    assert "config.json" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_other_tokens_may_be_named_and_those_that_there_are_not_are_refused(decoder_folder, tmp_path):
    folder = decoder_folder("smollm2")
    model = convert_from_huggingface(folder, tmp_path / "ours", start="<|im_start|>", end=START)
    assert (model.tokens.start, model.tokens.end) == ("<|im_start|>", START)
    with pytest.raises(ValueError, match="has no token '<pad>'"):
        convert_from_huggingface(folder, tmp_path / "no", start="<pad>")


def test_a_tokenizer_of_more_ids_than_the_network_has_rows_is_refused(decoder_folder, tmp_path):
    with pytest.raises(ValueError, match=r"its tokenizer has \d+ ids, but the network 200 embeddings"):
        convert_from_huggingface(decoder_folder("smollm2", vocab_size=200), tmp_path / "ours")


def test_a_folder_of_another_model_is_no_likeness(decoder_folder, tmp_path):
    model = convert_from_huggingface(decoder_folder("smollm2"), tmp_path / "ours")
    with pytest.raises(
        ValueError, match=r"is of another model: .*rope_theta is 500000.0, the checkpoint has 100000"
    ):
        convert_to_huggingface(model.checkpoint, tmp_path / "back", like=decoder_folder("llama3"))


def test_swapping_reads_any_part_along_either_axis():
    numbers = np.arange(40, dtype=np.float32).reshape(8, 5)
    array = LazyArray(
        numbers.shape,
        numbers.dtype,
        lambda start, stop: numbers[start:stop],
        read_columns=lambda start, stop: numbers[:, start:stop],
    )
    for axis, start in ((0, 3), (0, 7), (1, 4)):
        expected = numbers.copy()
        np.moveaxis(expected, axis, 0)[[0, start]] = np.moveaxis(numbers, axis, 0)[[start, 0]]
        swapped = with_swapped_tokens(array, start, axis=axis)
        for first in range(5):
            for stop in range(first, 6):
                np.testing.assert_array_equal(swapped.read_rows(first, stop), expected[first:stop])
                if stop <= 5:
                    np.testing.assert_array_equal(swapped.read_columns(first, stop), expected[:, first:stop])
    np.testing.assert_array_equal(numbers, np.arange(40).reshape(8, 5))
    with pytest.raises(ValueError, match="Token 9 starts a text, but the embedding has 8"):
        with_swapped_tokens(array, 9, axis=0)
