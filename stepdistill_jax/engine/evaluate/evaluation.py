"""Evaluation of a state: teacher-forced losses, and decoded accuracy through SeqIO's evaluator."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import seqio

from stepdistill_jax.base.text_fit import TaskFit
from stepdistill_jax.base.whole_files import write_atomically
from stepdistill_jax.engine.data import fit_counting
from stepdistill_jax.engine.data.contents import short_contents
from stepdistill_jax.engine.data.dataset_config import (
    DatasetConfig,
    completed_lengths,
    get_mixture_or_task,
    get_training_eval_datasets,
    read_features,
)
from stepdistill_jax.engine.data.task_vocabularies import verify_matching_vocabs
from stepdistill_jax.engine.data.train_stream import TrainStream
from stepdistill_jax.engine.evaluate.inference import get_infer_fn, prediction_step
from stepdistill_jax.engine.evaluate.inference_files import write_data_json
from stepdistill_jax.engine.model import base_model
from stepdistill_jax.engine.model.metrics import metric_values
from stepdistill_jax.engine.optim.train_state import FlaxOptimTrainState
from stepdistill_jax.engine.partition.partitioning import PjitPartitioner
from stepdistill_jax.engine.step.trainer import Trainer

Row = dict[str, Any]


class InferenceEvaluator:
    """Decodes the tasks of a mixture that have metrics, and scores them by SeqIO. T5X's name."""

    def __init__(
        self,
        infer_eval_dataset_cfg: DatasetConfig,
        inference_evaluator_cls: Callable[..., seqio.Evaluator] | None,
        model: base_model.BaseModel,
        partitioner: PjitPartitioner,
        log_dir: Path,
        verify_matching_vocabs_fn: Callable[[DatasetConfig, base_model.BaseTransformerModel], None] | None = (
            verify_matching_vocabs
        ),
    ) -> None:
        """Reads and caches the split's examples.

        Args:
          infer_eval_dataset_cfg: task or mixture, split, batch size.
          inference_evaluator_cls: `seqio.Evaluator`, with what gin binds of it; None is that without bindings.
          model: decodes by its `predict_batch`.
          partitioner: of parameters and batch.
          log_dir: SeqIO's loggers write to log_dir/inference_eval, predictions go to log_dir/predictions.
          verify_matching_vocabs_fn: checks the config against the model; None leaves that out.
        """
        cfg = infer_eval_dataset_cfg
        get_mixture_or_task(cfg)
        if verify_matching_vocabs_fn is not None:
            verify_matching_vocabs_fn(cfg, model)
        self._cfg, self._model, self._partitioner, self._log_dir = cfg, model, partitioner, log_dir
        self._converter = _converter_of_a_task(model.FEATURE_CONVERTER_CLS)
        self._evaluator = (inference_evaluator_cls or seqio.Evaluator)(
            mixture_or_task_name=cfg.mixture_or_task_name,
            feature_converter=self._converter,
            eval_split=cfg.split,
            use_cached=cfg.use_cached,
            seed=cfg.seed,
            sequence_length=completed_lengths(cfg.task_feature_lengths, self._converter.TASK_FEATURES),
            use_memory_cache=cfg.use_memory_cache,
            log_dir=str(log_dir / "inference_eval"),
            **({} if jax.process_index() == 0 else {"logger_cls": ()}),  # the first host writes
        )
        self._infer_fn = None

    @property
    def eval_tasks(self) -> list[seqio.Task]:
        """The tasks with metrics and the split."""
        return list(self._evaluator.eval_tasks)

    def say_fit(self) -> dict[str, TaskFit]:
        """How each task's texts fit, said on standard error.

        Raises:
          ValueError: if labels are longer than the config's `task_feature_lengths`, unless it allows that.
        """
        fits = {}
        for task in self.eval_tasks:
            examples = self._evaluator.cached_task_datasets[task.name].as_numpy_iterator()
            fits[task.name] = fit_counting.fit_of_examples(task, examples, self._cfg.task_feature_lengths)
            fit_counting.say_fit(
                f"{task.name}/{self._cfg.split}",
                fits[task.name],
                learns=False,
                allow_cut_labels=self._cfg.allow_cut_labels,
            )
        return fits

    def evaluate(self, train_state: FlaxOptimTrainState, train_state_axes: FlaxOptimTrainState) -> list[Row]:
        """Decodes every task; one row of metrics each: {'step', 'split', 'task', 'accuracy', …}."""
        if not self.eval_tasks:
            return []
        if self._infer_fn is None:
            targets_length = self._converter.targets_length
            self._infer_fn = get_infer_fn(
                prediction_step(self._model, targets_length),
                self._cfg.batch_size,
                train_state_axes,
                self._partitioner,
                targets_length=targets_length,
            )
        step = int(train_state.step)
        metrics, outputs = self._evaluator.evaluate(
            compute_metrics=True,
            step=step,
            predict_fn=lambda dataset: self._infer_fn(dataset, train_state),
        )
        if jax.process_index() == 0:
            for task in self.eval_tasks:
                self._write_predictions(task, outputs[task.name], step)
            write_data_json(self._log_dir / "predictions", self.eval_tasks, self._cfg.split)
        return [
            {
                "step": step,
                "split": self._cfg.split,
                "task": name,
                **_data(seqio.TaskRegistry.get(name), self._cfg.split),
                **{metric: _number(value) for metric, value in values.items()},
            }
            for name, values in metrics.result().items()
        ]

    def _write_predictions(self, task: seqio.Task, outputs: Any, step: int) -> None:
        """predictions/<task>-<split>-<step>.jsonl: each example, what was decoded, and whether the metric counts it right."""
        vocabulary = task.output_features["targets"].vocabulary
        lines = []
        examples = self._evaluator.cached_task_datasets[task.name].as_numpy_iterator()
        decodes = outputs[seqio.metrics.ModelOutputType.PREDICTION]
        for example, tokens in zip(examples, decodes, strict=True):
            decoded = vocabulary.decode([int(token) for token in tokens])
            prediction = task.postprocess_fn(decoded, example=example, is_target=False)
            gold = vocabulary.decode([int(token) for token in example["targets"]])
            target = task.postprocess_fn(gold, example=example, is_target=True)
            lines.append(
                {
                    "example_id": _text(example.get("example_id")),
                    "inputs": _text(example.get("inputs_pretokenized")),
                    "target": target,
                    "prediction": prediction,
                    "correct": _is_correct(task, target, prediction),
                    # Where only a part of the text is scored: the label behind a rationale.
                    **({"decoded": decoded} if decoded.strip() != prediction else {}),
                }
            )
        path = self._log_dir / "predictions" / f"{task.name}-{self._cfg.split}-{step}.jsonl"
        write_atomically(path, "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines))

    def close(self) -> None:
        self._evaluator.close()


def _converter_of_a_task(converter_cls: type[seqio.FeatureConverter]) -> seqio.FeatureConverter:
    """The model's converter, which leaves out what a task has beside its features, where SeqIO's refuses it.

    `targets_length` is that of the rows that it has made, in tokens.
    """

    class Converter(converter_cls):
        targets_length: int | None = None

        def __call__(self, ds, task_feature_lengths):
            features = read_features(converter_cls, task_feature_lengths)
            known = {name: n for name, n in task_feature_lengths.items() if name in features}
            self.targets_length = known.get("targets")
            return super().__call__(ds, known)

    return Converter(pack=False)


def _is_correct(task: seqio.Task, target: Any, prediction: Any) -> bool | None:
    """What the task's accuracy says of one example alone; None for a task without accuracy."""
    for metric_fn in task.predict_metric_fns:
        values = metric_fn([target], [prediction])
        if "accuracy" in values:
            return _number(values["accuracy"]) > 0
    return None


def _data(task: seqio.Task, split: str) -> dict[str, dict[str, str]]:
    """What a row says of the data that it is of."""
    found = short_contents(task.source, split)
    return {"data": found} if found else {}


def _number(value: Any) -> float | int:
    value = getattr(value, "value", value)
    return value if isinstance(value, int) else float(value)


def _text(value: Any) -> str | None:
    return value.decode("utf-8") if isinstance(value, bytes) else value


def teacher_forced_losses(
    trainer: Trainer,
    train_state: FlaxOptimTrainState,
    streams: Mapping[str, TrainStream],
    partitioner: PjitPartitioner,
    *,
    split: str,
    max_batches: int | None,
) -> list[Row]:
    """Losses and token accuracies of each task on its split, from the gold targets, without decoding.

    Args:
      max_batches: batches to take of each task; None takes them all.
    """
    rows = []
    for name, stream in streams.items():
        total: dict[str, Any] = {}
        for index, batch in enumerate(stream.batches()):
            if index == max_batches:
                break
            metrics = trainer.eval_step(train_state.params, partitioner.global_batch(batch))
            total = (
                {key: total[key].merge(metric) for key, metric in metrics.items()} if total else dict(metrics)
            )
        rows.append({"step": int(train_state.step), "split": split, "task": name, **metric_values(total)})
    return rows


class RunEvaluation:
    """Both kinds of evaluation of a run, prepared before the first step so that bad settings show at once."""

    def __init__(
        self,
        model: base_model.BaseTransformerModel,
        trainer: Trainer,
        partitioner: PjitPartitioner,
        axes: FlaxOptimTrainState,
        train_eval_cfg: DatasetConfig | None,
        infer_eval_cfg: DatasetConfig | None,
        inference_evaluator_cls: Callable[..., seqio.Evaluator] | None,
        *,
        eval_steps: int | None,
        log_dir: Path,
        get_streams: Callable[..., Mapping[str, TrainStream]] = get_training_eval_datasets,
        verify: Callable[[DatasetConfig, base_model.BaseTransformerModel], None] = verify_matching_vocabs,
    ) -> None:
        self._trainer, self._partitioner, self._axes, self._eval_steps = (
            trainer,
            partitioner,
            axes,
            eval_steps,
        )
        self._split = train_eval_cfg.split if train_eval_cfg else None
        self._several_lengths = bool(train_eval_cfg and train_eval_cfg.length_buckets > 1)
        self._streams: Mapping[str, TrainStream] = {}
        if train_eval_cfg is not None:
            layout = partitioner.get_data_layout(train_eval_cfg.batch_size)
            verify(train_eval_cfg, model)
            self._streams = get_streams(
                train_eval_cfg, layout.shard_id, layout.num_shards, eval_steps, model.FEATURE_CONVERTER_CLS
            )
        self._inference = (
            InferenceEvaluator(infer_eval_cfg, inference_evaluator_cls, model, partitioner, log_dir, verify)
            if infer_eval_cfg is not None
            else None
        )
        if self._inference and infer_eval_cfg.task_feature_lengths is not None:  # else nothing is cut
            self._inference.say_fit()

    def batch_specs(self) -> list[dict[str, Any]]:
        """The tf.TensorSpecs of the global batches under teacher forcing, each once; none where batches have several lengths."""
        specs: list[dict[str, Any]] = []
        if self._several_lengths:
            return specs
        for spec in (stream.batch_spec() for stream in self._streams.values()):
            if spec not in specs:
                specs.append(spec)
        return specs

    def teacher_forced(self, state: FlaxOptimTrainState) -> list[Row]:
        """A row of losses a task, from the gold targets."""
        return teacher_forced_losses(
            self._trainer,
            state,
            self._streams,
            self._partitioner,
            split=self._split,
            max_batches=self._eval_steps,
        )

    def decoded(self, state: FlaxOptimTrainState) -> list[Row]:
        """A row of SeqIO's metrics a task, from what the model decodes."""
        return self._inference.evaluate(state, self._axes) if self._inference else []

    def close(self) -> None:
        if self._inference:
            self._inference.close()
