"""An experiment file becomes runs, each once; a mistake in it is one line that says where and what would be right."""

import re

import pytest

from stepdistill_jax.experiments.experiment_file import read_experiment
from stepdistill_jax.experiments.planned_run import default_output, planned_runs

WHOLE = """
datasets = ["svamp", "cqa"]
methods = ["fine_tuning", "step_by_step", "few_shot_cot"]
teachers = ["palm-540b"]
seeds = [0, 1]
shares = [0.5, 1]
rationale_weights = [0.5, 1.0]
batch_examples = 64
steps = 100

[student.base]
gin_files = ["gin/dsbs_t5_base.gin"]
"""


@pytest.fixture
def experiment(tmp_path):
    """experiment(text): reads a file of that text."""

    def read(text=WHOLE):
        path = tmp_path / "compared.toml"
        path.write_text(text, encoding="utf-8")
        return read_experiment(path)

    return read


def ids(experiment):
    return [run.run_id for run in planned_runs(experiment)]


def test_every_combination_is_one_run_but_what_a_method_does_not_know(experiment):
    runs = planned_runs(experiment())
    count = {name: sum(run.method.name == name for run in runs) for name in ("fine_tuning", "step_by_step")}
    assert count == {"fine_tuning": 2 * 2 * 2, "step_by_step": 2 * 2 * 2 * 2}  # λ is step-by-step's alone
    asked = [run for run in runs if run.method.name == "few_shot_cot"]
    assert [run.run_id for run in asked] == ["svamp-few_shot_cot-palm-540b", "cqa-few_shot_cot-palm-540b"]
    assert len(ids(experiment())) == len(set(ids(experiment()))) == 8 + 16 + 2


def test_names_of_runs_say_what_they_are(experiment):
    names = ids(experiment())
    assert names[0] == "svamp-fine_tuning-base-s0.5-seed0"
    assert "cqa-step_by_step-palm-540b-base-s1-l0.5-seed1" in names
    other = WHOLE + '[[also]]\nmethods = ["step_by_step"]\npairings = ["paired"]\nprefixes = ["code"]\n'
    assert "svamp-step_by_step-palm-540b-base-s0.5-l1-paired-code-seed0" in ids(experiment(other))


def test_further_runs_are_added_once(experiment):
    again = (
        WHOLE
        + '[[also]]\nmethods = ["step_by_step"]\n[[also]]\nmethods = ["task_distillation"]\nshares = [1]\n'
    )
    assert set(ids(experiment(again))) - set(ids(experiment())) == {
        f"{name}-task_distillation-palm-540b-base-s1-seed{seed}"
        for name in ("svamp", "cqa")
        for seed in (0, 1)
    }


def test_further_runs_of_the_same_name_with_other_settings_are_refused(experiment):
    with pytest.raises(ValueError, match=r"two grids have a run svamp-fine_tuning-base-s0\.5-seed0"):
        ids(experiment(WHOLE + "[[also]]\nsteps = 50\n"))


def test_a_batch_in_examples_gives_step_by_step_two_rows_of_each(experiment):
    bindings = {run.method.name: run.gin_bindings() for run in planned_runs(experiment())}
    assert "BATCH_SIZE = 64" in bindings["fine_tuning"]
    assert "BATCH_SIZE = 128" in bindings["step_by_step"]
    assert "PACK = False" in bindings["fine_tuning"]
    assert bindings["few_shot_cot"] == ()


def test_bindings_say_what_is_read_and_the_run_s_own_come_last(experiment):
    text = (
        WHOLE.replace("steps = 100", "gin = ['WARMUP_STEPS = 0']") + "[gin_for]\ncqa = ['WARMUP_STEPS = 9']\n"
    )
    [run] = [
        r
        for r in planned_runs(experiment(text))
        if r.run_id == "cqa-step_by_step-palm-540b-base-s0.5-l0.5-seed1"
    ]
    bindings = run.gin_bindings()
    assert bindings[:2] == ("WARMUP_STEPS = 0", "WARMUP_STEPS = 9")
    assert {
        "MIXTURE_OR_TASK_NAME = 'cqa_step_by_step'", "TEACHER = 'palm-540b'", "PREFIXES = 'paper'", "TRAIN_SHARE = 0.5",
        "SUBSET_SEED = 1", "RANDOM_SEED = 1", "RATIONALE_WEIGHT = 0.5",
    } < set(bindings)  # fmt: skip
    assert not any(line.startswith("TRAIN_STEPS") for line in bindings)


