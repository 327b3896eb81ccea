"""A student's network with the parameters of a checkpoint, in JAX: scores choices, writes answers."""

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import PartitionSpec

from stepdistill_jax.engine.checkpoint.checkpoint_config import RestoreCheckpointConfig
from stepdistill_jax.engine.decode import decoding
from stepdistill_jax.engine.evaluate.restored_model import restore_model
from stepdistill_jax.engine.model import llama, models, network
from stepdistill_jax.engine.optim import optimizers
from stepdistill_jax.engine.partition.partitioning import PjitPartitioner, PjittedFnWithContext
from stepdistill_jax.prediction import shapes
from stepdistill_jax.prediction.choice_scoring import choice_log_probs, pack_choices
from stepdistill_jax.prediction.vocabularies import Vocabulary
from stepdistill_jax.prediction.written import Written

Tokens = Sequence[int]
_Config = TypeVar("_Config", network.T5Config, llama.LlamaConfig)
_MOST_ROWS_AT_ONCE = 16  # of a batch that is compiled before it is asked for
_COMPILERS = 2  # threads; each compilation uses some of its own


class CheckpointNetwork:
    """Works on token ids; any number of rows of any length is cut into a few shapes (`shapes`)."""

    def __init__(
        self,
        config: network.T5Config | llama.LlamaConfig,
        checkpoint: Path,
        vocabulary: Vocabulary,
        *,
        choices: Sequence[Tokens],
        max_input_tokens: int,
        max_target_tokens: int,
        batch_tokens: int,
        num_partitions: int = 1,
        verify: bool = True,
    ) -> None:
        """Reads the parameters; nothing is compiled yet.

        Args:
          config: of the network, as it was trained. On a CPU it computes in float32.
          checkpoint: its folder.
          choices: their token ids, ends of sequence included; none for open text.
          max_input_tokens: of a row, at most.
          max_target_tokens: of a written answer, at most.
          batch_tokens: tokens of a batch, padding included, on all devices together.
          num_partitions: devices that hold one copy of the parameters; the others share the rows.
          verify: whether the checkpoint's files are compared with its checksums first.

        Raises:
          ValueError: if the checkpoint is damaged, or not of this network.
        """
        self._model = _model_of(_here(config), vocabulary)
        self._partitioner = PjitPartitioner(num_partitions=num_partitions)
        restore = RestoreCheckpointConfig(
            path=str(checkpoint), mode="specific", dtype="float32", verify=verify
        )
        self._restored = restore_model(self._model, restore, self._partitioner)
        self._eos_id, self._max_target_tokens = vocabulary.eos_id, max_target_tokens
        self._choices = pack_choices(choices) if choices else None
        self._lengths = shapes.lengths_up_to(max_input_tokens)
        self._batch_tokens = batch_tokens
        self._score = self._jitted(
            lambda params, tokens: choice_log_probs(self._model.module, params, tokens, self._choices)
        )
        self._write = self._jitted(self._decode)
        self._compiled: dict[tuple[Any, int, int], Callable[..., Any]] = {}

    @property
    def params(self) -> Mapping[str, Any]:
        """The parameters, float32, by T5X's names."""
        return self._restored.state.params

    def score_choices(self, rows: Sequence[Tokens]) -> np.ndarray:
        """float32 [rows, choices]: log p(choice | row) in nats, ends of sequence included."""
        scores = np.zeros([len(rows), self._choices.num_choices], np.float32)
        for places, values in self._in_batches(self._score, rows, self._choices.length):
            scores[places] = values
        return scores

    def write(self, rows: Sequence[Tokens]) -> list[Written]:
        """What the student writes for each row, greedily."""
        written: list[Written | None] = [None] * len(rows)
        for places, (decodes, log_probs) in self._in_batches(self._write, rows, self._max_target_tokens):
            for place, tokens, log_prob in zip(places, decodes.tolist(), log_probs.tolist(), strict=True):
                is_cut = self._eos_id not in tokens
                end = len(tokens) if is_cut else tokens.index(self._eos_id)
                written[place] = Written(tokens[:end], log_prob, is_cut)
        return written

    def warm_up(self) -> None:
        """Compiles what labels take, for every length and up to 16 rows; returns when it is done. Nothing is computed."""
        function, target_tokens = self._write, self._max_target_tokens
        if self._choices is not None:
            function, target_tokens = self._score, self._choices.length
        sizes = [
            (rows, length)
            for length, numbers in self._rows_of(target_tokens).items()
            for rows in numbers
            if rows <= max(_MOST_ROWS_AT_ONCE, numbers[0])
        ]
        with ThreadPoolExecutor(_COMPILERS) as pool:
            list(pool.map(lambda size: self._for_shape(function, *size), sizes))

    def _decode(self, params: Mapping[str, Any], tokens: jax.Array) -> tuple[jax.Array, jax.Array]:
        targets = jnp.zeros([tokens.shape[0], self._max_target_tokens], jnp.int32)
        batch = {"encoder_input_tokens": tokens, "decoder_input_tokens": targets}
        if isinstance(self._model, models.DecoderOnlyModel):
            rows = jnp.concatenate([jnp.zeros_like(targets[:, :1]), tokens, targets[:, 1:]], axis=1)
            read = jnp.arange(rows.shape[1])[None] <= jnp.sum(tokens != 0, axis=1, keepdims=True)
            batch = {"decoder_input_tokens": rows, "decoder_causal_attention": read.astype(jnp.int32)}
        decodes, aux = self._model.predict_batch_with_aux(params, batch)
        return decodes[:, : self._max_target_tokens], aux["scores"]

    def _for_shape(self, function: PjittedFnWithContext, rows: int, length: int) -> Callable[..., Any]:
        """The function compiled for tokens [rows, length], once."""
        key = (function, rows, length)
        if key not in self._compiled:
            tokens = jax.ShapeDtypeStruct((rows, length), np.int32)
            self._compiled[key] = self._partitioner.compile(function, self.params, tokens)
        return self._compiled[key]

    def _jitted(self, function: Callable[..., Any]) -> PjittedFnWithContext:
        return self._partitioner.partition(
            function,
            in_axis_resources=(self._restored.axes.params, self._partitioner.data_partition_spec),
            out_axis_resources=PartitionSpec(),
        )

    def _rows_of(self, target_tokens: int) -> dict[int, tuple[int, ...]]:
        """Length -> numbers of rows whose inputs, and targets, have no more than the tokens of a batch."""
        return {
            length: shapes.rows_up_to(
                self._batch_tokens // max(length, target_tokens), self._partitioner.data_mesh_size
            )
            for length in self._lengths
        }

    def _in_batches(
        self, function: PjittedFnWithContext, rows: Sequence[Tokens], target_tokens: int
    ) -> Iterator[tuple[list[int], Any]]:
        """(places, what comes of these rows), batch after batch; the next one is computed while one is looked at."""
        pending: tuple[list[int], Any] | None = None
        lengths = [len(row) for row in rows]
        for length, num_rows, places in shapes.batches(lengths, self._lengths, self._rows_of(target_tokens)):
            tokens = np.zeros([num_rows, length], np.int32)
            tokens[len(places) :, 0] = self._eos_id
            for row, place in zip(tokens, places, strict=False):
                row[: lengths[place]] = rows[place]
            started = (places, self._for_shape(function, num_rows, length)(self.params, tokens))
            if pending is not None:
                yield _fetched(*pending)
            pending = started
        if pending is not None:
            yield _fetched(*pending)


def _fetched(places: list[int], values: Any) -> tuple[list[int], Any]:
    return places, jax.tree.map(lambda array: np.asarray(array)[: len(places)], values)


def _model_of(
    config: network.T5Config | llama.LlamaConfig, vocabulary: Vocabulary
) -> models.EncoderDecoderModel | models.DecoderOnlyModel:
    """The model that decodes greedily; scores are log-probabilities of what is decoded."""
    settings = {
        "optimizer_def": optimizers.sgd(learning_rate=0.0),  # of which nothing is read
        "decode_fn": functools.partial(decoding.temperature_sample, temperature=0.0, rescale_log_probs=False),
    }
    if isinstance(config, llama.LlamaConfig):
        return models.DecoderOnlyModel(llama.Llama(config), vocabulary, **settings)
    return models.EncoderDecoderModel(network.Transformer(config), vocabulary, vocabulary, **settings)


def _here(config: _Config) -> _Config:
    """The network as the devices at hand compute it best: CPUs have no fast bfloat16, and no fused attention."""
    if jax.default_backend() != "cpu":
        return config
    return config.replace(dtype=jnp.float32, attention="plain")
