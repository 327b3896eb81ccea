"""The vocabularies of a task, and the rows that an embedding of one has; for gin files."""

from typing import Any, Protocol

from stepdistill_jax.engine.data.dataset_config import DatasetConfig, get_mixture_or_task


class HasVocabularies(Protocol):
    """What is compared with a task: a model's vocabularies, and its network, which has the embeddings."""

    input_vocabulary: Any
    output_vocabulary: Any
    module: Any


def get_vocabulary(cfg: DatasetConfig) -> tuple[Any, Any]:
    """(of the inputs, of the targets) of a config's task; one that has no inputs gives its targets' twice."""
    features = get_mixture_or_task(cfg).output_features
    return features["inputs" if "inputs" in features else "targets"].vocabulary, features[
        "targets"
    ].vocabulary


def round_vocab_size_to_multiple(vocabulary: Any, divisor: int = 128) -> int:
    """The vocabulary's number of ids, rounded up to a multiple: rows that split over devices and fill TPU lanes."""
    return -(-vocabulary.vocab_size // divisor) * divisor


def verify_matching_vocabs(cfg: DatasetConfig, model: HasVocabularies) -> None:
    """Checks that the model reads and writes the ids that the task makes.

    Raises:
      ValueError: if a vocabulary differs, or has more ids than the model has embeddings.
    """
    provider = get_mixture_or_task(cfg)
    pairs = {"inputs": model.input_vocabulary, "targets": model.output_vocabulary}
    for feature, of_model in pairs.items():
        if feature not in provider.output_features:  # a language model's text has targets alone
            continue
        of_task = provider.output_features[feature].vocabulary
        if of_task != of_model:
            raise ValueError(
                f"{cfg.mixture_or_task_name}: the vocabulary of '{feature}' is {_describe(of_task)}, the model's is "
                f"{_describe(of_model)}; set the gin macro VOCABULARY to the task's, or take the gin file of a student that "
                "has it (T5's: gin/dsbs_t5_mini.gin and larger ones)."
            )
        rows = getattr(getattr(model.module, "config", None), "vocab_size", None)
        if rows is not None and of_task.vocab_size > rows:
            raise ValueError(
                f"{cfg.mixture_or_task_name}: '{feature}' has {of_task.vocab_size} token ids, the model {rows} "
                f"embeddings; set T5Config.vocab_size to at least {of_task.vocab_size}."
            )


def _describe(vocabulary: Any) -> str:
    vocabulary = getattr(vocabulary, "stands_for", vocabulary)
    path = getattr(vocabulary, "sentencepiece_model_file", None) or getattr(
        vocabulary, "tokenizer_file", None
    )
    return f"{type(vocabulary).__name__}({path})" if path else type(vocabulary).__name__
