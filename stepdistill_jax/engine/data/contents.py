"""What the data of a run say, told by their sources, so that a run neither goes on with others nor is judged by others.

A source that knows has these methods:

    contents(split, whole_dataset=False) -> {part: {'sha256', 'order', 'count'}}, of what its rows are made of
    check_together(sources, split) -> what of a mixture's data does not belong together, and is allowed
    check_unchanged(earlier, split, place) -> what differs from the contents that `place` began with, and is allowed

What is not allowed they raise as a ValueError.
"""

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import seqio

from stepdistill_jax.base.messages import say_once
from stepdistill_jax.engine.data.dataset_config import DatasetConfig, get_mixture_or_task

Contents = dict[str, dict[str, Any]]

CONTENT = "content"  # of run.json
_SHOWN = 12  # hexadecimal digits where people read them, or a line has many


def contents_of(cfgs: Iterable[DatasetConfig | None], *, whole_dataset: bool = False) -> Contents:
    """Part of the data -> its identity, over all tasks of all configs; `whole_dataset` adds the splits that are not read."""
    found: Contents = {}
    for cfg in filter(None, cfgs):
        for source in _with(_sources(cfg), "contents"):
            found |= source.contents(cfg.split, whole_dataset=whole_dataset)
    return found


def short_contents(source: seqio.DataSource, split: str) -> dict[str, str]:
    """Part of the data -> the first digits of its identity; {} where the source does not know."""
    if not hasattr(source, "contents"):
        return {}
    return {part: identity["sha256"][:_SHOWN] for part, identity in source.contents(split).items()}


def check_together(cfg: DatasetConfig) -> list[str]:
    """Checks that what the tasks of a mixture read belongs together; gives what does not, and is allowed."""
    sources = _sources(cfg)
    return [line for check in _checks(sources, "check_together") for line in check(sources, cfg.split)]


def check_unchanged(cfgs: Iterable[DatasetConfig | None], run: Path, facts: Mapping[str, Any]) -> list[str]:
    """Checks that what is read says what it said when a run began; gives what differs, and is allowed.

    Args:
      cfgs: what is read now.
      run: the run's folder.
      facts: its run.json, {} where there is none: nothing is compared then.
    """
    if facts and CONTENT not in facts:
        say_once(f"{run / 'run.json'} does not say what its data were: an earlier version wrote it.")
    return [
        line
        for cfg in filter(None, cfgs)
        for source in _with(_sources(cfg), "check_unchanged")
        for line in source.check_unchanged(facts.get(CONTENT, {}), cfg.split, run)
    ]


def _sources(cfg: DatasetConfig) -> list[seqio.DataSource]:
    tasks = seqio.get_subtasks(get_mixture_or_task(cfg))
    return [task.source for task in tasks if cfg.split in task.splits]


def _with(sources: Iterable[seqio.DataSource], method: str) -> list[Any]:
    return [source for source in sources if hasattr(source, method)]


def _checks(sources: Iterable[seqio.DataSource], method: str) -> list[Callable[..., list[str]]]:
    """Each check once: sources of one kind share theirs."""
    return list(dict.fromkeys(getattr(source, method) for source in _with(sources, method)))
