"""The methods of the paper, as a sweep names them; they differ in the SeqIO task that is learnt, and in nothing else."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Method:
    """One way of learning from a teacher, or of asking it.

    Attributes:
      name: as experiment files and results have it.
      task_ending: what is trained on is <dataset>_<task_ending>; None where nothing is trained.
      needs_teacher: whether a teacher's answers are read.
      num_tasks: targets of an example: 2 where label and rationale are apart, so that λ and their pairing matter.
    """

    name: str
    task_ending: str | None
    needs_teacher: bool = True
    num_tasks: int = 1

    @property
    def is_trained(self) -> bool:
        return self.task_ending is not None

    @property
    def has_rationale_task(self) -> bool:
        return self.num_tasks == 2


# Section numbers and equations are those of Hsieh et al. 2023 (arXiv:2305.02301).
METHODS = {
    method.name: method
    for method in (
        Method("fine_tuning", "label", needs_teacher=False),
        Method("task_distillation", "teacher_label"),
        Method("step_by_step", "step_by_step", num_tasks=2),  # Eq. 3, gold labels
        Method("step_by_step_teacher_label", "step_by_step_teacher_label", num_tasks=2),
        Method("rationale_then_label", "rationale_then_label"),  # Eq. 5, the single-task ablation of Table 2
        Method("rationale_then_teacher_label", "rationale_then_teacher_label"),
        Method(
            "rationale_as_input", "rationale_as_input"
        ),  # Eq. 2, PINTO: the teacher is asked at test time too
        Method("few_shot_cot", None),  # the teacher itself
    )
}
