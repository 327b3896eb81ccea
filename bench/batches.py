"""Token ids of real examples as batches: one example a row, or packed. NumPy only: every contender imports it."""

import json
import math
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

Example = tuple[list[int], list[int]]  # inputs, targets; both end with EOS
Batch = dict[str, np.ndarray]


def load(path: str) -> dict[str, list[Example]]:
    """{'label': examples, 'rationale': examples}."""
    return json.loads(Path(path).read_text(encoding="utf-8"))


def alternating(examples: dict[str, list[Example]]) -> list[Example]:
    """A label, a rationale, a label, …: the mixture that a student learns from."""
    pairs = zip(examples["label"], examples["rationale"], strict=False)
    return [example for pair in pairs for example in pair]


def longest(examples: Iterable[Example]) -> tuple[int, int]:
    """Lengths of the longest inputs and of the longest targets."""
    inputs, targets = zip(*((len(i), len(t)) for i, t in examples), strict=True)
    return max(inputs), max(targets)


def num_tokens(batch: Batch) -> int:
    """Tokens of a batch that are not padding, inputs and targets."""
    return sum(int(np.count_nonzero(batch[n])) for n in ("encoder_input_tokens", "decoder_target_tokens"))


def training_batches(
    examples: dict[str, list[Example]], *, packed: bool, num_examples: int, num_rows: int
) -> list[Batch]:
    """T5X's features of the mixture, all batches of one shape.

    Args:
      packed: `num_rows` rows a batch with as many examples in each as fit, as T5X's finetune.gin has it; else one
        example a row, as long as the longest, `num_examples` a batch.
    """
    mixture = alternating(examples)
    if packed:
        return list(packed_batches(mixture, num_rows, _packed_lengths(mixture)))
    groups = zip(*[iter(mixture)] * num_examples, strict=False)
    return [padded(list(group), longest(mixture)) for group in groups]


def _packed_lengths(mixture: list[Example]) -> tuple[int, int]:
    """Inputs of four times the longest, targets in the mixture's proportion and a tenth more: both fill up together."""
    inputs, targets = longest(mixture)
    num_inputs, num_targets = (sum(len(example[side]) for example in mixture) for side in (0, 1))
    room = 1.1 * 4 * inputs * num_targets / num_inputs
    return 4 * inputs, max(targets, 16 * math.ceil(room / 16))


def padded(examples: list[Example], lengths: tuple[int, int]) -> Batch:
    """T5X's features, one example a row."""
    batch = packed_rows([[example] for example in examples], lengths)
    return {name: rows for name, rows in batch.items() if not name.endswith(("segment_ids", "positions"))}


def packed_batches(examples: list[Example], num_rows: int, lengths: tuple[int, int]) -> Iterator[Batch]:
    """Batches of `num_rows` rows, each example put into the first row that has room; the last batch is dropped."""
    rows: list[list[Example]] = [[] for _ in range(num_rows)]
    for example in examples:
        row = next((row for row in rows if _fits([*row, example], lengths)), None)
        if row is None:
            yield packed_rows(rows, lengths)
            rows = [[] for _ in range(num_rows)]
            row = rows[0]
        row.append(example)


def _fits(row: list[Example], lengths: tuple[int, int]) -> bool:
    return all(sum(len(example[side]) for example in row) <= lengths[side] for side in (0, 1))


def packed_rows(rows: list[list[Example]], lengths: tuple[int, int]) -> Batch:
    """T5X's features of rows that hold several examples each."""
    tokens, segments, positions = (
        [np.zeros((len(rows), length), np.int32) for length in lengths] for _ in range(3)
    )
    shifted = np.zeros_like(tokens[1])
    for number, row in enumerate(rows):
        ends = [0, 0]
        for segment, example in enumerate(row, start=1):
            for side, ids in enumerate(example):
                place = slice(ends[side], ends[side] + len(ids))
                tokens[side][number, place] = ids
                segments[side][number, place] = segment
                positions[side][number, place] = np.arange(len(ids))
                if side == 1:
                    shifted[number, place] = [0, *ids[:-1]]
                ends[side] += len(ids)
    batch = {
        "encoder_input_tokens": tokens[0],
        "decoder_input_tokens": shifted,
        "decoder_target_tokens": tokens[1],
        "decoder_loss_weights": (tokens[1] > 0).astype(np.int32),
    }
    for side, name in enumerate(("encoder", "decoder")):
        batch[f"{name}_segment_ids"], batch[f"{name}_positions"] = segments[side], positions[side]
    return batch
