"""Our train step, first step, memory and decoding against T5X's and Hugging Face's, as ratios measured in one run.

    python bench/compare.py            (or `make bench`)

T5X takes part where $T5X_SOURCE names its source tree (more trees, of its git dependencies, after colons) and
$T5X_PYTHON a Python with its packages; Hugging Face where $HF_PYTHON names a Python with torch and transformers; and
an earlier version of ours where `--before` names a checkout of it. Each
contender is a process of its own and waits while another works; they take turns round by round, so that a machine whose
speed drifts does not decide. Examples are SVAMP's and CQA's where they are prepared, else the embedded word problems.
"""

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

HERE = Path(__file__).resolve().parent


class Child:
    """A contender's process, which says one line of JSON when it is ready, and one for each thing that it is asked.

    Attributes:
      first_step_seconds: from its start until it was ready, known from then on.
    """

    def __init__(
        self,
        name: str,
        command: list[str],
        *,
        python_path: str,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        """Starts it.

        Args:
          environment: default this process's, on the CPU.
        """
        self.name = name
        self._start = time.perf_counter()
        environment = {
            **({**os.environ, "JAX_PLATFORMS": "cpu"} if environment is None else environment),
            "PYTHONPATH": python_path,
            "TF_CPP_MIN_LOG_LEVEL": "3",
        }
        self._log = tempfile.TemporaryFile(mode="w+")  # noqa: SIM115 - lives as long as the process
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
            env=environment,
        )

    def ready(self) -> dict:
        """Waits until it is ready; what it says then."""
        answer = self._answer()
        self.first_step_seconds = time.perf_counter() - self._start
        return answer

    def ask(self, command: str) -> dict:
        with contextlib.suppress(BrokenPipeError):  # it has ended: `_answer` says how
            self._process.stdin.write(command + "\n")
            self._process.stdin.flush()
        return self._answer()

    def _answer(self) -> dict:
        for line in self._process.stdout:
            if line.startswith("{"):
                return json.loads(line)
        self._process.wait()
        self._log.seek(0)
        raise RuntimeError(
            f"{self.name} ended with code {self._process.returncode}: {self._log.read()[-2000:]}"
        )

    def kill(self) -> None:
        """Ends it at once; whoever waits for its answer gets an error."""
        self._process.kill()

    def close(self) -> None:
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        self._process.wait(timeout=60)
        self._process.stdout.close()
        self._log.close()


def write_examples(path: Path, *, num_examples: int) -> str:
    """Token ids of the first training examples of each task; returns which data they are."""
    from stepdistill_jax.engine.t5x_names import alias

    alias.install()
    import seqio

    from stepdistill_jax import datasets, teacher
    from stepdistill_jax.launching import task_modules

    task_modules.load_tasks()

    def token_ids(task: str, count: int) -> list:
        rows = seqio.get_mixture_or_task(task).get_dataset(
            sequence_length=None, split="train", shuffle=False, trim_output_features=False
        )
        return [
            [
                [*row[name].tolist(), 1] if row[name][-1] != 1 else row[name].tolist()
                for name in ("inputs", "targets")
            ]
            for row in rows.take(count).as_numpy_iterator()
        ]

    names = ("svamp", "cqa")
    data = datasets.data_dir()
    if all((data / name / "rationales").is_dir() for name in names):
        source = "SVAMP and CQA with PaLM-540B's rationales"
    else:
        names, source = ("wordproblems",), "the embedded word problems"
        with tempfile.TemporaryDirectory() as folder:
            datasets.prepare("wordproblems", data_dir=folder)
            teacher.teach("wordproblems", teacher="worked", data_dir=folder)
            seqio.set_tfds_data_dir_override(folder)
            os.environ["STEPDISTILL_DATA_DIR"] = folder
            return _write(path, names, token_ids, num_examples, source)
    return _write(path, names, token_ids, num_examples, source)


def _write(path: Path, names, token_ids, num_examples: int, source: str) -> str:
    """Raises ValueError where a task has fewer examples than its part of `num_examples`."""
    examples = {}
    count = num_examples // len(names)
    for kind in ("label", "rationale"):
        columns = [token_ids(f"{name}_{kind}", count) for name in names]
        for name, rows in zip(names, columns, strict=True):
            if len(rows) < count:
                raise ValueError(
                    f"--num_examples={num_examples}: {name}_{kind} has {len(rows)} training examples, {count} are asked of it; "
                    f"use at most {len(rows) * len(names)}."
                )
        examples[kind] = [row for rows in zip(*columns, strict=True) for row in rows]
    path.write_text(json.dumps(examples), encoding="utf-8")
    return source