def test_augmentation_needs_the_teacher_whatever_the_method(experiment):
    text = (
        WHOLE
        + '[[also]]\ndatasets = ["svamp"]\nmethods = ["fine_tuning"]\naugmentations = ["none", "asdiv:0.5"]\n'
    )
    [run] = [
        run
        for run in planned_runs(experiment(text))
        if run.augmentation and run.seed == 0 and run.train_share == 1
    ]
    assert run.run_id == "svamp-fine_tuning-palm-540b-base-s1-asdiv0.5-seed0"
    assert {"AUGMENTATION = 'asdiv'", "AUGMENTATION_SHARE = 0.5", "TEACHER = 'palm-540b'"} < set(
        run.gin_bindings()
    )
    assert run.facts()["augmentation"] == "asdiv:0.5"


def test_a_student_s_own_budget_takes_the_place_of_the_experiment_s(experiment):
    text = WHOLE + 'steps = 7\nbatch_rows = 4\n[student.large]\ngin_files = ["gin/dsbs_t5_large.gin"]\n'
    bindings = {run.student.name: run.gin_bindings() for run in planned_runs(experiment(text)) if run.student}
    assert {"TRAIN_STEPS = 7", "BATCH_SIZE = 4"} < set(bindings["base"])
    assert "PACK = False" not in bindings["base"]
    assert {"TRAIN_STEPS = 100", "BATCH_SIZE = 128"} < set(bindings["large"])


def test_packed_rows_of_each_task_give_every_method_as_many_labels(experiment):
    text = WHOLE.replace("batch_examples = 64", "batch_rows_per_task = 8")
    bindings = {run.method.name: run.gin_bindings() for run in planned_runs(experiment(text))}
    assert "BATCH_SIZE = 8" in bindings["fine_tuning"]
    assert "BATCH_SIZE = 16" in bindings["step_by_step"]
    assert "PACK = False" not in bindings["fine_tuning"]


def test_a_sweep_s_folder_is_named_after_folder_and_file(experiment, tmp_path):
    assert default_output(experiment()).as_posix() == f"runs/{tmp_path.name}_compared"


MISTAKES = {
    "an unknown key": ('stepz = 3\n' + WHOLE, "has no key 'stepz'; nearest 'steps'."),
    "an unknown key of a student": (WHOLE + "lr = 3\n", r"\[student.base\] has no key 'lr'"),
    "an unknown key of further runs": (WHOLE + "[[also]]\nseed = [3]\n", r"\[\[also\]\] has no key 'seed'; nearest 'seeds'"),
    "an unknown dataset": (WHOLE.replace('"cqa"', '"cqaa"'), "datasets: no 'cqaa'; nearest 'cqa'."),
    "an unknown method": (WHOLE.replace("few_shot_cot", "few_shots"), "methods: no 'few_shots'; nearest 'few_shot_cot'."),
    "an unknown gin file": (WHOLE.replace("t5_base", "t5_bass"), r"no file 'gin/dsbs_t5_bass.gin'; nearest 'gin/dsbs_t5_base.gin'"),
    "an unknown student": ('students = ["bass"]\n' + WHOLE, "students: no 'bass'; nearest 'base'."),
    "an empty list": (WHOLE.replace("[0, 1]", "[]"), "seeds is empty, so nothing would be run"),
    "a missing list": (WHOLE.replace("seeds = [0, 1]", ""), "seeds is missing; it is a list"),
    "no list": (WHOLE.replace("[0, 1]", "3"), "seeds=3; use a list of whole numbers."),
    "a share of nothing": (WHOLE.replace("[0.5, 1]", "[0.0, 1]"), "shares: 0 is not above 0 and at most 1"),
    "a share above all": (WHOLE.replace("[0.5, 1]", "[50]"), "shares: 50 is not above 0 and at most 1"),
    "a negative λ": (WHOLE.replace("[0.5, 1.0]", "[-1]"), "rationale_weights: -1; use 0 or more."),
    "no teacher": (WHOLE.replace('["palm-540b"]', "[]"), "methods has 'step_by_step', which needs a teacher"),
    "two kinds of batch": ("batch_rows = 3\n" + WHOLE, "batch_examples and batch_rows; keep one of them."),
    "two kinds of batch of a student": (WHOLE + "batch_rows = 3\nbatch_rows_per_task = 3\n", r"\[student.base\] has batch_rows and batch_rows_per_task"),
    "no steps": (WHOLE.replace("100", "0"), "steps=0; use a whole number above 0."),
    "no binding": ('gin = ["PACK"]\n' + WHOLE, r"gin=\['PACK'\]; use a list of bindings"),
    "no yes or no": ("rationales = 1\n" + WHOLE, "rationales=1; use true or false."),
    "gin for nothing": (WHOLE + "[gin_for]\nsvamps = ['A = 1']\n", "gin_for: no 'svamps'; nearest 'svamp'."),
    "no TOML": ("datasets = [", "not TOML"),
}  # fmt: skip


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_one_line_that_names_the_file(experiment, name):
    text, message = MISTAKES[name]
    with pytest.raises(ValueError, match=message) as raised:
        experiment(text)
    assert re.match(r".*compared\.toml: ", str(raised.value))
    assert "\n" not in str(raised.value)
