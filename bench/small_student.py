"""A T5 v1.1 small of made-up support tickets in a minute or two on 2 cores: what bench/exports.py and bench/serving.py ask.

    python bench/small_student.py RUN VOCABULARY [--tickets 600]

Its layers are random and stay so; its output layer alone is fitted to the tickets, on the decoder's hidden states with noise. So it has T5 v1.1
small's sizes, and labels to tell apart. Training all of it from scratch takes hours on a CPU. VOCABULARY is T5's SentencePiece model. A
ticket has 20 to 100 tokens; words of its queue are in it, and, in one of five, a word of another queue.
"""

import argparse
import dataclasses
import hashlib
import json
import random
import shutil
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax

from stepdistill_jax.engine.checkpoint.checkpoint_writer import write_checkpoint
from stepdistill_jax.engine.checkpoint.state_utils import flatten_state_dict
from stepdistill_jax.engine.model.network import T5Config, Transformer
from stepdistill_jax.prediction.description import StudentDescription, VocabularyFile, write_description
from stepdistill_jax.prediction.vocabularies import SentencePieceModel

QUEUES = {
    "billing": "invoice refund charged payment receipt card price",
    "hardware": "printer screen keyboard laptop cable battery fan",
    "network": "wifi vpn router firewall connection dns proxy",
    "account": "password login locked username token reset profile",
    "travel": "flight hotel visa train booking luggage airport",
}
_WORDS = (
    "hello the since yesterday morning my team cannot work and we have tried again please help it shows a message on floor three "
    "every time after lunch thank you kind regards this is urgent for the customer who waits in the meeting room near the window"
)
CONFIG = T5Config(
    vocab_size=32128,
    emb_dim=512,
    num_heads=6,
    num_encoder_layers=8,
    num_decoder_layers=8,
    head_dim=64,
    mlp_dim=1024,
    mlp_activations=("gelu", "linear"),
    dropout_rate=0.0,
)
PREFIX, LENGTHS = "[label] ", {"inputs": 128, "targets": 8}
_BATCH, _STEPS, _OTHERS = 50, 600, 500  # tickets encoded at once; of the fit; tokens that are never right
_NOISE = 0.3  # of the hidden states' own spread over tickets


def ticket(number: int) -> dict[str, str]:
    """A ticket and its queue; the same for the same number."""
    rng = random.Random(number)
    queue, other = rng.sample(sorted(QUEUES), 2)
    words = rng.choices(_WORDS.split(), k=rng.randint(15, 70))
    hints = rng.choices(QUEUES[queue].split(), k=3)
    if number % 5 == 0:
        hints += rng.choices(QUEUES[other].split(), k=1)
    for hint in hints:
        words.insert(rng.randrange(len(words)), hint)
    return {"text": " ".join(words), "queue": queue}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("vocabulary", type=Path)
    parser.add_argument("--tickets", type=int, default=600)
    args = parser.parse_args()
    words = SentencePieceModel(args.vocabulary, 100)
    module = Transformer(CONFIG)
    tokens = np.ones([1, 8], np.int32)
    params = jax.jit(lambda: module.init(jax.random.key(0), tokens, tokens, tokens)["params"])()
    params["decoder"]["logits_dense"]["kernel"] = _fitted(module, params, words, args.tickets)
    _write(args.run, args.vocabulary, params)


def _fitted(module: Transformer, params: dict, words: SentencePieceModel, count: int) -> np.ndarray:
    """[embed, vocab]: the output layer that writes each ticket's queue; tokens that no queue has stay at 0."""
    rows = [ticket(number) for number in range(count)]
    inputs = _padded([[*words.encode(PREFIX + row["text"]), words.eos_id] for row in rows], LENGTHS["inputs"])
    targets = _padded([[*words.encode(row["queue"]), words.eos_id] for row in rows], LENGTHS["targets"])
    hidden = jax.jit(
        lambda inputs, targets: module.apply(
            {"params": params},
            inputs,
            jnp.pad(targets, [(0, 0), (1, 0)])[:, :-1],
            targets,
            enable_dropout=False,
            return_hidden=True,
        )
    )
    starts = range(0, count, _BATCH)
    states = [
        np.asarray(hidden(inputs[start : start + _BATCH], targets[start : start + _BATCH]))
        for start in starts
    ]
    is_token = targets > 0
    features, wanted = np.concatenate(states)[is_token], targets[is_token]  # [tokens, embed], [tokens]
    known = np.unique(wanted)
    columns, gold = np.zeros([CONFIG.emb_dim, len(known)], np.float32), np.searchsorted(known, wanted)
    optimizer = optax.adamw(0.02, weight_decay=1e-3)

    spread = features.std(axis=0)

    def loss(columns: jax.Array, key: jax.Array) -> jax.Array:
        noisy = features + _NOISE * spread * jax.random.normal(key, features.shape)
        logits = jnp.pad(noisy @ columns, [(0, 0), (0, _OTHERS)])
        return optax.softmax_cross_entropy_with_integer_labels(logits, gold).mean()

    @jax.jit
    def step(columns, state, key):
        value, gradient = jax.value_and_grad(loss)(columns, key)
        updates, state = optimizer.update(gradient, state, columns)
        return optax.apply_updates(columns, updates), state, value

    state = optimizer.init(columns)
    for key in jax.random.split(jax.random.key(1), _STEPS):
        columns, state, value = step(columns, state, key)
    print(f"{count:,} tickets, {len(known)} tokens: {float(value):.4f} nats a token")
    kernel = np.zeros([CONFIG.emb_dim, CONFIG.vocab_size], np.float32)
    kernel[:, known] = columns
    return kernel


def _padded(sequences: list[list[int]], length: int) -> np.ndarray:
    tokens = np.zeros([len(sequences), length], np.int32)
    for row, sequence in zip(tokens, sequences, strict=True):
        row[: len(sequence)] = sequence[:length]
    return tokens


def _write(run: Path, vocabulary: Path, params: dict) -> None:
    """A run's folder as training leaves it, with validation texts."""
    place = f"vocabulary/{vocabulary.name}"
    sha256 = hashlib.sha256(vocabulary.read_bytes()).hexdigest()
    (run / "vocabulary").mkdir(parents=True)
    (run / "predictions").mkdir()
    shutil.copy(vocabulary, run / place)
    description = StudentDescription(
        task="tickets_label",
        method="fine_tuning",
        network={**dataclasses.asdict(CONFIG), "dtype": "float32"},
        vocabulary=VocabularyFile("sentencepiece", place, sha256, extra_ids=100),
        label_prefix=PREFIX,
        rationale_prefix="",
        feature_lengths=LENGTHS,
        choices=tuple(QUEUES),
        dataset={"name": "tickets"},
    )
    write_description(run, description)
    rows = [{"choices": list(QUEUES)}]
    rows += [{"inputs": made["text"], "label": made["queue"]} for made in map(ticket, range(10_000, 12_000))]
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    (run / "predictions" / "choices-validation-1.jsonl").write_text(lines)
    arrays = {f"target/{name}": np.asarray(leaf) for name, leaf in flatten_state_dict(params).items()}
    write_checkpoint(run / "checkpoint_1", arrays.items(), step=1)


if __name__ == "__main__":
    main()
