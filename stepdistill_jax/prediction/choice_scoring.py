"""How likely a student finds each of the choices: log p(choice | inputs), summed over its tokens, the end of sequence included.

The inputs are read once. The choices, of different lengths, stand packed in a few rows that every example shares, told apart by
segments as in training: of a T5 in the decoder's, of a language model behind the inputs.

    choices    [[7, 1], [8, 9, 1]]      # 'no', 'maybe', each with its end of sequence
    targets     [7, 1, 8, 9, 1]
    inputs      [0, 7, 0, 8, 9]
    segments    [1, 1, 2, 2, 2]
    prefixes    [0, 1, 0, 2, 3]         # what a token follows: [], [7], [], [8], [8, 9]
    offsets     [0, 1, 0, 1, 2]

What follows a prefix is normalised over the whole vocabulary, which costs most, once a prefix: the first tokens of all choices follow
the same one.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from stepdistill_jax.engine.model import llama, network

# A decoder row compares all of its tokens with each other: longer ones cost more than further rows.
_ROW_TOKENS = 128
_BLOCK_TOKENS = 1024  # whose logits over the whole vocabulary are there at a time


@dataclasses.dataclass(frozen=True)
class ChoiceRows:
    """Attributes:
    targets: int32 [rows, length], the choices' tokens one behind the other.
    inputs: int32 [rows, length], what the decoder reads: of each choice 0, then its tokens but the last.
    segments: int32 [rows, length], the choice's number from 1, over all rows; 0 is padding.
    prefixes: int32 [rows, length], the number, within its row, of the tokens that a target follows.
    offsets: int32 [rows, length], how many tokens of its choice stand before a target.
    places: int32 [rows, prefixes], where each prefix is met first.
    num_choices: of them.
    """

    targets: np.ndarray
    inputs: np.ndarray
    segments: np.ndarray
    prefixes: np.ndarray
    offsets: np.ndarray
    places: np.ndarray
    num_choices: int

    @property
    def length(self) -> int:
        return self.targets.shape[1]


def pack_choices(choices: Sequence[Sequence[int]]) -> ChoiceRows:
    """The choices' token ids, ends of sequence included, in as many rows as they need, in their order."""
    rows: list[list[int]] = [[]]  # numbers of choices
    for number, tokens in enumerate(choices):
        used = sum(len(choices[other]) for other in rows[-1])
        if rows[-1] and used + len(tokens) > _ROW_TOKENS:
            rows.append([])
        rows[-1].append(number)
    length = max(sum(len(choices[number]) for number in row) for row in rows)
    targets, inputs, segments, prefixes, offsets = np.zeros([5, len(rows), length], np.int32)
    met: list[dict[tuple[int, ...], int]] = [{} for _ in rows]  # prefix -> where it is met first
    for place, row in enumerate(rows):
        start = 0
        for number in row:
            stop = start + len(choices[number])
            targets[place, start:stop] = choices[number]
            inputs[place, start + 1 : stop] = choices[number][:-1]
            segments[place, start:stop] = number + 1
            offsets[place, start:stop] = np.arange(stop - start)
            for position in range(start, stop):
                prefix = tuple(choices[number][: position - start])
                met[place].setdefault(prefix, position)
                prefixes[place, position] = list(met[place]).index(prefix)
            start = stop
    most = max(map(len, met))
    places = np.array([[*found.values(), *[0] * (most - len(found))] for found in met], np.int32)
    return ChoiceRows(targets, inputs, segments, prefixes, offsets, places, len(choices))


# A row of choices, its arrays [length], to the network's last states of them, [batch, length, embed].
StatesOfRow = Callable[[Mapping[str, jax.Array]], jax.Array]


