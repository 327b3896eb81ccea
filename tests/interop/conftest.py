"""Small Hugging Face folders, and checkpoints made of them."""

import pytest
from decoder_folders import decoder_config, decoder_tensors
from huggingface_folders import config_of, tensors_of, write_folder
from small_vocabulary import write_tokenizer

from stepdistill_jax.interop import convert_from_huggingface


@pytest.fixture(scope="module")
def huggingface_folder(tmp_path_factory):
    """huggingface_folder(family, dtype=…, shards=…, edit=function of the tensors, **changes of config) -> folder."""

    def make(family="t5_1_1", *, dtype="float32", shards=1, edit=lambda tensors: tensors, **changes):
        config = config_of(family, **changes)
        folder = tmp_path_factory.mktemp("huggingface") / family
        return write_folder(folder, config, edit(tensors_of(config, dtype)), shards=shards)

    return make


@pytest.fixture(scope="module")
def converted(huggingface_folder, tmp_path_factory):
    """converted(family, **as huggingface_folder) -> (folder, its conversion)."""

    def make(family="t5_1_1", **arguments):
        folder = huggingface_folder(family, **arguments)
        return folder, convert_from_huggingface(folder, tmp_path_factory.mktemp("checkpoints") / family)

    return make


@pytest.fixture(scope="module")
def decoder_folder(tmp_path_factory):
    """decoder_folder(family, dtype=…, shards=…, edit=function of the tensors, start_is_0=…, **changes of config) -> folder with a
    tokenizer."""

    def make(
        family="smollm2",
        *,
        dtype="float32",
        shards=1,
        edit=lambda tensors: tensors,
        start_is_0=False,
        **changes,
    ):
        config = decoder_config(family, **changes)
        folder = tmp_path_factory.mktemp("huggingface") / family
        write_folder(folder, config, edit(decoder_tensors(config, dtype)), shards=shards)
        write_tokenizer(folder / "tokenizer.json", special_first=start_is_0)
        return folder

    return make
