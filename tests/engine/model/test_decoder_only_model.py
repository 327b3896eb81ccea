"""T5X's DecoderOnlyModel: the loss on targets alone, decoding from inputs of different lengths, scores."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import seqio
from tiny_llama import FAMILIES, prefix_batch, random_prefix_batch, tiny_llama

from stepdistill_jax.engine.decode import decoding
from stepdistill_jax.engine.model import llama, models
from stepdistill_jax.engine.optim import optimizers

pytestmark = pytest.mark.usefixtures("strict_ranks", "quick_compilation")


def make_model(family="llama", config_changes=None, **arguments):
    config = tiny_llama(family, **(config_changes or {}))
    vocabulary = seqio.PassThroughVocabulary(size=config.vocab_size, eos_id=1)
    return models.DecoderOnlyModel(llama.Llama(config), vocabulary, optimizers.adamw(), **arguments)


@functools.cache
def params_of(family="llama"):
    """Random parameters, large enough for logits to differ; id 0, which pads, is never likeliest."""
    shapes, types = {"decoder_input_tokens": (2, 8)}, {"decoder_input_tokens": jnp.int32}
    model = make_model(family)
    params = jax.jit(lambda: model.get_initial_variables(jax.random.PRNGKey(0), shapes, types)["params"])()
    leaves, tree = jax.tree.flatten(params)
    keys = jax.random.split(jax.random.PRNGKey(1), len(leaves))
    noisy = [leaf + 0.3 * jax.random.normal(key, leaf.shape) for leaf, key in zip(leaves, keys, strict=True)]
    params = jax.tree.unflatten(tree, noisy)
    params["token_embedder"]["embedding"] = params["token_embedder"]["embedding"].at[0].set(0.0)
    if "logits_dense" in params["decoder"]:
        kernel = params["decoder"]["logits_dense"]["kernel"]
        params["decoder"]["logits_dense"]["kernel"] = kernel.at[:, 0].set(0.0)
    return params


def test_the_loss_is_the_cross_entropy_of_targets_alone():
    batch = random_prefix_batch()
    logits = jax.jit(make_model()._compute_logits)(params_of(), batch)
    log_probs = np.asarray(jax.nn.log_softmax(logits))
    targets = np.asarray(batch["decoder_target_tokens"])
    of_targets = np.take_along_axis(log_probs, targets[..., None], axis=-1)[..., 0]
    expected = -np.sum(of_targets * np.asarray(batch["decoder_loss_weights"]))
    loss, metrics = jax.jit(lambda: make_model().loss_fn(params_of(), batch, None))()
    np.testing.assert_allclose(loss, expected, rtol=1e-5)
    correct = (log_probs.argmax(axis=-1) == targets) * np.asarray(batch["decoder_loss_weights"])
    num_targets = int(batch["decoder_loss_weights"].sum())
    np.testing.assert_allclose(metrics["accuracy"].compute(), correct.sum() / num_targets, rtol=1e-6)


@pytest.mark.parametrize("block_tokens", [3, 9, 1024], ids=["columns", "some", "all_at_once"])
def test_leaving_out_the_inputs_logits_changes_no_number(block_tokens):
    batch = random_prefix_batch()
    # A target whose loss weighs nothing is still counted by the metrics, as λ = 0 leaves rationales.
    batch["loss_weights"] = batch["decoder_loss_weights"].astype(jnp.float32).at[0].set(0.0)
    settings = {"z_loss": 1e-3, "label_smoothing": 0.1}

    def loss(model):
        return jax.jit(jax.value_and_grad(lambda params: model.loss_fn(params, batch, None), has_aux=True))

    in_blocks = make_model(loss_block_tokens=block_tokens, **settings)
    assert in_blocks._makes_logits_in_blocks()
    (found, metrics), grads = loss(in_blocks)(params_of())
    (expected, expected_metrics), expected_grads = loss(make_model(loss_block_tokens=None, **settings))(
        params_of()
    )
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4), grads, expected_grads)
    for name in ("accuracy", "z_loss", "cross_ent_loss"):
        ours, theirs = (
            np.asarray(metric.replace(**({"steps": 1} if hasattr(metric, "steps") else {})).compute())
            for metric in (metrics[name], expected_metrics[name])
        )
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, err_msg=name)


@pytest.mark.parametrize("bidirectional", [False, True], ids=["causal", "prefix_lm"])
@pytest.mark.parametrize("family", FAMILIES)
def test_greedy_decodes_are_what_teacher_forcing_finds_likeliest(family, bidirectional):
    model, params, batch = (
        make_model(family, inputs_bidirectional_attention=bidirectional),
        params_of(family),
        random_prefix_batch(),
    )
    decodes = np.asarray(jax.jit(model.predict_batch)(params, batch))
    inputs = [
        np.asarray(tokens)[: int(read.sum()) - 1].tolist()
        for tokens, read in zip(
            batch["decoder_target_tokens"], batch["decoder_causal_attention"], strict=True
        )
    ]
    answers = [row[: int((row > 0).sum())].tolist() for row in decodes]
    forced = prefix_batch(inputs, answers, 12)
    likeliest = np.asarray(jnp.argmax(jax.jit(model._compute_logits)(params, forced), axis=-1))
    for row, (asked, answered) in enumerate(zip(inputs, answers, strict=True)):
        assert answered == likeliest[row, len(asked) : len(asked) + len(answered)].tolist()
        assert answered[-1] == 1 or len(asked) + len(answered) == 12
        assert not decodes[row, len(answered) :].any()


def test_what_the_batch_says_of_targets_is_not_looked_at():
    model, batch = make_model(), random_prefix_batch()
    read = batch["decoder_causal_attention"]
    blind = {"decoder_input_tokens": batch["decoder_input_tokens"] * read, "decoder_causal_attention": read}
    predict = jax.jit(model.predict_batch)
    np.testing.assert_array_equal(predict(params_of(), batch), predict(params_of(), blind))


def test_samples_of_a_row_go_on_from_its_inputs():
    model, batch = make_model(), random_prefix_batch()
    predict = jax.jit(
        lambda rng: model.predict_batch_with_aux(
            params_of(), batch, rng, num_decodes=3, return_all_decodes=True, decoder_params={"topk": 0}
        )
    )
    tokens, aux = predict(jax.random.PRNGKey(0))
    assert tokens.shape == (3, 3, 12)
    assert np.all(np.diff(aux["scores"], axis=-1) >= 0)
    assert len({tuple(row.tolist()) for row in np.asarray(tokens[0])}) == 3
    again, _ = predict(jax.random.PRNGKey(0))
    np.testing.assert_array_equal(tokens, again)


def test_scores_are_log_likelihoods_of_the_targets():
    model, batch = make_model(z_loss=0.1, label_smoothing=0.1), random_prefix_batch()
    log_probs = np.asarray(jax.nn.log_softmax(jax.jit(model._compute_logits)(params_of(), batch)))
    targets = np.asarray(batch["decoder_target_tokens"])[..., None]
    of_targets = np.take_along_axis(log_probs, targets, axis=-1)[..., 0]
    expected = np.sum(of_targets * np.asarray(batch["decoder_loss_weights"]), axis=-1)
    np.testing.assert_allclose(jax.jit(model.score_batch)(params_of(), batch), expected, rtol=1e-4)
    scores, intermediates = jax.jit(functools.partial(model.score_batch, return_intermediates=True))(
        params_of(), batch
    )
    np.testing.assert_allclose(scores, expected, rtol=1e-4)
    np.testing.assert_allclose(intermediates["decoder"]["token_scores"][0].sum(axis=-1), expected, rtol=1e-4)


def test_a_prefix_moves_out_of_the_way():
    rows = jnp.asarray([[9, 4, 6, 1, 3, 9, 1, 0, 0], [5, 3, 1, 0, 0, 0, 0, 0, 0]])
    expected = [[3, 9, 1, 0, 0, 0, 0, 0, 0], [3, 1, 0, 0, 0, 0, 0, 0, 0]]
    assert models.remove_prefix(rows, jnp.asarray([4, 1])).tolist() == expected
    decodes = jnp.stack([rows, rows], axis=1)
    assert models.remove_prefix(decodes, jnp.asarray([4, 1])).tolist() == [[row, row] for row in expected]


def test_what_is_missing_is_named():
    batch = random_prefix_batch()
    del batch["decoder_causal_attention"]
    with pytest.raises(ValueError, match="no 'decoder_causal_attention', which tells inputs from targets"):
        make_model().predict_batch(params_of(), batch)
    with pytest.raises(ValueError, match="inputs_bidirectional_attention=True, but the batch has no"):
        make_model(inputs_bidirectional_attention=True).loss_fn(params_of(), batch, None)
    with pytest.raises(ValueError, match=r"decoder_params\['alpha'\]: temperature_sample takes no such"):
        make_model().predict_batch_with_aux(params_of(), random_prefix_batch(), decoder_params={"alpha": 0.6})
    with pytest.raises(ValueError, match="loss_block_tokens=0"):
        make_model(loss_block_tokens=0)


def test_the_default_is_t5x_s_sampling_with_one_candidate():
    assert make_model().decode_fn is decoding.temperature_sample
