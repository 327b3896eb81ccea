"""What it costs to know what came from what: seconds at the start of training, and of `stepdistill verify`.

    python bench/lineage.py [--num_examples 549367]

Writes made-up e-SNLI: examples, a teacher's rationales of all of them, validation and test. A process of its own then does what
training does before it tokenises: checksums of all files, identities, whether the rationales are of these examples, whether
a held-out question is among them. Once with nothing kept, once with the index that the first has kept. Printed as JSON.
"""

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HELD_OUT = {"validation": 9_842, "test": 9_824}  # e-SNLI's
WORDS = Path(__file__).read_text(encoding="utf-8").split()

START = """
import json, time
from stepdistill_jax.launching import task_modules
task_modules.load_tasks()
from stepdistill_jax import datasets
from stepdistill_jax.datasets import record_io
from stepdistill_jax.engine.data import contents
from stepdistill_jax.engine.data.dataset_config import DatasetConfig
cfg = DatasetConfig("esnli_step_by_step", None, "train", batch_size=64, shuffle=True, seed=None)
folder = datasets.data_dir() / "esnli"
steps = {
    "checksums of all files": lambda: [record_io.verify_once(folder / each) for each in ("examples", "rationales/palm-540b")],
    "content, compared": lambda: contents.check_together(cfg),
    "identities for run.json": lambda: contents.contents_of([cfg], whole_dataset=True),
}
seconds = {}
for name, step in steps.items():
    begin = time.perf_counter()
    step()
    seconds[name] = round(time.perf_counter() - begin, 2)
print(json.dumps(seconds))
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--num_examples", type=int, default=549_367, help="of the train split")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "data"
        environment = {**os.environ, "STEPDISTILL_DATA_DIR": str(data), "TF_CPP_MIN_LOG_LEVEL": "3"}
        begin = time.perf_counter()
        write(data / "esnli", {"train": args.num_examples, **HELD_OUT})
        figures = {"num_examples": args.num_examples, "writing": round(time.perf_counter() - begin, 1)}
        figures["MB"] = round(sum(path.stat().st_size for path in data.rglob("*.tfrecord")) / 1e6)
        for name in ("nothing kept", "kept"):
            done = subprocess.run(
                [sys.executable, "-c", START], env=environment, check=True, capture_output=True, text=True
            )
            figures[name] = json.loads(done.stdout.splitlines()[-1])
        begin = time.perf_counter()
        subprocess.run(
            [sys.executable, "-m", "stepdistill_jax", "verify", str(data)], env=environment, check=True
        )
        figures["verify"] = round(time.perf_counter() - begin, 1)
    print(json.dumps(figures))


def write(folder: Path, counts: dict[str, int]) -> None:
    """Examples and rationales of a dataset, of made-up words."""
    from stepdistill_jax.datasets import preparation, record_io
    from stepdistill_jax.teacher.answers import records

    def examples(split: str):
        draw = random.Random(split)
        for number in range(counts[split]):
            yield {
                "example_id": f"esnli/{split}/{number}",
                "dataset": "esnli",
                "split": split,
                "inputs": f"premise: {' '.join(draw.choices(WORDS, k=14))} hypothesis: {split} {number}",
                "label": "neutral",
                "has_label": True,
                "source_split": split,
                "source_row": number,
            }

    def answers():
        texts = dict.fromkeys((name for name, kind in records.FEATURES.items() if kind == record_io.TEXT), "")
        numbers = {"prompt_tokens": 300, "completion_tokens": 30}
        for example in examples("train"):
            rationale = f"{example['inputs'][9:80]}, so neither follows from the other."
            yield {
                **texts,
                **numbers,
                **example,
                "teacher_label": "neutral",
                "rationale": rationale,
                "raw_output": rationale,
            }

    nothing = {"choices": ("entailment", "neutral", "contradiction"), "explanation": ""}
    record_io.write_records(
        folder / "examples",
        name="esnli",
        features=preparation.SCHEMA,
        splits={split: ({**row, **nothing} for row in examples(split)) for split in counts},
        manifest={"notes": []},
    )
    record_io.write_records(
        folder / "rationales" / "palm-540b",
        name="esnli",
        features=records.FEATURES,
        splits={"train": answers()},
        manifest={"teacher": "palm-540b"},
    )


if __name__ == "__main__":
    main()
