"""Saved metrics of one or several runs -> tables, figures and one HTML page. Reads files only; loads no model."""

from stepdistill_jax.report.page import write_report

__all__ = ["write_report"]
