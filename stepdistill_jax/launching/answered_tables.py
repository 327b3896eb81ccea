"""A table answered by a run's student: its calibration and the columns that it reads are looked up first."""

import os
from pathlib import Path

from stepdistill_jax.launching import choice_scores, runs
from stepdistill_jax.prediction import answered_tables
from stepdistill_jax.prediction.description import read_description
from stepdistill_jax.prediction.predictor import Predictor
from stepdistill_jax.tables import Inputs, open_table


def answer_table(
    run: Path,
    input: Path,
    output: Path,
    *,
    inputs: str | None = None,
    rationale: bool = False,
    abstain_below: float = 0.0,
    step: int | None = None,
    encoding: str | None = None,
    delimiter: str | None = None,
    data_dir: str | os.PathLike[str] | None = None,
    num_partitions: int = 1,
    verify: bool = True,
) -> answered_tables.Answered:
    """`prediction.answered_tables.answer_table` for files and a run's folder.

    Args:
      inputs: template or columns that the student reads of a row; None takes those of its dataset.

    Raises:
      ValueError: also if the run is not whole, or no template is known.
    """
    if runs.needs_its_code(run):
        raise ValueError(
            f"{run} is not whole, so it answers texts alone: it was written by an earlier version (start its training command "
            "again, which ends at once where all steps are done), or its task is one of your own."
        )
    template = inputs or read_description(run).dataset.get("inputs")
    if not template:
        raise ValueError(
            f"--inputs is missing: {run} was not trained on a table, so that it does not say which columns it reads; give a "
            "template such as '{question}'."
        )
    columns = Inputs(template)
    table = open_table(input, encoding=encoding, delimiter=delimiter)
    answered_tables.check_files(table, output, inputs=columns)
    predictor = Predictor(run, step=step, num_partitions=num_partitions, verify=verify)
    choice_scores.calibrate_if_possible(predictor, data_dir=data_dir)
    return answered_tables.answer_table(
        predictor, table, output, inputs=columns, rationale=rationale, abstain_below=abstain_below
    )
