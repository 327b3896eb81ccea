"""Our vocabularies give SeqIO's ids, of T5's model, the embedded one and bytes, and compare with SeqIO's from either side."""

import copy
import pickle
import shutil

import numpy as np
import pytest
import seqio
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from small_vocabulary import END, START, write_tokenizer

from stepdistill_jax.datasets.text_vocabularies import (
    ByteVocabulary,
    SentencePieceVocabulary,
    TokenizersVocabulary,
    for_seqio,
)
from stepdistill_jax.datasets.wordproblems import VOCABULARY_PATH

ODD_TEXTS = (
    "",
    " ",
    "  two  spaces ",
    "The house is wonderful.",
    "premise: Größe 3½ hypothesis: it's <extra_id_1> ok",
    "<extra_id_0> and <extra_id_99>ly, jel<extra_id_5>",
    "{a: [1, 2]} < 3 ~ 4 ^ 5",
    "line\nline\ttab\r\n",
    "漢字 かな 한글 \U0001f642 é é",
    "\x00\x07​﷽",
    "( 10.0 - ( 6.0 + 3.0 ) )" * 40,
)
IDS = ((), (0, 0), (5, 1, 7), (37, 629, 2, 9, 1, 1), (40_000, 3), (32_099, 32_000, 1_023))


@pytest.fixture(params=["embedded", "t5", "bytes"])
def pair(request):
    """(ours, SeqIO's) of one file."""
    if request.param == "bytes":
        return ByteVocabulary(), seqio.ByteVocabulary()
    if request.param == "embedded":
        return SentencePieceVocabulary(str(VOCABULARY_PATH)), seqio.SentencePieceVocabulary(
            str(VOCABULARY_PATH)
        )
    path = str(request.getfixturevalue("shared") / "data" / "vocab" / "t5_spiece.model")
    return SentencePieceVocabulary(path, 100), seqio.SentencePieceVocabulary(path, extra_ids=100)


def test_numbers_of_a_vocabulary_are_seqio_s(pair):
    ours, theirs = pair
    for name in ("vocab_size", "pad_id", "eos_id", "unk_id", "bos_id", "extra_ids", "_base_vocab_size"):
        assert getattr(ours, name) == getattr(theirs, name), name


@pytest.mark.parametrize("text", ODD_TEXTS)
def test_odd_text_gets_seqio_s_ids_and_back(pair, text):
    ours, theirs = pair
    ids = list(theirs.encode(text))
    assert list(ours.encode(text)) == ids
    assert ours.decode(ids) == theirs.decode(ids)
    assert ours.encode_tf(text).numpy().tolist() == theirs.encode_tf(text).numpy().tolist()


@pytest.mark.parametrize("ids", IDS)
def test_any_ids_are_read_as_seqio_reads_them(pair, ids):
    ours, theirs = pair
    assert ours.decode(ids) == theirs.decode(list(ids))


def test_text_of_any_kind_gets_seqio_s_ids():
    pairs = [
        (SentencePieceVocabulary(str(VOCABULARY_PATH), 10), seqio.SentencePieceVocabulary(str(VOCABULARY_PATH), 10)),
        (ByteVocabulary(), seqio.ByteVocabulary()),
    ]  # fmt: skip

    @settings(max_examples=500, deadline=None)
    @given(st.text())
    def check(text):
        text = text.encode("utf-8", "ignore").decode()
        for ours, theirs in pairs:
            ids = list(theirs.encode(text))
            assert list(ours.encode(text)) == ids
            assert ours.decode(ids) == theirs.decode(ids)

    check()


def test_ours_and_seqio_s_compare_from_either_side():
    path = str(VOCABULARY_PATH)
    theirs = seqio.SentencePieceVocabulary(path, extra_ids=10)
    ours = for_seqio(SentencePieceVocabulary)(path, 10)
    assert isinstance(ours, seqio.SentencePieceVocabulary)
    assert ours == theirs
    assert theirs == ours
    assert ours == copy.deepcopy(ours) == SentencePieceVocabulary(path, 10)
    assert ours != seqio.SentencePieceVocabulary(path)
    assert ours != seqio.ByteVocabulary()
    assert for_seqio(ByteVocabulary)() == seqio.ByteVocabulary()
    assert seqio.ByteVocabulary() == for_seqio(ByteVocabulary)()


