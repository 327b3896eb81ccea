"""Packed batches of labels and rationales, as StepByStepFeatureConverter names their features."""

from collections.abc import Mapping

import numpy as np

VOCAB_SIZE = 40


def pack(num_rows: int, *, tasks: tuple[int, ...], seed: int) -> dict[str, np.ndarray]:
    """Rows of random tokens; row r holds the first 1 + (r + 1) % len(tasks) of `tasks`, a label (1) or rationale (2) each."""
    rng = np.random.default_rng(seed)
    lengths = {"encoder": 20, "decoder": 18}
    names = {
        "encoder": ("encoder_input_tokens", "encoder_segment_ids", "encoder_positions"),
        "decoder": ("decoder_target_tokens", "decoder_segment_ids", "decoder_positions"),
    }
    batch = {name: np.zeros((num_rows, lengths[side]), np.int32) for side in names for name in names[side]}
    batch["decoder_input_tokens"] = np.zeros_like(batch["decoder_target_tokens"])
    batch["decoder_task_ids"] = np.zeros_like(batch["decoder_target_tokens"])
    for row in range(num_rows):
        start = {"encoder": 0, "decoder": 0}
        for segment, task in enumerate(tasks[: 1 + (row + 1) % len(tasks)], start=1):
            sizes = {
                "encoder": rng.integers(2, 7),
                "decoder": rng.integers(2, 4) if task == 1 else rng.integers(6, 11),
            }
            for side, size in sizes.items():
                where = (row, slice(start[side], start[side] + size))
                tokens, segment_ids, positions = names[side]
                batch[tokens][where] = [*rng.integers(2, VOCAB_SIZE, size - 1), 1]
                batch[segment_ids][where] = segment
                batch[positions][where] = np.arange(size)
                start[side] += size
                if side == "decoder":
                    batch["decoder_input_tokens"][where] = [0, *batch[tokens][where][:-1]]
                    batch["decoder_task_ids"][where] = task
    batch["decoder_loss_weights"] = (batch["decoder_target_tokens"] > 0).astype(np.int32)
    return batch


def only_task(batch: Mapping[str, np.ndarray], task: int) -> dict[str, np.ndarray]:
    """The batch with loss on one task's tokens only: the other's targets weigh nothing and carry no id."""
    kept = batch["decoder_task_ids"] == task
    return {
        **batch,
        "decoder_task_ids": batch["decoder_task_ids"] * kept,
        "decoder_loss_weights": batch["decoder_loss_weights"] * kept,
    }
