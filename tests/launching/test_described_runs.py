"""What a run says of its student, and which students data alone cannot describe."""

import dataclasses
import shutil
import types

import jax.numpy as jnp
import pytest
from small_vocabulary import END, START, write_tokenizer, write_vocabulary
from tiny_t5 import tiny_config

from stepdistill_jax.base import messages
from stepdistill_jax.datasets import Dataset, Fields, registry
from stepdistill_jax.datasets.text_vocabularies import (
    ByteVocabulary,
    SentencePieceVocabulary,
    TokenizersVocabulary,
)
from stepdistill_jax.engine.data.dataset_config import DatasetConfig
from stepdistill_jax.engine.model import network, scalable_network
from stepdistill_jax.launching import runs, whole_runs
from stepdistill_jax.prediction.description import VocabularyFile, read_description
from stepdistill_jax.prediction.vocabularies import open_vocabulary

CONTENT = {"fruit/examples/train": {"sha256": "abc", "order": "d", "count": 3}}


@pytest.fixture
def fruit(monkeypatch):
    """A registered dataset of two choices, of which one is written in another word."""
    dataset = Dataset(
        "fruit",
        lambda row: Fields("a", "{b}"),
        rows=lambda split: [],
        choices=("{b}", "c"),
        label_words={"{b}": "b"},
    )
    monkeypatch.setitem(registry._DATASETS, "fruit", dataset)
    monkeypatch.setattr(messages, "_said", set())


@pytest.fixture
def describe(fruit, tmp_path):
    """describe(task, module=…, words=…) -> what student.json says; None where there is none."""

    def make(task="fruit_step_by_step", *, module=None, words=None, outputs=None, begins_with=None):
        words = words or ByteVocabulary()
        model = types.SimpleNamespace(
            module=module or network.Transformer(tiny_config(vocab_size=384)),
            input_vocabulary=words,
            output_vocabulary=outputs or words,
        )
        cfg = DatasetConfig(
            mixture_or_task_name=task,
            task_feature_lengths={"inputs": 96, "targets": 64, "task_ids": 64},
            split="train",
            batch_size=8,
            shuffle=True,
            seed=0,
        )
        whole_runs.describe(tmp_path, model, cfg, CONTENT, begins_with)
        return read_description(tmp_path) if (tmp_path / "student.json").exists() else None

    return make


def test_the_dataset_s_choices_words_and_content_are_said(describe, monkeypatch):
    monkeypatch.setenv("STEPDISTILL_TASKS", "my_tasks")
    said = describe()
    assert (said.choices, said.label_words, said.metric) == (("{b}", "c"), {"{b}": "b"}, "text")
    assert said.vocabulary == VocabularyFile("bytes")
    assert (said.dataset["name"], said.task_modules, said.content) == ("fruit", ("my_tasks",), CONTENT)
    assert said.feature_lengths == {"inputs": 96, "targets": 64}


def test_how_a_network_is_computed_is_said_only_where_it_was_set(describe):
    computed = {"attention", "logits_dot_in_fp32"}
    assert not computed & set(describe().network)
    config = tiny_config(vocab_size=384, attention="plain", logits_dot_in_fp32=False)
    assert {name: describe(module=network.Transformer(config)).network[name] for name in computed} == {
        "attention": "plain",
        "logits_dot_in_fp32": False,
    }


def test_choices_that_the_student_could_not_tell_apart_stop_a_run_at_its_start(describe, monkeypatch):
    alike = dataclasses.replace(registry._DATASETS["fruit"], label_words={"{b}": "c"})
    monkeypatch.setitem(registry._DATASETS, "fruit", alike)
    with pytest.raises(ValueError, match=r"choices '\{b\}' and 'c' are the same token ids.*--merge_labels"):
        describe()


@pytest.mark.parametrize(
    ("task", "method", "marker", "rationales", "scored"),
    [
        ("fruit_label", "fine_tuning", "", False, 2),
        ("fruit_step_by_step", "step_by_step", "", True, 2),
        ("fruit_rationale_then_label", "rationale_then_label", "So the answer is", False, 0),
        ("fruit_rationale", "", "", True, 2),
    ],
)
def test_each_method_is_told_apart(describe, task, method, marker, rationales, scored):
    said = describe(task)
    assert (said.method, said.answer_marker, said.learns_rationales) == (method, marker, rationales)
    assert len(said.scored_choices) == scored
    assert not said.own_task


