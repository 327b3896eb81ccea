"""Files of worked examples for few-shot prompts: plain text, to be edited by hand.

    # Lines that begin with '#' are comments.
    [prompt]
    instruction: Solve the word problem …      what the model is told first
    zero_shot: Let's think step by step …      told instead where no example is shown
    question_mark: Q:                          stands before every question; also cuts an invented next one
    answer_mark: A:                            stands before every answer
    answer: {rationale} The answer is {label}.
    hint: (Hint: the answer is {label}.)       behind a question that is asked again with its gold label

    [example]
    question: Hanna picked 71 plums and gave 18 of them away.
      How many plums does she have left?
    rationale: Hanna starts with 71 plums and gives away 18.
    label: (71 - 18)

A value may go on in indented lines, whose line breaks are kept. An example may have `choices: one | two | three`; they are
put below the question as '(a) one' and so on, and `answer` may then hold {letter}. Where labels are equations, {value} is
what one comes to: a weak model that is shown '27' does better than one that is shown '( 25 + 8 ) - 6'. How answers are read
is the dataset's `CompletionFormat`. A file whose examples are rows of the training data says `of_training_rows: yes`; these rows
are then not asked for. A file may change its `answer_marker` and `next_question` by keys of these names in
[prompt], and its own examples must be read back by it.
"""

import dataclasses
import os
import re
import string
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from stepdistill_jax.datasets import equations
from stepdistill_jax.teacher.answers.parsing import parse_completion
from stepdistill_jax.teacher.prompting import json_answers

if TYPE_CHECKING:
    from stepdistill_jax.datasets import CompletionFormat, Dataset, Example

FOLDER = Path(__file__).parent / "prompts"
# Datasets whose questions are of one kind share a file; the others' files have their names.
_SHARED = {"asdiv": "svamp"}
_PROMPT_KEYS = {
    "instruction", "zero_shot", "question_mark", "answer_mark", "answer", "hint", "answer_marker", "next_question",
    "of_training_rows",
}  # fmt: skip
TO_BE_WRITTEN = "(say here why)"  # in a file to begin with, as every rationale
_EXAMPLE_KEYS = {"question", "choices", "rationale", "label"}


@dataclasses.dataclass(frozen=True)
class Exemplar:
    """A worked example. `line` is where it begins in its file."""

    question: str
    rationale: str
    label: str
    choices: tuple[str, ...] = ()
    line: int = 0

    @property
    def inputs(self) -> str:
        """The question with its choices, as the dataset words them."""
        if not self.choices:
            return self.question
        lines = (f"({letter}) {choice}" for letter, choice in zip(string.ascii_lowercase, self.choices))  # noqa: B905
        return "\n".join((self.question, "Answer Choices:", *lines))


@dataclasses.dataclass(frozen=True)
class PromptFile:
    """A file of worked examples, read and checked. `path` is for messages; it doesn't decide what is asked.

    json_instruction: asks for answers as JSON objects, in place of `zero_shot` and `answer`; '' asks for text.
    """

    path: Path
    instruction: str
    zero_shot: str
    answer: str
    exemplars: tuple[Exemplar, ...]
    question_mark: str = "Q:"
    answer_mark: str = "A:"
    hint: str = "(Hint: the answer is {label}.)"
    answer_marker: str | None = None
    next_question: str | None = None
    of_training_rows: str = ""
    json_instruction: str = ""

    def completion_format(self, dataset: "Dataset") -> "CompletionFormat":
        """The dataset's, with what the file changes of it."""
        changed = {"answer_marker": self.answer_marker, "next_question": self.next_question}
        return dataclasses.replace(
            dataset.completion, **{key: value for key, value in changed.items() if value is not None}
        )

    def answer_text(self, exemplar: Exemplar) -> str:
        """What the model would have answered to an exemplar, without the answer mark."""
        if self.json_instruction:
            return json_answers.answer_text(exemplar.rationale, exemplar.label)
        fields = {name: "" for name in _fields(self.answer)}
        fields |= {"rationale": exemplar.rationale, "label": exemplar.label}
        if exemplar.label in exemplar.choices:
            fields["letter"] = string.ascii_lowercase[exemplar.choices.index(exemplar.label)]
        if "value" in fields:
            fields["value"] = _value(exemplar.label)
        return self.answer.format(**fields)

    def hint_text(self, label: str) -> str:
        """What stands behind a question to tell its label."""
        return self.hint.format(label=label)


