"""Vocabularies are named before their files are there, and equal by what they are."""

import copy

import gin
import pytest
import seqio
from small_vocabulary import END, START, write_tokenizer

from stepdistill_jax import datasets
from stepdistill_jax.datasets import vocabularies
from stepdistill_jax.datasets.text_vocabularies import TokenizersVocabulary
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


@pytest.fixture
def no_bindings():
    gin.clear_config()
    yield
    gin.clear_config()


def test_what_is_advised_has_an_effect_in_the_configuration(no_bindings, monkeypatch):
    monkeypatch.setenv("STEPDISTILL_VOCABULARY", "nowhere.model")
    with pytest.raises(FileNotFoundError, match="or STEPDISTILL_VOCABULARY to where it is"):
        datasets.vocabulary().encode("hello")
    gin.parse_config("stepdistill_jax.datasets.vocabulary_choice.file = 'away.model'")
    with pytest.raises(
        FileNotFoundError,
        match=r"away\.model; set datasets\.vocabulary_choice\.file \(in gin, or by --set\) to",
    ):
        datasets.vocabulary().encode("hello")
    gin.parse_config("SENTENCEPIECE_FILE = 'gone.model'")
    gin.parse_config("stepdistill_jax.datasets.vocabulary_choice.file = %SENTENCEPIECE_FILE")
    with pytest.raises(FileNotFoundError, match=r"gone\.model; set the macro SENTENCEPIECE_FILE"):
        datasets.vocabulary().encode("hello")


def test_a_vocabulary_in_a_bucket_that_is_not_reached_is_one_line(no_bindings, monkeypatch):
    def unreachable(_):
        raise RuntimeError("no host answers")

    monkeypatch.setenv("STEPDISTILL_VOCABULARY", "gs://bucket/mt5.model")
    monkeypatch.setattr(vocabularies.SentencePieceFile, "_is_there", unreachable)
    with pytest.raises(
        FileNotFoundError,
        match=r"gs://bucket/mt5\.model can't be reached \(no host answers\); copy it here, and set",
    ):
        datasets.vocabulary().encode("hello")


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


def read_choice(folder, **choice):
    """Reads a gin file that binds `vocabulary_choice`."""
    lines = [f"datasets.vocabulary_choice.{name} = {value!r}" for name, value in choice.items()]
    head = ["from __gin__ import dynamic_registration", "from stepdistill_jax import datasets"]
    (folder / "choice.gin").write_text("\n".join([*head, *lines]))
    gin.clear_config()
    launch.read_config([str(folder / "choice.gin")], [])


def test_a_gin_file_chooses_a_tokenizer(tmp_path):
    file = write_tokenizer(tmp_path / "tokenizer.json")
    task_modules.load_tasks()
    task = seqio.get_mixture_or_task("svamp_label")
    read_choice(tmp_path, file=str(file), start=START, end=END)
    words = task.output_features["targets"].vocabulary
    assert words.encode_tf("how many").numpy().tolist() == words.encode("how many") != []
    assert words.decode([*words.encode("how many"), words.eos_id]) == "how many"
    assert datasets.vocabulary() == TokenizersVocabulary(str(file), start=START, end=END)
    before = content_key.vocabulary_identity(words)
    assert before.startswith("TokenizersVocabulary")
    other = write_tokenizer(tmp_path / "other.json", special_first=False)
    read_choice(tmp_path, file=str(other), start=START, end=END)
    assert content_key.vocabulary_identity(words) != before


def test_a_tokenizer_without_its_start_and_end_is_one_line(tmp_path):
    read_choice(tmp_path, file="tokenizer.json", start=START)
    with pytest.raises(
        ValueError, match=r"tokenizer\.json needs the tokens that start and end a text: set datasets"
    ):
        datasets.vocabulary().encode("a")


def test_a_tokenizer_that_is_not_there_can_be_named_and_says_so_when_it_is_used(tmp_path):
    read_choice(tmp_path, file=str(tmp_path / "tokenizer.json"), start=START, end=END)
    assert datasets.vocabulary() == copy.deepcopy(datasets.vocabulary())
    with pytest.raises(
        FileNotFoundError, match=r"not at .*tokenizer\.json; set datasets\.vocabulary_choice\.file"
    ):
        datasets.vocabulary().encode("a")


def test_the_embedded_problems_are_read_in_the_vocabulary_that_gin_binds(tmp_path, monkeypatch):
    gin.clear_config()
    monkeypatch.setenv("STEPDISTILL_VOCABULARY", str(tmp_path / "none.model"))  # is not for them
    assert datasets.embedded_vocabulary().vocab_size == 1024
    task_modules.load_tasks()
    words = seqio.get_mixture_or_task("wordproblems_label").output_features["inputs"].vocabulary
    before = content_key.vocabulary_identity(words)
    read_choice(tmp_path, file=str(write_tokenizer(tmp_path / "tokenizer.json")), start=START, end=END)
    assert words == datasets.vocabulary() == datasets.embedded_vocabulary()
    assert words.decode(words.encode("no 12 + 3")) == "no 12 + 3"
    assert words.vocab_size < 400
    assert content_key.vocabulary_identity(words) != before
    gin.clear_config()
    assert words.vocab_size == 1024
