import json

import numpy as np
import pytest
import sentencepiece
from huggingface_folders import DTYPES, FAMILIES, config_of
from safetensors import safe_open

from stepdistill_jax import cli
from stepdistill_jax.datasets.wordproblems import VOCABULARY_PATH
from stepdistill_jax.engine.checkpoint.checkpoint_writer import write_checkpoint, write_parameters
from stepdistill_jax.engine.checkpoint.saved_checkpoint import open_checkpoint
from stepdistill_jax.interop import convert_from_huggingface, convert_to_huggingface


def tensors_in(folder):
    """{name: (dtype's name, shape, bytes)} of all safetensors files of a folder."""
    found = {}
    for path in sorted(folder.glob("*.safetensors")):
        with safe_open(path, framework="np") as file:
            for name in file.keys():  # noqa: SIM118 (not iterable)
                tensor = file.get_tensor(name)
                found[name] = (tensor.dtype.name, tensor.shape, tensor.tobytes())
    return found


def json_of(folder, name="config.json"):
    return json.loads((folder / name).read_text(encoding="utf-8"))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("family", FAMILIES)
def test_there_and_back_every_tensor_has_the_same_bytes(converted, tmp_path, family, dtype):
    folder, model = converted(family, dtype=dtype)
    convert_to_huggingface(model.checkpoint, tmp_path / "back")
    assert tensors_in(tmp_path / "back") == tensors_in(folder)
    before, after = json_of(folder), json_of(tmp_path / "back")
    assert {name: after[name] for name in before} == before
    assert after["torch_dtype"] == dtype


def test_small_shards_hold_the_same_tensors_and_their_index_finds_them(converted, tmp_path):
    folder, model = converted("umt5")
    exported = convert_to_huggingface(model.checkpoint, tmp_path / "back", shard_bytes=4000)
    assert tensors_in(tmp_path / "back") == tensors_in(folder)
    index = json_of(tmp_path / "back", "model.safetensors.index.json")
    assert sorted(set(index["weight_map"].values())) == sorted(path.name for path in exported.weights)
    assert index["weight_map"].keys() == tensors_in(folder).keys()
    assert index["metadata"]["total_size"] == sum(len(tensor[2]) for tensor in tensors_in(folder).values())
    assert len(exported.weights) > 2
    # And such a folder is read again.
    again = convert_from_huggingface(tmp_path / "back", tmp_path / "again")
    assert again.num_parameters == model.num_parameters


def test_a_dtype_may_be_asked_for(converted, tmp_path):
    folder, model = converted("t5_1_1")
    exported = convert_to_huggingface(model.checkpoint, tmp_path / "back", dtype="bfloat16")
    assert exported.dtype == json_of(tmp_path / "back")["torch_dtype"] == "bfloat16"
    for name, (dtype, _, content) in tensors_in(tmp_path / "back").items():
        expected = np.frombuffer(tensors_in(folder)[name][2], np.float32).astype(DTYPES["bfloat16"])
        assert (dtype, content) == ("bfloat16", expected.tobytes())


def test_sizes_come_from_the_parameters_where_nothing_else_is_known(converted, tmp_path):
    for family in ("t5", "t5_1_1", "umt5"):
        folder, model = converted(family)
        bare = tmp_path / family / "checkpoint_7"
        write_parameters(bare, open_checkpoint(model.checkpoint).parameters().items(), step=7)
        convert_to_huggingface(bare, tmp_path / family / "back")
        assert tensors_in(tmp_path / family / "back") == tensors_in(folder)
        config = json_of(tmp_path / family / "back")
        for name, value in config_of(family).items():
            if name not in ("n_positions", "dense_act_fn", "is_gated_act"):
                assert config.get(name, value) == value, name
        assert config["tie_word_embeddings"] == (family == "t5")


