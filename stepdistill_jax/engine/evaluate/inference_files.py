"""Files of predictions and scores: a JSON object a line, in T5X's layout."""

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
import seqio
import tensorflow as tf

from stepdistill_jax.base.whole_files import write_atomically
from stepdistill_jax.engine.data.contents import short_contents

_PRETOKENIZED = "_pretokenized"


def write_inferences_to_file(
    path: str,
    inferences: tuple[Sequence[Any], Mapping[str, Any]],
    task_ds: tf.data.Dataset,
    mode: str,
    vocabulary: seqio.Vocabulary | None = None,
    json_encoder_cls: type[json.JSONEncoder] = seqio.TensorAndNumpyEncoder,
    include_all_inputs: bool = False,
    input_fields_to_include: Sequence[str] | None = None,
    output_ids: bool = False,
) -> None:
    """Writes {"inputs": {…}, "prediction" or "score": …} for every example, and its "example_id" if it has one.

    Args:
      path: the file; it appears whole or not at all.
      inferences: (outputs, {name: auxiliary values}), both in the order of `task_ds`: token ids, or scores in nats.
      task_ds: the task's examples; their texts (`inputs_pretokenized`, …) go into "inputs".
      mode: 'predict', 'score' or 'predict_with_aux'; the last adds "aux".
      vocabulary: turns token ids into text.
      json_encoder_cls: encodes what JSON does not know.
      include_all_inputs: puts every feature into "inputs", token ids, too.
      input_fields_to_include: puts these features, and their texts, into "inputs".
      output_ids: adds "prediction_tokens", the token ids up to the first padding.
    """
    if include_all_inputs and input_fields_to_include is not None:
        raise ValueError(
            f"write_inferences_to_file: include_all_inputs and input_fields_to_include={input_fields_to_include}; set one."
        )
    outputs, aux = inferences
    lines = []
    for index, (example, output) in enumerate(zip(task_ds.as_numpy_iterator(), outputs, strict=True)):
        line: dict[str, Any] = {}
        if "example_id" in example:
            line["example_id"] = _plain(example["example_id"])
        shown = [name for name in example if include_all_inputs or _is_shown(name, input_fields_to_include)]
        line["inputs"] = {name: _plain(example[name]) for name in shown}
        if mode == "score":
            line["score"] = _plain(output)
        else:
            ids = [int(token) for token in output] if np.ndim(output) == 1 else np.asarray(output).tolist()
            line["prediction"] = (
                vocabulary.decode(ids) if np.ndim(output) == 1 else [vocabulary.decode(each) for each in ids]
            )
            if output_ids:
                line["prediction_tokens"] = ids[: ids.index(0)] if 0 in ids else ids
        if aux:
            line["aux"] = {name: jax.tree.map(_plain, values[index]) for name, values in aux.items()}
        lines.append(json.dumps(line, cls=json_encoder_cls, ensure_ascii=False) + "\n")
    write_atomically(Path(path), "".join(lines))


def _is_shown(name: str, fields: Sequence[str] | None) -> bool:
    if fields is None:
        return name.endswith(_PRETOKENIZED)
    return name in fields or name.removesuffix(_PRETOKENIZED) in fields


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.decode("utf-8")
    if isinstance(value, np.ndarray | np.generic | jax.Array):
        value = np.asarray(value)
        if value.dtype.kind in "OS":
            return [_plain(each) for each in value.tolist()] if value.ndim else _plain(value.item())
        return value.astype(np.float32).tolist() if value.dtype.kind not in "iub" else value.tolist()
    return value


def write_data_json(folder: Path, tasks: Iterable[seqio.Task], split: str) -> None:
    """Writes FOLDER/data.json: task-split -> the identities of the data that its files were made from. The first host writes."""
    if jax.process_index() == 0:
        path = folder / "data.json"
        known = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        known |= {f"{task.name}-{split}": short_contents(task.source, split) for task in tasks}
        write_atomically(path, json.dumps(known, indent=2) + "\n")


def output_folder(output_dir: str | os.PathLike[str]) -> Path:
    """The folder that an evaluation or inference writes to.

    Raises:
      ValueError: if it is a training run's own, whose config.gin and metrics.jsonl would be lost.
    """
    folder = Path(output_dir)
    if (folder / "run.json").exists():
        raise ValueError(
            f"output_dir={str(folder)!r} is a training run's own folder, whose config.gin and metrics.jsonl would be "
            f"lost; use a folder below it, e.g. {str(folder / 'test_eval')!r}."
        )
    return folder
