import json
import shutil

import jax
import numpy as np
import pytest
from huggingface_folders import FAMILIES, SIZES, config_of, tensors_of, write_folder

from stepdistill_jax.base.gin_bindings import read_bindings
from stepdistill_jax.engine.checkpoint.saved_checkpoint import numpy_dtype, open_checkpoint
from stepdistill_jax.engine.model import network
from stepdistill_jax.interop import convert_from_huggingface


def parameters_of(checkpoint):
    return {
        name: np.asarray(store.read().result())
        for name, store in open_checkpoint(checkpoint).parameters().items()
    }


def network_parameters(config):
    """The names and shapes that our network itself makes."""
    tokens = np.ones((1, 4), np.int32)
    variables = jax.eval_shape(
        lambda rng: network.Transformer(config).init(rng, tokens, tokens, tokens), jax.random.key(0)
    )
    leaves = jax.tree_util.tree_leaves_with_path(variables["params"])
    return {"/".join(key.key for key in path): leaf.shape for path, leaf in leaves}


@pytest.mark.parametrize("family", FAMILIES)
def test_a_converted_model_has_the_parameters_of_the_network_that_its_gin_file_names(converted, family):
    _, model = converted(family)
    prefix = "T5Config."
    bindings = read_bindings(model.gin_file)
    settings = {
        name.removeprefix(prefix): value for name, value in bindings.items() if name.startswith(prefix)
    }
    config = network.T5Config(**settings | {"dropout_rate": 0.1})
    shapes = {name: array.shape for name, array in parameters_of(model.checkpoint).items()}
    assert shapes == network_parameters(config)
    assert config.mlp_activations == {"t5": ("relu",), "ul2": ("silu", "linear")}.get(
        family, ("gelu", "linear")
    )
    assert config.logits_via_embedding == (family == "t5")


def test_kernels_and_position_biases_are_turned_and_embeddings_are_not(converted):
    _, model = converted("t5_1_1")
    theirs, ours = tensors_of(config_of("t5_1_1")), parameters_of(model.checkpoint)
    for name, other, turned in (
        ("token_embedder/embedding", "shared.weight", False),
        ("decoder/logits_dense/kernel", "lm_head.weight", True),
        (
            "encoder/relpos_bias/rel_embedding",
            "encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight",
            True,
        ),
        ("encoder/layers_1/attention/key/kernel", "encoder.block.1.layer.0.SelfAttention.k.weight", True),
        ("encoder/layers_1/mlp/wi_1/kernel", "encoder.block.1.layer.1.DenseReluDense.wi_1.weight", True),
        ("encoder/layers_0/pre_mlp_layer_norm/scale", "encoder.block.0.layer.1.layer_norm.weight", False),
        ("encoder/encoder_norm/scale", "encoder.final_layer_norm.weight", False),
        (
            "decoder/layers_2/self_attention/out/kernel",
            "decoder.block.2.layer.0.SelfAttention.o.weight",
            True,
        ),
        (
            "decoder/layers_2/encoder_decoder_attention/value/kernel",
            "decoder.block.2.layer.1.EncDecAttention.v.weight",
            True,
        ),
        (
            "decoder/layers_2/pre_cross_attention_layer_norm/scale",
            "decoder.block.2.layer.1.layer_norm.weight",
            False,
        ),
        ("decoder/layers_0/mlp/wo/kernel", "decoder.block.0.layer.2.DenseReluDense.wo.weight", True),
    ):
        np.testing.assert_array_equal(ours[name], theirs[other].T if turned else theirs[other], err_msg=name)
    assert model.num_parameters == sum(array.size for array in theirs.values())


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_each_tensor_keeps_its_dtype(converted, dtype):
    _, model = converted("t5", dtype=dtype)
    stores = open_checkpoint(model.checkpoint).parameters()
    assert {numpy_dtype(store).name for store in stores.values()} == {dtype}


def test_a_dtype_may_be_asked_for(huggingface_folder, tmp_path):
    model = convert_from_huggingface(huggingface_folder("t5"), tmp_path / "model", dtype="bfloat16")
    stores = open_checkpoint(model.checkpoint).parameters()
    assert {numpy_dtype(store).name for store in stores.values()} == {"bfloat16"}


def test_numbers_beyond_float16_are_an_error_that_names_the_tensor(huggingface_folder, tmp_path):
    folder = huggingface_folder(
        edit=lambda tensors: tensors | {"shared.weight": tensors["shared.weight"] * 1e6}
    )
    with pytest.raises(ValueError, match=r"shared\.weight has numbers beyond float16"):
        convert_from_huggingface(folder, tmp_path / "model", dtype="float16")
    assert list(tmp_path.iterdir()) == []


def test_shards_give_what_one_file_gives(converted):
    _, whole = converted("umt5")
    _, sharded = converted("umt5", shards=3)
    first, second = parameters_of(whole.checkpoint), parameters_of(sharded.checkpoint)
    assert first.keys() == second.keys()
    for name in first:
        np.testing.assert_array_equal(first[name], second[name])


