"""Experiments: a file that says what is compared becomes runs, and each run a result."""
