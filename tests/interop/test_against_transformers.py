"""Converted models compute what transformers computes. Needs torch and transformers; skipped without them."""

import jax
import numpy as np
import pytest
import seqio
from huggingface_folders import FAMILIES, config_of

from stepdistill_jax.base.gin_bindings import read_bindings
from stepdistill_jax.engine.checkpoint.checkpoint_writer import write_parameters
from stepdistill_jax.engine.checkpoint.saved_checkpoint import open_checkpoint
from stepdistill_jax.engine.decode import decoding
from stepdistill_jax.engine.model import models, network
from stepdistill_jax.engine.optim import optimizers
from stepdistill_jax.interop import convert_from_huggingface, convert_to_huggingface

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

SIZES = {"vocab_size": 160, "d_model": 32, "d_kv": 12, "d_ff": 48, "num_heads": 3}
# transformers 5 cannot generate with more layers in the decoder than in the encoder: IndexError in its cache.
SIZES |= {"num_layers": 3, "num_decoder_layers": 2}
CLASSES = {"t5": "T5", "mt5": "MT5", "umt5": "UMT5"}
LENGTH = 12


@pytest.fixture(scope="module")
def inputs():
    """Token ids [4, 9], with padding at the end of two rows, and decoder inputs and targets [4, 7]."""
    rng = np.random.default_rng(5)
    encoder, targets = rng.integers(3, 150, (4, 9)), rng.integers(3, 150, (4, 7))
    encoder[1, 6:] = encoder[2, 3:] = 0
    return encoder, np.pad(targets, ((0, 0), (1, 0)))[:, :-1], targets


@pytest.fixture(scope="module")
def random_model(tmp_path_factory):
    """random_model(family) -> (folder, the model of transformers in it), its two tables apart unless tied."""

    def make(family):
        config = config_of(family, **(SIZES | FAMILIES[family]))
        cls = CLASSES[config["model_type"]]
        torch.manual_seed(list(FAMILIES).index(family))
        model = getattr(transformers, f"{cls}ForConditionalGeneration")(
            getattr(transformers, f"{cls}Config")(**config)
        )
        if not config.get("tie_word_embeddings", True):
            model.lm_head.weight = torch.nn.Parameter(torch.randn_like(model.lm_head.weight))
        for name, parameter in model.named_parameters():
            if "relative_attention_bias" in name or "layer_norm" in name:
                parameter.data += torch.randn_like(parameter) / 2
        folder = tmp_path_factory.mktemp("transformers") / family
        model.save_pretrained(folder)
        return folder, model.eval()

    return make


def our_model(converted):
    bindings = read_bindings(converted.gin_file)
    settings = {
        name[len("T5Config.") :]: value for name, value in bindings.items() if name.startswith("T5Config.")
    }
    config = network.T5Config(**settings | {"dropout_rate": 0.0, "dtype": "float32"})
    vocabulary = seqio.PassThroughVocabulary(size=config.vocab_size, eos_id=1)
    return models.EncoderDecoderModel(
        network.Transformer(config), vocabulary, vocabulary, optimizers.adamw(), decoding.temperature_sample
    )


def parameters_of(checkpoint):
    tree = {}
    for name, store in open_checkpoint(checkpoint).parameters().items():
        *folders, leaf = name.split("/")
        node = tree
        for folder in folders:
            node = node.setdefault(folder, {})
        node[leaf] = np.asarray(store)
    return tree


def their_logits(model, encoder, decoder):
    with torch.no_grad():
        return model(
            input_ids=torch.tensor(encoder),
            attention_mask=torch.tensor(encoder > 0),
            decoder_input_ids=torch.tensor(decoder),
        ).logits.numpy()


def their_tokens(model, encoder):
    with torch.no_grad():
        tokens = model.generate(
            torch.tensor(encoder),
            attention_mask=torch.tensor(encoder > 0),
            max_new_tokens=LENGTH,
            do_sample=False,
            use_cache=False,
        ).numpy()[:, 1:]
    return np.pad(tokens, ((0, 0), (0, LENGTH - tokens.shape[1])))


