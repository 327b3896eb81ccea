"""What a task's texts lose, and what is cut, is counted for vocabularies with and without an unknown token."""

import numpy as np
import pytest
import seqio
from small_vocabulary import END, START, write_tokenizer, write_vocabulary

from stepdistill_jax.datasets.text_vocabularies import (
    SentencePieceVocabulary,
    TokenizersVocabulary,
    for_seqio,
)
from stepdistill_jax.engine.data.fit_counting import fit_of_examples

TEXTS = ("{a}\nhow many apples are there, or 12 + 3 ?", "no")


@pytest.fixture(params=["tokenizers", "sentencepiece"])
def words(request, tmp_path):
    if request.param == "tokenizers":
        file = write_tokenizer(tmp_path / "tokenizer.json")
        return for_seqio(TokenizersVocabulary)(str(file), start=START, end=END)
    return for_seqio(SentencePieceVocabulary)(str(write_vocabulary(tmp_path / "small.model")))


def test_pairs_of_bytes_lose_nothing_and_are_cut_as_others_are(words):
    room = 8
    task = seqio.Task(
        "fits",
        source=seqio.FunctionDataSource(lambda split, shuffle_files, seed=None: None, splits=["train"]),
        preprocessors=[],
        output_features={
            "inputs": seqio.Feature(words),
            "task_ids": seqio.Feature(seqio.PassThroughVocabulary(3), add_eos=False),
        },
    )
    rows = [
        {
            "inputs": np.array([*words.encode(text), words.eos_id][:room]),
            "inputs_pretokenized": text.encode(),
            "task_ids": np.array([1]),
        }
        for text in TEXTS
    ]
    fit = fit_of_examples(task, rows, {"inputs": room, "task_ids": 1})
    assert list(fit.features) == ["inputs"]
    inputs = fit.features["inputs"]
    assert (inputs.num_examples, inputs.num_cut) == (2, 1)
    assert inputs.longest == len(words.encode(TEXTS[0])) + 1 > room
    loses = not isinstance(words, TokenizersVocabulary)
    assert (inputs.num_changed, inputs.num_with_line_breaks) == (int(loses), int(loses))
