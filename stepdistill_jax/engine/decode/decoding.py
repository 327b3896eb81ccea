"""Decoding from a model's next-token logits, under T5X's names (`t5x.decoding`): sampling and greedy here, beam search too.

A decode function gets `tokens_to_logits(DecodingState) -> (logits [rows, vocab], cache)`.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Float, Int, Shaped

from stepdistill_jax.engine.decode.beam_search import beam_search, brevity_penalty
from stepdistill_jax.engine.decode.beams import (
    NEG_INF,
    DecodingState,
    PyTree,
    TokensToLogits,
    cache_map,
    flat_batch_beam_expand,
    flatten_beam_dim,
    gather_beams,
    unflatten_beam_dim,
)

__all__ = [
    "NEG_INF",
    "DecodingState",
    "SamplingLoopState",
    "beam_search",
    "brevity_penalty",
    "cache_map",
    "flat_batch_beam_expand",
    "flatten_beam_dim",
    "gather_beams",
    "temperature_sample",
    "unflatten_beam_dim",
]

# Below this, a temperature means greedy.
MIN_TEMPERATURE = 1e-4


@struct.dataclass
class SamplingLoopState:
    """The state of the sampling loop, for callbacks; rows are batch * num_decodes.

    Attributes:
      step: int32 scalar, tokens decoded in this loop.
      cur_index: int32 [rows], position of the current token.
      sequences: int32 [rows, length + 2]: BOS, the tokens, and one place that finished rows write to.
      cur_token: int32 [rows, 1].
      ended: bool [rows, 1].
      rng: the key of the next step.
      log_prob: float32 [rows], of the tokens decoded so far.
    """

    step: jax.Array
    cur_index: jax.Array
    sequences: jax.Array
    cache: PyTree
    cur_token: jax.Array
    ended: jax.Array
    rng: jax.Array
    log_prob: jax.Array


def topk_mask(logits: Float[Array, "rows vocab"], k: int | jax.Array) -> Float[Array, "rows vocab"]:
    """The k highest logits of each row (more where they tie), the others NEG_INF; all of them for k = 0."""
    if isinstance(k, int):
        if k <= 0:
            return logits
        cutoff = jax.lax.top_k(logits, min(k, logits.shape[-1]))[0][:, -1:]
    else:
        descending = -jnp.sort(-logits, axis=-1)
        index = jnp.where(k > 0, jnp.minimum(k, logits.shape[-1]), logits.shape[-1]) - 1
        cutoff = jax.lax.dynamic_slice_in_dim(descending, index, 1, axis=-1)
    return jnp.where(logits >= cutoff, logits, NEG_INF)


def topp_mask(logits: Float[Array, "rows vocab"], p: float | jax.Array) -> Float[Array, "rows vocab"]:
    """The fewest highest logits whose probabilities add up to at least p, the others NEG_INF; all of them for p = 0."""
    probabilities = jax.nn.softmax(logits, axis=-1)
    descending = -jnp.sort(-probabilities, axis=-1)
    before = jnp.cumsum(descending, axis=-1) - descending  # what the more probable ones already add up to
    cutoff = jnp.min(jnp.where(before < p, descending, jnp.inf), axis=-1, keepdims=True)
    return jnp.where((probabilities >= cutoff) | (jnp.asarray(p) <= 0.0), logits, NEG_INF)


def _most_probable(logits: Float[Array, "rows vocab"]) -> Int[Array, " rows"]:
    """The first token with the highest logit: `argmax`, by two passes that XLA vectorises on the CPU as well (5 times faster)."""
    tokens = jax.lax.broadcasted_iota(jnp.int32, logits.shape, 1)
    is_highest = logits == jnp.max(logits, axis=-1, keepdims=True)
    return jnp.min(jnp.where(is_highest, tokens, logits.shape[-1] - 1), axis=-1)


def _log_prob_of(logits: jax.Array, token: jax.Array) -> jax.Array:
    return jnp.take_along_axis(jax.nn.log_softmax(logits), token[:, None], axis=-1)[:, 0]


def _sample_token(
    logits: jax.Array,
    rng: jax.Array,
    *,
    temperature: jax.Array,
    topk: int | jax.Array,
    topp: float | jax.Array,
    rescale_log_probs: bool,
) -> tuple[jax.Array, jax.Array]:
    """(token, log probability) of each row. `temperature` is a scalar, or one per row."""

    def greedy() -> tuple[jax.Array, jax.Array]:
        token = _most_probable(logits)
        # The distribution at temperature 0 has one token, of log probability 0.
        log_prob = jnp.zeros(token.shape) if rescale_log_probs else _log_prob_of(logits, token)
        return token, log_prob.astype(jnp.float32)

    def sampled() -> tuple[jax.Array, jax.Array]:
        scale = jnp.maximum(temperature, MIN_TEMPERATURE)
        scaled = logits / (scale[:, None] if scale.ndim else scale)
        if not isinstance(topk, int) or topk:
            scaled = topk_mask(scaled, topk)
        if not isinstance(topp, int | float) or topp:
            scaled = topp_mask(scaled, topp)
        token = jax.random.categorical(rng, scaled).astype(jnp.int32)
        log_prob = _log_prob_of(scaled if rescale_log_probs else logits, token)
        return token, log_prob.astype(jnp.float32)

    if isinstance(topk, int) and topk == 1:  # one token is left, and no random number is needed to find it
        return greedy()
    if temperature.ndim == 0:
        return jax.lax.cond(temperature > MIN_TEMPERATURE, sampled, greedy)
    is_sampled = temperature > MIN_TEMPERATURE
    return jax.tree.map(functools.partial(jnp.where, is_sampled), sampled(), greedy())


def _check_sampling(
    topk: Any, topp: Any, temperature: jax.Array, max_decode_steps: Any, batch_size: int, length: int
) -> None:
    if isinstance(topk, int) and isinstance(topp, int | float) and topk and topp:
        raise ValueError(f"temperature_sample: topk={topk} and topp={topp}; set one of them to 0.")
    if temperature.ndim and temperature.shape != (batch_size,):
        raise ValueError(
            f"temperature_sample: temperature of shape {temperature.shape} for a batch of {batch_size}; give one "
            "number, or one for each row."
        )
    if isinstance(max_decode_steps, int) and max_decode_steps > length:
        raise ValueError(
            f"temperature_sample: max_decode_steps={max_decode_steps} is more than the {length} tokens of a row; make "
            "task_feature_lengths['targets'] longer."
        )


def temperature_sample(
    inputs: Int[Array, "batch length"],
    cache: PyTree,
    tokens_to_logits: TokensToLogits,
    eos_id: int,
    decode_rng: Shaped[Array, "..."] | None = None,
    num_decodes: int = 1,
    temperature: float | Float[Array, "..."] = 1.0,
    topk: int | Int[Array, ""] = 1,
    topp: float | Float[Array, ""] = 0.0,
    cache_offset: int = 0,
    initial_index: Int[Array, " batch"] | None = None,
    max_decode_steps: int | Int[Array, ""] | None = None,
    max_decode_steps_hard_limit: int | None = None,
    rescale_log_probs: bool = True,
    state_callback_fn: Callable[[SamplingLoopState], SamplingLoopState] | None = None,
    logit_callback_fn: Callable[[jax.Array, SamplingLoopState], jax.Array] | None = None,
) -> tuple[Int[Array, "batch decodes length"], Float[Array, "batch decodes"]]:
    """Samples `num_decodes` continuations of each row; greedy for topk = 1 or temperature 0. Stops when all rows ended.

    Tokens of `inputs` behind the first that are not 0 are forced, and add nothing to the log probability:

        inputs = [0, 8, 6, 0, 0, 0]   decodes = [8, 6, a, b, EOS, 0]

    Args:
      cache: of the model, for `batch` rows; expanded here to batch * num_decodes.
      decode_rng: PRNGKey(0) if None.
      temperature: divides the logits; one number, or one for each row of the batch.
      topk: samples among the k most probable tokens; 0 for no such limit.
      topp: samples among the fewest tokens that have at least this probability together; 0 for no such limit.
      cache_offset: where the cache's batch axis stands.
      initial_index: where each row starts if the cache already holds its prompt; `inputs` there is the first token fed.
      max_decode_steps: tokens decoded after the prompt, at most; None fills the row.
      max_decode_steps_hard_limit: bounds `max_decode_steps`, which may be given at run time.
      rescale_log_probs: log probabilities after temperature, top-k and top-p (0 for greedy) or before.
      state_callback_fn: changes the loop's state before each step, and once after the last.
      logit_callback_fn: changes the logits before sampling.

    Returns:
      (decodes, log probabilities), the decodes of a row in increasing order of log probability.
    """
    batch_size, length = inputs.shape
    temperature = jnp.asarray(temperature, jnp.float32)
    if max_decode_steps is not None and max_decode_steps_hard_limit:
        smaller = min if isinstance(max_decode_steps, int) else jnp.minimum
        max_decode_steps = smaller(max_decode_steps, max_decode_steps_hard_limit)
    _check_sampling(topk, topp, temperature, max_decode_steps, batch_size, length)

    expand = functools.partial(flat_batch_beam_expand, beam_size=num_decodes)
    if temperature.ndim:
        temperature = expand(temperature)
    cache = cache_map(
        functools.partial(expand, offset=cache_offset), cache, apply_to_index=initial_index is not None
    )
    rows = expand(inputs)
    sequences = jnp.pad(rows, ((0, 0), (0, 2))).astype(jnp.int32)
    row_numbers = jnp.arange(rows.shape[0])
    # Tokens that a row may have, prompt included.
    row_length = jnp.full(rows.shape[:1], length)
    if max_decode_steps is not None:
        row_length = jnp.minimum(length, jnp.sum(rows != 0, axis=1) + max_decode_steps)
    start = jnp.zeros(rows.shape[:1], jnp.int32) if initial_index is None else expand(initial_index)
    first = jnp.zeros_like(start) if initial_index is None else sequences[row_numbers, start]

    def step(state: SamplingLoopState) -> SamplingLoopState:
        if state_callback_fn is not None:
            state = state_callback_fn(state)
        rng, next_rng = jax.random.split(state.rng)
        logits, new_cache = tokens_to_logits(
            DecodingState(state.cur_index, state.sequences[:, :-2], state.cur_token, state.cache)
        )
        if logit_callback_fn is not None:
            logits = logit_callback_fn(logits, state)
        token, log_prob = _sample_token(
            logits,
            rng,
            temperature=temperature,
            topk=topk,
            topp=topp,
            rescale_log_probs=rescale_log_probs,
        )
        # A row that has reached its length goes on to write to the last place, which is cut off at the end.
        index = jnp.minimum(state.cur_index, row_length)
        forced = state.sequences[row_numbers, index + 1]
        ended = state.ended[:, 0]
        counts = (forced == 0) & ~ended
        token = jnp.where(ended, 0, jnp.where(forced == 0, token, forced))
        # An EOS of the prompt goes on; one that a callback has put in its way ends the row, as one that was sampled.
        is_prompt = sequences[row_numbers, index + 1] != 0
        ended = ended | (~is_prompt & (token == eos_id)) | (index >= row_length - 1)
        return SamplingLoopState(
            step=state.step + 1,
            cur_index=index + 1,
            sequences=state.sequences.at[row_numbers, index + 1].set(token),
            cache=new_cache,
            cur_token=token[:, None],
            ended=ended[:, None],
            rng=next_rng,
            log_prob=state.log_prob + jnp.where(counts, log_prob, 0.0),
        )

    state = jax.lax.while_loop(
        lambda state: ~jnp.all(state.ended),
        step,
        SamplingLoopState(
            step=jnp.zeros((), jnp.int32),
            cur_index=start.astype(jnp.int32),
            sequences=sequences,
            cache=cache,
            cur_token=first[:, None],
            ended=jnp.zeros((*rows.shape[:1], 1), jnp.bool_),
            rng=jax.random.PRNGKey(0) if decode_rng is None else decode_rng,
            log_prob=jnp.zeros(rows.shape[:1], jnp.float32),
        ),
    )
    if state_callback_fn is not None:
        state = state_callback_fn(state)
    decodes = unflatten_beam_dim(state.sequences[:, 1:-1], batch_size, num_decodes)
    log_probs = unflatten_beam_dim(state.log_prob, batch_size, num_decodes)
    order = jnp.argsort(log_probs, axis=-1)
    return gather_beams((decodes, log_probs), order)
