"""The students that are known by name, the files of gin/models, and what suits each size where nothing else is said."""

import dataclasses
from pathlib import Path

from stepdistill_jax.base import own_files
from stepdistill_jax.base.gin_bindings import read_bindings
from stepdistill_jax.base.messages import nearest

SCRATCH = "scratch"
# What says a vocabulary in gin: a language model's, and that of the tasks.
TOKENIZER = "TOKENIZER"
VOCABULARY_FILE = "datasets.vocabulary_choice.file"


@dataclasses.dataclass(frozen=True)
class Budget:
    """What suits a size of student.

    Attributes:
      rows: packed rows of a step, at most.
      steps: at most.
      passes: over the training data, as far as `steps` allows.
      learning_rate: Adafactor's.
      dropout_rate: of the network.
      num_partitions: devices that hold one copy of the model.
      num_microbatches: parts of a step's rows that are computed one after the other; None is all at once.
      shards_parameters: whether parameters are split over the other devices, too (FSDP).
    """

    rows: int
    steps: int
    passes: int
    learning_rate: float
    dropout_rate: float = 0.1
    num_partitions: int = 1
    num_microbatches: int | None = None
    shards_parameters: bool = False


# From a checkpoint: rows, steps, rates and devices are those of gin/dsbs_t5_<size>.gin, which say where they come from.
PRETRAINED = {
    "small": Budget(rows=64, steps=10_000, passes=30, learning_rate=0.001),
    "base": Budget(rows=64, steps=10_000, passes=30, learning_rate=0.001),
    "large": Budget(rows=64, steps=10_000, passes=30, learning_rate=0.001, num_partitions=2),
    "xl": Budget(rows=32, steps=10_000, passes=30, learning_rate=0.001, num_partitions=4),
    "xxl": Budget(
        rows=32,
        steps=4_000,
        passes=30,
        learning_rate=0.001,
        num_partitions=8,
        num_microbatches=8,
        shards_parameters=True,
    ),
}
# Language models, which begin with a checkpoint always: rows and rates are those of gin/dsbs_<student>.gin. Three passes, as such
# models are fine-tuned; dropout, as they are pretrained, none.
DECODER_ONLY = {
    "smollm2_135m": Budget(rows=16, steps=10_000, passes=3, learning_rate=1e-4, dropout_rate=0.0),
    "llama_3_2_1b": Budget(rows=16, steps=10_000, passes=3, learning_rate=2e-5, dropout_rate=0.0),
}
ANY_DECODER_ONLY = Budget(rows=16, steps=10_000, passes=3, learning_rate=5e-5, dropout_rate=0.0)
# From random parameters: the rate is that of gin/dsbs_t5_tiny.gin and _mini.gin, and falls to nothing.
FROM_SCRATCH = Budget(rows=16, steps=2_000, passes=30, learning_rate=0.01)
_SCRATCH_RATE = 1e-3  # AdamW's, of a language model from random parameters
_ONLY_FROM_SCRATCH = ("tiny", "mini")  # sizes that nobody publishes
# One of these that goes on from a checkpoint of one's own: in few steps, at the rate of all that begin with one.
SMALLEST_PRETRAINED = dataclasses.replace(FROM_SCRATCH, learning_rate=0.001)


@dataclasses.dataclass(frozen=True)
class Student:
    """A network by name.

    Attributes:
      name: as gin/models has it, or the path of a file of the same kind.
      gin_file: as `include` takes it.
      size: the key of PRETRAINED; 'tiny' or 'mini' where there is no checkpoint; None of a language model.
      is_decoder_only: whether it is a language model, not a T5.
    """

    name: str
    gin_file: str
    size: str | None
    is_decoder_only: bool = False

    @property
    def is_published(self) -> bool:
        """Whether there are checkpoints of it, so that to begin without one is worth a question."""
        return self.size not in _ONLY_FROM_SCRATCH

    @property
    def family(self) -> str:
        """The name without a path: of a converted model's gin file that of its folder."""
        return Path(self.name).absolute().parent.name if self.name.endswith(".gin") else self.name

    @property
    def reads_bytes(self) -> bool:
        """Whether a token is a byte."""
        return self.name.startswith("byt5_")

    def budget(self, *, from_scratch: bool) -> Budget:
        """What suits it."""
        if self.is_decoder_only:
            known = DECODER_ONLY.get(self.family, ANY_DECODER_ONLY)
            return dataclasses.replace(known, learning_rate=_SCRATCH_RATE) if from_scratch else known
        return FROM_SCRATCH if from_scratch else PRETRAINED.get(self.size, SMALLEST_PRETRAINED)


def names() -> list[str]:
    """The students that there are, in order of name."""
    return sorted(path.stem for path in (own_files.root() / "gin" / "models").glob("*.gin"))


def find(name: str) -> Student:
    """The student of that name, or of that gin file, such as the model.gin that `convert` writes.

    Raises:
      ValueError: names the nearest.
    """
    if name.endswith(".gin"):
        if not Path(name).is_file():
            raise ValueError(f"--student {name}: there is no such file; name another, or one of gin/models.")
        is_decoder_only = _is_decoder_only(Path(name))
        size = None if is_decoder_only else _size_in(Path(name).absolute().parent.name) or "base"
        return Student(name, name, size, is_decoder_only)
    if name not in names():
        raise ValueError(
            f"No student '{name}'{nearest(name, names())}; the students are the files of gin/models, "
            f"such as {', '.join(_some_of_each_kind())}."
        )
    file = f"gin/models/{name}.gin"
    return Student(name, file, _size_in(name), _is_decoder_only(own_files.root() / file))


def names_its_vocabulary(name: str) -> bool:
    """Whether the student's gin file says which vocabulary it has, or it has the embedded one: all but those with T5's."""
    has_t5_s = name.startswith(("t5_", "flan_t5_")) and not name.endswith((".gin", "_tiny"))
    return not has_t5_s


def _is_decoder_only(gin_file: Path) -> bool:
    return any(name.startswith("LlamaConfig.") for name in read_bindings(gin_file))


def _size_in(name: str) -> str | None:
    size = name.rpartition("_")[2]
    return size if size in (*PRETRAINED, *_ONLY_FROM_SCRATCH) else None


def _some_of_each_kind() -> list[str]:
    return [name for name in names() if name.endswith(("_small", "_mini", "_tiny", "_135m"))]
