import jax
import jax.numpy as jnp
import numpy as np
import pytest

from stepdistill_jax.engine.decode import decoding
from stepdistill_jax.engine.model import losses, models
from stepdistill_jax.engine.model import metrics as metrics_lib

pytestmark = pytest.mark.usefixtures("strict_ranks")
FACTORS = [None, 3.0, "NUM_REAL_TARGET_TOKENS", "NUM_TOTAL_TARGET_TOKENS", "AVERAGE_PER_SEQUENCE"]


@pytest.fixture(scope="module")
def params(make_model, make_params):
    return make_params(make_model())


@pytest.fixture(scope="module")
def logits(make_model, params, make_batch):
    return jax.jit(make_model()._compute_logits)(params, make_batch())


@pytest.fixture
def with_logits(monkeypatch, logits):
    """The model computes these logits, or the rows of them that stand in `batch['rows']`: losses without a network."""

    def patch(model):
        monkeypatch.setattr(
            model,
            "_compute_logits",
            lambda params, batch, *_, **__: logits[batch["rows"]] if "rows" in batch else logits,
        )
        return model

    return patch


@pytest.mark.parametrize("factor", FACTORS)
def test_microbatches_add_up_to_the_loss_of_the_batch(make_model, make_batch, with_logits, factor):
    model = with_logits(make_model(loss_normalizing_factor=factor, z_loss=1e-3, label_smoothing=0.1))
    batch = {**make_batch(), "rows": jnp.arange(4)}
    whole, whole_metrics = model.loss_fn(None, batch, None)
    weighted = model.with_loss_weights(batch)
    assert weighted["loss_weights"].dtype == jnp.float32
    parts = [
        model.loss_fn(None, {name: rows[start : start + 1] for name, rows in weighted.items()}, None)
        for start in range(4)
    ]
    np.testing.assert_allclose(sum(loss for loss, _ in parts), whole, rtol=1e-6)
    merged = parts[0][1]
    for _, metrics in parts[1:]:
        merged = {name: merged[name].merge(metric) for name, metric in metrics.items()}
    for name in ("z_loss", "cross_ent_loss", "accuracy", "loss_per_nonpadding_target_token"):
        ours = metrics_lib.set_step_metrics_num_steps(merged[name], 1).compute()
        np.testing.assert_allclose(ours, whole_metrics[name].compute(), rtol=1e-5, err_msg=name)


@pytest.mark.parametrize("factor", FACTORS)
def test_the_loss_is_that_of_compute_weighted_cross_entropy(
    make_model, make_batch, with_logits, logits, factor
):
    model = with_logits(make_model(loss_normalizing_factor=factor, z_loss=1e-3))
    batch = make_batch()
    divisor, weights = losses.get_loss_normalizing_factor_and_weights(factor, batch)
    expected = losses.compute_weighted_cross_entropy(
        logits, batch["decoder_target_tokens"], weights, z_loss=1e-3, loss_normalizing_factor=divisor
    )
    loss, metrics = model.loss_fn(None, batch, None)
    np.testing.assert_allclose(loss, expected[0], rtol=1e-6)
    np.testing.assert_allclose(metrics["z_loss"].total, expected[1], rtol=1e-6)


def test_loss_weights_of_the_trainer_are_used(make_model, make_batch, with_logits):
    model = with_logits(make_model())
    batch = make_batch()
    once, _ = model.loss_fn(None, batch, None)
    half, _ = model.loss_fn(None, {**batch, "loss_weights": 0.5 * batch["decoder_loss_weights"]}, None)
    np.testing.assert_allclose(half, 0.5 * once, rtol=1e-6)


@pytest.mark.parametrize("factor", FACTORS)
def test_a_batch_of_padding_adds_nothing(make_model, make_batch, with_logits, factor):
    model = with_logits(make_model(loss_normalizing_factor=factor))
    batch = {name: jnp.zeros_like(rows) for name, rows in make_batch().items()}
    loss, _ = model.loss_fn(None, batch, None)
    assert float(loss) == 0.0


def test_dropout_is_for_training_only(make_model, params, make_batch):
    model = make_model()
    train = jax.jit(model.loss_fn)
    batch = make_batch()
    first, second = (float(train(params, batch, jax.random.PRNGKey(seed))[0]) for seed in (0, 1))
    evaluated = float(jax.jit(model.eval_fn)(params, batch)[0])
    assert len({first, second, evaluated}) == 3


def test_metrics_have_t5x_names_and_count_what_they_say(make_model, make_batch, with_logits, logits):
    batch = make_batch()
    loss, metrics = with_logits(make_model(z_loss=1e-3)).loss_fn(None, batch, None)
    metrics = metrics_lib.set_step_metrics_num_steps(metrics, 2)
    metrics = metrics_lib.set_time_metrics_duration(metrics, 4.0)
    values = {name: float(metric.compute()) for name, metric in metrics.items()}
    targets = np.asarray(batch["decoder_target_tokens"])
    real = targets > 0
    correct = (np.argmax(logits, axis=-1) == targets) & real
    expected = {
        "accuracy": correct.sum() / real.sum(),
        "loss": float(loss) / 2,
        "loss_per_nonpadding_target_token": float(loss) / real.sum(),
        "loss_per_all_target_tokens": float(loss) / targets.size,
        "non_padding_fraction/loss_weights": real.mean(),
        "non_padding_fraction/decoder_target_tokens": real.mean(),
        "effective_batch_size/decoder_target_tokens": 4 / 2,
        "timing/seconds": 4.0,
        "timing/seqs": 4,
        "timing/seqs_per_second": 1.0,
        "timing/steps_per_second": 0.5,
        "timing/target_tokens_per_second": targets.size / 4.0,
        "timing/target_tokens_per_second_per_core": targets.size / 4.0 / jax.device_count(),
    }
    for name, value in expected.items():
        np.testing.assert_allclose(values[name], value, rtol=1e-6, err_msg=name)
    np.testing.assert_allclose(values["z_loss"] + values["cross_ent_loss"], values["loss"], rtol=1e-6)
    assert {"non_padding_fraction/overall", "z_loss_per_all_target_tokens"} <= values.keys()


