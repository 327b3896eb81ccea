"""`python -m stepdistill_jax`: the command `stepdistill`."""

import sys

from stepdistill_jax import cli

if __name__ == "__main__":
    sys.argv[0] = "stepdistill"  # as a run's folder notes its command
    sys.exit(cli.main())
