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
from stepdistill_jax.engine.decode.token_choice import MIN_TEMPERATURE, choose_token

__all__ = [
    "MIN_TEMPERATURE",
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
    steps_per_check: int = 1,
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
      max_decode_steps_hard_limit: bounds `max_decode_steps`, which may be given at run time, or not at all.
      rescale_log_probs: log probabilities after temperature, top-k and top-p (0 for greedy) or before.
      state_callback_fn: changes the loop's state before each step, and once after the last.
      logit_callback_fn: changes the logits before sampling.
      steps_per_check: tokens that are decoded before it is asked whether all rows have ended. What is decoded is the same; more
        of them suit a device that waits for its host. T5X has no such argument.

    Returns:
      (decodes, log probabilities), the decodes of a row in increasing order of log probability.
    """
    if steps_per_check < 1 or (steps_per_check > 1 and (state_callback_fn or logit_callback_fn)):
        raise ValueError(
            f"temperature_sample: steps_per_check={steps_per_check}; use 1 or more, and 1 where callbacks are given."
        )
    batch_size, length = inputs.shape
    temperature = jnp.asarray(temperature, jnp.float32)
    if max_decode_steps_hard_limit:
        if max_decode_steps is None:
            max_decode_steps = max_decode_steps_hard_limit
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
    prompt = jnp.pad(rows, ((0, 0), (0, 2))).astype(jnp.int32)
    # Tokens that a row may have, prompt included.
    row_length = jnp.full(rows.shape[:1], length)
    if max_decode_steps is not None:
        row_length = jnp.minimum(length, jnp.sum(rows != 0, axis=1) + max_decode_steps)
    rng = jax.random.PRNGKey(0) if decode_rng is None else decode_rng

    def step(state: SamplingLoopState) -> SamplingLoopState:
        if state_callback_fn is not None:
            state = state_callback_fn(state)
        rng, next_rng = jax.random.split(state.rng)
        logits, new_cache = tokens_to_logits(
            DecodingState(state.cur_index, state.sequences[:, :-2], state.cur_token, state.cache)
        )
        if logit_callback_fn is not None:
            logits = logit_callback_fn(logits, state)
        token, log_prob = choose_token(
            logits,
            rng,
            temperature=temperature,
            topk=topk,
            topp=topp,
            rescale_log_probs=rescale_log_probs,
        )
        state = state.replace(cache=new_cache, rng=next_rng)
        return _with_token(state, token, log_prob, prompt=prompt, row_length=row_length, eos_id=eos_id)

    def steps(state: SamplingLoopState) -> SamplingLoopState:
        return jax.lax.fori_loop(0, steps_per_check, lambda _, state: step(state), state)

    state = jax.lax.while_loop(
        lambda state: ~jnp.all(state.ended),
        step if steps_per_check == 1 else steps,
        _before_decoding(prompt, cache, rng, None if initial_index is None else expand(initial_index)),
    )
    if state_callback_fn is not None:
        state = state_callback_fn(state)
    decodes = unflatten_beam_dim(state.sequences[:, 1:-1], batch_size, num_decodes)
    log_probs = unflatten_beam_dim(state.log_prob, batch_size, num_decodes)
    order = jnp.argsort(log_probs, axis=-1)
    return gather_beams((decodes, log_probs), order)


def _before_decoding(
    prompt: jax.Array, cache: PyTree, rng: jax.Array, initial_index: jax.Array | None
) -> SamplingLoopState:
    """Every row at its start: of all its tokens, or where the cache already holds its prompt."""
    num_rows = prompt.shape[0]
    start = jnp.zeros([num_rows], jnp.int32) if initial_index is None else initial_index
    first = jnp.zeros_like(start) if initial_index is None else prompt[jnp.arange(num_rows), start]
    return SamplingLoopState(
        step=jnp.zeros((), jnp.int32),
        cur_index=start.astype(jnp.int32),
        sequences=prompt,
        cache=cache,
        cur_token=first[:, None],
        ended=jnp.zeros([num_rows, 1], jnp.bool_),
        rng=rng,
        log_prob=jnp.zeros([num_rows], jnp.float32),
    )


def _with_token(
    state: SamplingLoopState,
    token: jax.Array,
    log_prob: jax.Array,
    *,
    prompt: jax.Array,
    row_length: jax.Array,
    eos_id: int,
) -> SamplingLoopState:
    """Each row one token longer: by its prompt's, else by the one that was chosen; by none once it has ended."""
    row_numbers = jnp.arange(prompt.shape[0])
    # A row that has reached its length goes on to write to the last place, which is cut off at the end.
    index = jnp.minimum(state.cur_index, row_length)
    forced = state.sequences[row_numbers, index + 1]
    ended = state.ended[:, 0]
    counts = (forced == 0) & ~ended
    token = jnp.where(ended, 0, jnp.where(forced == 0, token, forced))
    # An EOS of the prompt goes on; one that a callback has put in its way ends the row, as one that was sampled.
    is_prompt = prompt[row_numbers, index + 1] != 0
    ended = ended | (~is_prompt & (token == eos_id)) | (index >= row_length - 1)
    return state.replace(
        step=state.step + 1,
        cur_index=index + 1,
        sequences=state.sequences.at[row_numbers, index + 1].set(token),
        cur_token=token[:, None],
        ended=ended[:, None],
        log_prob=state.log_prob + jnp.where(counts, log_prob, 0.0),
    )
