"""From filled rows to a model's features: a feature converter's own conversion, without its packing."""

from collections.abc import Mapping, Sequence

import numpy as np
import seqio
import tensorflow as tf

from stepdistill_jax.engine.data.joined_examples import joined, joined_features
from stepdistill_jax.engine.data.tokenized_task import TokenizedTask


class RowConversion:
    """How a feature converter wants its examples in rows, and what it makes of rows that our packing has filled.

    Attributes:
      lengths: feature of a row -> longest row in tokens. A converter that joins inputs and targets has one length, the sum.
    """

    def __init__(
        self,
        converter_cls: type[seqio.FeatureConverter],
        lengths: Mapping[str, int],
        *,
        pack: bool,
        lengths_differ: bool,
    ) -> None:
        """Args:
        lengths: feature of a task -> tokens that an example has at most.
        pack: whether a row holds several examples.
        lengths_differ: whether batches are shorter than the longest row.
        """
        self._converter_cls, self._task_lengths = converter_cls, dict(lengths)
        self._converter = _one_for(converter_cls(pack=pack, apply_length_check=not lengths_differ), lengths)
        self._joins = isinstance(self._converter, seqio.PrefixLMFeatureConverter)
        self.lengths = dict(lengths)
        if self._joins:
            self.lengths = dict.fromkeys(joined_features(lengths), lengths["inputs"] + lengths["targets"])
            self._check_features()
        else:
            self._converter._pack_or_pad = lambda rows, packed_lengths: rows

    def examples_of(self, tasks: Sequence[TokenizedTask]) -> list[TokenizedTask]:
        """The tasks' examples with the features of rows.

        Raises:
          ValueError: if the converter joins them in another way than SeqIO's own.
        """
        if not self._joins:
            return list(tasks)
        views = [joined(task) for task in tasks]
        if type(self._converter)._concat_and_add_masks is not _SEQIOS:
            self._check_joined(views[0])
        return views

    def converted(self, rows: tf.data.Dataset) -> tf.data.Dataset:
        """Model features of rows: int32 [length] of every feature and, packed, its segment ids and positions."""
        if not self._joins:
            return self._converter(rows, self._task_lengths)
        return rows.map(self._converter._convert_example, num_parallel_calls=tf.data.AUTOTUNE)

    def _check_features(self) -> None:
        wanted = dict(self._converter._concat_task_feature_lengths(self._task_lengths))
        if wanted != self.lengths:
            raise ValueError(self._refusal(f"has rows of {wanted}, not of {self.lengths}"))

    def _check_joined(self, view: TokenizedTask) -> None:
        """Compares the first example by the converter's own pipeline."""
        first = {name: view.parts.feature(name, 0) for name in self._task_lengths}
        pipeline = self._converter_cls(pack=False)(tf.data.Dataset.from_tensors(first), self._task_lengths)
        unpacked = RowConversion(self._converter_cls, self._task_lengths, pack=False, lengths_differ=False)
        row = {
            name: np.pad(view.gathered(name, np.zeros(1, np.int64)), (0, length - view.lengths(name)[0]))
            for name, length in self.lengths.items()
        }
        [theirs] = pipeline.as_numpy_iterator()
        [ours] = unpacked.converted(tf.data.Dataset.from_tensors(row)).as_numpy_iterator()
        differing = [name for name in theirs if not np.array_equal(theirs[name], ours.get(name))]
        if differing:
            raise ValueError(self._refusal(f"makes other {differing} of an example of {view.name}"))

    def _refusal(self, what: str) -> str:
        name = getattr(self._converter_cls, "__name__", self._converter_cls)
        return (
            f"{name} joins inputs and targets in a way of its own: it {what}, so its rows cannot be indexed; set "
            "DatasetConfig.max_indexed_examples = 0, and tf.data packs them."
        )


_SEQIOS = seqio.PrefixLMFeatureConverter._concat_and_add_masks


def _one_for(converter: seqio.FeatureConverter, lengths: Mapping[str, int]) -> seqio.FeatureConverter:
    """The converter that does the work: `DecoderFeatureConverter` hands it on by what the task has."""
    if not isinstance(converter, seqio.DecoderFeatureConverter):
        return converter
    return (
        converter.prefixlm_feature_converter if "inputs" in lengths else converter.strictlm_feature_converter
    )