def built_in(dataset_name: str) -> Path | None:
    """The package's own file for a dataset, None if it has none."""
    path = FOLDER / f"{_SHARED.get(dataset_name, dataset_name)}.txt"
    return path if path.is_file() else None


def find(prompt: str, dataset_name: str) -> Path | None:
    """The file that `--prompt` means: a path, or the name of one of the package's own; '' is the dataset's own, if any."""
    if not prompt:
        return built_in(dataset_name)
    ours = FOLDER / f"{prompt}.txt"
    return ours if ours.is_file() and not Path(prompt).exists() else Path(prompt)


def read_prompt_file(path: str | os.PathLike[str], dataset: "Dataset") -> PromptFile:
    """The file, with every example's answer read back to its rationale and label by the dataset's rules.

    Raises:
      FileNotFoundError: if it is not there.
      ValueError: names file and line of what is wrong.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: not UTF-8 text ({error}); save it as UTF-8.") from error
    except IsADirectoryError as error:
        raise ValueError(f"{path} is a folder; --prompt takes a file.") from error
    except FileNotFoundError as error:
        names = ", ".join(sorted(file.stem for file in FOLDER.glob("*.txt")))
        raise FileNotFoundError(
            f"No prompt file {path}; name a file, or one of the package's own: {names}."
        ) from error
    header: Mapping[str, str] | None = None
    exemplars = []
    for kind, line, fields in _sections(path, text):
        if kind == "example":
            exemplars.append(_exemplar(path, line, fields))
        elif header is not None:
            raise ValueError(f"{path}:{line}: a second [prompt]; keep one.")
        else:
            header = fields
    if header is None:
        raise ValueError(f"{path}: no [prompt] section; it holds at least `answer:`.")
    if "answer" not in header:
        raise ValueError(f"{path}: [prompt] has no `answer:`, such as {{rationale}} The answer is {{label}}.")
    settings = {"instruction": "", "zero_shot": "", **header}
    prompt = PromptFile(path=path, exemplars=tuple(exemplars), **settings)
    _check_templates(prompt)
    for exemplar in prompt.exemplars:
        _check_reads_back(prompt, exemplar, dataset)
    return prompt


def _sections(path: Path, text: str) -> Iterable[tuple[str, int, dict[str, str]]]:
    """('prompt' or 'example', its line, its fields) in order."""
    kind, begins, fields, key = "", 0, {}, ""
    for number, line in enumerate(text.splitlines(), start=1):
        if line.startswith("#") or not line.strip():
            continue
        section = re.fullmatch(r"\[(\w+)\]\s*", line)
        field = re.match(r"(\w+):(?:\s+|$)(.*)", line)
        if section:
            if kind:
                yield kind, begins, fields
            kind, begins, fields, key = section[1], number, {}, ""
            if kind not in ("prompt", "example"):
                raise ValueError(f"{path}:{number}: [{kind}] is neither [prompt] nor [example].")
        elif line[0].isspace() and key:
            fields[key] = f"{fields[key]}\n{line.strip()}" if fields[key] else line.strip()
        elif field is None or not kind:
            raise ValueError(
                f"{path}:{number}: {line[:40]!r} is neither `key: value` of a section nor an indented line that goes on."
            )
        else:
            key = field[1]
            known = _PROMPT_KEYS if kind == "prompt" else _EXAMPLE_KEYS
            if key not in known:
                raise ValueError(
                    f"{path}:{number}: no key '{key}' in [{kind}]; it has {', '.join(sorted(known))}."
                )
            if key in fields:
                raise ValueError(f"{path}:{number}: '{key}' stands twice in this [{kind}].")
            fields[key] = field[2].strip()
    if kind:
        yield kind, begins, fields


def _exemplar(path: Path, line: int, fields: Mapping[str, str]) -> Exemplar:
    missing = [key for key in ("question", "rationale", "label") if not fields.get(key)]
    if missing:
        raise ValueError(f"{path}:{line}: the example has no {' and no '.join(missing)}.")
    if fields["rationale"] == TO_BE_WRITTEN:
        raise ValueError(
            f"{path}:{line}: the rationale is still {TO_BE_WRITTEN}; write why the label is right."
        )
    choices = tuple(part.strip() for part in fields["choices"].split("|")) if "choices" in fields else ()
    if choices and fields["label"] not in choices:
        raise ValueError(
            f"{path}:{line}: the label {fields['label']!r} is none of the choices {list(choices)}."
        )
    return Exemplar(fields["question"], fields["rationale"], fields["label"], choices, line)


def _fields(template: str) -> set[str]:
    """Names in braces.

    Raises:
      ValueError: if the braces don't match.
    """
    return {name for _, name, _, _ in string.Formatter().parse(template) if name is not None}


def _value(label: str) -> str:
    """'27' for '( 25 + 8 ) - 6', '' for what is no equation."""
    value = equations.evaluate(label)
    if value is None:
        return ""
    return str(value.numerator) if value.denominator == 1 else f"{float(value):.6g}"


def _check_templates(prompt: PromptFile) -> None:
    names = _fields(prompt.answer)
    if (
        "rationale" not in names
        or not names & {"label", "value"}
        or names - {"rationale", "label", "value", "letter"}
    ):
        raise ValueError(
            f"{prompt.path}: `answer: {prompt.answer}` must hold {{rationale}} and {{label}} (or {{value}}), may hold "
            f"{{letter}}, and nothing else in braces."
        )
    if _fields(prompt.hint) != {"label"}:
        raise ValueError(
            f"{prompt.path}: `hint: {prompt.hint}` must hold {{label}}, and nothing else in braces."
        )
    if not prompt.question_mark.strip() or not prompt.answer_mark.strip():
        raise ValueError(f"{prompt.path}: question_mark and answer_mark must not be empty.")
    if prompt.of_training_rows not in ("", "yes"):
        raise ValueError(
            f"{prompt.path}: `of_training_rows: {prompt.of_training_rows}`: say yes, or leave it out."
        )


def _check_reads_back(prompt: PromptFile, exemplar: Exemplar, dataset: "Dataset") -> None:
    from stepdistill_jax.datasets import labels_match

    parsed = parse_completion(prompt.answer_text(exemplar), prompt.completion_format(dataset))
    if parsed.rationale != exemplar.rationale or not labels_match(dataset, parsed.label, exemplar.label):
        found = parsed.unparsed_reason or f"rationale {parsed.rationale!r:.60} and label {parsed.label!r}"
        raise ValueError(
            f"{prompt.path}:{exemplar.line}: by the rules of {dataset.name}, the example's answer reads as {found}; mend the "
            f"example, or `answer:` in [prompt]."
        )


def shown_rows(prompt: PromptFile, examples: Iterable["Example"]) -> frozenset[str]:
    """Ids of the training rows that the prompt shows, where it says that it does so: they are not to be asked for.

    Raises:
      ValueError: if it shows any other question that is to be answered, whose label would be given away; names file, line
        and row of the first.
    """
    shown = {normalised(exemplar.inputs): exemplar for exemplar in prompt.exemplars}
    shown |= {normalised(exemplar.question): exemplar for exemplar in prompt.exemplars}
    ids = []
    for example in examples:
        exemplar = shown.get(normalised(example.inputs))
        if exemplar is None:
            continue
        if not (prompt.of_training_rows and example.split == "train"):
            mend = "" if example.split != "train" else ", or say `of_training_rows: yes` in [prompt]"
            raise ValueError(
                f"{prompt.path}:{exemplar.line}: the worked example {exemplar.question!r:.60} is {example.example_id} of the data "
                f"to be labelled; write another example{mend}."
            )
        ids.append(example.example_id)
    return frozenset(ids)


def normalised(text: str) -> str:
    """Letters and digits in lower case with single spaces: texts that differ in nothing else are the same."""
    return " ".join(re.findall(r"\w+", text.casefold()))
