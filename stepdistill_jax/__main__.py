"""`python -m stepdistill_jax`: the command `stepdistill`."""

import sys

from stepdistill_jax import cli

if __name__ == "__main__":
    sys.exit(cli.main())
