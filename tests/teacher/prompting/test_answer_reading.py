r"""Answers of today's models, as servers send them, come to the right label, rationale or reason."""

import pytest

from stepdistill_jax.datasets import CompletionFormat
from stepdistill_jax.teacher.answers.requests import Answer
from stepdistill_jax.teacher.prompting.answer_reading import Reading
from stepdistill_jax.teacher.prompting.tolerant_parsing import LabelForm

SUMS = Reading(CompletionFormat("The answer is", "Q:", r"(\(.*\))"), is_chat=True)  # svamp's, asdiv's
CQA = Reading(CompletionFormat("So the answer is", "Q:", r"\(.\)\s*(.+?)\s*\.?\s*(?:\(.\)|$)"), is_chat=True)
EQUATION = LabelForm(equation=True)
CHOICES = LabelForm(("library", "table", "bookstore", "shelf", "classroom"), lettered=True)
NO_LABEL = "label is no equation"


def _sum(text, finish_reason="stop", reading=SUMS, **fields):
    parsed = reading.read(Answer(text, finish_reason, **fields), EQUATION)
    return parsed.rationale, parsed.label or parsed.unparsed_reason


@pytest.mark.parametrize(
    ("text", "rationale", "label"),
    [
        ("Two rows of 5 red pots and 3 blue ones. The answer is 2 * (5 + 3).", "Two rows of 5 red pots and 3 blue ones.", "2 * (5 + 3)"),
        ("8 pots on 2 shelves. The answer is (5 + 3) / 2.", "8 pots on 2 shelves.", "(5 + 3) / 2"),
        ("8 pots, twice. The answer is (5 + 3) * 2 = 16 pots.", "8 pots, twice.", "(5 + 3) * 2"),
        (r"Boxes of 3. The answer is \boxed{4 \times 3}.", "Boxes of 3.", "4 * 3"),
        ("Boxes of 3. So it is 12.\n\n" r"\[ \boxed{12} \]", "Boxes of 3. So it is 12.", "12"),
        (r"Half of 12. The answer is $\frac{12}{2}$.", "Half of 12.", "12 / 2"),
        ("He drank some. The answer is 12½ liters.", "He drank some.", "12 + 1 / 2"),
        ("<think>\nIs the answer 3 + 4? The answer is 12 - 5.\n</think>\n\nHe lost 5. The answer is 12 - 5.", "He lost 5.", "12 - 5"),
        ("5 are lost.\n\n**Final Answer:** 12 - 5 = 7", "5 are lost.", "12 - 5"),
        ("5 are lost.\n\n### Final answer\n\n" r"\boxed{12-5}", "5 are lost.", "12-5"),
        (r"So there are $\boxed{7}$ pots.", "So there are 7 pots.", "7"),
        ("a. So the answer is: **$1,200**", "a.", "1,200"),
        (r"a. The answer is \(12 - 5 = 7\text{ pots}\).", "a.", "12 - 5"),
        (r"a. The answer is 3\frac{1}{2} * 2", "a.", "(3 + 1 / 2) * 2"),
        (r"a. The answer is \dfrac{5 + 3}{2}", "a.", "(5 + 3) / 2"),
        ("a. The answer is 50%.", "a.", "50%"),
        ("a. The answer is 50 percent of them.", "a.", "50%"),
        ("a. The answer is 1 − 5.", "a.", "1 - 5"),
        ("a. The answer is 1−5.", "a.", "1-5"),
        ("a. The answer is 12-5.", "a.", "12-5"),
        ("a. The answer is 5 °C.", "a.", "5"),
        ("a. The answer is 12 - 5.\n\n12 - 5 = 7\n\n**7**", "a.", "12 - 5"),
        ("a. The answer is 12 - 5.\n\n1. 12 pots\n2. 5 are lost", "a.", "12 - 5"),
        ("a. The answer is 12 - 5.\n\nSo the total is 7.\n\n#### 7", "a.", "12 - 5"),
        ("a. The answer is 5-7 = -2.", "a.", "5-7"),
        ("a. The answer is 12 - 5.\n\nShe keeps 7 pots.", "a.", "12 - 5"),
        ("a. The answer is 12 - 5\n= 7 pots", "a.", "12 - 5"),
        ('{"rationale": "He lost 5. The answer is 12.", "answer": "12 - 5"}', "He lost 5. The answer is 12.", "12 - 5"),
        ("<scratchpad>The answer is 3.</scratchpad>a. The answer is 12 - 5.</s>", "a.", "12 - 5"),
        ('<think effort="low">The answer is 3.</think>a. The answer is 12 - 5.', "a.", "12 - 5"),
    ],
)  # fmt: skip
def test_a_whole_equation_is_read(text, rationale, label):
    assert _sum(text) == (rationale, label)


