"""Decoding a Markov chain, whose best sequences can be listed by hand."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from stepdistill_jax.engine.decode import decoding, token_choice

pytestmark = pytest.mark.usefixtures("strict_ranks")

EOS = 1
VOCAB = 5
# Row t: logits of the token after t. Token 0 is BOS at the start.
TABLE = np.random.default_rng(3).normal(size=(VOCAB, VOCAB)).astype(np.float32) * 1.5
TABLE[:, 0] = -1e9  # padding is never a candidate
LOG_PROBS = np.asarray(jax.nn.log_softmax(jnp.asarray(TABLE)))


def _tokens_to_logits(state):
    """The chain's next logits; its cache counts steps and remembers each row's first token."""
    cache = dict(state.cache["layer"])
    cache["cache_index"] = cache["cache_index"] + 1
    token = state.cur_token[:, 0]
    cache["cached_key"] = jnp.where(cache["cached_key"] == 0, token[:, None], cache["cached_key"])
    return jnp.asarray(TABLE)[token], {"layer": cache}


def _cache(batch_size):
    return {
        "layer": {
            "cached_key": jnp.zeros((batch_size, 1), jnp.int32),
            "cache_index": jnp.zeros((), jnp.int32),
        }
    }


def _log_prob(tokens):
    """Log probability of a sequence up to its EOS, padding behind it included for free."""
    total, last = 0.0, 0
    for token in tokens:
        total += LOG_PROBS[last, token]
        last = token
        if token == EOS:
            break
    return total


def _sample(inputs, **arguments):
    inputs = jnp.asarray(inputs, jnp.int32)
    arguments = {"decode_rng": jax.random.PRNGKey(0), **arguments}
    return decoding.temperature_sample(
        inputs, _cache(inputs.shape[0]), _tokens_to_logits, eos_id=EOS, **arguments
    )


def _search(inputs, **arguments):
    inputs = jnp.asarray(inputs, jnp.int32)
    return decoding.beam_search(inputs, _cache(inputs.shape[0]), _tokens_to_logits, eos_id=EOS, **arguments)


def _greedy_by_hand(length, prompt=()):
    tokens, last = [], 0
    for position in range(length):
        token = prompt[position] if position < len(prompt) else int(np.argmax(TABLE[last]))
        tokens.append(token)
        last = token
        if token == EOS and position >= len(prompt):
            break
    return tokens + [0] * (length - len(tokens))


@pytest.mark.parametrize("arguments", [{"temperature": 0.0}, {"temperature": 0.0, "topk": 0}, {"topk": 1}])
def test_greedy_takes_the_likeliest_token_and_pads_behind_eos(arguments):
    decodes, _ = _sample(np.zeros((2, 6)), **arguments)
    assert decodes.shape == (2, 1, 6)
    for row in decodes[:, 0].tolist():
        assert row == _greedy_by_hand(6)


def test_a_prompt_is_forced_and_adds_no_log_probability():
    prompt = [3, 4, 2]
    decodes, log_prob = _sample([[0, *prompt, 0, 0, 0]], topk=0, rescale_log_probs=False)
    decode = decodes[0, 0].tolist()
    assert decode[:3] == prompt
    np.testing.assert_allclose(log_prob[0, 0], _log_prob(decode) - _log_prob(prompt), rtol=1e-5)


def test_log_probabilities_and_order_of_several_samples():
    decodes, log_probs = _sample(np.zeros((3, 6)), num_decodes=8, topk=0)
    assert decodes.shape == (3, 8, 6)
    assert np.all(np.diff(log_probs, axis=-1) >= 0)
    for row, row_log_probs in zip(decodes, log_probs, strict=True):
        expected = [_log_prob(decode) for decode in row.tolist()]
        np.testing.assert_allclose(row_log_probs, expected, rtol=1e-5)
    assert len({tuple(decode) for decode in decodes.reshape(-1, 6).tolist()}) > 4


def test_another_key_gives_other_samples_and_the_same_key_the_same():
    first, same, other = (
        _sample(np.zeros((4, 6)), num_decodes=4, topk=0, decode_rng=jax.random.PRNGKey(seed))[0]
        for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(first, same)
    assert not np.array_equal(first, other)


def test_sampled_frequencies_follow_the_temperature():
    decodes, _ = _sample(np.zeros((1, 1)), num_decodes=4000, topk=0, temperature=2.0)
    frequency = np.bincount(np.ravel(decodes), minlength=VOCAB) / 4000
    expected = np.asarray(jax.nn.softmax(jnp.asarray(TABLE[0]) / 2.0))
    # Four standard deviations of a share of 4,000 draws are at most 0.032.
    np.testing.assert_allclose(frequency, expected, atol=0.032)


def test_top_k_restricts_the_support():
    decodes, _ = _sample(np.zeros((1, 1)), num_decodes=500, topk=2)
    assert set(np.ravel(decodes).tolist()) == set(np.argsort(TABLE[0])[-2:].tolist())


def test_top_p_restricts_the_support():
    probabilities = np.sort(np.exp(LOG_PROBS[0]))[::-1]
    enough = float(probabilities[0] + 0.5 * probabilities[1])  # needs two tokens
    decodes, _ = _sample(np.zeros((1, 1)), num_decodes=500, topk=0, topp=enough)
    assert set(np.ravel(decodes).tolist()) == set(np.argsort(TABLE[0])[-2:].tolist())


def test_masks_given_at_run_time_agree_with_fixed_ones():
    logits = jnp.asarray(TABLE)
    for k in (0, 1, 3, 99):
        np.testing.assert_array_equal(
            token_choice.topk_mask(logits, jnp.asarray(k)), token_choice.topk_mask(logits, k)
        )
    np.testing.assert_array_equal(token_choice.topp_mask(logits, 0.0), logits)
    np.testing.assert_array_equal(token_choice.topp_mask(logits, 1.0)[:, 1:], logits[:, 1:])


def test_each_row_may_have_its_own_temperature():
    decodes, log_probs = _sample(np.zeros((2, 6)), num_decodes=6, topk=0, temperature=jnp.asarray([0.0, 1.0]))
    assert {tuple(decode) for decode in decodes[0].tolist()} == {tuple(_greedy_by_hand(6))}
    np.testing.assert_array_equal(log_probs[0], 0.0)
    assert len({tuple(decode) for decode in decodes[1].tolist()}) > 1


def test_max_decode_steps_counts_from_the_end_of_the_prompt():
    table_without_eos = lambda state: (  # noqa: E731
        jnp.asarray(TABLE).at[:, EOS].set(-1e9)[state.cur_token[:, 0]],
        state.cache,
    )
    inputs = jnp.asarray([[0, 3, 0, 0, 0, 0, 0], [0, 3, 4, 2, 0, 0, 0]])
    for limits in ({"max_decode_steps": 2}, {"max_decode_steps": 5, "max_decode_steps_hard_limit": 2}):
        decodes, _ = decoding.temperature_sample(inputs, _cache(2), table_without_eos, EOS, **limits)
        assert np.sum(decodes[:, 0] != 0, axis=-1).tolist() == [1 + 2, 3 + 2]


def test_sampling_stops_when_every_row_has_ended():
    to_eos = lambda state: (  # noqa: E731
        jnp.full((state.cur_token.shape[0], VOCAB), -1e9).at[:, EOS].set(0.0),
        state.cache,
    )
    steps = []
    count = lambda state: (jax.debug.callback(lambda step: steps.append(int(step)), state.step), state)[1]  # noqa: E731
    decodes, _ = decoding.temperature_sample(
        jnp.zeros((3, 50), jnp.int32), _cache(3), to_eos, EOS, state_callback_fn=count
    )
    jax.effects_barrier()
    assert steps == [0, 1]
    assert decodes[:, 0, :2].tolist() == [[EOS, 0]] * 3


@pytest.mark.parametrize("steps_per_check", [2, 3, 50])
@pytest.mark.parametrize("arguments", [{}, {"topk": 0, "num_decodes": 3}, {"max_decode_steps": 2}], ids=str)
def test_blocks_of_steps_decode_the_same(arguments, steps_per_check):
    prompts = np.zeros((3, 7), np.int32)
    prompts[1, 1:3] = [2, 3]

    one_by_one = _sample(prompts, **arguments)
    in_blocks = _sample(prompts, steps_per_check=steps_per_check, **arguments)

    for found, expected in zip(in_blocks, one_by_one, strict=True):
        np.testing.assert_array_equal(found, expected)


def test_a_prefilled_row_starts_at_its_own_index():
    inputs = [[0, 3, 4, 0, 0, 0], [0, 2, 0, 0, 0, 0]]
    from_start, _ = _sample(inputs, temperature=0.0)
    prefilled, _ = _sample(inputs, temperature=0.0, initial_index=jnp.asarray([2, 1]))
    np.testing.assert_array_equal(from_start, prefilled)


def test_logits_can_be_changed_by_a_callback():
    forbid = lambda logits, state: logits.at[:, EOS].set(-1e9)  # noqa: E731
    decodes, _ = _sample(np.zeros((2, 8)), num_decodes=4, topk=0, logit_callback_fn=forbid)
    assert EOS not in np.ravel(decodes)


@pytest.mark.parametrize("alpha", [0.0, 0.6])
def test_a_wide_beam_search_finds_the_best_sequences(alpha):
    length = 4
    finished = {
        tokens[: tokens.index(EOS) + 1]
        for tokens in itertools.product(range(1, VOCAB), repeat=length)
        if EOS in tokens
    }
    scores = {tokens: _log_prob(tokens) / ((5 + len(tokens)) / 6) ** alpha for tokens in finished}
    best = sorted(scores, key=scores.get)[-6:]
    decodes, found_scores = _search(np.zeros((2, length)), num_decodes=30, alpha=alpha)
    for row in range(2):
        assert [tuple(token for token in decode if token) for decode in decodes[row, -6:].tolist()] == best
        np.testing.assert_allclose(found_scores[row, -6:], [scores[tokens] for tokens in best], rtol=1e-5)


def test_beam_search_forces_a_prompt():
    decodes, _ = _search([[0, 3, 4, 0, 0, 0], [0, 2, 0, 0, 0, 0]], num_decodes=3)
    assert decodes[0, :, :2].tolist() == [[3, 4]] * 3
    assert decodes[1, :, 0].tolist() == [2] * 3
    assert len({tuple(decode) for decode in decodes[0].tolist()}) == 3


def test_beams_without_an_end_come_back_live():
    endless = lambda state: (  # noqa: E731
        jnp.asarray(TABLE).at[:, EOS].set(-1e9)[state.cur_token[:, 0]],
        state.cache,
    )
    decodes, scores = decoding.beam_search(
        jnp.zeros((1, 3), jnp.int32), _cache(1), endless, EOS, num_decodes=2
    )
    assert np.all(decodes > 1)
    assert np.all(scores > -100.0)
    assert scores[0, 0] <= scores[0, 1]


def test_the_cache_follows_its_beams():
    """The chain's cache keeps the first token of each beam; when beams change places, it must go with them."""
    seen = []

    def remember(state):
        logits, cache = _tokens_to_logits(state)
        jax.debug.callback(
            lambda tokens, key: seen.append((np.asarray(tokens), np.asarray(key))),
            state.sequences,
            cache["layer"]["cached_key"],
        )
        return logits, cache

    decoding.beam_search(jnp.zeros((2, 5), jnp.int32), _cache(2), remember, EOS, num_decodes=3, alpha=0.0)
    jax.effects_barrier()
    assert len(seen) > 2
    for sequences, first_token in seen[1:]:
        np.testing.assert_array_equal(first_token[:, 0], sequences[:, 1])


