"""SeqIO features of a student's batch: those of T5 or of a language model, and the task of every target token."""

from collections.abc import Mapping

import seqio
import tensorflow as tf

_TASK_IDS = seqio.FeatureConverter.FeatureSpec(dtype=tf.int32)


def _with_task_ids(task_feature_lengths: Mapping[str, int]) -> dict[str, int]:
    """The lengths with that of `task_ids`, which are as long as the targets by construction.

    Raises:
      ValueError: if `task_ids` are given another length.
    """
    lengths = {"task_ids": task_feature_lengths["targets"], **task_feature_lengths}
    if lengths["task_ids"] != lengths["targets"]:
        raise ValueError(
            f"task_feature_lengths: task_ids={lengths['task_ids']}, targets={lengths['targets']}; every target token "
            "has one task id: leave task_ids out, or give both the same length."
        )
    return lengths


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
        "task_ids": _TASK_IDS,
    }
    MODEL_FEATURES = {  # noqa: RUF012
        **seqio.EncDecFeatureConverter.MODEL_FEATURES,
        "decoder_task_ids": _TASK_IDS,
    }

    def __call__(self, ds: tf.data.Dataset, task_feature_lengths: Mapping[str, int]) -> tf.data.Dataset:
        """Converts `ds`; lengths may leave out `task_ids`, and raise `ValueError` where these differ from the targets'."""
        return super().__call__(ds, _with_task_ids(task_feature_lengths))

    def _convert_example(self, features: Mapping[str, tf.Tensor]) -> Mapping[str, tf.Tensor]:
        return {**super()._convert_example(features), "decoder_task_ids": features["task_ids"]}

    def get_model_feature_lengths(self, task_feature_lengths: Mapping[str, int]) -> Mapping[str, int]:
        lengths = super().get_model_feature_lengths(task_feature_lengths)
        return {**lengths, "decoder_task_ids": task_feature_lengths["targets"]}


class StepByStepDecoderFeatureConverter(seqio.PrefixLMFeatureConverter):
    """A language model's batch, inputs and targets in one row, whose target tokens carry their task, through packing too.

    Two examples, a label and its rationale, packed into one row of 8 + 8 tokens:

        inputs                   = [7, 8, 5, 1], [9, 8, 5, 1]
        targets                  = [3, 1], [4, 6, 6, 1]
        task_ids                 = [1, 1], [2, 2, 2, 2]                              # 1 label, 2 rationale

        decoder_target_tokens    = [7, 8, 5, 1, 3, 1, 9, 8, 5, 1, 4, 6, 6, 1, 0, 0]
        decoder_input_tokens     = [0, 7, 8, 5, 1, 3, 0, 9, 8, 5, 1, 4, 6, 6, 0, 0]
        decoder_loss_weights     = [0, 0, 0, 0, 1, 1, 0, 0, 0, 0, 1, 1, 1, 1, 0, 0]
        decoder_causal_attention = [1, 1, 1, 1, 1, 0, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0]
        decoder_task_ids         = [0, 0, 0, 0, 1, 1, 0, 0, 0, 0, 2, 2, 2, 2, 0, 0]  # 0 inputs, padding

    The other features are those of `seqio.PrefixLMFeatureConverter`.
    """

    TASK_FEATURES = {  # noqa: RUF012
        **seqio.PrefixLMFeatureConverter.TASK_FEATURES,
        "task_ids": _TASK_IDS,
    }
    MODEL_FEATURES = {  # noqa: RUF012
        **seqio.PrefixLMFeatureConverter.MODEL_FEATURES,
        "decoder_task_ids": _TASK_IDS,
    }

    def __call__(self, ds: tf.data.Dataset, task_feature_lengths: Mapping[str, int]) -> tf.data.Dataset:
        """Converts `ds`; lengths may leave out `task_ids`, and raise `ValueError` where these differ from the targets'."""
        return super().__call__(ds, _with_task_ids(task_feature_lengths))

    def _concat_and_add_masks(self, features: Mapping[str, tf.Tensor]) -> Mapping[str, tf.Tensor]:
        joined = super()._concat_and_add_masks(features)
        # SeqIO's packing takes a feature to be as long as it has tokens that are not 0: -1 stands for the inputs until then.
        task_ids = tf.concat([-tf.ones_like(features["inputs"]), features["task_ids"]], axis=0)
        missing = tf.size(joined["targets"]) - tf.size(task_ids)  # 1 where an example has no targets
        return {**joined, "task_ids": tf.pad(task_ids, [[0, missing]])}

    def _concat_task_feature_lengths(self, task_feature_lengths: Mapping[str, int]) -> Mapping[str, int]:
        lengths = super()._concat_task_feature_lengths(_of_a_row(task_feature_lengths))
        return {**lengths, "task_ids": lengths["targets"]}

    def _convert_example(self, features: Mapping[str, tf.Tensor]) -> Mapping[str, tf.Tensor]:
        return {
            **super()._convert_example(features),
            "decoder_task_ids": tf.maximum(features["task_ids"], 0),
        }

    def get_model_feature_lengths(self, task_feature_lengths: Mapping[str, int]) -> Mapping[str, int]:
        lengths = super().get_model_feature_lengths(_of_a_row(task_feature_lengths))
        return {**lengths, "decoder_task_ids": lengths["decoder_target_tokens"]}


def _of_a_row(task_feature_lengths: Mapping[str, int]) -> dict[str, int]:
    """What adds up to a row's length: inputs and targets, not the ids that lie beside the targets."""
    return {name: length for name, length in task_feature_lengths.items() if name != "task_ids"}