@pytest.mark.parametrize(
    "behind",
    [
        "12 and a half", "12 dozen", "5k", "$5 m", "€3.5 m in all", "5 million", "12½k", "2**3", "2 ** -3", "2^3", "5²", "0x10", "1e5", "5–7 apples",
        "5 to 7", r"\(5 + 3\) / 2", r"2 * \boxed{5 + 3}", "12\n- 5", ":\n- 12 apples", "- 5", "x = 12 - 5", "12x", "1 200",
        "1.200,50", "0,125", "12 - five", r"\sqrt{16}", r"\frac{12}", "12 - 5 pots and 3 pans", "about 12", "3 1/2", "12 -",
        r"5 \pm 3", "12, 5", "12:30", "5!!3", "12 * 3*", "≈ 12", "**12** 3", "(12 - 5", "12 - 5)", "3 万",
        "5-7 apples", "$5-$7", "2.5-3.5", "1-1/2 hours", "3-½", "0.333...", "12...", "12?", "12 pots?\nNo", "€1.200", "1.200 €", "12 lakh", "3 crore",
        "12 mil", "12 Tausend", "5 Dutzend", "12 тысяч", "12 mln", "3천 개", "5 M", "12 grand", "12 if none is lost", "12 at most", "12.5 rounded up",
        "12ish", "12 Prozent", "12 pour cent", "12 fold", "3个半", "12 tenthousand", "0.3 repeating", "5 moins deux", "12\nthousand", "12\ndozen pots", "12\nor 13", "12\n13", "12 pots\n3 pans", "12\n% of them", "$12$\n$\\times 2$", "12\n\n- 5",
    ],
)  # fmt: skip
def test_what_is_not_certain_is_no_value(behind):
    assert _sum(f"a. The answer is {behind}") == ("a.", NO_LABEL)


@pytest.mark.parametrize(
    "text",
    [
        "a. The answer is 12. No, the answer is 13.",
        "a. The answer is 12.\n\nFinal answer: 13",
        r"a. The answer is 12. \boxed{13}",
        r"a. Not \boxed{12} but \boxed{13}.",
        "a. The answer is 12.\nThe correct answer is 13.",
        "a. The answer is 12.\n\n**Final answer: 12 and a half**",
        "a. The answer is 12.\n\nAnswer: 13 or 14",
        "a. The answer is 12.\n\n#### 13",
        "a. The answer is 12.\n\n**13**",
        "a. The answer is 12.\n\n= 13",
        "a. The answer is 12.\n\nSo the total is 13.",
        "a. The answer is 12.\n\nFinal result: 13",
        "a. The answer is 12.\n\nThe answer would be 13.",
    ],
)
def test_two_answers_are_none(text):
    assert _sum(text) == ("", "two answer markers")


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (Answer("", "length", thoughts="Hm."), "budget spent on reasoning"),
        (Answer("", "length"), "budget spent on reasoning"),  # a hosted server that shows no thoughts
        (Answer("<think>The answer is 3.", "length"), "budget spent on reasoning"),
        (Answer("<think>The answer is 3."), "budget spent on reasoning"),
        (Answer("<think>The answer is 3.", "stop"), "reasoning without an answer"),
        (Answer("", "stop", thoughts="Hm."), "reasoning without an answer"),
        (Answer("", "stop"), "empty answer"),
        (Answer(" \n", ""), "empty answer"),
        (Answer("a. The answer is 3.", "content_filter"), "stopped by the content filter"),
        (Answer("I can't. The answer is 3.", "refusal"), "refused by the model"),
        (Answer("a. The answer is 3. Yes.", "length"), "cut at max_tokens"),  # may be all thoughts
        (Answer("a. The answer is 1", "length", thoughts="Hm."), "cut at max_tokens"),
        (Answer("a. The answer is 1.", "length", thoughts="Hm."), "cut at max_tokens"),
        (Answer("a. That", "length", thoughts="Hm."), "cut at max_tokens"),
    ],
)
def test_every_way_to_say_nothing_has_its_name(answer, reason):
    parsed = SUMS.read(answer, EQUATION)
    assert (parsed.label, parsed.unparsed_reason) == ("", reason)


