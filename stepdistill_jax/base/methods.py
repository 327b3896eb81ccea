"""The methods of the paper: their names, words and colours, and the tasks that each learns. All else asks here.

Section numbers and equations are those of Hsieh et al. 2023 (arXiv:2305.02301).
"""

import dataclasses
from collections.abc import Mapping

# The one colour that the report's page turns light in dark mode.
INK = "#1b1f24"


@dataclasses.dataclass(frozen=True)
class Method:
    """One way of learning from a teacher, or of asking it.

    Attributes:
      name: as experiment files and results have it.
      words: as a table or a figure says it.
      colour: in all figures.
      task_ending: what is trained on is the SeqIO task or mixture <dataset>_<task_ending>; None where nothing is trained.
      needs_teacher: whether a teacher's answers are read.
      label_task: the task, <dataset>_<label_task>, that its label comes from where label and rationale are two tasks, so
        that λ and their pairing matter; None elsewhere.
      is_baseline: whether others are compared with it: it has the labels alone.
      is_one_target: whether a rationale and the label behind it are one target, and an answer has to be read.
    """

    name: str
    words: str
    colour: str
    task_ending: str | None
    needs_teacher: bool = True
    label_task: str | None = None
    is_baseline: bool = False
    is_one_target: bool = False

    @property
    def is_trained(self) -> bool:
        return self.task_ending is not None

    @property
    def has_rationale_task(self) -> bool:
        return self.label_task is not None

    @property
    def num_tasks(self) -> int:
        """Targets of an example."""
        return 2 if self.has_rationale_task else 1


# Colours: the palette of Okabe and Ito (Color Universal Design, 2008) without yellow, which is faint on white, and with INK
# for their black; the eighth is Paul Tol's wine. In grey, markers and dashes tell lines apart.
METHODS: Mapping[str, Method] = {
    method.name: method
    for method in (
        Method("fine_tuning", "fine-tuning", "#0072B2", "label", needs_teacher=False, is_baseline=True),
        Method("task_distillation", "standard distillation", "#009E73", "teacher_label", is_baseline=True),
        # Eq. 3, with gold labels and with the teacher's
        Method("step_by_step", "step-by-step", "#D55E00", "step_by_step", label_task="label"),
        Method(
            "step_by_step_teacher_label",
            "step-by-step, teacher labels",
            "#CC79A7",
            "step_by_step_teacher_label",
            label_task="teacher_label",
        ),
        # Eq. 5, the single-task ablation of Table 2
        Method(
            "rationale_then_label",
            "single-task rationale then label",
            "#56B4E9",
            "rationale_then_label",
            is_one_target=True,
        ),
        Method(
            "rationale_then_teacher_label",
            "single-task rationale then teacher label",
            "#882255",
            "rationale_then_teacher_label",
            is_one_target=True,
        ),
        # Eq. 2, PINTO: the teacher is asked at test time, too
        Method("rationale_as_input", "rationale as input", "#E69F00", "rationale_as_input"),
        # the teacher itself
        Method("few_shot_cot", "few-shot CoT", INK, None),
    )
}
TEACHER = "few_shot_cot"


def words_of(name: str) -> str:
    """A method as people say it; a name of one's own as it is, without its underscores."""
    return METHODS[name].words if name in METHODS else name.replace("_", " ")


def method_of_task(task: str) -> tuple[str, Method] | None:
    """(dataset, method) of the task or mixture that is trained on: ('cqa', step_by_step) of 'cqa_step_by_step'."""
    trained = [method for method in METHODS.values() if method.is_trained]
    for method in sorted(trained, key=lambda method: -len(method.task_ending)):
        if task.endswith(f"_{method.task_ending}"):
            return task.removesuffix(f"_{method.task_ending}"), method
    return None
