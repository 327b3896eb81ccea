"""What programs over several GPUs are compiled with, and that the user's own XLA_FLAGS come first."""

import jax
import pytest

from stepdistill_jax.engine.hardware.xla_options import compiler_options, flags_of_environment

OVERLAP = "xla_gpu_enable_latency_hiding_scheduler"


@pytest.mark.parametrize("platform", ["gpu", "cuda", "rocm"])
def test_collectives_of_several_gpus_overlap_with_computing(platform):
    assert compiler_options(platform, 8, "") == {OVERLAP: True}


@pytest.mark.parametrize(("platform", "num_devices"), [("gpu", 1), ("cpu", 8), ("tpu", 8)])
def test_other_devices_have_xla_s_own_settings(platform, num_devices):
    assert compiler_options(platform, num_devices, "") == {}


def test_a_step_as_written_is_computed_once():
    disabled = {"xla_disable_hlo_passes": "rematerialization"}
    assert compiler_options("gpu", 1, "", as_written=True) == disabled
    assert compiler_options("cuda", 2, "", as_written=True) == {OVERLAP: True, **disabled}
    assert compiler_options("cpu", 1, "", as_written=True) == {}
    assert compiler_options("gpu", 1, "--xla_disable_hlo_passes=dce", as_written=True) == {}


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        (f"--{OVERLAP}=false", {}),
        (f"  --xla_dump_to=/tmp/a\n--{OVERLAP}=true", {}),
        (f"--{OVERLAP}", {}),
        (f"--{OVERLAP}_resource=1 --xla_gpu_autotune_level=0", {OVERLAP: True}),
    ],
)
def test_a_flag_that_the_user_sets_is_the_user_s(flags, expected):
    assert compiler_options("gpu", 2, flags) == expected


def test_flags_may_lie_in_a_file_as_for_xla(tmp_path, monkeypatch):
    file = tmp_path / "flags"
    file.write_text(f"--{OVERLAP}=false\n")
    monkeypatch.setenv("XLA_FLAGS", str(file))
    assert flags_of_environment() == f"--{OVERLAP}=false\n"
    monkeypatch.setenv("XLA_FLAGS", f" --{OVERLAP}=true")
    assert flags_of_environment() == f"--{OVERLAP}=true"
    monkeypatch.delenv("XLA_FLAGS")
    assert flags_of_environment() == ""


def test_xla_knows_every_option_that_is_set():
    """XLA reads the options of every platform on each: an unknown one is an error, as the second shows."""
    double = lambda x: 2 * x  # noqa: E731
    assert jax.jit(double, compiler_options=compiler_options("gpu", 8, ""))(1.5) == 3.0
    with pytest.raises(jax.errors.JaxRuntimeError, match="No such compile option"):
        jax.jit(double, compiler_options={"xla_gpu_no_such_option": True})(1.5)
