"""What the tests' students are: a description, and networks of random parameters, or made up."""

import dataclasses
import hashlib
import shutil

import numpy as np
from tiny_t5 import tiny_config

from stepdistill_jax.datasets.wordproblems import VOCABULARY_PATH
from stepdistill_jax.prediction import description
from stepdistill_jax.prediction.checkpoint_network import Written
from stepdistill_jax.prediction.vocabularies import SentencePieceModel

CHOICES = ("apples", "no", "a much longer answer of many words")
VOCAB_SIZE = 1024


def network_of(**sizes):
    """A tiny network of the embedded vocabulary, as student.json has it."""
    return {**dataclasses.asdict(tiny_config(vocab_size=VOCAB_SIZE, **sizes)), "dtype": "float32"}


def description_of(**changes):
    """A described student of the embedded vocabulary."""
    fields = {
        "task": "fruit_step_by_step",
        "method": "step_by_step",
        "network": network_of(num_encoder_layers=1, num_decoder_layers=1),
        "vocabulary": description.VocabularyFile(
            "sentencepiece",
            "vocabulary/vocabulary.model",
            hashlib.sha256(VOCABULARY_PATH.read_bytes()).hexdigest(),
        ),
        "label_prefix": "[label] ",
        "rationale_prefix": "[rationale] ",
        "feature_lengths": {"inputs": 40, "targets": 12},
        "learns_rationales": True,
        "choices": CHOICES,
        "dataset": {"name": "fruit", "inputs": "{question}"},
    }
    return description.StudentDescription(**{**fields, **changes})


def write_student(folder, described, *, vocabulary=VOCABULARY_PATH):
    import jax

    from stepdistill_jax.engine.checkpoint.checkpoint_writer import write_checkpoint
    from stepdistill_jax.engine.checkpoint.state_utils import flatten_state_dict
    from stepdistill_jax.engine.model import models, network
    from stepdistill_jax.engine.optim import optimizers

    if described.vocabulary.file is not None:
        (folder / "vocabulary").mkdir()
        shutil.copy(vocabulary, folder / described.vocabulary.file)
    description.write_description(folder, described)
    words = SentencePieceModel(vocabulary, 0)
    module = network.Transformer(network.T5Config(**described.network))
    model = models.EncoderDecoderModel(module, words, words, optimizers.sgd(learning_rate=0.0))
    shapes = {"encoder_input_tokens": (1, 8), "decoder_input_tokens": (1, 8)}
    params = jax.jit(lambda: model.get_initial_variables(jax.random.key(3), shapes)["params"])()
    # Twice as large as at the start of training: choices then differ by whole nats.
    arrays = {f"target/{name}": 2 * np.asarray(leaf) for name, leaf in flatten_state_dict(params).items()}
    write_checkpoint(folder / "checkpoint_7", arrays.items(), step=7)
    return folder


class MadeUpNetwork:
    """Finds the choice likelier the more often its first token is in a row; writes the row's own text, without its prefix."""

    def __init__(self, choices, vocabulary, max_target_tokens):
        self.firsts = [tokens[0] for tokens in choices]
        self.vocabulary, self.room = vocabulary, max_target_tokens
        self.asked = 0

    def score_choices(self, rows):
        self.asked += len(rows)
        return np.array([[float(row.count(first)) - 2 for first in self.firsts] for row in rows], np.float32)

    def write(self, rows):
        texts = [self.vocabulary.decode(row).partition("] ")[2] for row in rows]
        tokens = [self.vocabulary.encode(text) for text in texts]
        return [Written(ids[: self.room], -0.5, is_cut=len(ids) > self.room) for ids in tokens]

    def warm_up(self):
        pass
