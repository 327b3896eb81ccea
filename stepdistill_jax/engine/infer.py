"""Predictions or scores for every example of a task, as JSON lines."""

import dataclasses
import functools
import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import seqio
import tensorflow as tf

from stepdistill_jax.base.messages import say_once
from stepdistill_jax.engine.checkpoint.checkpoint_config import RestoreCheckpointConfig
from stepdistill_jax.engine.config.gin_utils import summarize_gin_config
from stepdistill_jax.engine.data import contents
from stepdistill_jax.engine.data.dataset_config import (
    DatasetConfig,
    completed_lengths,
    get_mixture_or_task,
    read_features,
)
from stepdistill_jax.engine.data.fit_counting import fit_of_examples
from stepdistill_jax.engine.data.task_vocabularies import verify_matching_vocabs
from stepdistill_jax.engine.evaluate import inference_files, rows_at_once
from stepdistill_jax.engine.evaluate.inference import InferFn, get_infer_fn, prediction_step
from stepdistill_jax.engine.evaluate.inference_files import write_inferences_to_file
from stepdistill_jax.engine.evaluate.restored_model import restore_model
from stepdistill_jax.engine.loop import run_folder
from stepdistill_jax.engine.model import base_model
from stepdistill_jax.engine.partition.partitioning import PjitPartitioner
from stepdistill_jax.engine.step.initialize import TrainStateInitializer

__all__ = ["create_task_from_tfexample_file", "infer", "write_inferences_to_file"]

_MODES = ("predict", "score", "predict_with_aux")


@dataclasses.dataclass(frozen=True)
class _Shard:
    """This job's part of the examples: every `num`-th, from `index` on."""

    index: int
    num: int


def infer(
    *,
    mode: str,
    model: base_model.BaseTransformerModel,
    dataset_cfg: DatasetConfig,
    restore_checkpoint_cfg: RestoreCheckpointConfig,
    partitioner: PjitPartitioner,
    output_dir: str,
    checkpoint_period: int = 100,
    shard_id: int = 0,
    num_shards: int = 1,
    merge_chunked_results: bool = True,
    write_fn: Callable[..., None] = write_inferences_to_file,
    checkpoint_ds_iter: bool = True,
    train_state_initializer_cls: Callable[..., TrainStateInitializer] = TrainStateInitializer,
    fallback_init_rng: int | None = None,
    merge_fn: Callable[..., None] | None = None,
    summarize_config_fn: Callable[..., None] = summarize_gin_config,
    verify_matching_vocabs_fn: Callable[[DatasetConfig, base_model.BaseTransformerModel], None] | None = (
        verify_matching_vocabs
    ),
    output_vocab_feature_name: str = "targets",
    file_extension: str = "jsonl",
    keep_aux_as_numpy: bool = False,
    use_orbax: bool = True,
) -> list[Path]:
    """Runs a checkpoint over a task, or each task of a mixture. T5X's arguments.

    Args:
      mode: 'predict' decodes the targets; 'score' gives the log-likelihood of those given; 'predict_with_aux' both
        decodes and gives each decode's own score.
      shard_id, num_shards: this job's part of the examples, every num_shards-th.
      write_fn: (path, (outputs, aux), examples, mode, vocabulary) writes a file, with T5X's arguments.
      train_state_initializer_cls: gives the parameters' names and shapes.
      fallback_init_rng: seed of the parameters that the checkpoint lacks, where `fallback_to_scratch` allows that.
      verify_matching_vocabs_fn: checks the data against the model; None leaves that out.
      output_vocab_feature_name: the feature whose vocabulary turns predictions into text.
      file_extension: of the files.
      keep_aux_as_numpy: hands auxiliary outputs to `write_fn` as arrays, bfloat16 as it is, not as lists.
      checkpoint_period, merge_chunked_results, checkpoint_ds_iter, merge_fn, use_orbax: taken for T5X's sake: a shard's
        file is written whole or not at all.

    Returns:
      The files: output_dir/<task>-<mode>.<extension>-SSSSS-of-NNNNN.
    """
    if mode not in _MODES:
        raise ValueError(f"infer.mode={mode!r}; use one of {', '.join(_MODES)}.")
    if not 0 <= shard_id < num_shards:
        raise ValueError(f"infer.shard_id={shard_id} is not below num_shards={num_shards}.")
    if merge_fn is not None or not merge_chunked_results:
        say_once(
            "infer.merge_fn and infer.merge_chunked_results have no effect: a shard is one file from the start."
        )
    folder = inference_files.output_folder(output_dir)
    if dataset_cfg.batch_size != rows_at_once.AUTO:
        partitioner.get_data_layout(dataset_cfg.batch_size)
    provider = get_mixture_or_task(dataset_cfg)
    if verify_matching_vocabs_fn is not None:
        verify_matching_vocabs_fn(dataset_cfg, model)
    restored = restore_model(
        model,
        restore_checkpoint_cfg,
        partitioner,
        init_seed=fallback_init_rng,
        initializer_cls=train_state_initializer_cls,
    )
    run = Path(restored.path).parent
    contents.check_unchanged([dataset_cfg], run, run_folder.read_run_json(run))

    @functools.cache
    def infer_fn(targets_length: int) -> InferFn:
        steps = {
            "predict": prediction_step(model, targets_length),
            "score": lambda params, batch: model.score_batch(params, batch),
            "predict_with_aux": prediction_step(model, targets_length, with_aux=True),
        }
        return get_infer_fn(
            steps[mode], dataset_cfg.batch_size, restored.axes, partitioner, targets_length=targets_length
        )

    shard = _Shard(shard_id, num_shards)
    files, tasks = [], seqio.get_subtasks(provider)
    for task in tasks:
        examples = list(_dataset(task, dataset_cfg, shard).as_numpy_iterator())
        fit = fit_of_examples(task, examples, dataset_cfg.task_feature_lengths)
        for sentence in fit.sentences(f"{task.name}/{dataset_cfg.split}"):
            say_once(sentence)
        converted, targets_length = _converted(model, task, dataset_cfg, shard, examples)
        outputs = [output for _, output in infer_fn(targets_length)(converted.enumerate(), restored.state)]
        path = folder / f"{task.name}-{mode}.{file_extension}-{shard_id:05d}-of-{num_shards:05d}"
        if jax.process_index() == 0:
            folder.mkdir(parents=True, exist_ok=True)
            write_fn(
                str(path),
                _outputs_and_aux(outputs, keep_aux_as_numpy=keep_aux_as_numpy),
                _dataset(task, dataset_cfg, shard),
                mode,
                task.output_features[output_vocab_feature_name].vocabulary,
            )
        files.append(path)
    inference_files.write_data_json(folder, tasks, dataset_cfg.split)
    if jax.process_index() == 0:
        summarize_config_fn(str(folder), None, int(restored.state.step))
    return files


