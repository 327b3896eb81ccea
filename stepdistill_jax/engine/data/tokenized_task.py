"""All examples of a task's split as token ids, by one run of SeqIO's pipeline."""

import dataclasses
import itertools
from collections.abc import Iterable, Iterator, Mapping

import numpy as np
import seqio
import tensorflow as tf

from stepdistill_jax.base.text_fit import TaskFit
from stepdistill_jax.engine.data.fit_counting import LABEL, PRETOKENIZED, FitCounter

EXAMPLE_ID = "example_id"  # a text by which the records of a task may name themselves
_EXAMPLES_A_CHUNK = 1024
_CHUNKS_OF_A_SAMPLE = 10


class TooManyExamples(ValueError):
    """A split is larger than the limit on what is indexed."""


@dataclasses.dataclass(frozen=True)
class TokenizedTask:
    """The examples of one task's split, token ids end to end.

    Attributes:
      tokens: feature -> int32 [total_tokens], in memory or mapped from a file.
      offsets: feature -> int64 [num_examples + 1]; example i has tokens[offsets[i]:offsets[i + 1]].
      ids: bytes [num_examples], what the records call themselves; None if they have no `example_id`.
      key: of the content, where it is cached; None where it cannot be told.
      fit: which of its texts the vocabulary changes, and which are cut.
    """

    name: str
    tokens: Mapping[str, np.ndarray]
    offsets: Mapping[str, np.ndarray]
    ids: np.ndarray | None = None
    key: str | None = None
    fit: TaskFit = dataclasses.field(default_factory=TaskFit)

    @property
    def num_examples(self) -> int:
        return len(next(iter(self.offsets.values()))) - 1

    def feature(self, name: str, index: int) -> np.ndarray:
        """int32 [length] of one example."""
        return self.gathered(name, np.array([index]))

    def lengths(self, name: str) -> np.ndarray:
        """int64 [num_examples], in tokens."""
        return np.diff(self.offsets[name])

    def sizes(self, name: str, indices: np.ndarray) -> np.ndarray:
        """int64 [len(indices)], tokens of some examples."""
        offsets = self.offsets[name]
        return offsets[indices + 1] - offsets[indices]

    def gathered(self, name: str, indices: np.ndarray) -> np.ndarray:
        """int32 [tokens] of some examples, end to end."""
        sizes = self.sizes(name, indices)
        before = np.cumsum(sizes) - sizes
        sources = np.arange(sizes.sum()) + np.repeat(self.offsets[name][indices] - before, sizes)
        return self.tokens[name][sources]

    def example_id(self, index: int) -> str:
        """What the record calls itself, else its place in the split."""
        return str(index) if self.ids is None else self.ids[index].decode("utf-8")


@dataclasses.dataclass(frozen=True)
class Chunk:
    """Some examples that follow one another.

    Attributes:
      tokens: feature -> int32 [tokens].
      lengths: feature -> int64 [examples].
      ids: bytes [examples], or None.
      texts: '<feature>_pretokenized' and 'learnt_label' -> bytes [examples], of those that the task has.
    """

    tokens: Mapping[str, np.ndarray]
    lengths: Mapping[str, np.ndarray]
    ids: np.ndarray | None
    texts: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)


