"""Decoding from a model's next-token logits: sampling, greedy and beam search, with T5X's signatures (`t5x.decoding`).

A decode function gets `tokens_to_logits(DecodingState) -> (logits [rows, vocab], cache)`. Decodes of one row stand beside
each other: a batch of B rows with N decodes is laid out as [B * N].
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct, traverse_util
from jaxtyping import Array, Bool, Float, Int, Shaped

PyTree = Any

# T5X's stand-in for minus infinity; its scores of beams that never were are of this size.
NEG_INF = -1.0e7
# Below this, a temperature means greedy.
MIN_TEMPERATURE = 1e-4

# Cache entries that belong to all rows: never expanded or gathered.
_SHARED_ENTRIES = ("cache_index", "cached_bias", "position_embedder_index")
# Cache entries of the encoded inputs: the same for all beams of a row, so a change of beams leaves them as they are.
_ENCODED_ENTRIES = ("encoded_key", "encoded_value")


@struct.dataclass
class DecodingState:
    """What `tokens_to_logits` gets.

    Attributes:
      cur_index: position of the current token, a scalar or int32 [rows].
      sequences: int32 [rows, length], the tokens so far.
      cur_token: int32 [rows, 1], the token to go on from.
      cache: the model's cache, rows along the batch axis.
    """

    cur_index: jax.Array
    sequences: jax.Array
    cur_token: jax.Array
    cache: PyTree


TokensToLogits = Callable[[DecodingState], tuple[jax.Array, PyTree]]


def cache_map(
    fn: Callable[[jax.Array], jax.Array],
    cache: PyTree,
    apply_to_index: bool = False,
    skip: tuple[str, ...] = (),
) -> PyTree:
    """The cache with `fn` on every entry that has a row per batch row; those named in `skip` stay as they are."""
    shared = [name for name in _SHARED_ENTRIES if not (apply_to_index and name == "cache_index")]
    flat = traverse_util.flatten_dict(dict(cache))
    return traverse_util.unflatten_dict(
        {path: entry if path[-1] in (*shared, *skip) else fn(entry) for path, entry in flat.items()}
    )


def flat_batch_beam_expand(
    rows: Shaped[Array, "..."], beam_size: int, offset: int = 0
) -> Shaped[Array, "..."]:
    """[batch, ...] to [batch * beam_size, ...], each row repeated in place; `offset` is where the batch axis stands."""
    return rows if beam_size == 1 else jnp.repeat(rows, beam_size, axis=offset)


def flatten_beam_dim(beams: Shaped[Array, "..."], offset: int = 0) -> Shaped[Array, "..."]:
    """[batch, beams, ...] to [batch * beams, ...]."""
    shape = beams.shape
    return beams.reshape(*shape[:offset], shape[offset] * shape[offset + 1], *shape[offset + 2 :])


def unflatten_beam_dim(
    rows: Shaped[Array, "..."], batch_size: int, beam_size: int, offset: int = 0
) -> Shaped[Array, "..."]:
    """[batch * beams, ...] to [batch, beams, ...]."""
    return rows.reshape(*rows.shape[:offset], batch_size, beam_size, *rows.shape[offset + 1 :])


def gather_beams(nested: PyTree, beam_indices: Int[Array, "batch beams"]) -> PyTree:
    """Arrays [batch, old beams, ...] of a tree, to [batch, beams, ...] in the order of `beam_indices`."""
    take = jax.vmap(lambda beams, indices: beams[indices])
    return jax.tree.map(lambda beams: take(beams, beam_indices), nested)


def _gather_cache_rows(cache: PyTree, beam_indices: jax.Array, offset: int) -> PyTree:
    batch_size, beam_size = beam_indices.shape

    def gather(rows: jax.Array) -> jax.Array:
        beams = jnp.moveaxis(rows, offset, 0).reshape(batch_size, beam_size, -1)
        rows_first = gather_beams(beams, beam_indices).reshape(jnp.moveaxis(rows, offset, 0).shape)
        return jnp.moveaxis(rows_first, 0, offset)

    return cache_map(gather, cache, skip=_ENCODED_ENTRIES)


# Sampling


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
        token = jnp.argmax(logits, axis=-1).astype(jnp.int32)
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
      max_decode_steps_hard_limit: bounds `max_decode_steps` when that is given at run time.
      rescale_log_probs: log probabilities after temperature, top-k and top-p (0 for greedy) or before.
      state_callback_fn: changes the loop's state before each step, and once after the last.
      logit_callback_fn: changes the logits before sampling.

    Returns:
      (decodes, log probabilities), the decodes of a row in increasing order of log probability.
    """
    batch_size, length = inputs.shape
    temperature = jnp.asarray(temperature, jnp.float32)
    _check_sampling(topk, topp, temperature, max_decode_steps, batch_size, length)
    if max_decode_steps is not None and max_decode_steps_hard_limit:
        max_decode_steps = jnp.minimum(max_decode_steps, max_decode_steps_hard_limit)

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
        ended = ended | ((forced == 0) & (token == eos_id)) | (index >= row_length - 1)
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


