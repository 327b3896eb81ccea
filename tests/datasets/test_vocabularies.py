"""Vocabularies are named before their files are there, and equal by what they are."""

import copy

import gin
import pytest
import seqio

from stepdistill_jax import datasets
from stepdistill_jax.engine.data import content_key
from stepdistill_jax.launching import launch, task_modules


def test_the_t5_vocabulary_can_be_named_and_compared_before_it_is_there(data_folder):
    assert datasets.vocabulary() == datasets.vocabulary()
    assert datasets.vocabulary() == copy.deepcopy(datasets.vocabulary())  # gin copies what it binds
    assert datasets.vocabulary() != datasets.embedded_vocabulary()
    assert not data_folder.exists()


def test_using_a_vocabulary_that_is_not_there_says_how_to_get_it(data_folder):
    with pytest.raises(FileNotFoundError, match="run `stepdistill prepare t5_vocabulary`"):
        copy.deepcopy(datasets.vocabulary()).encode("hello")


def test_the_t5_vocabulary_gives_t5_ids(shared, data_folder):
    datasets.prepare("t5_vocabulary", from_folder=shared / "data" / "vocab")
    vocabulary = copy.deepcopy(datasets.vocabulary())
    assert (vocabulary.vocab_size, vocabulary.pad_id, vocabulary.eos_id, vocabulary.unk_id) == (
        32_100,
        0,
        1,
        2,
    )
    # The ids that Hugging Face's documentation of T5 shows for this sentence.
    assert vocabulary.encode("The house is wonderful.") == [37, 629, 19, 1627, 5]
    assert vocabulary.decode([37, 629, 19, 1627, 5]) == "The house is wonderful."
    assert vocabulary.encode_tf("The house is wonderful.").numpy().tolist() == [37, 629, 19, 1627, 5]
    assert vocabulary.encode("<extra_id_0>") == [32_099]
    assert vocabulary.decode(vocabulary.encode("( 10.0 - ( 6.0 + 3.0 ) )")) == "( 10.0 - ( 6.0 + 3.0 ) )"


def test_the_t5_vocabulary_is_the_one_that_seqio_makes_of_the_file(shared, data_folder, monkeypatch):
    path = str(shared / "data" / "vocab" / "t5_spiece.model")
    monkeypatch.setenv("STEPDISTILL_VOCABULARY", path)
    plain = seqio.SentencePieceVocabulary(path, extra_ids=100)
    text = "premise: Größe 3½ hypothesis: it's <extra_id_1> ok"
    assert copy.deepcopy(datasets.vocabulary()).encode(text) == plain.encode(text)


def test_the_embedded_vocabulary_keeps_equations_whole():
    vocabulary = datasets.embedded_vocabulary()
    assert (vocabulary.vocab_size, vocabulary.pad_id, vocabulary.eos_id) == (1024, 0, 1)
    for text in ("( 12 + 5 ) - 3", "Mia has 12 apples."):
        assert vocabulary.decode(vocabulary.encode(text)) == text


def test_another_model_s_vocabulary_may_stand_in_for_t5_s(tmp_path, monkeypatch):
    """A SentencePiece model with sentinels of its own, as mT5's, gets no further ones; ByT5 has bytes."""
    import sentencepiece

    (tmp_path / "text").write_text("one two three four five six\n" * 20)
    sentencepiece.SentencePieceTrainer.train(
        input=str(tmp_path / "text"),
        model_prefix=str(tmp_path / "own"),
        vocab_size=22,
        pad_id=0,
        eos_id=1,
        unk_id=2,
        bos_id=-1,
        user_defined_symbols=["<extra_id_1>", "<extra_id_0>"],
        minloglevel=2,
    )
    monkeypatch.setenv("STEPDISTILL_VOCABULARY", str(tmp_path / "own.model"))
    vocabulary = datasets.vocabulary()
    assert vocabulary.vocab_size == 22
    plain = seqio.SentencePieceVocabulary(str(tmp_path / "own.model"))
    assert vocabulary == plain
    assert plain == vocabulary
    monkeypatch.setenv("STEPDISTILL_VOCABULARY", "bytes")
    assert vocabulary == seqio.ByteVocabulary()


def test_a_gin_file_chooses_the_vocabulary_of_tasks_that_are_registered_already(monkeypatch):
    monkeypatch.setenv("STEPDISTILL_VOCABULARY", "elsewhere.model")
    task_modules.load_tasks()
    task = seqio.get_mixture_or_task("svamp_label")
    launch.read_config(["gin/models/byt5_small.gin"], ["DROPOUT_RATE = 0.0"])
    assert task.output_features["targets"].vocabulary.encode("aé") == [100, 198, 172]
    assert content_key.vocabulary_identity(datasets.vocabulary()).startswith("ByteVocabulary")
    gin.clear_config()
    with pytest.raises(
        FileNotFoundError, match=r"vocabulary is not at elsewhere\.model; set datasets\.vocab"
    ):
        task.output_features["targets"].vocabulary.encode("a")
