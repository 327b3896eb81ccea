"""Decoder-only models of transformers come here and go back bit for bit, and load there. Needs torch and transformers."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import seqio
from flax import traverse_util
from safetensors.numpy import load_file
from small_vocabulary import write_tokenizer

from stepdistill_jax.base.gin_bindings import read_bindings
from stepdistill_jax.base.vocabularies.tokenizer_files import load_tokenizer
from stepdistill_jax.engine.checkpoint.checkpoint_writer import write_parameters
from stepdistill_jax.engine.checkpoint.saved_checkpoint import open_checkpoint
from stepdistill_jax.engine.model import llama, models
from stepdistill_jax.engine.optim import optimizers
from stepdistill_jax.interop import convert_from_huggingface, convert_to_huggingface

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

SIZES = {
    "vocab_size": 320,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
}
LLAMA3 = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
MODELS = {
    "smollm2": ("Llama", {"tie_word_embeddings": True, "rope_theta": 100000.0}),
    "llama3": ("Llama", {"rope_theta": 5e5, "rope_scaling": LLAMA3 | {"original_max_position_embeddings": 32}}),
    "qwen2": ("Qwen2", {"tie_word_embeddings": False}),
    "qwen3": ("Qwen3", {"head_dim": 12, "tie_word_embeddings": True}),
    "gemma3": ("Gemma3", {"head_dim": 12, "query_pre_attn_scalar": 16, "sliding_window": 4, "sliding_window_pattern": 3}),
}  # fmt: skip


@pytest.fixture(params=MODELS)
def saved(request, tmp_path):
    """(folder, the model of transformers in it)."""
    kind, settings = MODELS[request.param]
    torch.manual_seed(0)
    config = getattr(transformers, "Gemma3TextConfig" if kind == "Gemma3" else f"{kind}Config")(
        **SIZES, **settings
    )
    model = getattr(transformers, f"{kind}ForCausalLM")(config)
    for name, parameter in model.named_parameters():
        if "norm" in name or "bias" in name:
            parameter.data += torch.randn_like(parameter) / 2
    folder = tmp_path / "transformers"
    model.save_pretrained(folder)
    write_tokenizer(folder / "tokenizer.json", special_first=False)
    return folder, model.eval()


def logits_of(folder_or_model):
    model = folder_or_model
    if not isinstance(model, torch.nn.Module):
        model = transformers.AutoModelForCausalLM.from_pretrained(folder_or_model).eval()
    ids = torch.tensor(np.random.default_rng(0).integers(0, 300, (2, 12)))
    with torch.no_grad():
        return model(input_ids=ids).logits.numpy()


def test_it_comes_and_goes_back_bit_for_bit_and_loads_again(saved, tmp_path):
    folder, model = saved
    ours = convert_from_huggingface(folder, tmp_path / "ours")
    convert_to_huggingface(ours.checkpoint, tmp_path / "back")
    before, after = (load_file(path / "model.safetensors") for path in (folder, tmp_path / "back"))
    assert before.keys() == after.keys()
    assert all(before[name].tobytes() == after[name].tobytes() for name in before)
    np.testing.assert_array_equal(logits_of(tmp_path / "back"), logits_of(model))


def test_a_config_written_from_the_sizes_alone_is_the_same_network(saved, tmp_path):
    """As of a student whose first folder is gone: what transformers 4 and 5 read of ours."""
    folder, model = saved
    ours = convert_from_huggingface(folder, tmp_path / "ours")
    run = tmp_path / "run"
    write_parameters(run / "checkpoint_7", open_checkpoint(ours.checkpoint).parameters().items(), step=7)
    (run / "model.gin").write_text(ours.gin_file.read_text())
    convert_to_huggingface(run / "checkpoint_7", tmp_path / "back")
    config = json.loads((tmp_path / "back" / "config.json").read_text())
    assert "rope_parameters" not in config
    np.testing.assert_array_equal(logits_of(tmp_path / "back"), logits_of(model))


def test_the_tokenizer_that_is_handed_on_gives_the_same_ids(saved, tmp_path):
    folder, _ = saved
    ours = convert_from_huggingface(folder, tmp_path / "ours")
    convert_to_huggingface(ours.checkpoint, tmp_path / "back")
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "back")
    assert (tokenizer.eos_token, tokenizer.pad_token) == (ours.tokens.end, ours.tokens.start)
    theirs = tokenizer("how many apples?\n", add_special_tokens=False)["input_ids"]
    swapped = {0: ours.tokens.start_id, ours.tokens.start_id: 0}
    words = load_tokenizer(ours.vocabulary, ours.tokens.start, ours.tokens.end)
    assert [swapped.get(i, i) for i in theirs] == words.encode("how many apples?\n")


def our_model(converted):
    """(model in float32, its parameters)."""
    settings = {
        name.removeprefix("LlamaConfig."): value
        for name, value in read_bindings(converted.gin_file).items()
        if name.startswith("LlamaConfig.")
    }
    config = llama.LlamaConfig(**settings | {"dtype": "float32", "dropout_rate": 0.0})
    parameters = {
        tuple(name.split("/")): np.asarray(store)
        for name, store in open_checkpoint(converted.checkpoint).parameters().items()
    }
    words = seqio.PassThroughVocabulary(size=config.vocab_size, eos_id=converted.tokens.end_id)
    model = models.DecoderOnlyModel(llama.Llama(config), words, optimizers.sgd(0.0))
    return model, traverse_util.unflatten_dict(parameters)


def test_logits_and_greedy_tokens_are_those_of_transformers(saved, tmp_path):
    folder, theirs = saved
    converted = convert_from_huggingface(folder, tmp_path / "ours")
    model, params = our_model(converted)
    start = converted.tokens.start_id
    swapped = np.arange(SIZES["vocab_size"])
    swapped[[0, start]] = start, 0  # our ids, of theirs
    rng = np.random.default_rng(1)
    ids = rng.integers(1, 300, (3, 12))
    ids[ids == start] = 1
    read = np.pad(ids, ((0, 0), (1, 0)))[:, :-1]  # our 0 is their start
    logits = jax.jit(lambda params: model.module.apply({"params": params}, read, ids, enable_dropout=False))(
        params
    )
    with torch.no_grad():
        expected = theirs(input_ids=torch.tensor(swapped[read])).logits.numpy()
    np.testing.assert_allclose(logits, expected[:, :, swapped], atol=1e-4, rtol=0)

    lengths, room = [7, 4, 6], 10
    for row, length in enumerate(
        lengths
    ):  # of each its own length, alone as transformers has it without padding
        prompt = swapped[read[row : row + 1, : length + 1]]
        with torch.no_grad():
            found = theirs.generate(
                torch.tensor(prompt),
                attention_mask=torch.ones(prompt.shape, dtype=torch.long),
                max_new_tokens=room,
                min_new_tokens=room,
                do_sample=False,
                use_cache=False,
                eos_token_id=int(swapped[converted.tokens.end_id]),
            ).numpy()[0, length + 1 :]
        expected_tokens = swapped[found]
        ours = greedily(model, params, read[row, : length + 1], room)
        first_end = np.flatnonzero(ours == converted.tokens.end_id)
        stop = first_end[0] if len(first_end) else room
        np.testing.assert_array_equal(ours[:stop], expected_tokens[:stop])
        assert stop > 2


def greedily(model, params, read, room):
    tokens = np.pad(read, (0, room - 1))[None]
    batch = {
        "decoder_input_tokens": jnp.asarray(tokens),
        "decoder_causal_attention": jnp.asarray(
            (np.arange(tokens.shape[1]) < len(read))[None].astype(np.int32)
        ),
    }
    return np.asarray(model.predict_batch(params, batch))[0, :room]
