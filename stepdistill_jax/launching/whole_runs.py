"""What makes a run whole: student.json and the vocabulary, written into it when training starts.

The engine calls `describe` (`train.describe_fn`) and knows nothing of datasets; what a run's folder then holds is data alone.
"""

import dataclasses
import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax.numpy as jnp
from etils import epath

from stepdistill_jax.base.messages import say_once
from stepdistill_jax.base.whole_files import whole_file
from stepdistill_jax.datasets import LABEL_TASK_ID, RATIONALE_TASK_ID, Dataset, described, scoring, spelling
from stepdistill_jax.datasets.prefixes import prefix
from stepdistill_jax.engine.data.dataset_config import DatasetConfig
from stepdistill_jax.engine.model import base_model, llama, models, network
from stepdistill_jax.launching.task_modules import own_modules
from stepdistill_jax.prediction.description import (
    STUDENT,
    TOKENIZERS,
    StudentDescription,
    VocabularyFile,
    read_description,
    write_description,
)
from stepdistill_jax.prediction.portable import choice_tokens

_VOCABULARY = "vocabulary"  # the folder, below a run's
_HOW_COMPUTED = ("attention", "logits_dot_in_fp32")


class NotPortable(ValueError):
    """A student that data alone do not describe."""


def describe(
    run: Path,
    model: base_model.BaseTransformerModel,
    cfg: DatasetConfig,
    content: Mapping[str, Any],
    begins_with: str | os.PathLike[str] | None = None,
) -> None:
    """Writes RUN/student.json and RUN/vocabulary/, or says why data alone can't tell what the student is.

    Says so where the checkpoint that it begins with is of a student of another vocabulary.

    Raises:
      ValueError: if the student could not tell two choices apart.
    """
    try:
        network_fields = _network_fields(model)
        vocabulary = _write_vocabulary(run, model)
    except NotPortable as error:
        say_once(f"{run} is not whole: {error}; to predict with it takes this machine's code.")
        return
    if begins_with is not None:
        _say_other_vocabulary(vocabulary, Path(begins_with))
    description = _description(
        cfg,
        network=network_fields,
        vocabulary=vocabulary,
        model=model,
        content=content,
    )
    choice_tokens(description, model.output_vocabulary)
    write_description(run, description)


def _say_other_vocabulary(vocabulary: VocabularyFile, checkpoint: Path) -> None:
    """Ids of one vocabulary are other words in another, and as good as random parameters."""
    if not (checkpoint.parent / STUDENT).is_file():
        return
    earlier = read_description(checkpoint.parent).vocabulary
    if (earlier.kind, earlier.sha256) != (vocabulary.kind, vocabulary.sha256):
        say_once(
            f"{checkpoint} has learnt the ids of {earlier.file or earlier.kind}, and this run reads {vocabulary.file or vocabulary.kind}: "
            "they mean other words. Name that vocabulary (datasets.vocabulary_choice.file), or begin with another checkpoint."
        )


def _description(
    cfg: DatasetConfig,
    *,
    network: Mapping[str, Any],
    vocabulary: VocabularyFile,
    model: base_model.BaseTransformerModel,
    content: Mapping[str, Any],
) -> StudentDescription:
    task = str(cfg.mixture_or_task_name)
    shared = {
        "task": task,
        "network": network,
        "vocabulary": vocabulary,
        "label_prefix": prefix(LABEL_TASK_ID),
        "rationale_prefix": prefix(RATIONALE_TASK_ID),
        "feature_lengths": {name: cfg.task_feature_lengths[name] for name in ("inputs", "targets")},
        "line_break": spelling.line_break_word(model.input_vocabulary),
        "task_modules": tuple(own_modules()),
        "content": content,
    }
    found = scoring.dataset_of_task(task)
    if found is None:
        return StudentDescription(**shared, own_task=True, learns_rationales=True)
    dataset, method = found
    return StudentDescription(
        **shared,
        method="" if method is None else method.name,
        learns_rationales=method is None or method.has_rationale_task,
        answer_marker=scoring.marker_of(dataset, method),
        choices=dataset.choices,
        label_words=dict(dataset.label_words),
        metric=dataset.metric,
        dataset=_said_of(dataset),
    )


def _said_of(dataset: Dataset) -> dict[str, Any]:
    """DATA/<name>/dataset.json of a dataset that was prepared from a table, else what its task file says."""
    path = described.path_of(dataset.name)
    return described.read(path) if path.is_file() else described.as_data(dataset)


def _network_fields(model: base_model.BaseTransformerModel) -> dict[str, Any]:
    """The fields of its config, as JSON has them: without how it is computed where nothing is set, which older versions do not know."""
    module = model.module
    config = getattr(module, "config", None)
    config_cls = {network.Transformer: network.T5Config, llama.Llama: llama.LlamaConfig}.get(type(module))
    fields = [field.name for field in dataclasses.fields(config_cls)] if config_cls else []
    if not fields or not isinstance(config, config_cls) or len(dataclasses.fields(config)) != len(fields):
        kind = type(module)
        raise NotPortable(f"its network is {kind.__module__}.{kind.__name__}, not ours")
    if isinstance(model, models.DecoderOnlyModel) and model.inputs_bidirectional_attention:
        raise NotPortable("its inputs see each other in both directions")
    named = [activation for activation in config.mlp_activations if not isinstance(activation, str)]
    if named:
        raise NotPortable(f"its activation {named[0]!r} has no name")
    defaults = {field.name: field.default for field in dataclasses.fields(config_cls)}
    unset = [name for name in _HOW_COMPUTED if getattr(config, name) == defaults[name]]
    return {
        **{name: getattr(config, name) for name in fields if name not in unset},
        "dtype": jnp.dtype(config.dtype).name,
        "mlp_activations": list(config.mlp_activations),
    }


def _write_vocabulary(run: Path, model: base_model.BaseTransformerModel) -> VocabularyFile:
    """Copies the vocabulary's file into the run."""
    inputs, outputs = (
        getattr(words, "stands_for", words) for words in (model.input_vocabulary, model.output_vocabulary)
    )
    if inputs != outputs:
        raise NotPortable("its inputs and its targets have different vocabularies")
    if type(inputs).__name__ == "ByteVocabulary":
        return VocabularyFile("bytes")
    if (file := getattr(inputs, "tokenizer_file", None)) is not None:
        return VocabularyFile(TOKENIZERS, *_copied(run, file), start=inputs.start, end=inputs.end)
    if (file := getattr(inputs, "sentencepiece_model_file", None)) is not None:
        return VocabularyFile("sentencepiece", *_copied(run, file), extra_ids=int(inputs.extra_ids))
    raise NotPortable(
        f"its vocabulary is a {type(inputs).__name__}: neither SentencePiece's, nor a tokenizer.json, nor bytes"
    )


def _copied(run: Path, file: str | os.PathLike[str]) -> tuple[str, str]:
    """(place below the run, sha256) of a vocabulary's file, copied into the run."""
    content = epath.Path(os.fspath(file)).read_bytes()
    place = f"{_VOCABULARY}/{os.path.basename(os.fspath(file))}"
    copy = run / place
    if not copy.is_file() or copy.read_bytes() != content:
        with whole_file(copy) as temporary:
            temporary.write_bytes(content)
    return place, hashlib.sha256(content).hexdigest()