def test_a_task_of_one_s_own_is_asked_by_its_code(describe, tmp_path):
    said = describe("riddles")
    assert (said.own_task, said.choices, said.method) == (True, (), "")
    assert runs.needs_its_code(tmp_path)


def test_the_modules_that_it_takes_are_named_where_they_are_not_set(describe, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("STEPDISTILL_TASKS", "my_tasks")
    describe("riddles")
    monkeypatch.delenv("STEPDISTILL_TASKS")
    with pytest.raises(FileNotFoundError, match=r"has no config\.gin"):
        runs.evaluate(str(tmp_path))
    assert "was trained with STEPDISTILL_TASKS=my_tasks, which is not set here" in capsys.readouterr().err


@pytest.mark.parametrize("kind", [network.T5Config, scalable_network.T5Config])
def test_every_field_of_the_network_is_said_and_makes_it_again(describe, kind):
    sizes = dataclasses.asdict(tiny_config(vocab_size=384, dtype=jnp.bfloat16, scan_layers=None))
    config = kind(**sizes)
    said = describe(module=network.Transformer(config))
    again = network.T5Config(**said.network)
    assert dataclasses.asdict(again) == {**dataclasses.asdict(config), "dtype": "bfloat16"}


def test_a_tokenizer_travels_with_the_run_and_reads_as_it_did(describe, tmp_path):
    words = TokenizersVocabulary(str(write_tokenizer(tmp_path / "tokenizer.json")), start=START, end=END)
    said = describe(words=words)
    file = said.vocabulary
    assert (file.kind, file.file, file.start, file.end) == (
        "tokenizers",
        "vocabulary/tokenizer.json",
        START,
        END,
    )
    assert open_vocabulary(tmp_path, file).encode("how many") == words.encode("how many")


def test_the_vocabulary_s_file_travels_with_the_run(describe, tmp_path):
    file = write_vocabulary(tmp_path / "small.model")
    said = describe(words=SentencePieceVocabulary(str(file), extra_ids=7))
    assert (said.vocabulary.file, said.vocabulary.extra_ids) == ("vocabulary/small.model", 7)
    assert (tmp_path / said.vocabulary.file).read_bytes() == file.read_bytes()


def test_a_checkpoint_of_another_vocabulary_is_told(describe, tmp_path, capsys):
    words = SentencePieceVocabulary(str(write_vocabulary(tmp_path / "small.model")), extra_ids=7)
    describe(words=words)
    earlier = shutil.copytree(tmp_path, tmp_path / "earlier") / "checkpoint_9"
    describe(words=words, begins_with=earlier)
    describe(begins_with=tmp_path / "converted" / "checkpoint_0")  # where no student.json tells
    assert capsys.readouterr().err == ""
    describe(begins_with=earlier)
    said = capsys.readouterr().err
    assert (
        f"{earlier} has learnt the ids of vocabulary/small.model, and this run reads bytes: they mean" in said
    )


class OwnNetwork(network.Transformer):
    pass


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (
            {"module": OwnNetwork(tiny_config(vocab_size=384))},
            "its network is test_described_runs.OwnNetwork, not ours",
        ),
        (
            {"module": network.Transformer(tiny_config(vocab_size=384, mlp_activations=(jnp.tanh,)))},
            "has no name",
        ),
        ({"words": types.SimpleNamespace()}, "its vocabulary is a SimpleNamespace"),
        ({"outputs": object()}, "its inputs and its targets have different vocabularies"),
    ],
    ids=["network", "activation", "vocabulary", "two vocabularies"],
)
def test_what_data_alone_cannot_say_is_named(describe, capsys, arguments, said):
    assert describe(**arguments) is None
    [line] = capsys.readouterr().err.splitlines()
    assert "is not whole" in line
    assert said in line


def test_a_table_on_standard_input_is_told_by_its_header(capsys, monkeypatch):
    monkeypatch.setattr("stepdistill_jax.base.messages._said", set())
    for text in ("id,subject,body", '"body";"subject"', "subject\tbody"):
        runs._say_if_header(text, "{subject}\n{body}")
        assert (
            f"the first text, {text!r}, is answered as a question, but looks like" in capsys.readouterr().err
        )
    for text, template in (("the body, the subject", "{subject}\n{body}"), ("subject", None), ("", "{a}")):
        runs._say_if_header(text, template)
    assert capsys.readouterr().err == ""