def test_an_answer_cut_behind_its_label_is_read_where_it_is_no_thought():
    said = "a. The answer is (8 - 3). So she has"
    assert _sum(said, "length", thoughts="Hm.") == ("a.", "(8 - 3)")
    assert _sum(f"<think>Hm.</think>{said}", "length") == ("a.", "(8 - 3)")
    assert _sum(said, "length", Reading(SUMS.completion_format)) == ("a.", "(8 - 3)")  # a text to continue


def test_thoughts_stand_for_a_rationale_only_where_there_is_none_and_by_name():
    thoughts = "He has 12. He lost 5 of them. That leaves 7."
    taking = Reading(SUMS.completion_format, thoughts_as_rationale=True, max_thought_words=8)
    assert _sum("The answer is 12 - 5.", thoughts=thoughts) == ("", "empty rationale")
    assert _sum("The answer is 12 - 5.", "stop", taking, thoughts=thoughts) == (
        "He has 12. He lost 5 of them.",
        "12 - 5",
    )
    assert _sum("a. The answer is 12 - 5.", "stop", taking, thoughts=thoughts) == ("a.", "12 - 5")
    assert _sum("The answer is 12 - 5.", "stop", taking) == ("", "empty rationale")


@pytest.mark.parametrize(
    ("behind", "label"),
    [
        ("option (B) table.", "table"),
        ("Option B: table", "table"),
        ("choice B", "table"),
        (r"$\boxed{\text{B}}$", "table"),
        (r"\boxed{\text{(B) table}}", "table"),
        ("**B. table**", "table"),
        ("the table.", "table"),
        ("table (B).", "table"),
        ("(table)", "table"),
        ("table, because one works there.", "table"),
        ("option (C) table.", ""),
        ("table (c), where one works", ""),
        ("(B) or (C)", ""),
        ("(B) table or (D) shelf", ""),
        ("not table", ""),
        ("a desk", ""),
        ("(b) table-top", ""),
        ("table - D", ""),
        ("table, option D", ""),
        ("table\nshelf", ""),
        ("B. table\nC. bookstore", ""),
        ("(B) table\n\nThe correct answer is (D) shelf.", ""),
        ("table!", "table"),
        ("book", ""),
    ],
)
def test_a_choice_is_read_by_letter_or_text_or_both(behind, label):
    parsed = CQA.read(Answer(f"Books are there. So the answer is {behind}", "stop"), CHOICES)
    assert (parsed.label, bool(parsed.unparsed_reason)) == (label, not label)


def test_a_choice_at_the_end_of_a_cut_answer_may_be_the_beginning_of_another():
    form = LabelForm(("bank", "bank account", "bridge"), lettered=True)
    for behind, label in (
        ("bank", ""),
        ("b", ""),
        ("bank acc", "bank account"),
        ("bank.\nIt", "bank"),
        ("(a", ""),
    ):
        parsed = CQA.read(Answer(f"a. So the answer is {behind}", "length", thoughts="Hm."), form)
        assert parsed.label == label, behind


