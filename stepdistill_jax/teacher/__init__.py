"""The teacher: prepared examples in, rationales and labels out, as TFRecords."""

from stepdistill_jax.teacher.completions import Completion, Skipped, Teacher
from stepdistill_jax.teacher.job import rationales_folder, teach
from stepdistill_jax.teacher.parsing import UNPARSED_REASONS, ParsedCompletion, parse_completion
from stepdistill_jax.teacher.recorded import RecordedTeacher
from stepdistill_jax.teacher.scoring import Score, score, score_records
from stepdistill_jax.teacher.worked import WorkedTeacher

__all__ = [
    "UNPARSED_REASONS",
    "Completion",
    "ParsedCompletion",
    "RecordedTeacher",
    "Score",
    "Skipped",
    "Teacher",
    "WorkedTeacher",
    "parse_completion",
    "rationales_folder",
    "score",
    "score_records",
    "teach",
]
