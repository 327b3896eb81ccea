"""A run that was not trained: random parameters, validation texts beside them."""

import hashlib
import json
import shutil

import pytest
from made_up_students import CHOICES, description_of, network_of, write_student
from small_vocabulary import write_vocabulary

from stepdistill_jax.base.vocabularies.sentencepiece_models import read_sentencepiece
from stepdistill_jax.prediction.description import VocabularyFile

TEXTS = tuple(
    f"{word} {number} apples" for number in range(4) for word in ("no", "many")
)  # of one length of batches


@pytest.fixture(scope="session")
def made_run(tmp_path_factory):
    """A run's folder, to be read alone: its last step is 7."""
    folder = tmp_path_factory.mktemp("runs") / "fruit"
    folder.mkdir()
    write_student(folder, description_of())
    (folder / "predictions").mkdir()
    rows = [{"choices": CHOICES}, *({"inputs": text} for text in TEXTS)]
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    (folder / "predictions" / "choices-validation-7.jsonl").write_text(lines)
    return folder


@pytest.fixture
def own_run(made_run, tmp_path):
    """The same, to be changed; it has no validation texts, so that nothing has to be compiled for a check."""
    shutil.copytree(made_run, tmp_path / "fruit", ignore=shutil.ignore_patterns("predictions"))
    return tmp_path / "fruit"


@pytest.fixture(scope="session")
def unigram_run(tmp_path_factory):
    """unigram_run(is_normalised) -> a run whose vocabulary is of unigrams, as T5's; without validation texts.

    The table of what is normalised is long, and gguf reads it byte by byte: some ten seconds.
    """

    def make(*, is_normalised=False):
        folder = tmp_path_factory.mktemp("unigrams")
        file = write_vocabulary(folder / "small.model")
        if not is_normalised:
            model = read_sentencepiece(file)
            model.normalizer_spec.precompiled_charsmap = b""
            file.write_bytes(model.SerializeToString())
        sha256 = hashlib.sha256(file.read_bytes()).hexdigest()
        described = description_of(
            vocabulary=VocabularyFile("sentencepiece", "vocabulary/small.model", sha256),
            network=network_of(num_encoder_layers=2, num_decoder_layers=3),
        )
        (folder / "run").mkdir()
        return write_student(folder / "run", described, vocabulary=file)

    return make
