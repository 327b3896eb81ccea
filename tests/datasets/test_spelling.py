"""Labels in other words, line breaks as a word: written for the student, read back wherever they are scored or shown."""

import json

import gin
import pytest
import seqio
from hypothesis import given
from hypothesis import strategies as st
from riddles import write_jsonl
from small_vocabulary import write_vocabulary
from test_seqio_tasks import write_rationales
from test_subsets import choose

from stepdistill_jax import datasets
from stepdistill_jax.base import messages
from stepdistill_jax.base.line_breaks import read_line_breaks, write_line_breaks
from stepdistill_jax.datasets import scoring, spelling
from stepdistill_jax.engine.data import dataset_config
from stepdistill_jax.student.features import StepByStepFeatureConverter

LABELS = ('{"queue": "tech"}', "<refund>")
WORDS = {LABELS[0]: "tech", LABELS[1]: "refund"}
ROWS = [
    {"text": f"my pass~word {n} is gone\nhelp" if n % 2 else f"money back {n}", "label": LABELS[n % 2 == 0]}
    for n in range(12)
]
LENGTHS = {"inputs": 96, "targets": 64}


def to_ticket(row):
    return datasets.Fields(row["text"], row["label"], explanation=f"First.\nThen {row['text']}.")


@pytest.fixture
def tickets(register_dataset, data_folder, tmp_path, monkeypatch):
    """tickets(…) prepares and teaches them, and gives the manifest; labels have braces, the vocabulary has none."""
    monkeypatch.setenv("STEPDISTILL_VOCABULARY", str(write_vocabulary(tmp_path / "small.model")))

    def make(rows=ROWS, **settings):
        write_jsonl(tmp_path / "train.jsonl", rows[:8])
        write_jsonl(tmp_path / "test.jsonl", rows[8:])
        register_dataset(name="tickets", to_example=to_ticket, embedded=False, **settings)
        manifest = datasets.prepare("tickets", from_folder=tmp_path)
        write_rationales(data_folder, name="tickets")
        return manifest

    yield make
    gin.clear_config()


def open_stream(task="tickets_label", split="train", **settings):
    cfg = dataset_config.DatasetConfig(
        mixture_or_task_name=task,
        task_feature_lengths=LENGTHS,
        split=split,
        batch_size=2,
        shuffle=False,
        seed=0,
    )
    for name, value in settings.items():
        setattr(cfg, name, value)
    return dataset_config.get_dataset(cfg, 0, 1, StepByStepFeatureConverter)


def decoded(task, split="train", feature="targets"):
    examples = seqio.get_mixture_or_task(task).get_dataset(
        sequence_length=None, split=split, shuffle=False, num_epochs=1
    )
    words = datasets.vocabulary()
    return [words.decode(example[feature].tolist()) for example in examples.as_numpy_iterator()]


def accuracy(task, answer_of):
    """What SeqIO's evaluator says of answers; `answer_of` makes one of what the student should write."""
    evaluator = seqio.Evaluator(
        task,
        feature_converter=StepByStepFeatureConverter(pack=False),
        eval_split="test",
        sequence_length={**LENGTHS, "task_ids": 64},
    )
    words = datasets.vocabulary()

    def predict(dataset):
        rows = [row["decoder_target_tokens"].tolist() for _, row in dataset.as_numpy_iterator()]
        answers = [words.encode(answer_of(words.decode(row))) for row in rows]
        return [(i, ids + [0] * (80 - len(ids))) for i, ids in enumerate(answers)]

    metrics, _ = evaluator.evaluate(compute_metrics=True, predict_fn=predict, step=0)
    return metrics.result()[task]["accuracy"]


def test_labels_that_cannot_be_written_are_one_error_with_label_character_and_mends(tickets):
    tickets()
    with pytest.raises(
        ValueError, match=r"^tickets_label/train: 2 of 2 labels, in 8 of 8 \(100 %\) examples"
    ) as error:
        open_stream()
    for part in ("'{', '}'", repr(LABELS[0]), "label_words", "'bytes'", "mT5"):
        assert part in str(error.value)
    with pytest.raises(ValueError, match="cannot be written"):  # the second start, from kept token ids
        open_stream()


