"""RUN/student.json: all that a student is besides its parameters, as data. No code in a run is ever executed.

    RUN/student.json         network, prefixes, choices, how an answer is read, lengths, what it was trained on
    RUN/vocabulary/<file>    its SentencePiece model or tokenizer.json; none for bytes

Both are written when training starts. With a checkpoint they are a whole student: a folder of these, carried to a machine that
has nothing else, predicts. Exports carry them too.
"""

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from stepdistill_jax.base.whole_files import write_atomically

STUDENT = "student.json"
_FORMAT = 1
TOKENIZERS = "tokenizers"  # a vocabulary's kind
_TEXTS = ("task", "method", "label_prefix", "rationale_prefix", "answer_marker", "metric")
_MAPPINGS = ("network", "label_words", "feature_lengths", "dataset", "content")
_KINDS = dict.fromkeys(_TEXTS, str) | dict.fromkeys(_MAPPINGS, dict) | {"line_break": str | None}


@dataclasses.dataclass(frozen=True)
class VocabularyFile:
    """Which vocabulary a student has.

    Attributes:
      kind: 'sentencepiece', 'tokenizers' or 'bytes'.
      file: SentencePiece's model or tokenizer.json, below the student's folder; None for bytes.
      sha256: of that file.
      extra_ids: sentinels behind a SentencePiece model's own pieces.
      start, end: tokens of a tokenizer.json that begin a text, as our id 0, and end a sequence.
    """

    kind: str
    file: str | None = None
    sha256: str | None = None
    extra_ids: int = 0
    start: str | None = None
    end: str | None = None


@dataclasses.dataclass(frozen=True)
class StudentDescription:
    """What student.json says.

    Attributes:
      task: the SeqIO task or mixture that it learnt.
      method: the paper's method that this is, as `base.methods` names it; '' where it is none.
      network: the fields of `network.T5Config` or `llama.LlamaConfig`; the dtype by its name.
      vocabulary: of inputs and targets.
      label_prefix, rationale_prefix: what stands before the inputs of each of the two tasks.
      learns_rationales: whether the rationale task was among them.
      answer_marker: what stands between a rationale and its label, where both are one target; '' where they are two.
      choices: the labels that there are, in their own order; () where labels are open text.
      label_words: label -> what the student writes for it.
      metric: 'text' or 'equation'.
      line_break: the word that line breaks are written as; None where the vocabulary has them, or loses them.
      feature_lengths: tokens that training cut 'inputs' and 'targets' at.
      dataset: its description, for whoever asks what the student is: name, licence, columns …; nothing in it is executed.
      own_task: whether the task is one of the user's own, whose answers only its module can read.
      task_modules: the modules that registered datasets beside ours, by name.
      content: what the data said, as in run.json.
    """

    task: str
    network: Mapping[str, Any]
    vocabulary: VocabularyFile
    label_prefix: str
    rationale_prefix: str
    feature_lengths: Mapping[str, int]
    method: str = ""
    learns_rationales: bool = False
    answer_marker: str = ""
    choices: tuple[str, ...] = ()
    label_words: Mapping[str, str] = dataclasses.field(default_factory=dict)
    metric: str = "text"
    line_break: str | None = None
    dataset: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    own_task: bool = False
    task_modules: tuple[str, ...] = ()
    content: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def is_decoder_only(self) -> bool:
        """Whether the network is a `LlamaConfig`'s, not a `T5Config`'s."""
        return "num_kv_heads" in self.network

    @property
    def scored_choices(self) -> tuple[str, ...]:
        """The choices that are told apart by their probabilities; () where a label is written, or stands behind a rationale."""
        return () if self.answer_marker else self.choices


def write_description(folder: Path, description: StudentDescription) -> None:
    """Writes FOLDER/student.json, whole or not at all."""
    said = {"format": _FORMAT, **dataclasses.asdict(description)}
    write_atomically(folder / STUDENT, json.dumps(said, indent=2, ensure_ascii=False) + "\n")


def read_description(folder: Path) -> StudentDescription:
    """What FOLDER/student.json says.

    Raises:
      FileNotFoundError: if there is none.
      ValueError: if it is damaged, or of a later version; or if the vocabulary's file is not the one it names.
    """
    path = folder / STUDENT
    try:
        said = json.loads(path.read_text(encoding="utf-8"))
        number = said.pop("format")
        if number == _FORMAT:
            said["vocabulary"] = VocabularyFile(**said["vocabulary"])
            lists = {name: tuple(said[name]) for name in ("choices", "task_modules")}
            _check_kinds(said)
            description = StudentDescription(**{**said, **lists})
    except NotADirectoryError:
        raise FileNotFoundError(f"{folder} is a file; name the folder of a run, or of an export.") from None
    except FileNotFoundError:
        raise FileNotFoundError(
            f"{folder} has no {STUDENT}: it is neither a run's folder nor an export. Train first, or name another folder."
        ) from None
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ValueError(f"{path} is damaged ({error!r}); copy the folder again.") from error
    if number != _FORMAT:
        raise ValueError(
            f"{path} has format {number}, this version reads {_FORMAT}; install the version that wrote it."
        )
    _check_vocabulary(folder, description.vocabulary)
    return description


def _check_kinds(said: Mapping[str, Any]) -> None:
    """Raises a TypeError for a value that is not of its field's kind: a string of choices would be one of letters."""
    lists = {name: said[name] for name in ("choices", "task_modules")}
    lengths = [said["feature_lengths"][name] for name in ("inputs", "targets")]
    for name, value in said.items():
        kind = _KINDS.get(name)
        if kind and not isinstance(value, kind):
            raise TypeError(f"{name}={value!r:.60}")
    for name, value in lists.items():
        if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
            raise TypeError(f"{name}={value!r:.60}")
    if not all(isinstance(length, int) and length > 0 for length in lengths):
        raise TypeError(f"feature_lengths={said['feature_lengths']!r:.60}")


def _check_vocabulary(folder: Path, vocabulary: VocabularyFile) -> None:
    if vocabulary.file is None:
        return
    path = folder / vocabulary.file
    if not path.is_file():
        raise ValueError(f"{path} is missing, though {STUDENT} names it; copy the folder again.")
    if hashlib.sha256(path.read_bytes()).hexdigest() != vocabulary.sha256:
        raise ValueError(f"{path} is not the file that {STUDENT} names; copy the folder again.")
