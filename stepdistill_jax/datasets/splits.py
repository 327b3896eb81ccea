"""The paper's splits, row for row (Hsieh et al. 2023, Table 3), from the published ones."""

import math
from collections.abc import Mapping, Sequence
from typing import TypeVar

import numpy as np

T = TypeVar("T")


def hold_out_validation(splits: Mapping[str, Sequence[T]]) -> dict[str, Sequence[T]]:
    """A tenth of 'train' becomes 'validation', as the authors' code cuts it; other splits stay.

    It calls Hugging Face datasets' train_test_split(test_size=0.1, seed=0): of numpy's default_rng(0).permutation(n), the
    first ceil(0.1 n) rows are validation, the rest train, in the permutation's order.
    """
    train = splits["train"]
    order = np.random.default_rng(0).permutation(len(train))
    num_validation = math.ceil(0.1 * len(train))
    cut = {
        "train": [train[i] for i in order[num_validation:]],
        "validation": [train[i] for i in order[:num_validation]],
    }
    return {**splits, **cut}


def svamp_published(rows: Sequence[T]) -> dict[str, Sequence[T]]:
    """SVAMP.json's 1,000 problems as the authors cut them: by numpy's RandomState(0), the first 800 train, 200 test."""
    order = np.random.RandomState(0).permutation(len(rows))
    return {"train": [rows[i] for i in order[:800]], "test": [rows[i] for i in order[800:]]}
