"""Trains the embedded SentencePiece vocabulary on the training problems: `python -m stepdistill_jax.datasets.wordproblems.train_vocabulary`.

The shipped `vocabulary.model` was made by this command with sentencepiece 0.2.3.
"""

import argparse
import io
import string
from pathlib import Path

from stepdistill_jax.datasets.wordproblems import VOCABULARY_PATH, generate
from stepdistill_jax.datasets.wordproblems.generator import LARGEST_NUMBER

VOCABULARY_SIZE = 1024  # a multiple of 128: whole tiles on accelerators
PREFIXES = ("[label]", "[rationale]", "predict:", "explain:")


def train_vocabulary(vocabulary_size: int = VOCABULARY_SIZE) -> bytes:
    """A serialized SentencePiece model over inputs, labels and solutions of the training split.

    Pad 0, end 1, unknown 2, no begin. Every number from 0 to 100 and every task prefix is one piece, space before
    it included, so that a small student copies a number by one token. All printable ASCII can be encoded.
    """
    import sentencepiece

    sentences = [
        text
        for problem in generate("train")
        for text in (problem.inputs, problem.label, problem.worked_solution)
    ]
    numbers = [f"▁{number}" for number in range(LARGEST_NUMBER + 1)]
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(sentences),
        model_writer=model,
        model_type="bpe",
        vocab_size=vocabulary_size,
        user_defined_symbols=numbers + [f"▁{prefix}" for prefix in PREFIXES],
        required_chars="".join(c for c in string.printable if c.isprintable() and c != " "),
        num_threads=1,
        pad_id=0,
        eos_id=1,
        unk_id=2,
        bos_id=-1,
        minloglevel=1,
    )
    return model.getvalue()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=VOCABULARY_PATH, help="where to write the model")
    output = parser.parse_args().output
    output.write_bytes(train_vocabulary())
    print(f"Wrote {output} ({output.stat().st_size:,} bytes).")


if __name__ == "__main__":
    main()
