"""The vocabularies of a task, and the rows that an embedding of one has; for gin files."""

import seqio

from stepdistill_jax.engine.data.dataset_config import DatasetConfig, get_mixture_or_task


def get_vocabulary(cfg: DatasetConfig) -> tuple[seqio.Vocabulary, seqio.Vocabulary]:
    """(of the inputs, of the targets) of a config's task; one that has no inputs gives its targets' twice."""
    features = get_mixture_or_task(cfg).output_features
    return features["inputs" if "inputs" in features else "targets"].vocabulary, features[
        "targets"
    ].vocabulary


def round_vocab_size_to_multiple(vocabulary: seqio.Vocabulary, divisor: int = 128) -> int:
    """The vocabulary's number of ids, rounded up to a multiple: rows that split over devices and fill TPU lanes."""
    return -(-vocabulary.vocab_size // divisor) * divisor
