"""Our contender in the bench of accelerators: it needs no TensorFlow, and a whole run of two of it works on a CPU."""

import importlib.metadata
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

BENCH = Path(__file__).resolve().parents[2] / "bench"
ROOT = BENCH.parent
# What docs/speed.md says a GPU machine needs; what these need in turn comes with them.
NEEDED = ("jax", "flax", "optax", "clu", "jaxtyping")
# Imports all of it on a machine that has but the packages named behind the bench's folder, and prints those that it took.
IMPORTS = """
import importlib.metadata, re, sys

there = set(sys.argv[2:])
packages = importlib.metadata.packages_distributions()

def packages_of(module):
    return {re.sub("[-_.]+", "-", name).lower() for name in packages.get(module.split(".")[0], ())}

class Bare:
    def find_spec(self, name, path=None, target=None):
        if packages_of(name) and not packages_of(name) & there:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

for name in [name for name in sys.modules if packages_of(name) and not packages_of(name) & there]:
    del sys.modules[name]  # what an editable installation imports
sys.meta_path.insert(0, Bare())
sys.path.insert(0, sys.argv[1])
import accelerator
import accelerator_ours
print(*sorted(set.union(*map(packages_of, list(sys.modules)))))
"""
FLAGS = "--sizes tiny --rows 2 --inputs 64 --targets 64 --steps 1 --labels 4 --label_batch 4 --dropout 0.0"


def alone():
    """One device, as the bench has, not the tests' eight."""
    return {**os.environ, "XLA_FLAGS": "", "JAX_PLATFORMS": "cpu", "PYTHONPATH": str(ROOT)}


def closure(names):
    """These packages and all that they require here."""
    found, waiting = set(), [_plain(name) for name in names]
    while waiting:
        name = waiting.pop()
        if name in found:
            continue
        try:
            required = importlib.metadata.requires(name) or []
        except importlib.metadata.PackageNotFoundError:
            continue
        found.add(name)
        waiting += [_plain(re.match(r"[\w.-]+", text)[0]) for text in required if "extra ==" not in text]
    return found


def _plain(name):
    return re.sub(r"[-_.]+", "-", name).lower()


def test_our_side_works_on_a_machine_that_has_only_what_it_is_said_to_need():
    there = closure(NEEDED) | {"stepdistill-jax"}
    assert not there & {"tensorflow", "seqio", "tensorflow-datasets", "gin-config"}
    done = subprocess.run(
        [sys.executable, "-c", IMPORTS, str(BENCH), *sorted(there)],
        capture_output=True,
        text=True,
        env=alone(),
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert set(NEEDED) <= set(done.stdout.split()) <= there
    said = (ROOT / "docs" / "speed.md").read_text(encoding="utf-8")
    assert all(f"`{name}`" in said or f"`{name}[cuda13]`" in said for name in NEEDED)


@pytest.mark.slow
def test_two_of_ours_are_measured_on_a_cpu_and_their_losses_agree(tmp_path):
    out = tmp_path / "out.jsonl"
    done = subprocess.run(
        [sys.executable, str(BENCH / "accelerator.py"), *FLAGS.split(), "--attention", "plain", "xla", "--out", str(out), "--profile", str(tmp_path / "traces")],
        capture_output=True,
        text=True,
        env=alone(),
        timeout=600,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr[-2000:]
    header, *results = [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]
    assert header["event"] == "run"
    assert [of["contender"]["network"]["attention"] for of in results] == ["plain", "xla"]
    for result in results:
        assert "error" not in result
        for name in ("step_ms", "piped_ms", "tokens_per_second", "peak_gib", "compile_seconds", "labels_per_second"):  # fmt: skip
            assert result[name] > 0
        assert result["first_step_seconds"] > result["compile_seconds"]
        assert 0.5 < result["fill"] < 1
        assert result["mfu"] is None
        assert 0 < result["kernels"][0]["ms"] <= result["total_ms"]
    assert results[0]["losses"] == pytest.approx(results[1]["losses"], rel=1e-3)
    assert results[0]["losses"][0] == pytest.approx(10.4, abs=0.7)  # ln 32,128, and what random logits add
    rows = [line for line in done.stdout.splitlines() if line.startswith("| ours tiny")]
    assert len(rows) == 2
    assert done.stderr.count("No MFU: the peak rate of 'cpu'") == 1
    assert "kernels, the CPU's threads together, mean of 3 steps" in done.stdout


@pytest.mark.slow
def test_a_kernel_that_the_device_lacks_fails_alone(tmp_path):
    out = tmp_path / "out.jsonl"
    flags = [*FLAGS.split(), "--labels", "0", "--attention", "cudnn", "plain", "--out", str(out)]
    done = subprocess.run(
        [sys.executable, str(BENCH / "accelerator.py"), *flags],
        capture_output=True,
        text=True,
        env=alone(),
        timeout=600,
        check=False,
    )
    assert done.returncode == 1, done.stdout + done.stderr[-2000:]
    _, failed, good = [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]
    assert "cuDNN" in failed["error"]
    assert good["piped_ms"] > 0
    assert f"{failed['contender']['name']}: FAILED: {failed['error']}" in done.stdout


def test_rows_are_decoded_to_their_full_length(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCH))
    import accelerator_ours

    model = accelerator_ours.t5_model(accelerator_ours.t5_config("tiny"))
    assert model._decode_fn_arguments(None, None)["eos_id"] == -1