def test_activations_and_dropout_come_from_the_run_s_config(converted, tmp_path):
    _, model = converted("t5_1_1")
    bare = tmp_path / "checkpoint_7"
    write_parameters(bare, open_checkpoint(model.checkpoint).parameters().items(), step=7)
    (tmp_path / "config.gin").write_text(
        "DROPOUT_RATE = 0.25\nfrom t5x.examples.t5 import network\nnetwork.T5Config.dropout_rate = %DROPOUT_RATE\n"
        "network.T5Config.mlp_activations = ('silu', 'linear')\nfrom datasets import nothing_that_is_installed\n"
        "VOCABULARY = @datasets.embedded_vocabulary()\n"
    )
    with pytest.raises(ValueError, match="1024 pieces, but the network 96 embeddings"):
        convert_to_huggingface(bare, tmp_path / "back")
    (tmp_path / "config.gin").write_text((tmp_path / "config.gin").read_text().replace("VOCABULARY", "OTHER"))
    convert_to_huggingface(bare, tmp_path / "back")
    config = json_of(tmp_path / "back")
    assert (config["feed_forward_proj"], config["dropout_rate"]) == ("gated-silu", 0.25)


def test_layers_that_t5x_keeps_in_one_array_are_taken_apart(converted, tmp_path):
    """T5X's scalable_t5, in which umT5 was trained: the layers' axis comes second."""
    folder, model = converted("umt5", num_decoder_layers=2)
    stacked = {}
    for name, store in open_checkpoint(model.checkpoint).parameters().items():
        stack, layer, *rest = name.split("/")
        array = np.asarray(store)
        if layer.startswith("layers_"):
            stacked.setdefault(f"{stack}/{stack}/{'/'.join(rest)}", []).append(array)
        else:
            stacked[name] = array
    arrays = {name: np.stack(x, axis=1) if isinstance(x, list) else x for name, x in stacked.items()}
    write_parameters(tmp_path / "checkpoint_1", arrays.items(), step=1)
    convert_to_huggingface(tmp_path / "checkpoint_1", tmp_path / "back")
    assert tensors_in(tmp_path / "back") == tensors_in(folder)


@pytest.mark.parametrize("layout", ["legacy", "orbax"])
def test_a_checkpoint_that_t5x_wrote_goes_there_and_back_bit_for_bit(shared, tmp_path, layout):
    source = shared / "oracle" / "t5x_checkpoints" / f"{layout}_checkpoint_10"
    exported = convert_to_huggingface(source, tmp_path / "exported")
    assert (exported.sizes.family, exported.dtype) == ("t5_1_1", "float32")
    back = open_checkpoint(convert_from_huggingface(tmp_path / "exported", tmp_path / "back").checkpoint)
    before = open_checkpoint(source).parameters()
    assert back.parameters().keys() == before.keys()
    for name, store in back.parameters().items():
        assert np.asarray(store).tobytes() == np.asarray(before[name]).tobytes(), name


def test_every_parameter_that_differs_is_listed(converted, tmp_path):
    _, model = converted("t5_1_1")
    arrays = {
        name: np.asarray(store) for name, store in open_checkpoint(model.checkpoint).parameters().items()
    }
    del arrays["decoder/layers_1/mlp/wo/kernel"]
    arrays["encoder/encoder_norm/scale"] = np.ones(9, np.float32)
    arrays["decoder/layers_0/adapter/kernel"] = np.ones((2, 2), np.float32)
    write_parameters(tmp_path / "checkpoint_1", arrays.items())
    with pytest.raises(ValueError, match="3 parameters differ") as caught:
        convert_to_huggingface(tmp_path / "checkpoint_1", tmp_path / "back")
    for text in (
        "decoder/layers_1/mlp/wo/kernel is missing",
        "encoder/encoder_norm/scale has shape (9,), the other sizes make it (8,)",
        "decoder/layers_0/adapter/kernel of shape (2, 2) is no part of it",
    ):
        assert text in str(caught.value)
    assert not (tmp_path / "back").exists()


