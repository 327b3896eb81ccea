"""A row to be decoded, from the tokens of its inputs, for a model of either kind.

tokens = [9, 4, 1], inputs_length = 4, targets_length = 2

of an encoder and a decoder        encoder_input_tokens     = [9, 4, 1, 0]
                                   decoder_input_tokens     = [0, 0]
of a decoder that reads both       decoder_input_tokens     = [0, 9, 4, 1, 0, 0]
                                   decoder_causal_attention = [1, 1, 1, 1, 0, 0]
"""

from collections.abc import Collection, Sequence

import numpy as np


def prompt_row(
    feature_names: Collection[str], tokens: Sequence[int], *, inputs_length: int, targets_length: int
) -> dict[str, np.ndarray]:
    """What `predict_batch` reads of a batch, int32 [length] each.

    Args:
      feature_names: of the model's batches.
      tokens: of the inputs, their end included; at most `inputs_length`.
      targets_length: tokens that are decoded at most.
    """
    if "encoder_input_tokens" in feature_names:
        return {
            "encoder_input_tokens": _padded(tokens, inputs_length),
            "decoder_input_tokens": np.zeros(targets_length, np.int32),
        }
    length = inputs_length + targets_length
    return {
        "decoder_input_tokens": _padded([0, *tokens], length),
        "decoder_causal_attention": _padded([1] * (len(tokens) + 1), length),
    }


def _padded(values: Sequence[int], length: int) -> np.ndarray:
    return np.pad(np.asarray(values, np.int32), (0, length - len(values)))
