"""Metrics that add up over microbatches and devices, under T5X's names (`t5x.metrics`), on CLU's metric library.

Step counts and durations are not known inside a compiled step: `set_step_metrics_num_steps` and
`set_time_metrics_duration` put them in before `compute()`.
"""

import dataclasses
from collections.abc import Mapping, MutableMapping
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
from clu import metrics as clu_metrics
from jaxtyping import Array, Bool, Float, Int, Shaped

MetricsMap = MutableMapping[str, clu_metrics.Metric]
Scalar = Any  # a number or an array of one


@flax.struct.dataclass
class Sum(clu_metrics.Metric):
    """A total over everything merged."""

    total: Scalar

    @classmethod
    def from_model_output(cls, values: Scalar, **_: Any) -> "Sum":
        return cls(total=jnp.sum(jnp.asarray(values)))

    def merge(self, other: "Sum") -> "Sum":
        return type(self)(total=self.total + other.total)

    def compute(self) -> jax.Array:
        return jnp.array(self.total)


@flax.struct.dataclass
class Step(clu_metrics.Metric):
    """Something counted in steps. Microbatches merge into one step, so the trainer sets the count itself."""

    steps: Scalar | None = 1

    def replace_steps(self, steps: Scalar) -> "Step":
        return self.replace(steps=steps)

    def compute(self) -> jax.Array:
        if self.steps is None:
            raise ValueError(f"{type(self).__name__}.steps is None; call replace_steps before compute.")
        return jnp.array(self.steps)


@flax.struct.dataclass
class AveragePerStep(Step):
    """A total divided by the number of steps."""

    total: Scalar | None = None

    @classmethod
    def from_model_output(cls, values: Scalar, steps: int | None = 1, **_: Any) -> "AveragePerStep":
        return cls(total=jnp.sum(jnp.asarray(values)), steps=steps)

    def merge(self, other: "AveragePerStep") -> "AveragePerStep":
        return type(self)(total=self.total + other.total, steps=self.steps + other.steps)

    def compute(self) -> jax.Array:
        if self.total is None:
            raise ValueError("AveragePerStep.total is None; build it with from_model_output or total=...")
        return self.total / Step.compute(self)


@flax.struct.dataclass
class Time(clu_metrics.Metric):
    """Wall-clock seconds, set by the trainer."""

    duration: Scalar | None = None

    def merge(self, other: "Time") -> "Time":
        return self

    def replace_duration(self, duration: Scalar) -> "Time":
        return self.replace(duration=duration)

    def compute(self) -> jax.Array:
        if self.duration is None:
            raise ValueError(f"{type(self).__name__}.duration is None; call replace_duration before compute.")
        return jnp.array(self.duration)


@flax.struct.dataclass
class TimeRate(Time):
    """A total per second."""

    numerator: Scalar | None = None

    @classmethod
    def from_model_output(cls, numerator: Scalar, **_: Any) -> "TimeRate":
        return cls(numerator=numerator)

    def merge(self, other: "TimeRate") -> "TimeRate":
        if self.duration is not None or other.duration is not None:
            raise ValueError(
                "TimeRate.merge after replace_duration; merge first, then set the duration once."
            )
        return type(self)(numerator=self.numerator + other.numerator)

    def compute(self) -> jax.Array:
        return self.numerator / Time.compute(self)


@flax.struct.dataclass
class StepsPerTime(Step, Time):
    """Steps per second."""

    @classmethod
    def from_model_output(cls, steps: int | None = 1, **_: Any) -> "StepsPerTime":
        return cls(steps=steps)

    def merge(self, other: "StepsPerTime") -> "StepsPerTime":
        return type(self)(steps=self.steps + other.steps)

    def compute(self) -> jax.Array:
        return Step.compute(self) / Time.compute(self)


def is_metric_obj(value: Any) -> bool:
    return isinstance(value, clu_metrics.Metric)


def is_time_metric(value: Any) -> bool:
    return isinstance(value, Time)


def shape_obj_to_defined_obj(metric: clu_metrics.Metric) -> clu_metrics.Metric:
    """A metric of zeros for one of shapes (from `jax.eval_shape`): the start of a sum over microbatches."""

    def zeros(value: Any) -> Any:
        if is_metric_obj(value):
            return shape_obj_to_defined_obj(value)
        return jnp.zeros(value.shape, value.dtype) if hasattr(value, "shape") else value

    fields = {field.name: zeros(getattr(metric, field.name)) for field in dataclasses.fields(metric)}
    return type(metric)(**fields)


def set_time_metrics_duration(metrics: Any, duration: Scalar) -> Any:
    """The tree of metrics, with the seconds put into those that need them."""
    return jax.tree.map(
        lambda metric: metric.replace_duration(duration) if is_time_metric(metric) else metric,
        metrics,
        is_leaf=is_metric_obj,
    )


