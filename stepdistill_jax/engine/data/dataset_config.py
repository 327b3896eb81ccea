"""Which data a run reads: T5X's `DatasetConfig`, and what is checked about it before anything is compiled.

To name data needs no SeqIO; to open it does, and imports it.
"""

from __future__ import annotations

import dataclasses
import importlib
import sys
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING

from stepdistill_jax.base.messages import nearest, say_once
from stepdistill_jax.base.visible import visible

if TYPE_CHECKING:
    import seqio
    import tensorflow as tf

    from stepdistill_jax.engine.data.tf_data_stream import TfDataStream
    from stepdistill_jax.engine.data.tokenized_task import TokenizedTask
    from stepdistill_jax.engine.data.train_stream import TrainStream


@dataclasses.dataclass
class DatasetConfig:
    """A SeqIO task or mixture, and how to read it. T5X's names and defaults.

    Attributes:
      mixture_or_task_name: as registered with SeqIO.
      task_feature_lengths: feature -> longest row in tokens. For decoded evaluation None takes the longest example's.
      split: 'train', 'validation' or 'test'.
      batch_size: rows of the global batch; of one that is decoded also 'auto', as many as fit (`evaluate.rows_at_once`).
      shuffle: whether each pass is in another order.
      seed: of the order; None takes the run's seed. The stream is resumed exactly either way.
      use_cached: whether to read SeqIO's offline cache.
      pack: whether a row holds as many examples as fit.
      module: imported first, to register tasks.
      use_memory_cache: whether SeqIO's evaluator keeps its examples in memory.
      use_custom_packing_ops, trim_output_features, num_prefetch_threads, num_workers: taken for T5X's sake; packing is our
        own, trimming always done, batches always made in a thread of their own.
      runtime_preprocessors: None; a task's preprocessors are those it was registered with.
      length_buckets: without `pack`, to how many row lengths batches of examples of like length are cut. Each makes the
        step compile once more, so 1, every row of the longest length, is the default.
      paired: for training on several tasks, whether examples of the same `example_id` share a batch and each is drawn once a
        pass, in place of drawing by the mixture's rates. T5X has no such field.
      max_indexed_examples: of a task's split for training; one with more, or without end, is read by tf.data.
      allow_cut_labels: whether targets that hold a label may be longer than `task_feature_lengths`; an error otherwise. T5X
        has no such field.
    """

    mixture_or_task_name: str
    task_feature_lengths: Mapping[str, int] | None
    split: str
    batch_size: int | str
    shuffle: bool
    seed: int | None
    use_cached: bool = False
    pack: bool = False
    use_custom_packing_ops: bool = False
    module: str | None = None
    use_memory_cache: bool = True
    trim_output_features: bool = True
    runtime_preprocessors: None = None
    num_prefetch_threads: int | None = None
    num_workers: int = 0
    length_buckets: int = 1
    paired: bool = False
    max_indexed_examples: int = 20_000_000
    allow_cut_labels: bool = False

    def __post_init__(self) -> None:
        if self.runtime_preprocessors is not None:
            raise ValueError(
                "DatasetConfig.runtime_preprocessors is set; register a task with these preprocessors instead."
            )
        for name in ("shuffle", "use_cached", "pack", "paired", "allow_cut_labels", "use_memory_cache"):
            if not isinstance(getattr(self, name), bool):
                raise ValueError(f"DatasetConfig.{name}={getattr(self, name)!r}; use True or False.")
        if self.batch_size != "auto" and (type(self.batch_size) is not int or self.batch_size < 1):
            raise ValueError(
                f"DatasetConfig.batch_size={self.batch_size!r} rows; use a whole number above 0, or 'auto' to decode as many at a "
                "time as fit."
            )


def get_mixture_or_task(cfg: DatasetConfig) -> seqio.Task | seqio.Mixture:
    """The registered task or mixture.

    Raises:
      ValueError: names the nearest registered name, or the splits that there are.
    """
    import seqio

    if cfg.module:
        importlib.import_module(cfg.module)
    name = cfg.mixture_or_task_name
    known = [*seqio.TaskRegistry.names(), *seqio.MixtureRegistry.names()]
    if name not in known:
        hint = nearest(name, known) or "; none is registered: import the module that registers it"
        raise ValueError(f"No task or mixture '{name}'{hint}.")
    provider = seqio.get_mixture_or_task(name)
    if cfg.split not in provider.splits:
        raise ValueError(
            f"{name} has no split '{cfg.split}'; it has {sorted(provider.splits)}; "
            "name one of these as the DatasetConfig's split, or prepare the data with it."
        )
    return provider