def test_a_checkpoint_of_no_t5_says_so(tmp_path):
    write_parameters(tmp_path / "checkpoint_1", {"dense/kernel": np.ones((3, 3), np.float32)}.items())
    with pytest.raises(ValueError, match=r"no token_embedder/embedding of 2 axes; it has dense/kernel"):
        convert_to_huggingface(tmp_path / "checkpoint_1", tmp_path / "back")


def test_settings_and_tokenizer_come_from_a_folder_to_be_like(converted, tmp_path):
    folder, model = converted("flan_t5")
    bare = tmp_path / "checkpoint_7"
    write_parameters(bare, open_checkpoint(model.checkpoint).parameters().items(), step=7)
    (folder / "tokenizer.json").write_text("{}")
    exported = convert_to_huggingface(bare, tmp_path / "back", like=folder)
    assert exported.has_tokenizer
    assert json_of(tmp_path / "back")["n_positions"] == 512
    _, other = converted("flan_t5", d_ff=16)
    with pytest.raises(ValueError, match="of another model: mlp_dim is 12, the checkpoint has 16"):
        convert_to_huggingface(other.checkpoint, tmp_path / "other", like=folder)


def test_a_run_that_began_with_a_converted_model_is_exported_with_its_tokenizer(converted, tmp_path):
    _, model = converted("flan_t5")
    (model.checkpoint.parent / "huggingface" / "tokenizer.json").write_text("{}")
    run = tmp_path / "run"
    write_parameters(
        run / "checkpoint_1000010", open_checkpoint(model.checkpoint).parameters().items(), step=1_000_010
    )
    (run / "config.gin").write_text(
        f"INITIAL_CHECKPOINT_PATH = {str(model.checkpoint)!r}\nutils.RestoreCheckpointConfig.path = %INITIAL_CHECKPOINT_PATH\n"
    )
    assert convert_to_huggingface(run / "checkpoint_1000010", tmp_path / "back").has_tokenizer
    assert (tmp_path / "back" / "tokenizer.json").exists()
    assert json_of(tmp_path / "back")["n_positions"] == 512


def test_what_transformers_needs_besides_is_written(converted, tmp_path):
    """Of a unigram model, as T5's is, transformers makes the tokenizer itself; 100 sentinels follow its pieces."""
    (tmp_path / "text").write_text("one two three four five six\n" * 20)
    sentencepiece.SentencePieceTrainer.train(
        input=str(tmp_path / "text"), model_prefix=str(tmp_path / "own"), vocab_size=20, minloglevel=2
    )
    _, model = converted("t5_1_1", vocab_size=128)
    convert_to_huggingface(model.checkpoint, tmp_path / "back", vocabulary=tmp_path / "own.model")
    assert (tmp_path / "back" / "spiece.model").read_bytes() == (tmp_path / "own.model").read_bytes()
    assert json_of(tmp_path / "back", "generation_config.json")["decoder_start_token_id"] == 0
    tokenizer = json_of(tmp_path / "back", "tokenizer_config.json")
    assert (tokenizer["tokenizer_class"], tokenizer["extra_ids"]) == ("T5Tokenizer", 100)
    assert len(json_of(tmp_path / "back", "special_tokens_map.json")["additional_special_tokens"]) == 100
    assert not (tmp_path / "back" / "tokenizer.json").exists()


def test_a_vocabulary_of_byte_pairs_is_spelt_out_for_transformers(converted, tmp_path):
    """transformers would take the embedded vocabulary for a unigram model, and give other ids."""
    _, model = converted("t5_1_1", vocab_size=1152)
    convert_to_huggingface(model.checkpoint, tmp_path / "back", vocabulary=VOCABULARY_PATH)
    tokenizer = json_of(tmp_path / "back", "tokenizer.json")
    pieces = sentencepiece.SentencePieceProcessor(model_file=str(VOCABULARY_PATH))
    assert tokenizer["model"]["vocab"] == {pieces.id_to_piece(i): i for i in range(1024)}
    merged = ["".join(pair) for pair in tokenizer["model"]["merges"]]
    ids = [pieces.piece_to_id(piece) for piece in merged]
    assert ids == sorted(ids)  # byte pairs are numbered in the order in which they were learnt
    config = json_of(tmp_path / "back", "tokenizer_config.json")
    assert (config["tokenizer_class"], config["extra_ids"]) == ("PreTrainedTokenizerFast", 0)