def test_bytes_write_every_label(tickets, monkeypatch, capsys):
    monkeypatch.setenv("STEPDISTILL_VOCABULARY", "bytes")
    assert tickets()["vocabulary_notes"] == []
    assert open_stream().text_fit()["tickets_label"]["labels"]["num_unwritable"] == 0
    assert decoded("tickets_label")[:2] == [LABELS[1], LABELS[0]]
    assert "changed" not in capsys.readouterr().err


def test_the_student_writes_label_words_and_is_scored_by_labels(tickets):
    tickets(label_words=WORDS)
    assert decoded("tickets_label")[:2] == ["refund", "tech"]
    assert decoded("tickets_rationale_then_label")[0].endswith("So the answer is tech")
    assert accuracy("tickets_label", lambda written: written) == 100
    assert accuracy("tickets_label", lambda written: "refund") == 50
    assert accuracy("tickets_label", lambda written: "neither") == 0
    assert (
        accuracy("tickets_rationale_then_label", lambda written: f"Why. So the answer is {written[-6:]}")
        == 50
    )


def test_an_answer_is_read_as_the_label_it_stands_for(tickets):
    tickets(label_words=WORDS)
    read = scoring.label_reader("tickets_step_by_step", datasets.vocabulary())
    assert [read(text) for text in (" tech ", "refund", "else")] == [*LABELS, "else"]


def test_a_word_that_is_another_label_is_named(tickets):
    with pytest.raises(ValueError, match=r"Dataset tickets: label_words=.*a text of its own"):
        tickets(label_words=dict.fromkeys(LABELS, "one"))
    tickets(label_words={LABELS[0]: LABELS[1]})
    with pytest.raises(
        ValueError, match=r"tickets/train/0: its label '<refund>' is what label_words writes for"
    ):
        open_stream()


def test_inputs_that_are_changed_are_said_by_prepare_and_at_the_start(tickets, capsys, monkeypatch):
    monkeypatch.setattr(messages, "_said", set())
    assert tickets(label_words=WORDS)["vocabulary_notes"] == [
        "6 of 12 (50 %) inputs are changed by the vocabulary: it has no '~' (in 6).",
        "6 of 12 (50 %) inputs have line breaks, which the vocabulary reads as blanks; task_choices.keep_newlines keeps them.",
    ]
    fit = open_stream().text_fit()["tickets_label"]["features"]["inputs"]
    open_stream("tickets_rationale")
    said = capsys.readouterr().err.splitlines()
    assert (
        "tickets_label/train: 4 of 8 (50 %) inputs are changed by the vocabulary: it has no '~' (in 4)."
        in said
    )
    assert [line.partition(" (")[0] for line in said if "inputs have line breaks" in line] == [
        "tickets_label/train: 4 of 8"
    ]
    assert (fit["num_changed"], fit["num_cut"], fit["characters"]) == (4, 0, {"~": 4})


def test_cut_labels_are_an_error_unless_they_are_allowed(tickets, capsys):
    long = [
        {"text": row["text"], "label": "a b c d e f g h i j" if n else "a b"} for n, row in enumerate(ROWS)
    ]
    tickets(long)
    settings = {"task_feature_lengths": {"inputs": 96, "targets": 8}}
    needed = 1 + len(datasets.vocabulary().encode(long[1]["label"]))
    with pytest.raises(ValueError, match=r"^tickets_label/train: 7 of 8 labels are cut") as error:
        open_stream(**settings)
    assert f"TASK_FEATURE_LENGTHS['targets'] to {needed}" in str(error.value)
    fit = open_stream(**settings, allow_cut_labels=True).text_fit()["tickets_label"]
    assert fit["labels"]["num_cut"] == fit["features"]["targets"]["num_cut"] == 7
    assert fit["features"]["targets"]["num_cut_tokens"] == 7 * (needed - 8)
    assert f"are cut at 8 tokens: {7 * (needed - 8)} of" in capsys.readouterr().err
    open_stream(task_feature_lengths={"inputs": 96, "targets": needed})


def test_the_label_at_the_end_of_a_cut_rationale_is_cut(tickets):
    tickets(label_words=WORDS)
    with pytest.raises(ValueError, match=r"tickets_rationale_then_label/train: \d of \d labels are cut"):
        open_stream("tickets_rationale_then_label", task_feature_lengths={"inputs": 96, "targets": 10})


def test_cut_rationales_and_inputs_are_said_and_no_error(tickets, capsys):
    tickets(label_words=WORDS)
    open_stream("tickets_rationale", task_feature_lengths={"inputs": 12, "targets": 10})
    said = capsys.readouterr().err
    assert "inputs are cut at 12 tokens" in said
    assert "targets are cut at 10 tokens" in said


