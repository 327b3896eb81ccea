"""Hugging Face folders with what others leave in them: adapters, and settings of how a model ends its answers."""

import json

import pytest
from small_vocabulary import END, START

from stepdistill_jax import cli
from stepdistill_jax.interop import convert_from_huggingface, convert_to_huggingface


@pytest.mark.parametrize("beside", ["nothing", "config.json", "the_whole_model"])
def test_an_adapter_is_refused_with_the_mend_whatever_lies_beside_it(
    decoder_folder, tmp_path, capsys, beside
):
    folder = decoder_folder("smollm2")
    (folder / "adapter_config.json").write_text('{"peft_type": "LORA", "base_model_name_or_path": "other"}')
    if beside != "the_whole_model":
        (folder / "model.safetensors").rename(folder / "adapter_model.safetensors")
    if beside == "nothing":
        (folder / "config.json").unlink()
    assert cli.main(["convert", str(folder), str(tmp_path / "ours")]) == 2
    said = capsys.readouterr().err
    assert "has an adapter_config.json" in said
    assert "merge_and_unload" in said
    assert not (tmp_path / "ours").exists()


@pytest.mark.parametrize("own", [0, [0], None])
def test_an_exported_student_stops_at_its_own_end_beside_the_model_s(decoder_folder, tmp_path, own):
    folder = decoder_folder("qwen2")
    settings = {"eos_token_id": own, "repetition_penalty": 1.1}
    (folder / "generation_config.json").write_text(json.dumps(settings))
    model = convert_from_huggingface(folder, tmp_path / "ours")
    assert (model.tokens.start, model.tokens.end) == (START, END)
    convert_to_huggingface(model.checkpoint, tmp_path / "back")
    found = json.loads((tmp_path / "back" / "generation_config.json").read_text())
    expected = [model.tokens.end_id] if own is None else [model.tokens.end_id, 0]
    assert found == {"eos_token_id": expected, "repetition_penalty": 1.1}


@pytest.mark.parametrize("own", [0, [0], None, "the student's"])
def test_an_exported_config_names_the_student_s_end(decoder_folder, tmp_path, own):
    folder = decoder_folder("qwen2")
    tokens = convert_from_huggingface(folder, tmp_path / "first").tokens
    own = [7, tokens.end_id] if own == "the student's" else own
    config = json.loads((folder / "config.json").read_text())
    given = {"eos_token_id": own, "bos_token_id": 5, "pad_token_id": None}
    (folder / "config.json").write_text(json.dumps({**config, **given}))
    model = convert_from_huggingface(folder, tmp_path / "ours")
    convert_to_huggingface(model.checkpoint, tmp_path / "back")
    found = json.loads((tmp_path / "back" / "config.json").read_text())
    assert found["eos_token_id"] == (own if own == [7, tokens.end_id] else tokens.end_id)
    assert (found["bos_token_id"], found["pad_token_id"]) == (5, tokens.start_id)


def test_settings_that_stop_there_already_stay_as_they_are(decoder_folder, tmp_path):
    folder = decoder_folder("qwen2")
    tokens = convert_from_huggingface(folder, tmp_path / "first").tokens
    text = json.dumps({"eos_token_id": [7, tokens.end_id]})
    (folder / "generation_config.json").write_text(text)
    model = convert_from_huggingface(folder, tmp_path / "ours")
    convert_to_huggingface(model.checkpoint, tmp_path / "back")
    assert (tmp_path / "back" / "generation_config.json").read_text() == text
