"""Saved metrics of runs or of a sweep -> tables, figures and one HTML page. Reads files only; loads no model."""

from pathlib import Path

from stepdistill_jax.report.runs.page import write_report
from stepdistill_jax.report.sweep.folder import is_sweep


def write_sweep_report(sweep_folder: Path | str) -> Path:
    """Path of the page on a sweep; see `sweep_page.write_sweep_report`."""
    from stepdistill_jax.report.sweep import (
        page as sweep_page,  # numpy and scipy, which the report of a run does without
    )

    return sweep_page.write_sweep_report(sweep_folder)


__all__ = ["is_sweep", "write_report", "write_sweep_report"]