def choice_log_probs(
    module: network.Transformer | llama.Llama,
    params: Mapping[str, Any],
    tokens: Int[Array, "batch length"],
    choices: ChoiceRows,
) -> Float[Array, "batch choices"]:
    """log p(choice | inputs) in nats, float32, of every choice in its order.

    Args:
      tokens: of the inputs, each row with its end of sequence, then padding.
    """
    states_of = _behind_inputs if isinstance(module, llama.Llama) else _beside_encoder
    states_of_row = states_of(module, params, tokens)
    batch_size = tokens.shape[0]
    kernel, scale = module.output_kernel(params)
    kernel = kernel.astype(jnp.float32)

    def of_row(row: dict[str, jax.Array]) -> jax.Array:
        hidden = states_of_row(row)
        hidden = jnp.moveaxis(hidden.astype(jnp.float32) * scale, 1, 0)  # [length, batch, embed]
        log_z = jax.lax.map(
            lambda states: jax.nn.logsumexp(states @ kernel, axis=-1),
            hidden[row["places"]],
            batch_size=max(1, _BLOCK_TOKENS // batch_size),
        )  # [prefixes, batch]
        logits = jnp.einsum("lbe,el->lb", hidden, kernel[:, row["targets"]])
        log_probs = logits - log_z[row["prefixes"]]  # [length, batch]
        sums = jax.ops.segment_sum(log_probs, row["segments"], num_segments=choices.num_choices + 1)
        return sums[1:].T  # [batch, choices], 0.0 for those of other rows

    names = ("targets", "inputs", "segments", "prefixes", "offsets", "places")
    rows = {name: jnp.asarray(getattr(choices, name)) for name in names}
    return jnp.sum(jax.lax.map(of_row, rows), axis=0)


def _beside_encoder(module: network.Transformer, params: Mapping[str, Any], tokens: jax.Array) -> StatesOfRow:
    """A T5's decoder reads the choices, each a segment that sees all of the encoded inputs."""
    encoded = module.apply({"params": params}, tokens, enable_dropout=False, method=module.encode)

    def states(row: Mapping[str, jax.Array]) -> jax.Array:
        targets, inputs, segments = (
            jnp.tile(row[name][None], (tokens.shape[0], 1)) for name in ("targets", "inputs", "segments")
        )
        return module.apply(
            {"params": params},
            encoded,
            tokens,
            inputs,
            targets,
            decoder_segment_ids=segments,
            enable_dropout=False,
            return_hidden=True,
            method=module.decode,
        )

    return states


def _behind_inputs(module: llama.Llama, params: Mapping[str, Any], tokens: jax.Array) -> StatesOfRow:
    """A language model reads the inputs and behind them the choices: each goes on from the inputs, and sees none of the others.

    inputs  [5, 6, 1]           # their end of sequence is what every choice begins with
    read    [0, 5, 6, 0 | 1, 7, 1, 8, 9]
    places  [0, 1, 2, 3 | 3, 4, 3, 4, 5]    # place 3 of the inputs is not looked at
    """
    batch_size, length = tokens.shape
    num_tokens = jnp.sum(tokens != 0, axis=-1, keepdims=True)  # [batch, 1]
    ends = jnp.take_along_axis(tokens, num_tokens - 1, axis=-1)
    read = jnp.pad(tokens, ((0, 0), (1, 0)))[:, :-1]
    place = jnp.broadcast_to(jnp.arange(length), tokens.shape)

    def states(row: Mapping[str, jax.Array]) -> jax.Array:
        choices = jnp.where(row["offsets"][None] == 0, ends, row["inputs"][None])  # [batch, choices' length]
        positions = jnp.concatenate([place, num_tokens + row["offsets"][None]], axis=1)
        segments = jnp.concatenate([jnp.zeros(length, jnp.int32), row["segments"]])[None]
        is_before = place[:, None, None, :] < num_tokens[:, :, None, None]  # inputs that choices go on from
        order = jnp.arange(positions.shape[1])[None]
        mask = (segments[:, None, :, None] == segments[:, None, None, :]) & (
            order[:, None, :, None] >= order[:, None, None, :]
        )
        mask = jnp.broadcast_to(mask, (batch_size, *mask.shape[1:]))
        is_choice = (order >= length)[:, None, :, None]
        seen = jnp.pad(is_before, ((0, 0), (0, 0), (0, 0), (0, row["inputs"].shape[0])))
        mask = mask | (is_choice & seen)
        all_read = jnp.concatenate([read, choices], axis=1)
        hidden = module.apply(
            {"params": params},
            all_read,
            all_read,
            decoder_positions=positions,
            attention_mask=mask,
            enable_dropout=False,
            return_hidden=True,
        )
        return hidden[:, length:]

    return states
