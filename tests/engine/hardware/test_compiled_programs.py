"""Compiled programs are kept and read again, whole ones only; JAX's own settings come first, and a place that is none stops nothing."""

import os
import subprocess
import sys
import time
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import jax
import pytest
from jax.experimental.compilation_cache import compilation_cache

from stepdistill_jax.base import messages
from stepdistill_jax.engine.hardware import compiled_programs
from stepdistill_jax.engine.hardware.compiled_programs import keep_compiled_programs, tidy

ROOT = Path(__file__).resolve().parents[3]
LONG_AGO = time.time() - 86400


@pytest.fixture
def settings(monkeypatch, tmp_path):
    """JAX's settings as they are before anybody sets them, and a home that is empty."""
    names = (
        "jax_enable_compilation_cache",
        "jax_compilation_cache_dir",
        "jax_persistent_cache_min_compile_time_secs",
    )
    before = {name: getattr(jax.config, name) for name in names}
    jax.config.update("jax_enable_compilation_cache", True)
    jax.config.update("jax_compilation_cache_dir", None)
    for name in ("STEPDISTILL_CACHE_DIR", "XDG_CACHE_HOME", "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setattr(messages, "_said", set())
    yield jax.config
    for name, value in before.items():
        jax.config.update(name, value)
    compilation_cache.reset_cache()


def test_programs_are_kept_in_the_user_s_cache_for_nobody_else_to_write(settings, tmp_path):
    keep_compiled_programs()
    folder = Path(settings.jax_compilation_cache_dir)
    assert folder.parent == tmp_path / "home" / ".cache" / "stepdistill-jax" / "compiled"
    assert folder.is_dir()
    assert folder.parent.stat().st_mode & 0o777 == 0o700
    assert settings.jax_persistent_cache_min_compile_time_secs == 0.3


def test_the_user_s_caches_may_lie_elsewhere(settings, monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "caches"))
    monkeypatch.setenv("STEPDISTILL_CACHE_DIR", str(tmp_path / "token_ids"))  # which may be others', too
    keep_compiled_programs()
    folder = Path(settings.jax_compilation_cache_dir)
    assert folder.parent == tmp_path / "caches" / "stepdistill-jax" / "compiled"


def test_a_relative_folder_of_caches_is_none(settings, monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", "caches")
    keep_compiled_programs()
    assert Path(settings.jax_compilation_cache_dir).is_relative_to(tmp_path / "home")


def test_no_keeps_nothing(settings, monkeypatch, tmp_path):
    monkeypatch.setenv("STEPDISTILL_CACHE_DIR", "no")
    keep_compiled_programs()
    assert settings.jax_compilation_cache_dir is None
    assert not (tmp_path / "home").exists()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("jax_compilation_cache_dir", "/own/place"),
        ("jax_compilation_cache_dir", ""),
        ("jax_enable_compilation_cache", False),
    ],
)
def test_jax_s_own_settings_come_first(settings, tmp_path, name, value):
    settings.update(name, value)
    keep_compiled_programs()
    assert getattr(settings, name) == value
    assert not (tmp_path / "home").exists()


