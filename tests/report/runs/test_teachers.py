"""The page's section on a teacher, from the records that it wrote."""

import pytest

from stepdistill_jax.datasets import record_io
from stepdistill_jax.report import write_report
from stepdistill_jax.report.runs.tables import make_rows
from stepdistill_jax.report.runs.teachers import read_teacher

FEATURES = {
    **dict.fromkeys(
        ("example_id", "inputs", "label", "teacher_label", "rationale", "raw_output", "sampling"), "text"
    ),
    **dict.fromkeys(("unparsed_reason", "dropped_reason"), "text"),
    "has_label": "bool",
    "completion_tokens": "int",
}


def _record(row, label, *, gold="3", unparsed="", dropped="", hinted=False):
    return {
        "example_id": f"svamp/test/{row}",
        "inputs": f"How many are {row} <b>things</b>?",
        "label": gold,
        "has_label": True,
        "teacher_label": label,
        "rationale": "" if unparsed else "one two three",
        "raw_output": "<script>alert(1)</script> raw",
        "sampling": '{"hinted": true}' if hinted else "{}",
        "unparsed_reason": unparsed,
        "dropped_reason": dropped,
        "completion_tokens": 10 + row,
    }


@pytest.fixture
def folder(tmp_path):
    """Twelve test answers: eight right, one wrong, one unparsed, one right by a hint, one dropped though right."""
    rows = [_record(row, "1 + 2") for row in range(8)]
    rows += [_record(8, "4"), _record(9, "", unparsed="no answer marker")]
    rows += [_record(10, "3", hinted=True), _record(11, "3", dropped="rationale occurs before")]
    record_io.write_records(
        tmp_path / "smollm2",
        name="svamp",
        features=FEATURES,
        splits={"test": rows},
        manifest={
            "dataset": "svamp",
            "teacher": "smollm2",
            "metric": "equation",
            "model": "SmolLM2",
            "parsed": {"test": 11},
            "unparsed": {"test": {"no answer marker": 1}},
            "dropped": {"test": {"rationale occurs before": 1}},
            "skipped": {"test": {"timeout": 2}},
            "scores": {"test": {"num_correct": 9, "num_examples": 12, "accuracy": 75.0}},
            "settings": {"prompt": "svamp.txt", "shots": 8, "style": "text"},
        },
    )
    return tmp_path / "smollm2"


def test_section_has_accuracy_with_interval_lengths_and_reasons(folder):
    section = read_teacher(folder)
    [test] = section.splits
    assert test.accuracy == "75.0 % (46.8 to 91.1; 9 of 12)"
    assert test.words == "3 (3 to 3, at most 3)"
    assert test.tokens == "16 (11 to 20, at most 21)"
    assert [(reason.what, reason.counts) for reason in section.reasons] == [
        ("no answer marker", (1,)),
        ("dropped: rationale occurs before", (1,)),
        ("not answered: timeout", (2,)),
    ]
    assert ("Worked examples", "8") in section.facts


def test_ten_samples_stand_beside_the_gold_label(folder):
    samples = read_teacher(folder).samples
    assert len(samples) == 10
    assert [sample.correct for sample in samples].count(False) == 3  # rows 8, 9 and 10 of the twelve
    assert samples[0].gold == "3"


def test_page_shows_the_section_and_escapes_what_the_teacher_said(folder, run_folder, tmp_path):
    text = write_report([run_folder("a")], tmp_path / "out", teachers=[folder]).read_text(encoding="utf-8")
    assert "Teacher: smollm2 on svamp" in text
    assert "75.0 % (46.8 to 91.1; 9 of 12)" in text
    assert "dropped: rationale occurs before" in text
    assert "<script>alert" not in text
    assert "<b>things" not in text


def test_teacher_and_student_are_compared_on_the_rows_that_both_answered(folder, run_folder, tmp_path):
    [row] = make_rows([], [folder])
    assert sum(row.test_correct.values()) == 9
    assert row.test_correct["svamp/test/10"] is False  # right with a hint only
    out = tmp_path / "out"
    write_report([run_folder("a")], out, teachers=[folder])
    assert "12" in next(
        line for line in (out / "report.md").read_text().splitlines() if line.startswith("- svamp")
    )


def test_damaged_records_are_named(folder):
    [shard] = folder.glob("test-*.tfrecord")
    shard.write_bytes(shard.read_bytes()[:-9])
    with pytest.raises(ValueError, match=shard.name):
        read_teacher(folder)
