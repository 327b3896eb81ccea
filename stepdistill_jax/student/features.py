"""SeqIO features of a student's batch: T5's encoder-decoder features, and the task of every target token."""

from collections.abc import Mapping

import seqio
import tensorflow as tf


class StepByStepFeatureConverter(seqio.EncDecFeatureConverter):
    """An encoder-decoder batch whose target tokens carry their task, through packing too.

    Two examples, a label and its rationale, packed into one row:

        inputs                = [7, 8, 5, 1], [9, 8, 5, 1]
        targets               = [3, 1], [4, 6, 6, 1]
        task_ids              = [1, 1], [2, 2, 2, 2]            # 1 label, 2 rationale

        encoder_input_tokens  = [7, 8, 5, 1, 9, 8, 5, 1, 0, 0]
        decoder_target_tokens = [3, 1, 4, 6, 6, 1, 0, 0]
        decoder_input_tokens  = [0, 3, 0, 4, 6, 6, 0, 0]
        decoder_task_ids      = [1, 1, 2, 2, 2, 2, 0, 0]        # 0 padding

    The other features are those of `seqio.EncDecFeatureConverter`.
    """

    TASK_FEATURES = {  # noqa: RUF012 (SeqIO reads a class attribute)
        **seqio.EncDecFeatureConverter.TASK_FEATURES,
        "task_ids": seqio.FeatureConverter.FeatureSpec(dtype=tf.int32),
    }
    MODEL_FEATURES = {  # noqa: RUF012
        **seqio.EncDecFeatureConverter.MODEL_FEATURES,
        "decoder_task_ids": seqio.FeatureConverter.FeatureSpec(dtype=tf.int32),
    }

    def __call__(self, ds: tf.data.Dataset, task_feature_lengths: Mapping[str, int]) -> tf.data.Dataset:
        """Converts `ds`; lengths may leave out `task_ids`, which are as long as the targets by construction.

        Raises:
          ValueError: if `task_ids` are given another length.
        """
        lengths = {"task_ids": task_feature_lengths["targets"], **task_feature_lengths}
        if lengths["task_ids"] != lengths["targets"]:
            raise ValueError(
                f"task_feature_lengths: task_ids={lengths['task_ids']}, targets={lengths['targets']}; every target token "
                "has one task id: leave task_ids out, or give both the same length."
            )
        return super().__call__(ds, lengths)

    def _convert_example(self, features: Mapping[str, tf.Tensor]) -> Mapping[str, tf.Tensor]:
        return {**super()._convert_example(features), "decoder_task_ids": features["task_ids"]}

    def get_model_feature_lengths(self, task_feature_lengths: Mapping[str, int]) -> Mapping[str, int]:
        lengths = super().get_model_feature_lengths(task_feature_lengths)
        return {**lengths, "decoder_task_ids": task_feature_lengths["targets"]}