def test_errors_name_the_value_and_the_mend():
    with pytest.raises(ValueError, match="steps_per_check=0; use 1 or more"):
        _sample(np.zeros((1, 4)), steps_per_check=0)
    with pytest.raises(ValueError, match=r"steps_per_check=4; .* 1 where callbacks"):
        _sample(np.zeros((1, 4)), steps_per_check=4, state_callback_fn=lambda state: state)
    with pytest.raises(ValueError, match=r"topk=2 and topp=0\.5"):
        _sample(np.zeros((1, 4)), topk=2, topp=0.5)
    with pytest.raises(ValueError, match=r"max_decode_steps=9 is more than the 4 tokens"):
        _sample(np.zeros((1, 4)), max_decode_steps=9)
    with pytest.raises(ValueError, match=r"temperature of shape \(3,\) for a batch of 2"):
        _sample(np.zeros((2, 4)), temperature=jnp.ones(3))


def test_beams_that_tie_come_in_t5x_s_order():
    # Worked out by T5X (its decoding_test.py): of equally probable beams, the one whose difference lies furthest to the left.
    logits = jnp.array([[-1e7, -1e10, -0.1, -0.9], [-1e7, -1e10, -0.9, -0.1]])

    def next_logits(state):
        return jnp.repeat(logits, 2, axis=0), {}

    decodes, scores = decoding.beam_search(jnp.zeros((2, 5), jnp.int32), {}, next_logits, 1, num_decodes=2)
    np.testing.assert_array_equal(
        decodes, [[[3, 2, 2, 2, 2], [2, 2, 2, 2, 2]], [[2, 3, 3, 3, 3], [3, 3, 3, 3, 3]]]
    )
    assert np.all(np.diff(scores) >= 0)


def test_beams_behind_a_prompt_in_the_cache_are_those_behind_a_forced_one():
    logits = jnp.array(
        [[-1e7, -1e10, -0.1, -0.9, -1e4, -1e4, -1e4, -1e4], [-1e7, -1e10, -0.9, -0.1, -1e4, -1e4, -1e4, -1e4]]
    )

    def next_logits(state):
        return jnp.repeat(logits, 2, axis=0), state.cache

    inputs = jnp.array([[0, 7, 0, 0, 0], [0, 4, 5, 0, 0]], jnp.int32)
    search = functools.partial(decoding.beam_search, inputs, {}, next_logits, 1, num_decodes=2, alpha=0.0)
    forced, forced_scores = search()
    behind, _ = search(initial_index=jnp.array([1, 2]))
    np.testing.assert_array_equal(
        forced, [[[7, 3, 2, 2, 2], [7, 2, 2, 2, 2]], [[4, 5, 2, 3, 3], [4, 5, 3, 3, 3]]]
    )
    np.testing.assert_array_equal(behind[:, :, :3], forced[:, :, :3])
    assert np.all(np.diff(forced_scores) >= 0)
