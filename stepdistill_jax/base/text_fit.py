"""What a vocabulary and a row's length make of texts: which are changed, which are cut, and what is said of them.

A text is changed where encoding and decoding lose a character that the vocabulary has not: it comes back as unknown. Line breaks
that come back as blanks are counted apart, as many datasets have them in every text. What else SentencePiece normalises by design
does not count: runs of blanks, and the NFKC forms of characters (² is read as 2).
"""

import collections
import dataclasses
import itertools
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol

LINE_BREAK = "\n"
_MOST_SHOWN = 20  # characters, and labels, that are kept and named


class Vocabulary(Protocol):
    """A text's token ids, and back; SeqIO's names."""

    unk_id: int | None

    def encode(self, s: str) -> list[int]: ...

    def decode(self, ids: Any) -> str: ...


def has_line_break(text: str | bytes) -> bool:
    """Whether a text, or its UTF-8, holds a line feed or a carriage return."""
    return b"\n" in text or b"\r" in text if isinstance(text, bytes) else "\n" in text or "\r" in text


class CharacterCheck:
    """Which characters a vocabulary has not; each is asked for once."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        self._vocabulary = getattr(vocabulary, "stands_for", vocabulary)
        self._unknown: dict[str, bool] = {}
        self.keeps_line_breaks = self._vocabulary.decode(self._vocabulary.encode("a\nb")) == "a\nb"

    def lost_in(self, text: str) -> list[str]:
        """The characters of a text that do not come back from encode and decode, sorted; every line break is '\\n'."""
        lost = [LINE_BREAK] if has_line_break(text) and not self.keeps_line_breaks else []
        visible = {c for c in unicodedata.normalize("NFC", text) if not c.isspace()}
        return lost + sorted(c for c in visible if self._is_unknown(c))

    def _is_unknown(self, character: str) -> bool:
        if character not in self._unknown:
            self._unknown[character] = self._vocabulary.unk_id in self._vocabulary.encode(character)
        return self._unknown[character]


@dataclasses.dataclass(frozen=True)
class FeatureFit:
    """What became of one feature's texts.

    Attributes:
      num_examples: texts.
      num_changed: texts with a character that becomes unknown.
      characters: character -> texts that lose it, the most frequent first, 20 at most.
      num_characters: how many different characters are lost.
      num_with_line_breaks: texts whose line breaks become blanks.
      num_cut: texts of more tokens than the row's room.
      num_cut_tokens: tokens that were cut off.
      num_tokens: tokens of all texts before that, ends of sequence included.
      longest: tokens of the longest text before that.
      room: tokens that a row has for it; None where nothing is cut.
    """

    num_examples: int = 0
    num_changed: int = 0
    characters: Mapping[str, int] = dataclasses.field(default_factory=dict)
    num_characters: int = 0
    num_with_line_breaks: int = 0
    num_cut: int = 0
    num_cut_tokens: int = 0
    num_tokens: int = 0
    longest: int = 0
    room: int | None = None

    def sentences(self, what: str) -> list[str]:
        """What a user should know, of '<task>/<split>: {} inputs': none where every text fits, but for line breaks."""
        return [text for text in (self._changed(what), self._cut(what)) if text]

    def line_break_sentences(self, what: str) -> list[str]:
        """The same of line breaks, which many datasets have in every text: a sentence, or none."""
        if not self.num_with_line_breaks:
            return []
        return [
            f"{what.format(share(self.num_with_line_breaks, self.num_examples))} have line breaks, which the vocabulary reads as "
            "blanks; task_choices.keep_newlines keeps them."
        ]

    def _changed(self, what: str) -> str:
        if not self.num_changed:
            return ""
        missing = [f"{shown(c)} (in {count:,})" for c, count in self.characters.items()]
        missing += [f"{self.num_characters - len(missing):,} more"] * (self.num_characters > len(missing))
        cause = f"it has no {', '.join(missing)}" if missing else "it reads some characters as unknown"
        return f"{what.format(share(self.num_changed, self.num_examples))} are changed by the vocabulary: {cause}."

    def _cut(self, what: str) -> str:
        if not self.num_cut:
            return ""
        return (
            f"{what.format(share(self.num_cut, self.num_examples))} are cut at {self.room:,} tokens: "
            f"{self.num_cut_tokens:,} of {self.num_tokens:,} tokens are left out, the longest has {self.longest:,}."
        )


@dataclasses.dataclass(frozen=True)
class LabelFit:
    """What became of a task's labels, which are scored and so must come back whole.

    Attributes:
      num_examples: examples that have a label.
      num_labels: different labels.
      unwritable: label -> what comes back of it, where that is another text; the 20 most frequent.
      characters: what the vocabulary has not of them, sorted; a line break is '\\n'.
      num_unwritable: how many different ones there are.
      num_unwritable_examples: examples that have one.
      num_cut: examples whose targets, and so labels, are cut.
    """

    num_examples: int = 0
    num_labels: int = 0
    unwritable: Mapping[str, str] = dataclasses.field(default_factory=dict)
    characters: Sequence[str] = ()
    num_unwritable: int = 0
    num_unwritable_examples: int = 0
    num_cut: int = 0

    @property
    def are_unwritable(self) -> bool:
        """Whether labels that cannot be written are 1 % or more of the labels or of the examples: any of a set of classes, but
        not one of thousands of free texts."""
        most = (
            self.num_unwritable * 100 >= self.num_labels
            or self.num_unwritable_examples * 100 >= self.num_examples
        )
        return bool(self.num_unwritable) and most

    def unwritable_sentence(self, where: str) -> str:
        """Of the task or split `where`: which labels the vocabulary cannot write, and the mends."""
        named = [f"{label!r} comes back as {back!r}" for label, back in list(self.unwritable.items())[:3]]
        named += [f"and {self.num_unwritable - 3:,} more"] * (self.num_unwritable > 3)
        missing = f": it has no {', '.join(map(shown, self.characters))}" if self.characters else ""
        breaks = " line breaks by task_choices.keep_newlines," if LINE_BREAK in self.characters else ""
        return (
            f"{where}: {self.num_unwritable:,} of {self.num_labels:,} labels, in {share(self.num_unwritable_examples, self.num_examples)} examples, "
            f"cannot be written in the vocabulary{missing}. {'; '.join(named)}. Give them other words,{breaks} "
            "Dataset(label_words={label: word}), or take a vocabulary that has them: ByT5's (gin/models/byt5_*.gin; "
            "datasets.vocabulary_choice.file = 'bytes') or mT5's."
        )


@dataclasses.dataclass(frozen=True)
class TaskFit:
    """How a task's texts fit: by feature, and the labels in its targets; None where it names none."""

    features: Mapping[str, FeatureFit] = dataclasses.field(default_factory=dict)
    labels: LabelFit | None = None

    def sentences(self, name: str) -> list[str]:
        """Of the task or split `name`, a line a feature and kind of misfit."""
        return [
            sentence
            for feature, fit in self.features.items()
            for sentence in fit.sentences(f"{name}: {{}} {feature}")
        ]

    def as_dict(self) -> dict[str, Any]:
        """For JSON; `task_fit` reads it back."""
        return dataclasses.asdict(self)


