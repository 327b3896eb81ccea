"""The teacher job's bench, at toy size: its server answers in a process of its own, and the figures are printed."""

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_the_job_is_measured_against_the_mock_server():
    done = subprocess.run(
        [sys.executable, "bench/teacher_job.py", "--rows", "40", "--concurrency", "8", "--latency", "0.01"],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "3"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert re.search(
        r"^40 answers in \d+\.\d\d s: [\d,]+/s, \d+\.\d % of the ideal 800/s$", done.stdout, re.MULTILINE
    )
    assert re.search(r"memory at the start [\d,]+ MiB", done.stdout)
