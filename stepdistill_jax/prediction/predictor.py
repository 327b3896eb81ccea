"""`stepdistill_jax.Predictor`: texts in, labels with their probabilities out."""

import dataclasses
import os
import re
from collections.abc import Sequence

import numpy as np

from stepdistill_jax.base.line_breaks import read_line_breaks, write_line_breaks
from stepdistill_jax.base.text_fit import CharacterCheck
from stepdistill_jax.base.visible import is_blank
from stepdistill_jax.prediction import probe
from stepdistill_jax.prediction.calibration import Calibration, probabilities_of
from stepdistill_jax.prediction.exported import read_export
from stepdistill_jax.prediction.portable import Student, load
from stepdistill_jax.prediction.written import Written

_HALF_CHARACTERS = re.compile("[\ud800-\udfff]")


@dataclasses.dataclass(frozen=True)
class Prediction:
    """What a student answers to one text.

    Attributes:
      label: one of the choices where the student has such, else the text that it writes; None where it abstains, and for a text
        of blanks alone, or without a token, which asks nothing.
      probability: of the label, in [0, 1]; of the most likely one where the student abstains. Among choices they add up to 1, and
        are calibrated where the student is. Of open text it is that of these very words. None where nothing was asked, or
        the text holds no label.
      probabilities: of every choice, in the choices' order; {} of open text.
      rationale: if it was asked for.
      truncated: whether the text, or what the student writes, is longer than in training, and was cut there.
    """

    label: str | None
    probability: float | None = None
    probabilities: dict[str, float] = dataclasses.field(default_factory=dict)
    rationale: str | None = None
    truncated: bool = False


