"""Beam search with T5X's signature and scores (`t5x.decoding.beam_search`)."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Bool, Float, Int, Shaped

from stepdistill_jax.engine.decode.beams import (
    NEG_INF,
    DecodingState,
    PyTree,
    TokensToLogits,
    cache_map,
    flat_batch_beam_expand,
    flatten_beam_dim,
    gather_beams,
    gather_cache_beams,
    unflatten_beam_dim,
)


@struct.dataclass
class _Beams:
    """The state of a beam search; beams are sorted by increasing score, which settles ties as T5X does."""

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
    return gather_beams(beams, jax.lax.top_k(scores, num_beams)[1][:, ::-1])


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
    initial_index: Int[Array, " batch"] | None = None,
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
      initial_index: number of tokens of each row's prompt, if the cache has taken them in already: decoding then begins
        behind them, and `max_decode_len` counts them.

    Returns:
      (decodes, scores), the beams of a row in increasing order of score, log probability over brevity penalty. A row
      without a finished sequence gives its live beams, scored by plain log probability.
    """
    del decode_rng
    batch_size, num_beams = inputs.shape[0], num_decodes
    length = (inputs.shape[1] if max_decode_len is None else max_decode_len) + 1  # BOS before the decodes
    prompt = jnp.pad(inputs, ((0, 0), (0, max(length - inputs.shape[1], 1))))
    final_penalty = brevity_penalty(alpha, length)
    first_tokens = jnp.zeros((batch_size,), jnp.int32)
    prompt_length = jnp.zeros((batch_size,), jnp.int32)
    if initial_index is not None:
        prompt_length = initial_index.astype(jnp.int32)
        first_tokens = jnp.take_along_axis(inputs, prompt_length[:, None], axis=1)[:, 0]
        prompt = jnp.zeros_like(prompt)

    def can_improve(state: _Beams) -> jax.Array:
        best_live = state.live_log_probs[:, -1:] / final_penalty
        worst_finished = jnp.min(state.finished_scores, axis=1, keepdims=True)
        worst_finished = jnp.where(state.is_finished, worst_finished, NEG_INF)
        is_hopeless = jnp.all(worst_finished > best_live)
        is_improbable = jnp.all(best_live < min_log_prob / final_penalty) & (state.index > 0)
        out_of_steps = (max_decode_step > 0) & (state.index >= max_decode_step)
        return (
            (state.index + jnp.min(prompt_length) < length - 1)
            & ~is_hopeless
            & ~is_improbable
            & ~out_of_steps
        )

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
        scores = (
            log_probs / brevity_penalty(alpha, prompt_length[:, None] + state.index + 1) + ~ends * NEG_INF
        )
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
            cache=gather_cache_beams(new_cache, live_beam, cache_offset),
        )

    no_tokens = jnp.zeros((batch_size, num_beams, length), jnp.int32)
    no_scores = jnp.full((batch_size, num_beams), NEG_INF, jnp.float32)
    expand = functools.partial(flat_batch_beam_expand, beam_size=num_beams, offset=cache_offset)
    state = jax.lax.while_loop(
        can_improve,
        step,
        _Beams(
            index=jnp.zeros((), jnp.int32),
            live_tokens=no_tokens.at[:, :, 0].set(first_tokens[:, None]),
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
    if initial_index is not None:
        decodes = _behind_prompts(inputs, prompt_length, decodes)
    return decodes[:, :, 1:], scores


def _behind_prompts(
    inputs: Int[Array, "batch prompt_length"],
    prompt_length: Int[Array, " batch"],
    decodes: Int[Array, "batch beams length"],
) -> Int[Array, "batch beams length"]:
    """Each row's prompt, then what was decoded behind its last token, as long as before."""
    length = decodes.shape[-1]
    position = jnp.arange(length)[None, None, :]
    start = prompt_length[:, None, None]
    behind = jnp.take_along_axis(decodes, jnp.clip(position - start, 0, length - 1), axis=2)
    prompts = jnp.pad(inputs, ((0, 0), (0, max(length - inputs.shape[1], 0))))[:, None, :length]
    return jnp.where(position <= start, prompts, behind)