def test_the_user_s_shortest_compilation_that_is_kept_stays(settings, monkeypatch):
    monkeypatch.setenv("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "7")
    settings.update("jax_persistent_cache_min_compile_time_secs", 7.0)
    keep_compiled_programs()
    assert settings.jax_persistent_cache_min_compile_time_secs == 7.0


def test_several_processes_have_no_cache_unless_the_user_names_one(settings, monkeypatch, tmp_path):
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    keep_compiled_programs()
    assert settings.jax_compilation_cache_dir is None
    assert not (tmp_path / "home").exists()


def test_a_place_that_cannot_be_made_is_one_line_and_no_cache(settings, monkeypatch, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    keep_compiled_programs()
    keep_compiled_programs()
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("Compiled programs are not kept: ")
    assert str(tmp_path / "file") in line
    assert (
        "Set JAX_COMPILATION_CACHE_DIR to a folder of your own, or JAX_ENABLE_COMPILATION_CACHE=false."
        in line
    )
    assert settings.jax_compilation_cache_dir is None


def test_a_folder_that_others_can_write_to_is_not_run_from(settings, monkeypatch, tmp_path, capsys):
    folder = tmp_path / "stepdistill-jax" / "compiled"
    folder.mkdir(parents=True)
    folder.chmod(0o770)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    keep_compiled_programs()
    assert f"others may write to {folder}" in capsys.readouterr().err
    assert settings.jax_compilation_cache_dir is None


def test_each_kind_of_cpu_has_a_folder_of_its_own(monkeypatch):
    names = {compiled_programs._cpu_name()}
    monkeypatch.setattr(Path, "read_text", lambda path: "model name\t: Another\nflags\t\t: sse avx2\n")
    monkeypatch.setattr(Path, "is_file", lambda path: True)
    names.add(compiled_programs._cpu_name())
    monkeypatch.setattr(
        Path, "read_text", lambda path: "model name\t: Another\nflags\t\t: sse\ncpu MHz\t\t: 7\n"
    )
    names.add(compiled_programs._cpu_name())
    monkeypatch.setattr(
        Path, "read_text", lambda path: "model name\t: Another\nflags\t\t: sse\ncpu MHz\t\t: 8\n"
    )
    names.add(compiled_programs._cpu_name())
    assert len(names) == 3


def write_entry(folder, name, data, *, age_seconds=86400.0):
    entry = folder / f"{name}-cache"
    entry.write_bytes(data)
    when = time.time() - age_seconds
    os.utime(entry, (when, when))
    return entry


def test_an_entry_that_is_cut_short_is_removed_and_a_whole_one_stays(tmp_path):
    whole = zlib.compress(os.urandom(10_000))
    kept = [
        write_entry(tmp_path, "whole", whole),
        write_entry(tmp_path, "zstandard", b"\x28\xb5\x2f\xfd" + whole),
    ]
    young = write_entry(tmp_path, "young", whole[:50], age_seconds=1.0)
    for name, data in (
        ("cut", whole[:-1]),
        ("begun", whole[:1]),
        ("empty", b""),
        ("flipped", whole[:99] + bytes([whole[99] ^ 1]) + whole[100:]),
    ):
        write_entry(tmp_path, name, data)
    tidy(tmp_path)
    assert sorted(tmp_path.glob("*-cache")) == sorted([*kept, young])


def test_an_entry_is_looked_at_once(tmp_path):
    entry = write_entry(tmp_path, "seen", zlib.compress(b"program"))
    tidy(tmp_path)
    when = entry.stat().st_mtime
    entry.write_bytes(b"\x78")  # what is not new is not read again
    os.utime(entry, (when, when))
    tidy(tmp_path)
    assert entry.exists()


def test_what_was_used_longest_ago_goes_first(tmp_path):
    data = b"\x28" * 100
    oldest = write_entry(tmp_path, "oldest", data, age_seconds=4000)
    used = write_entry(tmp_path, "used", data, age_seconds=5000)
    os.utime(used, (time.time() - 1000, used.stat().st_mtime))
    newest = write_entry(tmp_path, "newest", data, age_seconds=2000)
    tidy(tmp_path, most_bytes=250)
    assert not oldest.exists()
    assert used.exists()
    assert newest.exists()


PROGRAM = """
import sys
import warnings

import jax
import jax.numpy as jnp

from stepdistill_jax.engine.hardware.present_devices import check_devices

hits = []
jax.monitoring.register_event_listener(lambda event, **_: hits.append(event.endswith("/cache_hits")))


@jax.jit
def step(x):
    return jnp.tanh(x @ x) + jnp.cumsum(x[::-1], 0)


check_devices()
with warnings.catch_warnings(record=True) as said:
    warnings.simplefilter("always")
    x = jax.random.normal(jax.random.key(0), (16, 16))
    print(step(x).tobytes().hex(), file=sys.stderr)
print(sum(hits), len([one for one in said if "persistent compilation cache" in str(one.message)]))
"""


def run_program(home):
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM.replace("tobytes", "__array__().tobytes")],
        env={
            **{name: value for name, value in os.environ.items() if name != "JAX_COMPILATION_CACHE_DIR"},
            "PYTHONPATH": str(ROOT),
            "JAX_ENABLE_COMPILATION_CACHE": "true",
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
            "XDG_CACHE_HOME": str(home),
        },
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    num_hits, num_warnings = map(int, done.stdout.split())
    return done.stderr.splitlines()[-1], num_hits, num_warnings


def test_a_second_process_reads_what_the_first_compiled_and_computes_the_same(tmp_path):
    first, hits, _ = run_program(tmp_path)
    assert hits == 0
    second, hits, num_warnings = run_program(tmp_path)
    assert hits > 0
    assert num_warnings == 0
    assert second == first
    # As a process that is killed while it writes leaves it.
    (entry,) = tmp_path.glob("stepdistill-jax/compiled/*/jit_step-*-cache")
    whole = entry.read_bytes()
    entry.write_bytes(whole[: len(whole) // 2])
    third, hits_of_third, num_warnings = run_program(tmp_path)  # too young to be taken away
    assert third == first
    assert (hits_of_third, num_warnings) == (hits - 1, 1)
    os.utime(entry, (LONG_AGO, LONG_AGO))
    os.utime(entry.parent / ".checked", (LONG_AGO, LONG_AGO))
    fourth, hits_of_fourth, num_warnings = run_program(tmp_path)
    assert fourth == first
    assert (hits_of_fourth, num_warnings) == (hits - 1, 0)
    assert len(zlib.decompress(entry.read_bytes())) > len(whole)  # written anew, and whole


def test_two_processes_that_compile_the_same_at_once_leave_one_whole_entry(tmp_path):
    with ThreadPoolExecutor(2) as pool:
        (first, *_), (second, *_) = pool.map(run_program, [tmp_path, tmp_path])
    assert first == second
    entries = list(tmp_path.glob("stepdistill-jax/compiled/*/*-cache"))
    assert entries
    assert all(zlib.decompress(entry.read_bytes()) for entry in entries)
    third, hits, num_warnings = run_program(tmp_path)
    assert third == first
    assert hits > 0
    assert num_warnings == 0
