"""What a run costs: operations of its training, and of one prediction.

Both count the matrix products of the traced model, two operations a multiply-add (`engine.step_costs`). That is about 6 and 2
operations a parameter and token (Kaplan et al. 2020, arXiv:2001.08361, section 2.1), without the embeddings, which cost none,
and with attention, which costs more the longer a row is.
"""

import dataclasses
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from stepdistill_jax.engine.data.dataset_config import DatasetConfig
from stepdistill_jax.engine.hardware.step_costs import matmul_flops
from stepdistill_jax.engine.model import base_model
from stepdistill_jax.engine.precompile import batch_shapes


def training_flops(
    model: base_model.BaseTransformerModel, cfg: DatasetConfig, params: Mapping[str, Any], *, steps: int
) -> int:
    """Of all steps: three forward passes each, over whole rows as `cfg` has them, padding included.

    Args:
      params: a ShapeDtypeStruct for every parameter.
    """
    return 3 * steps * _forward_flops(model, cfg, params)


def flops_per_prediction(
    model: base_model.BaseTransformerModel,
    cfg: DatasetConfig,
    params: Mapping[str, Any],
    *,
    predictions: Path,
) -> int:
    """Of one greedy answer of mean length to a question of mean length.

    One forward pass: with its cache, decoding token by token multiplies what teacher forcing does at once.

    Args:
      predictions: <task>-test-<step>.jsonl; 'decoded' is the whole text where 'prediction' is a part of it.
    """
    rows = [json.loads(line) for line in predictions.read_bytes().splitlines()]
    lengths = {
        "inputs": _mean_tokens(model.input_vocabulary, [row["inputs"] for row in rows]),
        "targets": _mean_tokens(
            model.output_vocabulary, [row.get("decoded") or row["prediction"] for row in rows]
        ),
    }
    one = dataclasses.replace(
        cfg, task_feature_lengths=lengths, batch_size=1, pack=False, length_buckets=None
    )
    return _forward_flops(model, one, params)


def _mean_tokens(vocabulary: Any, texts: list[str]) -> int:
    """Rounded up, the end of the sequence included."""
    return math.ceil(np.mean([len(vocabulary.encode(text)) + 1 for text in texts]))


def _forward_flops(
    model: base_model.BaseTransformerModel, cfg: DatasetConfig, params: Mapping[str, Any]
) -> int:
    shapes, types = batch_shapes(model, cfg)
    batch = {name: jax.ShapeDtypeStruct(shape, types[name]) for name, shape in shapes.items()}
    return matmul_flops(
        jax.make_jaxpr(lambda p, b: model.eval_fn(p, model.with_loss_weights(b)))(params, batch)
    )