def test_the_command_line_goes_either_way_and_says_how_to_go_on(huggingface_folder, tmp_path, capsys):
    folder = huggingface_folder("t5_1_1")
    assert cli.main(["convert", str(folder), str(tmp_path / "model"), "--step", "5"]) == 0
    said = capsys.readouterr().out
    assert f"--gin_file={tmp_path / 'model' / 'model.gin'}" in said
    assert f"INITIAL_CHECKPOINT_PATH=\"'{tmp_path / 'model' / 'checkpoint_5'}'\"" in said
    assert (
        cli.main(["convert", str(tmp_path / "model" / "checkpoint_5"), str(tmp_path / "back"), "--to", "hf"])
        == 0
    )
    assert "AutoModelForSeq2SeqLM.from_pretrained" in capsys.readouterr().out
    assert tensors_in(tmp_path / "back") == tensors_in(folder)


def test_a_checkpoint_is_copied_into_t5x_s_layout_optimizer_and_all(converted, tmp_path, capsys):
    _, model = converted("t5")
    moments = {"state/param_states/shared/v": np.arange(4, dtype=np.float32)}
    parameters = {
        f"target/{name}": np.asarray(x) for name, x in open_checkpoint(model.checkpoint).parameters().items()
    }
    write_checkpoint(tmp_path / "checkpoint_3", (parameters | moments).items(), step=3)
    assert (
        cli.main(
            [
                "convert",
                str(tmp_path / "checkpoint_3"),
                str(tmp_path / "out"),
                "--to",
                "checkpoint",
                "--dtype",
                "bfloat16",
            ]
        )
        == 0
    )
    copied = open_checkpoint(tmp_path / "out" / "checkpoint_3")
    assert (copied.layout, copied.step) == ("t5x", 3)
    arrays = {name: np.asarray(x) for name, x in copied.arrays().items()}
    np.testing.assert_array_equal(arrays["state/param_states/shared/v"], np.arange(4, dtype=np.float32))
    name = "target/encoder/layers_0/mlp/wi/kernel"
    np.testing.assert_array_equal(arrays[name], parameters[name].astype(DTYPES["bfloat16"]))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere"], "There is no folder nowhere"),
        (["{folder}", "--to", "hf"], "is a Hugging Face model already"),
        (["{folder}", "--step", "-1"], "step=-1; it must be 0 or more"),
        (["{folder}", "--like", "x"], "--like and --vocabulary are for exports"),
        (["{checkpoint}", "--step", "4"], "a checkpoint keeps its own step"),
        (["{checkpoint}", "--vocabulary", "nothing.model"], "nothing.model is no SentencePiece model"),
        (["{checkpoint}", "--like", "nothing"], "nothing has no config.json"),
        (["hf://a/b/c"], "names no model"),
    ],
)
def test_a_wrong_call_is_one_line(converted, tmp_path, capsys, arguments, message):
    folder, model = converted("t5")
    given = [argument.format(folder=folder, checkpoint=model.checkpoint) for argument in arguments]
    assert cli.main(["convert", given[0], str(tmp_path / "out"), *given[1:]]) == 2
    error = capsys.readouterr().err.strip().split("\n")[-1]
    assert message in error
    assert not (tmp_path / "out").exists()


def test_a_hub_address_without_its_client_says_how_to_mend_it(tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "huggingface_hub", None)
    assert cli.main(["convert", "hf://google/t5-v1_1-small", str(tmp_path / "out")]) == 2
    assert "pip install huggingface_hub" in capsys.readouterr().err