def source_facts(cfg: DatasetConfig) -> dict[str, dict[str, str]]:
    """Task -> what its source says of the records it reads, by a method `facts(split) -> dict`, if it has one."""
    import seqio

    sources = {task.name: task.source for task in seqio.get_subtasks(get_mixture_or_task(cfg))}
    return {
        name: dict(source.facts(cfg.split)) for name, source in sources.items() if hasattr(source, "facts")
    }


def read_features(converter_cls: type[seqio.FeatureConverter], named: Collection[str]) -> tuple[str, ...]:
    """The task features that a feature converter reads: some read inputs only where these are `named`."""
    import seqio

    features = tuple(converter_cls.TASK_FEATURES)
    if issubclass(converter_cls, seqio.DecoderFeatureConverter) and "inputs" in named:
        return ("inputs", *features)
    return features


def full_feature_lengths(
    lengths: Mapping[str, int] | None, task_features: Collection[str], name: str
) -> dict[str, int]:
    """Lengths of all the task features that a model reads; those left out are as long as the targets."""
    needed = [feature for feature in ("inputs", "targets") if feature in task_features]
    if not lengths or not set(needed) <= set(lengths):
        raise ValueError(
            f"{name}: task_feature_lengths={lengths} must give {' and '.join(map(repr, needed))} in tokens, "
            "e.g. {'inputs': 512, 'targets': 128}."
        )
    unknown = set(lengths) - set(task_features)
    if unknown:
        raise ValueError(
            f"{name}: task_feature_lengths has {sorted(unknown)}; the model reads {sorted(task_features)}."
        )
    return {feature: lengths.get(feature, lengths["targets"]) for feature in task_features}


def completed_lengths(
    lengths: Mapping[str, int] | None, task_features: Collection[str]
) -> dict[str, int] | None:
    """The lengths, and those of what lies beside the targets: as long as these, where their length is given."""
    if lengths is None or "targets" not in lengths:
        return lengths if lengths is None else dict(lengths)
    beside = [feature for feature in task_features if feature not in ("inputs", "targets")]
    return {**dict.fromkeys(beside, lengths["targets"]), **lengths}


def _lengths_to_read(cfg: DatasetConfig, converter_cls: type[seqio.FeatureConverter]) -> dict[str, int]:
    features = read_features(converter_cls, cfg.task_feature_lengths or ())
    return full_feature_lengths(cfg.task_feature_lengths, features, cfg.mixture_or_task_name)


def _tokenize(
    cfg: DatasetConfig,
    task: seqio.Task,
    lengths: Mapping[str, int],
    max_examples: int | None = None,
    *,
    learns: bool,
) -> TokenizedTask:
    from stepdistill_jax.engine.data import token_cache
    from stepdistill_jax.engine.data.fit_counting import say_fit

    missing = set(lengths) - set(task.output_features)
    if missing:
        raise ValueError(
            f"{task.name} has no feature {sorted(missing)}, which the model's feature converter reads; it has "
            f"{sorted(task.output_features)}."
        )
    tokenized = token_cache.tokenized(
        task, split=cfg.split, lengths=lengths, use_cached=cfg.use_cached, max_examples=max_examples
    )
    say_fit(f"{task.name}/{cfg.split}", tokenized.fit, learns=learns, allow_cut_labels=cfg.allow_cut_labels)
    return tokenized


