"""How a dataset's texts are written for a student, and read back: labels in other words, line breaks as a word.

Labels. `Dataset.label_words` says what the student writes for a label: {'<refund>': 'refund'}. Its answer 'refund' is the label
'<refund>' again wherever it is scored or shown. Teachers, prompts and records keep the label.

Line breaks. SentencePiece reads them as blanks, so they are lost. `datasets.task_choices.keep_newlines` names a word that the
vocabulary has, in T5's best a sentinel, '<extra_id_99>': every line break of inputs, labels and rationales is written as that
word, and read back from it. Blanks around a line break are lost. It is off by default, and needless for bytes.

    'Total:\\n3 apples' -> 'Total: <extra_id_99> 3 apples' -> 'Total:\\n3 apples'
"""

from stepdistill_jax.base.line_breaks import read_line_breaks, write_line_breaks
from stepdistill_jax.datasets import choices
from stepdistill_jax.datasets.dataset import Dataset
from stepdistill_jax.datasets.text_vocabularies import TextVocabulary


def line_break_word(vocabulary: TextVocabulary) -> str | None:
    """The word for a line break, by `task_choices.keep_newlines`; None where line breaks are not kept.

    Raises:
      ValueError: if the vocabulary does not give it back as it is.
    """
    word = choices.task_choices().keep_newlines
    if word is not None:
        text = f"a {word} b"
        if vocabulary.decode(vocabulary.encode(text)) != text:
            raise ValueError(
                f"task_choices.keep_newlines={word!r}: the vocabulary does not give it back as it is; use a sentinel that it "
                "has ('<extra_id_99>' in T5's), or another word that no text holds."
            )
    return word


def as_read_back(text: str, word: str | None) -> str:
    """A text as it comes back at best: without blanks around its line breaks, if these are written as a word."""
    return read_line_breaks(write_line_breaks(text, word), word)


def read_label(dataset: Dataset, text: str) -> str:
    """The label that an answer stands for; the answer itself where it is no label's word."""
    return {word: label for label, word in dataset.label_words.items()}.get(text, text)
