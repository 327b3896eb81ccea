"""A SeqIO task in one order: label and rationale of the first word problem, then of the second, and so on.

A mixture draws its tasks at random, and T5X and our engine draw differently; this gives both the same batches.
"""

import seqio
import tensorflow as tf

import tasks  # noqa: F401


def _alternating(split: str, shuffle_files: bool = False, seed: int | None = None) -> tf.data.Dataset:
    label, rationale = (
        seqio.get_mixture_or_task(f"wordproblems_{part}").get_dataset(None, split, shuffle=False)
        for part in ("label", "rationale")
    )
    common = label.element_spec.keys() & rationale.element_spec.keys()
    parts = [
        part.map(lambda example: {name: example[name] for name in common}) for part in (label, rationale)
    ]
    return tf.data.Dataset.choose_from_datasets(parts, tf.data.Dataset.range(2).repeat())


seqio.TaskRegistry.add(
    "wordproblems_alternating",
    source=seqio.FunctionDataSource(_alternating, splits=("train", "validation")),
    preprocessors=[],
    output_features=seqio.get_mixture_or_task("wordproblems_label").output_features,
)