def our_tokens(model, params, encoder):
    batch = {
        "encoder_input_tokens": encoder,
        "decoder_input_tokens": np.zeros((len(encoder), LENGTH), np.int32),
    }
    tokens, _ = model.predict_batch_with_aux(params, batch, decoder_params={"temperature": 0.0})
    return np.asarray(tokens)


@pytest.mark.parametrize("family", FAMILIES)
def test_logits_and_greedy_tokens_are_those_of_transformers(random_model, inputs, tmp_path, family):
    folder, theirs = random_model(family)
    converted = convert_from_huggingface(folder, tmp_path / "model")
    ours, params = our_model(converted), parameters_of(converted.checkpoint)
    encoder, decoder, targets = inputs
    expected = their_logits(theirs, encoder, decoder)
    logits = jax.jit(
        lambda params: ours.module.apply({"params": params}, encoder, decoder, targets, enable_dropout=False)
    )(params)
    np.testing.assert_allclose(logits, expected, atol=1e-4, rtol=0)
    tokens = our_tokens(ours, params, encoder)
    np.testing.assert_array_equal(tokens, their_tokens(theirs, encoder))
    convert_to_huggingface(converted.checkpoint, tmp_path / "back")
    again = transformers.AutoModelForSeq2SeqLM.from_pretrained(tmp_path / "back").eval()
    assert type(again) is type(theirs)
    assert again.state_dict().keys() == theirs.state_dict().keys()
    for name, parameter in theirs.state_dict().items():
        assert torch.equal(parameter, again.state_dict()[name]), name
    np.testing.assert_array_equal(tokens, their_tokens(again, encoder))
    assert len(np.unique(tokens)) > 4  # not one token over and over


@pytest.mark.parametrize("family", ["t5", "t5_1_1", "umt5"])
def test_an_export_generates_our_tokens(random_model, inputs, tmp_path, family):
    """Random parameters of our own, as after training: no Hugging Face folder to be like."""
    folder, _ = random_model(family)
    converted = convert_from_huggingface(folder, tmp_path / "model")
    model = our_model(converted)
    shapes = {"encoder_input_tokens": (2, 8), "decoder_input_tokens": (2, 8)}
    params = jax.jit(lambda: model.get_initial_variables(jax.random.key(3), shapes))()["params"]
    flat = {
        "/".join(key.key for key in path): np.asarray(leaf)
        for path, leaf in jax.tree_util.tree_leaves_with_path(params)
    }
    write_parameters(tmp_path / "run" / "checkpoint_5", flat.items(), step=5)
    convert_to_huggingface(tmp_path / "run" / "checkpoint_5", tmp_path / "exported")
    theirs = transformers.AutoModelForSeq2SeqLM.from_pretrained(tmp_path / "exported").eval()
    assert type(theirs).__name__ == ("UMT5" if family == "umt5" else "T5") + "ForConditionalGeneration"
    encoder, _, _ = inputs
    np.testing.assert_array_equal(their_tokens(theirs, encoder), our_tokens(model, params, encoder))


def test_a_checkpoint_that_t5x_wrote_computes_t5x_s_logits_in_transformers(shared, tmp_path):
    """Where a target is: behind the last one T5X masks what transformers, told of no mask, does not."""
    oracle = shared / "oracle"
    convert_to_huggingface(oracle / "t5x_checkpoints" / "legacy_checkpoint_10", tmp_path / "exported")
    model = transformers.AutoModelForSeq2SeqLM.from_pretrained(tmp_path / "exported").eval()
    with np.load(oracle / "v1_1_tiny.npz") as file:
        encoder, decoder, targets = (
            file[f"plain/batch/{name}_tokens"].astype(np.int64)
            for name in ("encoder_input", "decoder_input", "decoder_target")
        )
    with np.load(oracle / "t5x_checkpoints.npz") as file:
        expected = file["legacy/logits"]
    real = targets > 0
    logits = their_logits(model, encoder, decoder)
    np.testing.assert_allclose(logits[real], expected[real], atol=1e-4, rtol=0)


