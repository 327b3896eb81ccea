"""A student in CTranslate2 is the student: log-probabilities, written answers, in any batch."""

import dataclasses

import jax
import numpy as np
import pytest
from flax import traverse_util

from stepdistill_jax.engine.model.network import T5Config, Transformer
from stepdistill_jax.exports.ctranslate2_folder import names_of_ids, write_ctranslate2
from stepdistill_jax.interop.lazy_array import LazyArray
from stepdistill_jax.interop.run_facts import RunFacts
from stepdistill_jax.interop.t5.parameter_names import parameters
from stepdistill_jax.interop.t5.sizes import T5Sizes
from stepdistill_jax.interop.t5.t5_checkpoint import T5Checkpoint
from stepdistill_jax.prediction.ctranslate2_network import CTranslate2Network

pytest.importorskip("ctranslate2")

VOCAB_SIZE, EOS_ID = 96, 1
# Inner width 12, embedding 8: as in T5 v1.1 small, they differ.
SIZES = T5Sizes(VOCAB_SIZE, 8, 2, 2, 3, 6, 12, ("gelu", "linear"), logits_via_embedding=False)
FAMILIES = {
    "t5": dataclasses.replace(SIZES, mlp_activations=("relu",), logits_via_embedding=True),
    "t5_1_1": SIZES,
    "umt5": dataclasses.replace(SIZES, relpos_bias_in_every_layer=True),
    "ul2": dataclasses.replace(SIZES, mlp_activations=("silu", "linear")),
}
RNG = np.random.default_rng(0)
CHOICES = [
    [*map(int, RNG.integers(3, VOCAB_SIZE, length)), EOS_ID] for length in (1, 3, 20, 2, 7)
]  # of unequal lengths, in no sorted order
ROWS = [[*map(int, RNG.integers(3, VOCAB_SIZE, length)), EOS_ID] for length in (5, 9, 200, 2, 31)]


def checkpoint_of(sizes, *, ends=1.0):
    """Random parameters; the log-probability of an end of sequence varies `ends` times as much as others'."""
    rng = np.random.default_rng(1)
    found = []
    for parameter in parameters(sizes):
        numbers = (0.3 * rng.normal(size=parameter.shape)).astype(np.float32)
        if parameter.name == "decoder/logits_dense/kernel":
            numbers[:, EOS_ID] *= ends
        read = lambda start, stop, numbers=numbers: numbers[start:stop]  # noqa: E731
        found.append((parameter, LazyArray(parameter.shape, numbers.dtype, read)))
    return T5Checkpoint(0, sizes, found, RunFacts())


def expected_log_probs(checkpoint, rows, choices):
    """[rows, choices] by our own network, all pairs in one padded batch."""
    module = Transformer(T5Config(**dataclasses.asdict(checkpoint.sizes)))
    arrays = {parameter.name: array.read() for parameter, array in checkpoint.parameters}
    variables = {"params": traverse_util.unflatten_dict(arrays, sep="/")}
    inputs = padded([row for row in rows for _ in choices])
    targets = padded([choice for _ in rows for choice in choices])
    shifted = np.pad(targets, [(0, 0), (1, 0)])[:, :-1]
    logits = module.apply(variables, inputs, shifted, targets, enable_dropout=False)
    log_probs = np.take_along_axis(np.asarray(jax.nn.log_softmax(logits)), targets[..., None], -1)[..., 0]
    return (log_probs * (targets > 0)).sum(axis=1).reshape(len(rows), len(choices))


def padded(sequences):
    tokens = np.zeros([len(sequences), max(map(len, sequences))], np.int32)
    for row, sequence in zip(tokens, sequences, strict=True):
        row[: len(sequence)] = sequence
    return tokens


@pytest.fixture(scope="module")
def network_of(tmp_path_factory):
    """network_of(checkpoint, quantization='float32', choices=CHOICES, **options) -> its CTranslate2Network."""

    def make(checkpoint, quantization="float32", *, choices=CHOICES, **options):
        folder = tmp_path_factory.mktemp("exports")
        names = names_of_ids([f"<{token}>" for token in range(90)], VOCAB_SIZE)
        write_ctranslate2(
            checkpoint, folder, tokens=names, eos_id=EOS_ID, unk_id=2, quantization=quantization
        )
        settings = {"max_target_tokens": 6, "batch_tokens": 512, "eos_id": EOS_ID, **options}
        return CTranslate2Network(folder, choices=choices, **settings)

    return make