class TextsFit:
    """Counts which texts a vocabulary changes; nothing is encoded but the characters that there are, each once."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        self._check = CharacterCheck(vocabulary)
        self._characters: collections.Counter[str] = collections.Counter()
        self._num_texts = self._num_changed = self._num_with_line_breaks = 0

    def add(self, texts: Iterable[str]) -> None:
        """Counts these, too."""
        texts = [unicodedata.normalize("NFC", text) for text in texts]
        lost = {c for c in set().union(*texts) if self._check.lost_in(c)} - set("\n\r")
        found = [lost & set(text) for text in texts] if lost else []
        self._characters.update(itertools.chain.from_iterable(found))
        self._num_texts += len(texts)
        self._num_changed += sum(map(bool, found))
        if not self._check.keeps_line_breaks:
            self._num_with_line_breaks += sum(map(has_line_break, texts))

    @property
    def fit(self) -> FeatureFit:
        """Of all texts so far."""
        return FeatureFit(
            num_examples=self._num_texts,
            num_changed=self._num_changed,
            characters=most_frequent(self._characters),
            num_characters=len(self._characters),
            num_with_line_breaks=self._num_with_line_breaks,
        )


def fit_of_texts(vocabulary: Vocabulary, texts: Iterable[str]) -> FeatureFit:
    """Which of the texts the vocabulary changes."""
    counting = TextsFit(vocabulary)
    counting.add(texts)
    return counting.fit


def fit_of_labels(
    vocabulary: Vocabulary, counts: Mapping[str, int], is_right: Callable[[str, str], bool]
) -> LabelFit:
    """Which labels do not come back from encode and decode.

    Args:
      counts: label -> examples that have it.
      is_right: (label, what comes back of it) -> whether an answer of that counts as right.
    """
    backs = {label: vocabulary.decode(vocabulary.encode(label)) for label in counts}
    wrong = {label: count for label, count in counts.items() if not is_right(label, backs[label])}
    check = CharacterCheck(vocabulary)
    return LabelFit(
        num_examples=sum(counts.values()),
        num_labels=len(counts),
        unwritable={label: backs[label] for label in most_frequent(wrong)},
        characters=sorted({c for label in wrong for c in check.lost_in(label)}),
        num_unwritable=len(wrong),
        num_unwritable_examples=sum(wrong.values()),
    )


def task_fit(saved: Mapping[str, Any]) -> TaskFit:
    """Of what `TaskFit.as_dict` gave.

    Raises:
      TypeError, KeyError: if it is not that.
    """
    return TaskFit(
        {name: FeatureFit(**fit) for name, fit in saved["features"].items()},
        None if saved["labels"] is None else LabelFit(**saved["labels"]),
    )


def most_frequent(counts: Mapping[str, int]) -> dict[str, int]:
    """The 20 with the highest counts, in that order; by name where counts are equal."""
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:_MOST_SHOWN])


def shown(character: str) -> str:
    """A character as an error names it: '{', U+200D."""
    if character == LINE_BREAK:
        return "line break"
    return (
        f"'{character}'"
        if character.isprintable() and not unicodedata.combining(character)
        else f"U+{ord(character):04X}"
    )


def share(part: int, whole: int) -> str:
    """'6 of 30 (20 %)'."""
    return f"{part:,} of {whole:,} ({100 * part / whole:.3g} %)"