def get_dataset(
    cfg: DatasetConfig,
    shard_id: int,
    num_shards: int,
    feature_converter_cls: type[seqio.FeatureConverter],
    num_epochs: int | None = None,
    continue_from_last_checkpoint: bool = False,
    *,
    seed: int = 0,
) -> TrainStream | TfDataStream:
    """The training stream of a config, this process's part. T5X's arguments.

    Args:
      cfg: what to read.
      shard_id: of this process, among `num_shards` that read different rows.
      num_shards: see shard_id.
      feature_converter_cls: the model's.
      num_epochs: passes over a single task; None goes on for ever.
      continue_from_last_checkpoint: taken for T5X's sake; a run always goes on where it was.
      seed: of the order where `cfg.seed` is None.
    """
    import seqio

    from stepdistill_jax.engine.data.fit_counting import say_fit
    from stepdistill_jax.engine.data.tf_data_stream import TfDataStream
    from stepdistill_jax.engine.data.tokenized_task import TooManyExamples, fit_of_first
    from stepdistill_jax.engine.data.train_stream import TrainStream

    provider = get_mixture_or_task(cfg)
    lengths = _lengths_to_read(cfg, feature_converter_cls)
    seed = seed if cfg.seed is None else cfg.seed
    tasks = seqio.get_subtasks(provider)
    rates = [provider.get_rate(task) for task in tasks] if isinstance(provider, seqio.Mixture) else [1.0]
    try:
        tokenized = [_tokenize(cfg, task, lengths, cfg.max_indexed_examples, learns=True) for task in tasks]
    except TooManyExamples as error:
        if cfg.paired:
            raise ValueError(f"paired: {error} Pairs need an index; raise max_indexed_examples.") from error
        say_once(
            f"{error} Above DatasetConfig.max_indexed_examples={cfg.max_indexed_examples}, so tf.data reads "
            f"{provider.name}: shuffled by buffers, its position saved with every checkpoint."
        )
        for task in tasks:
            fit, num_examples = fit_of_first(
                task, split=cfg.split, lengths=lengths, use_cached=cfg.use_cached
            )
            where = f"{task.name}/{cfg.split}, its first {num_examples:,}"
            say_fit(where, fit, learns=True, allow_cut_labels=cfg.allow_cut_labels)
        rows = _pipeline(
            cfg, provider, lengths, feature_converter_cls, shard_id, num_shards, num_epochs, seed
        )
        return TfDataStream(rows, batch_size=cfg.batch_size, num_shards=num_shards)
    return TrainStream(
        tokenized,
        rates,
        converter_cls=feature_converter_cls,
        lengths=lengths,
        batch_size=cfg.batch_size,
        seed=seed,
        shuffle=cfg.shuffle,
        pack=cfg.pack,
        paired=cfg.paired,
        length_buckets=cfg.length_buckets,
        shard_id=shard_id,
        num_shards=num_shards,
        num_epochs=num_epochs,
    )


def _pipeline(
    cfg: DatasetConfig,
    provider: seqio.Task | seqio.Mixture,
    lengths: Mapping[str, int],
    converter_cls: type[seqio.FeatureConverter],
    shard_id: int,
    num_shards: int,
    num_epochs: int | None,
    seed: int,
) -> tf.data.Dataset:
    """This process's rows by SeqIO's own mixing, shuffling and packing."""
    import seqio

    examples = provider.get_dataset(
        sequence_length=dict(lengths),
        split=cfg.split,
        shuffle=cfg.shuffle,
        num_epochs=num_epochs,
        seed=seed,
        use_cached=cfg.use_cached,
        shard_info=seqio.ShardInfo(shard_id, num_shards) if num_shards > 1 else None,
        # What is cached in memory is not part of an iterator's state.
        try_in_mem_cache=False,
    )
    return converter_cls(pack=cfg.pack)(examples, dict(lengths))


def get_training_eval_datasets(
    cfg: DatasetConfig,
    shard_id: int,
    num_shards: int,
    eval_steps: int | None,
    feature_converter_cls: type[seqio.FeatureConverter],
    deterministic: bool = False,
    model_dir: str | None = None,
    start_step: int = 0,
) -> dict[str, TrainStream]:
    """One pass over each of the mixture's tasks that has the split, for evaluation under teacher forcing.

    The evaluation takes `eval_steps` batches of a stream. What follows `feature_converter_cls` is taken for T5X's sake: every
    stream is deterministic, and begins at its start.
    """
    import seqio

    from stepdistill_jax.engine.data.train_stream import TrainStream

    provider = get_mixture_or_task(cfg)
    lengths = _lengths_to_read(cfg, feature_converter_cls)
    streams = {}
    for task in seqio.get_subtasks(provider):
        if cfg.split not in task.splits:
            continue
        try:
            tokenized = _tokenize(cfg, task, lengths, learns=False)
        except LookupError as error:  # the task names the split, its data came without
            said = f"{task.name} is not evaluated under teacher forcing: {error}"
            print(visible(said), file=sys.stderr)
            continue
        streams[task.name] = TrainStream(
            [tokenized],
            [1.0],
            converter_cls=feature_converter_cls,
            lengths=lengths,
            batch_size=cfg.batch_size,
            seed=0,
            shuffle=False,
            pack=cfg.pack,
            length_buckets=cfg.length_buckets,
            shard_id=shard_id,
            num_shards=num_shards,
            num_epochs=1,
        )
    return streams
