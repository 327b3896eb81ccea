"""What happens when data that do not belong together meet: an error of one line, or, where a run allows it, a note."""

from collections.abc import Iterable

from stepdistill_jax.base.messages import say_once
from stepdistill_jax.datasets.choices import task_choices

HOW_TO_GO_ON = "To go on all the same: STEPDISTILL_MIXED_DATA=allow."


class MixedData(ValueError):
    """Data that do not belong together."""


def settle(lines: Iterable[str]) -> list[str]:
    """Raises the first line, or says each once where `task_choices.mixed_data` is 'allow', and gives them back.

    Raises:
      MixedData: unless it is allowed.
    """
    lines = list(lines)
    if lines and task_choices().mixed_data != "allow":
        raise MixedData(lines[0])
    for line in lines:
        say_once(f"Allowed, and noted in run.json: {line.removesuffix(HOW_TO_GO_ON).rstrip()}")
    return lines
