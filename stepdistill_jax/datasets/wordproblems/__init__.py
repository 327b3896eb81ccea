"""The embedded dataset: our own arithmetic word problems, and the vocabulary trained on them."""

from pathlib import Path

from stepdistill_jax.datasets.wordproblems.generator import SPLIT_SIZES, WordProblem, generate

VOCABULARY_PATH = Path(__file__).with_name("vocabulary.model")

__all__ = ["SPLIT_SIZES", "VOCABULARY_PATH", "WordProblem", "generate"]