def test_a_seqio_mixture_takes_tasks_with_ours_and_with_seqio_s():
    path = str(VOCABULARY_PATH)
    kinds = {"ours": for_seqio(SentencePieceVocabulary)(path), "theirs": seqio.SentencePieceVocabulary(path)}
    for name, words in kinds.items():
        seqio.TaskRegistry.add(
            f"vocabulary_of_{name}",
            source=seqio.FunctionDataSource(lambda split, shuffle_files, seed=None: None, splits=["train"]),
            preprocessors=[],
            output_features={"targets": seqio.Feature(words)},
        )
    for order in (["ours", "theirs"], ["theirs", "ours"]):
        mixture = seqio.Mixture("_".join(order), [(f"vocabulary_of_{name}", 1.0) for name in order])
        assert mixture.output_features["targets"].vocabulary == kinds["ours"]


@pytest.fixture
def tokenizer_file(tmp_path):
    return write_tokenizer(tmp_path / "tokenizer.json", special_first=False)


def test_a_tokenizer_s_vocabulary_runs_inside_a_graph(tokenizer_file):
    words = for_seqio(TokenizersVocabulary)(str(tokenizer_file), start=START, end=END)
    texts = ["how many!", "", "Größe 猫\n"]
    dataset = tf.data.Dataset.from_tensor_slices(texts).map(words.encode_tf)
    assert dataset.element_spec == tf.TensorSpec([None], tf.int32)
    assert [row.tolist() for row in dataset.as_numpy_iterator()] == [words.encode(text) for text in texts]
    assert words.encode_tf(texts).to_list() == [words.encode(text) for text in texts]
    rows = np.array([[*words.encode("many"), words.eos_id, 5], [0, *words.encode("many"), 0]])
    assert words.decode_tf(rows).numpy().tolist() == [b"many", b"many"]
    assert (words.pad_id, words.bos_id, words.unk_id, words.extra_ids) == (0, 0, None, 0)


def test_a_tokenizer_s_vocabulary_is_a_seqio_one_that_ends_inputs_and_targets(tokenizer_file):
    words = for_seqio(TokenizersVocabulary)(str(tokenizer_file), start=START, end=END)
    assert isinstance(words, seqio.Vocabulary)
    features = {"targets": seqio.Feature(words)}
    texts = tf.data.Dataset.from_tensors({"targets": "how many apples"})
    tokens = seqio.preprocessors.append_eos(seqio.preprocessors.tokenize(texts, features), features)
    (example,) = tokens.as_numpy_iterator()
    assert example["targets"].tolist() == [*words.encode("how many apples"), words.eos_id]


def test_tokenizer_s_vocabularies_are_equal_by_content_and_copied_by_name(tokenizer_file, tmp_path):
    words = TokenizersVocabulary(str(tokenizer_file), start=START, end=END)
    words.encode("a")
    elsewhere = shutil.copy(tokenizer_file, tmp_path / "copy.json")
    assert words == copy.deepcopy(words) == pickle.loads(pickle.dumps(words))
    assert words == for_seqio(TokenizersVocabulary)(str(elsewhere), start=START, end=END)
    assert for_seqio(TokenizersVocabulary)(str(elsewhere), start=START, end=END) == words
    assert words != TokenizersVocabulary(str(tokenizer_file), start=START, end="<|im_start|>")
    assert words not in (ByteVocabulary(), SentencePieceVocabulary(str(VOCABULARY_PATH)))
    absent = TokenizersVocabulary(str(tmp_path / "absent.json"), start=START, end=END)
    assert absent == copy.copy(absent) != words
    assert f"start={START}, end={END}, sha256=" in str(words)
