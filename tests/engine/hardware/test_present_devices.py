"""Devices that are not there are one line, whatever JAX says of them."""

import jax
import pytest

from stepdistill_jax.engine.hardware import present_devices
from stepdistill_jax.engine.hardware.present_devices import check_devices


def test_devices_that_are_there_are_no_error_and_what_is_compiled_for_them_is_kept(monkeypatch):
    kept = []
    monkeypatch.setattr(present_devices, "keep_compiled_programs", lambda: kept.append(True))
    check_devices()
    assert kept == [True]
    check_devices(keep_programs=False)
    assert kept == [True]


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (AssertionError(), r"JAX_PLATFORMS=cuda; unset it"),
        (RuntimeError("Unable to initialize\nbackend"), r"\(Unable to initialize backend\); unset it"),
    ],
)
def test_devices_that_are_not_there_are_named_with_the_mend(monkeypatch, error, said):
    def devices():
        raise error

    monkeypatch.setattr(jax, "devices", devices)
    monkeypatch.setenv("JAX_PLATFORMS", "cuda")
    with pytest.raises(ValueError, match=said) as found:
        check_devices()
    assert "\n" not in str(found.value)
    assert "pip install" in str(found.value)