def test_a_text_that_just_fits_is_not_cut(tickets):
    tickets(label_words=WORDS)
    longest = open_stream().text_fit()["tickets_label"]["features"]["inputs"]["longest"]
    fit = open_stream(task_feature_lengths={"inputs": longest, "targets": 64}).text_fit()
    assert fit["tickets_label"]["features"]["inputs"]["num_cut"] == 0
    fit = open_stream(task_feature_lengths={"inputs": longest - 1, "targets": 64}).text_fit()
    assert fit["tickets_label"]["features"]["inputs"]["num_cut_tokens"] > 0


def test_a_label_of_another_split_that_cannot_be_written_is_said_and_no_error(tickets, capsys):
    tickets(label_words={LABELS[0]: "tech"})
    cfg = dataset_config.DatasetConfig("tickets_label", LENGTHS, "test", 2, shuffle=False, seed=0)
    streams = dataset_config.get_training_eval_datasets(cfg, 0, 1, None, StepByStepFeatureConverter)
    assert list(streams) == ["tickets_label"]
    assert (
        "tickets_label/test: 1 of 2 labels, in 2 of 4 (50 %) examples, cannot be written"
        in capsys.readouterr().err
    )


def test_line_breaks_are_written_as_the_chosen_word_and_read_back(tickets):
    rows = [{"text": f"one\ntwo {n}", "label": "yes\nno"} for n in range(12)]
    tickets(rows)
    with pytest.raises(ValueError, match=r"task_choices\.keep_newlines"):
        open_stream()
    choose(keep_newlines="<extra_id_99>")
    stream = open_stream()
    assert decoded("tickets_label")[0] == "yes <extra_id_99> no"
    assert decoded("tickets_label", feature="inputs")[0] == "[label] one <extra_id_99> two 0"
    assert "\n" not in decoded("tickets_rationale")[0]
    assert stream.text_fit()["tickets_label"]["features"]["inputs"]["num_with_line_breaks"] == 0
    assert accuracy("tickets_label", lambda written: written) == 100
    assert scoring.label_reader("tickets_label", datasets.vocabulary())("yes <extra_id_99> no") == "yes\nno"
    task = seqio.get_mixture_or_task("tickets_label")
    assert task.source.facts("train")["keep_newlines"] == "<extra_id_99>"


def test_label_words_are_among_the_facts_of_a_run(tickets):
    tickets(label_words=WORDS)
    facts = seqio.get_mixture_or_task("tickets_label").source.facts("train")
    assert json.loads(facts["label_words"]) == WORDS
    assert "keep_newlines" not in facts


@pytest.mark.parametrize("word", ["{nl}", "two words", " ", "line~break"])
def test_a_word_that_the_vocabulary_has_not_is_named(tickets, word):
    tickets(label_words=WORDS)
    choose(keep_newlines=word)
    with pytest.raises(ValueError, match=r"task_choices\.keep_newlines="):
        open_stream()


def test_a_text_that_holds_the_word_itself_is_named(tickets):
    rows = [*ROWS[:3], {"text": "either|or", "label": LABELS[0]}, *ROWS[4:]]
    tickets(rows, label_words=WORDS)
    choose(keep_newlines="|")
    with pytest.raises(ValueError, match=r"^tickets/train/3: its text holds '\|'"):
        open_stream()


TEXT = st.lists(st.sampled_from(["a", "be", "1", "\n", "\r\n", " ", "."]), max_size=12).map("".join)


@given(TEXT, st.sampled_from(["<extra_id_99>", "|", "\\n"]))
def test_reading_line_breaks_is_the_inverse_of_writing_them(text, word):
    there = spelling.as_read_back(text, word)
    assert read_line_breaks(write_line_breaks(there, word), word) == there
    lines = text.replace("\r\n", "\n").split("\n")
    stripped = [line.strip(" ") for line in lines[1:-1]] if len(lines) > 1 else lines
    expected = [lines[0].rstrip(" "), *stripped, lines[-1].lstrip(" ")] if len(lines) > 1 else lines
    assert there == "\n".join(expected)


@given(TEXT)
def test_without_a_word_nothing_is_written_otherwise(text):
    assert write_line_breaks(text, None) == read_line_breaks(text, None) == text