def tokenized_chunks(
    task: seqio.Task,
    *,
    split: str,
    lengths: Mapping[str, int],
    use_cached: bool = False,
    max_examples: int | None = None,
) -> Iterator[Chunk]:
    """Runs SeqIO's pipeline over a split, in the order of the data, each feature trimmed to its length.

    Raises:
      ValueError: if the records cannot be read, or there are none.
      TooManyExamples: if there are more than `max_examples`; where the source does not know, once they have come.
    """
    known = task.source.num_input_examples(split) if max_examples is not None else None
    if known is not None and known > max_examples:
        raise TooManyExamples(f"{task.name}/{split} has {known} examples.")
    for feature in task.output_features.values():
        _ = (
            feature.vocabulary.vocab_size
        )  # reads its file; what is wrong with it would be buried in what TensorFlow traces
    dataset = task.get_dataset(
        sequence_length=dict(lengths), split=split, shuffle=False, num_epochs=1, use_cached=use_cached, seed=0
    )
    wanted = [EXAMPLE_ID, LABEL, *(name + PRETOKENIZED for name in lengths)]
    texts = [name for name in wanted if _is_text(dataset.element_spec.get(name))]

    def trimmed(example):
        # A shape that is known would make rows of one length dense.
        tokens = {
            name: tf.compat.v1.placeholder_with_default(
                tf.cast(example[name][:length], tf.int32), shape=[None]
            )
            for name, length in lengths.items()
        }
        return {**tokens, **{name: example[name] for name in texts}}

    num_examples = 0
    try:
        for rows in dataset.map(trimmed).ragged_batch(_EXAMPLES_A_CHUNK).prefetch(2):
            num_examples += int(rows[next(iter(lengths))].nrows())
            if max_examples is not None and num_examples > max_examples:
                raise TooManyExamples(f"{task.name}/{split} has more than {max_examples} examples.")
            values = {name: rows[name].numpy() for name in texts}
            yield Chunk(
                tokens={name: rows[name].values.numpy() for name in lengths},
                lengths={name: rows[name].row_lengths().numpy() for name in lengths},
                ids=values.pop(EXAMPLE_ID).astype(np.bytes_) if EXAMPLE_ID in values else None,
                texts=values,
            )
    except (tf.errors.DataLossError, tf.errors.NotFoundError) as error:
        raise ValueError(
            f"{task.name}/{split}: cannot be read: {error.message}. Write the records again."
        ) from error
    if not num_examples:
        raise ValueError(
            f"{task.name}/{split}: no examples; prepare the dataset again, or choose another split."
        )


def _is_text(spec: tf.TensorSpec | None) -> bool:
    return spec is not None and spec.dtype == tf.string and spec.shape.rank == 0


def counted(chunks: Iterable[Chunk], counter: FitCounter) -> Iterator[Chunk]:
    """The same chunks, without their texts once these are counted."""
    for chunk in chunks:
        counter.add(chunk.tokens, chunk.lengths, chunk.texts)
        yield dataclasses.replace(chunk, texts={})


def tokenize_task(
    task: seqio.Task,
    *,
    split: str,
    lengths: Mapping[str, int],
    use_cached: bool = False,
    max_examples: int | None = None,
) -> TokenizedTask:
    """A split tokenised into memory; raises as `tokenized_chunks` does."""
    counter = FitCounter(task, lengths)
    settings = {"split": split, "lengths": lengths, "use_cached": use_cached, "max_examples": max_examples}
    chunks = list(counted(tokenized_chunks(task, **settings), counter))
    return TokenizedTask(
        name=task.name,
        tokens={name: np.concatenate([chunk.tokens[name] for chunk in chunks]) for name in lengths},
        offsets={
            name: offsets_of(np.concatenate([chunk.lengths[name] for chunk in chunks])) for name in lengths
        },
        ids=np.concatenate([chunk.ids for chunk in chunks]) if chunks[0].ids is not None else None,
        fit=counter.fit,
    )


def fit_of_first(
    task: seqio.Task, *, split: str, lengths: Mapping[str, int], use_cached: bool = False
) -> tuple[TaskFit, int]:
    """(how the first examples of a split that is too large to tokenise fit, how many these are)."""
    chunks = tokenized_chunks(task, split=split, lengths=lengths, use_cached=use_cached)
    counter = FitCounter(task, lengths)
    num_examples = sum(
        len(chunk.lengths[next(iter(lengths))])
        for chunk in counted(itertools.islice(chunks, _CHUNKS_OF_A_SAMPLE), counter)
    )
    return counter.fit, num_examples


def offsets_of(lengths: np.ndarray) -> np.ndarray:
    """int64 [n + 1]: where each of n examples begins, and where the last one ends."""
    return np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths, dtype=np.int64)])
