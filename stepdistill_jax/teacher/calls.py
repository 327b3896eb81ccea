"""`stepdistill_jax.teach`: the settings of `stepdistill teach` as keywords."""

import dataclasses
import os
from typing import Any

from stepdistill_jax.base.messages import nearest


def teach(
    name: str,
    *,
    teacher: Any,
    from_folder: str | os.PathLike[str] | None = None,
    teacher_name: str | None = None,
    data_dir: str | os.PathLike[str] | None = None,
    score: bool = False,
    **settings: Any,
) -> dict[str, Any]:
    """Writes DATA/<name>/rationales/<teacher>/, as `stepdistill teach` does, and returns its manifest.

    Args:
      name: of a prepared dataset.
      teacher: 'openai:MODEL' or another language model, 'recorded', 'worked', or a `teacher.LanguageModel` of one's own.
      from_folder: for 'recorded', the folder of its raw completions.
      teacher_name: of the folder to write, and for 'recorded' to read; None takes the dataset's, or makes one of the model's.
      data_dir: prepared data; see `datasets.data_dir`.
      score: whether to print the accuracy of the teacher's own labels, too.
      settings: of a language model, under the names of `teacher.ModelSettings` (base_url, api_key_env …), `teacher.PromptSettings`
        (prompt, shots, temperature …) and `teacher.JobSettings` (rows, requests_per_minute, first …).

    Raises:
      TypeError: for a setting that there is not.
      ValueError, OSError: one line: what can't be, and the mend.
      JobStopped, ServerGone: what is asked is kept, and the same call goes on.
    """
    from stepdistill_jax import teacher as room
    from stepdistill_jax.launching import task_modules

    kinds = (room.ModelSettings, room.PromptSettings, room.JobSettings)
    known = {field.name for kind in kinds for field in dataclasses.fields(kind)}
    if unknown := sorted(settings.keys() - known):
        raise TypeError(f"teach: no setting '{unknown[0]}'{nearest(unknown[0], known)}.")
    model, prompting, job = (
        kind(
            **{
                field.name: settings[field.name]
                for field in dataclasses.fields(kind)
                if field.name in settings
            }
        )
        for kind in kinds
    )
    task_modules.load_tasks(data_dir)
    return room.teach(
        name,
        teacher=teacher,
        from_folder=from_folder,
        teacher_name=teacher_name,
        data_dir=data_dir,
        score=score,
        model_settings=model,
        prompting=prompting,
        job_settings=job,
    )