def test_the_step_is_that_of_pretrained_t5_unless_told(huggingface_folder, tmp_path):
    folder = huggingface_folder("flan_t5")
    assert open_checkpoint(convert_from_huggingface(folder, tmp_path / "a").checkpoint).step == 1_000_000
    model = convert_from_huggingface(folder, tmp_path / "b", step=1_198_000)
    assert model.checkpoint.name == "checkpoint_1198000"
    assert open_checkpoint(model.checkpoint).step == 1_198_000
    assert "STEP_OFFSET=1198000" in model.command()


def test_copies_of_the_embedding_and_an_unused_bias_are_left_out(converted):
    def as_old_files(tensors):
        copies = {
            f"{stack}.embed_tokens.weight": tensors["shared.weight"] for stack in ("encoder", "decoder")
        }
        unused = "decoder.block.0.layer.1.EncDecAttention.relative_attention_bias.weight"
        return (
            tensors
            | copies
            | {"lm_head.weight": tensors["shared.weight"], unused: np.zeros((32, 2), np.float32)}
        )

    _, model = converted("t5", edit=as_old_files)
    assert model.sizes.logits_via_embedding
    _, plain = converted("t5")
    assert parameters_of(model.checkpoint).keys() == parameters_of(plain.checkpoint).keys()


def test_an_embedding_kept_under_a_copy_s_name_is_found(converted):
    def renamed(tensors):
        return {name.replace("shared", "encoder.embed_tokens"): array for name, array in tensors.items()}

    _, model = converted("t5", edit=renamed)
    embedding = parameters_of(model.checkpoint)["token_embedder/embedding"]
    np.testing.assert_array_equal(embedding, tensors_of(config_of("t5"))["shared.weight"])


def test_untied_weights_without_an_output_layer_have_one_equal_to_the_embedding(converted):
    """So saves transformers 5 a v1.1 whose two tables are equal: tied, but not scaled."""

    def without_head(tensors):
        return {name: array for name, array in tensors.items() if name != "lm_head.weight"}

    changes = {"tie_word_embeddings": True, "scale_decoder_outputs": False}
    _, model = converted("t5_1_1", edit=without_head, **changes)
    parameters = parameters_of(model.checkpoint)
    assert not model.sizes.logits_via_embedding
    np.testing.assert_array_equal(
        parameters["decoder/logits_dense/kernel"], parameters["token_embedder/embedding"].T
    )


def test_everything_that_differs_is_listed_in_one_error(huggingface_folder, tmp_path):
    def spoilt(tensors):
        tensors = dict(tensors)
        del tensors["encoder.block.1.layer.0.SelfAttention.q.weight"]
        tensors["decoder.final_layer_norm.weight"] = np.ones(9, np.float32)
        tensors["encoder.block.0.layer.0.lora_A.weight"] = np.ones((2, 8), np.float32)
        tensors["encoder.final_layer_norm.weight"] = np.ones(8, np.int32)
        tensors["decoder.embed_tokens.weight"] = np.ones((96, 8), np.float32)
        return tensors

    folder = huggingface_folder(edit=spoilt)
    with pytest.raises(ValueError, match="5 tensors differ") as caught:
        convert_from_huggingface(folder, tmp_path / "model")
    for text in (
        "encoder.block.1.layer.0.SelfAttention.q.weight is missing",
        "decoder.final_layer_norm.weight has shape (9,), config.json wants (8,)",
        "encoder.block.0.layer.0.lora_A.weight of shape (2, 8) is not in the network",
        "encoder.final_layer_norm.weight is of int32",
        "decoder.embed_tokens.weight differs from shared.weight",
    ):
        assert text in str(caught.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model_type": "bart"}, "model_type='bart'; we convert t5, mt5, umt5"),
        ({"d_model": None}, "d_model=None is no size"),
        ({"d_ff": "many", "num_heads": 0}, "num_heads=0 is no size; d_ff='many' is no size"),
        ({"num_decoder_layers": True}, "num_decoder_layers=True is no size"),
        ({"relative_attention_num_buckets": 64}, "relative_attention_num_buckets=64, and our network has 32"),
        ({"layer_norm_epsilon": 1e-5}, "layer_norm_epsilon=1e-05, and our network has 1e-06"),
        ({"feed_forward_proj": "gelu"}, "feed_forward_proj='gelu' has no equal here"),
        ({"tie_word_embeddings": True}, "tie_word_embeddings is true, but lm_head.weight differs"),
        ({"vocab_size": 100}, "shared.weight has shape (96, 8), config.json wants (100, 8)"),
    ],
)
def test_a_config_that_does_not_fit_says_what_in_it(tmp_path, changes, message):
    config, tensors = config_of("t5_1_1"), tensors_of(config_of("t5_1_1"))
    folder = write_folder(tmp_path / "model", config | changes, tensors)
    with pytest.raises(ValueError) as caught:  # noqa: PT011 (the text is checked)
        convert_from_huggingface(folder, tmp_path / "out")
    assert message in str(caught.value)


