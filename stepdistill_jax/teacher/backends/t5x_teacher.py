"""The teacher `t5x:CHECKPOINT`: a model of our own engine (FLAN-T5, say), decoded over its mesh.

`t5x:RUN` is a run's folder, whose config.gin and newest checkpoint are taken; `t5x:CHECKPOINT` with the option gin_file=FILE is
a checkpoint and a gin file that binds MODEL. Options: gin_file, max_batch, max_input_tokens, and any gin macro, such as
NUM_PARTITIONS=8. Where a vocabulary has no line break, as T5's, prompts are read with spaces in their place, and stop strings
likewise.
"""

import functools
import inspect
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from stepdistill_jax.base import checkpoint_folders
from stepdistill_jax.teacher.answers.language_model import LanguageModel
from stepdistill_jax.teacher.answers.requests import Answer, Request, RequestError, Sampling
from stepdistill_jax.teacher.backends.batching import Batched
from stepdistill_jax.teacher.backends.teachers import ModelSettings

MAX_BATCH = 32  # rows decoded at once
MAX_INPUT_TOKENS = 2048  # T5's positions are relative, so this is a matter of memory
_TWO_LINES = "a\nb"
_SHORTEST_INPUTS = 64  # inputs are padded to 64, 128, 256, …, so that few shapes are compiled


def make(model: str, settings: ModelSettings) -> LanguageModel:
    """The teacher, not loaded yet.

    Raises:
      ValueError: if there is no such run or checkpoint, or an option is wrong.
    """
    return Batched(T5XEngine(model, settings))


class T5XEngine:
    """The engine as a BatchEngine. Sampled answers depend on which requests share a batch; greedy ones do not."""

    def __init__(self, model: str, settings: ModelSettings):
        options = dict(settings.options)
        self._checkpoint, self._gin_file = _find(model, options.pop("gin_file", None))
        self.max_batch = _positive(options, "max_batch", MAX_BATCH)
        self._max_input_tokens = _positive(options, "max_input_tokens", MAX_INPUT_TOKENS)
        self._bindings = [f"{name} = {value}" for name, value in options.items()]
        if settings.api == "chat":
            raise ValueError("--api chat: a t5x: teacher has no chat, it continues texts; leave --api out.")
        self.name = "t5x-" + re.sub(r"[^A-Za-z0-9._-]+", "-", model).strip("-.")
        self.model, self.chat = str(self._checkpoint), False
        self._decoder: Decoder | None = None

    def start(self) -> None:
        from stepdistill_jax.launching import launch

        launch.read_config(
            ["gin/teach.gin", str(self._gin_file)],
            [f"CHECKPOINT_PATH = {str(self._checkpoint)!r}", *self._bindings],
        )
        import gin

        self._decoder = launch.configured(gin.get_configurable(Decoder))

    def answer_batch(self, requests: Sequence[Request]) -> Sequence[Answer | RequestError]:
        """Decodes together what is sampled alike (seeds aside)."""
        assert self._decoder is not None, "start() comes first"
        groups: dict[Sampling, list[int]] = {}
        answers: list[Answer | RequestError | None] = [None] * len(requests)
        rows = [self._decoder.tokens(str(request.prompt)) for request in requests]
        for place, (request, row) in enumerate(zip(requests, rows, strict=True)):
            if len(row) > self._max_input_tokens:
                answers[place] = RequestError(
                    "prompt too long", f"{len(row)} tokens, max_input_tokens={self._max_input_tokens}"
                )
            else:
                groups.setdefault(request.sampling, []).append(place)
        for sampling, places in groups.items():
            decoded = self._decoder.decode(
                [rows[place] for place in places], sampling=sampling, batch_size=self.max_batch
            )
            for place, answer in zip(places, decoded, strict=True):
                answers[place] = answer
        return [answer for answer in answers if answer is not None]

    def stop(self) -> None:
        self._decoder = None


