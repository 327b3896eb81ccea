"""From what a run by names is told to all that it needs: checked first, then filled up from the data."""

import dataclasses
import math
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from stepdistill_jax.base import locations
from stepdistill_jax.base.messages import nearest
from stepdistill_jax.base.methods import METHODS, Method
from stepdistill_jax.launching.named import beginnings, measuring, students
from stepdistill_jax.launching.named.gin_text import Plan, own_part
from stepdistill_jax.launching.named.settings import Settings

_LONGEST_INPUTS = 1_024  # tokens, as in the paper; longer inputs are cut unless --inputs_length says more
_LONGEST_RATIONALES = 256  # of the paper's
_LONGEST_RATIONALES_IN_BYTES = 512
_STEPS_A_PASS = 16  # at least, as far as there are rows: few examples fill few large batches
_FEWEST_ROWS = 4
_FEWEST_STEPS = 100
_LOOKS = 10  # at the validation split
_LONGEST_PERIOD = 1_000
_OPEN = ("steps", "batch_size", "inputs_length", "targets_length")


def plan(settings: Settings, *, data_dir: str | os.PathLike[str] | None = None) -> Plan:
    """The run that `settings` mean, with a value for all that they leave open.

    Raises:
      ValueError, FileNotFoundError: one line that names the setting that can't be, and the mend.
    """
    settings = dataclasses.replace(
        settings, prefixes=settings.prefixes or os.environ.get("STEPDISTILL_PREFIXES") or None
    )
    check_numbers(settings)
    student = students.find(_student_of(settings))
    checkpoint = beginnings.checkpoint_of(settings.begin, student)
    budget = _for_devices(student.budget(from_scratch=checkpoint is None))
    method = _method(settings)
    embedded, teacher = _data_of(settings, data_dir)
    _check_vocabulary(student, settings.dataset, embedded=embedded)
    filled = dataclasses.replace(
        settings,
        student=student.name,
        begin=checkpoint or students.SCRATCH,
        teacher=teacher,
        rationale_weight=_rationale_weight(settings, method),
        learning_rate=settings.learning_rate or budget.learning_rate,
        output=settings.output or Path("runs") / settings.dataset,
        bindings=_for_this_device(
            _with_vocabulary(settings.bindings, student, checkpoint, embedded=embedded), student
        ),
    )
    known = Plan(filled, student, budget, checkpoint, embedded)
    if any(getattr(filled, name) is None for name in _OPEN):
        known = _by_the_data(known, data_dir)
    period = known.settings.eval_period or min(_LONGEST_PERIOD, max(1, known.settings.steps // _LOOKS))
    filled = dataclasses.replace(known.settings, eval_period=period, epochs=None)
    return dataclasses.replace(known, settings=filled)


def _for_devices(budget: students.Budget) -> students.Budget:
    """With no more devices to a copy of the model than there are."""
    import jax

    return dataclasses.replace(budget, num_partitions=min(budget.num_partitions, jax.device_count()))


def _rationale_weight(settings: Settings, method: Method) -> float | None:
    if method.has_rationale_task:
        return 1.0 if settings.rationale_weight is None else settings.rationale_weight
    if settings.rationale_weight is not None:
        raise ValueError(
            f"--rationale_weight={settings.rationale_weight:g}: {method.name} has no rationale task to weigh; leave it out."
        )
    return None


def check_numbers(settings: Settings) -> None:
    """Checks what can be told without data.

    Raises:
      ValueError: names the flag and what would be right.
    """
    if not 0 < settings.share <= 1:
        raise ValueError(f"--share={settings.share:g}: use a share above 0 and at most 1.")
    if settings.rationale_weight is not None and not 0 <= settings.rationale_weight < math.inf:
        raise ValueError(f"--rationale_weight={settings.rationale_weight:g}: use a finite number, 0 or more.")
    if settings.steps is not None and settings.epochs is not None:
        raise ValueError(f"--steps={settings.steps} and --epochs={settings.epochs:g}: give one of them.")
    for name in ("steps", "epochs", "batch_size", "learning_rate", "early_stopping", "eval_period", "inputs_length", "targets_length"):  # fmt: skip
        value = getattr(settings, name)
        if value is not None and not 0 < value < math.inf:
            raise ValueError(f"--{name}={value:g}: use a finite number above 0.")
    if not 0 <= settings.seed < 2**32:
        raise ValueError(f"--seed={settings.seed}: use 0 to {2**32 - 1}.")
    if settings.prefixes not in (None, "paper", "code"):
        raise ValueError(f"--prefixes={settings.prefixes} (or STEPDISTILL_PREFIXES): use paper or code.")


@contextmanager
def gin_file(known: Plan) -> Iterator[str]:
    """The path of a file with `own_part`, while it is read."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "train.gin"
        path.write_text(own_part(known), encoding="utf-8")
        yield str(path)


def _student_of(settings: Settings) -> str:
    if name := settings.student or beginnings.student_beside(settings.begin):
        return name
    raise ValueError(
        "train needs --student NAME, such as t5_1_1_small (with --from CHECKPOINT), or byt5_tiny, which learns from scratch."
    )


def _method(settings: Settings) -> Method:
    trained = {name: method for name, method in METHODS.items() if method.is_trained}
    if settings.method not in trained:
        raise ValueError(
            f"No method '{settings.method}'{nearest(settings.method, trained)}; there are {', '.join(trained)}."
        )
    return trained[settings.method]


def _data_of(settings: Settings, data_dir: str | os.PathLike[str] | None) -> tuple[bool, str | None]:
    """(whether the dataset has the embedded vocabulary, whose answers are read); checks that all of it is there."""
    from stepdistill_jax import datasets
    from stepdistill_jax.datasets.preparation import prepared_manifest
    from stepdistill_jax.datasets.task_sources import rationales_folder

    dataset = datasets.get(settings.dataset)
    counts = prepared_manifest(dataset.name, data_dir)["counts"]
    for split in ("train", "validation"):
        if not counts.get(split):
            raise ValueError(
                f"{dataset.name} has no examples in its {split} split, which training needs; it has "
                f"{', '.join(f'{count:,} {name}' for name, count in counts.items()) or 'none'}. Prepare it again with one."
            )
    method = METHODS[settings.method]
    if not method.needs_teacher:
        if settings.teacher is not None:
            raise ValueError(f"--teacher={settings.teacher}: {method.name} reads no teacher's answers; leave it out.")  # fmt: skip
        return dataset.embedded, None
    try:
        return dataset.embedded, rationales_folder(dataset, data_dir, teacher=settings.teacher).name
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{error} (--teacher names one; --method fine_tuning needs none)") from error


def _check_vocabulary(student: students.Student, dataset: str, *, embedded: bool) -> None:
    if student.name == "t5_1_1_tiny" and not embedded:
        raise ValueError(
            f"t5_1_1_tiny has the 1,024 pieces of the embedded word problems, not those of {dataset}'s text; from scratch "
            "take byt5_tiny, which reads bytes, or t5_1_1_mini."
        )


def _with_vocabulary(
    bindings: tuple[str, ...], student: students.Student, checkpoint: str | None, *, embedded: bool = False
) -> tuple[str, ...]:
    """With the vocabulary beside a language model's checkpoint, or a T5's that the data folder's would not be, so that the command
    says it, too."""
    name, file = students.VOCABULARY_FILE, None
    if student.is_decoder_only:
        name = students.TOKENIZER
        file = None if student.name.endswith(".gin") else beginnings.tokenizer_beside(checkpoint)
    elif not students.names_its_vocabulary(student.name):
        file = _of_a_t5(student, checkpoint, embedded=embedded)
    if file is None or any(binding.startswith(name) for binding in bindings):
        return bindings
    return (f"{name} = {file!r}", *bindings)


def _of_a_t5(student: students.Student, checkpoint: str | None, *, embedded: bool) -> str | None:
    """The file that a T5 with T5's vocabulary is to be told; None where its tasks have the right one by themselves.

    Embedded data have pieces of their own, which a student learns from scratch, and none that was pretrained knows.
    """
    from stepdistill_jax.datasets.vocabulary_files import t5_vocabulary_path

    named = os.environ.get("STEPDISTILL_VOCABULARY") or None
    if not embedded:
        return named
    if checkpoint is None or not student.is_published or beginnings.is_of_a_run(checkpoint):
        return None
    return named or str(t5_vocabulary_path(locations.data_dir()))


def _for_this_device(bindings: tuple[str, ...], student: students.Student) -> tuple[str, ...]:
    """With float32 where a CPU computes, which has no fast bfloat16."""
    import jax

    name = "llama.LlamaConfig.dtype"
    if (
        not student.is_decoder_only
        or jax.default_backend() != "cpu"
        or any(name in binding for binding in bindings)
    ):
        return bindings
    return (f"{name} = 'float32'", *bindings)


def _by_the_data(known: Plan, data_dir: str | os.PathLike[str] | None) -> Plan:
    """With lengths, rows and steps that fit the training examples."""
    from stepdistill_jax.launching import launch

    settings, budget = known.settings, known.budget
    # Nothing of these is built; what a task reads is bound beside them.
    anything = dataclasses.replace(settings, inputs_length=1, targets_length=1, batch_size=1, steps=1, eval_period=1)  # fmt: skip
    with gin_file(dataclasses.replace(known, settings=anything)) as file:
        launch.read_config([file, *settings.gin_files], settings.bindings, data_dir=data_dir)
    texts = measuring.measure(f"{settings.dataset}_{METHODS[settings.method].task_ending}")
    most = _LONGEST_RATIONALES_IN_BYTES if known.student.reads_bytes else _LONGEST_RATIONALES
    inputs = measuring.inputs_length(texts, most=_LONGEST_INPUTS)
    targets = measuring.targets_length(texts, most=most)
    lengths = {
        "inputs": settings.inputs_length or inputs.tokens,
        "targets": settings.targets_length or targets.tokens,
    }
    rows = measuring.rows_of_a_pass(texts, lengths, joined=known.student.is_decoder_only)
    batch_size = settings.batch_size or _batch_size(rows, budget)
    steps = settings.steps or _steps(rows / batch_size, settings.epochs, budget)
    examples = max(task.num_examples for task in texts)
    filled = dataclasses.replace(
        settings,
        inputs_length=lengths["inputs"],
        targets_length=lengths["targets"],
        batch_size=batch_size,
        steps=steps,
    )
    notes = {
        "BATCH_SIZE": f"rows, with about {len(texts) * examples / rows:.1f} examples each",
        "TRAIN_STEPS": f"about {steps * batch_size / rows:.1f} passes over {examples:,} examples",
    }
    if settings.inputs_length is None:
        notes["TASK_FEATURE_LENGTHS"] = f"tokens; {inputs.note}"
    if settings.targets_length is None and "TASK_FEATURE_LENGTHS" in notes:
        notes["TASK_FEATURE_LENGTHS"] += f"; {targets.note}"
    return dataclasses.replace(known, settings=filled, notes=notes)


def _batch_size(rows_of_a_pass: int, budget: students.Budget) -> int:
    """The largest power of two that leaves a pass enough steps, rounded up to rows that split over the devices here."""
    import jax

    batch_size = _FEWEST_ROWS
    while batch_size * 2 <= budget.rows and rows_of_a_pass >= 2 * batch_size * _STEPS_A_PASS:
        batch_size *= 2
    copies = max(1, jax.device_count() // budget.num_partitions)
    return -(-batch_size // copies) * copies


def _steps(steps_of_a_pass: float, epochs: float | None, budget: students.Budget) -> int:
    if epochs is not None:
        return max(1, round(epochs * steps_of_a_pass))
    return min(budget.steps, max(_FEWEST_STEPS, round(budget.passes * steps_of_a_pass)))