@pytest.mark.parametrize("family", FAMILIES)
def test_choices_of_unequal_lengths_have_our_log_probabilities(network_of, family):
    checkpoint = checkpoint_of(FAMILIES[family])
    expected = expected_log_probs(checkpoint, ROWS[:2], CHOICES)
    exact = network_of(checkpoint).score_choices(ROWS[:2])
    np.testing.assert_allclose(exact, expected, atol=1e-4)
    rounded = network_of(checkpoint, "int8").score_choices(ROWS[:2])
    np.testing.assert_allclose(rounded, expected, atol=0.02 * np.abs(expected).max())


@pytest.mark.parametrize("quantization", ["float32", "int8"])
def test_a_row_alone_scores_as_it_does_among_long_ones(network_of, quantization):
    network = network_of(checkpoint_of(SIZES), quantization)
    together = network.score_choices(ROWS * 7)
    for number, row in enumerate(ROWS):
        np.testing.assert_allclose(network.score_choices([row])[0], together[number], atol=1e-4)


def test_what_a_beam_has_found_has_the_same_log_probability(network_of, monkeypatch):
    checkpoint = checkpoint_of(SIZES, ends=-8.0)
    plain = network_of(checkpoint, choices=[])
    # Choices that this student likes: what its own widest beam ends.
    found = plain._translate([plain._named(ROWS[0])], beam_size=16, num_hypotheses=16, max_decoding_length=3)
    ended = [names for names in found[0].hypotheses if len(names) > 1 and names[-1] == "<1>"]
    choices = [[plain._ids[name] for name in names] for names in ended[:3]]
    assert len(choices) == 3
    network = network_of(checkpoint, choices=choices)
    scored = []
    monkeypatch.setattr(
        network,
        "_translator",
        Counting(network._translator, scored),
    )
    scores = network.score_choices(ROWS)
    assert len(scored) < len(ROWS) * len(choices)  # the beams have found some
    np.testing.assert_allclose(scores, expected_log_probs(checkpoint, ROWS, choices), atol=1e-4)


class Counting:
    """A translator that notes which pairs are scored one by one."""

    def __init__(self, translator, scored):
        self._translator, self._scored = translator, scored

    def __getattr__(self, name):
        return getattr(self._translator, name)

    def score_batch(self, sources, targets, **options):
        self._scored.extend(zip(sources, targets, strict=True))
        return self._translator.score_batch(sources, targets, **options)


def test_one_choice_and_many_are_scored_without_beams(network_of):
    checkpoint = checkpoint_of(SIZES)
    many = [[token, EOS_ID] for token in range(3, 40)]
    for choices in (CHOICES[:1], many):
        scores = network_of(checkpoint, choices=choices).score_choices(ROWS[:1])
        np.testing.assert_allclose(scores, expected_log_probs(checkpoint, ROWS[:1], choices), atol=1e-4)


def test_an_answer_is_cut_where_it_has_no_end_and_says_so(network_of):
    cut = network_of(checkpoint_of(SIZES, ends=0.0), max_target_tokens=5).write(ROWS[:1])[0]
    assert (len(cut.tokens), cut.is_cut) == (5, True)
    written = network_of(checkpoint_of(SIZES, ends=-30.0), max_target_tokens=20).write(ROWS)
    whole = [answer for answer in written if not answer.is_cut]
    assert whole
    assert all(EOS_ID not in answer.tokens and len(answer.tokens) < 20 for answer in whole)
    assert all(answer.log_prob < 0 for answer in written)


def test_every_row_of_the_embedding_has_a_name_of_its_own():
    names = names_of_ids(["<pad>", "</s>", "a"], 6)
    assert names == ["<pad>", "</s>", "a", "<unused_3>", "<unused_4>", "<unused_5>"]


def test_a_feed_forward_block_that_it_has_not_is_one_line(network_of):
    with pytest.raises(
        ValueError, match=r"mlp_activations=\('softplus', 'linear'\): CTranslate2 has no such"
    ):
        network_of(checkpoint_of(dataclasses.replace(SIZES, mlp_activations=("softplus", "linear"))))


def test_a_damaged_folder_is_one_line(network_of, tmp_path):
    with pytest.raises(ValueError, match="is damaged"):
        CTranslate2Network(tmp_path, choices=[], max_target_tokens=5, batch_tokens=64, eos_id=1)
