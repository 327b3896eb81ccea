"""Subcommands of `stepdistill` about one dataset or one run; each module has EXAMPLES, add_flags and run."""