@pytest.mark.parametrize("family", ["t5", "flan_t5"])
def test_files_of_torch_save_are_read(random_model, tmp_path, family):
    folder, model = random_model(family)
    (folder / "model.safetensors").unlink()
    torch.save(model.to(torch.bfloat16).state_dict(), folder / "pytorch_model.bin")
    converted = convert_from_huggingface(folder, tmp_path / "model")
    assert converted.sizes.logits_via_embedding == (family == "t5")
    convert_to_huggingface(converted.checkpoint, tmp_path / "back")
    again = transformers.AutoModelForSeq2SeqLM.from_pretrained(tmp_path / "back", dtype="auto")
    assert again.dtype == torch.bfloat16
    for name, parameter in model.state_dict().items():
        assert torch.equal(parameter, again.state_dict()[name]), name


def test_views_of_torch_save_are_read(tmp_path):
    from stepdistill_jax.interop.torch_archive import open_torch_archive

    whole = torch.arange(60, dtype=torch.float32).reshape(6, 10)
    views = {
        "turned": whole.T,
        "part": whole[2:5, 1:9:2],
        "row": whole[3],
        "one": whole[1, 1],
        "bf": whole.bfloat16(),
    }
    torch.save(views, tmp_path / "views.bin")
    arrays = open_torch_archive(tmp_path / "views.bin")
    for name, tensor in views.items():
        np.testing.assert_array_equal(arrays[name].read().astype(np.float32), tensor.float().numpy())
    np.testing.assert_array_equal(arrays["part"].read_rows(1, 3), views["part"][1:3].numpy())
    assert arrays["turned"].source != arrays["part"].source


def texts():
    from stepdistill_jax.datasets.wordproblems import VOCABULARY_PATH

    assert VOCABULARY_PATH.exists()
    questions = [
        f"[label] Mia has {n} apples and buys {n * 7} more.  How many\napples does she have?"
        for n in range(0, 400, 13)
    ]
    return [*questions, "  A   b ", "", "x" * 30, "naïve ½ — 東京", "9+10=19. So the answer is (9 + 10)."]


def check_tokenizer(folder, vocabulary):
    import sentencepiece

    pieces = sentencepiece.SentencePieceProcessor(model_file=str(vocabulary))
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    for text in texts():
        assert tokenizer(text).input_ids == [*pieces.encode(text), 1], text
        ids = pieces.encode(text)
        assert tokenizer.decode(ids) == pieces.decode(ids).replace("\u2047", "<unk>") or 2 in ids, text
    assert (tokenizer.pad_token_id, tokenizer.eos_token_id) == (0, 1)


def test_auto_tokenizer_of_an_export_gives_sentencepiece_s_ids_for_the_embedded_vocabulary(
    converted, tmp_path
):
    from stepdistill_jax.datasets.wordproblems import VOCABULARY_PATH

    _, model = converted("t5_1_1", vocab_size=1024)
    convert_to_huggingface(model.checkpoint, tmp_path / "back", vocabulary=VOCABULARY_PATH)
    check_tokenizer(tmp_path / "back", VOCABULARY_PATH)


def test_auto_tokenizer_of_an_export_gives_sentencepiece_s_ids_for_t5_s_vocabulary(
    converted, tmp_path, shared
):
    vocabularies = [path for path in shared.rglob("*.model") if path.stat().st_size > 500_000]
    if not vocabularies:
        pytest.skip(f"no SentencePiece model of T5 in {shared}")
    _, model = converted("t5_1_1", vocab_size=32128)
    convert_to_huggingface(model.checkpoint, tmp_path / "back", vocabulary=vocabularies[0])
    check_tokenizer(tmp_path / "back", vocabularies[0])


def test_byt5_exports_with_a_tokenizer_of_bytes(converted, tmp_path):
    _, model = converted("byt5")
    convert_to_huggingface(model.checkpoint, tmp_path / "back")
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "back")
    assert type(tokenizer).__name__ == "ByT5Tokenizer"
    assert tokenizer("ab").input_ids == [ord("a") + 3, ord("b") + 3, 1]
    assert len(tokenizer) == 384
