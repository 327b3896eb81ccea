"""Choices packed into shared decoder rows are as likely as each one scored by itself."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import seqio
from tiny_llama import prefix_batch, tiny_llama

from stepdistill_jax.engine.model import llama, models
from stepdistill_jax.engine.optim import optimizers
from stepdistill_jax.prediction import choice_scoring
from stepdistill_jax.prediction.predictor import Predictor

pytestmark = pytest.mark.usefixtures("quick_compilation")


def test_choices_are_packed_as_the_docstring_shows():
    rows = choice_scoring.pack_choices([[7, 1], [8, 9, 1]])
    assert rows.targets.tolist() == [[7, 1, 8, 9, 1]]
    assert rows.inputs.tolist() == [[0, 7, 0, 8, 9]]
    assert rows.segments.tolist() == [[1, 1, 2, 2, 2]]
    assert rows.prefixes.tolist() == [[0, 1, 0, 2, 3]]
    assert rows.offsets.tolist() == [[0, 1, 0, 1, 2]]
    assert rows.places.tolist() == [[0, 1, 3, 4]]


def test_more_choices_than_a_row_holds_take_further_rows():
    rows = choice_scoring.pack_choices([[5] * 59 + [1]] * 3 + [[6] * 200])
    assert rows.segments.shape == (3, 200)
    assert [sorted(set(row.tolist()) - {0}) for row in rows.segments] == [[1, 2], [3], [4]]


@pytest.fixture(scope="module")
def predictor(student_folder):
    return Predictor(student_folder(), batch_tokens=512)


def scores_apart(predictor, texts):
    """log p of every choice, by the engine's `score_batch` of a row for each text and choice."""
    student, network = predictor.student, predictor.student.network
    words = student.vocabulary

    def padded(rows):
        length = max(map(len, rows))
        return jnp.array([row + [0] * (length - len(row)) for row in rows])

    def tokens(text):
        return [*words.encode(text), words.eos_id]

    pairs = [(text, choice) for text in texts for choice in predictor.choices]
    targets = padded([tokens(choice) for _, choice in pairs])
    batch = {
        "encoder_input_tokens": padded([tokens("[label] " + text) for text, _ in pairs]),
        "decoder_target_tokens": targets,
        "decoder_input_tokens": jnp.pad(targets, ((0, 0), (1, 0)))[:, :-1],
        "decoder_loss_weights": (targets > 0).astype(jnp.int32),
    }
    scores = jax.jit(network._model.score_batch)(network.params, batch)
    return np.asarray(scores).reshape(len(texts), -1)


def test_choices_of_different_lengths_are_scored_as_each_by_itself(predictor):
    texts = ["Mia has 12 apples.", "no", "Tom buys 3 pears and 4 more, he says."]
    lengths = [len(predictor.student.vocabulary.encode(choice)) for choice in predictor.choices]
    assert max(lengths) > 2 * min(lengths)
    expected = scores_apart(predictor, texts)
    assert np.ptp(expected, axis=1).min() > 1
    np.testing.assert_allclose(predictor.log_probs(texts), expected, rtol=1e-5, atol=1e-4)


def test_choices_in_several_rows_are_scored_the_same(student_folder, predictor, monkeypatch):
    monkeypatch.setattr(choice_scoring, "_ROW_TOKENS", 8)
    in_rows = Predictor(student_folder(), batch_tokens=512)
    assert len(in_rows.student.network._choices.targets) > 1
    texts = ["Mia has 12 apples.", "no"]
    np.testing.assert_allclose(in_rows.log_probs(texts), predictor.log_probs(texts), rtol=1e-5, atol=1e-4)


def test_parameters_that_are_split_over_devices_score_the_same(student_folder, predictor):
    split = Predictor(student_folder(), batch_tokens=512, num_partitions=2)
    texts = ["Mia has 12 apples.", "no"]
    np.testing.assert_allclose(split.log_probs(texts), predictor.log_probs(texts), rtol=1e-5, atol=1e-4)


def test_a_text_has_the_same_label_alone_and_among_others(predictor):
    text, others = (
        "Mia has 12 apples.",
        [f"{n} pears and some more of them, {n} or {n + 1}." for n in range(31)],
    )
    [alone] = predictor([text])
    among = predictor([*others[:9], text, *others[9:]])[9]
    assert among.label == alone.label
    assert among.probabilities == pytest.approx(alone.probabilities, abs=1e-5)


def test_a_written_answer_is_that_of_the_engine_and_has_its_probability(student_folder):
    predictor = Predictor(student_folder(choices=()), batch_tokens=512)
    student, network = predictor.student, predictor.student.network
    words = student.vocabulary
    row = [*words.encode("[label] Mia has 12 apples."), words.eos_id]
    [written] = network.write([row])
    assert len(written.tokens) <= 12
    targets = written.tokens + ([] if written.is_cut else [words.eos_id])
    batch = {
        "encoder_input_tokens": jnp.array([row]),
        "decoder_target_tokens": jnp.array([targets]),
        "decoder_input_tokens": jnp.array([[0, *targets[:-1]]]),
        "decoder_loss_weights": jnp.ones([1, len(targets)]),
    }

    @jax.jit
    def forced(params, batch):
        return network._model.score_batch(params, batch)[0], network._model._compute_logits(params, batch)

    log_prob, logits = forced(network.params, batch)
    assert written.log_prob == pytest.approx(float(log_prob), abs=1e-3)
    assert np.argmax(logits[0], axis=-1).tolist() == targets  # greedy


def test_warming_up_leaves_nothing_to_compile(student_folder):
    predictor = Predictor(student_folder(), batch_tokens=64)
    predictor.warm_up()
    compiled = set(predictor.student.network._compiled)
    assert sorted((rows, length) for _, rows, length in compiled) == [
        (8, 16),
        (8, 32),
        (8, 40),
    ]  # eight devices
    predictor(["no", "Mia has 12 apples and buys 5 more of them, she says"] * 5)
    assert set(predictor.student.network._compiled) == compiled


def test_a_checkpoint_that_is_not_there_is_named(student_folder):
    with pytest.raises(FileNotFoundError, match="has no checkpoint of step 3; it has 7"):
        Predictor(student_folder(), step=3)


@pytest.mark.parametrize("family", ["llama", "gemma3", "qwen2"])
def test_a_language_model_goes_on_from_the_inputs_with_each_choice(family):
    module = llama.Llama(tiny_llama(family))
    inputs = [[5, 6, 7, 8, 9, 1], [11, 1], [12, 13, 14, 1]]
    choices = [[7, 1], [8, 9, 1], [20, 21, 22, 23, 1]]
    tokens = jnp.asarray([row + [0] * (7 - len(row)) for row in inputs])
    params = module.init(jax.random.PRNGKey(0), tokens, tokens, enable_dropout=False)["params"]
    params = jax.tree.map(lambda leaf: 4 * leaf if leaf.ndim == 2 else leaf, params)
    found = jax.jit(
        lambda: choice_scoring.choice_log_probs(module, params, tokens, choice_scoring.pack_choices(choices))
    )()
    words = seqio.PassThroughVocabulary(size=40, eos_id=1)
    model = models.DecoderOnlyModel(module, words, optimizers.sgd(0.0))
    pairs = [(asked, choice) for asked in inputs for choice in choices]
    alone = prefix_batch([asked for asked, _ in pairs], [choice for _, choice in pairs], 12)
    expected = np.asarray(jax.jit(model.score_batch)(params, alone)).reshape(3, 3)
    assert np.ptp(expected, axis=1).min() > 1
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)