def _dataset(task: seqio.Task, cfg: DatasetConfig, shard: _Shard) -> tf.data.Dataset:
    lengths = None if cfg.task_feature_lengths is None else dict(cfg.task_feature_lengths)
    dataset = task.get_dataset(
        sequence_length=lengths,
        split=cfg.split,
        shuffle=False,
        num_epochs=1,
        use_cached=cfg.use_cached,
        seed=cfg.seed,
    )
    return dataset.shard(shard.num, shard.index)


def _converted(
    model: base_model.BaseTransformerModel,
    task: seqio.Task,
    cfg: DatasetConfig,
    shard: _Shard,
    examples: list[dict[str, Any]],
) -> tuple[tf.data.Dataset, int]:
    """(the examples' features, tokens of their targets at most)."""
    if not examples:
        raise ValueError(f"{task.name}/{cfg.split}: no examples in shard {shard.index} of {shard.num}.")
    converter_cls = model.FEATURE_CONVERTER_CLS
    features = read_features(converter_cls, task.output_features)
    longest = {name: max(len(example[name]) for example in examples) for name in features}
    lengths = {**longest, **(completed_lengths(cfg.task_feature_lengths, features) or {})}
    return converter_cls(pack=False)(_dataset(task, cfg, shard), lengths), lengths["targets"]


def _outputs_and_aux(
    outputs: Sequence[Any], *, keep_aux_as_numpy: bool
) -> tuple[list[Any], Mapping[str, Any]]:
    """T5X's form of inferences: a list of outputs, and {name: a list of auxiliary values} as long."""
    if not outputs or not isinstance(outputs[0], tuple):
        return list(outputs), {}
    names = outputs[0][1]
    as_kept = (lambda value: value) if keep_aux_as_numpy else (lambda value: jax.tree.map(_list, value))
    return [output for output, _ in outputs], {
        name: [as_kept(aux[name]) for _, aux in outputs] for name in names
    }


def _list(value: Any) -> Any:
    return value.tolist() if hasattr(value, "tolist") else value


def _texts(dataset: tf.data.Dataset, keys: Mapping[str, str | None]) -> Iterator[dict[str, Any]]:
    return dataset.map(
        lambda example: {feature: example[key] if key else tf.constant("") for feature, key in keys.items()}
    )


def create_task_from_tfexample_file(
    paths: Sequence[str],
    file_type: str,
    inputs_key: str,
    targets_key: str | None,
    features: Mapping[str, seqio.Feature],
    task_id: str | None = None,
) -> str:
    """Registers a task that reads texts from TFExample files; gives its name, for `DatasetConfig.mixture_or_task_name`.

    Args:
      paths: file patterns.
      file_type: 'tfrecord'.
      inputs_key, targets_key: the examples' features that hold the texts; targets are needed to score only.
      features: SeqIO's features 'inputs' and 'targets', with their vocabularies.
      task_id: the name is infer_<task_id>; default a hash of the other arguments.

    Returns:
      The task's name; its only split is 'infer'.
    """
    if file_type != "tfrecord":
        raise ValueError(f"create_task_from_tfexample_file.file_type={file_type!r}; use 'tfrecord'.")
    if not tf.io.gfile.glob(list(paths)):
        raise ValueError(f"create_task_from_tfexample_file.paths={list(paths)}: no such file.")
    if task_id is None:
        text = ":".join([*paths, inputs_key, targets_key or ""])
        task_id = hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()[:10]
    name = f"infer_{task_id}"
    if name in seqio.TaskRegistry.names():
        seqio.TaskRegistry.remove(name)
    keys = {"inputs": inputs_key, "targets": targets_key}
    seqio.TaskRegistry.add(
        name,
        source=seqio.TFExampleDataSource(
            {"infer": list(paths)},
            feature_description={
                key: tf.io.FixedLenFeature([], tf.string) for key in keys.values() if key is not None
            },
        ),
        preprocessors=[functools.partial(_texts, keys=keys), seqio.preprocessors.tokenize_and_append_eos],
        output_features=dict(features),
    )
    return name