# Beam search


@struct.dataclass
class _Beams:
    """The state of a beam search; beams are sorted by decreasing score."""

    index: Int[Array, ""]  # position of the last token written; 0 is BOS
    live_tokens: Int[Array, "batch beams length"]
    live_log_probs: Float[Array, "batch beams"]
    finished_tokens: Int[Array, "batch beams length"]
    finished_scores: Float[Array, "batch beams"]
    is_finished: Bool[Array, "batch beams"]  # False for places that no finished sequence has taken yet
    cache: PyTree


def brevity_penalty(alpha: float | Float[Array, ""], length: Any) -> Float[Array, "..."]:
    """((5 + length) / 6)^alpha, what log probabilities are divided by (Wu et al. 2016, arXiv:1609.08144, Eq. 14)."""
    return jnp.power((5.0 + length) / 6.0, alpha)


def _best_beams(beams: PyTree, scores: jax.Array, num_beams: int) -> PyTree:
    return gather_beams(beams, jax.lax.top_k(scores, num_beams)[1])


def _candidates(
    state: _Beams, logits: jax.Array, prompt: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """The 2 * beams best continuations: (tokens so far, log probabilities, beam they come from).

    Twice the beams, so that as many can go on even if the best ones all end here. In the prompt, one beam is kept: all
    would be the same.
    """
    batch_size, num_beams, vocab_size = logits.shape
    log_probs = jax.nn.log_softmax(logits) + state.live_log_probs[:, :, None]
    log_probs, flat_index = jax.lax.top_k(log_probs.reshape(batch_size, -1), 2 * num_beams)
    beam, token = flat_index // vocab_size, flat_index % vocab_size
    forced = jax.lax.dynamic_index_in_dim(prompt, state.index + 1, axis=1)  # [batch, 1]
    in_prompt_log_probs = jnp.where(jnp.arange(2 * num_beams) == 0, 0.0, NEG_INF)[None, :]
    log_probs = jnp.where(forced == 0, log_probs, in_prompt_log_probs)
    token = jnp.where(forced == 0, token, forced).astype(jnp.int32)
    tokens = jax.lax.dynamic_update_slice_in_dim(
        gather_beams(state.live_tokens, beam), token[:, :, None], state.index + 1, axis=2
    )
    return tokens, log_probs, beam


def beam_search(
    inputs: Int[Array, "batch length"],
    cache: PyTree,
    tokens_to_logits: TokensToLogits,
    eos_id: int,
    num_decodes: int = 4,
    alpha: float = 0.6,
    max_decode_len: int | None = None,
    max_decode_step: int = -1,
    min_log_prob: float = NEG_INF,
    decode_rng: Shaped[Array, "..."] | None = None,
    cache_offset: int = 0,
) -> tuple[Int[Array, "batch beams length"], Float[Array, "batch beams"]]:
    """Beam search with `num_decodes` beams. Stops when no live beam can still beat the finished ones.

    Tokens of `inputs` behind the first that are not 0 are forced, as in `temperature_sample`.

    Args:
      cache: of the model, for `batch` rows; expanded here to batch * num_decodes.
      alpha: exponent of the brevity penalty; 0 compares plain log probabilities.
      max_decode_len: length of the decodes; that of `inputs` if None.
      max_decode_step: bounds the steps, if above 0.
      min_log_prob: ends the search once every row's best live log probability is below it.
      decode_rng: not used; beam search has no chance in it.
      cache_offset: where the cache's batch axis stands.

    Returns:
      (decodes, scores), the beams of a row in increasing order of score, log probability over brevity penalty. A row
      without a finished sequence gives its live beams, scored by plain log probability.
    """
    del decode_rng
    batch_size, num_beams = inputs.shape[0], num_decodes
    length = (inputs.shape[1] if max_decode_len is None else max_decode_len) + 1  # BOS before the decodes
    prompt = jnp.pad(inputs, ((0, 0), (0, max(length - inputs.shape[1], 1))))
    final_penalty = brevity_penalty(alpha, length)

    def can_improve(state: _Beams) -> jax.Array:
        best_live = state.live_log_probs[:, :1] / final_penalty
        worst_finished = jnp.min(state.finished_scores, axis=1, keepdims=True)
        worst_finished = jnp.where(state.is_finished, worst_finished, NEG_INF)
        is_hopeless = jnp.all(worst_finished > best_live)
        is_improbable = jnp.all(best_live < min_log_prob / final_penalty) & (state.index > 0)
        out_of_steps = (max_decode_step > 0) & (state.index >= max_decode_step)
        return (state.index < length - 1) & ~is_hopeless & ~is_improbable & ~out_of_steps

    def step(state: _Beams) -> _Beams:
        current = jax.lax.dynamic_index_in_dim(state.live_tokens, state.index, axis=2)  # [batch, beams, 1]
        logits, new_cache = tokens_to_logits(
            DecodingState(
                state.index, flatten_beam_dim(state.live_tokens), flatten_beam_dim(current), state.cache
            )
        )
        logits = unflatten_beam_dim(logits, batch_size, num_beams)
        tokens, log_probs, beam = _candidates(state, logits, prompt)
        ends = jax.lax.dynamic_index_in_dim(tokens, state.index + 1, axis=2, keepdims=False) == eos_id

        live_scores = log_probs + ends * NEG_INF
        live_tokens, live_log_probs, live_beam = _best_beams(
            (tokens, live_scores, beam), live_scores, num_beams
        )
        scores = log_probs / brevity_penalty(alpha, state.index + 1) + ~ends * NEG_INF
        old_and_new = jax.tree.map(
            lambda old, new: jnp.concatenate([old, new], axis=1),
            (state.finished_tokens, state.finished_scores, state.is_finished),
            (tokens, scores, ends),
        )
        finished_tokens, finished_scores, is_finished = _best_beams(old_and_new, old_and_new[1], num_beams)
        return _Beams(
            index=state.index + 1,
            live_tokens=live_tokens,
            live_log_probs=live_log_probs,
            finished_tokens=finished_tokens,
            finished_scores=finished_scores,
            is_finished=is_finished,
            cache=_gather_cache_rows(new_cache, live_beam, cache_offset),
        )

    no_tokens = jnp.zeros((batch_size, num_beams, length), jnp.int32)
    no_scores = jnp.full((batch_size, num_beams), NEG_INF, jnp.float32)
    expand = functools.partial(flat_batch_beam_expand, beam_size=num_beams, offset=cache_offset)
    state = jax.lax.while_loop(
        can_improve,
        step,
        _Beams(
            index=jnp.zeros((), jnp.int32),
            live_tokens=no_tokens,
            live_log_probs=no_scores.at[:, 0].set(0.0),
            finished_tokens=no_tokens,
            finished_scores=no_scores,
            is_finished=no_scores > 0.0,
            cache=cache_map(expand, cache),
        ),
    )
    any_finished = jnp.any(state.is_finished, axis=1)
    decodes = jnp.where(any_finished[:, None, None], state.finished_tokens, state.live_tokens)
    scores = jnp.where(any_finished[:, None], state.finished_scores, state.live_log_probs)
    return decodes[:, ::-1, 1:], scores[:, ::-1]
