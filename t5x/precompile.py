"""Compiles a run's step for hardware that need not be there: python t5x/precompile.py --gin_file=gin/… --topology=v4:2x2x4. T5X's flags."""

import sys
from pathlib import Path

# The clone's root in place of this folder: `tasks` and `stepdistill_jax` are found without installing.
sys.path[0] = str(Path(__file__).resolve().parents[1])

from stepdistill_jax.launching import launch

if __name__ == "__main__":
    launch.main("precompile")
