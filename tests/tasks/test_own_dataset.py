"""A dataset of one's own: one file outside the package, of at most 25 lines, and it trains like ours."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

TASK_FILE = '''"""Capitals: which city is a country's capital?"""

from stepdistill_jax import datasets
from stepdistill_jax.launching import task_modules


def to_example(row):
    choices = tuple(row["cities"])
    return datasets.Fields(f"{row['country']}: {', '.join(choices)}?", row["capital"], choices)


datasets.register(
    datasets.Dataset(
        name="capitals",
        to_example=to_example,
        files={"train": ["train.jsonl"], "test": ["test.jsonl"]},
        split_rows=datasets.hold_out_validation,
        completion=datasets.CompletionFormat(answer_marker="So the answer is", next_question="Q:"),
        embedded=True,
        licence="CC0",
    )
)
'''

SCRIPT = """
import json, seqio
from stepdistill_jax import datasets
from stepdistill_jax.launching import task_modules

task_modules.load_tasks()
manifest = datasets.prepare("capitals", from_folder="published")
assert manifest["counts"] == {"train": 9, "validation": 1, "test": 2}, manifest
task = seqio.get_mixture_or_task("capitals_label")
rows = list(task.get_dataset(sequence_length=None, split="test", shuffle=False).as_numpy_iterator())
print(json.dumps([rows[0]["inputs_pretokenized"].decode(), rows[0]["targets_pretokenized"].decode(), len(rows)]))
"""


def test_a_task_file_outside_the_package_is_prepared_and_read(tmp_path):
    assert len(TASK_FILE.splitlines()) <= 25
    (tmp_path / "capitals.py").write_text(TASK_FILE, encoding="utf-8")
    (tmp_path / "published").mkdir()
    row = {"country": "France", "capital": "Paris", "cities": ["Lyon", "Paris"]}
    for name, count in (("train", 10), ("test", 2)):
        (tmp_path / "published" / f"{name}.jsonl").write_text(
            f"{json.dumps(row)}\n" * count, encoding="utf-8"
        )
    root = Path(importlib.util.find_spec("stepdistill_jax").origin).parents[1]
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("STEPDISTILL_")},
        "STEPDISTILL_TASKS": "capitals",
        "STEPDISTILL_DATA_DIR": "DATA",
        "PYTHONPATH": f"{tmp_path}{os.pathsep}{root}",
    }
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert json.loads(done.stdout.splitlines()[-1]) == ["[label] France: Lyon, Paris?", "Paris", 2]