def test_packed_examples_are_counted():
    ids = jnp.asarray([[1, 1, 3, 3, 0, 0], [2, 2, 2, 2, 2, 2], [2, 7, 7, 7, 7, 0], [0, 0, 0, 0, 0, 0]])
    assert int(models.count_packed_examples(ids)) == 5


def test_prediction_follows_the_default_decoder_params_and_the_call(make_model, params, make_batch):
    defaults = models.DecoderParams(return_all_decodes=True, num_decodes=3)
    model = make_model(decode_fn=decoding.beam_search, default_decoder_params=defaults)
    batch = make_batch()
    tokens, aux = jax.jit(model.predict_batch_with_aux)(params, batch)
    assert tokens.shape == (4, 3, 7)
    assert np.all(np.diff(aux["scores"], axis=-1) >= 0)
    predict_best = jax.jit(lambda *args: model.predict_batch_with_aux(*args, return_all_decodes=False))
    best, best_aux = predict_best(params, batch)
    np.testing.assert_array_equal(best, tokens[:, -1])
    np.testing.assert_allclose(best_aux["scores"], aux["scores"][:, -1], rtol=1e-5)


def test_greedy_decodes_are_what_teacher_forcing_finds_likeliest(make_model, params, make_batch):
    model = make_model()
    batch = make_batch()
    tokens = jax.jit(model.predict_batch)(params, batch)  # topk=1 by default: greedy
    forced = {**batch, "decoder_input_tokens": jnp.pad(tokens, ((0, 0), (1, 0)))[:, :-1]}
    forced["decoder_target_tokens"] = jnp.maximum(tokens, 1)
    likeliest = jnp.argmax(jax.jit(model._compute_logits)(params, forced), axis=-1)
    real = np.asarray(tokens) > 0
    np.testing.assert_array_equal(np.asarray(tokens)[real], np.asarray(likeliest)[real])


def test_targets_can_be_forced_as_a_prompt_without_their_eos(make_model, params, make_batch):
    model = make_model()
    batch = make_batch()
    batch["decoder_input_tokens"] = jnp.asarray([[0, 5, 6, 1, 0, 0, 0]] * 4)
    predict = jax.jit(lambda *args: model.predict_batch_with_aux(*args, prompt_with_targets=True)[0])
    assert predict(params, batch)[:, :2].tolist() == [[5, 6]] * 4


def test_scores_are_log_likelihoods_of_the_targets(make_model, make_batch, with_logits, logits):
    batch = make_batch()
    log_probs = jax.nn.log_softmax(logits)
    targets = batch["decoder_target_tokens"]
    expected = np.take_along_axis(np.asarray(log_probs), np.asarray(targets)[..., None], axis=-1)[..., 0]
    expected = np.sum(expected * (np.asarray(targets) > 0), axis=-1)
    model = with_logits(make_model(z_loss=0.1, label_smoothing=0.1))
    np.testing.assert_allclose(model.score_batch(None, batch), expected, rtol=1e-5)


def test_scores_can_come_with_their_tokens(make_model, params, make_batch):
    model = make_model()
    score = jax.jit(lambda *args: model.score_batch(*args, return_intermediates=True))
    scores, intermediates = score(params, make_batch())
    np.testing.assert_allclose(
        np.sum(intermediates["decoder"]["token_scores"][0], axis=-1), scores, rtol=1e-6
    )


def test_packed_shapes_give_the_same_parameters(make_model, params):
    shape = (2, 8)
    names = ("input_tokens", "segment_ids", "positions")
    shapes = {f"{side}_{name}": shape for side in ("encoder", "decoder") for name in names}
    variables = jax.eval_shape(lambda: make_model().get_initial_variables(jax.random.PRNGKey(0), shapes))
    assert jax.tree.structure(variables["params"]) == jax.tree.structure(params)


def test_wrong_settings_get_one_line(make_model, params, make_batch):
    with pytest.raises(ValueError, match=r"loss_normalizing_factor='TOKENS'; .*AVERAGE_PER_SEQUENCE"):
        make_model(loss_normalizing_factor="TOKENS")
    with pytest.raises(ValueError, match="loss_normalizing_factor=0"):
        make_model(loss_normalizing_factor=0)
    model = make_model()
    with pytest.raises(ValueError, match=r"decoder_params\['alpha'\]: temperature_sample takes no such"):
        model.predict_batch_with_aux(params, make_batch(), decoder_params={"alpha": 0.6})
    key = jax.random.PRNGKey(0)
    with pytest.raises(ValueError, match="two random keys"):
        model.predict_batch_with_aux(params, make_batch(), rng=key, decoder_params={"decode_rng": key})


def test_metrics_that_lack_a_number_say_what_to_call():
    with pytest.raises(ValueError, match="replace_duration"):
        metrics_lib.TimeRate.from_model_output(numerator=3.0).compute()
    with pytest.raises(ValueError, match="replace_steps"):
        metrics_lib.StepsPerTime(steps=None).compute()
    merged = metrics_lib.Sum.from_model_output(jnp.arange(3)).merge(metrics_lib.Sum.from_model_output(4))
    assert int(merged.compute()) == 7
    zeros = metrics_lib.shape_obj_to_defined_obj(
        jax.eval_shape(lambda: metrics_lib.AveragePerStep.from_model_output(jnp.ones(3)))
    )
    assert float(zeros.total) == 0.0
