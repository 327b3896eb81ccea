"""How long a run's training texts are in tokens, and how many rows a pass over them fills."""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

MOST_EXAMPLES = 65_536  # of each task are measured; a task's further ones are taken to be like them
_UNCUT = 1_000_000  # tokens, which nothing reaches
_ROUNDED_TO = 8
_PERCENTILE = 99
# The longest text sets the length where it is at most this many times the 99th percentile, so that nothing is cut.
_STRETCH = 1.5


@dataclasses.dataclass(frozen=True)
class TaskTexts:
    """The training examples of one task.

    Attributes:
      name: of the SeqIO task.
      lengths: 'inputs' and 'targets' -> int64 [measured examples], in tokens, the end of the sequence included.
      num_examples: all of them.
      learns_labels: whether its targets hold the label, which must not be cut.
    """

    name: str
    lengths: Mapping[str, np.ndarray]
    num_examples: int
    learns_labels: bool


@dataclasses.dataclass(frozen=True)
class Length:
    """A row's length for a feature: `tokens`, and `note`, which says what it is by."""

    tokens: int
    note: str


def measure(mixture_or_task_name: str) -> list[TaskTexts]:
    """Tokenises the train split of each task of a mixture, as gin has configured vocabulary, teacher and share."""
    import seqio

    provider = seqio.get_mixture_or_task(mixture_or_task_name)
    return [_measured(task) for task in seqio.get_subtasks(provider)]


def _measured(task) -> TaskTexts:
    from stepdistill_jax.engine.data.tokenized_task import tokenized_chunks

    lengths: dict[str, list[np.ndarray]] = {"inputs": [], "targets": []}
    count = 0
    for chunk in tokenized_chunks(task, split="train", lengths=dict.fromkeys(lengths, _UNCUT)):
        for name, values in lengths.items():
            values.append(chunk.lengths[name])
        count += len(chunk.lengths["inputs"])
        if count >= MOST_EXAMPLES:
            break
    known = task.source.num_input_examples("train") if count >= MOST_EXAMPLES else count
    joined = {name: np.concatenate(values).astype(np.int64) for name, values in lengths.items()}
    return TaskTexts(task.name, joined, max(known or count, count), bool(task.metric_fns))


def inputs_length(tasks: Sequence[TaskTexts], *, most: int) -> Length:
    """Of the inputs: the longest, or where a few are far longer than all others, the 99th percentile; `most` at most."""
    return _length(np.concatenate([task.lengths["inputs"] for task in tasks]), most, "training input")


def targets_length(tasks: Sequence[TaskTexts], *, most: int) -> Length:
    """Of the targets: as long as every target with a label, and as the rationales by the rule of `inputs_length`."""
    labels = [task.lengths["targets"] for task in tasks if task.learns_labels]
    others = [task.lengths["targets"] for task in tasks if not task.learns_labels]
    longest = _rounded(max(values.max() for values in labels)) if labels else 0
    if not others:
        return Length(longest, f"the longest target has {max(values.max() for values in labels):,}")
    found = _length(np.concatenate(others), most, "rationale")
    if found.tokens >= longest:
        return found
    return Length(longest, f"the longest label has {max(values.max() for values in labels):,}")


def rows_of_a_pass(tasks: Sequence[TaskTexts], lengths: Mapping[str, int], *, joined: bool = False) -> int:
    """About how many packed rows hold every example once; tasks of a mixture are drawn equally often.

    Args:
      lengths: 'inputs' and 'targets' -> tokens of a row.
      joined: whether a row holds inputs and targets one behind the other, as a language model reads them.
    """
    most = max(task.num_examples for task in tasks)
    rows = 0.0
    for task in tasks:
        measured = len(task.lengths["inputs"])
        cut = [np.minimum(task.lengths[name], lengths[name]) for name in ("inputs", "targets")]
        full = [lengths["inputs"], lengths["targets"]]
        if joined:
            cut, full = [cut[0] + cut[1]], [sum(full)]
        rows += _rows(np.stack(cut, axis=1), np.array(full)) * most / measured
    return max(1, round(rows))


def _rows(lengths: np.ndarray, full: np.ndarray) -> int:
    """Rows that examples fill one after the other. lengths: int64 [examples, sides]; full: int64 [sides], both in tokens."""
    rows, used = 1, np.zeros_like(full)
    for example in lengths:
        if (used + example > full).any():
            rows, used = rows + 1, np.zeros_like(full)
        used = used + example
    return rows


def _length(lengths: np.ndarray, most: int, what: str) -> Length:
    longest, usual = int(lengths.max()), int(np.percentile(lengths, _PERCENTILE))
    tokens = longest if longest <= _STRETCH * usual else usual
    tokens = min(_rounded(tokens), most)
    num_cut = int((lengths > tokens).sum())
    if not num_cut:
        return Length(tokens, f"the longest {what} has {longest:,}")
    share = 100 * num_cut / len(lengths)
    return Length(tokens, f"{share:.2g} % of the {what}s are longer, up to {longest:,}, and are cut")


def _rounded(tokens: int) -> int:
    return -(-int(tokens) // _ROUNDED_TO) * _ROUNDED_TO