class Predictor:
    """Answers of a student to any number of texts, in batches of like length.

        predictor = stepdistill_jax.Predictor("runs/tickets")
        predictor(["Printer on fire"])[0].label

    A text gets the same label alone or among others; its probability may differ by some 1e-6, as batches of other sizes add up
    in another order.

    Attributes:
      choices: labels that there are, in their own order; () where labels are open text. Of two that are equally likely the
        first is taken.
      max_input_tokens: that a text may have, prefix and end of sequence included; longer ones are cut there, as in training.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        step: int | None = None,
        batch_tokens: int = 16384,
        num_partitions: int = 1,
        verify: bool = True,
    ) -> None:
        """Reads the student; nothing is compiled yet.

        Args:
          path: a run's folder, or an export's.
          step: of the run's checkpoint, default the best that it keeps, else the newest.
          batch_tokens: tokens of a batch, padding included: it bounds the memory.
          num_partitions: devices that hold one copy of a checkpoint's parameters.
          verify: whether the files of the checkpoint, or of the export, are compared with their checksums first.

        Raises:
          FileNotFoundError: if there is no student, or no such checkpoint.
          ValueError: if a file of it is damaged, or an export answers otherwise here than where it was exported (`probe`).
        """
        if batch_tokens < 1:
            raise ValueError(f"batch_tokens={batch_tokens}; use 1 or more.")
        self.student: Student = load(
            path, step=step, batch_tokens=batch_tokens, num_partitions=num_partitions, verify=verify
        )
        description = self.student.description
        self.choices: tuple[str, ...] = description.scored_choices
        self.max_input_tokens: int = description.feature_lengths["inputs"]
        self._characters = CharacterCheck(self.student.vocabulary)
        export = read_export(self.student.folder)
        if export is not None and export.probe and verify:
            probe.check(self, export.probe, source=path)

    def __call__(
        self, texts: Sequence[str], *, rationale: bool = False, abstain_below: float = 0.0
    ) -> list[Prediction]:
        """A prediction for each text, in their order.

        Args:
          texts: as the dataset words its inputs, without a task prefix.
          rationale: whether the student writes its rationale, too.
          abstain_below: labels of a smaller probability are left out.

        Raises:
          TypeError: if `texts` is one text, or holds what is no text.
          ValueError: if the student has not learnt rationales, `abstain_below` is no probability, or a text no Unicode.
          FloatingPointError: if the network's numbers are none, as those of a training that diverged.
        """
        _check_texts(texts)
        check_abstain_below(abstain_below)
        if rationale:
            self.check_writes_rationales()
        predictions = [Prediction(label=None)] * len(texts)
        asked, rows, cut = self._asked(texts)
        if not asked:
            return predictions
        asking = [texts[place] for place in asked]
        labelled = self._choose(rows) if self.choices else self._write_labels(rows)
        if rationale and not self.student.description.answer_marker:
            labelled = self._with_rationales(labelled, asking)
        answers = [
            dataclasses.replace(
                answer,
                rationale=answer.rationale if rationale else None,
                truncated=answer.truncated or is_cut,
            )
            for answer, is_cut in zip(labelled, cut, strict=True)
        ]
        for place, answer in zip(asked, answers, strict=True):
            predictions[place] = _abstaining(answer, abstain_below)
        return predictions

    def num_tokens(self, texts: Sequence[str]) -> list[int]:
        """Tokens of each text, prefix and end of sequence included, before anything is cut."""
        _check_texts(texts)
        return [len(tokens) + 1 for tokens in self._encode(texts, self.student.description.label_prefix)]

    def lost_characters(self, texts: Sequence[str]) -> list[str]:
        """Those of the texts that the vocabulary does not know and reads as unknown, sorted; '\\n' where it has no line breaks."""
        line_break = self.student.description.line_break
        lost = (self._characters.lost_in(write_line_breaks(text, line_break)) for text in texts)
        return sorted(set().union(*lost))

    def warm_up(self) -> None:
        """Compiles what labels take, for texts of any length and batches of up to 16, so that no later call waits for it."""
        self.student.network.warm_up()

    def use(self, calibration: Calibration) -> None:
        """Gives probabilities by this calibration from now on."""
        self.student = dataclasses.replace(
            self.student, temperature=calibration.temperature, is_calibrated=True
        )

    def check_writes_rationales(self) -> None:
        """Raises a ValueError if the student has not learnt any."""
        description = self.student.description
        if not description.learns_rationales and not description.answer_marker:
            raise ValueError(
                f"{self.student.folder} was trained on {description.task}, without rationales; leave rationale out, or train "
                "with method step_by_step."
            )

    def log_probs(self, texts: Sequence[str]) -> np.ndarray:
        """float32 [texts, choices]: log p(choice | text) in nats, of a student with choices, at temperature 1."""
        rows, _ = self._rows(texts, self.student.description.label_prefix)
        return self._scored(rows)

    def answer_log_probs(self, texts: Sequence[str]) -> np.ndarray:
        """float32 [texts, choices], or [texts, 1] of what is written, where labels are open text; in nats, at temperature 1."""
        if self.choices:
            return self.log_probs(texts)
        rows, _ = self._rows(texts, self.student.description.label_prefix)
        return np.array([[written.log_prob] for written in self._written(rows)], np.float32)

    def _encode(self, texts: Sequence[str], prefix: str) -> list[list[int]]:
        line_break = self.student.description.line_break
        return self.student.vocabulary.encode_all(
            [prefix + write_line_breaks(text, line_break) for text in texts]
        )

    def _asked(self, texts: Sequence[str]) -> tuple[list[int], list[list[int]], list[bool]]:
        """(places of the texts that ask something, their token ids, whether each was cut).

        Some vocabularies know nothing of characters that can be seen.
        """
        prefix = self.student.description.label_prefix
        written = [place for place, text in enumerate(texts) if not is_blank(text)]
        nothing, *encoded = self._encode(["", *(texts[place] for place in written)], prefix)
        asked = {place: tokens for place, tokens in zip(written, encoded, strict=True) if tokens != nothing}
        return [*asked], *self._ended(list(asked.values()))

    def _rows(self, texts: Sequence[str], prefix: str) -> tuple[list[list[int]], list[bool]]:
        """(token ids with their end of sequence, whether each was cut)."""
        return self._ended(self._encode(texts, prefix))

    def _ended(self, encoded: Sequence[list[int]]) -> tuple[list[list[int]], list[bool]]:
        room, eos_id = self.max_input_tokens - 1, self.student.vocabulary.eos_id
        return [[*tokens[:room], eos_id] for tokens in encoded], [len(tokens) > room for tokens in encoded]

    def _choose(self, rows: Sequence[Sequence[int]]) -> list[Prediction]:
        """The most likely choice of each row."""
        predictions = []
        for values in probabilities_of(self._scored(rows), self.student.temperature):
            best = int(values.argmax())  # the first of those that are equal
            predictions.append(
                Prediction(
                    label=self.choices[best],
                    probability=float(values[best]),
                    probabilities=dict(zip(self.choices, map(float, values), strict=True)),
                )
            )
        return predictions

    def _write_labels(self, rows: Sequence[Sequence[int]]) -> list[Prediction]:
        """What the student writes to each row, as open text; behind a rationale, where both are one target."""
        predictions = []
        for written in self._written(rows):
            rationale, label = self._read(self._text_of(written))
            probability = float(np.exp(min(written.log_prob, 0.0))) if label is not None else None
            predictions.append(Prediction(label, probability, rationale=rationale, truncated=written.is_cut))
        return predictions

    def _read(self, text: str) -> tuple[str | None, str | None]:
        """(rationale, label) of a written answer, each None where it holds none."""
        description, rationale = self.student.description, None
        if marker := description.answer_marker:
            before, found, behind = text.rpartition(marker)
            if not found:
                return text, None
            rationale, text = before.strip(), behind.strip()
        return rationale, {word: label for label, word in description.label_words.items()}.get(text, text)

    def _with_rationales(self, answers: Sequence[Prediction], texts: Sequence[str]) -> list[Prediction]:
        rows, _ = self._rows(texts, self.student.description.rationale_prefix)
        return [
            dataclasses.replace(
                answer, rationale=self._text_of(written), truncated=answer.truncated or written.is_cut
            )
            for answer, written in zip(answers, self._written(rows), strict=True)
        ]

    def _scored(self, rows: Sequence[Sequence[int]]) -> np.ndarray:
        """float32 [rows, choices]: log-probabilities, at least one of each row finite."""
        scores = self.student.network.score_choices(rows)
        self._check_finite(scores.max(axis=1))
        return scores

    def _written(self, rows: Sequence[Sequence[int]]) -> list[Written]:
        written = self.student.network.write(rows)
        self._check_finite([answer.log_prob for answer in written])
        return written

    def _check_finite(self, log_probs: Sequence[float]) -> None:
        num_wrong = int(np.sum(~np.isfinite(log_probs)))
        if num_wrong:
            raise FloatingPointError(
                f"{self.student.folder}, step {self.student.step}: answers to {num_wrong} of {len(log_probs)} texts have no "
                "probability (NaN or infinite), as those of a training that diverged have none; name an earlier --step, or train "
                "again with a smaller learning rate."
            )

    def _text_of(self, written: Written) -> str:
        text = self.student.vocabulary.decode(written.tokens)
        return read_line_breaks(text, self.student.description.line_break).strip()


def _check_texts(texts: Sequence[str]) -> None:
    if isinstance(texts, str):
        raise TypeError(f"texts={texts!r:.60}: give a list of texts, [{texts!r:.60}].")
    for place, text in enumerate(texts):
        if not isinstance(text, str):
            raise TypeError(f"texts[{place}]={text!r:.60} is no text but a {type(text).__name__}.")
        if _HALF_CHARACTERS.search(text):
            raise ValueError(f"texts[{place}]={text!r:.60} holds half of a character (a lone surrogate).")


def check_abstain_below(value: float) -> None:
    """Raises a ValueError if it is no probability."""
    if not 0 <= value <= 1:
        raise ValueError(f"abstain_below={value}; use a probability, 0 to 1.")


def _abstaining(prediction: Prediction, below: float) -> Prediction:
    if prediction.probability is None or prediction.probability >= below:
        return prediction
    return dataclasses.replace(prediction, label=None)