def test_missing_shards_are_listed(huggingface_folder, tmp_path):
    folder = huggingface_folder(shards=3)
    for number in (1, 3):
        (folder / f"model-{number:05d}-of-00003.safetensors").unlink()
    with pytest.raises(
        FileNotFoundError, match=r"lacks 2 of 3 shards .*model-00001-of-00003.*model-00003-of-00003"
    ):
        convert_from_huggingface(folder, tmp_path / "model")


def test_an_index_may_name_only_files_of_its_folder(huggingface_folder, tmp_path):
    folder = huggingface_folder(shards=2)
    index = json.loads((folder / "model.safetensors.index.json").read_text())
    index["weight_map"]["shared.weight"] = "../other.safetensors"
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(ValueError, match=r"outside its folder: \.\./other\.safetensors"):
        convert_from_huggingface(folder, tmp_path / "model")


def test_a_tensor_that_the_index_names_and_no_shard_has_is_named(huggingface_folder, tmp_path):
    folder = huggingface_folder(shards=2)
    index = json.loads((folder / "model.safetensors.index.json").read_text())
    index["weight_map"]["lost.weight"] = "model-00001-of-00002.safetensors"
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(ValueError, match=r"shards do not have: lost\.weight"):
        convert_from_huggingface(folder, tmp_path / "model")


@pytest.mark.parametrize("keep", [4, 300, -7])
def test_a_file_that_was_cut_short_is_named(huggingface_folder, tmp_path, keep):
    folder = huggingface_folder()
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:keep])
    with pytest.raises(ValueError, match=r"model\.safetensors is damaged or cut short"):
        convert_from_huggingface(folder, tmp_path / "model")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("text", ["", '{"d_model": 8', "[1, 2]"])
def test_a_config_that_is_no_json_object_is_named(huggingface_folder, tmp_path, text):
    folder = huggingface_folder()
    (folder / "config.json").write_text(text)
    with pytest.raises(ValueError, match=r"config\.json"):
        convert_from_huggingface(folder, tmp_path / "model")


def test_a_folder_without_weights_or_config_says_what_it_wants(huggingface_folder, tmp_path):
    folder = huggingface_folder()
    (folder / "model.safetensors").rename(folder / "flax_model.msgpack")
    with pytest.raises(
        FileNotFoundError, match=r"no model\.safetensors, pytorch_model\.bin.*flax_model\.msgpack"
    ):
        convert_from_huggingface(folder, tmp_path / "model")
    (folder / "config.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"it has no config\.json"):
        convert_from_huggingface(folder, tmp_path / "model")


def test_an_existing_folder_is_not_written_into(huggingface_folder, tmp_path):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "notes.txt").write_text("mine")
    with pytest.raises(FileExistsError, match="exists; name a folder"):
        convert_from_huggingface(huggingface_folder(), tmp_path / "model")
    assert (tmp_path / "model" / "notes.txt").read_text() == "mine"


def test_tokenizer_files_are_kept_beside_the_checkpoint(huggingface_folder, tmp_path):
    from stepdistill_jax.datasets.wordproblems import VOCABULARY_PATH

    folder = huggingface_folder(vocab_size=1024)
    shutil.copyfile(VOCABULARY_PATH, folder / "spiece.model")
    (folder / "tokenizer_config.json").write_text('{"extra_ids": 0}')
    model = convert_from_huggingface(folder, tmp_path / "model")
    beside = tmp_path / "model" / "huggingface"
    assert sorted(path.name for path in beside.iterdir()) == [
        "config.json",
        "spiece.model",
        "tokenizer_config.json",
    ]
    assert model.vocabulary == str(beside / "spiece.model")
    bindings = read_bindings(model.gin_file)
    assert bindings["vocabulary_choice.file"] == str(beside / "spiece.model")
    assert bindings["vocabulary_choice.extra_ids"] == 0  # the network has no embeddings for sentinels


def test_a_vocabulary_with_sentinels_behind_its_pieces_keeps_t5s_default(huggingface_folder, tmp_path):
    from stepdistill_jax.datasets.wordproblems import VOCABULARY_PATH

    folder = huggingface_folder(vocab_size=1152)
    shutil.copyfile(VOCABULARY_PATH, folder / "spiece.model")
    model = convert_from_huggingface(folder, tmp_path / "model")
    assert "vocabulary_choice.extra_ids" not in read_bindings(model.gin_file)


def test_a_vocabulary_of_more_pieces_than_embeddings_is_an_error(huggingface_folder, tmp_path):
    from stepdistill_jax.datasets.wordproblems import VOCABULARY_PATH

    folder = huggingface_folder()
    shutil.copyfile(VOCABULARY_PATH, folder / "spiece.model")
    with pytest.raises(ValueError, match="has 1024 pieces, but the network 96 embeddings"):
        convert_from_huggingface(folder, tmp_path / "model")
    assert not (tmp_path / "model").exists()


def test_byt5_needs_no_vocabulary_file(converted):
    _, model = converted("byt5")
    assert model.vocabulary == "bytes"
    bindings = read_bindings(model.gin_file)
    assert bindings["vocabulary_choice.file"] == "bytes"
    assert bindings["TASK_FEATURE_LENGTHS"]["targets"] == 512
    assert SIZES["vocab_size"] != model.sizes.vocab_size == 384
