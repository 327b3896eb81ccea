"""All examples of a task's split as token ids, by one run of SeqIO's pipeline."""

import dataclasses
from collections.abc import Iterator, Mapping

import numpy as np
import seqio
import tensorflow as tf

EXAMPLE_ID = "example_id"  # a text by which the records of a task may name themselves
_EXAMPLES_A_CHUNK = 1024


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
    """

    name: str
    tokens: Mapping[str, np.ndarray]
    offsets: Mapping[str, np.ndarray]
    ids: np.ndarray | None = None
    key: str | None = None

    @property
    def num_examples(self) -> int:
        return len(next(iter(self.offsets.values()))) - 1

    def feature(self, name: str, index: int) -> np.ndarray:
        """int32 [length] of one example."""
        start, stop = self.offsets[name][index : index + 2]
        return self.tokens[name][start:stop]

    def lengths(self, name: str) -> np.ndarray:
        """int64 [num_examples], in tokens."""
        return np.diff(self.offsets[name])

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
    """

    tokens: Mapping[str, np.ndarray]
    lengths: Mapping[str, np.ndarray]
    ids: np.ndarray | None


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
    dataset = task.get_dataset(
        sequence_length=dict(lengths), split=split, shuffle=False, num_epochs=1, use_cached=use_cached, seed=0
    )
    has_ids = EXAMPLE_ID in dataset.element_spec and dataset.element_spec[EXAMPLE_ID].dtype == tf.string

    def trimmed(example):
        # A shape that is known would make rows of one length dense.
        tokens = {
            name: tf.compat.v1.placeholder_with_default(
                tf.cast(example[name][:length], tf.int32), shape=[None]
            )
            for name, length in lengths.items()
        }
        return {**tokens, **({EXAMPLE_ID: example[EXAMPLE_ID]} if has_ids else {})}

    num_examples = 0
    try:
        for rows in dataset.map(trimmed).ragged_batch(_EXAMPLES_A_CHUNK).prefetch(2):
            num_examples += int(rows[next(iter(lengths))].nrows())
            if max_examples is not None and num_examples > max_examples:
                raise TooManyExamples(f"{task.name}/{split} has more than {max_examples} examples.")
            yield Chunk(
                tokens={name: rows[name].values.numpy() for name in lengths},
                lengths={name: rows[name].row_lengths().numpy() for name in lengths},
                ids=rows[EXAMPLE_ID].numpy().astype(np.bytes_) if has_ids else None,
            )
    except (tf.errors.DataLossError, tf.errors.NotFoundError) as error:
        raise ValueError(
            f"{task.name}/{split}: cannot be read: {error.message}. Write the records again."
        ) from error
    if not num_examples:
        raise ValueError(
            f"{task.name}/{split}: no examples; prepare the dataset again, or choose another split."
        )


def tokenize_task(
    task: seqio.Task,
    *,
    split: str,
    lengths: Mapping[str, int],
    use_cached: bool = False,
    max_examples: int | None = None,
) -> TokenizedTask:
    """A split tokenised into memory; raises as `tokenized_chunks` does."""
    chunks = list(
        tokenized_chunks(task, split=split, lengths=lengths, use_cached=use_cached, max_examples=max_examples)
    )
    return TokenizedTask(
        name=task.name,
        tokens={name: np.concatenate([chunk.tokens[name] for chunk in chunks]) for name in lengths},
        offsets={
            name: offsets_of(np.concatenate([chunk.lengths[name] for chunk in chunks])) for name in lengths
        },
        ids=np.concatenate([chunk.ids for chunk in chunks]) if chunks[0].ids is not None else None,
    )


def offsets_of(lengths: np.ndarray) -> np.ndarray:
    """int64 [n + 1]: where each of n examples begins, and where the last one ends."""
    return np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths, dtype=np.int64)])
