"""`stepdistill prepare`: a table of one's own, or a dataset that a file of tasks/ registers, becomes examples."""

from stepdistill_jax.preparing.calls import prepare

__all__ = ["prepare"]
