"""T5X's own test files, run against our `t5x`: as many pass as docs/t5x.md says.

Runs where $T5X_SOURCE names T5X's source tree first; $T5X_PYTHON is a Python with chex, which two of the files import:

    T5X_SOURCE=SRC/t5x T5X_PYTHON=VENV/bin/python pytest -m slow tests/engine/t5x_names/test_t5x_own_tests.py

Each file is copied out of the tree and run alone, so that nothing of T5X's is imported but its helpers for tests.
"""

import os
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
ROW = re.compile(r"^\| ([\w/, ]+_test) \| (\d+) of (\d+) \|", re.MULTILINE)
# Private names that the files call, put on what does the same here.
RUN = textwrap.dedent(
    """
    import importlib.util, sys, types
    import jax.numpy as jnp, pytest
    from stepdistill_jax.engine.t5x_names import alias
    alias.install()
    import t5x
    from t5x import adafactor, decoding, losses

    def weight_sum(positions, segments, weights):
        sums = losses._weight_sum_of_own_segment(jnp.atleast_2d(segments), jnp.atleast_2d(weights))
        return sums.reshape(weights.shape)

    def parameter_state(v_row=None, v_col=None, v=None, m=None):
        return {"v_row": v_row, "v_col": v_col, "v": v, "m": m}

    def one_trial(inputs, cache, tokens_to_logits, eos_id, prng_key, num_decodes=1, **settings):
        tokens, scores = decoding.temperature_sample(
            inputs, cache, tokens_to_logits, eos_id, decode_rng=prng_key, num_decodes=1, **settings
        )
        return tokens[:, 0], scores[:, 0]

    losses._sum_weights_per_segment = weight_sum
    adafactor._AdafactorParamState = parameter_state
    decoding._temperature_sample_single_trial = one_trial

    # They import the package t5 for datasets that none of them reads.
    for name in ("t5", "t5.data", "t5.data.tasks"):
        sys.modules[name] = types.ModuleType(name)
        sys.modules[name].__path__ = []
    for name in ("checkpoint_importer", "test_utils"):
        spec = importlib.util.spec_from_file_location(f"t5x.{name}", f"{sys.argv[1]}/{name}.py")
        sys.modules[spec.name] = importlib.util.module_from_spec(spec)
        setattr(t5x, name, sys.modules[spec.name])
        spec.loader.exec_module(sys.modules[spec.name])
    sys.exit(pytest.main([sys.argv[2], "-q", "-o", "addopts=", "-p", "no:cacheprovider", "--import-mode=importlib", "--tb=no"]))
    """
)


def _rows():
    page = (ROOT / "docs" / "t5x.md").read_text(encoding="utf-8")
    return [
        pytest.param(files.split(", "), int(passed), int(total), id=files)
        for files, passed, total in ROW.findall(page)
    ]


@pytest.fixture(scope="module")
def t5x_folder():
    source = os.environ.get("T5X_SOURCE", "").split(os.pathsep)[0]
    if not source:
        pytest.skip("set T5X_SOURCE to run T5X's own tests")
    return Path(source) / "t5x"


@pytest.mark.slow
@pytest.mark.parametrize(("files", "passed", "total"), _rows())
def test_as_many_pass_as_the_page_says(t5x_folder, tmp_path, files, passed, total):
    environment = {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"}
    counts = {"passed": 0, "failed": 0, "error": 0}
    for file in files:
        copy = tmp_path / f"{file.replace('/', '_')}.py"
        place = t5x_folder / "examples" if "/" in file else t5x_folder
        copy.write_text((place / f"{file}.py").read_text(encoding="utf-8"), encoding="utf-8")
        done = subprocess.run(
            [os.environ.get("T5X_PYTHON", sys.executable), "-c", RUN, str(t5x_folder), str(copy)],
            env={**environment, "PYTHONPATH": str(ROOT)},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=1800,
        )
        summary = done.stdout.strip().splitlines()[-1]
        for kind in counts:
            counts[kind] += int((re.search(rf"(\d+) {kind}", summary) or [0, 0])[1])
    assert (counts["passed"], sum(counts.values())) == (passed, total)


def test_the_page_has_a_row_for_every_kind_of_test_file():
    names = {name for row in _rows() for name in row.values[0]}
    assert {
        "losses_test",
        "decoding_test",
        "models_test",
        "trainer_test",
        "scalable_t5/network_test",
    } <= names