def test_a_letter_that_is_the_text_of_another_choice_names_none():
    form = LabelForm(("b", "a", "c"), lettered=True)
    for behind, label in (("a", ""), ("c", "c"), ("(b) a", "a"), ("(a)", "")):
        assert CQA.read(Answer(f"x. So the answer is {behind}", "stop"), form).label == label, behind


@pytest.mark.parametrize(
    ("choices", "behind", "label"),
    [
        (("1", "2", "4", "5"), "4.5", ""),
        (("1", "2", "4", "5"), "4-6", ""),
        (("1", "2", "4", "5"), "1,000", ""),
        (("1", "2", "4", "5"), "4.", "4"),
        (("1", "2", "4", "5"), "4, because all is well", "4"),
        (("spam", "ham"), "spam-free", ""),
        (("spam", "ham"), "spam\n- ham", ""),
        (("spam", "ham"), "spam.\n\n#### ham", ""),
        (("spam", "ham"), "spam.\n\nSo the label is ham.", ""),
        (("spam", "ham"), "spam.\n\nTherefore, ham.", ""),
        (("spam", "ham"), "spam: 0", ""),
        (("spam", "ham"), "spam.\n\nIt is not ham, as it sells something.", "spam"),
        (("spam", "ham"), "spam: no", ""),
        (("spam", "ham"), "spam (not)", ""),
        (("spam", "ham"), "spam, but only just", ""),
        (("spam", "ham"), "spam, as it sells something", "spam"),
        (("yes", "no"), "no-one knows", ""),
        (("yes", "no"), "No, it is not there.", "no"),
        (("c", "c++", "java", "javascript"), "c, c++", ""),
        (("c", "c++", "java", "javascript"), "java-script", ""),
        (("c", "c++", "java", "javascript"), "java (script)", ""),
        (("c", "c++", "java", "javascript"), "c.net", ""),
        (("entailment", "not entailment"), "entailment, not", ""),
        (("entailment", "not entailment"), "not entailment.", "not entailment"),
        (("billing", "billing-dispute"), "billing: dispute", ""),
        (("billing", "billing-dispute"), "billing-dispute", "billing-dispute"),
        (("mg", "Mg"), "Mg", "Mg"),
        (("mg", "Mg"), "MG", ""),
        (("mg", "Mg"), "mg, since it is light", ""),
    ],
)
def test_a_choice_is_not_the_beginning_of_another_word_number_or_denial(choices, behind, label):
    parsed = SUMS.read(Answer(f"a. The answer is {behind}", "stop"), LabelForm(choices))
    assert (parsed.label, bool(parsed.unparsed_reason)) == (label, not label)


@pytest.mark.parametrize(
    ("behind", "label"),
    [
        ("**Paris**.", "Paris"),
        ('"Paris."', "Paris"),
        (r"$\boxed{\text{Paris}}$", "Paris"),
        ("__init__.py", "__init__.py"),
        ("**kwargs", "**kwargs"),
        ('5"', '5"'),
        ('"A" and "B"', '"A" and "B"'),
        (r"C:\new\_x", r"C:\new\_x"),
        (r"\d+\(a\)", r"\d+\(a\)"),
    ],
)
def test_any_text_keeps_the_marks_that_are_its_own(behind, label):
    assert SUMS.read(Answer(f"a. The answer is {behind}", "stop"), LabelForm()).label == label


@pytest.mark.parametrize(
    "text",
    [
        r"a. So it is minus \boxed{12}.", r"a. So it is half of \boxed{12}.", r"a. So it is not \boxed{12}.", r"a. So \frac{1}{\boxed{12}}.",
        r"a. So \sqrt{\boxed{12}}.", r"a. So 5 \times (\boxed{12}).", r"a. So it is twice \boxed{12}.",
    ],
)  # fmt: skip
def test_a_box_that_holds_a_part_is_no_value(text):
    assert _sum(text)[1] == NO_LABEL
