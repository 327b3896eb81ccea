"""Counts, while a split is tokenised, which texts its vocabulary changes and which are cut at a row's room."""

import collections
import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import seqio

from stepdistill_jax.base.messages import say_once
from stepdistill_jax.base.text_fit import (
    LINE_BREAK,
    CharacterCheck,
    FeatureFit,
    LabelFit,
    TaskFit,
    fit_of_labels,
    has_line_break,
    most_frequent,
)

# A task's own texts, if its examples have them: a feature's before it became ids, as `seqio.preprocessors.tokenize` keeps it,
# and what of the targets is scored, so that it has to come back whole.
PRETOKENIZED = "_pretokenized"
LABEL = "learnt_label"


class FitCounter:
    """Takes a task's examples in chunks; `fit` says what became of all of them."""

    def __init__(self, task: seqio.Task, lengths: Mapping[str, int | None]) -> None:
        features = {name: task.output_features[name] for name in lengths if name in task.output_features}
        self._features = {
            name: _FeatureCounter(feature, lengths[name])
            for name, feature in features.items()
            if not isinstance(feature.vocabulary, seqio.PassThroughVocabulary)  # others read text
        }
        self._is_right = _is_right(task)
        self._labels: collections.Counter[str] = collections.Counter()
        self._num_cut_labels = 0

    def add(
        self,
        tokens: Mapping[str, np.ndarray],
        lengths: Mapping[str, np.ndarray],
        texts: Mapping[str, Sequence[bytes]],
    ) -> None:
        """Counts some examples.

        Args:
          tokens: feature -> int32 [tokens], those of the examples end to end.
          lengths: feature -> int64 [examples].
          texts: '<feature>_pretokenized' and 'learnt_label' -> the examples' texts; those that the task has.
        """
        labels = texts.get(LABEL)
        for name, counter in self._features.items():
            cut = counter.add(tokens[name], lengths[name], texts.get(name + PRETOKENIZED))
            if name == "targets" and labels is not None:
                self._num_cut_labels += cut
        if labels is not None:
            self._labels.update(map(_text, labels))

    @property
    def fit(self) -> TaskFit:
        features = {name: counter.fit for name, counter in self._features.items()}
        if not self._labels or "targets" not in self._features:
            return TaskFit(features)
        labels = fit_of_labels(self._features["targets"].vocabulary, self._labels, self._is_right)
        return TaskFit(features, dataclasses.replace(labels, num_cut=self._num_cut_labels))


def fit_of_examples(
    task: seqio.Task, examples: Iterable[Mapping[str, Any]], lengths: Mapping[str, int] | None
) -> TaskFit:
    """How examples of a task fit, as SeqIO gave them for rows of `lengths`; None cuts none."""
    rooms = {name: (lengths or {}).get(name) for name in task.output_features}
    counter = FitCounter(task, rooms)
    for example in examples:
        texts = {
            name: [value]
            for name in (LABEL, *(feature + PRETOKENIZED for feature in rooms))
            if isinstance(value := example.get(name), bytes)
        }
        tokens = {name: np.asarray(example[name]) for name in rooms}
        counter.add(tokens, {name: np.array([len(ids)]) for name, ids in tokens.items()}, texts)
    return counter.fit


