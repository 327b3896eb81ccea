"""Runs that a test kills, and what they have left by then."""

import re
import signal
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
LONGEST_WAIT_SECONDS = 240


def num_train_rows(folder):
    log = folder / "metrics.jsonl"
    return log.read_bytes().count(b'"split": "train"') if log.exists() else 0


def checkpoints(folder):
    names = [path.name for path in folder.iterdir()] if folder.is_dir() else []
    return {int(match[1]) for name in names if (match := re.fullmatch(r"checkpoint_(\d+)", name))}


def start_and_kill(folder, data_dir, bindings, *, at_step, gin_file="gin/dsbs_t5_tiny.gin"):
    """Runs t5x/train.py and kills it once it has a checkpoint and has logged `at_step`; returns its exit status."""
    flags = [f"--gin_bindings={binding}" for binding in (f"MODEL_DIR = {str(folder)!r}", *bindings)]
    command = [sys.executable, str(ROOT / "t5x" / "train.py"), f"--gin_file={gin_file}", *flags]
    with (
        folder.with_suffix(".log").open("w") as log,
        subprocess.Popen([*command, f"--tfds_data_dir={data_dir}"], stdout=log, stderr=log) as process,
    ):
        deadline = time.monotonic() + LONGEST_WAIT_SECONDS
        while process.poll() is None and time.monotonic() < deadline:
            if num_train_rows(folder) >= at_step and checkpoints(folder):
                break
            time.sleep(0.002)
        process.send_signal(signal.SIGKILL)
    return process.returncode
