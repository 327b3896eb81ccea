"""Inputs and targets of an example in one row, as SeqIO's converters for language models join them.

    inputs               = [9, 4, 6, 1]
    targets              = [3, 9, 1]
    task_ids             = [2, 2, 2]

    targets              = [9, 4, 6, 1, 3, 9, 1]    # joined
    inputs_width         = [4, 4, 4, 4, 4, 4, 4]
    inputs_width_add_pos = [5, 5, 5, 5, 5, 5, 5]
    task_ids             = [0, 0, 0, 0, 2, 2, 2]

Nothing is kept joined: a `JoinedTask` puts together what it is asked for, so a T5 and a language model with one vocabulary share
the token cache, and memory is that of the parts.
"""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Int32, Int64

from stepdistill_jax.engine.data.tokenized_task import TokenizedTask, offsets_of

# What SeqIO's converters read of a joined example beside its tokens: how many of them are inputs, and one more.
_WIDTHS = {"inputs_width": 0, "inputs_width_add_pos": 1}


def joined_features(task_features: Mapping[str, Any]) -> tuple[str, ...]:
    """The features of a joined example: tokens, widths, and what lies beside the targets, such as task ids."""
    return ("targets", *_WIDTHS, *(name for name in task_features if name not in ("inputs", "targets")))


@dataclasses.dataclass(frozen=True)
class JoinedTask(TokenizedTask):
    """A view of a task's examples, the inputs of each before its targets.

    Attributes:
      parts: the examples as they are kept. An example without targets is joined with one 0, as SeqIO does.
    """

    parts: TokenizedTask = None

    @functools.cached_property
    def _lengths(self) -> Int64[np.ndarray, " examples"]:
        return np.diff(next(iter(self.offsets.values())))

    def lengths(self, name: str) -> Int64[np.ndarray, " examples"]:
        return self._lengths  # one array for all features

    def gathered(self, name: str, indices: Int64[np.ndarray, " examples"]) -> Int32[np.ndarray, " tokens"]:
        inputs, targets = (self.parts.sizes(part, indices) for part in ("inputs", "targets"))
        padding = (targets == 0).astype(np.int64)
        if name in _WIDTHS:
            return np.repeat(inputs + _WIDTHS[name], inputs + targets + padding).astype(np.int32)
        part = np.repeat(
            np.tile(np.arange(3), len(indices)), np.stack([inputs, targets, padding], axis=1).reshape(-1)
        )
        values = np.zeros(len(part), np.int32)
        if name == "targets":
            values[part == 0] = self.parts.gathered("inputs", indices)
        values[part == 1] = self.parts.gathered(name, indices)
        return values


def joined(task: TokenizedTask) -> JoinedTask:
    """The view; a feature that is neither inputs nor targets is as long as the targets."""
    lengths = task.lengths("inputs") + np.maximum(task.lengths("targets"), 1)
    offsets = offsets_of(lengths)
    return JoinedTask(
        name=task.name,
        tokens={},
        offsets=dict.fromkeys(joined_features(task.offsets), offsets),
        ids=task.ids,
        key=task.key,
        fit=task.fit,
        parts=task,
    )