class Decoder:
    """A restored model that continues token rows; gin gives its arguments (gin/teach.gin)."""

    def __init__(self, *, model: Any, partitioner: Any, restore_checkpoint_cfg: Any):
        import jax

        from stepdistill_jax.engine.evaluate.restored_model import restore_model
        from stepdistill_jax.engine.model import base_model

        if jax.process_count() > 1:
            raise ValueError(
                f"--teacher t5x: runs in one process, not in {jax.process_count()}; give each its own part by --shard i/n."
            )
        self._model, self._partitioner = model, partitioner
        self._restored = restore_model(model, restore_checkpoint_cfg, partitioner)
        self._takes = set(inspect.signature(model.decode_fn).parameters)
        self._features = base_model.feature_names(model)
        words = model.input_vocabulary
        self._has_line_break = words.decode(words.encode(_TWO_LINES)) == _TWO_LINES

    def tokens(self, text: str) -> list[int]:
        words = self._model.input_vocabulary
        return [*words.encode(self._as_read(text)), words.eos_id]

    def _as_read(self, text: str) -> str:
        return text if self._has_line_break else " ".join(text.split())

    def decode(self, rows: Sequence[Sequence[int]], *, sampling: Sampling, batch_size: int) -> list[Answer]:
        """An answer for each row of tokens."""
        parts = self._partitioner.data_mesh_size
        batch_size = -(-min(batch_size, len(rows)) // parts) * parts
        answers: list[Answer] = []
        for first in range(0, len(rows), batch_size):
            batch = rows[first : first + batch_size]
            tokens = self._decode_batch(batch, sampling, batch_size)
            answers += [
                self._answer(row, decoded, sampling) for row, decoded in zip(batch, tokens, strict=False)
            ]
        return answers

    def _decode_batch(self, rows: Sequence[Sequence[int]], sampling: Sampling, batch_size: int) -> np.ndarray:
        """int32 [batch_size, max_tokens]; rows behind those given are padding."""
        import jax

        from stepdistill_jax.engine.evaluate.prompt_rows import prompt_row

        longest = max(map(len, rows))
        length = _SHORTEST_INPUTS
        while length < longest:
            length *= 2
        room = sampling.max_tokens
        examples = [
            prompt_row(self._features, row, inputs_length=length, targets_length=room)
            for row in (*rows, *[()] * (batch_size - len(rows)))
        ]
        batch = {name: np.stack([example[name] for example in examples]) for name in examples[0]}
        step = self._step(sampling.temperature, sampling.top_p, room)
        key = jax.random.PRNGKey(sampling.seed or 0)
        tokens = np.asarray(step(self._restored.state.params, self._partitioner.global_batch(batch), key))
        return tokens[:, :room]  # rows of inputs and targets together are longer

    @functools.lru_cache(maxsize=8)  # noqa: B019 - the decoder lives as long as the job
    def _step(self, temperature: float, top_p: float, max_tokens: int) -> Any:
        from jax.sharding import PartitionSpec

        settings: dict[str, Any] = {"temperature": temperature, "topk": 1 if temperature == 0.0 else 0}
        if temperature > 0.0:
            settings["topp"] = 0.0 if top_p == 1.0 else top_p
            if missing := sorted(set(settings) - self._takes):
                raise ValueError(
                    f"--temperature={temperature}: the model's decode_fn takes no {missing[0]}; bind temperature_sample."
                )
        settings["max_decode_steps_hard_limit"] = max_tokens
        known = {name: value for name, value in settings.items() if name in self._takes}

        def step(params: Any, batch: Any, key: Any) -> Any:
            rng = key if "decode_rng" in self._takes else None
            tokens, _ = self._model.predict_batch_with_aux(params, batch, rng=rng, decoder_params=known)
            return tokens

        return self._partitioner.partition(
            step,
            in_axis_resources=(
                self._restored.axes.params,
                self._partitioner.data_partition_spec,
                PartitionSpec(),
            ),
            out_axis_resources=PartitionSpec(),
        )

    def _answer(self, row: Sequence[int], decoded: np.ndarray, sampling: Sampling) -> Answer:
        words = self._model.output_vocabulary
        tokens = [int(token) for token in decoded if token != 0]
        ended = words.eos_id in tokens
        if ended:
            tokens = tokens[: tokens.index(words.eos_id) + 1]
        text = words.decode(tokens).strip()
        cut = [place for stop in sampling.stop if (place := text.find(self._as_read(stop))) > 0]
        return Answer(
            text=text[: min(cut)].rstrip() if cut else text,
            finish_reason="stop" if ended or cut else "length",
            prompt_tokens=len(row),
            completion_tokens=len(tokens),
        )


def _find(model: str, gin_file: Any) -> tuple[Path, Path]:
    """(checkpoint, gin file) of 't5x:MODEL'."""
    path = Path(model)
    if not model or not path.is_dir():
        raise ValueError(
            f"--teacher t5x:{model}: no such folder; name a run's folder, or a checkpoint with gin_file=FILE."
        )
    if gin_file is None and not (path / "config.gin").is_file():
        raise ValueError(
            f"--teacher t5x:{model}: no config.gin there; name a run's folder, or add --teacher_option gin_file=FILE."
        )
    found = Path(gin_file) if gin_file is not None else path / "config.gin"
    steps = checkpoint_folders.steps_in(path)
    checkpoint = path / checkpoint_folders.name_of(steps[-1]) if steps else path
    return checkpoint.absolute(), found.absolute() if found.is_file() else found


def _positive(options: dict[str, Any], name: str, default: int) -> int:
    value = options.pop(name, default)
    try:
        number = int(value)
    except (TypeError, ValueError):
        number = 0
    if number < 1:
        raise ValueError(f"--teacher_option {name}={value}: use a whole number above 0.")
    return number
