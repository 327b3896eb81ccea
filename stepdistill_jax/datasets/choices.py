"""What a run may choose about the tasks it reads, in gin or by the environment."""

import dataclasses
import os

import gin


@dataclasses.dataclass(frozen=True)
class TaskChoices:
    """What `task_choices` gives; its arguments say what each means."""

    prefixes: str
    teacher: str | None
    train_share: float
    subset_seed: int
    augmentation: str | None
    augmentation_share: float
    augmentation_teacher: str | None
    mixed_data: str
    keep_newlines: str | None


@gin.configurable(module="stepdistill_jax.datasets")
def task_choices(
    *,
    prefixes: str | None = None,
    teacher: str | None = None,
    train_share: float = 1.0,
    subset_seed: int = 0,
    augmentation: str | None = None,
    augmentation_share: float = 1.0,
    augmentation_teacher: str | None = None,
    mixed_data: str | None = None,
    keep_newlines: str | None = None,
) -> TaskChoices:
    """The choices, as gin binds them, else as the environment does.

    In a gin file: `from stepdistill_jax import datasets`, then `datasets.task_choices.prefixes = 'code'`; a run that
    includes gin/student.gin has a macro for each (PREFIXES, TEACHER, TRAIN_SHARE …).

    Args:
      prefixes: 'paper' or 'code'; default $STEPDISTILL_PREFIXES, else 'paper'.
      teacher: whose rationales are read; default $STEPDISTILL_TEACHER, else the dataset's own.
      train_share: of the train split's examples, above 0 and at most 1 (`subsets`); other splits are never cut.
      subset_seed: of the order by which both shares are taken.
      augmentation: a dataset whose training questions join the train split of every task, without their gold labels: labels
        and rationales are both the teacher's. The paper gives SVAMP ASDiv's questions so.
      augmentation_share: of that dataset's train split.
      augmentation_teacher: who answers them; default `teacher`, else that dataset's own.
      mixed_data: 'refuse' or 'allow', for data that do not belong together (`lineage`): rationales of other examples, test
        questions in the training data, a run's data changed under it. Default $STEPDISTILL_MIXED_DATA, else 'refuse'.
      keep_newlines: a word of the vocabulary that line breaks are written as, and read back from (`spelling`); None leaves
        them to the vocabulary, which may lose them.

    Raises:
      ValueError: for a share that is not above 0 and at most 1, a `mixed_data` that is neither word, or a
        `keep_newlines` that is not one word.
    """
    for name, share in (("train_share", train_share), ("augmentation_share", augmentation_share)):
        if not 0 < share <= 1:
            raise ValueError(
                f"task_choices.{name}={share}; use a share above 0 and at most 1 of the train split."
            )
    mixed_data = mixed_data or os.environ.get("STEPDISTILL_MIXED_DATA") or "refuse"
    if mixed_data not in ("refuse", "allow"):
        raise ValueError(
            f"mixed_data={mixed_data!r} (task_choices.mixed_data, or STEPDISTILL_MIXED_DATA); use 'refuse' or 'allow'."
        )
    if keep_newlines is not None and keep_newlines.split() != [keep_newlines]:
        raise ValueError(f"task_choices.keep_newlines={keep_newlines!r}; use one word, e.g. '<extra_id_99>'.")
    teacher = teacher or os.environ.get("STEPDISTILL_TEACHER")
    return TaskChoices(
        prefixes=prefixes or os.environ.get("STEPDISTILL_PREFIXES") or "paper",
        teacher=teacher,
        train_share=train_share,
        subset_seed=subset_seed,
        augmentation=augmentation,
        augmentation_share=augmentation_share,
        augmentation_teacher=augmentation_teacher or teacher,
        mixed_data=mixed_data,
        keep_newlines=keep_newlines,
    )