class _FeatureCounter:
    """What becomes of one feature's texts."""

    def __init__(self, feature: seqio.Feature, room: int | None) -> None:
        self.vocabulary = feature.vocabulary
        self._num_ends, self._room = int(feature.add_eos), room
        self._unknown = feature.vocabulary.unk_id
        self._check = CharacterCheck(feature.vocabulary)
        self._characters: collections.Counter[str] = collections.Counter()
        self._num_examples = self._num_changed = self._num_with_line_breaks = 0
        self._num_cut = self._num_cut_tokens = self._num_kept_tokens = self._longest = 0

    def add(self, tokens: np.ndarray, lengths: np.ndarray, texts: Sequence[bytes] | None) -> int:
        """Returns how many of the examples were cut."""
        ends = np.cumsum(lengths)
        unknown = np.flatnonzero(tokens == self._unknown) if self._unknown is not None else []
        changed = set(np.searchsorted(ends, unknown, side="right").tolist())
        if texts is not None and not self._check.keeps_line_breaks:
            self._num_with_line_breaks += sum(map(has_line_break, texts))
        self._num_examples += len(lengths)
        self._num_changed += len(changed)
        self._num_kept_tokens += len(tokens)
        self._longest = max(self._longest, int(lengths.max(initial=0)))
        if texts is None:
            return 0
        for index in changed:
            self._characters.update(set(self._check.lost_in(_text(texts[index]))) - {LINE_BREAK})
        full = np.flatnonzero(lengths == self._room).tolist()
        return sum(self._is_cut(texts[i], tokens[ends[i] - lengths[i] : ends[i]]) for i in full)

    def _is_cut(self, text: bytes, kept: np.ndarray) -> bool:
        """Whether an example that fills the room is the beginning of a longer text, which is then counted."""
        ids = self.vocabulary.encode(_text(text))
        num_cut = len(ids) + self._num_ends - len(kept)
        if num_cut <= 0 or ids[: len(kept) - 1] != kept[:-1].tolist():
            return False
        self._num_cut += 1
        self._num_cut_tokens += num_cut
        self._longest = max(self._longest, len(kept) + num_cut)
        return True

    @property
    def fit(self) -> FeatureFit:
        return FeatureFit(
            num_examples=self._num_examples,
            num_changed=self._num_changed,
            characters=most_frequent(self._characters),
            num_characters=len(self._characters),
            num_with_line_breaks=self._num_with_line_breaks,
            num_cut=self._num_cut,
            num_cut_tokens=self._num_cut_tokens,
            num_tokens=self._num_kept_tokens + self._num_cut_tokens,
            longest=self._longest,
            room=self._room,
        )


def _text(text: bytes) -> str:
    return text.decode("utf-8", errors="replace")


def _is_right(task: seqio.Task) -> Callable[[str, str], bool]:
    """(label, what came back of it) -> whether the task's own accuracy, or an equal text, lets that stand for the label."""

    def is_right(label: str, back: str) -> bool:
        if label.strip() == back.strip():
            return True
        metrics = [metric([label], [back]) for metric in task.predict_metric_fns]
        return any(_number(values.get("accuracy", 0)) > 0 for values in metrics)

    return is_right


def _number(value: Any) -> float:
    return float(getattr(value, "value", value))


def say_fit(where: str, fit: TaskFit, *, learns: bool, allow_cut_labels: bool) -> None:
    """Says once, on standard error, what of '<task>/<split>' does not fit.

    Args:
      learns: whether its labels are learnt.
      allow_cut_labels: whether they may be cut.

    Raises:
      ValueError: for learnt labels that the vocabulary cannot write (`LabelFit.are_unwritable`), and for cut ones unless they are allowed: names them, or
        says how many there are, and the mends.
    """
    labels = fit.labels or LabelFit()
    if labels.num_unwritable:
        if learns and labels.are_unwritable:
            raise ValueError(labels.unwritable_sentence(where))
        say_once(labels.unwritable_sentence(where))
    if labels.num_cut and not allow_cut_labels:
        targets = fit.features["targets"]
        raise ValueError(
            f"{where}: {labels.num_cut:,} of {targets.num_examples:,} labels are cut at "
            f"task_feature_lengths['targets']={targets.room}, so they could not be learnt; the longest takes {targets.longest} "
            f"tokens. Set TASK_FEATURE_LENGTHS['targets'] to {targets.longest}, or allow it: "
            "--gin.utils.DatasetConfig.allow_cut_labels=True."
        )
    for sentence in fit.sentences(where):
        say_once(sentence)
    for (
        feature,
        of_feature,
    ) in fit.features.items():  # of the first task alone: others have the same texts, or ones like them
        for sentence in of_feature.line_break_sentences(f"{where}: {{}} {feature}"):
            say_once(sentence, about=f"line breaks of {feature}")
