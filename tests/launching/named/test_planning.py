"""What a run by names adds for a language model: its tokenizer, and a dtype that the device computes fast."""

import dataclasses

from stepdistill_jax.launching.named import planning, students

SMOLLM2, SMALL = students.find("smollm2_135m"), students.find("t5_1_1_small")


def converted(folder):
    """A checkpoint with a tokenizer beside it, as `convert` leaves them."""
    (folder / "huggingface").mkdir()
    (folder / "huggingface" / "tokenizer.json").write_text("{}")
    return str(folder / "checkpoint_0")


def test_the_tokenizer_comes_from_beside_the_checkpoint(tmp_path):
    checkpoint = converted(tmp_path)
    [binding] = planning._with_vocabulary((), SMOLLM2, checkpoint)
    assert binding == f"TOKENIZER = {str(tmp_path / 'huggingface' / 'tokenizer.json')!r}"
    assert planning._with_vocabulary((binding,), SMOLLM2, checkpoint) == (binding,)  # as `--again` gives it


def test_the_environment_names_a_t5_s_vocabulary_and_no_language_model_s(tmp_path, monkeypatch):
    monkeypatch.setenv("STEPDISTILL_VOCABULARY", "spiece.model")
    assert planning._with_vocabulary((), SMOLLM2, None) == ()
    assert planning._with_vocabulary((), SMALL, None) == ("datasets.vocabulary_choice.file = 'spiece.model'",)
    # Whose vocabulary is the embedded problems' own.
    assert planning._with_vocabulary((), dataclasses.replace(SMALL, name="t5_1_1_tiny"), None) == ()


def test_a_cpu_computes_a_language_model_in_float32_unless_told_otherwise():
    assert planning._for_this_device((), SMOLLM2) == ("llama.LlamaConfig.dtype = 'float32'",)
    told = ("llama.LlamaConfig.dtype = 'bfloat16'",)
    assert planning._for_this_device(told, SMOLLM2) == told
    assert planning._for_this_device((), SMALL) == ()
