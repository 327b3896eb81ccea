"""What a contender's process does: it compiles, says that it is ready, and measures when its turn comes. NumPy only.

Its settings are JSON on the command line, what to do comes on standard input: 'train', 'profile FOLDER', 'labels'. Every answer is
a JSON object of one line.
"""

import dataclasses
import itertools
import json
import math
import resource
import shlex
import statistics
import sys
import time
import traceback
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import batches

NUM_BATCHES = 4  # that steps go through over and over
NUM_FIRST_STEPS = 4  # taken one by one for their losses, and not timed
NUM_PROFILED_STEPS = 3


@dataclasses.dataclass(frozen=True)
class Settings:
    """Of one contender.

    Attributes:
      name: for people.
      who: 'ours', 't5x' or 'huggingface'.
      size: of `contender.SIZES`.
      examples: file of token ids (`batches.load`).
      rows, inputs, targets: packed rows of a batch, and their lengths in tokens.
      padded_examples: of a batch of Hugging Face's, which packs nothing; half of them are rationales.
      steps: that are timed one by one, and again without waiting in between.
      labels: examples to decode, a multiple of `label_batch`; 0 for none.
      dtype: of the computation; parameters are float32.
      network: further fields of T5Config.
      model: further arguments of EncoderDecoderModel.
      num_microbatches: of the Trainer.
      xla_flags: of its process, besides those that $XLA_FLAGS has.
    """

    name: str
    who: str
    size: str
    examples: str
    rows: int
    inputs: int
    targets: int
    padded_examples: int
    steps: int
    labels: int
    label_batch: int
    dropout_rate: float
    dtype: str
    network: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    model: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    num_microbatches: int | None = None
    xla_flags: str = ""


class Contender(ABC):
    """A T5 with its optimizer in some framework on one device.

    Attributes:
      batches: what steps are taken with, still in the host's memory.
      num_tokens, num_targets: of each batch, without padding: all, and those of the targets.
      forwards: of each batch, (rows, inputs, targets) of its forward passes.
    """

    batches: Sequence[Any]
    num_tokens: Sequence[int]
    num_targets: Sequence[int]
    forwards: Sequence[Sequence[tuple[int, int, int]]]

    def __init__(self, settings: Settings) -> None:
        self.settings = settings

    def take_packed_batches(self) -> None:
        """Sets the attributes: the first batches of packed rows, the examples over and over if need be."""
        settings = self.settings
        mixture = batches.alternating(batches.load(settings.examples))
        endless = itertools.chain.from_iterable(itertools.repeat(mixture))
        made = batches.packed_batches(endless, settings.rows, (settings.inputs, settings.targets))
        self.batches = list(itertools.islice(made, NUM_BATCHES))
        self.num_tokens = [batches.num_tokens(batch) for batch in self.batches]
        self.num_targets = [int(batch["decoder_loss_weights"].sum()) for batch in self.batches]
        self.forwards = [[(settings.rows, settings.inputs, settings.targets)]] * len(self.batches)

    @abstractmethod
    def prepare(self) -> float | None:
        """Compiles, and leaves the device's memory to others; seconds that the training step took, None if nothing is compiled."""

    @abstractmethod
    def start(self) -> None:
        """Puts first parameters on the device."""

    @abstractmethod
    def run(self, batches: Sequence[Any]) -> None:
        """Takes a step with each batch; need not wait for it."""

    @abstractmethod
    def wait(self) -> None:
        """Until all steps are taken."""

    @abstractmethod
    def loss(self) -> float:
        """Of the last step, in nats a target token."""

    @abstractmethod
    def decode(self, start: int) -> int:
        """Decodes `label_batch` labels from that one on, greedily to the full length; returns their number."""

    @abstractmethod
    def device(self) -> tuple[str, int | None]:
        """(what its driver calls it, the most bytes that were in use; None where it does not tell)."""

    @abstractmethod
    def versions(self) -> str:
        """Of the frameworks, with their names."""

    def notes(self) -> list[str]:
        """What else there is to say of how it computes."""
        return []

    def profile(self, folder: str) -> dict[str, Any]:
        """What the device did in some steps."""
        raise NotImplementedError(f"{self.settings.who} is not profiled.")


def label_rows(settings: Settings) -> batches.Batch:
    """The examples to decode, one a row."""
    labels = batches.load(settings.examples)["label"][: settings.labels]
    return batches.padded(labels, batches.longest(labels))


def train(contender: Contender) -> dict[str, Any]:
    """Takes the first steps, then times steps one by one, then several without waiting for each."""
    settings = contender.settings
    begin = time.perf_counter()
    contender.start()
    endless = itertools.cycle(range(len(contender.batches)))
    losses = []
    for number in range(NUM_FIRST_STEPS):
        contender.run([contender.batches[next(endless)]])
        losses.append(contender.loss())
        if number == 0:
            first_step_seconds = time.perf_counter() - begin
    seconds = []
    for _ in range(settings.steps):
        begin = time.perf_counter()
        contender.run([contender.batches[next(endless)]])
        contender.wait()
        seconds.append(time.perf_counter() - begin)
    piped = list(itertools.islice(endless, settings.steps))
    begin = time.perf_counter()
    contender.run([contender.batches[number] for number in piped])
    contender.wait()
    piped_seconds = time.perf_counter() - begin
    kind, peak_bytes = contender.device()
    cells = [sum(rows * (i + t) for rows, i, t in of_batch) for of_batch in contender.forwards]
    return {
        "device_kind": kind,
        "losses": [loss if math.isfinite(loss) else str(loss) for loss in losses],
        "step_ms": 1e3 * statistics.median(seconds),
        "piped_ms": 1e3 * piped_seconds / settings.steps,
        "tokens_per_second": sum(contender.num_tokens[number] for number in piped) / piped_seconds,
        "target_tokens": min(contender.num_targets),
        "fill": sum(contender.num_tokens) / sum(cells),
        "peak_gib": (peak_bytes or host_peak_bytes()) / 2**30,
        "first_step_seconds": first_step_seconds,
        "forwards": contender.forwards,
        "versions": contender.versions(),
        "notes": contender.notes(),
    }


def labels(contender: Contender) -> dict[str, Any]:
    """Decodes a batch that does not count, then all of them."""
    settings = contender.settings
    contender.decode(0)
    begin = time.perf_counter()
    decoded = sum(contender.decode(start) for start in range(0, settings.labels, settings.label_batch))
    return {"labels_per_second": decoded / (time.perf_counter() - begin)}


def host_peak_bytes() -> int:
    """Of this process's resident memory."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def serve(make: Callable[[Settings], Contender]) -> None:
    """Prepares and says so, then answers until standard input ends. An error is an answer too, and ends the process."""
    commands = {
        "train": train,
        "labels": labels,
        "profile": lambda contender, folder: contender.profile(folder),
    }
    try:
        contender = make(Settings(**json.loads(sys.argv[1])))
        say(compile_seconds=contender.prepare())
        for line in sys.stdin:
            command, *arguments = shlex.split(line)
            say(**commands[command](contender, *arguments))
    except (
        Exception
    ) as error:  # of any framework: whoever asked writes it down and goes on with the next contender
        traceback.print_exc()
        text = str(error).strip() or "no message"
        say(error=f"{type(error).__name__}: {text.splitlines()[0][:300]}")
        sys.exit(1)


def say(**values: Any) -> None:
    print(json.dumps(values), flush=True)