def contender_commands(args: argparse.Namespace, data: Path) -> dict[str, tuple[list[str], str]]:
    """{name: (command, PYTHONPATH)}, ours first."""
    root = str(HERE.parent)
    common = ["--data", str(data), "--size", args.size]
    scripts = {"ours": (sys.executable, "contender_engine.py", "packed", root)}
    if args.before:
        before = Path(args.before).resolve()
        scripts["before"] = (sys.executable, before / "bench" / "contender_engine.py", "packed", str(before))
    if args.t5x_python and args.t5x_source:
        for name, rows in (("T5X", "packed"), ("T5X, padded", "padded")):
            scripts[name] = (args.t5x_python, "contender_t5x.py", rows, args.t5x_source)
    if args.hf_python:
        scripts["Hugging Face"] = (args.hf_python, "contender_hf.py", "padded", "")
    return {
        name: ([python, str(HERE / script), "--rows", rows, *common], path)
        for name, (python, script, rows, path) in scripts.items()
        if not args.only or name in args.only
    }


def measure(children: list[Child], *, rounds: int, steps: int) -> dict[str, dict[str, list[float]]]:
    """{contender: {what: a value a round}}."""
    results: dict[str, dict[str, list[float]]] = {
        child.name: {"first step, s": [child.first_step_seconds], "tokens/s": [], "labels/s": []}
        for child in children
    }
    for child in children:
        child.ask("train 1")  # the second step may still compile, for donated arguments
    for _ in range(rounds):
        for child in children:
            answer = child.ask(f"train {steps}")
            results[child.name]["tokens/s"].append(answer["tokens"] / answer["seconds"])
    for child in children:
        results[child.name]["peak GiB"] = [child.ask("memory")["peak_bytes"] / 2**30]
    for child in children:
        child.ask("decode")  # compiles
    for _ in range(rounds):
        for child in children:
            answer = child.ask("decode")
            results[child.name]["labels/s"].append(answer["examples"] / answer["seconds"])
    return results


def report(results: dict[str, dict[str, list[float]]]) -> None:
    for what in ("tokens/s", "labels/s", "peak GiB", "first step, s"):
        print(what)
        for name, values in results.items():
            line = f"  {name:14s} {statistics.median(values[what]):8.2f}"
            if name != "ours" and "ours" in results:
                ratios = [a / b for a, b in zip(results["ours"][what], values[what], strict=True)]
                line += f"   ours / {name}: {statistics.median(ratios):.2f}"
                if len(ratios) > 1:
                    line += f" (from {min(ratios):.2f} to {max(ratios):.2f} over {len(ratios)} rounds)"
            print(line)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=2, help="training steps of a round")
    parser.add_argument("--size", choices=("small", "tiny"), default="small", help="T5 v1.1 small, or a toy")
    parser.add_argument("--num_examples", type=int, default=512, help="of each task")
    parser.add_argument("--t5x_python", default=os.environ.get("T5X_PYTHON"))
    parser.add_argument("--t5x_source", default=os.environ.get("T5X_SOURCE"))
    parser.add_argument("--hf_python", default=os.environ.get("HF_PYTHON"))
    parser.add_argument("--before", metavar="FOLDER", help="a checkout of an earlier version")
    parser.add_argument("--only", nargs="*", help="names of contenders")
    parser.add_argument("--json", help="file for all values")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "examples.json"
        try:
            source = write_examples(data, num_examples=args.num_examples)
        except ValueError as error:
            parser.error(str(error))
        children = []
        try:
            for name, (command, python_path) in contender_commands(args, data).items():
                children.append(Child(name, command, python_path=python_path))
                children[-1].ready()
            print(
                f"T5 v1.1 {args.size}, float32, on {source}; medians of {args.rounds} rounds of {args.steps} steps"
            )
            results = measure(children, rounds=args.rounds, steps=args.steps)
        finally:
            for child in children:
                child.close()
    report(results)
    if args.json:
        Path(args.json).write_text(json.dumps(results, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
