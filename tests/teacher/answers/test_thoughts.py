"""Thoughts and answer, told apart in the forms of many models."""

import pytest

from stepdistill_jax.teacher.answers.requests import Answer
from stepdistill_jax.teacher.answers.thoughts import Parts, first_sentences, split_thoughts

TAGS = [
    ("<think>", "</think>"),
    ("<thinking>", "</thinking>"),
    ("<reasoning>", "</reasoning>"),
    ("<seed:think>", "</seed:think>"),
    ("<|begin_of_thought|>", "<|end_of_thought|>"),
    ("[THINK]", "[/THINK]"),
    ("◁think▷", "◁/think▷"),
]


@pytest.mark.parametrize(("opening", "closing"), TAGS)
def test_every_models_tags_are_known(opening, closing):
    said = f"{opening}\nHm, 3 < 4.\n{closing}\n\nIt is 4."
    assert split_thoughts(Answer(said)) == Parts("Hm, 3 < 4.", "It is 4.")
    assert split_thoughts(Answer(said.removeprefix(opening))) == Parts("Hm, 3 < 4.", "It is 4.")
    assert split_thoughts(Answer(said.partition(closing)[0])) == Parts("Hm, 3 < 4.", "", is_open=True)


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("It is 4.", Parts("", "It is 4.")),
        ("", Parts("", "")),
        ("<think></think>It is 4.", Parts("", "It is 4.")),
        ("<think>a</think>It <think>b</think>is 4.", Parts("ab", "It is 4.")),
        ("<think>a <think> b</think>It is 4.", Parts("a <think> b", "It is 4.")),
        ("a</think>b</think>It is 4.", Parts("ab", "It is 4.")),
        ("It is 4.<think>wait", Parts("wait", "It is 4.", is_open=True)),
        ("<THINK>a</THINK>It is 4.", Parts("a", "It is 4.")),
        (
            "<|begin_of_thought|>a<|end_of_thought|><|begin_of_solution|>It is 4.<|end_of_solution|>",
            Parts("a", "It is 4."),
        ),
        (
            "<|channel|>analysis<|message|>Hm.<|end|><|start|>assistant<|channel|>final<|message|>It is 4.<|return|>",
            Parts("Hm.", "It is 4."),
        ),
        ("<|channel|>analysis<|message|>Hm. The answer is", Parts("Hm. The answer is", "", is_open=True)),
        ("<|channel|>final<|message|>It is 4.", Parts("", "It is 4.")),
        ("analysisHm.assistantfinalIt is 4.", Parts("Hm.", "It is 4.")),
        ("analysis of the problem: it is 4.", Parts("", "analysis of the problem: it is 4.")),
    ],
)
def test_thoughts_that_are_nested_repeated_or_in_channels(text, parts):
    assert split_thoughts(Answer(text)) == parts


def test_thoughts_of_a_field_come_first():
    assert split_thoughts(Answer("<think>b</think>c", thoughts="a\n")) == Parts("a\nb", "c")


@pytest.mark.parametrize(
    ("max_words", "text"),
    [
        (0, "He has 12. He lost 5, so 12 - 5 = 7! That is 3.5 times 2."),
        (3, "He has 12."),
        (11, "He has 12."),
        (12, "He has 12. He lost 5, so 12 - 5 = 7!"),
        (1, "He has 12."),
    ],
)
def test_thoughts_are_cut_at_the_end_of_a_sentence(max_words, text):
    assert first_sentences("He has 12.\nHe lost 5, so 12 - 5 = 7! That is 3.5 times 2.", max_words) == text
