"""Trains a student: python t5x/train.py --gin_file=gin/… [--gin.NAME=VALUE …]. T5X's flags, our engine."""

import sys
from pathlib import Path

# The clone's root in place of this folder: `tasks` and `stepdistill_jax` are found without installing.
sys.path[0] = str(Path(__file__).resolve().parents[1])

from stepdistill_jax.launching import launch

if __name__ == "__main__":
    launch.main("train")