def set_step_metrics_num_steps(metrics: Any, num_steps: Scalar) -> Any:
    """The tree of metrics, with the number of steps put into those that count steps."""
    return jax.tree.map(
        lambda metric: metric.replace_steps(num_steps) if isinstance(metric, Step) else metric,
        metrics,
        is_leaf=is_metric_obj,
    )


def metric_values(metrics: Mapping[str, clu_metrics.Metric]) -> dict[str, float | None]:
    """Metrics' values as Python numbers; None where a mean has nothing to average over.

    Rates and durations that nobody has given their seconds are left out.
    """
    values: dict[str, float | None] = {}
    for name, metric in metrics.items():
        if is_time_metric(metric) and metric.duration is None:
            continue
        count = getattr(metric, "count", None)
        empty = count is not None and float(np.asarray(count)) == 0.0
        values[name] = None if empty else float(np.asarray(metric.compute()))
    return values


def compute_weighted_accuracy(
    logits: Float[Array, "batch length vocab"],
    targets: Int[Array, "batch length"],
    weights: Shaped[Array, "batch length"] | None = None,
) -> Shaped[Array, ""]:
    """The weighted number of targets that have the highest logit."""
    correct = jnp.argmax(logits, axis=-1) == targets
    return jnp.sum(correct if weights is None else correct * weights)


def count_packed_examples(segment_ids: Int[Array, "batch length"]) -> Int[Array, ""]:
    """Examples in packed rows: changes to another id than 0 along a row, its start included."""
    before = jnp.pad(segment_ids[:, :-1], ((0, 0), (1, 0)))
    return jnp.sum((segment_ids != before) & (segment_ids != 0))


def compute_base_metrics(
    logits: Float[Array, "batch length vocab"] | None,
    targets: Int[Array, "batch length"],
    mask: Shaped[Array, "batch length"] | None,
    loss: Float[Array, ""],
    z_loss: Float[Array, ""] | None = None,
    segment_ids: Mapping[str, jax.Array] | None = None,
    correct: Bool[Array, "batch length"] | None = None,
) -> MetricsMap:
    """T5X's metrics of a training or evaluation step, under its names.

    Args:
      logits: for the accuracy; None where `correct` says it.
      mask: weight of each target token, None for all of them.
      loss: as trained on, z-loss included.
      segment_ids: by feature, to count examples and padding.
      correct: which target tokens have the highest logit.
    """
    if correct is None:
        correct = jnp.argmax(logits, axis=-1) == targets
    num_examples, num_tokens, num_devices = (
        jnp.array(targets.shape[0]),
        jnp.array(targets.size),
        jax.device_count(),
    )
    nonpadding_tokens = num_tokens if mask is None else jnp.sum(mask)
    rate = TimeRate.from_model_output
    metrics: MetricsMap = {
        "accuracy": clu_metrics.Average(
            total=jnp.sum(correct if mask is None else correct * mask).astype(jnp.float32),
            count=nonpadding_tokens,
        ),
        "loss": AveragePerStep(total=loss),
        "loss_per_nonpadding_target_token": clu_metrics.Average(total=loss, count=nonpadding_tokens),
        "loss_per_all_target_tokens": clu_metrics.Average(total=loss, count=num_tokens),
        "timing/seqs_per_second": rate(numerator=num_examples),
        "timing/steps_per_second": StepsPerTime.from_model_output(),
        "timing/seconds": Time(),
        "timing/seqs": Sum(num_examples),
        "timing/seqs_per_second_per_core": rate(numerator=num_examples / num_devices),
        "timing/target_tokens_per_second": rate(numerator=num_tokens),
        "timing/target_tokens_per_second_per_core": rate(numerator=num_tokens / num_devices),
        "non_padding_fraction/loss_weights": clu_metrics.Average(total=nonpadding_tokens, count=num_tokens),
    }
    if z_loss is not None:
        cross_entropy = loss - z_loss
        metrics["z_loss"] = AveragePerStep(total=z_loss)
        metrics["z_loss_per_all_target_tokens"] = clu_metrics.Average(total=z_loss, count=num_tokens)
        metrics["cross_ent_loss"] = AveragePerStep(total=cross_entropy)
        metrics["cross_ent_loss_per_all_target_tokens"] = clu_metrics.Average(
            total=cross_entropy, count=num_tokens
        )
    return {**metrics, **_padding_metrics(segment_ids or {})}


def _padding_metrics(segment_ids: Mapping[str, jax.Array]) -> MetricsMap:
    metrics: MetricsMap = {}
    all_tokens, all_real = 0, jnp.array(0)
    for feature, ids in segment_ids.items():
        num_real = jnp.sum(ids != 0)
        all_tokens, all_real = all_tokens + ids.size, all_real + num_real
        metrics[f"effective_batch_size/{feature}"] = AveragePerStep(total=count_packed_examples(ids))
        metrics[f"non_padding_fraction/{feature}"] = clu_metrics.Average(
            total=num_real, count=jnp.array(ids.size)
        )
    if segment_ids:
        metrics["non_padding_fraction/overall"] = clu_metrics.Average(
            total=all_real, count=jnp.array(all_tokens)
        )
    return metrics
