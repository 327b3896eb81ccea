"""The bench that fills the table of gin/meshes/README.md: what it reads is what it writes."""

import sys
from pathlib import Path

import pytest

BENCH = Path(__file__).resolve().parents[2] / "bench"
TABLE = """# A page

| hardware | topology | size | mesh file | split | rows x tokens | peak, GiB | of | seconds | compiled |
|---|---|---|---|---|---|---|---|---|---|
| 16 chips | v4:2x2x4 | xl | fsdp |  |  |  |  |  |  |
| two CPUs | cpu:2 | micro, tiny | one_device | data 2 | 16 x 128 + 96 | 0.1 | the host's | not known | jax 1 |

Text behind it.
"""


@pytest.fixture
def mesh_memory(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCH))
    import mesh_memory

    return mesh_memory


def report(**changes):
    return {
        "topology": "cpu:2",
        "mesh": {"data": 4, "model": 2},
        "batch": {"encoder_input_tokens": [32, 1024], "decoder_target_tokens": [32, 256]},
        "num_microbatches": 1,
        "layers": None,
        "peak_bytes": 3 * 2**29,
        "usable_bytes": 2**31,
        "fits": True,
        "compute_seconds": 0.25,
        "exchange_seconds": 0.125,
        **changes,
    }


def test_rows_are_read_as_they_are_written(mesh_memory):
    rows = mesh_memory.read_rows(TABLE)
    assert [row.is_measured for row in rows] == [False, True]
    assert (rows[1].sizes, rows[1].measured[2]) == (("micro", "tiny"), "0.1")
    assert mesh_memory.read_rows(TABLE.replace(TABLE.splitlines()[4], str(rows[0]))) == rows
    assert str(rows[1]) in TABLE.splitlines()


def test_a_page_without_the_table_is_refused(mesh_memory):
    with pytest.raises(ValueError, match="0 tables begin with"):
        mesh_memory.read_rows("# A page\n")


def test_a_measured_row_says_split_batch_peak_memory_and_times(mesh_memory):
    columns = mesh_memory.measured_columns(report())
    assert columns[:5] == ("data 4 x model 2", "32 x 1024 + 256", "1.5", "2.0", "0.250 + 0.125 s")
    assert "jax" in columns[5]


def test_microbatches_are_said_where_there_are_several_and_layers_where_they_were_found(mesh_memory):
    assert mesh_memory.measured_columns(report(num_microbatches=4))[0] == "data 4 x model 2, 4 microbatches"
    found = report(num_microbatches=4, layers="layers unrolled, all kept")
    assert (
        mesh_memory.measured_columns(found)[0]
        == "data 4 x model 2, 4 microbatches, layers unrolled, all kept"
    )


def test_a_step_that_does_not_fit_is_said_not_to(mesh_memory):
    assert mesh_memory.measured_columns(report(fits=False))[2] == "does not fit: 1.5"


@pytest.mark.parametrize(
    ("compiler", "peak", "there"),
    [
        ("XLA: Used 215.17G of 31.25G hbm.", "does not fit: 215.17 GiB", "31.25"),
        (
            "the total memory required for HLO temporaries (64.00G) exceeds available HBM (15.75G).",
            "does not fit: 64.00 GiB for HLO temporaries alone",
            "15.75",
        ),
        ("Out of memory in other words.", "does not fit: more memory", "32.0"),
    ],
)
def test_a_step_that_the_compiler_refuses_is_said_not_to_fit(mesh_memory, monkeypatch, compiler, peak, there):
    from stepdistill_jax.engine.hardware import step_memory
    from stepdistill_jax.engine.hardware.topologies import parse_topology

    monkeypatch.setattr(mesh_memory, "_compiler", lambda topology: "a compiler")
    refusal = step_memory.ProgramTooLarge(compiler)
    memory = step_memory.described(parse_topology("v4:2x2x4"))
    line = step_memory.does_not_fit(memory, refusal.needs, there_bytes=refusal.there_bytes)
    assert mesh_memory.refused_columns("v4:2x2x4", line)[2:4] == (peak, there)


@pytest.mark.slow
def test_the_largest_student_of_a_row_is_measured_by_precompile(mesh_memory, monkeypatch):
    row = mesh_memory.Row("two CPUs", "cpu:2", ("micro", "tiny"), "data_parallel", ("",) * 6)
    monkeypatch.setenv("XLA_FLAGS", "")
    split, batch, peak, there, seconds, compiled = mesh_memory.measure(row).measured
    assert (split, batch, there, seconds) == (
        "data 2 x model 1", "16 x 128 + 96", "the host's", "not known",
    )  # fmt: skip
    assert 0 < float(peak) < 10
    assert compiled.startswith("jax ")


def test_a_row_that_fails_otherwise_names_itself_and_the_reason(mesh_memory, monkeypatch):
    monkeypatch.setenv("XLA_FLAGS", "")
    row = mesh_memory.Row("three CPUs", "cpu:3", ("micro", "tiny"), "data_parallel", ("",) * 6)
    with pytest.raises(
        RuntimeError, match=r"^cpu:3 tiny data_parallel: .*batch_size=16 does not split over 3"
    ):
        mesh_memory.measure(row)


def test_rows_are_written_one_by_one_beside_what_else_is_on_the_page(
    mesh_memory, monkeypatch, tmp_path, capsys
):
    page = tmp_path / "README.md"
    page.write_text(TABLE, encoding="utf-8")
    monkeypatch.setattr(mesh_memory, "README", page)
    monkeypatch.setattr(mesh_memory, "ROOT", tmp_path)
    columns = mesh_memory.measured_columns(report())
    monkeypatch.setattr(
        mesh_memory,
        "measure",
        lambda row: mesh_memory.dataclasses.replace(row, measured=columns),
    )
    monkeypatch.setattr(sys, "argv", ["mesh_memory.py", "--missing", "--write"])
    mesh_memory.main()
    before, after = TABLE.splitlines(), page.read_text(encoding="utf-8").splitlines()
    assert [i for i, line in enumerate(after) if line != before[i]] == [4]
    assert after[4] == f"| 16 chips | v4:2x2x4 | xl | fsdp | {' | '.join(columns)} |"
    assert len(capsys.readouterr().out.splitlines()) == 2
